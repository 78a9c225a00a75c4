"""Search a declared set for the best strategy, and test how much better it is: ``meta-rl tune``."""
