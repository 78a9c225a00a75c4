"""Settings of how tasks are chosen while meta-training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from meta_rl.errors import require

if TYPE_CHECKING:
    from meta_rl.config.effects import Conditions


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """Sampling of the tasks of each iteration. Held-out tasks are always drawn uniformly."""

    sampling: Literal["uniform", "prioritized", "worst"] = "uniform"
    """Sampling of tasks while meta-training. uniform: from the family's distribution.
    prioritized: replay tasks with large errors of the value (PLR). worst: oversample the tasks
    with the lowest returns (RoML), for families whose tasks are numbers."""
    tail: float = 0.2
    """Fraction of tasks that count as the worst, with --data.sampling worst."""
    replay: float = 0.5
    """Probability that a task is a replayed one, with --data.sampling prioritized."""
    temperature: float = 0.1
    """Temperature of prioritized replay; the smaller, the more often the first ranks."""
    staleness: float = 0.1
    """Weight of a task's age, against its rank, in prioritized replay."""
    capacity: int = 200
    """Tasks kept for prioritized replay."""

    def check_sampling(self) -> None:
        """Refuse numbers that are out of range.

        Raises:
            InputError: naming the setting, what is expected and what it is.
        """
        require(0 < self.tail < 1, "data.tail", "between 0 and 1", self.tail)
        require(0 <= self.replay <= 1, "data.replay", "between 0 and 1", self.replay)
        require(self.temperature > 0, "data.temperature", "above 0", self.temperature)
        require(0 <= self.staleness <= 1, "data.staleness", "between 0 and 1", self.staleness)
        require(self.capacity > 0, "data.capacity", "1 or more", self.capacity)

    def sampling_conditions(self) -> Conditions:
        """Return whether each setting acts in this run; see :mod:`meta_rl.config.effects`."""
        replays = self.sampling == "prioritized"
        several = replays and self.replay > 0
        needs = "with --data.sampling prioritized"
        return [
            ("data.tail", self.sampling == "worst", "with --data.sampling worst"),
            ("data.replay", replays, needs),
            *(
                (f"data.{name}", several, f"{needs} and --data.replay above 0")
                for name in ("temperature", "staleness", "capacity")
            ),
        ]
