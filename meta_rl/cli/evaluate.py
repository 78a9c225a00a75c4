"""Compare runs with baselines on held-out tasks: ``meta-rl evaluate RUN [RUN ...]``."""

from __future__ import annotations

from meta_rl.cli.running import import_families, parse
from meta_rl.evaluation.settings import BASELINES, Settings


def main(arguments: list[str]) -> None:
    """Evaluate, print the table and say where the report is."""
    listed = "; ".join(f"{name}: {what}" for name, what in BASELINES.items())
    settings = parse(
        Settings,
        arguments,
        prog="meta-rl evaluate",
        description="Compare runs with baselines on held-out tasks, at equal environment steps. "
        f"Baselines: {listed}.",
    )
    settings.check()
    import_families(settings.families)
    from meta_rl.evaluation.protocol import contest, plan
    from meta_rl.evaluation.record import open_folder, record
    from meta_rl.evaluation.tables import plain

    planned = plan(settings)
    folder = open_folder(settings.out, planned)
    curves = contest(planned)
    print(plain(planned, curves))  # first: it is there whatever becomes of the files
    record(folder, planned, curves)
    print(f"report: {folder / 'report.html'}    data: evaluation.json, evaluation.csv beside it")
