"""The reference: meta-learning as it is usually written, task by task with autograd.

It uses our problems' losses and no other code of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.utils._pytree import tree_map

from meta_rl.families.general import GymVec
from meta_rl.outer.promp import clipped_surrogate
from meta_rl.problems.reinforcement import Reinforcement
from meta_rl.tasks import select
from meta_rl.types import Episodes, Params, Task

Loss = Callable[[Params, Any], Tensor]


def leaves_of(theta: Params) -> Params:
    """Return copies to take gradients in."""
    return {name: value.detach().clone().requires_grad_() for name, value in theta.items()}


def adapted(
    loss: Loss, theta: Params, supports: Sequence[Any], alpha: float, create_graph: bool
) -> Params:
    """Return one task's parameters after gradient descent on each support."""
    phi = theta
    for support in supports:
        gradients = torch.autograd.grad(
            loss(phi, support), list(phi.values()), create_graph=create_graph
        )
        phi = {n: p - alpha * g for (n, p), g in zip(phi.items(), gradients, strict=True)}
    return phi


def meta_gradient(
    inner: Loss,
    outer: Loss,
    theta: Params,
    tasks: Sequence[tuple[Sequence[Any], Any]],
    alpha: float,
    first_order: bool = False,
) -> None:
    """Add up the gradient of the mean outer loss in ``theta``, task by task."""
    for leaf in theta.values():
        leaf.grad = None
    for supports, query in tasks:
        phi = adapted(inner, theta, supports, alpha, create_graph=not first_order)
        (outer(phi, query) / len(tasks)).backward()


class PolicyLoop:
    """The phases of an iteration of MAML on episodes, for the first few tasks.

    Args:
        problem: the problem with the losses.
        theta: the policy's parameters.
        tasks: each task's K support batches and query batch.
        alpha: inner step size.
        fraction: fraction of the episodes for curvature products.
    """

    def __init__(
        self,
        problem: Reinforcement,
        theta: Params,
        tasks: Sequence[tuple[Sequence[Episodes], Episodes]],
        alpha: float,
        fraction: float,
    ):
        self.problem, self.theta, self.tasks = problem, leaves_of(theta), tasks
        self.alpha, self.fraction = alpha, fraction
        self.vector = [torch.randn_like(value) for value in theta.values()]
        self.optimizer = torch.optim.Adam(self.theta.values(), 1e-6)

    def inner_step(self) -> None:
        """Adapt the parameters to every task."""
        for supports, _ in self.tasks:
            adapted(self.problem.inner_loss, self.theta, supports, self.alpha, False)

    def outer_gradient(self) -> None:
        """Compute the meta-gradient."""
        losses = self.problem.inner_loss, self.problem.loss
        meta_gradient(*losses, self.theta, self.tasks, self.alpha)

    def curvature_product(self) -> list[Tensor]:
        """Multiply the Hessian of the KL's sum by a vector, by differentiating its gradient."""
        total = [torch.zeros_like(value) for value in self.vector]
        theta = list(self.theta.values())
        for supports, query in self.tasks:
            kept = max(1, round(self.fraction * len(query.mask)))
            own = [first(support, kept) for support in supports]
            phi = adapted(self.problem.inner_loss, self.theta, own, self.alpha, True)
            part = first(query, kept)
            # KL to itself: adapted on part of the support, it is not the policy that sampled.
            now = self.problem.distribution(phi, part)
            kl = self._kl(phi, part._replace(behaviour=tree_map(Tensor.detach, now)))
            gradient = torch.autograd.grad(kl, theta, create_graph=True)
            more = torch.autograd.grad(gradient, theta, self.vector)
            total = [a + b for a, b in zip(total, more, strict=True)]
        return total

    def line_search_trial(self) -> None:
        """Compute outer loss and KL."""
        for supports, query in self.tasks:
            phi = adapted(self.problem.inner_loss, self.theta, supports, self.alpha, False)
            with torch.no_grad():
                self.problem.loss(phi, query)
                self._kl(phi, query)

    def promp_epoch(self) -> None:
        """Run an epoch of ProMP: clipped ratio, inner KL penalty, Adam."""
        self.optimizer.zero_grad()
        for supports, query in self.tasks:
            phi = adapted(self.problem.inner_loss, self.theta, supports, self.alpha, True)
            log_prob = self.problem.distribution(phi, query).log_prob(query.action)
            loss, _ = clipped_surrogate(log_prob, query, 0.3)
            (loss + 5e-4 * self._kl(self.theta, supports[0])).backward()
        self.optimizer.step()

    def _kl(self, phi: Params, episodes: Episodes) -> Tensor:
        policy = self.problem.distribution(phi, episodes)
        kl = episodes.behaviour.kl(policy)
        return (kl * episodes.mask).sum() / episodes.mask.sum()


def first(episodes: Episodes, count: int) -> Episodes:
    """Return the first ``count`` of one task's episodes."""
    return select(episodes, slice(count))


class Sampler:
    """Samples one task's episodes from Gymnasium's AsyncVectorEnv, with two workers.

    Args:
        problem: the problem with family and policy.
        task: the task to sample.
        phi: the policy's parameters.
        episodes: number of rows.
    """

    def __init__(self, problem: Reinforcement, task: Task, phi: Params, episodes: int):
        self.problem, self.task, self.phi = problem, task, phi
        make: Any = partial(GymVec, problem.family.make_env, device="cpu", dtype=torch.float32)
        self.env = make(1, episodes, workers=2)
        self.generator = torch.Generator().manual_seed(0)

    @torch.no_grad()
    def rollout(self) -> None:
        """Sample whole episodes; environments are kept from one call to the next."""
        obs = self.env.reset([self.task], 0)
        for _ in range(self.problem.family.horizon):
            policy = functional_call(self.problem.policy, self.phi, (obs,))
            action = self.problem.policy.env_action(policy.sample(self.generator))
            result = self.env.step(action)
            obs = result.obs
            if bool((result.terminated | result.truncated).all()):
                break
