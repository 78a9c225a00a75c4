"""Make a network smaller and measure the cost."""
