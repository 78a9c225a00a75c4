"""List and describe folders that a user names, and make the errors about them."""

from __future__ import annotations

import os
from pathlib import Path

from meta_rl.errors import InputError
from meta_rl.storage.reading import reading


def is_folder(path: Path) -> bool:
    """Return whether a folder is there; False too if the path cannot be a folder's."""
    return os.path.isdir(path)  # Path.is_dir raises if a parent may not be read


def entries(folder: Path) -> list[Path]:
    """Return the entries of a folder, sorted by name.

    Raises:
        InputError: if the folder may not be read.
    """
    with reading(f"folder {folder}", "Make it readable for your user."):
        return sorted(folder.iterdir())


def describe_folder(folder: Path) -> str:
    """Describe the contents of a folder in a few words, for an error message."""
    if not os.path.lexists(folder):
        return "nothing there"
    if not is_folder(folder):
        return "a file there"
    names = [p.name + "/" * is_folder(p) for p in entries(folder)]
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return (", ".join(names[:5]) or "nothing in it") + more


def given(name: str, folder: Path | None, layout: str, where: str) -> Path:
    """Return the folder's path; if None, raise an InputError with its layout and source."""
    if folder is None:
        raise InputError(f"data: {name} needs a folder: expected {layout}. {where}")
    return Path(folder).expanduser()


def not_there(name: str, root: Path, layout: str, where: str) -> InputError:
    """Return the error for a folder that does not have the expected layout."""
    return InputError(
        f"data: {name}: expected {layout}, got {root} with {describe_folder(root)}. {where}"
    )
