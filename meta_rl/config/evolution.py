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
    """n, antithetic pairs tried in an iteration: 2 n members."""
    sigma: float = 0.1
    """Standard deviation of the perturbations of theta and of the rule's own parameters."""
    learning_rate: float = 0.01
    """For the initialization theta."""
    step_size_learning_rate: float | None = None
    """For the inner rule's own parameters; the same as for theta when not given."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """What ascends the estimated gradient."""
    shaping: Literal["rank", "standardize", "none"] = "rank"
    """Fitness as centred ranks, with mean 0 and standard deviation 1, or as it is."""

    def __post_init__(self):
        super().__post_init__()
        require(self.population > 0, "outer.population", "1 or more", self.population)
        require(self.sigma > 0, "outer.sigma", "above 0", self.sigma)
        require(self.learning_rate > 0, "outer.learning_rate", "above 0", self.learning_rate)
        require_if_given("outer.step_size_learning_rate", "above 0", self.step_size_learning_rate)

    def conditions(self, run: Config, facts: Facts) -> Conditions:
        """When settings act that do not always; see :mod:`meta_rl.config.effects`."""
        return [of_learned_rules(run)]

    def refuse(self, run: Config) -> None:
        """Any inner loop will do, but for one that asks for half of a gradient.

        Raises:
            InputError: with the reason, and what to do.
        """
        refuse_what_needs_a_gradient(self, run)


@dataclass(frozen=True, kw_only=True)
class GeneticConfig(OuterConfig):
    """Outer step by a genetic algorithm over (theta, rule) (Such et al. 2017)."""

    differentiates = False
    populated = True

    population: int = 64
    """P, members."""
    sigma: float = 0.02
    """Standard deviation of a mutation, for theta and for the rule's own parameters."""
    selection: Literal["truncation", "tournament"] = "truncation"
    """Parents are drawn evenly from the best few, or each is the best of a few drawn evenly."""
    parents: int = 16
    """For truncation: how many of the best may have children."""
    tournament: int = 3
    """For tournaments: members in one."""
    elites: int = 1
    """The best so many enter the next generation as they are."""
    crossover: float = 0.0
    """Probability that a child takes each number from either of two parents."""

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
        """When settings act that do not always; see :mod:`meta_rl.config.effects`."""
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
        """Any inner loop will do, but for one that asks for half of a gradient.

        Raises:
            InputError: with the reason, and what to do.
        """
        refuse_what_needs_a_gradient(self, run)
