"""Find the models that are shipped with this package: ``pretrained:NAME`` in place of a run folder.

A model is a checkpoint folder without training state, with its ``scores.json`` and a ``card.md``
made of them. It is only ever read: what a command makes of it goes into ``runs/pretrained-NAME``.
"""

from __future__ import annotations

from pathlib import Path

from meta_rl.errors import unknown

PREFIX = "pretrained:"
INSIDE = Path(__file__).parents[1] / "pretrained"
CHECKOUT = Path(__file__).parents[2]
# A wheel has the models inside the package, whatever lies beside it; a checkout beside it.
HOME = INSIDE if INSIDE.is_dir() else CHECKOUT / "pretrained"


def names() -> list[str]:
    """Return the names of all shipped models, in order; none where they may not be read."""
    try:
        return sorted(card.parent.name for card in HOME.glob("*/card.md"))
    except PermissionError:
        return []


def is_shipped(run: Path) -> bool:
    """Return whether a path is ``pretrained:NAME``, with any name."""
    return str(run).startswith(PREFIX)


def readable(run: Path) -> Path:
    """Return the folder to load: a shipped model's for ``pretrained:NAME``, else the path itself.

    Raises:
        InputError: if no model of that name is shipped; it lists those that are.
    """
    if not is_shipped(run):
        return run
    name, known = str(run).removeprefix(PREFIX), names()
    if name not in known:
        raise unknown("pretrained", known, name)
    return HOME / name


def writable(run: Path) -> Path:
    """Return the folder for results: ``runs/pretrained-NAME`` for a shipped model, else the path.

    The package may be installed where nobody may write.
    """
    return Path("runs", str(run).replace(":", "-", 1)) if is_shipped(run) else run


def advice(path: Path) -> str:
    """Return the right name of a shipped model that was given without its prefix, else nothing."""
    name = str(path)
    return f" The shipped model is {PREFIX}{name}." if name in names() else ""
