"""Seconds of a meta-iteration, beside a plain loop and beside what the machine can do at most."""
