"""Choose the best strategy for a family and budget: ``meta-rl tune [PRESET] [--option ...]``."""

from __future__ import annotations

from dataclasses import dataclass

import tyro

from meta_rl.cli.parsing import (
    MORE,
    Beginning,
    Preset,
    parse,
    parse_beginning,
    preset_name,
    require_begun,
)
from meta_rl.cli.running import import_families, work
from meta_rl.config.showing import RARE, without_effect
from meta_rl.presets import PRESETS, facts, preset
from meta_rl.tuning.settings import SEARCHES, TuningSettings

DEFAULT = "navigation-2d"


@dataclass(frozen=True, kw_only=True)
class Tune(TuningSettings):
    """The study of a preset."""

    preset: Preset = ()
    """What to tune: see the list above."""


def main(arguments: list[str]) -> None:
    """Try strategies, compare the best with the default, and say where everything is."""
    begun = parse_beginning(Beginning, arguments)
    import_families(begun.families)
    name = preset_name(begun) or DEFAULT
    searches = "; ".join(f"{search}: {how}" for search, how in SEARCHES.items())
    settings = parse(
        Tune,
        arguments,
        silent=lambda given: without_effect(given.config, facts(given.config)) | RARE,
        default=Tune(preset=begun.preset, families=begun.families, config=preset(name)),
        prog="meta-rl tune",
        description=f"Choose the best strategy for a preset. Presets: {', '.join(PRESETS)}. "
        f"Searches: {searches}. The same command continues; several at once share the work. {MORE}",
        config=(tyro.conf.AvoidSubcommands,),
    )
    require_begun(begun, settings)
    work("tune", name, settings, settings.check())
