"""What ``meta-rl evaluate`` does: runs and baselines on held-out tasks, and a report of it."""
