"""W3: the phases of MAML-TRPO on 2-D navigation, and whole iterations beside JAX's.

Beside JAX, every iteration takes the same number of conjugate-gradient products.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from benchmarks.speed import policies
from benchmarks.speed.programs import (
    JAX,
    Arm,
    chained,
    contest,
    of_program,
    peer,
    programs_on,
    repeated,
)
from meta_rl.assemble import build
from meta_rl.config import Config, EpisodesConfig, TRPOConfig
from meta_rl.presets import PRESETS

CURVATURES = {
    "curvature on all episodes, 10 products": (1.0, 10),
    "curvature on a quarter, 7 products": (0.25, 7),
}


def measure(rounds: int, device: str) -> dict[str, Any]:
    """Time the preset's phases, and iterations with each curvature beside JAX."""
    rows = {}
    for title, (fraction, products) in CURVATURES.items():
        beside = iterations(fixed(fraction, products), rounds, device)
        rows |= {f"{title}: {phase}": row for phase, row in beside.items()}
    found = policies.measure("W3", rounds, device)
    programs = {"ours": programs_on(device)[-1], "jax": peer(device), "rows": rows}
    return {**found, "programs": programs}


def fixed(fraction: float, products: int) -> Config:
    """Return the preset with so many products, none of them left out."""
    preset = PRESETS["navigation-2d"]
    outer = dataclasses.replace(
        preset.outer, curvature_fraction=fraction, cg_iterations=products, cg_progress=0.0
    )
    return dataclasses.replace(preset, outer=outer)


def iterations(config: Config, rounds: int, device: str) -> dict[str, Any]:
    """Time all programs' iterations in turns."""
    learners = {name: build(of_program(config, name), device) for name in programs_on(device)}
    arms: dict[str, Arm] = {
        name: {"iteration": repeated(learner.iterate)} for name, learner in learners.items()
    }
    if "version" in peer(device):
        arms[JAX] = compiled_by_jax(config)
    beside, _ = contest(arms, {}, rounds, device, 1)
    for learner in learners.values():
        learner.problem.close()
    return beside


def compiled_by_jax(config: Config) -> Arm:
    """Return JAX's iteration, from our first parameters."""
    import jax  # pyright: ignore[reportMissingImports]

    from benchmarks.speed import jax_navigation

    assert isinstance(config.data, EpisodesConfig)
    assert isinstance(config.outer, TRPOConfig)
    iterate = jax.jit(jax_navigation.iteration(config.data, config.outer))
    start = jax_navigation.initial(build(config).meta)
    return {"iteration": chained(iterate, start, jax.block_until_ready)}
