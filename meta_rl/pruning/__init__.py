"""Make a network smaller and measure what that costs."""
