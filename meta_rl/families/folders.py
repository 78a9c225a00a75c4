"""Folders that a person names: what should be there, and what is."""

from __future__ import annotations

import os
from pathlib import Path

from meta_rl.errors import InputError
from meta_rl.storage.reading import reading


def is_folder(path: Path) -> bool:
    """Return whether a folder is there; False too if its name cannot be one."""
    return os.path.isdir(path)  # Path.is_dir raises where a parent may not be looked into


def entries(folder: Path) -> list[Path]:
    """Return what is directly in a folder, by name.

    Raises:
        InputError: if it may not be read.
    """
    with reading(f"folder {folder}", "Give yourself the right to read it."):
        return sorted(folder.iterdir())


def describe_folder(folder: Path) -> str:
    """What is there, in a few words, for an error message."""
    if not os.path.lexists(folder):
        return "nothing there"
    if not is_folder(folder):
        return "a file there"
    names = [p.name + "/" * is_folder(p) for p in entries(folder)]
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return (", ".join(names[:5]) or "nothing in it") + more


def given(name: str, folder: Path | None, layout: str, where: str) -> Path:
    """The folder; InputError that says what it should hold and where to get it if None."""
    if folder is None:
        raise InputError(f"data: {name} needs a folder: expected {layout}. {where}")
    return Path(folder).expanduser()


def not_there(name: str, root: Path, layout: str, where: str) -> InputError:
    """The error for a folder that does not hold what it should."""
    return InputError(
        f"data: {name}: expected {layout}, got {root} with {describe_folder(root)}. {where}"
    )
