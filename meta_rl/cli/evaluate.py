"""Compare runs with baselines on held-out tasks: ``meta-rl evaluate RUN [RUN ...]``."""

from __future__ import annotations

from meta_rl.cli.command import work
from meta_rl.cli.parsing import parse
from meta_rl.evaluation.settings import BASELINES, EvaluationSettings


def main(arguments: list[str]) -> None:
    """Evaluate, print the table and the report's path."""
    listed = "; ".join(f"{name}: {what}" for name, what in BASELINES.items())
    settings = parse(
        EvaluationSettings,
        arguments,
        prog="meta-rl evaluate",
        description="Compare runs with baselines on held-out tasks, at equal environment steps. "
        f"Baselines: {listed}.",
    )
    settings.check()
    work("evaluate", settings)
