"""Make the tables that benchmarks/report.py writes, each from one kind of result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.speed.tables import short, table
from benchmarks.summary import evaluation
from meta_rl.evaluation.tables import needed, same_tasks, scores
from meta_rl.statistics import difference_interval


def source(result: dict[str, Any]) -> str:
    """Return a line with commit, date, versions and hardware."""
    p = result["provenance"]
    runs = [run for arm in result.get("arms", {}).values() for run in arm]
    runs += [*result.get("models", {}).values(), *result.get("works", {}).values()]
    commits = dict.fromkeys(run.get("commit", p["commit"]) for run in runs) or [p["commit"]]
    return (
        f"Commit {', '.join(f'`{commit}`' for commit in commits)}, {p['date']}; "
        f"torch {p['torch']}, Python {p['python']}; "
        f"{p['gpu'] or p['cpu']}, {p['cores']} cores, {p['threads']} threads."
    )


def learning(name: str, result: dict[str, Any]) -> str:
    """Return mean scores after each step, with 95 % intervals over seeds and tasks, by arm.

    Where the environments tell success, also the gain of one step and the success rates.
    """
    arms = result["arms"]
    steps = range(len(next(iter(arms.values()))[0]["scores"]))
    shown = [k for k in steps if k <= 3 or k in (5, 10)]
    told = shown if "success" in next(iter(arms.values()))[0] else []
    head = ["", *(f"after {k}" for k in shown), *(["gain of 1"] if told else [])]
    head += [*(f"success after {k}" for k in told), "seeds x iterations", "seconds a run"]
    rows = []
    for arm, runs in arms.items():
        scores = np.array([run["scores"] for run in runs])  # (seeds, K + 1, M)
        cells = [interval(scores[:, k]) for k in shown]
        cells += [interval(scores[:, 1] - scores[:, 0])] if told else []
        rates = np.array([run["success"] for run in runs]) if "success" in runs[0] else None
        cells += ["-" if rates is None else interval(rates[:, k]) for k in told]
        seconds = np.median([run["seconds"] for run in runs])
        trained = f"{len(runs)} x {runs[0]['iterations']}"
        shown_as = arm
        if arm == "learned-optimizer":
            shown_as += f" ({', '.join(run['optimizer'] for run in runs)})"
        rows.append([shown_as, *cells, trained, f"{seconds:.0f}" if runs[0]["iterations"] else "-"])
    return table(head, rows) + f"\n\n![{name}](../images/{name}.png)"


def all_families(results: dict[str, Any]) -> str:
    """Return a row per family: before and after adaptation, and from a random initialization."""
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
    """Return a row per preset: default and chosen strategy on test tasks, and the trials."""
    head = ["", "budget", "default", "chosen", "gain", "trials whole, ended", "chosen strategy",
            "what mattered at the first rung"]  # fmt: skip
    rows = []
    for name, result in results.items():
        states = [trial["state"] for trial in result["trials"]]
        compared = [*result["comparison"].get("arms", {}).values()]
        cells = [estimate(arm["mean"][-1]) for arm in compared] or ["", ""]
        last = [np.array(arm["scores"], float)[-1] for arm in compared]
        sign = 1 if result["higher_is_better"] else -1
        gain = "the default stays"
        if last:
            gain = estimate(difference_interval(sign * (last[1] - last[0])))
        mattered = [f"{what} {share:.2f}" for what, share in result["importance"].items()][:3]
        rows.append([
            f"`{name.removeprefix('tuning-')}`, {result['score']}", f"{result['budget']:,}",
            *cells, gain, f"{states.count('complete')}, {states.count('pruned')}",
            result["chosen"]["strategy"], ", ".join(mattered),
        ])  # fmt: skip
    commands = "\n".join(f"- `{result['command']}`" for result in results.values())
    sources = sorted({source(result) for result in results.values()})
    return "\n\n".join([table(head, rows), commands, "\n".join(sources)])


def estimate(values: Sequence[float]) -> str:
    """Format a value and its interval."""
    value, low, high = values
    return f"{short(value)} [{short(low)}, {short(high)}]"


def short_runs(name: str, result: dict[str, Any]) -> str:
    """Return a row per family: before and after one inner step, and the gain."""
    rows = []
    for family, runs in result["arms"].items():
        scores = np.array([run["scores"] for run in runs])
        columns = (scores[:, 0], scores[:, 1], scores[:, 1] - scores[:, 0])
        iterations = str(runs[0]["iterations"])
        rows.append([f"`{family}`", *map(interval, columns), iterations])
    return table(["", "before", "after 1", "gain", "iterations"], rows)


def against_baselines(name: str, result: dict[str, Any]) -> str:
    """Return an evaluation's tables: scores, and the steps that baselines need."""
    given, curves = evaluation(result)
    of_all = [curve for curve in curves if curve.kind != "rival"]
    on = result["settings"]["baseline_tasks"]
    unit = result["budget_unit"]
    parts = [
        table(*scores(given, [curve for curve in of_all if curve.split == split]))
        for split in dict.fromkeys(curve.split for curve in of_all)
    ]
    limited = same_tasks(curves)
    parts += [f"On the first {on} tasks alone:", table(*scores(given, limited))]
    parts += [f"{unit.capitalize()} needed on them:", table(*needed(given, limited))]
    return "\n\n".join(parts)


def interval(scores: np.ndarray) -> str:
    """Return the mean of scores ``(seeds, M)`` with its 95 % bootstrap interval."""
    generator = np.random.default_rng(0)
    seeds, tasks = scores.shape
    draws = [
        scores[generator.integers(seeds, size=seeds)][:, generator.integers(tasks, size=tasks)]
        for _ in range(2000)
    ]
    low, high = np.percentile([draw.mean() for draw in draws], [2.5, 97.5])
    return f"{short(scores.mean())} [{short(low)}, {short(high)}]"


def rates(name: str, result: dict[str, Any]) -> str:
    """Return median steps a second, also as multiples of Gymnasium's in the same run."""
    parts = []
    for work, contestants in result["steps a second"].items():
        beside = ("SyncVectorEnv", "AsyncVectorEnv")
        rows = []
        for who, rate in contestants.items():
            ratios = [rate["median"] / contestants[other]["median"] for other in beside]
            rows.append([who, f"{rate['median']:,}", *(f"{ratio:,.1f}" for ratio in ratios)])
        parts.append(table([f"`{work}`", "steps a second", *(f"x {b}" for b in beside)], rows))
    return "\n\n".join(parts)


def frames(name: str, result: dict[str, Any]) -> str:
    """Return the processor's seconds and the peak memory of an iteration on as many frames."""
    rows = [
        [arm, f"{run['frames']:,}", f"{run['seconds']:.1f}", f"{run['peak_gb']:.2f}"]
        for arm, run in result["contestants"].items()
    ]
    return table(["", "frames", "seconds", "peak memory, GB"], rows)


def choices(name: str, result: dict[str, Any]) -> str:
    """Return for each family the loss of each rule alone, and the mixture's choice, over seeds."""
    rows, rules = [], []
    for family, runs in result["families"].items():
        rules = list(runs[0]["alone"])
        alone = [spread([run["alone"][rule] for run in runs]) for rule in rules]
        weights = spread([run["weights"][run["chosen"]] for run in runs])
        hardened = spread([run["mixture, hardened"] for run in runs])
        rows.append([family, *alone, ", ".join(run["chosen"] for run in runs), weights, hardened])
    head = ["", *(f"{rule} alone" for rule in rules), "chosen", "its weight", "loss with it"]
    return table(head, rows)


def pruned(name: str, result: dict[str, Any]) -> str:
    """Return for each model a row per fraction of units: size, score and latencies."""
    parts = []
    for model, found in result["models"].items():
        steps = len(found["runs"][0][0]["scores"]) - 1
        head = [model, "units", "numbers", f"{found['score']} after {steps}, each seed", "lost, %"]
        head += ["predict", "inner step", "ONNX Runtime", "ONNX differs by"]
        rows = []
        for each in zip(*found["runs"], strict=True):
            one = each[0]
            seconds = {
                kind: np.median([run[kind] for run in each]) for kind in ("predict", "adapt")
            }
            in_onnx = np.median([run["onnx"]["seconds"] for run in each])
            rows.append([
                one["name"],
                ", ".join(map(str, one["units"])),
                f"{one['parameters']:,}",
                ", ".join(short(run["scores"][-1]) for run in each),
                estimate(one["lost"]) if "lost" in one else "",
                f"{1e6 * seconds['predict']:.0f} us",
                f"{1e3 * seconds['adapt']:.1f} ms",
                f"{1e6 * in_onnx:.0f} us",
                f"{max(run['onnx']['difference'] for run in each):.0e}",
            ])  # fmt: skip
        parts.append(table(head, rows))
    return "\n\n".join(parts)


def warm_starts(name: str, result: dict[str, Any]) -> str:
    """Return for each work and arm when each seed reaches the level, and the start's cost."""
    rows = []
    for work, found in result["works"].items():
        for arm, values in found["arms"].items():
            runs, last = values["runs"], found["iterations"]
            when = ", ".join(str(run["reached"] or f"not in {last}") for run in runs)
            spent = np.mean([run["samples"] for run in runs]) / last
            first, end = (np.mean([run["curve"][part] for run in runs]) for part in (0, -1))
            start = values["start_samples"] + runs[0].get("start_samples", 0)
            cost = f"{start:,} ({start / spent:.0f} iterations)" if start else "0"
            returns = f"{short(first)}, {short(end)}"
            rows.append([f"`{work}`", arm, f"{found['level']:.3g}", when, returns, cost])
    head = ["", "start", "return to reach", "iterations, each seed", "first and last return"]
    return table([*head, "environment steps of the start"], rows)


def spread(values: list[float]) -> str:
    """Format the range from smallest to largest."""
    return f"{min(values):.2g} to {max(values):.2g}"


def few_shot(name: str, result: dict[str, Any]) -> str:
    """Return arms' median seconds, speed as a multiple of the loop's, and peak memory.

    Ratios are of processor seconds where they were measured, which is not on a GPU.
    """
    parts = []
    for work, arms in result["work"].items():
        processor = {
            arm: np.median(values.get("processor_seconds", values["seconds"]))
            for arm, values in arms.items()
        }
        counted = "processor_seconds" in arms["loop, autograd"]
        rows = [
            [
                arm,
                f"{np.median(values['seconds']):.{2 if counted else 4}f}",
                *([f"{processor[arm]:.2f}"] if counted else []),
                f"{processor['loop, autograd'] / processor[arm]:.2f}",
                f"{processor['the convolutions alone'] / processor[arm]:.0%}",
                f"{values['peak_mb']:,}",
            ]
            for arm, values in arms.items()
        ]
        head = [work, "seconds", *(["processor seconds"] if counted else [])]
        head += ["x loop", "of the limit", "peak MB"]
        parts.append(table(head, rows))
    return "\n\n".join(parts)
