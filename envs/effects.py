"""Whether parameters change anything: a few episodes of tasks that differ in one of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import zip_longest
from typing import Any

import gymnasium as gym
import numpy as np

from envs.family import Family
from envs.parameters import Parameter
from meta_rl.errors import FOREIGN, InputError
from meta_rl.types import Task

ENTRIES_TRIED = 32  # of a vector, one by one


def require_effect(family: Family, parameter: Parameter) -> None:
    """Refuse a parameter, or an entry of one, that changes nothing in a few episodes.

    Raises:
        InputError: if it does not, or equal tasks and seeds do not give equal episodes.
    """
    middle = {p.name: value_at(p, 0.5) for p in family.space.parameters}
    low, high = ({**middle, parameter.name: value_at(parameter, q)} for q in (0.02, 0.98))
    _require_reproducible(family, low)
    if parameter.size is None or parameter.size > ENTRIES_TRIED:
        others = {"": high[parameter.name]}
    else:
        ends: Any = (low[parameter.name], high[parameter.name])
        others = {
            f"[{n}]": (*ends[0][:n], ends[1][n], *ends[0][n + 1 :]) for n in range(parameter.size)
        }
    for entry, value in others.items():
        task = {**low, parameter.name: value}
        if not any(_differ(family, low, task, seed) for seed in range(3)):
            raise InputError(
                f"parameter {parameter.name}{entry}: {low[parameter.name]!r} and {value!r} "
                f"gave equal observations and rewards in {family.id} over 3 episodes. Check "
                "its target; if it acts only rarely, give try_parameters=False."
            )


def value_at(parameter: Parameter, quantile: float) -> Any:
    """The parameter's value with every entry at this quantile of its distribution."""
    entries = tuple(parameter.distribution.at(quantile) for _ in range(parameter.size or 1))
    return entries[0] if parameter.size is None else entries


def _require_reproducible(family: Family, task: Task) -> None:
    if _differ(family, task, task, seed=0):
        raise InputError(
            f"environment: {family.id} gave different episodes for one reset(seed) and equal "
            "actions, so that no parameter's effect can be seen. Draw its random numbers from "
            "self.np_random, or give try_parameters=False."
        )


def _differ(family: Family, one: Task, other: Task, seed: int) -> bool:
    """Whether two tasks' episodes differ anywhere, under the same random actions."""
    with closing(family.make_env(one)) as first, closing(family.make_env(other)) as second:
        episodes = (_episode(family, env, seed) for env in (first, second))
        return any(a != b for a, b in zip_longest(*episodes))


def _episode(family: Family, env: gym.Env, seed: int) -> Iterator[tuple[bytes, float, bool]]:
    family.action_space.seed(seed)
    actions = [family.action_space.sample() for _ in range(min(family.horizon, 300))]
    try:
        obs, _ = env.reset(seed=seed)
        yield np.asarray(obs).tobytes(), 0.0, False
        for action in actions:
            obs, reward, terminated, truncated, _ = env.step(action)
            yield np.asarray(obs).tobytes(), float(reward), bool(terminated)
            if terminated or truncated:
                return
    except InputError:
        raise
    except FOREIGN as error:
        raise InputError(
            f"environment: {family.id} raised {type(error).__name__}: {error} while its "
            "parameters were tried with random actions. Mend the environment."
        ) from error
