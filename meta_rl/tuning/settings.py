"""Settings of a tuning. Imports nothing heavy, for ``meta-rl tune --help``."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from meta_rl.algorithms import ALGORITHMS
from meta_rl.config import Config, to_dict
from meta_rl.config.checks import require_if_given
from meta_rl.errors import InputError, require, unknown
from meta_rl.tuning.space import SPACES, Space, fitting, usual

SEARCHES = {
    "tpe": "tree-structured Parzen estimators, which model what good trials have in common",
    "greedy": "the default, then every declared option alone, once; algorithms first",
    "random": "at random",
    "evolution": "a genetic algorithm (NSGA-II) over choices and factors",
}
"""Every name that ``--search`` takes, and how that search proposes strategies."""


@dataclass(frozen=True, kw_only=True)
class TuningSettings:
    """Settings of a study, and its default strategy: the preset with the options given."""

    trials: int = 20
    """Strategies to train, including the default; may be raised later."""
    search: Literal["tpe", "greedy", "random", "evolution"] = "tpe"
    """How to propose strategies, each an algorithm with settings; see the searches above."""
    halving: int | None = None
    """Factor f of successive halving: trials are also scored after 1/f² and 1/f of the budget, and
    about one in f continues. 1 trains every trial on the whole budget. When not given 3, but 1 with
    evolution, which breeds from trials of the whole budget alone."""
    budget: int | None = None
    """Environment steps (or labelled examples) that each trial trains on; when not given, the
    preset's iterations times the length of the first iteration. Where episodes get longer with
    training, that is less than the preset's run."""
    seeds: int = 3
    """Fresh seeds on which the chosen strategy and the default are trained for the comparison."""
    space: str | None = None
    """Name of the set of strategies in meta_rl.tuning.space.SPACES; when not given, the set for the
    preset's kind of data."""
    algorithms: tuple[str, ...] = ()
    """Algorithms to try, in place of all in the set; the first is the default's."""
    families: Path | None = None
    """A Python file of yours with families, algorithms, networks or an entry of
    meta_rl.tuning.space.SPACES."""
    out: Path | None = None
    """Folder of the study; runs/tune-PRESET when not given. A study in it is continued."""
    device: str = "auto"
    """auto (CUDA if there is one), cpu or cuda."""
    config: Annotated[Config, tyro.conf.arg(name="")]

    @property
    def keeps_one_of(self) -> int:
        """The factor of successive halving, given or not."""
        return self.halving or (1 if self.search == "evolution" else 3)

    def check(self) -> Space:
        """Refuse wrong settings, as far as nothing has to be loaded, and return the space.

        Raises:
            InputError: if a number is out of range, or the space or an algorithm does not fit.
        """
        for name in ("trials", "seeds"):
            value = getattr(self, name)
            require(value >= 1, name, "1 or more", value)
        for name in ("halving", "budget"):
            require_if_given(name, "1 or more", getattr(self, name))
        if self.search == "evolution" and self.keeps_one_of > 1:
            raise InputError(
                f"halving: expected 1 with --search evolution, got {self.halving}. It breeds from "
                "trials of the whole budget, and halving leaves too few of them. Leave it out."
            )
        for name in self.algorithms:
            if name not in ALGORITHMS:
                raise unknown("algorithms", ALGORITHMS, name)
        name = self.space or usual(self.config)
        if name not in SPACES:
            raise unknown("space", SPACES, name, "A space of your own? Give --families FILE.py.")
        space = SPACES[name]
        if self.algorithms:
            space = dataclasses.replace(space, algorithms=self.algorithms)
        return fitting(space, self.config)

    def identity(self, space: Space, budget: int) -> dict[str, Any]:
        """Return the settings that identify a study; only the same study is continued.

        The data's folder is not among them, because data may be moved.
        """
        preset = to_dict(self.config)
        preset["data"].pop("folder", None)
        return {
            "preset": preset,
            "space": dataclasses.asdict(space),
            "search": self.search,
            "halving": self.keeps_one_of,
            "budget": budget,
        }
