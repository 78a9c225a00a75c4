"""Beliefs about the task of a trial: what VariBAD's encoder infers, and their variational bound.

Zintgraf et al. 2020, "VariBAD: A Very Good Method for Bayes-Adaptive Deep RL via Meta-Learning".
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from meta_rl.errors import InputError
from meta_rl.problems.memory import MemoryPolicy, Recalled, Trials
from meta_rl.types import Params

ACTING = "acting"
"""The owner of the parameters that choose actions and estimate values; the rest infer."""


class Belief(NamedTuple):
    """Independent normal beliefs about the Z numbers of a latent task vector."""

    mean: Tensor  # (*, Z)
    log_variance: Tensor  # (*, Z)

    def kl(self, prior: Belief) -> Tensor:
        """Return KL(self || prior) ``(*,)`` in nats."""
        shift = (self.mean - prior.mean) ** 2 * torch.exp(-prior.log_variance)
        change = self.log_variance - prior.log_variance
        return 0.5 * (shift + change.exp() - change - 1).sum(-1)

    def before(self) -> Belief:
        """Return the belief that each step of sequences ``(N, L, Z)`` started from.

        It is the step before's; at a trial's start the prior, a standard normal distribution.
        """
        return Belief(*(F.pad(value, (0, 0, 1, 0))[:, :-1] for value in self))

    def at(self, steps: Tensor) -> Belief:
        """Return the beliefs at some steps ``(N, E)`` of sequences: ``(N, E, Z)``."""
        return Belief(*(at_steps(value, steps) for value in self))


class Inferred(NamedTuple):
    """An encoder's outputs for N sequences of L steps."""

    seen: Tensor  # (N, L, F), what it saw of the observations
    belief: Belief  # (N, L, Z)
    state: Tensor  # (N, S), after the last step


class InferringPolicy(MemoryPolicy):
    """A policy with memory that acts by the observation and a belief about the task.

    Its parameters under :data:`ACTING` choose actions. All others infer: they maximize
    :func:`bound`.
    """

    latents: int
    """Z, the size of the latent task vector."""

    def infer(self, params: Params, trials: Trials) -> Inferred:
        """Return the beliefs at every step of whole trials, from their start."""
        raise NotImplementedError

    def decide(self, params: Params, trials: Trials, state: Tensor | None = None) -> Recalled:
        """Return actions' distributions and values at every step, for given beliefs.

        Args:
            params: the parameters under :data:`ACTING`, and maybe others.
            trials: any steps of trials, with beliefs (:func:`beside`) in the place of ``previous``.
            state: nothing of a trial's past but the beliefs is needed, so this is not used.
        """
        raise NotImplementedError

    def errors(
        self, params: Params, seen: Tensor, trials: Trials, latent: Tensor, steps: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the squared errors of reconstructed rewards and next observations, ``(N, E, D)``.

        Both are in units of the running standard deviations. The second is the mean over an
        observation's numbers; 0 if an episode ends there, or observations are not reconstructed.

        Args:
            params: all parameters.
            seen: what the encoder saw of the trials' observations, ``(N, L, F)``.
            trials: whole trials.
            latent: latent task vectors, ``(N, E, Z)``.
            steps: the steps to reconstruct, ``(N, D)``.
        """
        raise NotImplementedError


class Draw(NamedTuple):
    """The random numbers of one estimate of the bound."""

    beliefs: Tensor  # (N, E), the steps whose beliefs reconstruct the trial
    steps: Tensor  # (N, D), the steps that each of them reconstructs
    noise: Tensor  # (N, E, Z), standard normal


class BoundSums(NamedTuple):
    """Sums over trials; all but the loss divided by the number of real steps are means of steps."""

    loss: Tensor
    reward_error: Tensor  # squared, in squared standard deviations of rewards
    next_error: Tensor  # squared, in squared standard deviations of observations
    kl: Tensor  # nats, from each step's belief to the one before, summed over real steps


def bound(
    policy: InferringPolicy, params: Params, trials: Trials, drawn: Draw, kl_weight: float
) -> BoundSums:
    """Return minus the evidence lower bound of trials, summed, and its parts.

    Zintgraf et al. 2020, equations 6 to 8: each belief q_t of a trial reconstructs the whole trial,
    its past and its future, and q_{t-1} is q_t's prior. Of L steps' beliefs and L reconstructed
    steps, some are drawn: the sum over steps is L times their mean. A trial's bound is the mean of
    its beliefs' bounds. The likelihoods are normal, with a variance of 1/2 in normalized units.

    Args:
        policy: the policy's module.
        params: its parameters.
        trials: whole trials, ``(N, L)``.
        drawn: beliefs, steps and noise.
        kl_weight: weight of the KL divergence.
    """
    seen, belief, _ = policy.infer(params, trials)
    mask, length = trials.mask, trials.mask.sum(1)
    kl = (belief.kl(belief.before()) * mask).sum(1)
    chosen = belief.at(drawn.beliefs)
    latent = chosen.mean + (0.5 * chosen.log_variance).exp() * drawn.noise
    pairs = mask.gather(1, drawn.beliefs).unsqueeze(2) * mask.gather(1, drawn.steps).unsqueeze(1)
    weights = pairs / pairs.sum((1, 2), keepdim=True) * length[:, None, None]
    errors = policy.errors(params, seen, trials, latent, drawn.steps)
    reward_error, next_error = ((error * weights).sum() for error in errors)
    loss = reward_error + next_error + kl_weight * (kl / length).sum()
    return BoundSums(loss, reward_error, next_error, kl.sum())


def draw(mask: Tensor, number: int, latents: int, generator: Generator) -> Draw:
    """Draw different real steps of each trial, and noise.

    Args:
        mask: 1.0 on real steps, ``(N, L)``.
        number: E and D, the most steps to draw of a trial; all steps of shorter ones.
        latents: Z.
        generator: a generator on the CPU.
    """
    beliefs, steps = _some(mask, number, generator), _some(mask, number, generator)
    noise = torch.randn((*beliefs.shape, latents), generator=generator, dtype=mask.dtype)
    return Draw(beliefs, steps, noise.to(mask.device))


def beside(belief: Belief) -> Tensor:
    """Return beliefs as the policy sees them, ``(*, 2 Z)``, without a way back for gradients."""
    return torch.cat(belief, -1).detach()


def at_steps(values: Tensor, steps: Tensor) -> Tensor:
    """Return the values ``(N, L, F)`` at some steps ``(N, E)``: ``(N, E, F)``."""
    return values.gather(1, steps.unsqueeze(-1).expand(*steps.shape, values.shape[-1]))


def check_infers(policy: Any, outer: Any, wanted: bool) -> None:
    """Refuse a policy that infers its task with another outer step, and the reverse.

    Args:
        policy: any policy, or None.
        outer: settings of the outer step.
        wanted: whether the outer step trains a policy that infers its task.

    Raises:
        InputError: says which outer step, or which policy, to take.
    """
    infers = isinstance(policy, InferringPolicy)
    if infers and not wanted:
        raise InputError(
            f"outer: expected VariBADConfig with {type(policy).__name__}, which infers its task, "
            f"got {type(outer).__name__}. Give --algorithm varibad."
        )
    if wanted and not infers:
        raise InputError(
            "outer: expected a policy that infers its task with VariBADConfig, got "
            f"{type(policy).__name__}. Take meta_rl.agents.BeliefPolicy."
        )


def _some(mask: Tensor, number: int, generator: Generator) -> Tensor:
    """Return the places of real steps, ``(N, E)``; in shorter trials of padding too."""
    keys = torch.rand(mask.shape, generator=generator, dtype=torch.float64).to(mask.device)
    return (keys * mask + mask).topk(min(number, mask.shape[1])).indices
