"""Run a command: ``meta-rl train | adapt | evaluate | tune | prune | envs``."""

from __future__ import annotations

import sys
from importlib import import_module

from meta_rl.cli.command import run_command
from meta_rl.errors import unknown

COMMANDS = {
    "train": "meta-train a policy or network on a task family",
    "adapt": "adapt a trained run to one task or environment",
    "evaluate": "compare runs with baselines on held-out tasks",
    "tune": "search for a better algorithm and settings",
    "prune": "make a run's network smaller and faster",
    "envs": "list task families with their parameters and spaces",
}
"""What each command does. Each command is a module of this package with a ``main``."""


def main(command: str | None = None) -> None:
    """Run the given command, or the command that the first argument names."""
    name = command or "".join(sys.argv[1:2])
    run_command(run, command, prints=name in ("", "--help", "-h", "envs"))


def run(arguments: list[str]) -> None:
    """Run the command that the first argument names with the other arguments.

    Raises:
        InputError: if there is no such command.
    """
    name, *rest = arguments or ["--help"]
    if name in ("--help", "-h"):
        print("usage: meta-rl COMMAND [--help] ...\n")
        print("\n".join(f"  {known:<9} {what}" for known, what in COMMANDS.items()))
        return
    if name not in COMMANDS:
        raise unknown("command", COMMANDS, name)
    import_module(f"meta_rl.cli.{name}").main(rest)
