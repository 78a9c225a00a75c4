"""Try a family's parameters: compare episodes of tasks that differ in one parameter."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir
from hashlib import blake2b
from itertools import zip_longest
from typing import Any, Literal, NamedTuple

import gymnasium as gym
import numpy as np

from meta_rl.errors import InputError
from meta_rl.families.distributions import values_to_try
from meta_rl.families.family import Family
from meta_rl.families.parameters import Parameter
from meta_rl.families.row import Row, closing
from meta_rl.types import Task, Value

ENTRIES_TRIED = 32  # vectors up to this long are tried entry by entry
STEPS = 300  # an episode's steps are cut off here
REPEATED = 20  # the same for an episode that is repeated to find kept state

Found = Mapping[str, Any]
"""The values that an environment keeps, by target."""


class Tried(NamedTuple):
    """One episode: a digest of every step, and the values kept at the episode's two ends."""

    trace: list[bytes]
    before: Found
    after: Found


def try_parameters(
    family: Family,
    read: Callable[[gym.Env], Found],
    judge: Callable[[str, Sequence[tuple[Value, Tried]]], None],
    *,
    effects: bool,
) -> Tried:
    """Try every parameter at all values of a choice, or at five across a range.

    Args:
        family: the family whose parameters to try.
        read: a function that reads the values that an environment keeps.
        judge: a function that refuses a target whose values are not kept.
        effects: True to run an episode at each value, and to refuse a parameter or vector entry
            that changes nothing. False to make and reset environments only.

    Returns:
        The episode at the middle of all ranges.

    Raises:
        InputError: if an environment fails at a value, or equal tasks and seeds do not give equal
            episodes.
    """
    middle = middle_task(family)
    steps = STEPS if effects else 0
    try:
        base = _tried(family, middle, read, steps)
    except InputError as error:
        raise _named(error, middle) from error
    if effects and _differs(family, middle, 0, base.trace):
        raise InputError(
            f"environment: {family.id} gave different episodes for one reset(seed) and equal "
            "actions, which hides the effects of parameters. Draw its random numbers from "
            "self.np_random, or give try_parameters=False."
        )
    for parameter in family.space.parameters:
        tried = []
        for value in _values(parameter):
            task = {**middle, parameter.name: value}
            try:
                tried.append((value, _tried(family, task, read, steps)))
            except InputError as error:
                raise _named(error, {parameter.name: value}) from error
        judge(parameter.target or parameter.name, tried)
        acts = any(other.trace != base.trace for _, other in tried)
        if effects and not (acts and parameter.size is None):
            _require_effect(family, parameter, middle, base.trace)
    return base


def randomness(family: Family, task: Task) -> Literal["kept", "drawn", ""]:
    """Return whether episodes differ under equal seeds and actions: of one environment, or of two.

    ``kept``: one environment's second episode differs from its first. ``drawn``: the first ones of
    two environments differ.
    """
    # An environment may change the working directory. What it warns of, it will warn of again.
    with chdir("."), warnings.catch_warnings(action="ignore"):
        with closing(_row(family, task)) as env:
            first, second = ([*_episode(family, env, 0, REPEATED)] for _ in range(2))
        with closing(_row(family, task)) as env:
            drawn = [*_episode(family, env, 0, REPEATED)] != first
        return "drawn" if drawn else "kept" if first != second else ""


def differ(one: Family, other: Family, task: Task) -> bool:
    """Return whether two families' episodes of one task differ under the same actions."""
    for seed in range(3):
        with closing(_row(one, task)) as first, closing(_row(other, task)) as second:
            episodes = (_episode(one, env, seed, STEPS) for env in (first, second))
            if any(a != b for a, b in zip_longest(*episodes)):
                return True
    return False


def middle_task(family: Family) -> Task:
    """Return the task with every parameter in the middle of its range."""
    return {p.name: value_at(p, 0.5) for p in family.space.parameters}


def value_at(parameter: Parameter, quantile: float) -> Any:
    """Return the parameter's value with every entry at this quantile of its distribution."""
    entries = tuple(parameter.distribution.at(quantile) for _ in range(parameter.size or 1))
    return entries[0] if parameter.size is None else entries


def _named(error: InputError, values: Task) -> InputError:
    """Return the error with the tried values in its text, unless it names them already."""
    if not values or not str(error).startswith("environment:"):
        return error
    shown = ", ".join(map(repr, values.values()))
    return InputError(f"parameter {', '.join(values)}: with {shown}, {error}")


def _values(parameter: Parameter) -> list[Any]:
    """Return the values to try: vectors of equal entries, and one of mixed entries."""
    values = values_to_try(parameter.distribution)
    if parameter.extrapolation is not None:
        values += [v for v in values_to_try(parameter.extrapolation) if v not in values]
    if parameter.size is None:
        return values
    mixed = tuple(values[n % len(values)] for n in range(parameter.size))
    return [*((value,) * parameter.size for value in values), mixed]


def _require_effect(family: Family, parameter: Parameter, middle: Task, trace: list[bytes]) -> None:
    """Refuse a parameter if no value changes an episode, at several values of the others."""
    whole = parameter.size is None or parameter.size > ENTRIES_TRIED
    values = values_to_try(parameter.distribution)
    for entry in [None] if whole else range(parameter.size or 1):
        changed = [_with(middle, parameter, entry, value) for value in reversed(values)]
        if any(_differs(family, task, 0, trace) for task in changed if task != middle):
            continue
        for seed in range(3):
            for other in (middle, *family.space.sample(3, seed=0)):
                tasks = [_with(other, parameter, entry, value) for value in values]
                if _any_differ(family, tasks, seed):
                    break
            else:
                continue
            break
        else:
            name = parameter.name if entry is None else f"{parameter.name}[{entry}]"
            raise InputError(
                f"parameter {name}: {', '.join(map(repr, values))} gave equal observations and "
                f"rewards in {family.id} over 3 episodes each. Check its target; if it acts only "
                "rarely, give try_parameters=False."
            )


def _with(task: Task, parameter: Parameter, entry: int | None, value: Value) -> Task:
    """Return the task with another value of a parameter, or of one of its entries."""
    if parameter.size is None:
        return {**task, parameter.name: value}
    held: Any = task[parameter.name]
    entries: Any = tuple(value if entry in (n, None) else held[n] for n in range(len(held)))
    return {**task, parameter.name: entries}


def _any_differ(family: Family, tasks: list[Task], seed: int) -> bool:
    with closing(_row(family, tasks[0])) as env:
        trace = list(_episode(family, env, seed, STEPS))
    return any(_differs(family, task, seed, trace) for task in tasks[1:])


def _differs(family: Family, task: Task, seed: int, trace: list[bytes]) -> bool:
    with closing(_row(family, task)) as env:
        episode = _episode(family, env, seed, STEPS)
        return any(a != b for a, b in zip_longest(episode, trace))


def _tried(family: Family, task: Task, read: Callable[[gym.Env], Found], steps: int) -> Tried:
    with closing(_row(family, task)) as env:
        episode = _episode(family, env, 0, steps)
        first = next(episode)
        before = read(env)
        return Tried([first, *episode], before, read(env))


def _row(family: Family, task: Task) -> Row:
    """Return a new environment of a task, which names its faults as in training."""
    return Row(family.make_env(task), task)


def _episode(family: Family, env: Row, seed: int, steps: int) -> Iterator[bytes]:
    """Yield digests of an episode's steps under random actions."""
    family.action_space.seed(seed)
    actions = [family.action_space.sample() for _ in range(min(family.horizon, steps))]
    yield _digest(*env.start(seed)[:3])
    for action in actions:
        *step, truncated = env.advance(action)
        yield _digest(*step)
        if step[-1] or truncated:
            return


def _digest(obs: np.ndarray, reward: float, terminated: bool) -> bytes:
    told = repr((reward + 0.0, terminated)).encode()  # -0.0 becomes 0.0
    return blake2b((obs + 0).tobytes() + told, digest_size=16).digest()
