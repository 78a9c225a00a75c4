"""Policies that remember: what they carry from step to step, and how they act in a trial.

A trial is several episodes of one task in a row (Duan et al. 2016, "RL2"). The policy's state, and
the last action and reward, go over from one episode to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor
from torch.func import functional_call
from torch.utils._pytree import tree_map

from meta_rl.errors import InputError
from meta_rl.machine import parallel
from meta_rl.problems.normalization import RunningStatistics
from meta_rl.problems.returns import discounted_returns
from meta_rl.problems.rollouts import Player
from meta_rl.types import Params, Policy


class Recalled(NamedTuple):
    """A recurrent policy's outputs for N sequences of L steps."""

    policy: Any  # Distribution, leaves (N, L, ...)
    value: Tensor  # (N, L), in the rewards' units
    state: Tensor  # (N, S), after the last step
    unit: Tensor  # (), the unit of the critic, in the rewards' units


class MemoryPolicy(Policy):
    """A policy with a state, ``(obs, previous, state) -> Recalled``.

    ``obs`` is ``(N, L, O)``, ``state`` is ``(N, S)``. ``previous`` ``(N, L, P)`` is what happened
    just before each observation: the last action, the last reward, and 1 if an episode has ended
    in between; all zeros at a trial's start.

    The memory of a trial is one vector: the state, and the next step's ``previous``.

    Rewards enter, and values leave, in the rewards' own units. The network has rewards normalized
    by the mean and standard deviation of all so far, ``rewards``, and values in units of the
    standard deviation of all discounted returns, ``returns``, whatever rewards are worth.
    """

    start: Tensor
    """The memory at a trial's start, ``(S + P,)``; after adapting, what was learned so far."""
    state_size: int
    """S, the size of the state."""

    def __init__(self):
        super().__init__()
        self.returns, self.rewards = RunningStatistics(1), RunningStatistics(1)

    def unit(self) -> Tensor:
        """Return the standard deviation of returns so far; 1 if there is none."""
        std = self.returns.variance[0].sqrt().to(self.start.dtype)
        return torch.where(std > 0, std, torch.ones_like(std))

    def normalized(self, reward: Tensor) -> Tensor:
        """Return rewards as the network has them."""
        return ((reward.double() - self.rewards.mean) / self.rewards.std()).to(reward.dtype)

    def scaled(self, previous: Tensor) -> Tensor:
        """Return ``previous`` with its rewards as the network has them."""
        action, reward, ended = previous.tensor_split([-2, -1], -1)
        return torch.cat([action, self.normalized(reward), ended], -1)

    @torch.no_grad()
    def learn(self, held: Sequence[Trials], gamma: float) -> None:
        """Take trials into the running statistics, with the same bits on all processes.

        Args:
            held: an iteration's trials, one entry for each block that this process holds.
            gamma: discount per step.
        """
        gained = [discounted_returns(trials.reward, trials.mask, gamma) for trials in held]
        pairs = zip(gained, held, strict=True)
        sums = [self.returns.sums(value.unsqueeze(-1), trials.mask) for value, trials in pairs]
        self.returns.update(parallel.add(sums))
        paid = [self.rewards.sums(trials.reward.unsqueeze(-1), trials.mask) for trials in held]
        self.rewards.update(parallel.add(paid))

    def statistics(self) -> list[RunningStatistics]:
        """Return the policy's own running statistics."""
        return [self.returns, self.rewards]

    def check(self) -> None:
        """Refuse a memory or statistics, as a checkpoint may hold them, that no training leaves.

        Raises:
            InputError: if a number is not finite.
        """
        valid = all(one.is_valid() for one in self.statistics())
        if not (valid and torch.isfinite(self.start).all()):
            raise InputError(
                "checkpoint: expected a finite memory and finite statistics, got others. Use an "
                "older checkpoint."
            )

    def encode(self, action: Tensor) -> Tensor:
        """Return actions ``(*, A)`` or ``(*,)`` as the policy sees them later, ``(*, P - 2)``."""
        raise NotImplementedError


def require_no_memory(policy: Any, what: str) -> None:
    """Refuse a policy with memory.

    Args:
        policy: any policy or network.
        what: the option or function that has no use for it.

    Raises:
        InputError: if it is a :class:`MemoryPolicy`.
    """
    if isinstance(policy, MemoryPolicy):
        raise InputError(
            f"{what}: expected a policy that sees the current observation alone, got one with "
            "memory (--algorithm rl2 or varibad). Use a run of another algorithm."
        )


class Behaviour(NamedTuple):
    """What a policy with memory did at the steps of a lockstep."""

    policy: Any  # Distribution, leaves (M, B, ...)
    value: Tensor  # (M, B)
    previous: Tensor  # (M, B, P), the input beside the observation

    def sample(self, generator: Generator) -> Tensor:
        """Sample actions."""
        return self.policy.sample(generator)


class Remembering(Player):
    """Acts with the memory of a trial, and remembers.

    Args:
        policy: the policy's module.
        theta: its parameters, the same for all tasks.
        memory: the trials' memory before the episodes, ``(M, B, S + P)``.
    """

    def __init__(self, policy: MemoryPolicy, theta: Params, memory: Tensor):
        self._policy, self._theta, self.memory = policy, theta, memory
        self.weights = sum(value.numel() for value in theta.values())
        self._state = memory[..., : policy.state_size]

    def act(self, obs: Tensor) -> Behaviour:
        """Return what the policy does at observations ``(M, B, O)``."""
        rows = obs.shape[:2]
        state, previous = self.memory.tensor_split([self._policy.state_size], -1)
        inputs = obs.flatten(0, 1)[:, None], previous.flatten(0, 1)[:, None], state.flatten(0, 1)
        found = functional_call(self._policy, self._theta, inputs)
        self._state = found.state.unflatten(0, rows)
        policy, value = tree_map(lambda v: v[:, 0].unflatten(0, rows), found[:2])
        return Behaviour(policy, value, previous)

    def see(self, action: Tensor, reward: Tensor, running: Tensor) -> None:
        """Remember a step's action and reward, in the rows that ran it."""
        last, acted = reward.unsqueeze(-1), self._policy.encode(action)
        after = torch.cat([self._state, acted, last, torch.zeros_like(last)], -1)
        self.memory = torch.where(running.unsqueeze(-1), after, self.memory)


def ended(memory: Tensor) -> Tensor:
    """Return the memory ``(*, S + P)`` with the mark that an episode has ended."""
    return torch.cat([memory[..., :-1], torch.ones_like(memory[..., -1:])], -1)


class TrialEpisodes(NamedTuple):
    """One episode of each of B trials of each of M tasks, padded to the longest."""

    obs: Tensor  # (M, B, T, O)
    action: Tensor  # (M, B, T, A), or (M, B, T) for discrete actions
    reward: Tensor  # (M, B, T), 0 where masked
    mask: Tensor  # (M, B, T), 1.0 while the episode runs
    behaviour: Any  # Distribution, leaves (M, B, T, ...)
    value: Tensor  # (M, B, T), of the policy's own, to be multiplied by ``share_left``
    previous: Tensor  # (M, B, T, P)
    success: Tensor  # (M, B)
    memory: Tensor  # (M, B, S + P), after the episode
    clock: Tensor  # (M, B, T, 2), steps left before the time limit, this one included; the limit


class Trials(NamedTuple):
    """N whole trials, without padding between their episodes: real steps come first."""

    obs: Tensor  # (N, L, O)
    action: Tensor  # (N, L, A) or (N, L)
    reward: Tensor  # (N, L)
    mask: Tensor  # (N, L)
    log_prob: Tensor  # (N, L), when they were played
    value: Tensor  # (N, L), when they were played, to be multiplied by ``share_left``
    previous: Tensor  # (N, L, P)
    clock: Tensor  # (N, L, 2), steps left in the trial at most, this one included; in an episode


def joined(batches: Sequence[TrialEpisodes]) -> Trials:
    """Return the M x B trials whose episodes are these batches, in their order."""
    each = []
    for later, b in zip(reversed(range(len(batches))), batches, strict=True):
        left, limit = b.clock.unbind(-1)
        clock = torch.stack([left + later * limit, limit], -1)
        log_prob = b.behaviour.log_prob(b.action)
        each.append((*b[:4], log_prob, b.value, b.previous, clock))
    trials = Trials(*(torch.cat(parts, 2).flatten(0, 1) for parts in zip(*each, strict=True)))
    longest = int(trials.mask.sum(1).max())
    order = trials.mask.argsort(dim=1, descending=True, stable=True)[:, :longest]
    rows = torch.arange(len(order), device=order.device).unsqueeze(1)
    return Trials(*(value[rows, order] for value in trials))
