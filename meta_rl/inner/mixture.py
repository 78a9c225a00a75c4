"""A learned choice of the inner optimizer."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from meta_rl.config import InnerConfig
from meta_rl.inner.optimizers import ADAPTIVE, OPTIMIZERS
from meta_rl.inner.rules import GradientDescent
from meta_rl.naming import part_of, under
from meta_rl.types import Params


@dataclass(frozen=True)
class Mixture:
    """``phi <- sum_i softmax(choice)_i rule_i(phi)`` over SGD, momentum, RMSprop and Adam.

    Each rule has its own step sizes, coefficients, schedule and moments, and all see the gradients
    at the common phi. The logits ``choice`` start equal, and the outer loss learns them with the
    rest. :meth:`harden` keeps only the most likely rule.

    The four rules start comparable: for gradients whose entries have root mean square
    ``config.gradient_scale``, the first step of each is as long as that of gradient descent with
    ``config.step_size``. The entries of RMSprop's and Adam's directions are about 3.2 (no bias
    correction) and 1 at any gradient scale, so their step sizes start at
    ``step_size * gradient_scale`` divided by these. Momentum's first step equals gradient
    descent's.

    Args:
        config: settings of the rules.
        seed: seed of the learned schedules' first weights.
    """

    config: InnerConfig
    seed: int = 0

    def init(self, theta: Params) -> Params:
        """Return ``choice`` (4,), and every rule's tensors as ``NAME.*``: ``adam.step_size``."""
        learned = {"choice": next(iter(theta.values())).new_zeros(len(OPTIMIZERS))}
        for name, rule in self._rules().items():
            learned |= under(name, rule.init(theta))
        return learned

    def starting_point(self, theta: Params) -> Params:
        """Return the starting point of the four rules, which is the same for all."""
        return self._rules()["sgd"].starting_point(theta)

    def initial_state(self, theta: Params) -> dict[str, Any]:
        """Return every rule's state, by name."""
        return {name: rule.initial_state(theta) for name, rule in self._rules().items()}

    def adapts(self, params: Params) -> list[str]:
        """Return the names of the parameters that the four rules move, the same for all."""
        return self._rules()["sgd"].adapts(params)

    def step(
        self, learned: Params, k: int, phi: Params, gradient: Params, loss: Tensor, state: Any
    ) -> tuple[Params, Any]:
        """Return the weighted mean of the four rules' new parameters, and their states."""
        steps = {
            name: rule.step(part_of(name, learned), k, phi, gradient, loss, state[name])
            for name, rule in self._rules().items()
        }
        weights = dict(zip(steps, torch.softmax(learned["choice"], -1), strict=True))

        def mean(key: str) -> Tensor:
            # A rule of weight zero does not count, even if its step is infinite.
            zero = torch.zeros_like(phi[key])
            return sum(
                (
                    torch.where(weights[name] > 0, weights[name] * proposal[key], zero)
                    for name, (proposal, _) in steps.items()
                ),
                start=zero,
            )

        stepped = {**phi, **{key: mean(key) for key in gradient}}
        return stepped, {name: moments for name, (_, moments) in steps.items()}

    def step_sizes(self, learned: Params, theta: Params) -> Params:
        """Return every rule's weight as ``choice.NAME``, and its step sizes as ``NAME.*``."""
        weights = torch.softmax(learned["choice"], -1)
        shown = {f"choice.{name}": weights[i] for i, name in enumerate(OPTIMIZERS)}
        for name, rule in self._rules().items():
            shown |= under(name, rule.step_sizes(part_of(name, learned), theta))
        return shown

    def harden(self, learned: Params) -> Params:
        """Return the tensors with all weight on the most likely rule (the first of equals)."""
        choice = learned["choice"]
        best = choice.argmax(-1, keepdim=True)
        hard = torch.full_like(choice, -torch.inf).scatter(-1, best, 0.0)
        return {**learned, "choice": hard}

    def optimizer(self, learned: Params) -> str:
        """Return the name of the most likely rule."""
        return list(OPTIMIZERS)[int(learned["choice"].argmax())]

    def _rules(self) -> dict[str, GradientDescent]:
        rules = {}
        for i, (name, optimizer) in enumerate(OPTIMIZERS.items()):
            size = self.config.step_size / optimizer.first_step
            if name in ADAPTIVE:
                size *= self.config.gradient_scale
            config = dataclasses.replace(self.config, optimizer=name, step_size=size)
            rules[name] = GradientDescent(config, self.seed + i)
        return rules
