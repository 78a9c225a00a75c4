"""The state of a run after its last whole iteration: counters and learned tensors."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from meta_rl.config import Config, to_dict
from meta_rl.errors import DivergedError
from meta_rl.naming import part_of, under
from meta_rl.outer.step import OuterStep
from meta_rl.problem import Problem
from meta_rl.problems.modules import (
    check_made_of,
    check_problem,
    check_splits,
    fixed,
    load_fixed,
    made_of,
    module_of,
    split_names,
)
from meta_rl.runs.replay import TaskReplay
from meta_rl.runs.sampling import TaskSampling, UniformTasks
from meta_rl.runs.worst import WorstTasks
from meta_rl.storage import checkpoint
from meta_rl.tasks import copy_each
from meta_rl.types import MetaParameters

SAMPLINGS: dict[str, type[TaskSampling]] = {
    "uniform": UniformTasks,
    "prioritized": TaskReplay,
    "worst": WorstTasks,
}
OWNED = ("outer.", "sampling.")  # tensors that the outer step and the sampling check themselves
TRAINING = "training_state"  # a manifest's field: whether these tensors are there
SKIPS_ALLOWED = 10
COUNTERS = ("iteration", "samples", "skipped")


class TrainingState:
    """The counters and tensors of a run, which change by whole iterations.

    An iteration cut off in its middle, for example by Ctrl-C, is never saved. The next
    :meth:`begin`, or :meth:`undo`, takes its changes back.

    Args:
        problem: the problem to learn.
        config: the run's settings.
        meta: the meta-parameters.
        outer: the outer step, which changes ``meta`` in place.

    Raises:
        InputError: if the tasks cannot be sampled as the settings say.
    """

    def __init__(self, problem: Problem, config: Config, meta: MetaParameters, outer: OuterStep):
        self.problem, self.config, self.meta, self.outer = problem, config, meta, outer
        self.sampling = SAMPLINGS[config.data.sampling](problem, config)
        self.iteration = 0
        self.samples = 0
        self.skipped = 0  # outer steps in a row
        # The state before the current iteration, or before one that was cut off; else None.
        self._last_whole: tuple[dict[str, int], dict[str, Tensor]] | None = None
        # The tensors of the state, and copies of them by name.
        self._kept: tuple[list[Tensor], dict[str, Tensor]] | None = None

    def begin(self) -> None:
        """Begin an iteration: copy the state for :meth:`undo`."""
        self.undo()
        if self._kept is None or not self._steady():
            live = self._with_fixed()
            self._kept = [*live.values()], {name: value.clone() for name, value in live.items()}
        else:
            copy_each([*self._kept[1].values()], self._kept[0])
        self._last_whole = self._counters(), self._kept[1]

    def end(self, samples: int, skipped: bool) -> None:
        """Count a whole iteration.

        Args:
            samples: environment steps or examples that the iteration collected.
            skipped: whether its outer step was skipped.

        Raises:
            DivergedError: after too many skipped outer steps in a row.
        """
        self.skipped = self.skipped + 1 if skipped else 0
        self.iteration, self.samples = self.iteration + 1, self.samples + samples
        self._last_whole = None
        if self.skipped >= SKIPS_ALLOWED:
            raise DivergedError(
                f"training: {SKIPS_ALLOWED} outer steps in a row had gradients, or members, that "
                f"are not finite and were skipped, up to iteration {self.iteration}. Lower the "
                "outer learning rate or the inner step size."
            )

    def undo(self) -> None:
        """Undo the changes of an iteration that was cut off, if any."""
        if self._last_whole:
            self.restore(*self.saved())

    def saved(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return the manifest and the tensors of a checkpoint."""
        counters, tensors = self._last_whole or (self._counters(), self._with_fixed())
        if self._last_whole:  # the copies are written again
            tensors = {name: value.clone() for name, value in tensors.items()}
        manifest = {
            "kind": "meta",
            "config": to_dict(self.config),
            "problem": self.problem.describe(),
            **counters,
            "made_of": made_of(self.problem),
        }
        if names := split_names(self.problem):
            manifest["splits"] = names
        return manifest, tensors

    def restore(self, manifest: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Continue from a checkpoint's manifest and tensors.

        Without training state the outer step and the sampling of tasks start afresh. Other
        versions of packages then give no warning, because no run is continued.

        Raises:
            InputError: if the checkpoint is of another kind, family, spaces or network, or holds
                numbers that no training leaves.
        """
        fields = {"config": dict, "problem": dict, "iteration": int, "samples": int}
        checkpoint.require_fields(manifest, "meta", **fields)
        iteration, samples, skipped = (checkpoint.counter(manifest, name) for name in COUNTERS)
        check_problem(self.problem, manifest["problem"])
        check_made_of(manifest, made_of(self.problem))
        check_splits(self.problem, manifest.get("splits"))
        own = {n: value for n, value in self._tensors().items() if not n.startswith(OWNED)}
        kept = {n: value for n, value in tensors.items() if not n.startswith((*OWNED, "fixed."))}
        checkpoint.match_tensors(own, kept)
        checkpoint.require_finite(kept)
        load_fixed(module_of(self.problem), part_of("fixed", tensors))
        if manifest.get(TRAINING, True) is not False:
            checkpoint.warn_of_versions(manifest)
            self.outer.load_state_dict(part_of("outer", tensors))
            self.sampling.load_state_dict(part_of("sampling", tensors), iteration)
        for name, value in own.items():
            value.copy_(tensors[name])
        self.iteration, self.samples, self.skipped = iteration, samples, skipped
        self._last_whole = self._kept = None

    def _steady(self) -> bool:
        """Return whether the state's tensors are the objects that they were before."""
        steady = getattr(self.outer, "steady", False) and not self.sampling.learns
        return steady and not self.problem.learned()

    def _counters(self) -> dict[str, int]:
        values = self.iteration, self.samples, self.skipped
        return dict(zip(COUNTERS, values, strict=True))

    def _with_fixed(self) -> dict[str, Tensor]:
        """Return all tensors, with those that only data change: statistics and frozen layers."""
        return self._tensors() | under("fixed", fixed(module_of(self.problem)))

    def _tensors(self) -> dict[str, Tensor]:
        parts = {"theta": self.meta.theta, "rule": self.meta.rule, "outer": self.outer.state_dict()}
        parts |= {"problem": self.problem.learned(), "sampling": self.sampling.state_dict()}
        named = [under(part, tensors) for part, tensors in parts.items()]
        return {name: value.detach() for part in named for name, value in part.items()}


def without_training_state(
    manifest: dict[str, Any], tensors: dict[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return a checkpoint's manifest and tensors with only what adapting needs.

    What the outer step and the sampling of tasks remember is left out.
    """
    kept = {name: value for name, value in tensors.items() if not name.startswith(OWNED)}
    return {**manifest, TRAINING: False}, kept
