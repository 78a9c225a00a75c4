"""Translate old names of settings, in stored JSON and on command lines.

To rename a setting, add a line to RENAMED. Runs, checkpoints and studies with the old name load.
"""

from __future__ import annotations

from typing import Any

RENAMED = {
    "inner.tasks_at_once": "speed.tasks_at_once",
    "inner.recorded": "speed.program",
    "speed.recorded": "speed.program",
    "outer.members_at_once": "speed.members_at_once",
    "data.workers": "speed.workers",
}
"""New dotted name of each old one."""

VALUES = {"recorded": {False: "plain", True: "recorded"}}
"""New value of each old one, for settings whose values changed too."""

TYPES = {"speed": "SpeedConfig"}
"""Class of each part of the settings that old JSON lacks."""

TRIALS = ("RL2Config", "VariBADConfig")
"""Classes of outer steps on trials."""


def renamed(values: dict[str, Any]) -> dict[str, Any]:
    """Return a run's settings as JSON values, under the new names.

    A value moves only if the new name has none yet. Unknown names stay;
    :func:`meta_rl.config.from_dict` refuses them.
    """
    moved = dict(values)
    for old, new in RENAMED.items():
        (part, name), (home, own) = old.split("."), new.split(".")
        before, now = moved.get(part), moved.get(home, {"type": TYPES[home]})
        if isinstance(before, dict) and isinstance(now, dict) and name in before and own not in now:
            moved[part] = {key: value for key, value in before.items() if key != name}
            moved[home] = moved.get(home, now) | {own: _today(name, before[name])}
    speed = moved.get("speed")
    if isinstance(speed, dict) and "program" not in speed:
        moved["speed"] = speed | {"program": "plain"}  # from before there was a choice
    outer = moved.get("outer")
    if isinstance(outer, dict) and outer.get("type") in TRIALS and "target_kl" not in outer:
        moved["outer"] = outer | {"target_kl": None}  # from before there was a limit
    network = moved.get("network")
    if isinstance(network, dict) and _is_old(network):
        moved["network"] = network | _left_out(network)
    data, inner = moved.get("data"), moved.get("inner")
    if isinstance(data, dict) and isinstance(inner, dict):
        whole = "action_scale" in data and "baseline" not in data
        if whole and inner.get("method", "gradient") == "gradient":
            moved["data"] = data | {"baseline": "linear"}  # the only one there was
    return moved


def _today(name: str, value: Any) -> Any:
    """Return the new value of an old setting; other values stay, to be refused later."""
    new = VALUES.get(name, {})
    return new.get(value, value) if isinstance(value, bool) else value


def _is_old(network: dict[str, Any]) -> bool:
    """Return whether a network's JSON values are from before it had an initialization."""
    return "initialization" not in network


def _left_out(network: dict[str, Any]) -> dict[str, None]:
    """Return as None what old settings spell out: the usual kind, and the kind's activation."""
    usual = {"kind": "mlp", "activation": "tanh"}
    if network.get("kind") == "convolutional":
        usual["activation"] = "relu"
    return {name: None for name, value in usual.items() if network.get(name) == value}


def new_name(option: str) -> str | None:
    """Return the new name of an old option, such as ``--speed.program``; None for other options.

    Args:
        option: the option as on a command line, with or without a value after ``=``.
    """
    words = option.partition("=")[0].lstrip("-").replace("-", "_").replace(".no_", ".")
    now = RENAMED.get(words)
    return now and f"--{now.replace('_', '-')}"
