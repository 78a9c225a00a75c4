"""Read values back from an environment and compare them with those of tasks and settings."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from meta_rl.errors import InputError
from meta_rl.families.physics import model_values
from meta_rl.families.values import is_kept, is_plain, not_kept, require_not_coerced

Pair = tuple[Any, Any]
"""A value that was asked for, and the value that was read back."""


def read(env: gym.Env, kind: str, target: str) -> Any:
    """Return a copy of the value at a target; None if the environment does not show it.

    An argument is read from the attribute of the same name, if there is one.
    """
    inside: Any = env.unwrapped
    if kind == "model":
        return model_values(inside.model, target)
    shown = [name for name in (target, f"_{target}") if name in vars(inside)]
    names = [target] if kind == "attribute" else shown
    found = getattr(inside, names[0]) if names else None
    return copy.deepcopy(found) if is_plain(found) else None


def require_kept(kind: str, target: str, scale: bool, pairs: Sequence[Pair]) -> None:
    """Refuse a target that did not keep the values asked for.

    Args:
        kind: ``argument``, ``attribute`` or ``model``.
        target: the target without its kind.
        scale: whether the values multiply the environment's own; then the values read back must be
            in proportion.
        pairs: a pair for each value that was tried.

    Raises:
        InputError: if a value was not kept, naming the first.
    """
    pairs = [(asked, found) for asked, found in pairs if is_plain(asked) and found is not None]
    if kind == "argument":
        require_not_coerced(target, pairs)
    elif scale:
        _require_in_proportion(target, pairs)
    else:
        for asked, found in pairs:
            if not is_kept(found, asked):
                raise not_kept(target, found, asked)


def require_unchanged(target: str, before: Any, after: Any) -> None:
    """Refuse a value that an episode has changed.

    Raises:
        InputError: if the values differ, naming both.
    """
    if before is not None and not is_kept(after, before):
        raise InputError(
            f"parameter {target}: step() changed it from {before!r} to {after!r}, so it is part of "
            "the environment's state, not a setting that tasks can differ in."
        )


def _require_in_proportion(target: str, pairs: Sequence[Pair]) -> None:
    numbers = [(a, np.asarray(f, dtype=float)) for a, f in pairs]
    for asked, found in numbers[1:]:
        first, was = numbers[0]
        if not np.allclose(found * np.asarray(first), was * np.asarray(asked), rtol=1e-5, atol=0):
            raise InputError(
                f"parameter {target}: expected {asked!r} times what is there, which is "
                f"{was.tolist()!r} at {first!r}, got {found.tolist()!r}. The environment changes "
                "or ignores what it is given."
            )
