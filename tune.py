"""Choose the best strategy for a family and budget: ``python tune.py [PRESET] [--option ...]``."""

from __future__ import annotations

import tyro

from commands import given, import_families, parse, run_command, told, with_data_folder
from presets import PRESETS, preset
from tuning.settings import SEARCHES, Settings

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
        prog="tune.py [PRESET]",
        description=f"Choose the best strategy for a preset. Presets: {', '.join(PRESETS)}. "
        f"Searches: {searches}. The same command continues; several at once share the work.",
        config=(tyro.conf.AvoidSubcommands,),
    )
    space = settings.check()
    from tuning.protocol import compare, on_budget, plan, search
    from tuning.record import record, results
    from tuning.study import Search

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
    train = told("train.py", "--config", folder / "chosen.json", families=settings.families)
    print(f"train it: {train}")
    print(f"report: {folder / 'report.html'}    data: tuning.json, trials.csv, comparison.csv")


if __name__ == "__main__":
    run_command(main)
