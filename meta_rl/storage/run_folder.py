"""Find a run folder's own checkpoints, its newest one, and the place for the next.

A run's checkpoints are the folders in ``checkpoints/`` that a save of that run wrote. Their
manifests show it, by the folder's name, the iteration and the run's settings. Anything else there
(a user's folders, copies, links and files) is neither counted nor changed.
"""

from __future__ import annotations

import json
import os
import re
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from torch import Tensor

from meta_rl.config.renamed import renamed
from meta_rl.errors import InputError
from meta_rl.storage import files, pretrained
from meta_rl.storage.checkpoint import MANIFEST, TEMPORARY, TENSORS, discard, load, read_manifest
from meta_rl.storage.reading import read_file, reading

NAME = re.compile(r"(\d{9,})(?:-\d+)?")  # an iteration; with a number if that name was taken
UNFINISHED = re.compile(rf"\.{NAME.pattern}(\.\d+)?\.tmp")
MAY_CHANGE = {"iterations", "blocks", "eval", "folder"}
"""Settings that may change when a run is resumed, because learning does not depend on them."""


def newest_iteration(run: Path) -> int:
    """Return the iteration of a run's newest whole checkpoint; -1 if there is none."""
    return newest_settings(run)[0]


def newest_settings(run: Path) -> tuple[int, Any]:
    """Return the iteration and the config of a run's newest whole checkpoint.

    Without a checkpoint: -1 and the content of ``config.json``, or None.
    """
    try:
        manifest = load_newest(run)[1]
    except InputError:
        return -1, _settings(run)
    return manifest.get("iteration", -1), manifest.get("config")


def with_newer(run: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint's settings, but those that may change as ``config.json`` has them.

    A run that was resumed with other ones may have ended before its next checkpoint. If the file
    is missing or of another run, the checkpoint's settings are returned.
    """
    own = _settings(run)
    return _newer(renamed(config), renamed(own)) if same_settings(config, own) else config


def _newer(config: Any, own: Any) -> Any:
    """Return settings with those that may change as ``own`` has them, at any depth."""
    if not (isinstance(config, dict) and isinstance(own, dict)):
        return config
    changed = {name: own[name] for name in MAY_CHANGE & config.keys() & own.keys()}
    kept = {name: _newer(value, own.get(name)) for name, value in config.items()}
    return kept | changed


def remove(folder: Path) -> None:
    """Remove a checkpoint; if stopped halfway, the checkpoint is no longer listed.

    A checkpoint folder with other files in it stays as it is.
    """
    if not holds_a_save_alone(folder):
        return
    gone = folder.with_name(f".{folder.name}{TEMPORARY}")
    folder.rename(gone)
    discard(gone)


def discard_temporary(run: Path) -> None:
    """Remove the remains of a save that was killed; call only while no other process saves."""
    for path in (run / "checkpoints").glob(f".*{TEMPORARY}"):
        if UNFINISHED.fullmatch(path.name):
            discard(path)
    for path in run.glob(files.TEMPORARY):
        if path.is_file() and not path.is_symlink():
            path.unlink()


def checkpoints(run: Path) -> list[Path]:
    """Return the checkpoint folders that a save of this run wrote, oldest first."""
    found: dict[Path, Any] = {}
    for folder in _candidates(run):
        with suppress(InputError):  # damaged; load_newest reports it
            manifest = read_manifest(folder)
            if _wrote(manifest, folder):
                found[folder] = manifest.get("config")
    settings = _settings(run)
    same = [folder for folder, config in found.items() if same_settings(config, settings)]
    return same or [*found]  # if config.json is missing or wrong, trust the checkpoints


def same_settings(one: Any, other: Any) -> bool:
    """Return whether two configs agree in all common settings that may not change.

    Settings count by their names of today, whenever they were written.
    """
    if isinstance(one, dict) and isinstance(other, dict):
        return _agree(renamed(one), renamed(other))
    return one == other


def _agree(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        both = (one.keys() & other.keys()) - MAY_CHANGE
        return all(_agree(one[name], other[name]) for name in both)
    return one == other


def free_place(run: Path, iteration: int) -> Path | None:
    """Return the folder to save an iteration in; None if the iteration is saved already, whole.

    A damaged checkpoint of that name is renamed. Anything else of that name stays, with a warning,
    and another name is returned.
    """
    own = checkpoints(run)
    for folder in _names(run, iteration):
        if not os.path.lexists(folder):
            return folder
        if folder in own or _is_damaged_save(folder):
            try:
                load(folder)
                return None
            except InputError:
                folder.rename(folder.with_name(f".{folder.name}.damaged-{time.time_ns()}"))
                return folder
        warnings.warn(
            f"checkpoint: {folder} is not what this run saved. It stays as it is, and iteration "
            f"{iteration} is saved beside it under another name.",
            stacklevel=3,
        )
    raise AssertionError("names do not end")


def _names(run: Path, iteration: int) -> Iterator[Path]:
    name = f"{iteration:09d}"
    yield run / "checkpoints" / name
    yield from (run / "checkpoints" / f"{name}-{number}" for number in count(2))


def _candidates(run: Path) -> list[Path]:
    """Return the folders that have a checkpoint's name and files, oldest first."""
    found = [
        path
        for path in (run / "checkpoints").glob("*")
        if NAME.fullmatch(path.name) and path.is_dir() and not path.is_symlink()
        if os.path.lexists(path / MANIFEST) or os.path.lexists(path / TENSORS)
    ]
    return sorted(found, key=lambda path: (int(path.name.partition("-")[0]), path.name))


def _wrote(manifest: Mapping[str, Any], folder: Path) -> bool:
    """Return whether a save wrote this manifest into a folder of this name."""
    iteration = int(folder.name.partition("-")[0])
    # Older manifests have no name; their folders were named by the iteration alone.
    name = manifest.get("name", f"{iteration:09d}")
    return name == folder.name and manifest.get("iteration") == iteration


def _settings(run: Path) -> Any:
    """Return the content of a run's ``config.json``; None if it is missing or damaged."""
    try:
        return json.loads(read_file(run / "config.json"))
    except (OSError, ValueError, RecursionError):
        return None


def holds_a_save_alone(folder: Path) -> bool:
    """Return whether a folder holds only the files of a save."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    there = [*folder.iterdir()]
    plain = all(path.is_file() and not path.is_symlink() for path in there)
    return plain and bool(there) and {path.name for path in there} <= {MANIFEST, TENSORS}


def _is_damaged_save(folder: Path) -> bool:
    """Return whether a folder holds only the files of a save, and its manifest is damaged."""
    if not holds_a_save_alone(folder):
        return False
    try:
        read_manifest(folder)
    except InputError:
        return True
    return False


def run_of(path: Path) -> Path:
    """Return the run folder of a path, which may be the run folder or one of its checkpoints.

    Of a shipped model, ``pretrained:NAME``, return the folder for its results.
    """
    return path.parent.parent if path.parent.name == "checkpoints" else pretrained.writable(path)


def results_of(run: Path, name: str) -> Path:
    """Return the place of a command's results: in the run folder, or beside a checkpoint alone.

    A callback may replace such a checkpoint, and takes no other files for its own.

    Args:
        run: the result of :func:`run_of`.
        name: the place's name in a run folder.
    """
    return Path(f"{run}_{name}") if os.path.exists(run / MANIFEST) else run / name


def load_newest(path: Path) -> tuple[Path, dict[str, Any], dict[str, Tensor], list[str]]:
    """Load the newest whole checkpoint of a run, or the checkpoint at the path.

    The path may be ``pretrained:NAME``: see :mod:`meta_rl.storage.pretrained`.

    Returns:
        The checkpoint's folder, manifest and tensors, and a line for each checkpoint that was
        passed over.

    Raises:
        InputError: if there is no whole checkpoint, or no shipped model of that name.
    """
    path = pretrained.readable(path)
    if os.path.exists(path / MANIFEST):  # Path.exists raises at impossible names
        return path, *load(path), []
    passed_over: list[str] = []
    with reading(f"checkpoint: run folder {path}"):
        own, found = checkpoints(path), _candidates(path)
    for folder in reversed(found):
        try:
            content = load(folder)
            if folder in own:
                return folder, *content, passed_over
            passed_over.append(f"checkpoint: {folder} is not what this run saved: passed over.")
        except InputError as error:
            passed_over.append(str(error))
    if passed_over:
        raise InputError(" ".join(passed_over))
    raise InputError(
        f"checkpoint: expected a run folder with checkpoints, got {path}."
        f"{pretrained.advice(path)} List yours with: ls -d runs/*/"
    )
