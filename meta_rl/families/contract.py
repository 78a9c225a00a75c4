"""Check that a family of environments keeps the contract that its users rely on."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils.env_checker import check_env as gymnasium_check
from stable_baselines3.common.env_checker import check_env as stable_baselines3_check

from meta_rl.errors import FOREIGN, InputError, require
from meta_rl.families.batched_contract import check_backends, check_effects
from meta_rl.families.distributions import values_to_try
from meta_rl.families.effects import middle_task
from meta_rl.families.family import Family
from meta_rl.families.parameters import parse_task
from meta_rl.families.row import Row
from meta_rl.storage.reading import named
from meta_rl.types import Task, Value

COLOURS = re.compile(r"\x1b\[[0-9;]*m")
# The checkers' advice that nothing here needs: actions in [-1, 1]; bounded, flat or large
# observations; and spaces that stable-baselines3 itself does not take.
ADVICE = ("symmetric and normalized", "infinity", "unconventional", "resolution", "not supported")


def check_family(family: Family) -> None:
    """Check that a family keeps the contract that training, adapting and evaluating rely on.

    Call it in a test or a script on a family that you wrote. It takes seconds for most families.
    The contract:

    - ``sample_tasks`` gives equal tasks for equal seeds and different tasks for different seeds.
      Every parameter takes several values. Tasks survive JSON and the command line.
    - ``check_task`` refuses an invalid task by an ``InputError`` that names the parameter.
    - Every value of a choice, and five across a range, make a sound episode.
    - ``make_env`` gives an environment with the family's spaces and time limit, which Gymnasium's
      and stable-baselines3's checkers accept.
    - Equal seeds give equal episodes, and ``reset`` keeps the task.
    - A backend of the family's own (``tensor_env``, or another ``make_vec``) returns the shapes and
      types of a ``BatchedEnv`` and agrees with the environment of ``make_env``: at every step to
      1e-6, or on average if it is ``stochastic`` or neither a ``TensorEnv`` nor a ``MuJoCoVec``.
    - Every parameter changes observations or rewards.

    Args:
        family: the family to check, a ``GymFamily`` or a class of your own.

    Raises:
        InputError: if the family breaks a rule, naming the first and what to do.
    """
    require(isinstance(family, Family), "check_family", "a meta_rl.Family", family)
    for rule in RULES:
        with _naming(family):
            rule(family)


@contextmanager
def _naming(family: Family) -> Iterator[None]:
    """Name the family in every error, and turn any error of its code into one line."""
    try:
        yield
    except InputError as error:
        raise InputError(f"check_family: {family.id}: {error}") from error
    except FOREIGN as error:
        raise InputError(
            f"check_family: {family.id} raised {named(error)}. Fix it; the error before this one "
            "says where it was raised."
        ) from error


def check_tasks(family: Family) -> None:
    """Check that sampling is deterministic and varied, and that tasks can be written and read.

    Raises:
        InputError: if a check fails, naming what is wrong.
    """
    tasks = family.sample_tasks(50, seed=1)
    _require(
        tasks == family.sample_tasks(50, seed=1),
        "sample_tasks(50, seed=1) gives other tasks at a second call. Draw from "
        "numpy.random.default_rng(seed) alone, as ParameterSpace.sample does.",
    )
    _require(
        not tasks[0] or tasks != family.sample_tasks(50, seed=2),
        "sample_tasks gives equal tasks for the seeds 1 and 2. Draw from "
        "numpy.random.default_rng(seed), as ParameterSpace.sample does.",
    )
    for name in tasks[0]:
        _require(
            len({task[name] for task in tasks}) > 1,
            f"parameter {name} has the same value in 50 tasks. Leave it out, or draw it anew for "
            "every task.",
        )
    for task in tasks[:10]:
        _require_same(family, task, json.loads(json.dumps(task)), "read from JSON")
        _require_same(family, task, parse_task(_said(task)) if task else {}, "read from --task")


def check_refusals(family: Family) -> None:
    """Check that the family refuses invalid tasks and names the parameter.

    Raises:
        InputError: if an invalid task is accepted, or refused without the parameter's name.
    """
    task = family.sample_tasks(1, seed=1)[0]
    for name in task:
        _require_refused(family, {**task, name: "no such value"}, name)
        _require_refused(family, {key: v for key, v in task.items() if key != name}, name)
    _require_refused(family, {**task, "no_such_parameter": 1.0}, "no_such_parameter")


def check_values(family: Family) -> None:
    """Check ten steps at every value of a choice, and at five values across a range.

    Raises:
        InputError: if a step fails, naming the value and what the environment returns or raises.
    """
    middle = middle_task(family)
    for parameter in family.space.parameters:
        for value in values_to_try(parameter.distribution):
            entries: Any = value if parameter.size is None else (value,) * parameter.size
            task = family.check_task({**middle, parameter.name: entries})
            with closing(Row(family.make_env(task), task)) as env:
                _play(family, env, min(10, family.horizon))


def check_env(family: Family) -> None:
    """Check the environment of one task: its spaces, its time limit, and the checkers' verdict.

    Raises:
        InputError: if a check fails, naming what is wrong.
    """
    task = family.sample_tasks(1, seed=0)[0]
    with closing(family.make_env(task)) as env:
        for name in ("observation_space", "action_space"):
            ours, given = getattr(family, name), getattr(env, name)
            _require(
                ours == given,
                f"its {name} is {ours}, and make_env gives an environment with {given}. Make them "
                "equal.",
            )
        _check_time_limit(family, env, task)
        if env.unwrapped.observation_space == env.observation_space:
            with _accepted_by("Gymnasium"):
                gymnasium_check(env.unwrapped, skip_render_check=True)
            with _accepted_by("stable-baselines3"):
                stable_baselines3_check(env.unwrapped, warn=True)
        else:  # wrapped by the family: Gymnasium's checker refuses wrapped environments
            with _accepted_by("stable-baselines3"):
                stable_baselines3_check(env, warn=True)


def _check_time_limit(family: Family, env: gym.Env, task: Task) -> None:
    limit = env.spec and env.spec.max_episode_steps
    _require(
        limit in (None, family.horizon),
        f"its horizon is {family.horizon}, and make_env gives an environment that is registered "
        f"with {limit} steps. Make them equal: gymnasium.make(..., max_episode_steps="
        "self.horizon).",
    )
    _require(
        _play(family, Row(env, task), family.horizon),
        f"its horizon is {family.horizon}, but an episode of make_env's environment goes on after "
        "that. Wrap it in gymnasium.wrappers.TimeLimit(env, self.horizon).",
    )


def _play(family: Family, env: Row, steps: int) -> bool:
    """Play an episode with random actions; return whether it has ended within these steps."""
    env.reset(seed=0)
    family.action_space.seed(0)
    for _ in range(steps):
        _, _, terminated, truncated, _ = env.step(family.action_space.sample())
        if terminated or truncated:
            return True
    return False


ROUNDED = re.compile(r"reward differs from single computation: (\S+) != (\S+)")
"""What stable-baselines3's checker says of a GoalEnv's rewards that differ in the last bits."""


@contextmanager
def _accepted_by(checker: str) -> Iterator[None]:
    """Turn a checker's errors and warnings, except advice, into one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for advice in ADVICE:
            warnings.filterwarnings("ignore", message=f".*{advice}.*")
        try:
            yield
        except FOREIGN as error:
            two = ROUNDED.search(str(error))
            if two and np.isclose(float(two[1]), float(two[2]), rtol=1e-9):
                return
            said = COLOURS.sub("", named(error))
            raise InputError(
                f"{checker}'s checker refuses make_env's environment: {said}"
            ) from error


def _said(task: Task) -> str:
    """Write a task as the command line does."""
    entries = {n: v if isinstance(v, tuple) else (v,) for n, v in task.items()}
    return ",".join(f"{name}={','.join(map(str, each))}" for name, each in entries.items())


def _require_same(family: Family, task: Task, told: Mapping[str, Any], how: str) -> None:
    try:
        found: Mapping[str, Value] | str = family.check_task(told)
    except InputError as error:
        found = str(error)
    _require(
        repr(found) == repr(task),
        f"the task {task} changes when it is {how}: {found}. Use numbers, words, True, False and "
        "None, and return values from check_task in the form that sample_tasks gives them.",
    )


def _require_refused(family: Family, task: Mapping[str, Any], name: str) -> None:
    try:
        family.check_task(task)
    except InputError as error:
        _require(
            name in str(error),
            f"check_task refuses {task} without naming {name}: {error} Name the parameter.",
        )
        return
    raise InputError(
        f"check_task accepts {task}. Refuse it by an InputError that names {name}, as "
        "ParameterSpace.check does."
    )


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InputError(message)


RULES = (check_tasks, check_refusals, check_values, check_env, check_backends, check_effects)
"""The checks of :func:`check_family` in order; later ones rely on earlier ones."""
