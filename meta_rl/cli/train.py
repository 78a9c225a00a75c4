"""Meta-train on a task family: ``meta-rl train [PRESET] [--option ...]``."""

from __future__ import annotations

import json
import os
import shlex
import sys
import warnings
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from meta_rl.algorithms import ALGORITHMS, algorithm
from meta_rl.assemble import Start, build, check_data, resolve_device
from meta_rl.cli.running import Ended, given, import_families, parse, told, with_data_folder
from meta_rl.config import Config, from_dict, to_dict
from meta_rl.errors import InputError
from meta_rl.presets import PRESETS, preset
from meta_rl.storage.reading import read_file, reason

if TYPE_CHECKING:
    from torch import Tensor

    from meta_rl.runs.recorder import RunRecorder, StopOnSignal

DEFAULT = "navigation-2d"
LARGEST_CONFIG = 2**24  # bytes
LAUNCH = ".launch"  # file in a run folder that says which launch of torchrun made it


@dataclass(frozen=True, kw_only=True)
class Train:
    """Where and how this run is kept, and every setting of it."""

    log_dir: Path = Path("runs")
    """Run folders are made in it: PRESET_1, PRESET_2, ..."""
    device: str = "auto"
    """auto (CUDA where there is one), cpu or cuda."""
    resume: Path | None = None
    """Continue this run folder with its own settings; --iterations may be raised. A run at its last
    iteration is tested (again)."""
    algorithm: str = "maml"
    """What is done with the preset's family: one of meta_rl.ALGORITHMS; sets the other defaults."""
    families: Path | None = None
    """A Python file of yours with task families (meta_rl.register) or algorithms."""
    file: Annotated[Path | None, tyro.conf.arg(name="config")] = None
    """Start from the settings in this file, meta-rl tune's chosen.json or a run's config.json."""
    init_sb3: Path | None = None
    """Zip of a stable-baselines3 PPO or A2C to start from instead of random weights."""
    init_run: Path | None = None
    """Another run, of any family, whose layers to start from wherever they match."""
    init_experts: tuple[str, ...] = ()
    """Zips of stable-baselines3 experts, each with the task that it knows, as
    goal=0.3,-0.2@first.zip; distilled into one policy to start from."""
    init_imitation: int = 0
    """Iterations of then imitating these experts through adaptation, which costs episodes."""
    config: Annotated[Config, tyro.conf.arg(name="")]


def main(arguments: list[str]) -> None:
    """Train, evaluate on held-out tasks and say where everything is."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:  # that torchrun sets
        _main(arguments)
        return
    from meta_rl import parallel

    with parallel.processes():
        _main(arguments)


def _main(arguments: list[str]) -> None:
    home = _working_folder()
    arguments = with_data_folder(arguments)
    import_families(given(arguments, "--families"))
    chosen = str(given(arguments, "--algorithm") or "maml")
    name = None
    if arguments and not arguments[0].startswith("-"):
        name, *arguments = arguments
    resumed = _resumed(given(arguments, "--resume"))
    if resumed and name:
        raise InputError(f"resume: a run keeps its own preset; leave out {name!r}.")
    if resumed and chosen != "maml":
        raise InputError(f"resume: a run keeps its own algorithm; leave out {chosen!r}.")
    file = given(arguments, "--config")
    if file and (name or resumed or chosen != "maml"):
        raise InputError(
            f"config: {file} says what to train and how; leave out the preset, --algorithm and "
            "--resume."
        )
    read = Train(file=file, config=read_config(file)) if file else None
    default = resumed or read or Train(config=algorithm(chosen, preset(name or DEFAULT)))
    command: Any = parse(
        Train,
        arguments,
        default=default,
        prog="meta-rl train [PRESET]",
        description=f"Meta-train on a task family (now: {default.config.family}). Presets: "
        f"{', '.join(PRESETS)}; any other family by its id (meta-rl envs). Algorithms: "
        f"{', '.join(ALGORITHMS)}.",
        config=(tyro.conf.AvoidSubcommands,),
    )
    if resumed:
        _check_resumed(command, resumed)
    # What a file says was chosen, setting by setting; what a preset or a run has was not.
    origin = None if read else default.config
    _train(name or (command.config.family if file else DEFAULT), command, origin, home)


def _working_folder() -> Path:
    """Return where paths begin, which code of others may leave for another folder."""
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        raise InputError(
            "working folder: it was removed. Change to one that is there, as with cd."
        ) from error


def _check_resumed(command: Train, resumed: Train) -> None:
    """Refuse to go on with other settings than the run has.

    Raises:
        InputError: if one differs that decides on what is learned.
    """
    from meta_rl.storage.checkpoint import same_settings

    one, other = command.config, resumed.config
    same = same_settings(to_dict(one), to_dict(other)) and one.blocks == other.blocks
    if not same or command.log_dir != resumed.log_dir or _starts(command):
        raise InputError(
            "resume: a run keeps its own settings; only --iterations, --eval... and --data (where "
            "its data are now) may change."
        )


def _starts(command: Train) -> list[str]:
    """The options given that say where theta starts."""
    places = {
        "--init-sb3": command.init_sb3,
        "--init-run": command.init_run,
        "--init-experts": command.init_experts,
    }
    return [option for option, value in places.items() if value]


def _start(command: Train) -> Start | None:
    """Where theta starts, if not at random nor from the one zip.

    Raises:
        InputError: if several are given, or an expert cannot be one.
    """
    if len(options := _starts(command)) > 1:
        raise InputError(f"init: expected one start, got {' and '.join(options)}.")
    if command.init_imitation and not command.init_experts:
        raise InputError("init_imitation: expected --init-experts to imitate, got none.")
    if command.init_run:
        from meta_rl import agents

        return agents.transfer.FromRun(command.init_run)
    if command.init_experts:
        from meta_rl import agents
        from meta_rl.families import parse_task

        experts = [
            agents.distillation.parse_expert(text, parse_task) for text in command.init_experts
        ]
        return agents.distillation.FromExperts(experts, command.init_imitation)
    return None


def read_config(file: Path) -> Config:
    """The settings in a JSON file, such as a run's ``config.json``.

    Raises:
        InputError: if it cannot be read, or holds something else.
    """
    try:
        values = json.loads(read_file(file, LARGEST_CONFIG))
    except InputError:
        raise
    except Exception as error:  # readers raise what they like at damaged or hostile data
        raise InputError(
            f"config: expected a JSON file of settings, got {file}: {reason(error)}."
        ) from error
    try:
        return from_dict(values)
    except InputError as error:
        raise InputError(f"{error} It is in {file}.") from error


def _resumed(run: Path | None) -> Train | None:
    """The settings of the run to resume, which then are the command's defaults."""
    if run is None:
        return None
    from meta_rl import parallel
    from meta_rl.storage import checkpoint

    if os.path.exists(run / checkpoint.MANIFEST):
        raise InputError(f"resume: expected a run folder, got the checkpoint {run}.")
    manifest = parallel.first(lambda: checkpoint.load_newest(run)[1])
    checkpoint.require_fields(manifest, "meta", config=dict)
    return Train(resume=run, config=from_dict(manifest["config"]))


def _restarted(log_dir: Path) -> Path | None:
    """The run with checkpoints that torchrun's launch made before it restarted its processes."""
    from meta_rl import parallel
    from meta_rl.storage import checkpoint

    def find() -> Path | None:
        if not parallel.launched_before():
            return None
        name = (parallel.launch() or "").encode()
        marks = [mark for mark in log_dir.glob(f"*/{LAUNCH}") if mark.is_file()]
        made = [mark.parent for mark in marks if mark.read_bytes() == name]
        kept = [folder for folder in made if checkpoint.checkpoints(folder)]
        return kept[0] if kept else None

    return parallel.first(find)


def _train(name: str, command: Train, origin: Config | None, home: Path) -> None:
    from meta_rl import parallel
    from meta_rl.runs.recorder import ProgressBar, RunRecorder, StopOnSignal
    from meta_rl.storage import checkpoint, files

    again = None if command.resume else _restarted(home / command.log_dir)
    config, folder = command.config, home / command.resume if command.resume else again
    newest = parallel.first(partial(checkpoint.load_newest, folder)) if folder else None
    if newest:  # whatever the number of processes now
        config = replace(config, blocks=newest[1]["config"].get("blocks") or 1)
        check_data(config)
    start = _start(command)
    device = resolve_device(command.device)
    zipped = command.init_sb3 and home / command.init_sb3
    learner = build(config, device, zipped, start, origin)
    config = learner.config
    if folder and newest:
        _, manifest, tensors, damaged = newest
        for line in damaged:
            warnings.warn(line, stacklevel=2)
        learner.restore(manifest, tensors)
        if config.iterations < learner.iteration:
            raise InputError(
                f"resume: {folder} is at iteration {learner.iteration} already; expected as many "
                f"--iterations or more, got {config.iterations}."
            )
    if parallel.rank() > 0:  # the first process does all the rest
        with StopOnSignal() as stop:
            learner.learn(callbacks=[stop])
        learner.problem.close()
        return
    folder = folder or _new_run(home / command.log_dir, _run_name(name, command))
    shown = command.resume or command.log_dir / folder.name  # as the person writes it
    processes = f" in {parallel.ranks()} processes" if parallel.ranks() > 1 else ""
    print(
        f"{config.family} on {learner.problem.device}{processes}: {config.iterations} iterations "
        f"-> {shown}"
    )
    if learner.iteration == config.iterations:
        left = "its final test is left" if config.eval.test else "--eval.no-test: nothing is left"
        print(f"all iterations are done; {left}")
    for line in start.told if start else ():
        print(line)
    resume = told("train", "--resume", shown, families=command.families)
    with StopOnSignal() as stop, RunRecorder(folder, learner) as recorder:
        if zipped:
            files.copy(zipped, folder / "init_sb3.zip")
        if start and not again:
            start.keep(folder)
        progress = ProgressBar(learner)
        learner.learn(callbacks=[recorder, progress, stop])
        progress.close()
        if learner.iteration < config.iterations:
            print(f"stopped; continue with: {resume}")
            return
        recorder.save()
        scores = _tested(recorder, stop, resume) if config.eval.test else None
    learner.problem.close()
    if scores is None:
        print("not tested: --eval.no-test")
    else:
        _tell(scores, learner.problem.score_name)
    adapt = told("adapt", shown, families=command.families)
    print(f"adapt it: {adapt}    curves: tensorboard --logdir {shlex.quote(str(shown.parent))}")


def _tested(recorder: RunRecorder, stop: StopOnSignal, resume: str) -> Tensor:
    """Score a trained run that is saved on the tasks kept for the end.

    A signal stops that at once, with exit status 128 and its number.
    """
    from meta_rl.runs.recorder import EvaluationProgress, Stopped

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


def _tell(scores: Tensor, score_name: str) -> None:
    from meta_rl.statistics import margin

    print(f"mean {score_name} on {scores.shape[1]} held-out tasks, and 95 % interval:")
    for k, (mean, half) in enumerate(zip(scores.mean(1), margin(scores.numpy()), strict=True)):
        print(f"  after {k} inner steps: {mean:.4g} ± {half:.2g}")


def _run_name(name: str, command: Train) -> str:
    """What a run is called: its preset or another family, and any algorithm but the default."""
    from meta_rl.naming import safe_name

    family = command.config.family
    run = family if command.file or family != preset(name).family else name
    return safe_name(run if command.algorithm == "maml" else f"{run}-{command.algorithm}")


def _new_run(log_dir: Path, name: str) -> Path:
    """Make a run folder that a restart by torchrun finds again."""
    from meta_rl import parallel
    from meta_rl.storage import files

    folder = next_run(log_dir, name)
    if launch := parallel.launch():
        files.write(folder / LAUNCH, launch)
    return folder


def next_run(log_dir: Path, name: str) -> Path:
    """Make the next free run folder, NAME_N; two processes never get the same.

    Raises:
        InputError: if it cannot be made.
    """
    try:
        names = [path.name.removeprefix(f"{name}_") for path in log_dir.glob(f"{name}_*")]
        for number in count(max(map(int, filter(str.isdecimal, names)), default=0) + 1):
            folder = log_dir / f"{name}_{number}"
            try:
                folder.mkdir(parents=True)
                return folder
            except FileExistsError:  # another process was faster
                continue
    except OSError as error:
        raise InputError(f"run folder: cannot write {log_dir}: {error}.") from error
    raise AssertionError("numbers do not end")
