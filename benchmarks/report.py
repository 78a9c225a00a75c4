"""Write the measured tables and figures of docs/benchmarks.md from the tracked results.

    python -m benchmarks.report

Text between ``<!-- NAME -->`` and ``<!-- /NAME -->`` is replaced; everything else stays.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from benchmarks.experiments import FAMILIES
from benchmarks.provenance import RESULTS

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
IMAGES = PAGE.parent / "images"


def main() -> None:
    page = PAGE.read_text()
    IMAGES.mkdir(exist_ok=True)
    results = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}
    families = {
        name: results.pop(f"learning-{name}") for name in FAMILIES if f"learning-{name}" in results
    }
    if families:
        page = replaced(page, "families", all_families(families))
    studies = {name: results.pop(name) for name in [*results] if name.startswith("tuning-")}
    if studies:
        page = replaced(page, "tuning", tunings(studies))
    for name, result in results.items():
        makers = {
            "stepping": rates,
            "few-shot-speed": few_shot,
            "optimizer-choice": choices,
            "learning-smoke": short_runs,
            "learning-smoke-metaworld": short_runs,
        }
        make = makers.get(name, learning if name.startswith("learning-") else timing)
        page = replaced(page, name, make(name, result) + "\n\n" + source(result))
    PAGE.write_text(page)


def replaced(page: str, name: str, text: str) -> str:
    """The page with the text between the name's marks replaced."""
    pattern = re.compile(rf"<!-- {name} -->.*<!-- /{name} -->", re.DOTALL)
    if not pattern.search(page):
        raise SystemExit(f"{PAGE} has no marks for {name}")
    return pattern.sub(lambda _: f"<!-- {name} -->\n{text}\n<!-- /{name} -->", page)


def source(result: dict[str, Any]) -> str:
    """One line: commit, day, versions, hardware."""
    p = result["provenance"]
    runs = [run for arm in result.get("arms", {}).values() for run in arm]
    commits = dict.fromkeys(run.get("commit", p["commit"]) for run in runs) or [p["commit"]]
    return (
        f"Commit {', '.join(f'`{commit}`' for commit in commits)}, {p['date']}; "
        f"torch {p['torch']}, Python {p['python']}; "
        f"{p['gpu'] or p['cpu']}, {p['cores']} cores, {p['threads']} threads."
    )


def learning(name: str, result: dict[str, Any]) -> str:
    """Mean score after each step with a 95 % interval over seeds and tasks, one row per arm."""
    arms = result["arms"]
    steps = range(len(next(iter(arms.values()))[0]["scores"]))
    shown = [k for k in steps if k <= 3 or k in (5, 10)]
    head = ["", *(f"after {k}" for k in shown), "seeds x iterations", "seconds a run"]
    rows = []
    for arm, runs in arms.items():
        scores = np.array([run["scores"] for run in runs])  # (seeds, K + 1, M)
        cells = [interval(scores[:, k]) for k in shown]
        seconds = np.median([run["seconds"] for run in runs])
        trained = f"{len(runs)} x {runs[0]['iterations']}"
        shown_as = arm
        if arm == "learned-optimizer":
            shown_as += f" ({', '.join(run['optimizer'] for run in runs)})"
        rows.append([shown_as, *cells, trained, f"{seconds:.0f}" if runs[0]["iterations"] else "-"])
    figure(name, arms, result["settings"].get("samples"))
    return table(head, rows) + f"\n\n![{name}](images/{name}.png)"


def all_families(results: dict[str, Any]) -> str:
    """One row per family: before and after adaptation, and a random initialization's."""
    head = [
        "",
        "before",
        "after 1",
        "after 3",
        "gain of 1",
        "gain of 3",
        "random, after 3",
        "seeds x iterations",
    ]
    rows = []
    for name, result in results.items():
        runs = result["arms"]["maml"]
        scores = np.array([run["scores"] for run in runs])
        random = np.array([run["scores"] for run in result["arms"]["random initialization"]])
        cells = [interval(s) for s in (scores[:, 0], scores[:, 1], scores[:, 3])]
        gains = [interval(scores[:, k] - scores[:, 0]) for k in (1, 3)]
        trained = f"{len(runs)} x {runs[0]['iterations']}"
        rows.append([f"`{name}`", *cells, *gains, interval(random[:, 3]), trained])
    sources = sorted({source(result) for result in results.values()})
    return table(head, rows) + "\n\n" + "\n".join(sources)


def tunings(results: dict[str, Any]) -> str:
    """One row per preset: default and chosen on the test tasks, and what the trials say."""
    head = ["", "budget", "default", "chosen", "gain", "trials whole, ended", "chosen strategy",
            "what mattered at the first rung"]  # fmt: skip
    rows = []
    for name, result in results.items():
        states = [trial["state"] for trial in result["trials"]]
        compared = result["comparison"] or {"arms": {}, "gain": None}
        cells = [estimate(arm["mean"][-1]) for arm in compared["arms"].values()] or ["", ""]
        gain = estimate(compared["gain"]) if compared["gain"] else "the default stays"
        mattered = [f"{what} {share:.2f}" for what, share in result["importance"].items()][:3]
        rows.append([
            f"`{name.removeprefix('tuning-')}`, {result['score']}", f"{result['budget']:,}",
            *cells, gain, f"{states.count('complete')}, {states.count('pruned')}",
            result["chosen"]["strategy"], ", ".join(mattered),
        ])  # fmt: skip
    commands = "\n".join(f"- `{result['command']}`" for result in results.values())
    sources = sorted({source(result) for result in results.values()})
    return "\n\n".join([table(head, rows), commands, "\n".join(sources)])


def estimate(values: list[float]) -> str:
    """A value and its interval."""
    value, low, high = values
    return f"{value:.3g} [{low:.3g}, {high:.3g}]"


def short_runs(name: str, result: dict[str, Any]) -> str:
    """One row per family: before and after one inner step, and the gain."""
    rows = []
    for family, runs in result["arms"].items():
        scores = np.array([run["scores"] for run in runs])
        columns = (scores[:, 0], scores[:, 1], scores[:, 1] - scores[:, 0])
        iterations = str(runs[0]["iterations"])
        rows.append([f"`{family}`", *map(interval, columns), iterations])
    return table(["", "before", "after 1", "gain", "iterations"], rows)


def interval(scores: np.ndarray) -> str:
    """Mean of scores (seeds, M) and its 95 % bootstrap interval, resampling seeds and tasks."""
    generator = np.random.default_rng(0)
    seeds, tasks = scores.shape
    draws = [
        scores[generator.integers(seeds, size=seeds)][:, generator.integers(tasks, size=tasks)]
        for _ in range(2000)
    ]
    low, high = np.percentile([draw.mean() for draw in draws], [2.5, 97.5])
    return f"{scores.mean():.3g} [{low:.3g}, {high:.3g}]"


def figure(name: str, arms: dict[str, Any], budget: int | None) -> None:
    """Score after adaptation and the step sizes while training; seeds as thin lines.

    With a budget in samples, many algorithms are compared, which differ in how many an iteration
    takes and in what their step sizes mean: then these are left out.
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
    figure.savefig(IMAGES / f"{name}.png", dpi=100)


def rates(name: str, result: dict[str, Any]) -> str:
    """Median steps a second, and each as a multiple of Gymnasium's two in the same run."""
    parts = []
    for work, contestants in result["steps a second"].items():
        beside = ("SyncVectorEnv", "AsyncVectorEnv")
        rows = []
        for who, rate in contestants.items():
            ratios = [rate["median"] / contestants[other]["median"] for other in beside]
            rows.append([who, f"{rate['median']:,}", *(f"{ratio:,.1f}" for ratio in ratios)])
        parts.append(table([f"`{work}`", "steps a second", *(f"x {b}" for b in beside)], rows))
    return "\n\n".join(parts)


def choices(name: str, result: dict[str, Any]) -> str:
    """Per family: the loss of each rule alone, and what the mixture chose, over seeds."""
    rows, rules = [], []
    for family, runs in result["families"].items():
        rules = list(runs[0]["alone"])
        alone = [spread([run["alone"][rule] for run in runs]) for rule in rules]
        weights = spread([run["weights"][run["chosen"]] for run in runs])
        hardened = spread([run["mixture, hardened"] for run in runs])
        rows.append([family, *alone, ", ".join(run["chosen"] for run in runs), weights, hardened])
    head = ["", *(f"{rule} alone" for rule in rules), "chosen", "its weight", "loss with it"]
    return table(head, rows)


def spread(values: list[float]) -> str:
    """Smallest to largest."""
    return f"{min(values):.2g} to {max(values):.2g}"


def few_shot(name: str, result: dict[str, Any]) -> str:
    """Medians of an arm's seconds, its speed as a multiple of the loop's, and peak memory."""
    parts = []
    for work, arms in result["work"].items():
        processor = {arm: np.median(values["processor_seconds"]) for arm, values in arms.items()}
        rows = [
            [
                arm,
                f"{np.median(values['seconds']):.2f}",
                f"{processor[arm]:.2f}",
                f"{processor['loop, autograd'] / processor[arm]:.2f}",
                f"{values['peak_mb']:,}",
            ]
            for arm, values in arms.items()
        ]
        parts.append(table([work, "seconds", "processor seconds", "x loop", "peak MB"], rows))
    return "\n\n".join(parts)


def timing(name: str, result: dict[str, Any]) -> str:
    """Median milliseconds of every phase, one column per kind of work."""
    work = result["work"]
    phases = list(dict.fromkeys(k for values in work.values() for k in values))
    cell: Callable[[Any], str] = lambda v: (  # noqa: E731
        "" if v is None else f"{1000 * v['median']:.0f} ms" if isinstance(v, dict) else f"{v:,.3g}"
    )
    rows = [
        [phase.removeprefix("seconds_"), *(cell(values.get(phase)) for values in work.values())]
        for phase in phases
    ]
    return table(["phase (median)", *work], rows)


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    main()
