"""Sample episodes: all M tasks x B episodes step in lockstep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch.func import functional_call
from torch.utils._pytree import tree_map

from meta_rl import seeds
from meta_rl.errors import DivergedError, NotFiniteError
from meta_rl.inner.recording import programmed
from meta_rl.machine.threads import one_thread
from meta_rl.problems.exploration import LastingNoise
from meta_rl.problems.stepping import CompiledSteps, Move
from meta_rl.problems.success import any_step
from meta_rl.types import BatchedEnv, Params, Policy, Step, Task, TaskFamily

ONE_THREAD = 2**26
"""Limit on weights times rows (about a millisecond of work): below it, a policy acts on one thread
if the environment occupies the cores."""


class Rollout(NamedTuple):
    """Sampled episodes; leaves ``(M, B, T, ...)``. Padding has mask 0 and reward 0.

    ``success`` is ``(M, B)``, see :mod:`meta_rl.problems.success`.
    """

    obs: torch.Tensor
    action: torch.Tensor
    reward: torch.Tensor
    mask: torch.Tensor
    behaviour: Any
    success: torch.Tensor


class Player(Protocol):
    """Chooses the actions of one lockstep of episodes."""

    weights: int
    """The number of the policy's weights for one row."""

    def act(self, obs: torch.Tensor) -> Any:
        """Return the distribution of actions for observations ``(M, B, O)``."""
        ...

    def see(self, action: torch.Tensor, reward: torch.Tensor, running: torch.Tensor) -> None:
        """Take the actions and rewards of a step into account, in the rows that ran it."""
        ...


class Reactive(Player):
    """Acts by the current observation alone.

    Args:
        act: the policy, ``(phi, obs) -> distribution``.
        phi: each task's parameters, tensors ``(M, ...)``.
    """

    def __init__(self, act: Callable[..., Any], phi: Params):
        self.weights = sum(value[0].numel() for value in phi.values())
        self.phi, self.act = phi, partial(act, phi)

    def see(self, action: torch.Tensor, reward: torch.Tensor, running: torch.Tensor) -> None:
        """Remember nothing."""


class Sampler:
    """Samples episodes of a family's tasks with one policy for each.

    It keeps its batched environments until :meth:`close`. Compiled programs need one shape: then
    episodes of more than half the horizon are padded to the horizon.

    Args:
        family: the tasks' family.
        policy: the policy's module; each call passes the parameters.
        workers: processes that step single environments.
        program: how the policy's operations run; see :func:`meta_rl.inner.recording.programmed`.
        rows: the most tasks and the episodes of each to compile for; all when None.
        persistence: that of :class:`LastingNoise`; above 0, no step is compiled.
    """

    def __init__(
        self,
        family: TaskFamily,
        policy: Policy,
        workers: int,
        program: str = "plain",
        rows: tuple[int, int] | None = None,
        persistence: float = 0.0,
    ):
        self.family, self.policy, self.workers = family, policy, workers
        act = torch.vmap(lambda phi, obs: functional_call(self.policy, phi, (obs,)))
        self._act = programmed(act, program, lambda given: self.usual(given[1]))
        self._rows, self.persistence = rows, persistence
        self._one_length = program in ("compiled", "captured")
        fuses = self._one_length and not persistence
        self._steps = CompiledSteps(act, policy.env_action, program) if fuses else None
        self._envs: dict[tuple[int, int], BatchedEnv] = {}

    def usual(self, obs: torch.Tensor) -> bool:
        """Return whether observations ``(M, B, O)`` have as many rows as in training."""
        tasks, episodes = self._rows or obs.shape[:2]
        return obs.shape[0] <= tasks and obs.shape[1] == episodes

    def rollout(self, tasks: Sequence[Task], phi: Params, episodes: int, seed: int) -> Rollout:
        """Sample B whole episodes of every task, as many in lockstep as the family allows.

        Args:
            tasks: M tasks.
            phi: each task's parameters, tensors ``(M, ...)``.
            episodes: B episodes per task.
            seed: seed of the actions and of the environments.

        Raises:
            NotFiniteError: if an environment returns a reward or observation that is not finite.
        """
        return self.played(lambda rows: Reactive(self._act, phi), tasks, episodes, seed)

    def played(
        self, player: Callable[[slice], Player], tasks: Sequence[Task], episodes: int, seed: int
    ) -> Rollout:
        """Sample B whole episodes of every task with players; see :meth:`rollout`.

        Args:
            player: makes the player of a slice of the B episodes.
            tasks: M tasks.
            episodes: B episodes per task.
            seed: seed of the actions and of the environments.
        """
        size = self.family.episodes_at_once or episodes
        parts = [slice(start, min(start + size, episodes)) for start in range(0, episodes, size)]
        return _join(
            [
                self._lockstep(
                    tasks, player(rows), rows.stop - rows.start, seeds.derive(seed, rows.start)
                )
                for rows in parts
            ]
        )

    def of_candidates(
        self, tasks: Sequence[Task], candidates: Params, episodes: int, seed: int
    ) -> list[Rollout]:
        """Sample episodes of every task with each of its R candidates.

        All candidates step in lockstep, except in a user's own environment object.

        Args:
            tasks: M tasks.
            candidates: R candidates' parameters for each task, tensors ``(M, R, ...)``.
            episodes: B episodes per candidate.
            seed: seed of all episodes.

        Returns:
            The rollouts in parts along R, leaves ``(M, R of the part, B, T, ...)``.

        Raises:
            NotFiniteError: if an environment returns a reward or observation that is not finite.
        """
        count = next(iter(candidates.values())).shape[1]
        size = 1 if self.family.episodes_at_once else count
        rollouts = []
        for start in range(0, count, size):
            phi = {name: v[:, start : start + size] for name, v in candidates.items()}
            rows = [task for task in tasks for _ in range(size)]
            flat = {name: v.flatten(0, 1) for name, v in phi.items()}
            try:
                rollout = self.rollout(rows, flat, episodes, seeds.derive(seed, start))
            except NotFiniteError as error:
                raise NotFiniteError(str(error), [row // size for row in error.rows]) from error
            rollouts.append(
                tree_map(lambda v, size=size: v.unflatten(0, (len(tasks), size)), rollout)
            )
        return rollouts

    def env(self, num_tasks: int, episodes: int, device: Any, dtype: torch.dtype) -> BatchedEnv:
        """Return the batched environment of this size; made at the first call."""
        key = (num_tasks, episodes)
        if key not in self._envs:
            self._envs[key] = self.family.make_vec(
                *key, device=device, dtype=dtype, workers=self.workers
            )
        return self._envs[key]

    def close(self) -> None:
        """Close the environments."""
        for env in self._envs.values():
            env.close()
        self._envs.clear()
        if self._steps is not None:
            self._steps.clear()

    def _taking(
        self, env: BatchedEnv, player: Player, obs: torch.Tensor, noise: torch.Generator
    ) -> Move:
        """Return a function that takes one step."""
        lasting = LastingNoise(noise, self.persistence) if self.persistence else nullcontext()
        if self._steps is not None and isinstance(player, Reactive) and self.usual(obs):
            compiled = self._steps.of(env, player.phi, obs, noise)
            if compiled is not None:
                return compiled

        def plainly(obs: torch.Tensor) -> tuple[Any, torch.Tensor, Step]:
            policy = player.act(obs)
            with lasting:
                action = policy.sample(noise)
            return policy, action, env.step(self.policy.env_action(action))

        return plainly

    @torch.no_grad()
    def _lockstep(self, tasks: Sequence[Task], player: Player, episodes: int, seed: int) -> Rollout:
        """Run one episode in each of M x ``episodes`` rows, until all have ended."""
        parameter = next(self.policy.parameters())
        device, dtype = parameter.device, parameter.dtype
        env = self.env(len(tasks), episodes, device, dtype)
        noise = seeds.generator(seeds.derive(seed, seeds.ADAPTATION), device)
        obs = env.reset(tasks, seeds.derive(seed, seeds.DATA)).clone()
        running = torch.ones(obs.shape[:2], dtype=torch.bool, device=device)
        success = torch.full(running.shape, torch.nan, dtype=dtype, device=device)
        steps: list[tuple] = []
        small = player.weights * running.numel() < ONE_THREAD
        with one_thread() if env.occupies_cores and small else nullcontext():
            take = self._taking(env, player, obs, noise)
            for t in range(self.family.horizon):
                policy, action, result = take(obs)
                # Environments may write into the tensors that they return.
                reward = result.reward.clone()
                player.see(action, reward, running)
                steps.append((obs, action, reward, running, policy))
                success = any_step(success, result.success, running)
                running = running & ~(result.terminated | result.truncated)
                # A finished row keeps its last observation: padding must stay finite.
                obs = torch.where(running.unsqueeze(-1), result.obs, obs)
                # running.any() synchronizes a GPU, hence not at every step.
                if t % 8 == 7 and not running.any():
                    break
        stacked: Any = tree_map(lambda *each: torch.stack(each, 2), *steps)
        rollout = Rollout._make((*stacked, success))
        rollout = rollout._replace(mask=rollout.mask.to(dtype))
        _check_finite(tasks, rollout)
        # Not their product: after an episode's end, rewards may be infinite.
        rollout = rollout._replace(reward=rollout.reward.where(rollout.mask > 0, 0.0))
        long = self._one_length and 2 * rollout.mask.shape[2] > self.family.horizon
        return _padded(rollout, self.family.horizon) if long else rollout


def check_parameters(params: Params, steps: int) -> None:
    """Refuse parameters ``(M, ...)`` that are not finite after ``steps`` inner steps.

    Raises:
        DivergedError: its ``rows`` are the tasks whose parameters are not finite.
    """
    finite = [torch.isfinite(v).reshape(len(v), -1).all(1) for v in params.values()]
    bad = ~torch.stack(finite).all(0)
    if bad.any():
        raise DivergedError(
            f"policy: the parameters after {steps} inner steps are not finite. Take "
            "fewer inner steps, a smaller step size or more episodes.",
            bad.nonzero()[:, 0].tolist(),
        )


def _join(parts: Sequence[Rollout]) -> Rollout:
    """Join rollouts of the same tasks along B, padded to the longest."""
    longest = max(part.mask.shape[2] for part in parts)
    padded = [_padded(part, longest) for part in parts]
    return padded[0] if len(parts) == 1 else tree_map(lambda *each: torch.cat(each, 1), *padded)


def _padded(part: Rollout, length: int) -> Rollout:
    """Return a rollout padded to T = ``length``."""
    missing, steps = length - part.mask.shape[2], part[:-1]
    if not missing:
        return part
    # Repeating the last entry keeps the behaviour's padding a valid distribution.
    last = tree_map(lambda v: v[:, :, -1:].expand(-1, -1, missing, *v.shape[3:]), steps)
    obs, action, reward, mask, behaviour = last
    nothing = obs, action, torch.zeros_like(reward), torch.zeros_like(mask), behaviour
    padded: Any = tree_map(lambda *both: torch.cat(both, 2), steps, nothing)
    return Rollout._make((*padded, part.success))


def _check_finite(tasks: Sequence[Task], rollout: Rollout) -> None:
    """Refuse rewards and observations that are not finite on real steps."""
    real = rollout.mask > 0
    for what, bad in (
        ("reward", ~torch.isfinite(rollout.reward) & real),
        ("observation", ~torch.isfinite(rollout.obs).all(-1) & real),
    ):
        if bad.any():
            m, _, t = (int(i) for i in bad.nonzero()[0])
            raise NotFiniteError(
                f"environment: expected a finite {what}, got NaN or infinity at step {t} of task "
                f"{dict(tasks[m])}. Fix the environment or narrow its parameter ranges.",
                bad.flatten(1).any(1).nonzero()[:, 0].tolist(),
            )
