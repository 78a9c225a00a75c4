"""Actions as a policy with memory sees them one step later."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


class ActionCode:
    """Encodes actions as gymnasium flattens them: one-hot if discrete, else as they are.

    Args:
        space: the actions' space.
    """

    def __init__(self, space: gym.Space):
        self.size = gym.spaces.flatdim(space)
        self._single = isinstance(space, gym.spaces.Discrete)
        self._choices = _choices(space)

    def __call__(self, action: Tensor, dtype: torch.dtype) -> Tensor:
        """Return actions ``(*, A)`` or ``(*,)`` as numbers ``(*, size)``."""
        if not self._choices:
            return action.to(dtype)
        parts = [action] if self._single else action.unbind(-1)
        each = [F.one_hot(part, n) for part, n in zip(parts, self._choices, strict=True)]
        return torch.cat(each, -1).to(dtype)


def _choices(space: gym.Space) -> list[int]:
    """Return the number of choices in each part of the actions; none if they are numbers."""
    if isinstance(space, gym.spaces.Discrete):
        return [int(space.n)]
    return [int(n) for n in getattr(space, "nvec", np.zeros(0)).flatten()]
