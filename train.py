"""Meta-train on a task family: the same as ``meta-rl train``."""

from meta_rl.cli import main

if __name__ == "__main__":
    main("train")
