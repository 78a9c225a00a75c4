"""Search for a better algorithm and settings, and test them: ``meta-rl tune``."""
