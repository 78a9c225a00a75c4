"""Check the part of a family's contract that takes many episodes: backends and effects."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from meta_rl.errors import InputError
from meta_rl.families import row
from meta_rl.families.family import Family
from meta_rl.families.general import GymVec
from meta_rl.families.mujoco import MuJoCoVec
from meta_rl.families.tensor import TensorEnv
from meta_rl.problems.observations import flat, tensor_type
from meta_rl.types import BatchedEnv, Step, Task

CLOSE = 1e-6
"""Largest difference between a backend and the single environment, in 64 bits."""


def check_backends(family: Family) -> None:
    """Check the general backend, and the family's own backend if it has one.

    A family around one given environment has no batches, and is not checked.

    Raises:
        InputError: if a check fails, naming what is wrong.
    """
    if family.episodes_at_once is not None:
        return
    check_batched_env(family, _general(family, 2, 2))
    own = _own(family, 2, 2)
    if isinstance(own, GymVec):
        own.close()
        return
    check_batched_env(family, own)
    if family.stochastic or not isinstance(own, TensorEnv | MuJoCoVec):
        check_agreement_on_average(family)
    else:
        check_agreement_at_every_step(family)


def check_batched_env(family: Family, env: BatchedEnv) -> None:
    """Check that equal seeds give equal bits, and check shapes, types and numbers of ten steps.

    Args:
        family: the family of the environments.
        env: a batched environment of 2 tasks x 2 episodes, in 64 bits; closed at the end.

    Raises:
        InputError: if a check fails, naming the backend and the step.
    """
    tasks, backend = family.sample_tasks(2, seed=3), _name(env)
    first, again = (_steps(family, env, (2, 2), tasks, seed=5) for _ in range(2))
    for number, (one, other) in enumerate(zip(first, again, strict=True)):
        if not all(_same(a, b) for a, b in zip(one, other, strict=True)):
            raise InputError(
                f"{backend} gives other numbers at step {number} after a second reset to the same "
                "tasks with the same seed. Draw from that seed alone (self.np_random), and keep "
                "nothing of the episode before."
            )
        _check_step(family, f"{backend} at step {number}", one)
    env.close()
    env.close()  # a second close must do nothing


def _check_step(family: Family, where: str, step: Step) -> None:
    space = family.observation_space
    size, kind = gym.spaces.flatdim(space), tensor_type(space, torch.float64)
    flag = ((2, 2), torch.bool)
    expected = {"obs": ((2, 2, size), kind), "reward": ((2, 2), torch.float64)}
    expected |= {"terminated": flag, "truncated": flag}
    if step.success is not None:
        expected["success"] = ((2, 2), torch.float64)
    for name, (shape, dtype) in expected.items():
        value = getattr(step, name)
        if tuple(value.shape) != shape or value.dtype != dtype:
            raise InputError(
                f"{where}: expected {name} of shape {shape} and type {dtype}, got "
                f"{tuple(value.shape)} and {value.dtype}."
            )
        if name != "success" and not torch.isfinite(value).all():
            raise InputError(f"{where}: expected finite numbers as {name}, got NaN or infinity.")


def check_agreement_at_every_step(family: Family) -> None:
    """Check a backend against single environments over whole episodes with random actions.

    Raises:
        InputError: if they differ, naming the step, the task and the difference.
    """
    tasks = family.sample_tasks(4, seed=7)
    with ExitStack() as stack:
        batched = stack.enter_context(closing(_own(family, 4, 1)))
        singles = [stack.enter_context(row.closing(family.make_env(task))) for task in tasks]
        _compare(family, batched, singles, tasks)


def _compare(
    family: Family, batched: Any, singles: Sequence[gym.Env], tasks: Sequence[Task]
) -> None:
    batched.reset(tasks, seed=0)
    space = family.observation_space
    started = [single.reset(seed=m)[0] for m, single in enumerate(singles)]
    obs = _start_alike(batched, singles)
    for m, task in enumerate(tasks):
        _require_close(batched, task, 0, obs=(obs[m, 0], flat(space, started[m]).ravel()))
    running = set(range(4))
    for number in range(1, family.horizon + 1):
        actions = _actions(family, 4, 1)
        step = batched.step(actions)
        for m in sorted(running):
            action = actions[m, 0].numpy().astype(family.action_space.dtype)
            seen, *answer, info = singles[m].step(action)
            answer.insert(0, flat(space, seen).ravel())
            key = row.success_key(info)
            answer.append(np.nan if key is None else info[key])
            ours = [np.nan if value is None else value[m, 0] for value in step]
            both = dict(zip(Step._fields, zip(ours, answer, strict=True), strict=True))
            _require_close(batched, tasks[m], number, **both)
            if answer[2] or answer[3]:
                running.remove(m)


def _require_close(batched: BatchedEnv, task: Task, number: int, **pairs: tuple[Any, Any]) -> None:
    for name, (ours, theirs) in pairs.items():
        one, other = (np.asarray(value, dtype=np.float64) for value in (ours, theirs))
        close = partial(np.allclose, rtol=1e-7, atol=CLOSE, equal_nan=name == "success")
        if one.shape != other.shape or not close(one, other):
            raise InputError(
                f"{_name(batched)} and make_env's environment differ in {name} at step {number} of "
                f"task {dict(task)}, from equal states with equal actions: {one} and {other}. Make "
                "them equal, in 64 bits; or set stochastic = True if steps draw random numbers."
            )


def check_agreement_on_average(family: Family) -> None:
    """Check a backend against single environments by means over 500 episodes of equal actions.

    The means must agree to 5 standard errors at each of up to 10 steps. A correct environment
    fails for less than one seed in a thousand.

    Raises:
        InputError: if the means differ by more.
    """
    tasks, steps = family.sample_tasks(2, seed=7), min(10, family.horizon)
    family.action_space.seed(0)
    actions = [torch.as_tensor(family.action_space.sample()) for _ in range(steps)]
    samples = []
    for env in (_own(family, 2, 500), _general(family, 2, 500)):
        env.reset(tasks, seed=1)
        taken = [_copied(env.step(action.expand(2, 500, *action.shape))) for action in actions]
        samples.append(torch.stack([torch.cat([s.obs, s.reward[..., None]], -1) for s in taken]))
        env.close()
    difference = (samples[0].mean(2) - samples[1].mean(2)).abs()
    error = ((samples[0].var(2) + samples[1].var(2)) / 500) ** 0.5
    if not (difference <= 5 * error).all():
        number = int((difference > 5 * error).nonzero()[0, 0]) + 1
        raise InputError(
            f"{_name(_own(family, 2, 2))} and make_env's environment differ on average over 500 "
            f"episodes with equal actions, at step {number}. Give both the same starts, dynamics "
            "and rewards."
        )


def check_effects(family: Family) -> None:
    """Check that another value of any one parameter changes observations or rewards.

    The change must show within 100 steps of one of 16 episodes. Each episode repeats one random
    action, because walking straight on meets even a sparse reward; then each draws new actions.

    Raises:
        InputError: if a parameter changes nothing, naming it.
    """
    base, *others = family.sample_tasks(40, seed=11)
    if not base:
        return
    env, steps = _own(family, 1, 16), min(100, family.horizon)
    unseen = {
        name: next((task[name] for task in others if task[name] != base[name]), base[name])
        for name in base
    }
    for held in (True, False):
        before = _steps(family, env, (1, 16), [base], 0, steps, held) if unseen else []
        for name, value in [*unseen.items()]:
            after = _steps(family, env, (1, 16), [{**base, name: value}], 0, steps, held)
            if not all(_equal(one, two) for one, two in zip(before, after, strict=True)):
                del unseen[name]
    for name, value in unseen.items():
        raise InputError(
            f"parameter {name} changes neither observations nor rewards within {steps} steps: "
            f"{base[name]!r} and {value!r} give equal ones. Use it in the environment, or "
            "leave it out."
        )
    env.close()


def _general(family: Family, tasks: int, episodes: int) -> GymVec:
    return GymVec(family.make_env, tasks, episodes, device="cpu", dtype=torch.float64)


def _own(family: Family, tasks: int, episodes: int) -> BatchedEnv:
    return family.make_vec(tasks, episodes, device="cpu", dtype=torch.float64)


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    """Return whether two tensors have equal entries, or NaN in the same places."""
    if one is None or other is None:
        return one is other
    return torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)


def _copied(step: Step) -> Step:
    """Return a step's values as they are now: environments may write into them later."""
    return tree_map(lambda value: value if value is None else value.clone(), step)


def _equal(one: Step, other: Step) -> bool:
    """Return whether two steps have equal observations and rewards."""
    return torch.equal(one.obs, other.obs) and torch.equal(one.reward, other.reward)


def _name(env: BatchedEnv) -> str:
    """Return a backend's name, for people."""
    return "make_env's environment" if isinstance(env, GymVec) else type(env).__name__


def _steps(
    family: Family,
    env: BatchedEnv,
    rows: tuple[int, int],
    tasks: Sequence[Task],
    seed: int,
    steps: int = 10,
    held: bool = False,
) -> list[Step]:
    """Return an episode's first steps under seeded random actions, new at each step or held."""
    obs = env.reset(tasks, seed)
    if tuple(obs.shape[:2]) != rows:
        raise InputError(
            f"{_name(env)}: expected observations of shape {(*rows, '...')} from reset, got "
            f"{tuple(obs.shape)}."
        )
    taken = (env.step(_actions(family, *rows, 0 if held else t)) for t in range(steps))
    return [_copied(step) for step in taken]


def _actions(family: Family, tasks: int, episodes: int, seed: int | None = None) -> Tensor:
    """Return random actions ``(M, B, A)`` or ``(M, B)`` from the action space."""
    space = family.action_space
    if seed is not None:
        space.seed(seed)
    return torch.tensor(np.array([[space.sample() for _ in range(episodes)] for _ in range(tasks)]))


def _start_alike(batched: Any, singles: Sequence[gym.Env]) -> Tensor:
    """Put every row into the state of its single environment; return observations."""
    inside: list[Any] = [single.unwrapped for single in singles]
    if isinstance(batched, MuJoCoVec):
        return batched.set_state(*([getattr(e.data, n) for e in inside] for n in ("qpos", "qvel")))
    states = [getattr(env, "state", getattr(env, "position", None)) for env in inside]
    if any(state is None for state in states):
        raise InputError(
            f"make_env's environment, {type(inside[0]).__name__}, has no attribute state, by which "
            f"it is compared with {type(batched).__name__}. Keep the same numbers there as one row "
            "of the TensorEnv's state."
        )
    batched.state = torch.tensor(np.array(states, dtype=np.float64)).unsqueeze(1)
    return batched.observe()
