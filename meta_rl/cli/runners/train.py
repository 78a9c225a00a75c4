"""Do the work of ``meta-rl train``."""

from __future__ import annotations

import shlex
import sys
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

from meta_rl.assemble import Start, build, check_data, resolve_device
from meta_rl.cli.command import Ended, told
from meta_rl.cli.runners.folders import new_run, restarted, run_name
from meta_rl.cli.runners.starting import require_own_settings, settings_of, start_of
from meta_rl.cli.train import Train
from meta_rl.config import Config
from meta_rl.errors import InputError
from meta_rl.machine import parallel
from meta_rl.machine.parallel import processes
from meta_rl.naming import moment
from meta_rl.problems.foreseen import require_training
from meta_rl.runs.adapting import Results
from meta_rl.runs.learner import MetaLearner
from meta_rl.runs.progress import EvaluationProgress, ProgressBar
from meta_rl.runs.recorder import RunRecorder
from meta_rl.runs.signals import StopOnSignal, Stopped
from meta_rl.statistics import margin
from meta_rl.storage import files, run_folder
from meta_rl.tasks import few_members

__all__ = ["processes", "run", "settings_of"]


def run(name: str, command: Train, origin: Config | None, home: Path) -> None:
    """Train or resume, score held-out tasks, and print where results are.

    Args:
        name: name of the preset, for the run folder's name.
        command: options of the command.
        origin: settings of the preset or run that the options changed; None for a file's.
        home: the folder that relative paths start from.
    """
    if command.resume and origin:
        require_own_settings(command, origin)
    again = None if command.resume else restarted(home / command.log_dir)
    folder = home / command.resume if command.resume else again
    start = start_of(command)
    learner = _learner(command, folder, start, origin, home)
    if parallel.rank() > 0:  # only the first process records the run
        with StopOnSignal() as stop:
            learner.learn(callbacks=[stop])
        learner.problem.close()
        return
    folder = folder or new_run(home / command.log_dir, run_name(name, command))
    shown = command.resume or command.log_dir / folder.name  # as the user writes it
    _tell_start(learner, start, shown)
    code = command.families or _module_file(command.config)
    resume = told("train", "--resume", shown, families=code)
    with StopOnSignal() as stop, RunRecorder(folder, learner) as recorder:
        if command.init_sb3:
            files.copy(home / command.init_sb3, folder / "init_sb3.zip")
        if start and not again:
            start.keep(folder)
        if (file := _module_file(command.config)) and not command.resume:
            files.copy(home / file, folder / "module.py")
        progress = ProgressBar(learner)
        learner.learn(callbacks=[recorder, progress, stop])
        progress.close()
        if learner.iteration < learner.config.iterations:
            print(f"stopped; continue with: {resume}")
            return
        recorder.save()
        results = _tested(recorder, stop, resume) if learner.config.eval.test else None
    learner.problem.close()
    if results is None:
        print("not tested: --eval.no-test")
    else:
        _tell(results, learner)
    adapt = told("adapt", shown, families=code)
    print(f"adapt it: {adapt}    curves: tensorboard --logdir {shlex.quote(str(shown.parent))}")


def _learner(
    command: Train, folder: Path | None, start: Start | None, origin: Config | None, home: Path
) -> MetaLearner:
    """Return a new learner, or a run folder's learner as it stopped."""
    config = command.config
    newest = parallel.first(partial(run_folder.load_newest, folder)) if folder else None
    if newest:  # keep the blocks, whatever the number of processes now
        config = replace(config, blocks=newest[1]["config"].get("blocks") or 1)
        check_data(config)
    zipped = command.init_sb3 and home / command.init_sb3
    learner = build(config, resolve_device(command.device), zipped, start, origin)
    require_training(learner.problem, config)
    if newest is None:
        return learner
    _, manifest, tensors, damaged = newest
    for line in damaged:
        warnings.warn(line, stacklevel=2)
    learner.restore(manifest, tensors)
    if config.iterations < learner.iteration:
        raise InputError(
            f"resume: {folder} is at iteration {learner.iteration} already; expected at least as "
            f"many --iterations, got {config.iterations}."
        )
    return learner


def _module_file(config: Config) -> Path | None:
    """Return the file of a network's module, if the settings name one."""
    return Path(config.network.module.rpartition(":")[0]) if config.network.module else None


def _tell_start(learner: MetaLearner, start: Start | None, shown: Path) -> None:
    config = learner.config
    together = f" in {parallel.ranks()} processes" if parallel.ranks() > 1 else ""
    print(
        f"{config.family} on {learner.problem.device}{together}: {config.iterations} iterations "
        f"-> {shown}"
    )
    if learner.iteration == config.iterations:
        left = "its final test is left" if config.eval.test else "--eval.no-test: nothing is left"
        print(f"all iterations are done; {left}")
    for line in start.told if start else ():
        print(line)


def _tested(recorder: RunRecorder, stop: StopOnSignal, resume: str) -> Results:
    """Score a trained and saved run on its test tasks.

    A signal stops the test at once, with exit status 128 plus the signal's number.
    """
    progress = EvaluationProgress()
    try:
        with stop.at_once():
            return recorder.test(progress)
    except BaseException as error:
        print(
            f"training is done and saved, its final test was not finished; test it with: {resume}",
            file=sys.stderr,
        )
        if isinstance(error, Stopped):
            raise Ended(128 + error.number) from None
        raise
    finally:
        progress.close()


def _tell(results: Results, learner: MetaLearner) -> None:
    scores, success = results
    ended, remembers = learner.config.eval, learner.config.inner.method == "memory"
    print(
        f"mean {learner.problem.score_name} on {scores.shape[1]} held-out tasks, and 95 % interval:"
    )
    for k, (mean, half) in enumerate(zip(scores.mean(1), margin(scores.numpy()), strict=True)):
        rate = "" if success is None else f", success {success[k].mean():.0%}"
        print(f"  {moment(k, remembers)}: {mean:.4g} ± {half:.2g}{rate}")
    tasks = learner.held_out_tasks(scores.shape[1], final=ended.test_tasks is not None)
    if told := few_members(tasks):
        print(told)
    if lost := int((~scores.isfinite()).any(0).sum()):
        print(f"adapting failed on {lost} of {scores.shape[1]} tasks, so a mean is not finite")
