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
    """Settings of your own, a subclass of :class:`InnerConfig`, which make their own rule."""

    def make_rule(self, seed: int = 0) -> Any:
        """Return the update rule of these settings, a :class:`meta_rl.inner.rules.Rule`.

        Args:
            seed: of what the rule draws at its start.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class InnerConfig:
    """The inner loop: K steps of an update rule whose own numbers may be meta-learned."""

    method: Literal["gradient", "es", "hill-climbing"] = "gradient"
    """What an inner step follows: the loss's gradient, the gradient an evolution strategy
    estimates from scores, or the best of random neighbours. The latter two need an outer step that
    takes no gradient either."""

    steps: int = 1
    """K, gradient steps taken when adapting to a task during meta-training."""
    step_size: float = 0.1
    """alpha, its value at the start of meta-training."""
    learn_step_size: bool = True
    """Whether the outer loop learns the step sizes, and the optimizer's coefficients, too;
    otherwise they stay as given."""
    form: Literal["scalar", "tensor", "parameter"] = "scalar"
    """One step size in all, one per tensor, or one per parameter (Meta-SGD)."""
    per_step: bool = False
    """Separate step sizes for each of the K steps (LSLR)."""
    extra_step_scale: float = 1.0
    """Steps beyond the K trained ones take the last step size times this."""
    positive: Literal["exp", "softplus", "none"] = "exp"
    """What keeps a learned step size above zero; ``none`` lets it change sign, as in Meta-SGD."""
    optimizer: Literal["sgd", "momentum", "rmsprop", "adam", "mixture"] = "sgd"
    """Direction of a step. ``mixture`` learns which of the four to take."""
    gradient_scale: float = 0.01
    """Mixture: root mean square of a gradient's entries expected at the start, for which the first
    steps of all four are equally long. About 0.005 in our environments, 0.17 for the sinusoid."""
    schedule: Literal["constant", "inverse-sqrt", "exponential", "learned"] = "constant"
    """What step k (from 0) multiplies the step size by: 1, 1/sqrt(k+1), decay^k, or a small network
    of the step, loss, gradient and value, which decays parameters too (ALFA)."""
    decay: float = 0.5
    """Of the exponential schedule."""
    adapts: Literal["all", "head", "context"] = "all"
    """What inner steps move: everything, the last layer and a policy's log-std (ANIL), or a context
    vector beside the network's input (CAVIA; give --network.context its size)."""
    first_order: bool = False
    """Treat the inner gradients as constants in the outer gradient (FOMAML)."""
    queries: int = 20
    """Q, for es and hill-climbing: directions tried in an inner step."""
    sigma: float = 0.1
    """For es: how far along a direction parameters are tried."""

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
                "inner.optimizer: hill-climbing tries phi - alpha * noise, whose size alpha alone "
                f"is to say; expected sgd and no learned schedule, got {self.optimizer!r} and "
                f"{self.schedule!r}. Use --inner.method es with them."
            )
        shaped = self.form != "scalar" or self.per_step
        if shaped and not self.learn_step_size:
            raise InputError(
                "inner.learn_step_size: expected True where step sizes have a form "
                f"({self.form!r}) or differ between steps, got False: they would all stay equal. "
                "Leave out --inner.form and --inner.per-step."
            )

    @property
    def learns(self) -> bool:
        """Whether the rule has numbers of its own that the outer loop learns."""
        learned = self.learn_step_size or self.schedule == "learned" or self.optimizer == "mixture"
        return learned or isinstance(self, MakesRule)

    def conditions(self, run: Config, facts: Facts) -> Conditions:
        """When settings act that do not always; see :mod:`meta_rl.config.effects`.

        A class of your own that uses them otherwise returns its own list.
        """
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
                self.method != "gradient",
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
