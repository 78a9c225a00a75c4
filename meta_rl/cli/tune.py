"""Search for a better algorithm and settings: ``meta-rl tune [PRESET] [--option ...]``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from meta_rl.cli.command import import_families, import_network, work
from meta_rl.cli.parsing import (
    MORE,
    Beginning,
    Preset,
    parse,
    parse_beginning,
    preset_name,
    require_begun,
)
from meta_rl.config.showing import ONLY_IN_RUNS, RARE, without_effect
from meta_rl.presets import PRESETS, facts, preset
from meta_rl.tuning.settings import SEARCHES, TuningSettings

DEFAULT = "navigation-2d"


@dataclass(frozen=True, kw_only=True)
class Tune(TuningSettings):
    """Options of ``meta-rl tune``."""

    preset: Preset = ()
    """Preset to tune: see the list above. Give it before options."""


def _left_out(given: Tune) -> set[str]:
    return without_effect(given.config, facts(given.config)) | RARE | ONLY_IN_RUNS


def main(arguments: list[str]) -> None:
    """Train strategies, compare the best with the default, and print where results are."""
    begun = parse_beginning(Beginning, arguments)
    import_families(begun.families)
    name = preset_name(begun) or DEFAULT
    searches = "; ".join(f"{search}: {how}" for search, how in SEARCHES.items())
    settings = parse(
        Tune,
        arguments,
        silent=_left_out,
        default=Tune(preset=begun.preset, families=begun.families, config=preset(name)),
        prog="meta-rl tune",
        description="Search for a better algorithm and settings for a preset, then test whether "
        "they beat the default, which is the preset with the options given. Presets: "
        f"{', '.join(PRESETS)}. Searches: {searches}. The same command "
        f"continues a study; run it several times at once to share the work. {MORE}",
        config=(tyro.conf.AvoidSubcommands,),
    )
    require_begun(begun, settings)
    import_network(arguments, Path.cwd())
    work("tune", name, settings, settings.check())
