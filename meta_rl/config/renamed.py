"""Old names of settings, in JSON that was written under them and on command lines.

To rename a setting, add a line to RENAMED: runs, checkpoints and studies with the old name load.
"""

from __future__ import annotations

from typing import Any

RENAMED = {
    "inner.tasks_at_once": "speed.tasks_at_once",
    "inner.recorded": "speed.recorded",
    "outer.members_at_once": "speed.members_at_once",
    "data.workers": "speed.workers",
}
"""Old dotted names, and the new ones."""

TYPES = {"speed": "SpeedConfig"}
"""Parts of the settings that are new altogether, and their classes."""


def renamed(values: dict[str, Any]) -> dict[str, Any]:
    """Return a run's settings as JSON values, under the new names.

    A value is moved only where the new name has none yet. What never was a setting stays, and
    :func:`meta_rl.config.from_dict` refuses it.
    """
    moved = dict(values)
    for old, new in RENAMED.items():
        (part, name), (home, own) = old.split("."), new.split(".")
        before, now = moved.get(part), moved.get(home, {"type": TYPES[home]})
        if isinstance(before, dict) and isinstance(now, dict) and name in before and own not in now:
            moved[part] = {key: value for key, value in before.items() if key != name}
            moved[home] = now | {own: before[name]}
    return moved


def new_name(option: str) -> str | None:
    """Return the new name of an old option, such as ``--speed.recorded``; None for others.

    Args:
        option: as on a command line, with or without a value after ``=``.
    """
    words = option.partition("=")[0].lstrip("-").replace("-", "_").replace(".no_", ".")
    now = RENAMED.get(words)
    return now and f"--{now.replace('_', '-')}"
