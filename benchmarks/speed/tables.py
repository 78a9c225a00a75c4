"""Make the tables of these timings for benchmarks/report.py."""

from __future__ import annotations

from typing import Any

import numpy as np

WITH_JAX = "speed-W1", "speed-W3"
"""Results with a JAX arm."""


def short(value: float | np.floating[Any]) -> str:
    """Return a number with three digits, or all of them before the point."""
    return f"{value:.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def speed(name: str, result: dict[str, Any]) -> str:
    """Return each work's phases (time, ratio to the loop, fraction of the limit), or growth.

    W1 and W3 have a table beside JAX too. A profile has a table for each program.
    """
    parts = [phases(title, found) for title, found in result.get("works", {}).items()]
    parts += [growth(axis, points) for axis, points in result.get("axes", {}).items()]
    parts += [profiled(title, found) for title, found in result.get("profile", {}).items()]
    if "works" in result and name.startswith(WITH_JAX):
        parts.append(beside_jax(result.get("programs")))
    if "program" in result:
        parts.append(f"Ours is `--speed.program {result['program']}`.")
    before, after = result["load"]
    return "\n\n".join([*parts, f"Load when it began and ended: {before} and {after} processes."])


def phases(title: str, found: dict[str, Any]) -> str:
    """Return a table with a row for each phase, and a line of counts."""
    beside = found.get("beside", "looped")
    head = [title, "times", "ours", beside, f"x {beside}", "limit", "of the limit"]
    rows = []
    for phase, row in found["phases"].items():
        ours, looped = row["ours"]["median"], row.get("reference", {}).get("median")
        rows.append(
            [
                phase,
                f"{row['times']:.3g}" if "times" in row else "",
                seconds(ours),
                seconds(looped) if looped else "",
                f"{looped / ours:.1f}" if looped else "",
                seconds(row["limit"]) if "limit" in row else "",
                f"{row['limit'] / ours:.0%}" if "limit" in row else "",
            ]
        )
    said = [
        f"{key} {value:,.3g}" if value < 1e3 else f"{key} {value:,.0f}"
        for key, value in found["counts"].items()
        if key != "times"
    ]
    rates = found["machine"]
    said += [
        f"matrix product {rates['matrix'] / 1e9:.0f} GFLOP/s",
        f"tanh {rates['tanh'] / 1e9:.2g} G/s",
        f"an operation {1e6 / rates['operation']:.1f} µs",
        *([f"`mj_step` {rates['mj_step']:,}/s"] if "mj_step" in rates else []),
    ]
    return f"{table(head, rows)}\n\n{'; '.join(said)}."


def beside_jax(programs: dict[str, Any] | None) -> str:
    """Return a table with a row for each work and phase: JAX, our programs, and the ratio.

    Args:
        programs: the seconds of all arms, as :mod:`benchmarks.speed.programs` measures them; None
            in results from before there was a JAX arm.
    """
    if programs is None:
        return "Beside JAX: not measured."
    ours, rows = programs["ours"], programs["rows"]
    names = list(dict.fromkeys(name for row in rows.values() for name in row["seconds"]))
    names = [name for name in names if name != "JAX"]
    head = ["beside JAX", "JAX", *names, f"{ours} / JAX", "first call: JAX", f"first call: {ours}"]
    cells = [[title, *_beside(row, names, ours)] for title, row in rows.items()]
    return f"{table(head, cells)}\n\n{_about_jax(programs)}"


def _beside(row: dict[str, Any], names: list[str], ours: str) -> list[str]:
    median = {name: found["median"] for name, found in row["seconds"].items()}
    first = row.get("first call", {})
    jax = median.get("JAX")
    return [
        seconds(jax) if jax else "not measured",
        *(seconds(median[name]) if name in median else "" for name in names),
        f"{median[ours] / jax:.2f}" if jax else "",
        *(seconds(first[name]) if name in first else "" for name in ("JAX", ours)),
    ]


def _about_jax(programs: dict[str, Any]) -> str:
    jax = programs["jax"]
    if "left out" in jax:
        return f"JAX was left out: {jax['left out']}."
    cores = {
        name: [row["cores"][name] for row in programs["rows"].values()]
        for name in ("JAX", programs["ours"])
    }
    busy = (f"{name} {min(each):.2g} to {max(each):.2g}" for name, each in cores.items())
    return f"JAX {jax['version']} with its default threads. Cores kept busy: {', '.join(busy)}."


def profiled(title: str, phases: dict[str, Any]) -> str:
    """Return a table with each phase's share of an iteration, and its operations by kind."""
    whole = phases["iteration"]
    kinds = sorted(whole["shares"], key=whole["shares"].__getitem__, reverse=True)
    kinds = [
        kind for kind in kinds if any(f["shares"].get(kind, 0) >= 0.01 for f in phases.values())
    ]
    cells = []
    for name, found in phases.items():
        part = found["times"] * found["seconds"] / whole["seconds"]
        shares = (found["shares"].get(kind, 0.0) for kind in kinds)
        times = f"{found['times']:.3g}"
        cells.append(
            [name, times, seconds(found["seconds"]), f"{part:.0%}", *(f"{s:.0%}" for s in shares)]
        )
    return table([title, "times", "seconds", "of the iteration", *kinds], cells)


def growth(axis: str, points: dict[str, Any]) -> str:
    """Return seconds and memory for each size, with the seconds divided by the size."""
    head = [axis, "sampling", "meta-gradient", "both, for each", "peak MB"]
    rows = [
        [
            f"{int(value):,}",
            seconds(point["sampling"]),
            seconds(point["meta-gradient"]),
            seconds((point["sampling"] + point["meta-gradient"]) / int(value)),
            f"{point['peak_mb']:,}",
        ]
        for value, point in points.items()
    ]
    return table(head, rows)


def seconds(value: float) -> str:
    """Format seconds with three digits, in a unit that suits them."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.1g} s"
