"""Checkpoints: a readable manifest beside tensors, written atomically, loaded without running code.

A checkpoint is a folder:

    manifest.json         what it is: schema, kind, config, spaces, counters, versions, checksum
    tensors.safetensors   every tensor by name

It is written under a temporary name, flushed to disk and renamed, so that it is either whole or
not there. Neither safetensors nor a pickle notices a flipped byte: the manifest carries the
SHA-256 of the tensors file and of itself. docs/reliability.md has every field of the manifest.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import __version__ as gymnasium_version
from gymnasium import spaces
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from meta_rl import files
from meta_rl.errors import InputError
from meta_rl.migrations import SCHEMA, migrate

MANIFEST, TENSORS, TEMPORARY = "manifest.json", "tensors.safetensors", ".tmp"


def save(folder: Path, manifest: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Path:
    """Write a checkpoint folder atomically and durably.

    Args:
        folder: must not exist yet.
        manifest: JSON values; schema, versions and checksums are added.
        tensors: by name; moved to the CPU.

    Raises:
        InputError: if the folder exists or cannot be written.
    """
    if folder.exists():
        raise InputError(f"checkpoint: {folder} exists already; nothing was overwritten.")
    data = save_tensors({name: t.detach().cpu().contiguous() for name, t in tensors.items()})
    content = {
        "schema": SCHEMA,
        **manifest,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "gymnasium": gymnasium_version,
        },
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    content["manifest_sha256"] = _digest(content)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}{TEMPORARY}")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        files.create(temporary / TENSORS, data)
        files.create(temporary / MANIFEST, (json.dumps(content, indent=1) + "\n").encode())
        files.sync_folder(temporary)
        temporary.rename(folder)
        files.sync_folder(folder.parent)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
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
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        data = (folder / TENSORS).read_bytes()
    except FileNotFoundError as error:
        raise InputError(
            f"checkpoint: expected a folder with {MANIFEST} and {TENSORS}, got {folder}. "
            "Give a run folder, or a folder under its checkpoints/."
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"checkpoint: {folder} is damaged: {error}. Use an older one.") from error
    schema = manifest.get("schema") if isinstance(manifest, dict) else None
    if not isinstance(schema, int) or schema < 1:
        raise InputError(f"checkpoint: {folder / MANIFEST} is damaged. Use an older one.")
    if schema > SCHEMA:
        raise InputError(
            f"checkpoint: expected schema {SCHEMA} or older, got {schema} in {folder}. "
            "A newer version of meta_rl wrote it; upgrade."
        )
    signature, digest = manifest.pop("manifest_sha256", None), hashlib.sha256(data).hexdigest()
    if signature != _digest(manifest) or manifest.get("sha256") != digest:
        raise InputError(
            f"checkpoint: {folder} is damaged: its checksum does not match. Use an older one."
        )
    try:
        tensors = load_tensors(data)
    except (SafetensorError, KeyError, ValueError) as error:
        raise InputError(
            f"checkpoint: expected safetensors in {folder / TENSORS}, got something else: {error}. "
            "Nothing in it was executed; do not trust where it came from."
        ) from error
    return migrate(manifest, tensors)


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


def newest_iteration(run: Path) -> int:
    """The iteration of a run's newest whole checkpoint; -1 if there is none."""
    try:
        return load_newest(run)[1].get("iteration", -1)
    except InputError:
        return -1


def remove(folder: Path) -> None:
    """Remove a checkpoint; stopped halfway, it is gone from the list of checkpoints already."""
    gone = folder.with_name(f".{folder.name}{TEMPORARY}")
    folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def discard_temporary(run: Path) -> None:
    """Remove what a run killed in the middle of a save left; only while no other process saves."""
    for path in (run / "checkpoints").glob(f".*{TEMPORARY}"):
        shutil.rmtree(path, ignore_errors=True)
    for path in run.glob(files.TEMPORARY):
        path.unlink()


def checkpoints(run: Path) -> list[Path]:
    """A run's checkpoint folders, oldest first."""
    return sorted(p for p in (run / "checkpoints").glob("*") if not p.name.startswith("."))


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
    if (path / MANIFEST).exists():
        return path, *load(path), []
    found, passed_over = checkpoints(path), []
    for folder in reversed(found):
        try:
            return folder, *load(folder), passed_over
        except InputError as error:
            passed_over.append(str(error))
    if passed_over:
        raise InputError(" ".join(passed_over))
    raise InputError(
        f"checkpoint: expected a run folder with checkpoints, got {path}. "
        "List yours with: ls -d runs/*/"
    )


def match_tensors(expected: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> None:
    """Refuse tensors whose names or shapes differ from what the model needs.

    Raises:
        InputError: naming the first difference.
    """
    for name in sorted(expected.keys() | got.keys()):
        shapes = [str(list(t[name].shape)) if name in t else "nothing" for t in (expected, got)]
        if shapes[0] != shapes[1]:
            raise InputError(
                f"checkpoint: expected {shapes[0]} for {name}, got {shapes[1]}. "
                "It belongs to another model or configuration."
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
