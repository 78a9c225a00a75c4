"""Observations of any space as flat vectors of numbers, which is what policies take.

A Box is flattened; a Discrete or MultiDiscrete observation becomes one-hot; MultiBinary stays zeros
and ones; the parts of a Dict or Tuple are joined in their order. A flat Dict is joined as
``stable_baselines3.common.torch_layers.CombinedExtractor`` joins it.

A vector holds bytes if an image is in it and all other parts fit into bytes, else floats.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from meta_rl.errors import InputError
from meta_rl.types import TaskFamily

LARGE = 1_000
"""Numbers above which an observation is large: a linear baseline would fit most returns exactly,
and held-out tasks are evaluated a meta-batch at a time."""
PLAIN = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


def observation_size(space: gym.Space) -> int:
    """Return O, the length of an observation's flat vector.

    Raises:
        InputError: if the space is of another kind, such as Text or Graph.
    """
    check_observation_space(space)
    return spaces.flatdim(space)


def check_observation_space(space: gym.Space) -> None:
    """Refuse a space whose observations are no fixed number of numbers.

    Raises:
        InputError: which names the part that is not.
    """
    if isinstance(space, spaces.Dict | spaces.Tuple) and len(space.spaces):
        parts = space.spaces.values() if isinstance(space, spaces.Dict) else space.spaces
        for part in parts:
            check_observation_space(part)
    elif not isinstance(space, PLAIN):
        raise InputError(
            "observation space: expected Box, Discrete, MultiDiscrete, MultiBinary, or a Dict or "
            f"Tuple of these, got {space}. Wrap it: gymnasium.wrappers.TransformObservation."
        )


class ImageLayout(NamedTuple):
    """The order of an image's numbers: frames, then height, width and channels in their order."""

    shape: tuple[int, ...]  # of the space: (H, W, C) or (C, H, W), with stacked frames first
    first: bool  # whether channels come before height and width

    @property
    def size(self) -> tuple[int, int, int]:
        """Height, width, and the channels of all frames."""
        *frames, a, b, c = self.shape
        height, width, channels = (b, c, a) if self.first else (a, b, c)
        return height, width, channels * math.prod(frames)

    def images(self, flat: Tensor) -> Tensor:
        """Return flat images ``(N, O)`` as ``(N, H, W, C)``; later frames are further channels."""
        images = flat.unflatten(-1, (-1, *self.shape[-3:]))  # (N, frames, ...)
        order = (0, 3, 4, 1, 2) if self.first else (0, 2, 3, 1, 4)
        return images.permute(order).flatten(3)


def image_layout(space: gym.Space) -> ImageLayout | None:
    """Return the layout of an image's numbers; None if the space is not of images.

    Images are what stable-baselines3 takes for images: boxes of bytes from 0 to 255 with three
    axes, the smallest of which is the channels' if it is the first. A fourth axis before them
    holds stacked frames.
    """
    if not isinstance(space, spaces.Box) or space.dtype != np.uint8:
        return None
    if len(space.shape) not in (3, 4) or space.low.any() or (space.high != 255).any():
        return None
    return ImageLayout(space.shape, int(np.argmin(space.shape[-3:])) == 0)


def leaves(space: gym.Space) -> list[gym.Space]:
    """Return the parts of a Dict or Tuple, and their parts, in their order; a space is its own."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = space.spaces.values() if isinstance(space, spaces.Dict) else space.spaces
        return [leaf for part in parts for leaf in leaves(part)]
    return [space]


def has_images(space: gym.Space) -> bool:
    """Return whether an observation is an image or has one among its parts."""
    return any(image_layout(part) for part in leaves(space))


def keeps_bytes(space: gym.Space) -> bool:
    """Return whether observations are vectors of bytes; see the top of this file."""
    fits = (
        part.dtype == np.uint8 if isinstance(part, spaces.Box) else True for part in leaves(space)
    )
    return has_images(space) and all(fits)


def tensor_type(space: gym.Space, numbers: torch.dtype) -> torch.dtype:
    """Return the type of observations as tensors: bytes, or the type of other numbers."""
    return torch.uint8 if keeps_bytes(space) else numbers


def flat_space(space: gym.Space) -> spaces.Box:
    """Return the Box of an observation's flat vector; a Box stays as it is.

    Raises:
        InputError: as :func:`check_observation_space`.
    """
    if isinstance(space, spaces.Box):
        return space
    check_observation_space(space)
    box: Any = spaces.flatten_space(space)
    dtype: Any = np.uint8 if keeps_bytes(space) else np.float32
    return spaces.Box(box.low.astype(dtype), box.high.astype(dtype), dtype=dtype)


def flat(space: gym.Space, observation: Any) -> np.ndarray:
    """Return one observation as a vector ``(O,)``; a Box's array stays as it is.

    Raises:
        InputError: if it is none of the space's.
    """
    if isinstance(space, spaces.Box):
        return np.asarray(observation)
    try:
        if _inside(space, observation):
            return np.asarray(spaces.flatten(space, observation))
    except Exception as error:  # whatever an observation of another form raises there
        raise _other(space, observation) from error
    raise _other(space, observation)


def _other(space: gym.Space, observation: Any) -> InputError:
    return InputError(f"observation: expected one of {space}, got {observation!r:.200}.")


def _inside(space: gym.Space, observation: Any) -> bool:
    """Whether all countable parts are inside their spaces; a Box's bounds are only warned of."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        return all(_inside(*part) for part in _parts(space, observation))
    if isinstance(space, spaces.Box):
        return True
    values = np.asarray(observation)
    if values.shape != (space.shape or ()) or values.dtype.kind not in "biu":
        return False
    low, count = 0, 2
    if isinstance(space, spaces.Discrete):
        low, count = space.start, space.n
    elif isinstance(space, spaces.MultiDiscrete):
        low, count = space.start, space.nvec
    return bool(((values >= low) & (values < low + count)).all())


def flat_batch(space: gym.Space, observation: Any) -> tuple[np.ndarray, bool]:
    """Return flat vectors ``(N, O)``, and whether one observation was given.

    Args:
        space: a space that is no Box.
        observation: one of the space, or a batch: each of its arrays with a leading N.

    Raises:
        InputError: if it is neither.
    """
    try:
        if _is_single(space, observation):
            return flat(space, observation)[None], True
        (count,) = {len(value) for value in _leaves(space, observation)}
        return np.stack([flat(space, _row(space, observation, i)) for i in range(count)]), False
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise InputError(
            f"predict: expected an observation of {space} or a batch of them, got "
            f"{observation!r:.200}."
        ) from error


def _parts(space: gym.Space, observation: Any) -> list[tuple[Any, Any]]:
    """Each part's space and observation; a plain space is its own part."""
    if isinstance(space, spaces.Dict):
        return [(part, observation[name]) for name, part in space.spaces.items()]
    if isinstance(space, spaces.Tuple):
        return list(zip(space.spaces, observation, strict=True))
    return [(space, observation)]


def _is_single(space: gym.Space, observation: Any) -> bool:
    if isinstance(space, spaces.Dict | spaces.Tuple):
        return all(_is_single(*part) for part in _parts(space, observation))
    return np.shape(observation) == (space.shape or ())


def _row(space: gym.Space, observation: Any, i: int) -> Any:
    """One observation of a batch."""
    if isinstance(space, spaces.Dict):
        parts = zip(space.spaces, _parts(space, observation), strict=True)
        return {name: _row(*part, i) for name, part in parts}
    if isinstance(space, spaces.Tuple):
        return tuple(_row(*part, i) for part in _parts(space, observation))
    return np.asarray(observation)[i]


def _leaves(space: gym.Space, observation: Any) -> list[Any]:
    """The arrays of a batch."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        return [leaf for part in _parts(space, observation) for leaf in _leaves(*part)]
    return [observation]


def alike(one: gym.Space, other: gym.Space) -> bool:
    """Return whether two spaces' observations have the same form.

    Bounds of a Box may differ, and the order of a Dict's keys.
    """
    if isinstance(one, spaces.Box) and isinstance(other, spaces.Box):
        return one.shape == other.shape and image_layout(one) == image_layout(other)
    if isinstance(one, spaces.Dict) and isinstance(other, spaces.Dict):
        same = one.spaces.keys() == other.spaces.keys()
        return same and all(alike(part, other[name]) for name, part in one.spaces.items())
    if isinstance(one, spaces.Tuple) and isinstance(other, spaces.Tuple):
        parts = zip(one.spaces, other.spaces, strict=False)
        return len(one.spaces) == len(other.spaces) and all(alike(*both) for both in parts)
    return one == other


def in_one_order(one: gym.Space, other: gym.Space) -> bool:
    """Return whether two spaces that are :func:`alike` join a Dict's parts in the same order."""
    if isinstance(one, spaces.Dict) and isinstance(other, spaces.Dict):
        same = [*one.spaces] == [*other.spaces]
        return same and all(in_one_order(part, other[name]) for name, part in one.spaces.items())
    if isinstance(one, spaces.Tuple) and isinstance(other, spaces.Tuple):
        return all(map(in_one_order, one.spaces, other.spaces))
    return True


def require_same_spaces(trained: TaskFamily, other: TaskFamily) -> None:
    """Refuse a family that the policy of another one cannot act in.

    Raises:
        InputError: if the spaces differ, apart from the bounds of observations.
    """
    for what, ours, theirs in (
        ("observation space", trained.observation_space, other.observation_space),
        ("action space", trained.action_space, other.action_space),
    ):
        # Action bounds must be equal: the policy scales to them. Observation bounds need not.
        same = ours == theirs if what == "action space" else alike(ours, theirs)
        if not same:
            raise InputError(
                f"{what}: the policy was trained with {ours}, {other.id} has {theirs}. "
                "Adapt to an environment with the same spaces, or wrap it to have them."
            )
