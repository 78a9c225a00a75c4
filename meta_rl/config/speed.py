"""Settings of a run's speed and memory."""

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
    """Speed and memory of an iteration."""

    tasks_at_once: int | None = None
    """Tasks that vmap computes together: all if not given. Fewer save memory; 1 is a loop,
    often fastest for convolutions on a CPU."""
    recorded: bool = False
    """Record the operations of the meta-gradient and of the sampling policy, then replay them.
    This gives the same bits with less Python, and pays in long runs of small networks.
    Each shape is recorded once, for the first 16 shapes. Recording takes a second for plain MAML,
    five to ten seconds or more with learned rules or convolutions.
    ProMP's epochs and MAML++'s weighted steps are not recorded."""
    members_at_once: int | None = None
    """Population members (with es-maml: of one sign) computed together: all if not given.
    Fewer members save memory.
    On episodes, members of one group get different random numbers; every group gets the same."""
    workers: int = 0
    """Processes that step single environments; 0 steps them in the main process.
    Families with a batched backend need none."""

    def __post_init__(self):
        require_types(self, "speed")
        require_if_given("speed.tasks_at_once", "1 or more", self.tasks_at_once)
        require_if_given("speed.members_at_once", "1 or more", self.members_at_once)
        require(self.workers >= 0, "speed.workers", "0 or more", self.workers)

    def conditions(self, run: Config, facts: Facts) -> Conditions:
        """Return whether each setting acts in this run; see :mod:`meta_rl.config.effects`."""
        episodes = isinstance(run.data, EpisodesConfig)
        return [
            (
                "speed.recorded",
                episodes or run.outer.differentiates,
                "with a meta-gradient, or a policy that samples episodes",
            ),
            (
                "speed.members_at_once",
                run.outer.populated,
                "with an outer step that tries a population (--algorithm es-maml or ga-maml)",
            ),
            (
                "speed.workers",
                episodes and facts.single_environments is not False,
                "for families of single environments; this one "
                + ("steps all of them at once" if episodes else "has no environments"),
            ),
        ]
