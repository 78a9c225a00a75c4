"""The reinforcement learning problem: episodes of a family's tasks, and policy gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import gymnasium as gym
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.func import functional_call
from torch.utils._pytree import tree_leaves, tree_map

from meta_rl import seeds
from meta_rl.animation import Animation
from meta_rl.config import EpisodesConfig
from meta_rl.errors import InputError, require
from meta_rl.inner.adaptable import check_adaptable
from meta_rl.naming import under
from meta_rl.problem import Kind, Problem
from meta_rl.problems import estimators, returns
from meta_rl.problems.adapted import AdaptedPolicy, adapted_policy
from meta_rl.problems.advantages import Advantages
from meta_rl.problems.baseline import Baseline
from meta_rl.problems.made_up import made_up_episodes
from meta_rl.problems.modules import trainable
from meta_rl.problems.normalization import required_normalization
from meta_rl.problems.observations import (
    LARGE,
    in_one_order,
    observation_size,
    require_same_spaces,
)
from meta_rl.problems.policy_pictures import PolicyPictures
from meta_rl.problems.rollouts import Rollout, Sampler, check_parameters
from meta_rl.problems.success import rates
from meta_rl.storage.checkpoint import describe_space
from meta_rl.tasks import check_sampled, check_tasks, space_of
from meta_rl.types import Distribution, Episodes, Params, Policy, Task, TaskFamily, TaskSpace


class Reinforcement:
    """Tasks of a family, learned by policy gradient.

    The objective is the likelihood ratio to the behaviour policy times the advantage,

        loss(phi, D) = - mean_{b,t} [ pi_phi(a|s) / pi_behaviour(a|s) * A ],

    for the outer loop. The inner loop uses it too, unless ``config.estimator`` names another
    gradient estimator, with another second derivative (:mod:`meta_rl.problems.estimators`).

    Args:
        family: the family of tasks and environments.
        policy: a module ``obs (*, O) -> Distribution`` with ``env_action``.
        baseline: the value function, subtracted from the returns; None for none.
        config: settings of the episodes, such as their number, discount and lambda.
        family_of_env: makes a family of one task of a user's own environment: a ``gymnasium.Env``,
            a registered id, or a function that makes environments.
        program: how the policy's operations run; see :func:`meta_rl.inner.recording.programmed`.
        workers: processes that step single environments; 0 for this process.
    """

    kind: Kind = "episodes"
    score_name = "return"
    maximizes = True

    def __init__(
        self,
        family: TaskFamily,
        policy: Policy,
        baseline: Baseline | None,
        config: EpisodesConfig,
        family_of_env: Callable[[gym.Env], TaskFamily],
        program: str = "plain",
        workers: int = 0,
    ):
        self.family, self.policy, self.baseline, self.config = family, policy, baseline, config
        self.family_of_env = family_of_env
        check_adaptable(policy)
        self.normalization = required_normalization(policy, config.normalize_observations)
        self.advantages = Advantages(baseline, config, self.normalization)
        # Large observations of more tasks than an iteration has may not fit into memory.
        large = observation_size(family.observation_space) > LARGE
        self.evaluated_at_once = config.tasks if large else None
        self.device = next(policy.parameters()).device
        self.exploration_loss = self._explored if config.exploration else None
        rows = config.tasks, config.episodes
        self.sampler = Sampler(family, policy, workers, program, rows, config.noise_persistence)
        self._pictures = PolicyPictures(family, policy)

    def usual(self, arguments: tuple[Any, ...]) -> bool:
        """Return whether all episodes among a function's arguments have the horizon's length."""
        found = tree_leaves(arguments, is_leaf=lambda each: isinstance(each, Episodes))
        episodes = [each for each in found if isinstance(each, Episodes)]
        return all(each.mask.shape[2] == self.family.horizon for each in episodes)

    @property
    def environments(self) -> TaskFamily:
        """The tasks' family."""
        return self.family

    @property
    def task_space(self) -> TaskSpace | None:
        """The family's parameters; see ``TaskSource``."""
        return space_of(self.environments)

    @property
    def held_out_splits(self) -> tuple[str, ...]:
        """The family's splits for the final test."""
        return self.family.held_out_splits

    def initial_parameters(self) -> Params:
        """Return the policy's parameters, except frozen ones (``requires_grad=False``)."""
        return trainable(self.policy)

    def sample_tasks(self, n: int, seed: int, split: str | None = None) -> list[Task]:
        """Draw n tasks of the family: of a split, or to train on when None."""
        chosen = [] if split is None else [split]
        return check_sampled(self.family, self.family.sample_tasks(n, seed, *chosen), n)

    def held_out_tasks(self, n: int, seed: int, final: bool = False) -> list[Task]:
        """Draw n tasks of the split that the family evaluates on."""
        return self.sample_tasks(n, seed, self.family.held_out_split)

    def check_tasks(self, tasks: Iterable[Task]) -> list[Task]:
        """Return the tasks with each value as the family writes it; see ``TaskSource``."""
        return check_tasks(self.family, tasks)

    def made_up_batch(self, params: Params) -> Episodes:
        """Return two episodes of two steps of each of two tasks; see ``Losses``.

        The policy acts on them as in a rollout.
        """
        return made_up_episodes(self.policy, params, self.family.observation_space)

    def distribution(self, params: Params, episodes: Episodes) -> Distribution:
        """Return one task's action distributions on its episodes' observations."""
        return functional_call(self.policy, params, (episodes.obs,))

    def loss(self, params: Params, batch: Episodes) -> Tensor:
        """Return one task's outer loss; see the class.

        To change the loss, override :meth:`policy_loss`: TRPO uses only that.
        """
        return self.policy_loss(self.distribution(params, batch), batch)

    def policy_loss(self, policy: Distribution, episodes: Episodes) -> Tensor:
        """Return one task's outer loss, given its action distributions on the episodes."""
        return _surrogate(estimators.likelihood_ratio, policy, episodes)

    def inner_loss(self, params: Params, batch: Episodes) -> Tensor:
        """Return one task's inner loss, by the configured gradient estimator."""
        estimator = estimators.ESTIMATORS[self.config.estimator]
        return _surrogate(estimator, self.distribution(params, batch), batch)

    def collect(
        self,
        tasks: Sequence[Task],
        batches: Sequence[Episodes],
        adapted: Callable[[], Params],
        seed: int,
        query: bool,
    ) -> Episodes:
        """Sample B episodes of every task with its adapted policy, and compute advantages.

        See :class:`meta_rl.problem.TaskSource`. Support and query episodes are sampled alike.

        Raises:
            DivergedError: if the adapted parameters are not finite.
            NotFiniteError: if the environment's rewards or observations are not finite.
        """
        stream, phi = seeds.derive(seed, len(batches)), adapted()
        check_parameters(phi, len(batches))
        return self.advantages.of(self.sampler.rollout(tasks, phi, self.config.episodes, stream))

    @torch.no_grad()
    def probe(
        self, tasks: Sequence[Task], batches: Sequence[Rollout], candidates: Params, seed: int
    ) -> tuple[Tensor, Rollout, int]:
        """Return the mean undiscounted return of B episodes of every candidate; see ``TaskSource``.

        All candidates step in lockstep, except in a user's own environment object.
        """
        check_parameters(candidates, len(batches))
        stream = seeds.derive(seed, len(batches))
        rollouts = self.sampler.of_candidates(tasks, candidates, self.config.episodes, stream)
        fitness = torch.cat([part.reward.sum(-1).mean(-1) for part in rollouts], 1)
        own = tree_map(lambda v: v[:, 0], rollouts[0])
        spent = int(sum(part.mask.sum() for part in rollouts))
        return fitness, own, spent - int(own.mask.sum())

    def score(self, batches: Sequence[Episodes], k: int, adapted: Callable[[], Params]) -> Tensor:
        """Return each task's mean undiscounted return after k inner steps: ``(M,)``."""
        return batches[k].reward.sum(-1).mean(-1)

    def potential(self, query: Episodes, scores: Tensor) -> Tensor:
        """Return the mean size of each task's advantages, before normalization; see ``Losses``."""
        return returns.mean_size(self.advantages.raw(query), query.mask)

    def success(self, batches: Sequence[Episodes], k: int) -> Tensor:
        """Return each task's success rate after k inner steps; see ``Losses``."""
        return rates(batches[k].success)

    def statistics(self, batch: Episodes) -> dict[str, Tensor | float]:
        """Return episode length, policy entropy (nats) and the baseline's explained variance."""
        mask, real = batch.mask, batch.mask.sum()
        return {
            "rollout/ep_len_mean": mask.sum(-1).mean(),
            "train/entropy": (batch.behaviour.entropy() * mask).sum() / real,
            **self.advantages.statistics(batch),
        }

    def learn(self, blocks: Sequence[tuple[int, Sequence[Episodes | Rollout]]]) -> None:
        """Fit the baseline's network, and take the data into the statistics; see ``TaskSource``."""
        self.advantages.learn(blocks)
        if self.normalization is not None:
            self.normalization.learn([batches for _, batches in blocks], self.config.gamma)

    def learned(self) -> Params:
        """Return the baseline's tensors; see ``TaskSource``."""
        return {} if self.baseline is None else under("baseline", self.baseline.state())

    def samples(self, batches: Sequence[Episodes]) -> int:
        """Return the environment steps taken for the batches."""
        return int(sum(batch.mask.sum() for batch in batches))

    def resized(self, episodes: int | None) -> Reinforcement:
        """Return the problem with another number of episodes per inner step; see ``TaskSource``."""
        config = self.config if episodes is None else replace(self.config, episodes=episodes)
        return self._of(self.family, config)

    def variant(self, variant: Any) -> tuple[Reinforcement, Task]:
        """Return the problem and the task of a variant; see ``Deployment``."""
        if isinstance(variant, Mapping):
            (task,) = self.check_tasks([variant])
            return self._of(self.family, self.config), task
        own = hasattr(type(variant), "make_vec")
        family: Any = variant if own else self.family_of_env(variant)
        task = family.check_task({})
        require_same_spaces(self.family, family)
        ours = self.family.observation_space
        if not in_one_order(ours, family.observation_space):
            require(
                hasattr(family, "joined_as"),
                "observation space",
                f"a family that joins its parts in the order of {ours}",
                f"{family.id} with {family.observation_space}",
            )
            family = family.joined_as(ours)
        return self._of(family, self.config), task

    def deploy(
        self, params: Params, scores: tuple[float, ...], manifest: dict[str, Any]
    ) -> AdaptedPolicy:
        """Return an adapted policy, with ``predict`` and ``save``.

        Running statistics are copied: meta-training may go on, and the adapted policy stays.
        """
        policy = self.policy if self.normalization is None else copy.deepcopy(self.policy)
        return adapted_policy(policy, params, self.environments, scores, manifest)

    def pictures(
        self, task: Task, batches: Sequence[Episodes], path: Sequence[Params]
    ) -> dict[str, Figure | Animation]:
        """Draw ``trajectories`` and ``rollout``; see :class:`PolicyPictures`."""
        return self._pictures.draw(task, batches, path)

    def describe(self) -> dict[str, Any]:
        """Return the family, its tasks' parameters, and the spaces, as JSON values."""
        return {
            "family": self.family.id,
            "parameters": dict(self.family.parameters),
            "observation_space": describe_space(self.family.observation_space),
            "action_space": describe_space(self.family.action_space),
        }

    def close(self) -> None:
        """Close the environments."""
        self.sampler.close()

    def _of(self, family: TaskFamily, config: EpisodesConfig) -> Reinforcement:
        given = family, self.policy, self.baseline, config, self.family_of_env
        return Reinforcement(*given, workers=self.sampler.workers)

    def _explored(self, params: Params, support: Episodes, query: Episodes) -> Tensor:
        """Return E-MAML's exploration loss of one inner step; ``params`` sampled the support."""
        log_prob = self.distribution(params, support).log_prob(support.action)
        credit = self.config.exploration * query.credit.mean()
        return estimators.exploration(log_prob, support.log_prob, credit, support.mask)


def _surrogate(estimator: Callable, policy: Distribution, episodes: Episodes) -> Tensor:
    log_prob = policy.log_prob(episodes.action)
    return estimator(log_prob, episodes.log_prob, episodes.advantage, episodes.mask)


def require_reinforcement(problem: Problem, what: str, why: str) -> Reinforcement:
    """Return the problem as reinforcement learning.

    Args:
        problem: any problem.
        what: the option or argument that needs reinforcement learning.
        why: the reason, for the message.

    Raises:
        InputError: if the problem is not reinforcement learning.
    """
    if isinstance(problem, Reinforcement):
        return problem
    raise InputError(f"{what}: {problem.describe()['family']} is supervised; {why}.")
