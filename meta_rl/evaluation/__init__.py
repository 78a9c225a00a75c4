"""Evaluate runs and baselines on held-out tasks and write a report: ``meta-rl evaluate``."""
