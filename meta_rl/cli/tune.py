"""Choose the best strategy for a family and budget: ``meta-rl tune [PRESET] [--option ...]``."""

from __future__ import annotations

import tyro

from meta_rl.cli.running import given, import_families, parse, told, with_data_folder
from meta_rl.presets import PRESETS, preset
from meta_rl.tuning.settings import SEARCHES, Settings

DEFAULT = "navigation-2d"


def main(arguments: list[str]) -> None:
    """Try strategies, compare the best with the default, and say where everything is."""
    arguments = with_data_folder(arguments)
    import_families(given(arguments, "--families"))
    name = DEFAULT
    if arguments and not arguments[0].startswith("-"):
        name, *arguments = arguments
    searches = "; ".join(f"{search}: {how}" for search, how in SEARCHES.items())
    settings = parse(
        Settings,
        arguments,
        default=Settings(config=preset(name)),
        prog="meta-rl tune [PRESET]",
        description=f"Choose the best strategy for a preset. Presets: {', '.join(PRESETS)}. "
        f"Searches: {searches}. The same command continues; several at once share the work.",
        config=(tyro.conf.AvoidSubcommands,),
    )
    space = settings.check()
    from meta_rl.tuning.protocol import compare, on_budget, plan, search
    from meta_rl.tuning.record import record, results
    from meta_rl.tuning.study import Search

    planned = plan(name, settings, space)
    identity = settings.identity(space, planned.conditions.budget)
    study = Search(planned.folder, settings, space, identity, planned.problem.maximizes)
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
