"""Reinforcement learning as a source of tasks: roll out all M tasks in lockstep."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import gymnasium as gym
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.func import functional_call
from torch.utils._pytree import tree_map

from meta_rl import seeds
from meta_rl.animation import Animation
from meta_rl.config import EpisodesConfig
from meta_rl.errors import FOREIGN, InputError, NotFiniteError
from meta_rl.inner.adaptable import check_adaptable
from meta_rl.inner.recording import Recorded
from meta_rl.plots.film import FRAMES, film
from meta_rl.problems import estimators, returns
from meta_rl.problems.adapted import AdaptedPolicy
from meta_rl.problems.modules import trainable
from meta_rl.storage.checkpoint import describe_space
from meta_rl.tasks import check_sampled, check_tasks, select
from meta_rl.threads import one_thread
from meta_rl.types import (
    BatchedEnv,
    Distribution,
    Episodes,
    Params,
    Policy,
    Task,
    TaskFamily,
    Trajectory,
)

ONE_THREAD = 2**26
"""Weights times rows, about a millisecond's work, below which a policy acts on one thread beside an
environment that has the cores."""


class Baseline(Protocol):
    """A value function fitted on the data it predicts."""

    def fit_predict(self, obs: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
        """Values ``(M, B, T)``."""
        ...


class Rollout(NamedTuple):
    """What stepping gives; leaves ``(M, B, T, ...)``. Padding has mask 0 and reward 0."""

    obs: Tensor
    action: Tensor
    reward: Tensor
    mask: Tensor
    behaviour: Any


class Reinforcement:
    """Tasks of a family, learned by policy gradient.

    The objective is the likelihood ratio to the behaviour policy times the advantage,

        loss(phi, D) = - mean_{b,t} [ pi_phi(a|s) / pi_behaviour(a|s) * A ],

    for the outer loop, and for the inner one unless ``config.estimator`` names another that
    differs in the second derivative (:mod:`meta_rl.problems.estimators`).

    Args:
        family: where tasks and environments come from.
        policy: a module ``obs (*, O) -> Distribution`` with ``env_action``.
        baseline: fitted per task and per inner step.
        config: episodes, discount, lambda.
        family_of_env: wraps a user's own ``gymnasium.Env`` as a family of one task.
        recorded: whether the policy's operations are recorded once and run from then on.
    """

    maximizes = True
    score_name = "return"
    evaluated_at_once = None

    def __init__(
        self,
        family: TaskFamily,
        policy: Policy,
        baseline: Baseline,
        config: EpisodesConfig,
        family_of_env: Callable[[gym.Env], TaskFamily],
        recorded: bool = False,
    ):
        self.family, self.policy, self.baseline, self.config = family, policy, baseline, config
        self.family_of_env = family_of_env
        check_adaptable(policy)
        parameter = next(policy.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        self.exploration_loss = self._explored if config.exploration else None
        act = torch.vmap(lambda phi, obs: functional_call(self.policy, phi, (obs,)))
        self._act = Recorded(act) if recorded else act
        self._envs: dict[tuple[int, int], BatchedEnv] = {}
        self._renders = True  # until it has failed

    def initial_parameters(self) -> Params:
        """The policy's own parameters, but for frozen ones (``requires_grad=False``)."""
        return trainable(self.policy)

    def sample_tasks(self, n: int, seed: int) -> list[Task]:
        """Draw n tasks of the family."""
        return check_sampled(self.family, self.family.sample_tasks(n, seed), n)

    def held_out_tasks(self, n: int, seed: int, final: bool = False) -> list[Task]:
        """Draw n tasks of the split that the family evaluates on."""
        drawn = self.family.sample_tasks(n, seed, self.family.held_out_split)
        return check_sampled(self.family, drawn, n)

    def check_tasks(self, tasks: Iterable[Task]) -> list[Task]:
        """The tasks as the family takes them; see ``Problem``."""
        return check_tasks(self.family, tasks)

    def made_up_batch(self, params: Params) -> Episodes:
        """Two episodes of two steps of each of two tasks; see ``Problem``.

        The policy acts on them as it does in a roll-out.
        """
        size = gym.spaces.flatdim(self.family.observation_space)
        parameter = next(iter(params.values()))
        obs, one = parameter.new_zeros(2, 2, 2, size), parameter.new_ones(2, 2, 2)
        act = torch.vmap(lambda phi, obs: functional_call(self.policy, phi, (obs,)))
        act(params, obs[:, :, 0])
        behaviour = act(params, obs)
        action = behaviour.sample(seeds.generator(0, parameter.device))
        log_prob = behaviour.log_prob(action)
        return Episodes(obs, action, one, one, log_prob, behaviour, one, one[..., 0])

    def distribution(self, params: Params, episodes: Episodes) -> Distribution:
        """One task's policy on its episodes' observations."""
        return functional_call(self.policy, params, (episodes.obs,))

    def loss(self, params: Params, episodes: Episodes) -> Tensor:
        """The outer loop's loss of one task; see the class.

        For another one override :meth:`policy_loss`, which is all that TRPO knows.
        """
        return self.policy_loss(self.distribution(params, episodes), episodes)

    def policy_loss(self, policy: Distribution, episodes: Episodes) -> Tensor:
        """The same, of what the task's policy is on the episodes' observations."""
        return _surrogate(estimators.likelihood_ratio, policy, episodes)

    def inner_loss(self, params: Params, episodes: Episodes) -> Tensor:
        """What one task adapts on, by the configured estimator."""
        estimator = estimators.ESTIMATORS[self.config.estimator]
        return _surrogate(estimator, self.distribution(params, episodes), episodes)

    def collect(
        self,
        tasks: Sequence[Task],
        batches: Sequence[Episodes],
        adapted: Callable[[], Params],
        seed: int,
        query: bool,
    ) -> Episodes:
        """B fresh episodes of every task with the adapted policies, with advantages.

        See :class:`meta_rl.types.Problem`. Support and query episodes are sampled alike.

        Raises:
            NotFiniteError: if adapting gave parameters, or the environment rewards or observations,
                that are not finite.
        """
        stream, phi = seeds.derive(seed, len(batches)), adapted()
        _check_parameters(phi, len(batches))
        return self._valued(self.rollout(tasks, phi, self.config.episodes, stream))

    @torch.no_grad()
    def probe(
        self, tasks: Sequence[Task], batches: Sequence[Rollout], candidates: Params, seed: int
    ) -> tuple[Tensor, Rollout, int]:
        """Mean undiscounted return of B fresh episodes of every candidate; see ``Problem``.

        Candidates are rows like tasks; only an environment object of the user's takes turns.
        """
        _check_parameters(candidates, len(batches))
        stream = seeds.derive(seed, len(batches))
        count = next(iter(candidates.values())).shape[1]
        size = 1 if self.family.episodes_at_once else count
        rollouts = []
        for start in range(0, count, size):
            phi = {name: v[:, start : start + size] for name, v in candidates.items()}
            rows = [task for task in tasks for _ in range(size)]
            flat = {name: v.flatten(0, 1) for name, v in phi.items()}
            try:
                rollout = self.rollout(
                    rows, flat, self.config.episodes, seeds.derive(stream, start)
                )
            except NotFiniteError as error:
                raise NotFiniteError(str(error), [row // size for row in error.rows]) from error
            rollouts.append(
                tree_map(lambda v, size=size: v.unflatten(0, (len(tasks), size)), rollout)
            )
        fitness = torch.cat([part.reward.sum(-1).mean(-1) for part in rollouts], 1)
        own = tree_map(lambda v: v[:, 0], rollouts[0])
        spent = int(sum(part.mask.sum() for part in rollouts))
        return fitness, own, spent - int(own.mask.sum())

    def score(self, batches: Sequence[Episodes], k: int, adapted: Callable[[], Params]) -> Tensor:
        """Mean undiscounted return of each task's episodes after k inner steps: ``(M,)``."""
        return batches[k].reward.sum(-1).mean(-1)

    def statistics(self, episodes: Episodes) -> dict[str, Tensor | float]:
        """Episode length, policy entropy (nats) and how well the baseline explains the returns."""
        mask, real = episodes.mask, episodes.mask.sum()
        target = returns.discounted_returns(episodes.reward, mask, self.config.gamma)
        error = (target - self.baseline.fit_predict(episodes.obs, target, mask)) * mask
        centred = (target - (target * mask).sum() / real) * mask
        return {
            "rollout/ep_len_mean": mask.sum(-1).mean(),
            "train/entropy": (episodes.behaviour.entropy() * mask).sum() / real,
            "train/explained_variance": 1 - (error**2).sum() / (centred**2).sum().clamp(min=1e-8),
        }

    def samples(self, batches: Sequence[Episodes]) -> int:
        """Environment steps taken for these batches."""
        return int(sum(batch.mask.sum() for batch in batches))

    def rollout(self, tasks: Sequence[Task], phi: Params, episodes: int, seed: int) -> Rollout:
        """``episodes`` whole episodes of every task, as many in lockstep as the family can have.

        Raises:
            NotFiniteError: when the environment returns a reward or observation that is not finite.
        """
        size = self.family.episodes_at_once or episodes
        return _join(
            [
                self._lockstep(tasks, phi, min(size, episodes - start), seeds.derive(seed, start))
                for start in range(0, episodes, size)
            ]
        )

    def variant(self, variant: Any, episodes: int | None) -> tuple[Reinforcement, Task]:
        """This problem for a task of the family or a ``gymnasium.Env``; see ``Problem``."""
        config = self.config if episodes is None else replace(self.config, episodes=episodes)
        if isinstance(variant, Mapping):
            family, (task,) = self.family, self.check_tasks([variant])
        else:
            own = hasattr(variant, "make_vec") and not issubclass(type(variant), type)
            family = variant if own else self.family_of_env(variant)
            task = family.check_task({})
            self._check_spaces(family)
        return Reinforcement(family, self.policy, self.baseline, config, self.family_of_env), task

    def deploy(
        self, params: Params, scores: tuple[float, ...], manifest: dict[str, Any]
    ) -> AdaptedPolicy:
        """A policy with ``predict``."""
        shape = self.family.observation_space.shape or ()
        return AdaptedPolicy(self.policy, params, shape, scores, manifest)

    def pictures(
        self, task: Task, batches: Sequence[Episodes], path: Sequence[Params]
    ) -> dict[str, Figure | Animation]:
        """``trajectories``, where the family draws them, and ``rollout``, where it can be rendered.

        The trajectories are those that were adapted on, and the query's; the roll-out is one
        further episode of each policy. A machine that cannot render is told once, in a warning.
        """
        found: dict[str, Figure | Animation] = {}
        episodes = [self._trajectories(batch) for batch in (batches[0], batches[-1])]
        if (figure := self.family.picture(task, *episodes)) is not None:
            found["trajectories"] = figure
        longest = max(len(episode.obs) for group in episodes for episode in group)
        if (animation := self._film(task, path, max(1, -(-longest // FRAMES)))) is not None:
            found["rollout"] = animation
        return found

    def describe(self) -> dict[str, Any]:
        """Family, what its tasks differ in, and spaces."""
        return {
            "family": self.family.id,
            "parameters": dict(self.family.parameters),
            "observation_space": describe_space(self.family.observation_space),
            "action_space": describe_space(self.family.action_space),
        }

    def close(self) -> None:
        """Close the environments that were made."""
        for env in self._envs.values():
            env.close()
        self._envs.clear()

    def _trajectories(self, episodes: Episodes) -> list[Trajectory]:
        """The first task's episodes, without padding."""
        actions = self.policy.env_action(episodes.action[0])
        return [
            Trajectory(obs[mask > 0].cpu().numpy(), action[mask > 0].cpu().numpy())
            for obs, action, mask in zip(episodes.obs[0], actions, episodes.mask[0], strict=True)
        ]

    def _film(self, task: Task, path: Sequence[Params], every: int) -> Animation | None:
        if not self._renders:
            return None
        policies = [self.deploy(select(phi, 0), (), {}) for phi in (path[0], path[-1])]
        try:
            return film(self.family, task, *policies, seed=0, every=every)
        except FOREIGN as error:  # whatever a graphics library raises: a run is not to end of it
            self._renders = False
            warnings.warn(
                f"pictures: no roll-outs of {self.family.id}, it cannot be rendered here: "
                f"{type(error).__name__}: {error}",
                stacklevel=2,
            )
            return None

    def _explored(self, params: Params, support: Episodes, query: Episodes) -> Tensor:
        """E-MAML's term of one inner step; ``params`` sampled the support data."""
        log_prob = self.distribution(params, support).log_prob(support.action)
        credit = self.config.exploration * query.credit.mean()
        return estimators.exploration(log_prob, support.log_prob, credit, support.mask)

    def _check_spaces(self, family: TaskFamily) -> None:
        for what, ours, theirs in (
            ("observation space", self.family.observation_space, family.observation_space),
            ("action space", self.family.action_space, family.action_space),
        ):
            # Bounds of observations say little; those of actions are what the policy scales to.
            same_kind = type(ours) is type(theirs) and ours.shape == theirs.shape
            if not same_kind or (what == "action space" and ours != theirs):
                raise InputError(
                    f"{what}: the policy was trained with {ours}, {family.id} has {theirs}. "
                    "Adapt to an environment with the same spaces, or wrap it to have them."
                )

    def _env(self, num_tasks: int, episodes: int) -> BatchedEnv:
        key = (num_tasks, episodes)
        if key not in self._envs:
            self._envs[key] = self.family.make_vec(
                *key, device=self.device, dtype=self.dtype, workers=self.config.workers
            )
        return self._envs[key]

    @torch.no_grad()
    def _lockstep(self, tasks: Sequence[Task], phi: Params, episodes: int, seed: int) -> Rollout:
        """Run one episode in each of M x ``episodes`` rows, until all ended."""
        env = self._env(len(tasks), episodes)
        noise = seeds.generator(seeds.derive(seed, seeds.ADAPTATION), self.device)
        obs = env.reset(tasks, seeds.derive(seed, seeds.DATA))
        running = torch.ones(obs.shape[:2], dtype=torch.bool, device=self.device)
        steps: list[Rollout] = []
        weights = sum(value[0].numel() for value in phi.values())
        small = weights * running.numel() < ONE_THREAD
        with one_thread() if env.occupies_cores and small else nullcontext():
            for t in range(self.family.horizon):
                policy = self._act(phi, obs)
                action = policy.sample(noise)
                result = env.step(self.policy.env_action(action))
                steps.append(Rollout(obs, action, result.reward, running, policy))
                running = running & ~(result.terminated | result.truncated)
                # What a finished row shows next is padding: it must stay finite.
                obs = torch.where(running.unsqueeze(-1), result.obs, obs)
                # Asking for the answer costs a GPU a synchronization, hence not at every step.
                if t % 8 == 7 and not running.any():
                    break
        stacked = tree_map(lambda *each: torch.stack(each, 2), *steps)
        rollout = stacked._replace(mask=stacked.mask.to(self.dtype))
        _check_finite(tasks, rollout)
        return rollout._replace(reward=rollout.reward * rollout.mask)

    def _valued(self, rollout: Rollout) -> Episodes:
        config, mask = self.config, rollout.mask
        target = returns.discounted_returns(rollout.reward, mask, config.gamma)
        value = self.baseline.fit_predict(rollout.obs, target, mask)
        advantage = returns.gae(rollout.reward, value, mask, config.gamma, config.gae_lambda)
        return Episodes(
            obs=rollout.obs,
            action=rollout.action,
            reward=rollout.reward,
            mask=mask,
            log_prob=rollout.behaviour.log_prob(rollout.action),
            behaviour=rollout.behaviour,
            advantage=returns.normalize(advantage, mask),
            credit=returns.credit(target, advantage, mask),
        )


def _surrogate(estimator: Callable, policy: Distribution, episodes: Episodes) -> Tensor:
    log_prob = policy.log_prob(episodes.action)
    return estimator(log_prob, episodes.log_prob, episodes.advantage, episodes.mask)


def _join(parts: Sequence[Rollout]) -> Rollout:
    """Rollouts of the same tasks, side by side along B, padded to the longest."""
    longest = max(part.mask.shape[2] for part in parts)

    def pad(part: Rollout) -> Rollout:
        missing = longest - part.mask.shape[2]
        # Repeating the last entry keeps the padding of the behaviour a valid distribution.
        last = tree_map(lambda v: v[:, :, -1:].expand(-1, -1, missing, *v.shape[3:]), part)
        last = last._replace(mask=torch.zeros_like(last.mask), reward=torch.zeros_like(last.reward))
        return tree_map(lambda *both: torch.cat(both, 2), part, last)

    return tree_map(lambda *each: torch.cat(each, 1), *map(pad, parts))


def _check_parameters(params: Params, steps: int) -> None:
    finite = [torch.isfinite(v).reshape(len(v), -1).all(1) for v in params.values()]
    bad = ~torch.stack(finite).all(0)
    if bad.any():
        raise NotFiniteError(
            f"policy: the parameters after {steps} inner steps are not finite. Take "
            "fewer inner steps, a smaller step size or more episodes.",
            bad.nonzero()[:, 0].tolist(),
        )


def _check_finite(tasks: Sequence[Task], rollout: Rollout) -> None:
    """Refuse rewards and observations that are not finite on steps that count."""
    real = rollout.mask > 0
    for what, bad in (
        ("reward", ~torch.isfinite(rollout.reward) & real),
        ("observation", ~torch.isfinite(rollout.obs).all(-1) & real),
    ):
        if bad.any():
            m, _, t = (int(i) for i in bad.nonzero()[0])
            raise NotFiniteError(
                f"environment: expected a finite {what}, got NaN or infinity at step {t} of task "
                f"{dict(tasks[m])}. Mend the environment or narrow its parameter ranges.",
                bad.flatten(1).any(1).nonzero()[:, 0].tolist(),
            )
