"""Compare runs with baselines on held-out tasks: ``python evaluate.py RUN [RUN ...]``."""

from __future__ import annotations

from commands import import_families, parse, run_command
from evaluation.settings import BASELINES, Settings


def main(arguments: list[str]) -> None:
    """Evaluate, print the table and say where the report is."""
    listed = "; ".join(f"{name}: {what}" for name, what in BASELINES.items())
    settings = parse(
        Settings,
        arguments,
        prog="evaluate.py",
        description="Compare runs with baselines on held-out tasks, at equal environment steps. "
        f"Baselines: {listed}.",
    )
    settings.check()
    import_families(settings.families)
    from evaluation.protocol import contest, plan
    from evaluation.record import open_folder, record
    from evaluation.tables import plain

    planned = plan(settings)
    folder = open_folder(settings.out, planned)
    curves = contest(planned)
    print(plain(planned, curves))  # first: it is there whatever becomes of the files
    record(folder, planned, curves)
    print(f"report: {folder / 'report.html'}    data: evaluation.json, evaluation.csv beside it")


if __name__ == "__main__":
    run_command(main)
