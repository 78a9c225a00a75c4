"""Adapt a run to one task: the same as ``meta-rl adapt``."""

from meta_rl.cli import main

if __name__ == "__main__":
    main("adapt")
