"""Settings of how fast a run is and how much memory it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from meta_rl.config.checks import require_if_given, require_types
from meta_rl.config.data import EpisodesConfig
from meta_rl.errors import require

if TYPE_CHECKING:
    from meta_rl.config.effects import Conditions, Facts
    from meta_rl.config.run import Config


@dataclass(frozen=True, kw_only=True)
class SpeedConfig:
    """Time and memory: how an iteration is computed."""

    tasks_at_once: int | None = None
    """Tasks walked together by vmap: all (none given), so many at a time, or 1 for a loop."""
    recorded: bool = False
    """Record the operations of the meta-gradient, and of the policy while sampling, once for every
    shape (the first 16) and run these from then on: the same bits with less Python. Recording takes
    a second for plain MAML, five to ten or more with learned rules or convolutions; it pays in long
    runs of small networks. ProMP's epochs and MAML++'s weighted steps are not recorded."""
    members_at_once: int | None = None
    """Members of a population (of an evolution strategy: of one sign) tried together: all (none
    given), or so many at a time to save memory. On episodes, those of one time get different random
    numbers, and those of another time the same again."""
    workers: int = 0
    """Processes that step single environments; 0 steps them in this one. Families with a batched
    backend need none."""

    def __post_init__(self):
        require_types(self, "speed")
        require_if_given("speed.tasks_at_once", "1 or more", self.tasks_at_once)
        require_if_given("speed.members_at_once", "1 or more", self.members_at_once)
        require(self.workers >= 0, "speed.workers", "0 or more", self.workers)

    def conditions(self, run: Config, facts: Facts) -> Conditions:
        """When settings act that do not always; see :mod:`meta_rl.config.effects`."""
        episodes = isinstance(run.data, EpisodesConfig)
        return [
            (
                "speed.recorded",
                episodes or run.outer.differentiates,
                "where a meta-gradient is taken, or a policy samples episodes",
            ),
            (
                "speed.members_at_once",
                run.outer.populated,
                "with an outer step that tries a population (--algorithm es-maml or ga-maml)",
            ),
            (
                "speed.workers",
                episodes and facts.single_environments is not False,
                "for families of single environments; this one steps all of them at once",
            ),
        ]
