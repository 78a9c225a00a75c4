"""Episodes of few steps in families of long ones, for tests of which length is not the point."""

import contextlib

import pytest
from meta_rl.envs import FAMILIES

STEPS = 20


@contextlib.contextmanager
def short_episodes():
    """Episodes end after 20 steps where all tasks are stepped at once; single environments stay."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("navigation-2d", "cartpole", "pendulum"):
            patch.setattr(FAMILIES[name], "horizon", STEPS)
        yield
