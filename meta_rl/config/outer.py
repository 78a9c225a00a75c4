"""Common base of outer steps' settings, each of which refuses runs that it does not fit.

:mod:`meta_rl.from_settings` makes the outer step of each class. For a step of your own, derive a
class from :class:`OuterConfig` or a subclass, with a method ``make`` (:class:`MakesStep`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from meta_rl.config.checks import require_types
from meta_rl.config.data import EpisodesConfig, ShotsConfig
from meta_rl.errors import InputError

if TYPE_CHECKING:
    from meta_rl.config.effects import Conditions, Facts
    from meta_rl.config.run import Config


@runtime_checkable
class MakesStep(Protocol):
    """A settings class of your own, which makes its own outer step."""

    def make(self, inner: Any, meta: Any, problem: Any, run: Config) -> Any:
        """Return the outer step of these settings, which changes ``meta`` in place.

        Args:
            inner: the inner loop, a :class:`meta_rl.inner.core.InnerLoop`.
            meta: leaf tensors, a :class:`meta_rl.types.MetaParameters`.
            problem: the problem to learn, a :class:`meta_rl.problem.Problem`. If
                :meth:`OuterConfig.refuse` asks for a policy, it has ``distribution`` and
                ``policy_loss`` too.
            run: all settings of the run.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class OuterConfig:
    """Settings of an outer step."""

    differentiates = True  # whether it takes a gradient through the inner loop
    populated = False  # whether it tries the members of a population

    def __post_init__(self):
        require_types(self, "outer")

    def differentiates_estimator(self, run: Config) -> bool:
        """Return whether the choice of gradient estimator changes the outer step.

        It does if more of the inner loss counts than its first derivative at the policy that
        drew the data.
        """
        return self.differentiates

    def conditions(self, run: Config, facts: Facts) -> Conditions:
        """Return whether each setting acts in this run; see :mod:`meta_rl.config.effects`."""
        return []

    def refuse(self, run: Config) -> None:
        """Refuse runs that this outer step does not fit.

        Unless overridden, refuses inner steps without a gradient.

        Raises:
            InputError: saying why, and what to do.
        """
        if run.inner.method != "gradient":
            raise InputError(
                f"inner.method: {run.inner.method} adapts without a gradient, so "
                f"{type(self).__name__} has nothing to differentiate through. Use "
                "EvolutionConfig or GeneticConfig as the outer step, or --inner.method gradient."
            )


def of_learned_rules(run: Config) -> tuple[str, bool, str]:
    """Return under which condition the learning rate of the inner rule's parameters acts."""
    return (
        "outer.step_size_learning_rate",
        run.inner.learns,
        "on what the inner rule learns (--inner.learn-step-size)",
    )


def _name(outer: OuterConfig) -> str:
    return type(outer).__name__.removesuffix("Config")


def refuse_without_policy(outer: OuterConfig, run: Config) -> None:
    """Refuse supervised data: their networks have no action distribution.

    Raises:
        InputError: saying why, and what to do.
    """
    if isinstance(run.data, ShotsConfig):
        raise InputError(
            f"outer: {_name(outer)} needs a policy's action distribution; supervised families have "
            "none. Use AdamConfig or ReptileConfig."
        )


def refuse_without_steps(outer: OuterConfig, run: Config) -> None:
    """Refuse a run without inner steps.

    Raises:
        InputError: saying why, and what to do.
    """
    if run.inner.steps == 0:
        raise InputError(
            f"inner.steps: expected 1 or more with {_name(outer)}, got 0. Its outer step "
            "needs inner steps. Use TRPOConfig or AdamConfig to learn without adapting."
        )


def refuse_what_needs_a_gradient(outer: OuterConfig, run: Config) -> None:
    """Refuse settings of a meta-gradient, for an outer step that takes none.

    Raises:
        InputError: saying why, and what to do.
    """
    if run.inner.method == "memory":
        raise InputError(
            f"inner.method: {type(outer).__name__} adapts parameters; memory is for RL2. Give "
            "--algorithm rl2, or --inner.method gradient."
        )
    if run.inner.first_order:
        raise InputError(
            f"inner.first_order: {type(outer).__name__} takes no gradient through the "
            "inner loop, so there is none to cut short. Leave it out."
        )
    data = run.data
    if isinstance(data, EpisodesConfig) and (data.estimator == "dice" or data.exploration):
        raise InputError(
            f"data.estimator: {type(outer).__name__} takes no gradient through the inner loop, "
            f"which {data.estimator!r} and an exploration term of {data.exploration:g} are for. "
            "Leave them out."
        )
