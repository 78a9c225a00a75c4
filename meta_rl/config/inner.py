"""Settings of the inner loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from meta_rl.config.checks import require_types
from meta_rl.errors import InputError, require

if TYPE_CHECKING:
    from meta_rl.config.effects import Conditions, Facts
    from meta_rl.config.run import Config


@runtime_checkable
class MakesRule(Protocol):
    """A subclass of :class:`InnerConfig` of your own, which makes its own update rule."""

    def make_rule(self, seed: int = 0) -> Any:
        """Return the update rule of these settings, a :class:`meta_rl.inner.rules.Rule`.

        Args:
            seed: seed of the numbers that the rule draws at its start.
        """
        ...


OF_STEPS = (
    *("step_size", "form", "per_step", "extra_step_scale", "positive", "optimizer"),
    *("gradient_scale", "schedule", "decay", "adapts", "first_order", "queries", "sigma"),
)
"""Settings of the inner steps' update rule."""


@dataclass(frozen=True, kw_only=True)
class InnerConfig:
    """The inner loop: K steps of an update rule, whose own numbers may be meta-learned."""

    method: Literal["gradient", "es", "hill-climbing", "memory"] = "gradient"
    """gradient: follow the loss's gradient. hill-climbing: take the best of random neighbours.
    es: follow a gradient that an evolution strategy estimates from scores.
    es and hill-climbing need an outer step that takes no gradient either.
    memory: play episodes, which a recurrent policy remembers; only for --algorithm rl2 or
    varibad."""

    steps: int = 1
    """K, inner steps on each task during meta-training; with rl2 and varibad, a trial
    has K + 1 episodes."""
    step_size: float = 0.1
    """alpha, step size of the inner steps at the start of meta-training."""
    learn_step_size: bool = True
    """Meta-learn the step sizes and the optimizer's coefficients; if not, the step size stays as
    given and the coefficients have their usual values."""
    form: Literal["scalar", "tensor", "parameter"] = "scalar"
    """scalar: one step size for all. tensor: one per tensor. parameter: one each (Meta-SGD)."""
    per_step: bool = False
    """Use separate step sizes for each of the K steps (LSLR)."""
    extra_step_scale: float = 1.0
    """Factor on the last step size, for inner steps beyond the K trained ones."""
    positive: Literal["exp", "softplus", "none"] = "exp"
    """Function that keeps a learned step size above 0; none lets it change sign, as in Meta-SGD."""
    optimizer: Literal["sgd", "momentum", "rmsprop", "adam", "mixture"] = "sgd"
    """Optimizer of the inner steps. mixture: meta-learn which of the other four to take."""
    gradient_scale: float = 0.01
    """With optimizer mixture: root mean square of a gradient's entries expected at the start.
    For such gradients, the first steps of all four optimizers are equally long.
    About 0.005 in the environments here, 0.17 for the sinusoid."""
    schedule: Literal["constant", "inverse-sqrt", "exponential", "learned"] = "constant"
    """Factor on the step size in step k, counted from 0.
    constant: 1. inverse-sqrt: 1/sqrt(k+1). exponential: --inner.decay to the power k.
    learned: a small network gives each tensor a factor, and a decay of its values, from the step,
    the loss, the gradient and the values (ALFA)."""
    decay: float = 0.5
    """Decay of the step size per inner step, with schedule exponential."""
    adapts: Literal["all", "head", "context"] = "all"
    """Parameters that inner steps change. all: all.
    head: the last layer and a policy's log-std (ANIL).
    context: a vector beside the network's input (CAVIA; --network.context sets its size)."""
    first_order: bool = False
    """Treat the inner gradients as constants in the outer gradient (FOMAML)."""
    queries: int = 20
    """Q, directions tried in an inner step, with method es or hill-climbing."""
    sigma: float = 0.1
    """Distance along a direction at which parameters are tried, with method es."""

    def __post_init__(self):
        require_types(self, "inner")
        require(self.steps >= 0, "inner.steps", "0 or more", self.steps)
        positive = self.step_size > 0 or self.positive == "none"
        require(positive, "inner.step_size", "above 0 (or --inner.positive none)", self.step_size)
        require(
            self.extra_step_scale > 0, "inner.extra_step_scale", "above 0", self.extra_step_scale
        )
        require(self.gradient_scale > 0, "inner.gradient_scale", "above 0", self.gradient_scale)
        require(0 < self.decay <= 1, "inner.decay", "above 0, at most 1", self.decay)
        require(self.queries > 0, "inner.queries", "1 or more", self.queries)
        require(self.sigma > 0, "inner.sigma", "above 0", self.sigma)
        stateful = self.optimizer != "sgd" or self.schedule == "learned"
        if self.method == "hill-climbing" and stateful:
            raise InputError(
                "inner.optimizer: hill-climbing tries phi - alpha * noise, whose size only alpha "
                f"sets; expected sgd and no learned schedule, got {self.optimizer!r} and "
                f"{self.schedule!r}. Use --inner.method es with them."
            )
        shaped = self.form != "scalar" or self.per_step
        if shaped and not self.learn_step_size:
            raise InputError(
                "inner.learn_step_size: expected True if step sizes have a form "
                f"({self.form!r}) or differ between steps, got False: they would all stay equal. "
                "Leave out --inner.form and --inner.per-step."
            )

    @property
    def learns(self) -> bool:
        """Return whether the outer loop learns numbers of the update rule."""
        learned = self.learn_step_size or self.schedule == "learned" or self.optimizer == "mixture"
        return learned or isinstance(self, MakesRule)

    def conditions(self, run: Config, facts: Facts) -> Conditions:
        """Return whether each setting acts in this run; see :mod:`meta_rl.config.effects`.

        Override this in a class of your own that uses settings otherwise.
        """
        if self.method == "memory":
            needs = "on inner steps, which rl2 and varibad have none of"
            return [(f"inner.{name}", False, needs) for name in OF_STEPS]
        signed = self.positive == "none" and self.step_size <= 0
        return [
            (
                "inner.positive",
                self.learn_step_size or signed,
                "on step sizes that are learned (--inner.learn-step-size)",
            ),
            (
                "inner.gradient_scale",
                self.optimizer == "mixture",
                "with --inner.optimizer mixture",
            ),
            ("inner.decay", self.schedule == "exponential", "with --inner.schedule exponential"),
            (
                "inner.queries",
                self.method in ("es", "hill-climbing"),
                "with --inner.method es or hill-climbing",
            ),
            ("inner.sigma", self.method == "es", "with --inner.method es"),
            (
                "inner.per_step",
                self.steps > 1,
                "with several inner steps (--inner.steps 2 or more)",
            ),
            ("inner.first_order", self.steps > 0, "with inner steps (--inner.steps 1 or more)"),
        ]
