"""Reinforcement learning in trials: a recurrent policy that adapts in its state."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.func import functional_call
from torch.utils._pytree import tree_map

from meta_rl import seeds
from meta_rl.animation import Animation
from meta_rl.config import EpisodesConfig
from meta_rl.inner.memory import MEMORY
from meta_rl.problems.adapted import adapted_policy
from meta_rl.problems.memory import (
    Behaviour,
    MemoryPolicy,
    Recalled,
    Remembering,
    TrialEpisodes,
    Trials,
    ended,
    joined,
)
from meta_rl.problems.observations import observation_size, tensor_type
from meta_rl.problems.reinforcement import Reinforcement
from meta_rl.problems.remembering import RememberingPolicy
from meta_rl.problems.returns import gae, mean_size, share_left
from meta_rl.problems.rollouts import check_parameters
from meta_rl.types import Params, Task, TaskFamily


class TrialReinforcement(Reinforcement):
    """Tasks of a family, learned in trials of K + 1 episodes by a policy that remembers.

    A support batch is one episode of each of B trials of each task, and the query is their last
    one. A trial's memory goes over from one batch to the next. The policy itself does not change,
    so "after k inner steps" means: in the trial's episode k + 1.

    It is made as :class:`Reinforcement` is, of a policy with memory. The policy's own value takes
    the baseline's place, and nothing is recorded.
    """

    policy: MemoryPolicy

    def collect(
        self,
        tasks: Sequence[Task],
        batches: Sequence[Any],
        adapted: Callable[[], Params],
        seed: int,
        query: bool,
    ) -> Any:
        """Play the next episode of B trials of every task; see ``TaskSource``.

        Raises:
            DivergedError: if the parameters are not finite.
            NotFiniteError: if the environment's rewards or observations are not finite.
        """
        phi = adapted()
        check_parameters({name: v for name, v in phi.items() if name != MEMORY}, len(batches))
        theta = _shared({name: value for name, value in phi.items() if name != MEMORY})
        before = phi.get(MEMORY, self._fresh(len(tasks), self.config.episodes))
        players: list[Remembering] = []

        def player(rows: slice) -> Remembering:
            players.append(self._player(theta, before[:, rows]))
            return players[-1]

        stream = seeds.derive(seed, len(batches))
        played = self.sampler.played(player, tasks, self.config.episodes, stream)
        did: Behaviour = played.behaviour
        return TrialEpisodes(
            obs=played.obs,
            action=played.action,
            reward=played.reward,
            mask=played.mask,
            behaviour=did.policy,
            value=did.value,
            previous=did.previous,
            success=played.success,
            memory=ended(torch.cat([one.memory for one in players], 1)),
            clock=self._clock(played.mask),
        )

    def recall(self, params: Params, trials: Trials, state: Tensor | None = None) -> Recalled:
        """Return the policy's outputs at every step of trials.

        Args:
            params: the policy's parameters.
            trials: N trials, whole or from any step on.
            state: the state before their first step, ``(N, S)``; a trial's start when None.
        """
        if state is None:
            state = self.policy.start[: self.policy.state_size].expand(len(trials.mask), -1)
        return functional_call(self.policy, params, (trials.obs, trials.previous, state))

    def learn(self, blocks: Sequence[tuple[int, Sequence[Any]]]) -> None:
        """Take an iteration's trials into the policy's statistics; see ``TaskSource``."""
        super().learn(blocks)
        self.policy.learn([joined(batches) for _, batches in blocks], self.config.gamma)

    def potential(self, query: Any, scores: Tensor) -> Tensor:
        """Return the mean error of the policy's value in the last episodes; see ``Losses``."""
        config = self.config
        value = query.value * share_left(query.clock, config.gamma)
        given = query.reward, value, query.mask, config.gamma, config.gae_lambda
        return mean_size(gae(*given), query.mask)

    def statistics(self, batch: Any) -> dict[str, Tensor | float]:
        """Return the last episode's length, and the policy's entropy in it (nats)."""
        mask = batch.mask
        return {
            "rollout/ep_len_mean": mask.sum(-1).mean(),
            "train/entropy": (batch.behaviour.entropy() * mask).sum() / mask.sum(),
        }

    @torch.no_grad()
    def made_up_batch(self, params: Params) -> Any:
        """Return two steps of two trials of each of two tasks; see ``Losses``."""
        start, space = self.policy.start, self.family.observation_space
        kind = tensor_type(space, start.dtype)
        obs = start.new_zeros(2, 2, observation_size(space), dtype=kind)
        player = self._player({name: value[0] for name, value in params.items()}, self._fresh(2, 2))
        did, one = player.act(obs), start.new_ones(2, 2)
        action = did.sample(seeds.generator(0, start.device))
        player.see(action, one, one > 0)
        each = [obs, action, one, one, *did]
        steps: list[Any] = [tree_map(lambda v: torch.stack([v, v], 2), value) for value in each]
        obs, action, reward, mask, policy, value, previous = steps
        told = one, player.memory, self._clock(mask)
        return TrialEpisodes(obs, action, reward, mask, policy, value, previous, *told)

    def deploy(
        self, params: Params, scores: tuple[float, ...], manifest: dict[str, Any]
    ) -> RememberingPolicy:
        """Return a policy that starts with the memory of the first trial, if it has one."""
        policy = copy.deepcopy(self.policy)
        theta = {name: value for name, value in params.items() if name != MEMORY}
        if MEMORY in params:
            policy.start.copy_(params[MEMORY][0])
        given = policy, theta, self.environments, scores, manifest
        return adapted_policy(*given, kind=RememberingPolicy)

    def pictures(
        self, task: Task, batches: Sequence[Any], path: Sequence[Params]
    ) -> dict[str, Figure | Animation]:
        """Draw ``trajectories`` of the trials' first and last episodes, and ``rollout``.

        The rollout is one more episode, without memory and with that of the first trial.
        """
        return self._pictures.draw(task, batches, path, lambda phi: self.deploy(phi, (), {}))

    def _clock(self, mask: Tensor) -> Tensor:
        """Return the steps left in each episode before its limit, and the limit, ``(M, B, T, 2)``.

        Args:
            mask: of the episodes, ``(M, B, T)``.
        """
        limit = max(self.family.horizon, mask.shape[-1])
        left = limit - torch.arange(mask.shape[-1], dtype=mask.dtype, device=mask.device)
        return torch.stack([left, torch.full_like(left, limit)], -1).expand(*mask.shape, 2)

    def _fresh(self, tasks: int, trials: int) -> Tensor:
        """Return the memory at the start of the trials, ``(M, B, S + P)``."""
        return self.policy.start.expand(tasks, trials, -1)

    def _player(self, theta: Params, memory: Tensor) -> Remembering:
        return Remembering(self.policy, theta, memory)

    def _of(self, family: TaskFamily, config: EpisodesConfig) -> TrialReinforcement:
        given = family, self.policy, None, config, self.family_of_env
        return TrialReinforcement(*given, workers=self.sampler.workers)


def _shared(params: Params) -> Params:
    """Return the parameters that all tasks share, which are zeros for tasks that failed."""
    size = torch.stack([v.flatten(1).abs().sum(1) for v in params.values()]).sum(0)
    row = int(size.argmax())
    return {name: value[row] for name, value in params.items()}
