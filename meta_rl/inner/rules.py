"""Inner update rules: how a task's gradient changes its parameters.

A rule's own numbers (step sizes, optimizer coefficients, schedules) are ordinary tensors beside
theta, learned by the same outer loss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from meta_rl.config import InnerConfig
from meta_rl.errors import InputError
from meta_rl.inner import schedules
from meta_rl.inner.optimizers import OPTIMIZERS, Coefficient, Moments, logit
from meta_rl.types import Params


class Rule(Protocol):
    """An inner update rule. All methods are pure and see one task (no leading M)."""

    def init(self, theta: Params) -> Params:
        """Return the learned tensors at the start of meta-training; empty if there are none."""
        ...

    def starting_point(self, theta: Params) -> Params:
        """Return phi before the first inner step: theta, but for tensors that start at zero."""
        ...

    def initial_state(self, theta: Params) -> Any:
        """Return the state carried between inner steps (such as momentum), before the first."""
        ...

    def adapts(self, params: Params) -> list[str]:
        """Return the names of the parameters that adapt; the others stay at theta."""
        ...

    def step(
        self, learned: Params, k: int, phi: Params, gradient: Params, loss: Tensor, state: Any
    ) -> tuple[Params, Any]:
        """Take inner step k; return the new parameters and the new state.

        Args:
            learned: the rule's learned tensors.
            k: index of the inner step, from 0.
            phi: all parameters of the task.
            gradient: gradient in the parameters that :meth:`adapts` names.
            loss: the inner loss; a scalar.
            state: the state after the step before, or :meth:`initial_state`.
        """
        ...

    def step_sizes(self, learned: Params, theta: Params) -> Params:
        """Return the current step sizes for display: name to a tensor; none if no step is taken."""
        ...

    def harden(self, learned: Params) -> Params:
        """Return the learned tensors to deploy, with any soft choice made."""
        ...

    def optimizer(self, learned: Params) -> str:
        """Return the name of the hardened rule's optimizer."""
        ...


@dataclass(frozen=True)
class GradientDescent:
    """``phi <- phi - alpha_k * direction`` with fixed or learned alpha.

    The direction is the gradient or, with state carried between inner steps, the direction of
    momentum, RMSprop or Adam (:mod:`meta_rl.inner.optimizers`). alpha is one scalar (Finn et al.
    2017), one per tensor, or one per parameter (Meta-SGD, Li et al. 2017). It is shared by the K
    inner steps or separate for each (LSLR, Antoniou et al. 2019), and multiplied by a schedule's
    factor (:mod:`meta_rl.inner.schedules`). The learned tensor is the logarithm of alpha, its
    inverse softplus, or alpha itself. The optimizer's coefficients are learned too, as logits.

    Args:
        config: settings of the rule; ``optimizer`` is not ``mixture``.
        seed: seed of the learned schedule's first weights.
    """

    config: InnerConfig
    seed: int = 0

    def init(self, theta: Params) -> Params:
        """Return the learned tensors at the start of meta-training, by name.

        If step sizes are learned: ``step_size`` or ``step_size.NAME``, shaped by ``config.form``,
        and a scalar ``logit.NAME`` for each of the optimizer's coefficients. If the schedule is
        learned: ``schedule.*``.

        Raises:
            InputError: if theta has no parameter that adapts.
        """
        names = self.adapts(theta)
        learned: Params = {}
        if self.config.learn_step_size:
            learned |= self._init_step_sizes({name: theta[name] for name in names})
        if self.config.schedule == "learned":
            learned |= schedules.init_network(theta[names[0]], self.seed)
        return learned

    def starting_point(self, theta: Params) -> Params:
        """Return theta, with a context vector of zero for every task.

        The context is theta's entry times zero, so that it stays in the graph and the entry's outer
        gradient is zero.
        """
        if self.config.adapts != "context":
            return theta
        return {**theta, **{name: 0.0 * theta[name] for name in self.adapts(theta)}}

    def initial_state(self, theta: Params) -> dict[str, Moments]:
        """Return the optimizer's moments, all zero; empty for plain gradient descent."""
        count = OPTIMIZERS[self.config.optimizer].moments
        if not count:
            return {}
        return {
            name: tuple(torch.zeros_like(theta[name]) for _ in range(count))
            for name in self.adapts(theta)
        }

    def adapts(self, params: Params) -> list[str]:
        """Return the names of all parameters, the last layer (ANIL) or the context (CAVIA)."""
        return adapted_names(self.config.adapts, params)

    def step(
        self, learned: Params, k: int, phi: Params, gradient: Params, loss: Tensor, state: Any
    ) -> tuple[Params, Any]:
        """Return ``phi - alpha_k * direction`` and the state; a learned schedule decays phi too."""
        optimizer = OPTIMIZERS[self.config.optimizer]
        coefficients = self._coefficients(learned, loss)
        adjusted = self._adjusted(learned, k, phi, gradient, loss)
        stepped, moments = dict(phi), {}
        for name, g in gradient.items():
            carried = state[name] if optimizer.moments else ()
            direction, moments[name] = optimizer.direction(g, carried, coefficients, k)
            alpha = self._alpha(learned, name, k)
            if name in adjusted:
                multiplier, decay = adjusted[name]
                stepped[name] = (1 - decay) * phi[name] - multiplier * alpha * direction
            else:
                stepped[name] = phi[name] - alpha * direction
        return stepped, moments

    def step_sizes(self, learned: Params, theta: Params) -> Params:
        """Return every alpha before its schedule, and the optimizer's learned coefficients."""
        if self.config.method == "memory":
            return {}
        if not self.config.learn_step_size:
            value = next(iter(theta.values()))
            return {"step_size": value.new_full((), self.config.step_size)}
        alphas = {
            name: self._positive(raw)
            for name, raw in learned.items()
            if name.startswith("step_size")
        }
        names = OPTIMIZERS[self.config.optimizer].coefficients
        return alphas | {name: torch.sigmoid(learned[f"logit.{name}"]) for name in names}

    def harden(self, learned: Params) -> Params:
        """Return the learned tensors as they are: there is no choice to make."""
        return learned

    def optimizer(self, learned: Params) -> str:
        """Return the configured optimizer's name."""
        return self.config.optimizer

    def _init_step_sizes(self, adapted: Params) -> Params:
        config, like = self.config, next(iter(adapted.values()))
        raw = {
            "exp": lambda alpha: math.log(alpha),
            "softplus": lambda alpha: alpha + math.log(-math.expm1(-alpha)),
            "none": lambda alpha: alpha,
        }[config.positive](config.step_size)
        lead = (max(1, config.steps),) if config.per_step else ()
        if config.form == "scalar":
            sizes = {"step_size": like.new_full(lead, raw)}
        else:
            sizes = {
                f"step_size.{name}": value.new_full(
                    (*lead, *(value.shape if config.form == "parameter" else ())), raw
                )
                for name, value in adapted.items()
            }
        starts = OPTIMIZERS[config.optimizer].coefficients
        return sizes | {
            f"logit.{name}": like.new_full((), logit(value)) for name, value in starts.items()
        }

    def _coefficients(self, learned: Params, like: Tensor) -> dict[str, Coefficient]:
        starts = OPTIMIZERS[self.config.optimizer].coefficients
        if self.config.learn_step_size:
            return {name: Coefficient(learned[f"logit.{name}"]) for name in starts}
        return {name: Coefficient(torch.full_like(like, logit(v))) for name, v in starts.items()}

    def _adjusted(
        self, learned: Params, k: int, phi: Params, gradient: Params, loss: Tensor
    ) -> dict[str, tuple[Tensor, Tensor]]:
        if self.config.schedule != "learned":
            return {}
        return schedules.learned(learned, k, max(1, self.config.steps), loss, phi, gradient)

    def _alpha(self, learned: Params, name: str, k: int) -> Tensor | float:
        trained = max(1, self.config.steps)
        scale = 1.0 if k < trained else self.config.extra_step_scale
        scale *= schedules.factor(self.config, k)
        if not self.config.learn_step_size:
            return scale * self.config.step_size
        raw = learned["step_size" if self.config.form == "scalar" else f"step_size.{name}"]
        if self.config.per_step:
            raw = raw[min(k, trained - 1)]
        return scale * self._positive(raw)

    def _positive(self, raw: Tensor) -> Tensor:
        match self.config.positive:
            case "exp":
                return torch.exp(raw)
            case "softplus":
                return F.softplus(raw)
            case _:
                return raw


def adapted_names(adapts: str, params: Params) -> list[str]:
    """Return the names of the parameters that inner steps adapt, in the order of ``params``.

    ``head``: the last layer (ANIL, Raghu et al. 2020, "Rapid Learning or Feature Reuse?"). It has
    every tensor of the module that owns the last weight (two or more dimensions) in the order of
    registration, and ``log_std``: a Gaussian policy's log-std is part of the action distribution,
    not of the representation, and exploration must be able to shrink after adaptation.

    ``context``: tensors named ``context`` (CAVIA, Zintgraf et al. 2019).

    Raises:
        InputError: if there is no such parameter.
    """
    if adapts == "all":
        return list(params)
    if adapts == "context":
        names = [name for name in params if name.rpartition(".")[2] == "context"]
        expected = "a parameter named 'context' (--network.context SIZE)"
    else:
        weights = [name for name, value in params.items() if value.ndim >= 2]
        layer = weights[-1].rpartition(".")[0] if weights else None
        names = [
            name
            for name in params
            if weights
            and (
                name == weights[-1]
                or (layer and name.rpartition(".")[0] == layer)
                or name.rpartition(".")[2] == "log_std"
            )
        ]
        expected = "a layer with a weight of two or more dimensions"
    if not names:
        raise InputError(
            f"inner.adapts: {adapts!r} expected {expected}, got parameters {', '.join(params)}."
        )
    return names
