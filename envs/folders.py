"""Folders that a person names: what should be there, and what is."""

from __future__ import annotations

from pathlib import Path

from meta_rl.errors import InputError


def describe_folder(folder: Path) -> str:
    """What is there, in a few words, for an error message."""
    if not folder.exists():
        return "nothing there"
    if not folder.is_dir():
        return "a file there"
    names = sorted(p.name + "/" * p.is_dir() for p in folder.iterdir())
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
