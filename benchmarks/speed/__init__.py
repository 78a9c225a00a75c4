"""Time a meta-iteration, beside a plain loop and the machine's limit."""
