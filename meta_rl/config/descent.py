"""Settings of the outer steps that descend: TRPO, Adam, ProMP and Reptile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from meta_rl.config.checks import require_if_given
from meta_rl.config.data import EpisodesConfig
from meta_rl.config.outer import (
    OuterConfig,
    of_learned_rules,
    refuse_what_needs_a_gradient,
    refuse_without_policy,
    refuse_without_steps,
)
from meta_rl.errors import InputError, require

if TYPE_CHECKING:
    from meta_rl.config.effects import Conditions, Facts
    from meta_rl.config.run import Config


@dataclass(frozen=True, kw_only=True)
class TRPOConfig(OuterConfig):
    """Outer step within a KL trust region (Schulman et al. 2015; Finn et al. 2017)."""

    max_kl: float = 0.01
    """Trust region: mean KL of the adapted policies, in nats."""
    cg_iterations: int = 10
    """Conjugate-gradient iterations for the natural gradient, at most."""
    cg_progress: float = 0.01
    """They end with one that adds less than this share to the decrease predicted so far. Navigation
    mostly needs 5 to 8 of 10, the half-cheetah all."""
    damping: float = 1e-5
    """Added to the curvature's diagonal."""
    backtrack_ratio: float = 0.8
    """Each rejected line-search trial shrinks the step by this."""
    backtracks: int = 15
    """Line-search trials before the step is given up."""
    curvature_fraction: float = 1.0
    """Share of each task's episodes used for curvature products (never for the gradient)."""

    def __post_init__(self):
        super().__post_init__()
        require(self.max_kl > 0, "outer.max_kl", "above 0", self.max_kl)
        require(self.cg_iterations > 0, "outer.cg_iterations", "1 or more", self.cg_iterations)
        require(0 <= self.cg_progress < 1, "outer.cg_progress", "0 to 1", self.cg_progress)
        require(self.damping >= 0, "outer.damping", "0 or more", self.damping)
        ratio = self.backtrack_ratio
        require(0 < ratio < 1, "outer.backtrack_ratio", "between 0 and 1", ratio)
        require(self.backtracks > 0, "outer.backtracks", "1 or more", self.backtracks)
        share = self.curvature_fraction
        require(0 < share <= 1, "outer.curvature_fraction", "above 0, at most 1", share)

    def conditions(self, run: Config, facts: Facts) -> Conditions:
        """When settings act that do not always; see :mod:`meta_rl.config.effects`."""
        return [
            (
                "outer.cg_progress",
                self.cg_iterations > 1,
                "with several iterations (--outer.cg-iterations 2 or more)",
            ),
            (
                "outer.backtrack_ratio",
                self.backtracks > 1,
                "with several trials (--outer.backtracks 2 or more)",
            ),
        ]

    def refuse(self, run: Config) -> None:
        """It needs a policy.

        Raises:
            InputError: with the reason, and what to do.
        """
        super().refuse(run)
        refuse_without_policy(self, run)


@dataclass(frozen=True, kw_only=True)
class GradientConfig(OuterConfig):
    """What the outer steps that descend a gradient by Adam have in common."""

    learning_rate: float = 1e-3
    """For the initialization theta."""
    step_size_learning_rate: float | None = None
    """For the inner rule's own parameters; the same as for theta when not given."""
    max_grad_norm: float | None = None
    """Meta-gradients longer than this are scaled down to it."""

    def __post_init__(self):
        super().__post_init__()
        require(self.learning_rate > 0, "outer.learning_rate", "above 0", self.learning_rate)
        require_if_given("outer.step_size_learning_rate", "above 0", self.step_size_learning_rate)
        require_if_given("outer.max_grad_norm", "above 0", self.max_grad_norm)

    def conditions(self, run: Config, facts: Facts) -> Conditions:
        """When settings act that do not always; see :mod:`meta_rl.config.effects`."""
        return [of_learned_rules(run)]


BASES = (OuterConfig, GradientConfig)
"""Classes that no outer step has; only their subclasses have one."""


@dataclass(frozen=True, kw_only=True)
class AdamConfig(GradientConfig):
    """Outer step by Adam on the meta-gradient; with what MAML++ adds, if wanted."""

    final_learning_rate: float | None = None
    """Where the learning rates end, falling along a cosine over the run; constant if none."""
    multi_step_fraction: float = 0.0
    """Share of the run in which the losses after all inner steps count, evenly at first, and the
    last one's alone in the end (Antoniou et al. 2019). For supervised families."""

    def __post_init__(self):
        super().__post_init__()
        require_if_given("outer.final_learning_rate", "above 0", self.final_learning_rate)
        share = self.multi_step_fraction
        require(0 <= share <= 1, "outer.multi_step_fraction", "between 0 and 1", share)

    def differentiates_estimator(self, run: Config) -> bool:
        """Data are used once, where they were drawn: the second derivative is all that differs."""
        return not run.inner.first_order

    def conditions(self, run: Config, facts: Facts) -> Conditions:
        """When settings act that do not always; see :mod:`meta_rl.config.effects`."""
        several = "with several inner steps (--inner.steps 2 or more)"
        return [
            *super().conditions(run, facts),
            ("outer.multi_step_fraction", run.inner.steps > 1, several),
            (
                "speed.recorded",
                self.multi_step_fraction < 1,
                "with --outer.multi-step-fraction < 1",
            ),
        ]

    def refuse(self, run: Config) -> None:
        """The losses after earlier inner steps need query data that fit them.

        Raises:
            InputError: with the reason, and what to do.
        """
        super().refuse(run)
        if self.multi_step_fraction and isinstance(run.data, EpisodesConfig):
            raise InputError(
                "outer.multi_step_fraction: expected 0 with environments, got "
                f"{self.multi_step_fraction}. The query episodes are those of the last inner "
                "step's policy and say nothing of the earlier ones."
            )


@dataclass(frozen=True, kw_only=True)
class ProMPConfig(GradientConfig):
    """Outer steps by Adam on a clipped ratio with a KL penalty (Rothfuss et al. 2019)."""

    epochs: int = 5
    """Steps of Adam on the data of one iteration; adaptation is recomputed in each."""
    clip: float = 0.3
    """Ratios of the adapted policies to the stored ones gain nothing beyond 1 - clip, 1 + clip."""
    kl_coefficient: float = 5e-4
    """eta, weight of the KL from the stored policy of each inner step to the recomputed one."""
    kl_target: float | None = None
    """Double eta where that KL is above 1.5 times this, halve it below 1 / 1.5; fixed if none."""

    def __post_init__(self):
        super().__post_init__()
        require(self.epochs > 0, "outer.epochs", "1 or more", self.epochs)
        require(0 < self.clip < 1, "outer.clip", "between 0 and 1", self.clip)
        target, eta = self.kl_target, self.kl_coefficient
        require_if_given("outer.kl_target", "above 0", target)
        grows = eta > 0 or (eta == 0 and target is None)
        expected = "0 or more (above 0 with outer.kl_target: 0 cannot be doubled)"
        require(grows, "outer.kl_coefficient", expected, eta)

    def conditions(self, run: Config, facts: Facts) -> Conditions:
        """When settings act that do not always; in the first epoch nothing has moved yet."""
        names = ("outer.clip", "outer.kl_coefficient", "outer.kl_target")
        several = "with several epochs (--outer.epochs 2 or more)"
        return [
            *super().conditions(run, facts),
            *((name, self.epochs > 1, several) for name in names),
        ]

    def refuse(self, run: Config) -> None:
        """It needs a policy, inner steps, and the likelihood ratio to the stored policy.

        Raises:
            InputError: with the reason, and what to do.
        """
        super().refuse(run)
        refuse_without_policy(self, run)
        refuse_without_steps(self, run)
        data = run.data
        if isinstance(data, EpisodesConfig) and (
            data.estimator != "likelihood-ratio" or data.exploration
        ):
            raise InputError(
                "data.estimator: ProMP's epochs need the likelihood ratio to the stored "
                f"policy and no exploration term; got {data.estimator!r} and "
                f"{data.exploration}. Use TRPOConfig or AdamConfig."
            )


@dataclass(frozen=True, kw_only=True)
class ReptileConfig(OuterConfig):
    """Outer step towards the mean of the adapted parameters (Nichol et al. 2018)."""

    differentiates = False

    learning_rate: float = 0.1
    """epsilon, the share of the way to go; or Adam's learning rate."""
    optimizer: Literal["sgd", "adam"] = "sgd"
    """Go that share of the way, or give theta - mean phi to Adam as a gradient."""
    linear_decay: bool = False
    """Lower the learning rate linearly to 0 over the run's iterations."""

    def __post_init__(self):
        super().__post_init__()
        require(self.learning_rate > 0, "outer.learning_rate", "above 0", self.learning_rate)

    def refuse(self, run: Config) -> None:
        """It needs inner steps, and a rule that learns nothing.

        Raises:
            InputError: with the reason, and what to do.
        """
        super().refuse(run)
        refuse_without_steps(self, run)
        refuse_what_needs_a_gradient(self, run)
        learned = run.inner.optimizer == "mixture" or run.inner.schedule == "learned"
        if learned or run.inner.adapts != "all":
            raise InputError(
                "inner: Reptile learns only what adapts, and no rule: expected a fixed optimizer "
                "and schedule and adapts 'all'. Use AdamConfig."
            )
        if run.inner.learn_step_size:
            raise InputError(
                "inner.learn_step_size: expected False with Reptile, got True. Reptile has no "
                "outer gradient that step sizes could descend. Give --inner.no-learn-step-size, "
                "or use AdamConfig."
            )
