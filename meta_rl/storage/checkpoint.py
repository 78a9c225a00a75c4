"""Checkpoints: a readable manifest beside tensors, written atomically, loaded without running code.

A checkpoint is a folder:

    manifest.json         what it is: schema, kind, config, spaces, counters, versions, checksum
    tensors.safetensors   every tensor by name

It is written under a temporary name, flushed to disk and renamed, so that it is either whole or
not there. Neither safetensors nor a pickle notices a flipped byte: the manifest carries the
SHA-256 of the tensors file and of itself. docs/reliability.md has every field of the manifest.

A run's checkpoints are folders of its ``checkpoints/`` that a save of that run wrote. A manifest
tells: it knows its folder's name, its iteration and the run's settings. Whatever else is there,
folders and copies and links and files of a person's own, is neither counted nor changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import __version__ as gymnasium_version
from gymnasium import spaces
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from meta_rl.errors import InputError
from meta_rl.storage import files
from meta_rl.storage.migrations import SCHEMA, migrate
from meta_rl.storage.reading import read_file, reading, reason

MANIFEST, TENSORS, TEMPORARY = "manifest.json", "tensors.safetensors", ".tmp"
NAME = re.compile(r"(\d{9,})(?:-\d+)?")  # an iteration; with a number where that name was taken
UNFINISHED = re.compile(rf"\.{NAME.pattern}(\.\d+)?\.tmp")
MAY_CHANGE = {"iterations", "blocks", "eval", "folder"}
"""Settings that change nothing that was learned, and may be others when a run goes on."""
LARGEST = 2**53  # of a counter; TensorBoard and JSON hold all integers up to it
LARGEST_FILE = 2**38  # bytes


def save(folder: Path, manifest: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Path:
    """Write a checkpoint folder atomically and durably.

    Args:
        folder: must not exist yet.
        manifest: JSON values; schema, name, versions and checksums are added.
        tensors: by name; moved to the CPU.

    Raises:
        InputError: if the folder exists or cannot be written.
    """
    if os.path.lexists(folder):
        raise InputError(f"checkpoint: {folder} exists already; nothing was overwritten.")
    data = save_tensors({name: t.detach().cpu().contiguous() for name, t in tensors.items()})
    content = {
        "schema": SCHEMA,
        **manifest,
        "name": folder.name,
        "versions": versions(),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    content["manifest_sha256"] = _digest(content)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}{TEMPORARY}")
    try:
        discard(temporary)
        temporary.mkdir(parents=True)
        files.create(temporary / TENSORS, data)
        files.create(temporary / MANIFEST, (json.dumps(content, indent=1) + "\n").encode())
        files.sync_folder(temporary)
        temporary.rename(folder)
        files.sync_folder(folder.parent)
    except (OSError, ValueError) as error:  # the second of what is no path
        discard(temporary)
        raise InputError(
            f"checkpoint: cannot write {folder}: {error}. Earlier checkpoints are untouched."
        ) from error
    return folder


def load(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The manifest and the tensors of a checkpoint folder, verified, in today's schema.

    Nothing in it is executed, whatever it holds.

    Raises:
        InputError: if it is missing, damaged, or written by a newer version.
    """
    manifest, data = read_manifest(folder), _read(folder, TENSORS)
    if manifest.get("sha256") != hashlib.sha256(data).hexdigest():
        raise _damaged(folder, "its checksum does not match")
    try:
        return migrate(manifest, load_tensors(data))
    except MemoryError:
        raise
    except Exception as error:  # whatever a crafted file makes the parser raise
        raise InputError(
            f"checkpoint: expected safetensors in {folder / TENSORS}, got something else: "
            f"{reason(error)}. Nothing in it was executed; do not trust where it came from."
        ) from error


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return what the manifest of a checkpoint folder says, verified, in the schema it has.

    Raises:
        InputError: if it is missing, damaged, or written by a newer version.
    """
    content = _read(folder, MANIFEST)
    try:
        manifest = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _damaged(folder, reason(error)) from error
    schema = manifest.get("schema") if isinstance(manifest, dict) else None
    if not isinstance(schema, int) or schema < 1:
        raise _damaged(folder, f"{MANIFEST} names no schema")
    if schema > SCHEMA:
        raise InputError(
            f"checkpoint: expected schema {SCHEMA} or older, got {schema} in {folder}. "
            "A newer version of meta_rl wrote it; upgrade."
        )
    if manifest.pop("manifest_sha256", None) != _digest(manifest):
        raise _damaged(folder, "its checksum does not match")
    return manifest


def _read(folder: Path, name: str) -> bytes:
    try:
        return read_file(folder / name, LARGEST_FILE)
    except FileNotFoundError as error:
        raise InputError(
            f"checkpoint: expected a folder with {MANIFEST} and {TENSORS}, got {folder}. "
            "Give a run folder, or a folder under its checkpoints/ (adapted models: adapted/)."
        ) from error
    except (OSError, ValueError) as error:
        raise error if isinstance(error, InputError) else _damaged(folder, reason(error)) from error


def _damaged(folder: Path, why: str) -> InputError:
    return InputError(f"checkpoint: {folder} is damaged: {why}. Use an older one.")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide on a run's bits."""
    found = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "gymnasium": gymnasium_version,
    }
    return found | ({"mujoco": version("mujoco")} if "mujoco" in sys.modules else {})


def warn_of_versions(manifest: Mapping[str, Any]) -> None:
    """Warn in one line where a checkpoint was written by other versions than these."""
    written, now = manifest.get("versions"), versions()
    if not isinstance(written, dict):
        return
    differ = [
        f"{name} {written[name]} (now {now[name]})"
        for name in now
        if name in written and written[name] != now[name]
    ]
    if differ:
        warnings.warn(
            f"checkpoint: written with {', '.join(differ)}. It goes on, but equal bits are "
            "promised for equal versions alone.",
            stacklevel=3,
        )


def require_fields(manifest: Mapping[str, Any], kind: str, **types: type) -> None:
    """Refuse a manifest of another kind, or without what its kind holds.

    Raises:
        InputError: naming the field, its type and what is there.
    """
    if manifest.get("kind") != kind:
        raise InputError(f"checkpoint: expected kind {kind!r}, got {manifest.get('kind')!r}.")
    for name, expected in types.items():
        value = manifest.get(name)
        if not isinstance(value, expected) or isinstance(value, bool):
            raise InputError(
                f"checkpoint: expected {expected.__name__} as {name} of its {MANIFEST}, "
                f"got {value!r}."
            )


def counter(manifest: Mapping[str, Any], name: str) -> int:
    """Return a counter of a manifest; 0 if it is not there.

    Raises:
        InputError: if it is no integer from 0 to 2**53.
    """
    value = manifest.get(name, 0)
    if type(value) is not int or not 0 <= value <= LARGEST:
        raise InputError(
            f"checkpoint: expected a number from 0 to 2**53 as {name} of its {MANIFEST}, "
            f"got {str(value)[:40]}."
        )
    return value


def newest_iteration(run: Path) -> int:
    """The iteration of a run's newest whole checkpoint; -1 if there is none."""
    return newest_settings(run)[0]


def newest_settings(run: Path) -> tuple[int, Any]:
    """The iteration and the config of a run's newest whole checkpoint.

    Without one, -1 and what ``config.json`` holds, or None.
    """
    try:
        manifest = load_newest(run)[1]
    except InputError:
        return -1, _settings(run)
    return manifest.get("iteration", -1), manifest.get("config")


def remove(folder: Path) -> None:
    """Remove a checkpoint; stopped halfway, it is gone from the list of checkpoints already.

    One in which something else was put stays as it is.
    """
    if not holds_a_save_alone(folder):
        return
    gone = folder.with_name(f".{folder.name}{TEMPORARY}")
    folder.rename(gone)
    discard(gone)


def discard_temporary(run: Path) -> None:
    """Remove what a run killed in the middle of a save left; only while no other process saves."""
    for path in (run / "checkpoints").glob(f".*{TEMPORARY}"):
        if UNFINISHED.fullmatch(path.name):
            discard(path)
    for path in run.glob(files.TEMPORARY):
        if path.is_file() and not path.is_symlink():
            path.unlink()


def discard(folder: Path) -> None:
    """Remove the two files of a save and their folder, unless something else is in it."""
    if os.path.islink(folder):  # Path.is_symlink raises at names that cannot be
        return
    with suppress(OSError, ValueError):  # it is not there, or not only ours: no save minds
        for name in (MANIFEST, TENSORS):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


def checkpoints(run: Path) -> list[Path]:
    """A run's checkpoint folders, oldest first: those that a save of this run wrote."""
    found: dict[Path, Any] = {}
    for folder in _candidates(run):
        with suppress(InputError):  # damaged; load_newest tells of it
            manifest = read_manifest(folder)
            if _wrote(manifest, folder):
                found[folder] = manifest.get("config")
    settings = _settings(run)
    same = [folder for folder, config in found.items() if same_settings(config, settings)]
    return same or [*found]  # where config.json is missing or wrong, the checkpoints know better


def same_settings(one: Any, other: Any) -> bool:
    """Whether two configs' JSON values agree in every setting that both have and may not change."""
    if isinstance(one, dict) and isinstance(other, dict):
        both = (one.keys() & other.keys()) - MAY_CHANGE
        return all(same_settings(one[name], other[name]) for name in both)
    return one == other


def free_place(run: Path, iteration: int) -> Path | None:
    """Return the folder to save an iteration in; None if it is saved already, whole.

    A damaged checkpoint is moved out of the way. Anything else of that name stays, with a warning,
    and the folder gets another name.
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
    """Folders that may be checkpoints by their name and files, oldest first."""
    found = [
        path
        for path in (run / "checkpoints").glob("*")
        if NAME.fullmatch(path.name) and path.is_dir() and not path.is_symlink()
        if os.path.lexists(path / MANIFEST) or os.path.lexists(path / TENSORS)
    ]
    return sorted(found, key=lambda path: (int(path.name.partition("-")[0]), path.name))


def _wrote(manifest: Mapping[str, Any], folder: Path) -> bool:
    """Whether a save wrote this manifest into the folder of this very name, and not a person."""
    iteration = int(folder.name.partition("-")[0])
    # Before names were written there was one for each iteration.
    name = manifest.get("name", f"{iteration:09d}")
    return name == folder.name and manifest.get("iteration") == iteration


def _settings(run: Path) -> Any:
    """What ``config.json`` of a run holds; None if it is not there or is damaged."""
    try:
        return json.loads(read_file(run / "config.json"))
    except (OSError, ValueError, RecursionError):
        return None


def holds_a_save_alone(folder: Path) -> bool:
    """Return whether nothing but the files of a save is in a folder."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    there = [*folder.iterdir()]
    plain = all(path.is_file() and not path.is_symlink() for path in there)
    return plain and bool(there) and {path.name for path in there} <= {MANIFEST, TENSORS}


def _is_damaged_save(folder: Path) -> bool:
    """Whether a folder holds the files of a save, with a manifest that tells nothing any more."""
    if not holds_a_save_alone(folder):
        return False
    try:
        read_manifest(folder)
    except InputError:
        return True
    return False


def run_of(path: Path) -> Path:
    """The run folder, also where one checkpoint of it is given."""
    return path.parent.parent if path.parent.name == "checkpoints" else path


def load_newest(path: Path) -> tuple[Path, dict[str, Any], dict[str, Tensor], list[str]]:
    """The newest checkpoint of a run that is whole; or the checkpoint itself, if given one.

    Returns:
        Its folder, manifest, tensors, and a line for each damaged checkpoint that was passed over.

    Raises:
        InputError: if there is none.
    """
    if os.path.exists(path / MANIFEST):  # Path.exists raises at names that cannot be
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
        f"checkpoint: expected a run folder with checkpoints, got {path}. "
        "List yours with: ls -d runs/*/"
    )


def match_tensors(expected: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> None:
    """Refuse tensors whose names, shapes or types differ from what the model needs.

    Raises:
        InputError: naming the first difference.
    """
    for name in sorted(expected.keys() | got.keys()):
        wanted, there = (_shape(tensors.get(name)) for tensors in (expected, got))
        if wanted == there:  # and then both are there
            types = (expected[name].dtype, got[name].dtype)
            plain = (str(dtype).removeprefix("torch.") for dtype in types)
            wanted, there = (f"{wanted} of {dtype}" for dtype in plain)
        if wanted != there:
            raise InputError(
                f"checkpoint: expected {wanted} for {name}, got {there}. "
                "It belongs to another model or configuration."
            )


def _shape(tensor: Tensor | None) -> str:
    return "nothing" if tensor is None else str(list(tensor.shape))


def require_finite(tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors with a number that is NaN or infinite.

    Raises:
        InputError: naming the first one.
    """
    for name, value in tensors.items():
        if not bool(torch.isfinite(value).all()):
            raise InputError(
                f"checkpoint: expected finite numbers in {name}, got NaN or infinity. "
                "Use an older checkpoint."
            )


def describe_space(space: spaces.Space) -> dict[str, Any]:
    """A space as JSON values, to compare what a policy was trained on with what it meets."""
    if isinstance(space, spaces.Box):
        low, high = (np.asarray(b, dtype=float).tolist() for b in (space.low, space.high))
        return {
            "type": "Box",
            "low": _finite(low),
            "high": _finite(high),
            "dtype": str(space.dtype),
        }
    if isinstance(space, spaces.Discrete):
        return {"type": "Discrete", "n": int(space.n), "start": int(space.start)}
    return {"type": type(space).__name__, "description": str(space)}


def _finite(values: Any) -> Any:
    """Infinities as strings: JSON has none."""
    if isinstance(values, list):
        return [_finite(value) for value in values]
    return values if np.isfinite(values) else str(values)


def _digest(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
