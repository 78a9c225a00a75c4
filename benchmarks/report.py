"""Write the tables and figures of the benchmark pages from the tracked results.

    python -m benchmarks.report

The pages are docs/benchmarks.md, docs/benchmarks/*.md and docs/pretrained.md. Text between
``<!-- NAME -->`` and ``<!-- /NAME -->`` is replaced, on the page that has these marks; everything
else stays.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from benchmarks import curve_figures, equal_tables, published_tables
from benchmarks.arms import arms
from benchmarks.classic_table import classic_table
from benchmarks.experiments import FAMILIES
from benchmarks.gpu_table import ran
from benchmarks.memory_tables import rl2_table
from benchmarks.preloaded import rows as preloaded
from benchmarks.pretrained_cards import pretrained_table
from benchmarks.provenance import RESULTS, read
from benchmarks.reproduce_list import RUNS
from benchmarks.speed.tables import speed
from benchmarks.summary import summary
from benchmarks.tables import (
    against_baselines,
    all_families,
    choices,
    few_shot,
    frames,
    learning,
    pruned,
    rates,
    short_runs,
    source,
    tunings,
    warm_starts,
)
from meta_rl.plots.pictures import encoded
from meta_rl.storage import files

DOCS = Path(__file__).parent.parent / "docs"
IMAGES = DOCS / "images"
ELSEWHERE = ("kills", "rank-kills", "processes", "controllers", "gittins")
"""Results of other pages, and of a column of another result's table."""


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    results = {name: read(name) for name in measured()}
    for name, result in alone(results).items():
        if maker(name) is learning:
            figure(name, result["arms"], result["settings"].get("samples"))
    for name, curves in equal_tables.results().items():
        path = IMAGES / f"{name}.png"
        if curves:
            files.write(path, encoded(equal_tables.figure(curves), dpi=100))
        else:
            path.unlink(missing_ok=True)
    files.write(IMAGES / "curves.png", curve_figures.overview(curve_figures.panels(arms(RUNS))))
    for page, text in filled(texts(results)).items():
        files.write(page, text)


def measured() -> list[str]:
    """Return the names of all results that the benchmark pages show."""
    return sorted({path.stem for path in RESULTS.glob("*.json")} - {*ELSEWHERE})


def texts(results: dict[str, Any]) -> dict[str, str]:
    """Return the text between each pair of marks: tables, and the provenance of their numbers."""
    families = {n: results[f"learning-{n}"] for n in FAMILIES if f"learning-{n}" in results}
    studies = {name: results[name] for name in results if name.startswith("tuning-")}
    each = {name: f"{maker(name)(name, r)}\n\n{source(r)}" for name, r in alone(results).items()}
    whole = {"summary": summary(results), "rl2": rl2_table(), "classic": classic_table()}
    whole |= {"published": published_tables.text(), "pretrained": pretrained_table()}
    whole |= {"families": all_families(families)} if families else {}
    whole |= {"tuning": tunings(studies)} if studies else {}
    whole |= {name: equal_tables.text(name, c) for name, c in equal_tables.results().items()}
    return whole | each


def alone(results: dict[str, Any]) -> dict[str, Any]:
    """Return the results that have their own marks; the others share tables."""
    shared = {f"learning-{name}" for name in FAMILIES}
    return {
        name: result
        for name, result in results.items()
        if name not in shared and not name.startswith("tuning-")
    }


def maker(name: str) -> Callable[[str, dict[str, Any]], str]:
    """Return the function that makes the tables of a result."""
    name = name.removesuffix("-cuda")
    makers = {
        "gpu": ran,
        "stepping": rates,
        "frames": frames,
        "preloaded": preloaded,
        "few-shot-speed": few_shot,
        "optimizer-choice": choices,
        "pruning": pruned,
        "transfer": warm_starts,
        "learning-smoke": short_runs,
        "learning-smoke-metaworld": short_runs,
        "learning-smoke-variants": short_runs,
    }
    kinds = {"learning": learning, "evaluation": against_baselines, "speed": speed}
    return makers.get(name) or kinds[name.partition("-")[0]]


def filled(texts: dict[str, str]) -> dict[Path, str]:
    """Return each benchmark page with these texts between their marks."""
    paths = [DOCS / "benchmarks.md", DOCS / "pretrained.md"]
    paths += sorted((DOCS / "benchmarks").glob("*.md"))
    pages = {path: path.read_text(encoding="utf-8") for path in paths}
    for name, text in texts.items():
        pattern = re.compile(rf"<!-- {name} -->.*<!-- /{name} -->", re.DOTALL)
        marked = [path for path, page in pages.items() if pattern.search(page)]
        if len(marked) != 1:
            raise SystemExit(f"expected marks for {name} on one page, got {len(marked)} pages")
        between = f"<!-- {name} -->\n{text}\n<!-- /{name} -->"
        pages[marked[0]] = pattern.sub(lambda _, text=between: text, pages[marked[0]])
    return pages


def figure(name: str, arms: dict[str, Any], budget: int | None) -> None:
    """Draw scores after adaptation, and step sizes, over training; seeds are thin lines.

    With a budget in samples, the axis is samples and step sizes are left out: many algorithms are
    compared, whose iterations take different numbers of samples and whose step sizes differ in
    meaning.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, 1 if budget else 2))
    across = "samples" if budget else "iteration"
    for number, (arm, runs) in enumerate(arms.items()):
        for seed, run in enumerate(runs):
            if not run["curve"]:
                continue
            style = {"color": colormaps["tab20" if budget else "tab10"](number), "linewidth": 0.9}
            label = arm if seed == 0 else None
            spent = [point[across] for point in run["curve"]]
            post = next(k for k in run["curve"][0] if k.endswith("_post"))
            axes[0].plot(spent, [p[post] for p in run["curve"]], label=label, **style)
            for key in (k for k in run["curve"][0] if k.startswith("rule/") and not budget):
                axes[1].plot(spent, [p[key] for p in run["curve"]], label=label, **style)
                label = None
    axes[0].set(xlabel=across, ylabel="score after adaptation, training tasks")
    for ax in axes[1:]:
        ax.set(xlabel=across, ylabel="mean step size")
    if name.endswith("-sinusoid"):
        axes[0].set_yscale("log")
    axes[0].legend(fontsize="small" if budget else None, ncols=2 if budget else 1)
    files.write(IMAGES / f"{name}.png", encoded(figure, dpi=100))


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()  # there are no options
    main()
