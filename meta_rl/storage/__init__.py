"""What is written to disk: checkpoints, their migrations, and the atomic writer."""
