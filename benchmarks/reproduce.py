"""Train and score every run of a list, resuming by itself: ``python -m benchmarks.reproduce``.

Each run trains in a folder of its own under ``--folder`` and resumes there, to the same bits, after
any interruption. A finished run adds one line to ``benchmarks/results/reproduce/FAMILY.jsonl``.
Several of these commands may work on one list at a time. docs/benchmarks.md says what a line holds.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from filelock import FileLock

from benchmarks.provenance import RESULTS, provenance
from benchmarks.reproduce_list import RUNS, Protocol, Run
from commands import run_command
from meta_rl import checkpoint, seeds
from meta_rl.callbacks import RunRecorder, StopOnSignal, lock
from meta_rl.config import EvalConfig, ShotsConfig
from meta_rl.errors import InputError
from meta_rl.learner import MetaLearner, Metrics
from meta_rl.trial import collect, met, score
from presets import build

HELD_OUT = 2017  # seed of the evaluation tasks, as in benchmarks.learning
POINTS = 100  # of a learning curve


@dataclass(frozen=True, kw_only=True)
class Reproduce:
    """Where to work."""

    folder: Path = Path("runs/reproduce")
    """Unfinished runs and every run's last checkpoints."""
    results: Path = RESULTS / "reproduce"
    """One line for each finished run, in a file for each family."""
    workers: int = 1
    """Processes that work at the same time, each on a run of its own."""
    status: bool = False
    """Say what is done and how long the rest will take, and do nothing."""


def main(arguments: list[str], runs: Sequence[Run] = RUNS) -> None:
    """Work through the list, or say how far it is."""
    command = tyro.cli(Reproduce, args=arguments, prog="reproduce", description=__doc__)
    if command.status:
        print(status(command, runs))
    elif command.workers == 1:
        work(command, runs)
    else:
        work_together(command, runs)


def work_together(command: Reproduce, runs: Sequence[Run]) -> None:
    """Share the list among processes; a signal to this one stops them all."""
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=work, args=(command, runs)) for _ in range(command.workers)]
    with StopOnSignal() as stop:
        for worker in workers:
            worker.start()
        told = False
        while any(worker.is_alive() for worker in workers):
            if stop.stopped and not told:
                told = True
                for worker in workers:
                    worker.terminate()
            time.sleep(0.2)
    raise SystemExit(max(abs(worker.exitcode or 0) for worker in workers))


def work(command: Reproduce, runs: Sequence[Run]) -> None:
    """Do every run that is not done and that no other process is at, in the list's order.

    It has the lowest priority, so that it can run beside other work. It computes on one thread:
    on tensors of this size further ones mostly wait, and the bits do not depend on the cores.
    """
    os.nice(19)
    torch.set_num_threads(1)
    with StopOnSignal() as stop:
        for run in runs:
            if not (stop.stopped or is_done(command, run) or missing(run)):
                with claimed(command, run) as free:
                    if free and not is_done(command, run):
                        line = attempt(command, runs, run, stop)
                        if line:
                            record(command, runs, run, line)
                            print(f"{run.id}: {summary(line)}", flush=True)
    for run in runs:
        if reason := missing(run):
            print(f"{run.id}: cannot run here: {reason}")


def attempt(
    command: Reproduce, runs: Sequence[Run], run: Run, stop: StopOnSignal
) -> dict[str, Any] | None:
    """Train and score one run; return its line, or None if it was told to stop.

    A run that fails gets a line that says so. What the machine lacks, such as space on a disk, is
    not the run's failure: it ends the queue, and the run resumes when the queue is started again.
    """
    begin_with_shorter(command, runs, run)
    try:
        return train(command, run, stop)
    except Exception as error:
        if isinstance(error, OSError | MemoryError) or isinstance(error.__cause__, OSError):
            raise
        message = f"{type(error).__name__}: {' '.join(str(error).split())}"
        points = Curve.read(place(command, run) / "curve.jsonl")
        return {**describe(run, points), "failed": message, "curve": thinned(points)}


def train(command: Reproduce, run: Run, stop: StopOnSignal) -> dict[str, Any] | None:
    """Train from the newest checkpoint on, then score."""
    folder = place(command, run) / "run"
    learner = build(run.config)
    if checkpoint.checkpoints(folder):
        learner.restore(*checkpoint.load_newest(folder)[1:3])
    print(f"{run.id}: from iteration {learner.iteration} of {run.iterations}", flush=True)
    curve = Curve(place(command, run) / "curve.jsonl", learner)
    with RunRecorder(folder, learner) as recorder:
        learner.learn(callbacks=[curve, recorder, stop, _parent_is_there])
    if learner.iteration < run.iterations:
        return None
    evaluations = [evaluate(learner, protocol, run.seed) for protocol in run.protocols]
    learner.problem.close()
    return {
        **describe(run, curve.points),
        "samples": learner.samples,
        "evaluations": evaluations,
        "curve": thinned(curve.points),
    }


def _parent_is_there(learner: MetaLearner, metrics: Metrics) -> bool:
    """Whether the process that started this worker is there to stop it."""
    parent = multiprocessing.parent_process()
    return parent is None or parent.is_alive()


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
    problem, _ = learner.problem.variant(tasks[0], protocol.episodes)
    batches = collect(problem, learner.inner, learner.deployed, tasks, protocol.steps, stream)
    scores = score(problem, learner.inner, learner.deployed, batches)
    lengths = torch.stack([batch.mask.sum(-1).mean(-1) for batch in met(batches)])
    return {**result, "scores": rounded(scores), "lengths": rounded(lengths)}


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
        checkpoint.replace_file(path, lines(self.points))
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
        """The points in a file, up to a line that was cut off."""
        points = []
        if path.exists():
            for text in path.read_text().splitlines(keepends=True):
                if not text.endswith("\n"):
                    break
                points.append(json.loads(text))
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
    dropped = {"iterations": 1, "seed": 0, "checkpoint_every": 1, "log_every": 1}
    return _given(dataclasses.replace(run.config, **dropped, eval=EvalConfig()))


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


def place(command: Reproduce, run: Run) -> Path:
    """The work folder of a run; other settings have another."""
    digest = hashlib.sha256(json.dumps(settings(run), sort_keys=True).encode()).hexdigest()
    return command.folder / f"{run.id}-{digest[:8]}"


def begin_with_shorter(command: Reproduce, runs: Sequence[Run], run: Run) -> None:
    """Let a new run go on where the longest shorter one of the same settings and seed has ended."""
    target = place(command, run) / "run"
    alike = [r for r in runs if (r.arm, r.seed) == (run.arm, run.seed)]
    for shorter in sorted(alike, key=lambda r: -r.iterations):
        source = place(command, shorter)
        same = settings(shorter) == settings(run) and shorter.iterations < run.iterations
        if same and not target.exists() and is_done(command, shorter) and source.exists():
            copy = target.with_name("copy.tmp")
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(source / "run", copy)
            shutil.copyfile(source / "curve.jsonl", place(command, run) / "curve.jsonl")
            copy.rename(target)


def missing(run: Run) -> str | None:
    """Why a run cannot be done on this machine, if it cannot."""
    if run.optional:
        try:
            build(run.config)
        except InputError as error:
            return str(error)
    return None


@contextmanager
def claimed(command: Reproduce, run: Run) -> Iterator[bool]:
    """Hold a run's folder; False if another process holds it."""
    try:
        held = lock(place(command, run))
    except InputError as error:
        if error.__cause__:
            raise
        yield False
        return
    try:
        yield True
    finally:
        held.release()


def results_file(command: Reproduce, run: Run) -> Path:
    return command.results / f"{run.config.family}.jsonl"


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a results file."""
    return [json.loads(text) for text in path.read_text().splitlines()] if path.exists() else []


def is_done(command: Reproduce, run: Run) -> bool:
    """Whether the results hold this run with the settings and protocols that it has now."""
    return any(
        line["id"] == run.id
        and line["settings"] == settings(run)
        and ("failed" in line or [_protocol(e) for e in line["evaluations"]] == _protocols(run))
        for line in read(results_file(command, run))
    )


def _protocol(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in ("tasks", "steps", "episodes")}


def _protocols(run: Run) -> Any:
    """As they are read from a file."""
    return json.loads(json.dumps([_protocol(dataclasses.asdict(p)) for p in run.protocols]))


def record(command: Reproduce, runs: Sequence[Run], run: Run, line: dict[str, Any]) -> None:
    """Put a run's line into its family's file, in the list's order, in place of an older one."""
    order = {r.id: number for number, r in enumerate(runs)}
    path = results_file(command, run)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(command.folder / ".results.lock"):
        kept = [line, *(old for old in read(path) if old["id"] != run.id)]
        kept.sort(key=lambda each: order.get(each["id"], len(order)))
        checkpoint.replace_file(path, lines(kept))


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


def status(command: Reproduce, runs: Sequence[Run]) -> str:
    """What is done, and the processor-hours left."""
    told, left, counts = [], 0.0, {"done": 0, "failed": 0, "to do": 0, "cannot run here": 0}
    known = {line["id"]: line for run in runs for line in read(results_file(command, run))}
    for run in runs:
        if is_done(command, run):
            line = known[run.id]
            counts["failed" if "failed" in line else "done"] += 1
            told.append(f"{run.id}: {summary(line)}")
        elif reason := missing(run):
            counts["cannot run here"] += 1
            told.append(f"{run.id}: cannot run here: {reason}")
        else:
            counts["to do"] += 1
            points = Curve.read(place(command, run) / "curve.jsonl")
            at = points[-1]["iteration"] if points else 0
            hours = (run.iterations - at) * pace(run, known.values(), points) / 3600
            left += hours
            told.append(f"{run.id}: at iteration {at} of {run.iterations}, {hours:.2f} h left")
    total = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return "\n".join([*told, f"{total}; about {left:.1f} processor-hours left"])


def pace(run: Run, known: Any, points: Sequence[Mapping[str, Any]]) -> float:
    """Processor seconds an iteration: measured on this arm if it can be, else the list's."""
    own = [line for line in known if line["arm"] == run.arm and line["seconds"] > 0]
    if own:
        return sum(o["seconds"] for o in own) / sum(o["iterations"] for o in own)
    return points[-1]["seconds"] / points[-1]["iteration"] if points else run.seconds


if __name__ == "__main__":
    run_command(main)
