"""Outer steps: one algorithm a file."""
