"""Inner update rules: how a task's gradient changes its parameters.

Their own numbers (step sizes) are ordinary tensors beside theta, learned by the same outer loss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from meta_rl.config import InnerConfig
from meta_rl.types import Params


class Rule(Protocol):
    """An inner update rule. All methods are pure and see one task (no leading M)."""

    def init(self, theta: Params) -> Params:
        """The rule's learned tensors at the start of meta-training; empty if it learns none."""
        ...

    def start(self, theta: Params) -> Any:
        """What the rule carries from step to step (momentum, for one), at its first step."""
        ...

    def adapts(self, params: Params) -> list[str]:
        """Names of the parameters that move; the others stay as theta has them."""
        ...

    def step(
        self, learned: Params, k: int, phi: Params, gradient: Params, loss: Tensor, state: Any
    ) -> tuple[Params, Any]:
        """Inner step k: the new parameters and the new state.

        Args:
            learned: the rule's own tensors.
            k: counted from 0.
            phi: all parameters.
            gradient: of the parameters that :meth:`adapts` names.
            loss: whose gradient it is; a scalar.
            state: from the step before, or :meth:`start`.
        """
        ...

    def step_sizes(self, learned: Params, theta: Params) -> Params:
        """The step sizes in force, for people to look at: a name to a tensor of any shape."""
        ...


@dataclass(frozen=True)
class GradientDescent:
    """``phi <- phi - alpha * gradient`` with a fixed or learned alpha.

    alpha is one scalar (Finn et al. 2017), one per tensor, or one per parameter (Meta-SGD, Li et
    al. 2017), each either shared by the K inner steps or separate for each (LSLR, Antoniou et al.
    2019). The learned tensor is the logarithm of alpha, its inverse softplus, or alpha itself.
    """

    config: InnerConfig

    def init(self, theta: Params) -> Params:
        """``step_size`` or ``step_size.NAME`` tensors, shaped as the form says."""
        if not self.config.learn_step_size:
            return {}
        raw = {
            "exp": lambda alpha: math.log(alpha),
            "softplus": lambda alpha: alpha + math.log(-math.expm1(-alpha)),
            "none": lambda alpha: alpha,
        }[self.config.positive](self.config.step_size)
        lead = (max(1, self.config.steps),) if self.config.per_step else ()
        if self.config.form == "scalar":
            return {"step_size": next(iter(theta.values())).new_full(lead, raw)}
        return {
            f"step_size.{name}": value.new_full(
                (*lead, *(value.shape if self.config.form == "parameter" else ())), raw
            )
            for name, value in theta.items()
        }

    def start(self, theta: Params) -> None:
        """Plain gradient descent carries nothing."""

    def adapts(self, params: Params) -> list[str]:
        """All of them."""
        return list(params)

    def step(
        self, learned: Params, k: int, phi: Params, gradient: Params, loss: Tensor, state: None
    ) -> tuple[Params, None]:
        """``phi - alpha_k * gradient``."""
        stepped = {
            name: value - self._alpha(learned, name, k) * gradient[name]
            for name, value in phi.items()
        }
        return stepped, state

    def step_sizes(self, learned: Params, theta: Params) -> Params:
        """Every alpha in force."""
        if learned:
            return {name: self._positive(raw) for name, raw in learned.items()}
        value = next(iter(theta.values()))
        return {"step_size": value.new_full((), self.config.step_size)}

    def _alpha(self, learned: Params, name: str, k: int) -> Tensor | float:
        trained = max(1, self.config.steps)
        scale = 1.0 if k < trained else self.config.extra_step_scale
        if not learned:
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
