"""Make slow arrays once and keep them in the user's cache folder."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from meta_rl.errors import InputError
from meta_rl.storage import files
from meta_rl.storage.reading import open_file


def cache_folder() -> Path:
    """Return ``$XDG_CACHE_HOME/meta-rl-agents``, by default under ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "meta-rl-agents"


def cached_arrays(key: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the arrays of ``make``, read from the file of an earlier call if it is sound.

    The file appears whole or not at all, so several processes may call this at once. If the folder
    cannot be written to, arrays are made anew at each call.

    Args:
        key: the file's name; it must change with everything that the arrays depend on.
        make: a function that makes the arrays.
    """
    path = cache_folder() / f"{key}.npz"
    try:
        with open_file(path) as file, np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except Exception:  # missing or damaged: made anew below
        pass
    arrays = make()
    # A cache that cannot be written costs only time.
    with contextlib.suppress(OSError, InputError):
        _write(path, arrays)
    return arrays


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(file := io.BytesIO(), allow_pickle=False, **arrays)
    files.write(path, file.getvalue())
