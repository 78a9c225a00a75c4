"""Train and score every run of a list, resuming by itself: ``python -m benchmarks.reproduce``.

Each run trains in its own folder under ``--folder`` and resumes there, to the same bits, after any
interruption. A finished run adds one line to ``benchmarks/results/reproduce/FAMILY.jsonl``. Several
of these commands may work on one list at a time. docs/benchmarks/long-runs.md explains a line.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.equal_budgets import EQUAL, from_scratch
from benchmarks.provenance import RESULTS
from benchmarks.reproduce_list import RUNS, Run
from benchmarks.reproduce_results import (
    Curve,
    agree,
    describe,
    evaluate,
    is_done,
    read,
    record,
    results_file,
    settings,
    summary,
    thinned,
)
from meta_rl.assemble import build
from meta_rl.cli.command import Ended, run_command
from meta_rl.cli.parsing import parse
from meta_rl.errors import InputError, NotFiniteError, lacks_memory, require
from meta_rl.machine.threads import one_thread
from meta_rl.presets import preset
from meta_rl.runs.recorder import RunRecorder, lock
from meta_rl.runs.signals import StopOnSignal
from meta_rl.storage import run_folder

LOCK = ".results.lock"  # in the work folder
AUTOGROUP = Path("/proc/self/autogroup")


@dataclass(frozen=True, kw_only=True)
class Reproduce:
    """Folders, and the number of processes."""

    folder: Path = Path("runs/reproduce")
    """Folder of unfinished runs and every run's last checkpoints."""
    results: Path = RESULTS / "reproduce"
    """Folder of results: one line for each finished run, in a file for each family."""
    workers: int = 1
    """Processes that work at the same time, each on its own run."""
    only: str = ""
    """Work on the runs alone whose names have this in them, such as equal."""
    status: bool = False
    """Print the runs done and the time left, and train nothing."""

    def __post_init__(self):
        require(self.workers > 0, "workers", "1 or more", self.workers)


def main(arguments: list[str], runs: Sequence[Run] = (*RUNS, *EQUAL)) -> None:
    """Work through the list, or print its status."""
    command = parse(Reproduce, arguments, prog="reproduce", description=__doc__)
    runs = [run for run in runs if command.only in run.id]
    require(bool(runs), "only", "a part of a run's name", command.only)
    if command.status:
        print(status(command, runs))
        return
    lower_priority()
    if command.workers == 1:
        work(command, runs)
    else:
        work_together(command, runs)


def lower_priority() -> None:
    """Take the lowest priority, to leave the processor to other work.

    If ``autogroup`` is on, Linux first divides the processor among sessions, and niceness counts
    only within each. So if the session is this process's own, the session is made as nice too.
    """
    os.nice(19)
    if os.getsid(0) == os.getpid() and os.access(AUTOGROUP, os.W_OK):
        AUTOGROUP.write_text("19")


def work_together(command: Reproduce, runs: Sequence[Run]) -> None:
    """Divide the list among processes; a signal to this process stops them all."""
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_worker, args=(command, runs)) for _ in range(command.workers)
    ]
    for worker in workers:
        worker.start()
    told = False
    with StopOnSignal() as stop:
        while any(worker.is_alive() for worker in workers):
            if stop.stopped and not told:
                told = True
                for worker in workers:
                    worker.terminate()
            time.sleep(0.2)
    if failed := max(abs(worker.exitcode or 0) for worker in workers):
        raise Ended(failed)


def _worker(command: Reproduce, runs: Sequence[Run]) -> None:
    run_command(lambda _: work(command, runs))


def work(command: Reproduce, runs: Sequence[Run]) -> None:
    """Do every run that is not done and that no other process holds, in the list's order.

    It works on one thread: on tensors of this size further threads mostly wait, and the results do
    not depend on the number of cores.
    """
    with one_thread(), StopOnSignal() as stop:
        for run in runs:
            if stop.stopped or not _is_wanted():
                return
            if is_done(command.results, run):
                continue
            if reason := missing(run):
                print(f"{run.id}: cannot run here: {reason}", flush=True)
                continue
            with claimed(command, run) as free:
                if free and not is_done(command.results, run):
                    attempt(command, runs, run, stop)


def attempt(command: Reproduce, runs: Sequence[Run], run: Run, stop: StopOnSignal) -> None:
    """Train and score one run and record its line, unless told to stop first.

    A run that fails gets a line that says so. An error of the machine, such as a full disk or too
    little memory, is not the run's failure: it ends the queue, and the run resumes when the queue
    is started again.
    """
    begin_with_shorter(command, runs, run)
    try:
        line = train(command, run, stop)
    except Exception as error:
        if _is_the_machines(error):
            raise InputError(
                f"reproduce: {run.id} cannot go on here: {error} Nothing is lost: fix this and "
                "start the command again."
            ) from error
        message = f"{type(error).__name__}: {' '.join(str(error).split())}"
        points = Curve.read(place(command, run) / "curve.jsonl")
        line = {**describe(run, points), "failed": message, "curve": thinned(points)}
    if line:
        record(command.results, command.folder / LOCK, runs, run, line)
        print(f"{run.id}: {summary(line)}", flush=True)


def _is_the_machines(error: Exception) -> bool:
    """Return whether an error comes from what the machine lacks, and not from the run itself."""
    if isinstance(error, NotFiniteError):
        return False
    at_fault = isinstance(error, OSError | InputError) or isinstance(error.__cause__, OSError)
    return at_fault or lacks_memory(error)


def train(command: Reproduce, run: Run, stop: StopOnSignal) -> dict[str, Any] | None:
    """Train from the newest checkpoint on, then score; return the line, or None if stopped."""
    if run.scratch:
        return from_scratch(run, lambda: stop.stopped)
    folder = place(command, run) / "run"
    learner = build(run.config)
    if run_folder.checkpoints(folder):
        learner.restore(*run_folder.load_newest(folder)[1:3])
    goal = f"{run.samples:,} steps" if run.samples else run.iterations
    print(f"{run.id}: from iteration {learner.iteration} of {goal}", flush=True)
    curve = Curve(place(command, run) / "curve.jsonl", learner)
    try:
        with RunRecorder(folder, learner) as recorder:
            if not run.ended(learner.iteration, learner.samples):
                learner.learn(callbacks=[curve, recorder, stop, _is_wanted, _goes_on(run)])
        if not run.ended(learner.iteration, learner.samples):
            return None
        evaluations = [evaluate(learner, protocol, run.seed) for protocol in run.protocols]
    finally:
        learner.problem.close()
    return {
        **describe(run, curve.points),
        "iterations": learner.iteration,
        "samples": learner.samples,
        "evaluations": evaluations,
        "curve": thinned(curve.points),
    }


def _goes_on(run: Run) -> Callable[..., bool]:
    """Return a callback that ends training once the run is over."""
    return lambda learner, _: not run.ended(learner.iteration, learner.samples)


def _is_wanted(*_: object) -> bool:
    """Return whether the process that started this worker, and could stop it, still lives."""
    parent = multiprocessing.parent_process()
    return parent is None or parent.is_alive()


def place(command: Reproduce, run: Run) -> Path:
    """Return the work folder of a run with its current settings, the furthest, or a new one's."""
    found: dict[Path, int] = {}
    for folder in sorted(command.folder.glob(f"{run.id}-*")):
        iteration, config = run_folder.newest_settings(folder / "run")
        if agree(config, run.config):
            found[folder] = iteration
    if found:
        return max(found, key=found.__getitem__)
    digest = hashlib.sha256(json.dumps(settings(run), sort_keys=True).encode()).hexdigest()
    return command.folder / f"{run.id}-{digest[:8]}"


def shorter(runs: Sequence[Run], run: Run) -> list[Run]:
    """Return the runs that equal this one but are shorter, longest first."""
    alike = [r for r in runs if (r.arm, r.seed) == (run.arm, run.seed)]
    cut = [r for r in alike if r.iterations < run.iterations and settings(r) == settings(run)]
    return sorted(cut, key=lambda r: -r.iterations)


def begin_with_shorter(command: Reproduce, runs: Sequence[Run], run: Run) -> None:
    """Start a new run from the end of the longest shorter one."""
    here = place(command, run)
    for other in shorter(runs, run):
        source = place(command, other)
        if not (here / "run").exists() and is_done(command.results, other) and source.exists():
            shutil.rmtree(here / "copy.tmp", ignore_errors=True)
            shutil.copytree(source / "run", here / "copy.tmp")
            shutil.copyfile(source / "curve.jsonl", here / "curve.jsonl")
            (here / "copy.tmp").rename(here / "run")


def missing(run: Run) -> str | None:
    """Return why this machine cannot do a run, or None if it can."""
    return _refusal(run.preset)


@cache
def _refusal(name: str) -> str | None:
    """Return why this machine cannot make a preset's problem: data or a package are missing."""
    try:
        build(preset(name)).problem.close()
    except InputError as error:
        return str(error)
    return None


@contextmanager
def claimed(command: Reproduce, run: Run) -> Iterator[bool]:
    """Hold a run's folder; yield False if another process holds it."""
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


def status(command: Reproduce, runs: Sequence[Run]) -> str:
    """Return the state of every run, and the processor-hours left."""
    told, left, counts = [], 0.0, {"done": 0, "failed": 0, "to do": 0, "cannot run here": 0}
    known = {line["id"]: line for run in runs for line in read(results_file(command.results, run))}
    for run in runs:
        if is_done(command.results, run):
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
            hours = hours_left(run, runs, known.values(), points)
            left += hours
            goal = "" if run.samples else f" of {run.iterations}"
            told.append(f"{run.id}: at iteration {at}{goal}, {hours:.2f} h left")
    total = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return "\n".join([*told, f"{total}; about {left:.1f} processor-hours left"])


def hours_left(
    run: Run, runs: Sequence[Run], known: Any, points: Sequence[Mapping[str, Any]]
) -> float:
    """Return the processor-hours that a run still takes."""
    if run.samples or run.scratch:
        own = [line["seconds"] for line in known if line["arm"] == run.arm and line["seconds"] > 0]
        whole = sum(own) / len(own) if own else run.seconds
        done = points[-1]["samples"] / run.samples if points and run.samples else 0.0
        return max(0.0, 1 - done) * whole / 3600
    at = points[-1]["iteration"] if points else 0
    begins = max([at, *(other.iterations for other in shorter(runs, run))])
    return (run.iterations - begins) * pace(run, known, points) / 3600


def pace(run: Run, known: Any, points: Sequence[Mapping[str, Any]]) -> float:
    """Return processor seconds per iteration: measured on this arm if possible, else the list's."""
    own = [line for line in known if line["arm"] == run.arm and line["seconds"] > 0]
    if own:
        return sum(o["seconds"] for o in own) / sum(o["iterations"] for o in own)
    return points[-1]["seconds"] / points[-1]["iteration"] if points else run.seconds


if __name__ == "__main__":
    run_command(main)
