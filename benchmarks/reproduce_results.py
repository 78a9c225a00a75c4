"""Score the runs of ``benchmarks.reproduce``, and record each as one line of JSON."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from benchmarks.provenance import provenance
from benchmarks.reproduce_list import Protocol, Run
from meta_rl import seeds
from meta_rl.config import ShotsConfig
from meta_rl.config.renamed import renamed
from meta_rl.config.run import to_dict
from meta_rl.errors import InputError
from meta_rl.inner.adaptation import adapt_to_tasks
from meta_rl.problems.success import counted
from meta_rl.runs.learner import MetaLearner, Metrics
from meta_rl.storage import files

HELD_OUT = 2017  # seed of the evaluation tasks, as in benchmarks.learning
POINTS = 100  # points of a learning curve
OF_A_RUN = "iterations", "seed", "log_every", "checkpoint_every", "eval"
OF_SPEED = "tasks_at_once", "program", "workers"  # these change rounding, at most a seed's tasks
NOT_LEARNED_FROM = *OF_A_RUN, *OF_SPEED
EVERY = {"id", "arm", "settings", "iterations", "seconds"}  # of every line, and one of ENDS
ENDS = {"evaluations", "failed"}


def evaluate(learner: MetaLearner, protocol: Protocol, seed: int) -> dict[str, Any]:
    """Return scores ``(steps + 1, tasks)``, and for episodes their mean lengths of the same shape.

    The tasks are the same for all runs. Lengths separate a bonus for every step from the rest of a
    return.
    """
    tasks = tasks_of(learner, protocol)
    stream = seeds.derive(seed, seeds.EVALUATION, 1)
    result = dataclasses.asdict(protocol)
    if isinstance(learner.config.data, ShotsConfig):
        return {**result, "scores": rounded(learner.evaluate(tasks, protocol.steps, stream))}
    problem = learner.problem.resized(protocol.episodes)
    size, found = protocol.at_once or len(tasks), []
    for start in range(0, len(tasks), size):
        part, seed = tasks[start : start + size], seeds.derive(stream, start) if start else stream
        given = problem, learner.inner, learner.deployed, part, protocol.steps, seed
        found.append(adapt_to_tasks(*given, scored=True))
    lengths = [torch.stack([b.mask.sum(-1).mean(-1) for b in one.batches]) for one in found]
    told: Any = [(one.scores, one.success) for one in found]
    scores, success = (torch.cat(values, 1) for values in zip(*told, strict=True))
    known = counted(success)
    return {
        **result,
        "scores": rounded(scores),
        "lengths": rounded(torch.cat(lengths, 1)),
        **({} if known is None else {"successes": rounded(known)}),
    }


def tasks_of(learner: MetaLearner, protocol: Protocol) -> Sequence[Mapping[str, Any]]:
    """Return the tasks to score on, the same for all runs of a family."""
    if not isinstance(protocol.tasks, int):
        return protocol.tasks
    derived = seeds.derive(HELD_OUT, seeds.EVALUATION)
    return learner.problem.held_out_tasks(protocol.tasks, derived, final=True)


class Curve:
    """Writes a run's learning curve to a file, a line for each logged iteration.

    A resumed run continues the curve at its own iteration; later lines are dropped.

    Args:
        path: the curve's file.
        learner: the learner, at the iteration to resume from.
    """

    def __init__(self, path: Path, learner: MetaLearner):
        self.path, self.commit = path, provenance()["commit"]
        self.points = [p for p in self.read(path) if p["iteration"] <= learner.iteration]
        files.write(path, lines(self.points))
        spent = self.points[-1]["seconds"] if self.points else 0.0
        self._start = time.process_time() - spent

    def __call__(self, learner: MetaLearner, metrics: Metrics) -> None:
        """Add one iteration; it is on disk before the next checkpoint."""
        if not metrics:
            return
        prefix = f"meta/{learner.problem.score_name}_step_"
        point = {
            "iteration": learner.iteration,
            "samples": learner.samples,
            "seconds": round(time.process_time() - self._start, 2),
            "scores": rounded([v for name, v in metrics.items() if name.startswith(prefix)]),
            "step_sizes": {n: rounded(v.mean().item()) for n, v in learner.step_sizes().items()},
            "commit": self.commit,
        }
        self.points.append(point)
        with self.path.open("ab") as file:
            file.write(lines([point]))
            if learner.iteration % learner.config.checkpoint_every == 0:
                file.flush()
                os.fsync(file.fileno())

    @staticmethod
    def read(path: Path) -> list[dict[str, Any]]:
        """Read the points in a file, up to a line that a killed process left unfinished."""
        points = []
        if path.exists():
            for text in path.read_text().splitlines():
                try:
                    points.append(json.loads(text))
                except ValueError:
                    break
        return points


def thinned(points: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return at most POINTS of a curve's points as columns, with the first and the last."""
    last = len(points) - 1
    steps = min(POINTS - 1, last)
    chosen = [points[round(i * last / steps) if steps else 0] for i in range(steps + 1)]
    columns = "iteration", "samples", "scores", "step_sizes"
    return {column: [point[column] for point in chosen] for column in columns}


def describe(run: Run, points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a line's first part: the run, its code, machine and cost."""
    made = provenance()
    commits = [*(point["commit"] for point in points), made["commit"]]
    return {
        "id": run.id,
        "arm": run.arm,
        "preset": run.preset,
        "algorithm": run.method,
        "changes": dict(run.changes),
        "seed": run.seed,
        "iterations": run.iterations,
        **({"budget": run.samples} if run.samples else {}),
        **({"note": run.note} if run.note else {}),
        "seconds": points[-1]["seconds"] if points else 0.0,
        "settings": settings(run),
        "provenance": {**made, "commit": list(dict.fromkeys(commits))},
    }


def settings(run: Run) -> dict[str, Any]:
    """Return all settings that affect learning."""
    return _learned_from(to_dict(run.config))


def _learned_from(values: Any) -> Any:
    if not isinstance(values, dict):
        return values
    return {k: _learned_from(v) for k, v in values.items() if k not in NOT_LEARNED_FROM}


def agree(stored: Any, config: Any) -> bool:
    """Return whether stored settings and a config's are the same, but for those not learned from.

    Old names count as their new ones. A setting that is not stored is newer than what was stored,
    so it must have its default, or the value that :mod:`meta_rl.config.renamed` gives old runs.
    """
    return _agree(_learned_from(renamed(stored)), config) if isinstance(stored, dict) else False


def _agree(stored: Any, config: Any) -> bool:
    if not dataclasses.is_dataclass(config):
        return stored == to_dict(config)
    if not isinstance(stored, Mapping):
        return False
    known = [one for one in dataclasses.fields(config) if one.name not in NOT_LEARNED_FROM]
    return (
        stored.get("type") == type(config).__name__
        and stored.keys() <= {"type", *(one.name for one in known)}
        and all(
            _agree(stored.get(one.name, _default(one)), getattr(config, one.name)) for one in known
        )
    )


def _default(one: dataclasses.Field[Any]) -> Any:
    own = one.default if one.default_factory is dataclasses.MISSING else one.default_factory()
    return _learned_from(to_dict(own))


def results_file(results: Path, run: Run) -> Path:
    """Return the file with the lines of a run's family."""
    return results / f"{run.config.family}.jsonl"


def read(path: Path) -> list[dict[str, Any]]:
    """Read the lines of a results file.

    Raises:
        InputError: if a line is not one of results, such as the marks of a merge.
    """
    kept = []
    for number, text in enumerate(path.read_bytes().splitlines() if path.exists() else (), 1):
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        if not isinstance(line, dict) or not line.keys() >= EVERY or not line.keys() & ENDS:
            raise InputError(
                f"results: expected a run's results in line {number} of {path}, got "
                f"{text[:40].decode(errors='replace')!r}. Repair or delete the line."
            )
        kept.append(line)
    return kept


def is_done(results: Path, run: Run) -> bool:
    """Return whether the results hold this run with its current settings and protocols."""
    return any(fits(line, run) for line in read(results_file(results, run)))


def fits(line: Mapping[str, Any], run: Run) -> bool:
    """Return whether a line is of this run with its current settings and protocols."""
    return (
        line["id"] == run.id
        and agree(line["settings"], run.config)
        and ("failed" in line or [_protocol(e) for e in line["evaluations"]] == _protocols(run))
    )


def _protocol(values: Mapping[str, Any]) -> dict[str, Any]:
    return {field.name: values.get(field.name) for field in dataclasses.fields(Protocol)}


def _protocols(run: Run) -> Any:
    """Return the run's protocols as read from a file."""
    return json.loads(json.dumps([_protocol(dataclasses.asdict(p)) for p in run.protocols]))


def record(results: Path, lock: Path, runs: Sequence[Run], run: Run, line: dict[str, Any]) -> None:
    """Put a run's line into its family's file, in the list's order, in place of an older one.

    Args:
        results: the folder of results.
        lock: the lock file that keeps other processes from writing.
        runs: the list of all runs.
        run: the run to record.
        line: the run's line.
    """
    order = {r.id: number for number, r in enumerate(runs)}
    path = results_file(results, run)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        kept = [line, *(old for old in read(path) if old["id"] != run.id)]
        kept.sort(key=lambda each: order.get(each["id"], len(order)))
        files.write(path, lines(kept))


def lines(values: Sequence[Any]) -> bytes:
    """Return compact JSON, one value per line."""
    return "".join(json.dumps(v, separators=(",", ":")) + "\n" for v in values).encode()


def rounded(values: Any) -> Any:
    """Round numbers, in lists of any depth, to five digits."""
    if isinstance(values, torch.Tensor):
        values = values.tolist()
    if isinstance(values, list):
        return [rounded(value) for value in values]
    return float(f"{values:.5g}")


def summary(line: Mapping[str, Any]) -> str:
    """Return a line's mean scores after 0, 1, ... inner steps, or why there are none."""
    if "failed" in line:
        return f"failed: {line['failed']}"
    means = [sum(row) / len(row) for row in line["evaluations"][0]["scores"]]
    return " ".join(f"{mean:.4g}" for mean in means) + f"  ({line['seconds']:.0f} s)"
