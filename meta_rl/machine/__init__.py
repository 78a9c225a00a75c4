"""Processes, threads, memory and the console."""
