"""``python -m meta_rl COMMAND``: the same as ``meta-rl COMMAND``."""

from meta_rl.cli import main

main()
