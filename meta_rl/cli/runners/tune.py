"""Do the work of ``meta-rl tune``."""

from __future__ import annotations

from meta_rl.cli.command import told
from meta_rl.tuning.protocol import compare, on_budget, plan, search
from meta_rl.tuning.record import record, results
from meta_rl.tuning.settings import TuningSettings
from meta_rl.tuning.space import Space
from meta_rl.tuning.study import Study


def run(name: str, settings: TuningSettings, space: Space) -> None:
    """Train strategies, compare the best with the default, and print where results are."""
    planned = plan(name, settings, space)
    identity = settings.identity(space, planned.conditions.budget)
    study = Study(planned.folder, settings, space, identity, planned.problem.maximizes)
    planned = on_budget(planned, study.budget)
    try:
        search(planned, study)
        comparison = compare(planned, study)
        content = results(planned, study, comparison)
    finally:
        study.close()
    chosen = content["chosen"]
    print(f"chosen: {chosen['strategy']} (trial {chosen['trial']})")
    print(content["verdict"])
    folder = planned.folder
    record(planned, content, comparison)
    train = told("train", "--config", folder / "chosen.json", families=settings.families)
    print(f"train it: {train}")
    print(f"report: {folder / 'report.html'}    data: tuning.json, trials.csv, comparison.csv")
