"""A training run: the learner, its callbacks, and the recorder of its folder."""
