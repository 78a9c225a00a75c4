"""Files on disk: checkpoints, their migrations, and the atomic writer."""
