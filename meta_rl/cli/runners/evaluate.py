"""Do the work of ``meta-rl evaluate``."""

from __future__ import annotations

from meta_rl.cli.command import import_families
from meta_rl.evaluation import protocol
from meta_rl.evaluation.notes import started, unequal
from meta_rl.evaluation.record import open_folder, record
from meta_rl.evaluation.settings import EvaluationSettings
from meta_rl.evaluation.step_sizes import tuned
from meta_rl.evaluation.tables import plain


def run(settings: EvaluationSettings) -> None:
    """Evaluate, print the table and the report's path."""
    import_families(settings.families)
    planned = protocol.plan(settings)
    folder = open_folder(settings.out, planned)
    planned = tuned(planned)
    curves = protocol.contest(planned)
    print(plain(planned, curves))  # first, in case the files cannot be written
    for line in (*unequal(planned), *started(planned)):
        print(line)
    record(folder, planned, curves)
    print(f"report: {folder / 'report.html'}    data: evaluation.json, evaluation.csv beside it")
