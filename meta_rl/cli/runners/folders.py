"""Name, make and find run folders."""

from __future__ import annotations

from itertools import count
from pathlib import Path

from meta_rl.cli.train import Train
from meta_rl.errors import InputError
from meta_rl.machine import parallel
from meta_rl.naming import safe_name
from meta_rl.presets import preset
from meta_rl.storage import files, run_folder

LAUNCH = ".launch"  # file in a run folder: the launch of torchrun that made it


def run_name(name: str, command: Train) -> str:
    """Return a run's name: its preset or family, and its algorithm unless that is the default."""
    family = command.config.family
    run = family if command.file or family != preset(name).family else name
    return safe_name(run if command.algorithm == "maml" else f"{run}-{command.algorithm}")


def new_run(log_dir: Path, name: str) -> Path:
    """Make a run folder that :func:`restarted` finds after a restart by torchrun."""
    folder = next_run(log_dir, name)
    if launch := parallel.launch():
        files.write(folder / LAUNCH, launch)
    return folder


def next_run(log_dir: Path, name: str) -> Path:
    """Make the next free run folder, NAME_N; two processes never get the same one.

    Raises:
        InputError: if the folder cannot be made.
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


def restarted(log_dir: Path) -> Path | None:
    """Return the run with checkpoints that this launch of torchrun made before a restart."""

    def find() -> Path | None:
        if not parallel.launched_before():
            return None
        name = (parallel.launch() or "").encode()
        marks = [mark for mark in log_dir.glob(f"*/{LAUNCH}") if mark.is_file()]
        made = [mark.parent for mark in marks if mark.read_bytes() == name]
        kept = [folder for folder in made if run_folder.checkpoints(folder)]
        return kept[0] if kept else None

    return parallel.first(find)
