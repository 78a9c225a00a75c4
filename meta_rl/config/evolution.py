"""Settings of the outer steps that take no gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from meta_rl.config.checks import require_if_given
from meta_rl.config.outer import OuterConfig, of_learned_rules, refuse_what_needs_a_gradient
from meta_rl.errors import require

if TYPE_CHECKING:
    from meta_rl.config.effects import Conditions, Facts
    from meta_rl.config.run import Config


@dataclass(frozen=True, kw_only=True)
class EvolutionConfig(OuterConfig):
    """Outer step by an evolution strategy, without a meta-gradient (ES-MAML, Song et al. 2020)."""

    differentiates = False
    populated = True

    population: int = 50
    """n, antithetic pairs per iteration: 2 n population members."""
    sigma: float = 0.1
    """Standard deviation of the perturbations of theta and of the inner rule's parameters."""
    learning_rate: float = 0.01
    """Learning rate of the initialization theta."""
    step_size_learning_rate: float | None = None
    """Learning rate of the inner rule's own parameters; if not given, as for theta."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """Optimizer that ascends the estimated gradient."""
    shaping: Literal["rank", "standardize", "none"] = "rank"
    """rank: use the centred ranks of fitness. none: use fitness as it is.
    standardize: give fitness mean 0 and standard deviation 1."""

    def __post_init__(self):
        super().__post_init__()
        require(self.population > 0, "outer.population", "1 or more", self.population)
        require(self.sigma > 0, "outer.sigma", "above 0", self.sigma)
        require(self.learning_rate > 0, "outer.learning_rate", "above 0", self.learning_rate)
        require_if_given("outer.step_size_learning_rate", "above 0", self.step_size_learning_rate)

    def conditions(self, run: Config, facts: Facts) -> Conditions:
        """Return whether each setting acts in this run; see :mod:`meta_rl.config.effects`."""
        return [of_learned_rules(run)]

    def refuse(self, run: Config) -> None:
        """Refuse settings of a meta-gradient; any inner loop fits otherwise.

        Raises:
            InputError: saying why, and what to do.
        """
        refuse_what_needs_a_gradient(self, run)


@dataclass(frozen=True, kw_only=True)
class GeneticConfig(OuterConfig):
    """Outer step by a genetic algorithm over (theta, rule) (Such et al. 2017)."""

    differentiates = False
    populated = True

    population: int = 64
    """P, population members."""
    sigma: float = 0.02
    """Standard deviation of a mutation of theta and of the inner rule's parameters."""
    selection: Literal["truncation", "tournament"] = "truncation"
    """truncation: draw parents evenly from the best members.
    tournament: take the best of a few evenly drawn members as a parent."""
    parents: int = 16
    """Number of best members that may have children, with truncation."""
    tournament: int = 3
    """Members in a tournament, with tournament selection."""
    elites: int = 1
    """Number of best members that enter the next generation unchanged."""
    crossover: float = 0.0
    """Probability that a child has two parents and takes each number from either of them."""

    def __post_init__(self):
        super().__post_init__()
        total = self.population
        require(total > 1, "outer.population", "2 or more", total)
        require(self.sigma > 0, "outer.sigma", "above 0", self.sigma)
        allowed = f"between 1 and the population, {total}"
        require(0 < self.parents <= total, "outer.parents", allowed, self.parents)
        require(self.tournament > 0, "outer.tournament", "1 or more", self.tournament)
        fewer = f"0 or more and below the population, {total}"
        require(0 <= self.elites < total, "outer.elites", fewer, self.elites)
        require(0 <= self.crossover <= 1, "outer.crossover", "between 0 and 1", self.crossover)

    def conditions(self, run: Config, facts: Facts) -> Conditions:
        """Return whether each setting acts in this run; see :mod:`meta_rl.config.effects`."""
        best = self.selection == "truncation"
        return [
            ("outer.parents", best, "with --outer.selection truncation"),
            ("outer.tournament", not best, "with --outer.selection tournament"),
            (
                "outer.crossover",
                not best or self.parents > 1,
                "with several parents (--outer.parents 2 or more)",
            ),
        ]

    def refuse(self, run: Config) -> None:
        """Refuse settings of a meta-gradient; any inner loop fits otherwise.

        Raises:
            InputError: saying why, and what to do.
        """
        refuse_what_needs_a_gradient(self, run)
