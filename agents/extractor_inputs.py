"""Flat observations in the form in which stable-baselines3 calls a features extractor.

Images are numbers from 0 to 1 with channels first, countable observations are one-hot, and a Dict
is a dict of such tensors.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from meta_rl.problems.observations import image_layout


def extractor_space(space: gym.Space) -> gym.Space:
    """Return the space that an extractor is made for: images have their channels first."""
    if isinstance(space, spaces.Dict):
        return spaces.Dict({name: extractor_space(part) for name, part in space.spaces.items()})
    if isinstance(space, spaces.Tuple):
        return spaces.Tuple([extractor_space(part) for part in space.spaces])
    if layout := image_layout(space):
        height, width, channels = layout.size
        return spaces.Box(0, 255, (channels, height, width), np.uint8)
    return space


def extractor_input(space: gym.Space, flat: Tensor, numbers: torch.dtype) -> Any:
    """Return what an extractor is called with.

    Args:
        space: the environment's observation space.
        flat: flat observations ``(N, O)``.
        numbers: the type of all tensors in the result.
    """
    if isinstance(space, spaces.Dict | spaces.Tuple):
        named = isinstance(space, spaces.Dict)
        parts = list(space.spaces.values() if named else space.spaces)
        pieces = flat.split([spaces.flatdim(part) for part in parts], -1)
        each = (extractor_input(*given, numbers) for given in zip(parts, pieces, strict=True))
        return dict(zip(space.spaces, each, strict=True)) if named else tuple(each)
    if layout := image_layout(space):
        return layout.images(flat).permute(0, 3, 1, 2).to(numbers) / 255
    if isinstance(space, spaces.Box | spaces.MultiBinary):
        return flat.to(numbers).reshape(-1, *space.shape)
    return flat.to(numbers)
