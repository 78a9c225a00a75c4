"""What the commands do, one module for each; they are imported once its options are read."""
