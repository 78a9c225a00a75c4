"""Checkpoints: a readable manifest beside tensors, written atomically, loaded without running code.

A checkpoint is a folder:

    manifest.json         schema, kind, config, spaces, counters, versions, checksums
    tensors.safetensors   every tensor by name

The folder is written under a temporary name, flushed to disk and renamed, so it is either whole or
not there. Neither safetensors nor a pickle notices a flipped byte, so the manifest holds the
SHA-256 of the tensors file and of itself. docs/reliability.md lists every field of the manifest.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import warnings
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
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
from meta_rl.storage.reading import read_file, reason

MANIFEST, TENSORS, TEMPORARY = "manifest.json", "tensors.safetensors", ".tmp"
LARGEST = 2**53  # largest counter; TensorBoard and JSON hold all integers up to it
LARGEST_FILE = 2**38  # bytes


def save(folder: Path, manifest: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Path:
    """Write a checkpoint folder atomically and durably.

    Args:
        folder: the folder to write; it must not exist yet.
        manifest: JSON values; schema, name, versions and checksums are added.
        tensors: the tensors to write, by name; they are moved to the CPU.

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
    except (OSError, ValueError) as error:  # ValueError if it is no path
        discard(temporary)
        raise InputError(
            f"checkpoint: cannot write {folder}: {error}. Earlier checkpoints are untouched."
        ) from error
    return folder


def load(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Load and verify the manifest and the tensors of a checkpoint folder, in today's schema.

    Nothing in the files is executed, whatever they hold.

    Raises:
        InputError: if the checkpoint is missing, damaged, or written by a newer version.
    """
    manifest, data = read_manifest(folder), _read(folder, TENSORS)
    if manifest.get("sha256") != hashlib.sha256(data).hexdigest():
        raise _damaged(folder, "its checksum does not match")
    try:
        return migrate(manifest, load_tensors(data))
    except MemoryError:
        raise
    except Exception as error:  # a crafted file may make the parser raise anything
        raise InputError(
            f"checkpoint: expected safetensors in {folder / TENSORS}, got something else: "
            f"{reason(error)}. Nothing in it was executed; do not trust where it came from."
        ) from error


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read and verify the manifest of a checkpoint folder; keep the manifest's own schema.

    Raises:
        InputError: if the manifest is missing, damaged, or written by a newer version.
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
    """Return the versions of Python and of the packages that a run's exact numbers depend on."""
    found = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "gymnasium": gymnasium_version,
    }
    return found | ({"mujoco": version("mujoco")} if "mujoco" in sys.modules else {})


def warn_of_versions(manifest: Mapping[str, Any]) -> None:
    """Warn in one line if a checkpoint was written with other versions than the current ones."""
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
            f"checkpoint: written with {', '.join(differ)}. The run goes on, but equal bits are "
            "promised for equal versions alone.",
            stacklevel=3,
        )


def require_fields(manifest: Mapping[str, Any], kind: str, **types: type) -> None:
    """Refuse a manifest of another kind, or without the fields of its kind.

    Raises:
        InputError: if a field is missing or wrong, naming the field, its type and its value.
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
    """Return a counter of a manifest; 0 if it is missing.

    Raises:
        InputError: if the counter is not an integer from 0 to 2**53.
    """
    value = manifest.get(name, 0)
    if type(value) is not int or not 0 <= value <= LARGEST:
        raise InputError(
            f"checkpoint: expected a number from 0 to 2**53 as {name} of its {MANIFEST}, "
            f"got {str(value)[:40]}."
        )
    return value


def discard(folder: Path) -> None:
    """Remove the two files of a save, and their folder unless other files are in it."""
    if os.path.islink(folder):  # Path.is_symlink raises at impossible names
        return
    with suppress(OSError, ValueError):  # the folder is missing, or holds other files
        for name in (MANIFEST, TENSORS):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


def match_tensors(expected: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> None:
    """Refuse tensors whose names, shapes or types differ from what the model needs.

    Raises:
        InputError: if a tensor differs, naming the first.
    """
    for name in sorted(expected.keys() | got.keys()):
        wanted, there = (_shape(tensors.get(name)) for tensors in (expected, got))
        if wanted == there:  # then both exist
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
    """Refuse tensors with NaN or infinity.

    Raises:
        InputError: if a tensor has one, naming the first such tensor.
    """
    for name, value in tensors.items():
        if not bool(torch.isfinite(value).all()):
            raise InputError(
                f"checkpoint: expected finite numbers in {name}, got NaN or infinity. "
                "Use an older checkpoint."
            )


def describe_space(space: spaces.Space) -> dict[str, Any]:
    """Describe a space by JSON values, to compare a policy's space with an environment's."""
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
    if isinstance(space, spaces.MultiDiscrete):
        return {"type": "MultiDiscrete", "nvec": space.nvec.tolist(), "start": space.start.tolist()}
    if isinstance(space, spaces.MultiBinary):
        return {"type": "MultiBinary", "shape": list(space.shape)}
    if isinstance(space, spaces.Dict):
        parts = {name: describe_space(part) for name, part in space.spaces.items()}
        return {"type": "Dict", "spaces": parts}
    if isinstance(space, spaces.Tuple):
        return {"type": "Tuple", "spaces": [describe_space(part) for part in space.spaces]}
    return {"type": type(space).__name__, "description": str(space)}


def _finite(values: Any) -> Any:
    """Write infinities as strings, because JSON has none."""
    if isinstance(values, list):
        return [_finite(value) for value in values]
    return values if np.isfinite(values) else str(values)


def _digest(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
