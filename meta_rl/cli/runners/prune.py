"""Do the work of ``meta-rl prune``."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from meta_rl import assemble, loading
from meta_rl.cli.command import import_families, told
from meta_rl.cli.prune import Prune
from meta_rl.cli.runners.folders import next_run
from meta_rl.errors import DivergedError, InputError
from meta_rl.pruning import smaller
from meta_rl.pruning.measure import Measured, measure, record, table, time_in_turns
from meta_rl.runs.learner import MetaLearner
from meta_rl.runs.progress import ProgressBar
from meta_rl.runs.recorder import RunRecorder
from meta_rl.runs.signals import StopOnSignal
from meta_rl.storage import files
from meta_rl.storage.reading import read_file, reading
from meta_rl.storage.run_folder import run_of
from meta_rl.tasks import few_members


def run(command: Prune) -> None:
    """Prune, train further, and show sizes, scores and latencies before and after."""
    import_families(command.families)
    learner = loading.load(command.run, assemble.resolve_device(command.device), data=command.data)
    # Let the criterion and the network refuse before anything is written.
    smaller.prune(learner, command.keep[0], command.by)
    folder = next_run(command.log_dir, f"{run_of(command.run).name}-pruned")
    ended = learner.config.eval
    tasks = command.tasks or ended.test_tasks or ended.tasks
    done = [(learner, measure(learner, "before", tasks))]
    with StopOnSignal() as stop:
        try:
            for keep in command.keep:
                if not stop.stopped:
                    done += _tried(learner, keep, command, folder, tasks, stop)
        finally:  # record finished prunings, even if another one fails
            _tell(done, folder, command, tasks)
    if len(done) == 1:
        raise InputError(
            "keep: expected a fraction that can be pruned to its end, got none; see above."
        )
    last = done[-1][1].run
    print(f"adapt it: {told('adapt', last, families=command.families)}")
    again = told("train", "--resume", last, families=command.families)
    print(f"train on: {again} --iterations N")


def _tried(
    learner: MetaLearner, keep: float, command: Prune, folder: Path, tasks: int, stop: StopOnSignal
) -> list[tuple[MetaLearner, Measured]]:
    """Return the pruned learner and its measures; nothing if it fails or is stopped early."""
    home, name = folder / f"keep-{keep:g}", f"keep {keep:g}"
    try:
        pruned = _pruned(learner, keep, command, home, stop)
        if not stop.stopped:
            return [(pruned, replace(measure(pruned, name, tasks), run=str(home)))]
        why = "it was stopped."
    except (InputError, DivergedError) as error:
        why = str(error)
    warnings.warn(f"{name} is left out: {why}", stacklevel=2)
    return []


def _pruned(
    learner: MetaLearner, keep: float, command: Prune, home: Path, stop: StopOnSignal
) -> MetaLearner:
    """Prune and train a learner in rounds; record the last round as a run of its own."""
    prunings = _earlier(run_of(command.run))
    units, rounds = [layer.units for layer in smaller.hidden_layers(learner)], command.rounds
    how = {"by": command.by, "keep": keep, "rounds": rounds, "iterations": command.iterations}
    how["after"] = learner.iteration
    for number in range(1, rounds + 1):
        share = keep ** (number / rounds)
        left = [max(1, round(share * count)) for count in units]
        learner = smaller.prune(learner, left, command.by, command.iterations)
        progress = ProgressBar(learner)
        if number < rounds:
            learner.learn(command.iterations, callbacks=[progress, stop])
            learner.problem.close()
        else:
            with RunRecorder(home, learner) as recorder:
                _keep_origin(run_of(command.run), home, [*prunings, how])
                learner.learn(command.iterations, callbacks=[recorder, progress, stop])
        progress.close()
        if stop.stopped:
            break
    return learner


def _earlier(run: Path) -> list[Any]:
    """Return how the run itself was pruned before, oldest first."""
    before = run / "pruned.json"
    if not os.path.exists(before):
        return []
    with reading(f"prune: {before}", "Give the run as it was written."):
        return [*json.loads(read_file(before))]


def _keep_origin(run: Path, home: Path, prunings: Sequence[Any]) -> None:
    """Write how the run was pruned, and copy the files that its theta started from."""
    for start in (*run.glob("init_*"), *run.glob("module.py")):
        files.copy(start, home / start.name)
    files.write_json(home / "pruned.json", [*prunings])


def _tell(
    done: Sequence[tuple[MetaLearner, Measured]], folder: Path, command: Prune, tasks: int
) -> None:
    """Time the prunings, then print and write their table."""
    learners, measured = [one for one, _ in done], [one for _, one in done]
    time_in_turns(learners, measured)
    for one in learners:
        one.problem.close()
    settings = {"run": str(command.run), "by": command.by, "tasks": tasks}
    settings |= {"rounds": command.rounds, "iterations": command.iterations}
    unit = learners[0].problem.score_name
    print(table(measured, unit))  # first, in case the files cannot be written
    if same := few_members(learners[0].held_out_tasks(tasks, final=True)):
        print(same)
    record(folder, measured, settings, unit)
    print(f"curve: {folder / 'pruning.png'}    data: {folder / 'pruning.json'}")
