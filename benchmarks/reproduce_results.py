"""What ``benchmarks.reproduce`` keeps of a run: scores and a learning curve in one line of JSON."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from filelock import FileLock

from benchmarks.provenance import provenance
from benchmarks.reproduce_list import Protocol, Run
from meta_rl import seeds
from meta_rl.config import Config, ShotsConfig
from meta_rl.errors import InputError
from meta_rl.inner.adaptation import adapt_to_tasks
from meta_rl.runs.learner import MetaLearner, Metrics
from meta_rl.storage import files
from meta_rl.types import Task

HELD_OUT = 2017  # seed of the evaluation tasks, as in benchmarks.learning
POINTS = 100  # of a learning curve
NOT_LEARNED_FROM = "iterations", "seed", "log_every", "checkpoint_every", "eval"


def evaluate(learner: MetaLearner, protocol: Protocol, seed: int) -> dict[str, Any]:
    """Scores ``(steps + 1, tasks)``; of episodes also their mean lengths, of the same shape.

    The tasks are the same for all runs. Lengths tell a bonus for every step from the rest of a
    return.
    """
    tasks = protocol.tasks
    if isinstance(tasks, int):
        derived = seeds.derive(HELD_OUT, seeds.EVALUATION)
        tasks = learner.problem.held_out_tasks(tasks, derived, final=True)
    stream = seeds.derive(seed, seeds.EVALUATION, 1)
    result = dataclasses.asdict(protocol)
    if isinstance(learner.config.data, ShotsConfig):
        return {**result, "scores": rounded(learner.evaluate(tasks, protocol.steps, stream))}
    if protocol.success_episodes:
        return {**result, **evaluate_success(learner, tasks, protocol, stream)}
    problem = learner.problem.resized(protocol.episodes)
    given = problem, learner.inner, learner.deployed, tasks, protocol.steps, stream
    adaptation = adapt_to_tasks(*given, scored=True)
    lengths = torch.stack([batch.mask.sum(-1).mean(-1) for batch in adaptation.batches])
    return {**result, "scores": rounded(adaptation.scores), "lengths": rounded(lengths)}


def evaluate_success(
    learner: MetaLearner, tasks: Sequence[Task], protocol: Protocol, seed: int
) -> dict[str, Any]:
    """Adapt to one task after the other; scores, and the share of further episodes that succeed."""
    family: Any = learner.problem.environments
    scores, successes = [], []
    for number, task in enumerate(tasks):
        stream = seeds.derive(seed, number)
        model = learner.adapt(task, steps=protocol.steps, episodes=protocol.episodes, seed=stream)
        scores.append(list(model.scores))
        env = family.make_env(task)
        ends = [succeeds(model, env, stream + k) for k in range(protocol.success_episodes)]
        env.close()
        successes.append(sum(ends) / len(ends))
    by_step = [list(row) for row in zip(*scores, strict=True)]
    return {"scores": rounded(by_step), "successes": rounded(successes)}


def succeeds(model: Any, env: gym.Env, seed: int) -> bool:
    """Whether the environment tells of success at any step of one episode."""
    observation, _ = env.reset(seed=seed % 2**31)
    while True:
        action, _ = model.predict(observation, deterministic=True)
        observation, _, terminated, truncated, info = env.step(action)
        if info.get("success"):
            return True
        if terminated or truncated:
            return False


class Curve:
    """Keeps a run's learning curve in a file, a line for each iteration that is logged.

    A run that resumes takes it up at its own iteration; later lines are dropped.

    Args:
        path: of the file.
        learner: at the iteration where it goes on.
    """

    def __init__(self, path: Path, learner: MetaLearner):
        self.path, self.commit = path, provenance()["commit"]
        self.points = [p for p in self.read(path) if p["iteration"] <= learner.iteration]
        files.write(path, lines(self.points))
        spent = self.points[-1]["seconds"] if self.points else 0.0
        self._start = time.process_time() - spent

    def __call__(self, learner: MetaLearner, metrics: Metrics) -> None:
        """Add one iteration; on the disk before the checkpoint that is saved next."""
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
        """The points in a file, up to a line that a killed process left unfinished."""
        points = []
        if path.exists():
            for text in path.read_text().splitlines():
                try:
                    points.append(json.loads(text))
                except ValueError:
                    break
        return points


def thinned(points: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """At most POINTS of a curve's points, first and last among them, as columns."""
    last = len(points) - 1
    steps = min(POINTS - 1, last)
    chosen = [points[round(i * last / steps) if steps else 0] for i in range(steps + 1)]
    columns = "iteration", "samples", "scores", "step_sizes"
    return {column: [point[column] for point in chosen] for column in columns}


def describe(run: Run, points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a line says before the results: which run, by what code, where, and its cost."""
    made = provenance()
    commits = [*(point["commit"] for point in points), made["commit"]]
    return {
        "id": run.id,
        "arm": run.arm,
        "preset": run.preset,
        "algorithm": run.algorithm,
        "changes": dict(run.changes),
        "seed": run.seed,
        "iterations": run.iterations,
        **({"note": run.note} if run.note else {}),
        "seconds": points[-1]["seconds"] if points else 0.0,
        "settings": settings(run),
        "provenance": {**made, "commit": list(dict.fromkeys(commits))},
    }


def settings(run: Run) -> dict[str, Any]:
    """All settings that decide what is learned and differ from the classes' defaults."""
    usual = Config(family=run.config.family)
    dropped = {name: getattr(usual, name) for name in NOT_LEARNED_FROM}
    return _given(dataclasses.replace(run.config, **dropped))


def _given(config: Any) -> Any:
    if not dataclasses.is_dataclass(config):
        return list(config) if isinstance(config, tuple) else config
    values: dict[str, Any] = {"type": type(config).__name__}
    for one in dataclasses.fields(config):
        value = getattr(config, one.name)
        made = one.default_factory
        default = one.default if made is dataclasses.MISSING else made()
        if value != default:
            values[one.name] = _given(value)
    return values


def results_file(results: Path, run: Run) -> Path:
    """Where the lines of a run's family are."""
    return results / f"{run.config.family}.jsonl"


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a results file.

    Raises:
        InputError: if one is no JSON, such as the marks of a merge.
    """
    kept = []
    for number, text in enumerate(path.read_text().splitlines() if path.exists() else (), 1):
        try:
            kept.append(json.loads(text))
        except ValueError as error:
            raise InputError(
                f"results: expected JSON in line {number} of {path}, got {text[:40]!r}. Mend or "
                "delete the line."
            ) from error
    return kept


def is_done(results: Path, run: Run) -> bool:
    """Whether the results hold this run with the settings and protocols that it has now."""
    return any(
        line["id"] == run.id
        and line["settings"] == settings(run)
        and ("failed" in line or [_protocol(e) for e in line["evaluations"]] == _protocols(run))
        for line in read(results_file(results, run))
    )


def _protocol(values: Mapping[str, Any]) -> dict[str, Any]:
    return {field.name: values.get(field.name) for field in dataclasses.fields(Protocol)}


def _protocols(run: Run) -> Any:
    """As they are read from a file."""
    return json.loads(json.dumps([_protocol(dataclasses.asdict(p)) for p in run.protocols]))


def record(results: Path, lock: Path, runs: Sequence[Run], run: Run, line: dict[str, Any]) -> None:
    """Put a run's line into its family's file, in the list's order, in place of an older one.

    Args:
        results: the folder of these files.
        lock: a file that keeps other processes from writing meanwhile.
        runs: the list.
        run: whose line it is.
        line: the line.
    """
    order = {r.id: number for number, r in enumerate(runs)}
    path = results_file(results, run)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        kept = [line, *(old for old in read(path) if old["id"] != run.id)]
        kept.sort(key=lambda each: order.get(each["id"], len(order)))
        files.write(path, lines(kept))


def lines(values: Sequence[Any]) -> bytes:
    """Compact JSON, one value a line."""
    return "".join(json.dumps(v, separators=(",", ":")) + "\n" for v in values).encode()


def rounded(values: Any) -> Any:
    """Numbers, in lists of any depth, to five digits."""
    if isinstance(values, torch.Tensor):
        values = values.tolist()
    if isinstance(values, list):
        return [rounded(value) for value in values]
    return float(f"{values:.5g}")


def summary(line: Mapping[str, Any]) -> str:
    """A line's mean scores after 0, 1, ... inner steps, or why there are none."""
    if "failed" in line:
        return f"failed: {line['failed']}"
    means = [sum(row) / len(row) for row in line["evaluations"][0]["scores"]]
    return " ".join(f"{mean:.4g}" for mean in means) + f"  ({line['seconds']:.0f} s)"
