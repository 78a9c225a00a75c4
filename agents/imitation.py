"""Imitate experts through adaptation: train theta to adapt to each task's expert.

Mendonca et al. 2019, "Guided Meta-Policy Search": the inner step is reinforcement learning on
theta's own episodes; the outer loss is supervised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call
from torch.utils._pytree import tree_map

from meta_rl import seeds
from meta_rl.config import AdamConfig, Config
from meta_rl.errors import InputError, require
from meta_rl.from_settings import make_rule
from meta_rl.inner.adaptation import adapt_to_tasks
from meta_rl.inner.core import InnerLoop
from meta_rl.outer.adam import Adam
from meta_rl.problems.reinforcement import Reinforcement
from meta_rl.types import Distribution, MetaParameters, Params, Task

LEARNING_RATE, STATES = 0.01, 2000
"""Adam's learning rate, and each expert's number of observations in an outer step."""


class Shown(NamedTuple):
    """Experts' observations, and their action distributions there; leaves ``(E, n, ...)``."""

    obs: Tensor
    does: Distribution


def imitated(
    problem: Reinforcement,
    config: Config,
    theta: Params,
    tasks: Sequence[Task],
    data: Sequence[tuple[Tensor, Distribution]],
    iterations: int,
) -> tuple[Params, int]:
    """Train theta so that its *adapted* policies come close to the experts.

        for each iteration:
            support[e, k] = episodes of adapt(theta, support[e, :k]) in the task of expert e
            theta <- Adam on mean_e mean_s KL(pi_e(.|s) || pi_phi[e](.|s)),  phi = adapt(theta)

    The update rule is the run's initial rule with one scalar step size. It is not trained here.

    Args:
        problem: the problem with the policy.
        config: the run's settings.
        theta: the parameters to start from.
        tasks: the E tasks of the experts.
        data: each expert's observations ``(n, O)`` in its task, and its distributions there.
        iterations: number of outer steps.

    Returns:
        The new theta, and the environment steps taken.

    Raises:
        InputError: if the run adapts without gradients, or not at all.
    """
    if config.inner.method != "gradient":
        raise InputError(
            f"init_imitation: expected inner.method 'gradient', got {config.inner.method!r}."
        )
    require(config.inner.steps > 0, "init_imitation", "inner.steps of 1 or more", 0)
    fixed = replace(config.inner, learn_step_size=False, form="scalar", per_step=False)
    rule = make_rule(fixed, seeds.derive(config.seed, seeds.INITIAL, 1))

    def divergence(params: Params, shown: Shown) -> Tensor:
        return shown.does.kl(functional_call(problem.policy, params, (shown.obs,))).mean()

    inner = InnerLoop(
        loss=problem.inner_loss,
        outer_loss=divergence,
        rule=rule,
        first_order=config.inner.first_order,
        tasks_at_once=config.speed.tasks_at_once,
    )
    theta = {name: value.clone() for name, value in theta.items()}
    meta = MetaParameters(theta, rule.init(theta))
    adam, spent = Adam(AdamConfig(learning_rate=LEARNING_RATE), inner, meta), 0
    for number in range(iterations):
        seed = seeds.derive(config.seed, seeds.SEARCH, number)
        # K support batches: adapting by K - 1 steps gives K - 1, and its query is the last one.
        adaptation = adapt_to_tasks(problem, inner, meta, tasks, config.inner.steps - 1, seed)
        spent += adaptation.samples
        _, gradient = inner.meta_gradient(meta, adaptation.batches, _drawn(data, seed))
        still = {name: torch.zeros_like(value) for name, value in gradient.rule.items()}
        adam.descend(gradient._replace(rule=still))
    return theta, spent


def _drawn(data: Sequence[tuple[Tensor, Distribution]], seed: int) -> Shown:
    """Draw ``STATES`` of each expert's observations, with replacement."""
    generator = seeds.generator(seed)
    parts = []
    for obs, does in data:
        chosen = torch.randint(len(obs), (STATES,), generator=generator).to(obs.device)
        parts.append(Shown(obs[chosen], tree_map(lambda leaf, at=chosen: leaf[at], does)))
    return tree_map(lambda *each: torch.stack(each), *parts)
