"""Outer steps, one file for each algorithm."""
