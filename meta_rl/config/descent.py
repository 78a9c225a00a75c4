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
    """Trust region: maximum mean KL between the old and the new adapted policies, in nats."""
    cg_iterations: int = 10
    """Maximum number of conjugate-gradient iterations for the natural gradient."""
    cg_progress: float = 0.01
    """Conjugate-gradient tolerance: a fraction of the decrease predicted so far.
    Stop once an iteration adds less. Navigation mostly needs 5 to 8 of 10, the half-cheetah all."""
    damping: float = 1e-5
    """Number added to the curvature's diagonal."""
    backtrack_ratio: float = 0.8
    """Factor that shortens the step each time the line search rejects it."""
    backtracks: int = 15
    """Step lengths that the line search tries before it gives the step up."""
    curvature_fraction: float = 1.0
    """Fraction of each task's episodes used for curvature products; the gradient uses all."""

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
        """Return whether each setting acts in this run; see :mod:`meta_rl.config.effects`."""
        return [
            (
                "outer.cg_progress",
                self.cg_iterations > 1,
                "with several iterations (--outer.cg-iterations 2 or more)",
            ),
            (
                "outer.backtrack_ratio",
                self.backtracks > 1,
                "with several step lengths (--outer.backtracks 2 or more)",
            ),
        ]

    def refuse(self, run: Config) -> None:
        """Refuse supervised data: the step needs a policy.

        Raises:
            InputError: saying why, and what to do.
        """
        super().refuse(run)
        refuse_without_policy(self, run)


@dataclass(frozen=True, kw_only=True)
class GradientConfig(OuterConfig):
    """Settings common to the outer steps that descend a gradient with Adam."""

    learning_rate: float = 1e-3
    """Learning rate of the initialization theta."""
    step_size_learning_rate: float | None = None
    """Learning rate of the inner rule's own parameters; if not given, as for theta."""
    max_grad_norm: float | None = None
    """Maximum norm of the meta-gradient, which is scaled down to it; no limit if not given."""

    def __post_init__(self):
        super().__post_init__()
        require(self.learning_rate > 0, "outer.learning_rate", "above 0", self.learning_rate)
        require_if_given("outer.step_size_learning_rate", "above 0", self.step_size_learning_rate)
        require_if_given("outer.max_grad_norm", "above 0", self.max_grad_norm)

    def conditions(self, run: Config, facts: Facts) -> Conditions:
        """Return whether each setting acts in this run; see :mod:`meta_rl.config.effects`."""
        return [of_learned_rules(run)]


BASES = (OuterConfig, GradientConfig)
"""Abstract classes: only their subclasses are settings of an outer step."""


@dataclass(frozen=True, kw_only=True)
class AdamConfig(GradientConfig):
    """Outer step by Adam on the meta-gradient. Options of MAML++: annealing, multi-step loss."""

    final_learning_rate: float | None = None
    """Learning rate at the end of the run, reached along a cosine; constant if not given."""
    multi_step_fraction: float = 0.0
    """Fraction of the run with MAML++'s multi-step loss (Antoniou et al. 2019).
    The losses after all inner steps count, evenly at first and only the last one in the end.
    For supervised families."""

    def __post_init__(self):
        super().__post_init__()
        require_if_given("outer.final_learning_rate", "above 0", self.final_learning_rate)
        share = self.multi_step_fraction
        require(0 <= share <= 1, "outer.multi_step_fraction", "between 0 and 1", share)

    def differentiates_estimator(self, run: Config) -> bool:
        """Return whether the meta-gradient has second derivatives; else all estimators agree."""
        return not run.inner.first_order

    def conditions(self, run: Config, facts: Facts) -> Conditions:
        """Return whether each setting acts in this run; see :mod:`meta_rl.config.effects`."""
        several = "with several inner steps (--inner.steps 2 or more)"
        return [
            *super().conditions(run, facts),
            ("outer.multi_step_fraction", run.inner.steps > 1, several),
            (
                "speed.program",
                run.speed.program == "plain" or self.multi_step_fraction < 1,
                "with --outer.multi-step-fraction < 1",
            ),
        ]

    def refuse(self, run: Config) -> None:
        """Refuse also a multi-step loss on episodes, which the last inner step's policy sampled.

        Raises:
            InputError: saying why, and what to do.
        """
        super().refuse(run)
        if self.multi_step_fraction and isinstance(run.data, EpisodesConfig):
            raise InputError(
                "outer.multi_step_fraction: expected 0 with environments, got "
                f"{self.multi_step_fraction}. The policy after the last inner step "
                "sampled the query episodes; they say nothing about earlier steps."
            )


@dataclass(frozen=True, kw_only=True)
class ProMPConfig(GradientConfig):
    """Outer steps by Adam on a clipped ratio with a KL penalty (Rothfuss et al. 2019)."""

    epochs: int = 5
    """Adam steps on the data of one iteration; each step adapts again."""
    clip: float = 0.3
    """Clip range, as in PPO: ratios of the adapted policies to the stored ones gain nothing
    outside 1 - clip to 1 + clip."""
    kl_coefficient: float = 5e-4
    """eta, weight of the KL from each inner step's stored policy to the recomputed one."""
    kl_target: float | None = None
    """Target of this KL: double eta above 1.5 * target, halve eta below target / 1.5.
    If not given, eta is fixed."""

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
        """Return whether each setting acts in this run; nothing has moved in a first epoch."""
        names = ("outer.clip", "outer.kl_coefficient", "outer.kl_target")
        several = "with several epochs (--outer.epochs 2 or more)"
        return [
            *super().conditions(run, facts),
            *((name, self.epochs > 1, several) for name in names),
        ]

    def refuse(self, run: Config) -> None:
        """Refuse runs that have no policy, no inner steps, or no likelihood ratio as estimator.

        Raises:
            InputError: saying why, and what to do.
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
    """epsilon: fraction of the way to the mean of phi, with sgd; or Adam's learning rate."""
    optimizer: Literal["sgd", "adam"] = "sgd"
    """sgd: move that fraction of the way. adam: give theta - mean phi to Adam as a gradient."""
    linear_decay: bool = False
    """Lower the learning rate linearly to 0 over the run's iterations."""

    def __post_init__(self):
        super().__post_init__()
        require(self.learning_rate > 0, "outer.learning_rate", "above 0", self.learning_rate)

    def refuse(self, run: Config) -> None:
        """Refuse runs without inner steps, or whose rule learns.

        Raises:
            InputError: saying why, and what to do.
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
                "outer gradient for step sizes to descend. Give --inner.no-learn-step-size, "
                "or use AdamConfig."
            )
