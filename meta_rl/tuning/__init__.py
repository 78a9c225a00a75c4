"""What ``meta-rl tune`` does: the best strategy of a declared set, and how much better it really is."""
