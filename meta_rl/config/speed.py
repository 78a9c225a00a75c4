"""Settings of a run's speed and memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

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
    program: Literal["auto", "plain", "recorded", "compiled", "captured"] = "auto"
    """How the operations of an iteration run. plain: by Python, one after another. recorded:
    recorded once for each shape and replayed, with the same bits and less Python. compiled:
    recorded, then fused by torch's compiler, which takes half a minute and a C++ compiler; results
    differ by rounding. captured: recorded, then replayed as CUDA graphs (untested on a GPU). auto:
    plain, recorded or compiled, by the length of the run, the network and the device; plain with a
    problem, network, rule or environments of tensors of your own. MAML++'s weighted steps and
    policies with memory are always plain. Compiled sinusoids are drawn for many iterations at once,
    so the same seed gives other tasks. A run keeps its choice when it resumes."""
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
                "speed.program",
                self.program == "plain" or episodes or run.outer.differentiates,
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
