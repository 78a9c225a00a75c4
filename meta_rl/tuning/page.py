"""Make a tuning's report as one HTML file, in the style of an evaluation's."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from meta_rl.algorithms import algorithm
from meta_rl.evaluation.page import document, figure_of, section
from meta_rl.evaluation.tables import Table, interval
from meta_rl.naming import figure_text
from meta_rl.statistics import mean, stratified_bootstrap
from meta_rl.tuning.protocol import Comparison, TuningPlan


def page(planned: TuningPlan, content: dict[str, Any], comparison: Comparison) -> str:
    """Return the whole report as HTML.

    Args:
        planned: the tuning's plan.
        content: the results, as in ``tuning.json``.
        comparison: the chosen and the default strategy on the test tasks.
    """
    title = f"{planned.default.family}: algorithm and settings"
    chosen, score = content["chosen"], content["score"]
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="quiet">{escape(content["date"])}</p>',
        f'<p class="lead">Chosen: {escape(chosen["strategy"])} (trial {chosen["trial"]}). '
        f"{escape(content['verdict'])}</p>",
    ]
    if comparison.curves:
        parts += [
            figure_of("On test tasks", _adaptation(comparison, score),
                      "Mean with 95 % interval, fresh seeds, tasks never seen before."),
            section("Scores on test tasks", _scores(planned, comparison)),
        ]  # fmt: skip
    parts += [
        section("Where the chosen strategy differs", _settings(content)),
        figure_of(
            "Trials",
            _history(content),
            f"Validation {score} at every rung reached, later rungs darker. Scores beyond those "
            "of all fully trained trials are drawn at the edge.",
        ),
        section("Every trial", _trials(content)),
        section("Importance", _importance(content)),
        section("Options at the first rung", _options(content)),
        "<h2>How to read this</h2><ul>",
        *(f"<li>{escape(line)}</li>" for line in notes(planned, content)),
        "</ul>",
        section("Versions", (["", "version"], [[*pair] for pair in content["versions"].items()])),
    ]
    return document(title, parts)


def notes(planned: TuningPlan, content: dict[str, Any]) -> list[str]:
    """Return sentences on how the numbers came about and what they do not show."""
    unit = "environment steps" if content["score"] == "return" else "labelled examples"
    told = [
        f"Every trial trains on {content['budget']:,} {unit}, however many iterations that takes, "
        f"with seed {planned.default.seed}. It is scored after {content['inner_steps']} inner "
        f"steps of {content['episodes']} episodes (or shots) on the same "
        f"{content['validation_tasks']} validation tasks.",
        f"{'Higher' if planned.sign > 0 else 'Lower'} {content['score']} is better. A gain "
        "above 0 means that the chosen strategy is better.",
        "The chosen trial's validation score is too good, because it is the best of many. The "
        "comparison is fair: its test tasks and seeds had no part in the choice.",
        "Brackets are 95 % stratified-bootstrap intervals: seeds with replacement, and the same "
        "tasks, with replacement, for every seed. With three seeds they are somewhat too narrow, "
        "and one seed says nothing of another training run. The gain has a t interval for new "
        "seeds and new tasks, if there are two seeds or more.",
    ]
    tried = {trial["params"]["algorithm"] for trial in content["trials"]}
    preset = planned.settings.config
    if remember := [n for n in sorted(tried) if algorithm(n, preset).inner.method == "memory"]:
        told.append(
            f"Without inner steps ({' and '.join(remember)}), a score is the return of episode "
            f"{content['inner_steps'] + 1} of a trial, after as many single episodes as others "
            f"take inner steps of {content['episodes']} episodes."
        )
    known = {repr(task) for task in planned.validation}
    if met := sum(repr(task) in known for task in planned.test):
        told.append(
            f"{met} of the {len(planned.test)} test tasks are validation tasks too: the family has "
            "few members. For these tasks only the seeds are new."
        )
    if content["halving"] > 1:
        told.append(
            "Successive halving: trials that fall behind at a rung end there, so a strategy that "
            "learns slowly at first may be lost. The default is the first trial and never ends "
            "early."
        )
    if content["importance"]:
        told.append(
            "Importance (PED-ANOVA) is how much a choice explains which trials are in the best "
            "quarter at the first rung. From few trials it is a rough guess. Factors that some "
            "algorithms do not use are left out."
        )
    else:
        told.append("There are too few trials to tell which choices are important.")
    refused = [s for s in content["skipped"] if s["why"].startswith("refused")]
    told.append(
        f"{len(refused)} proposals were combinations that do not fit together and "
        f"{len(content['skipped']) - len(refused)} repeated earlier trials; they cost no trial."
    )
    if content["lost"]:
        told.append(
            "Trials that were repeated because their process ended: "
            f"{', '.join(map(str, content['lost']))}."
        )
    return told


def _scores(planned: TuningPlan, comparison: Comparison) -> Table:
    steps = range(planned.conditions.steps + 1)
    head = ["", "seeds × tasks", *(f"after {k}" for k in steps)]
    rows = []
    for curve in comparison.curves:
        cells = [interval(stratified_bootstrap(scores, mean)) for scores in curve.scores]
        rows.append([curve.name, "{} × {}".format(*curve.scores.shape[1:]), *cells])
    gain = interval(comparison.difference(planned.sign))
    rows.append(["gain", "", *[""] * (len(steps) - 1), gain])
    return head, rows


def _settings(content: dict[str, Any]) -> Table:
    rows = [[name, *map(str, pair)] for name, pair in content["settings"].items()]
    return ["setting", "default", "chosen"], rows or [["nowhere", "", ""]]


def _trials(content: dict[str, Any]) -> Table:
    head = ["strategy", "trial", "validation score", "at rungs", "iterations", "seconds", "ended"]
    rows = [
        [
            trial["strategy"],
            str(trial["number"]),
            "" if trial["score"] is None else f"{trial['score']:.4g}",
            " ".join(f"{score:.4g}" for score in trial["rungs"]),
            f"{trial['iterations'] or 0:,}",
            f"{trial['seconds'] or 0:.0f}",
            trial["ended"],
        ]
        for trial in content["trials"]
    ]
    return head, rows


def _importance(content: dict[str, Any]) -> Table:
    found = content["importance"].items()
    rows = [[name, f"{share:.2f}"] for name, share in found]
    return ["choice", "importance"], rows or [["too few trials", ""]]


def _options(content: dict[str, Any]) -> Table:
    best = "most" if content["higher_is_better"] else "least"
    head, rows, last = ["choice", "option", "trials", "mean", "best"], [], ""
    for row in content["options"]:
        name = row["choice"] if row["choice"] != last else ""
        last = row["choice"]
        cells = [f"{row[key]:.4g}" for key in ("mean", best)]
        rows.append([name, row["option"], str(row["trials"]), *cells])
    return head, rows


def _history(content: dict[str, Any]) -> Figure:
    """Draw every trial's scores at its rungs, darker for later rungs, and the best so far.

    Scores beyond those of all fully trained trials are drawn at the edge.
    """
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot()
    whole = [trial for trial in content["trials"] if trial["score"] is not None]
    seen = [score for trial in whole for score in trial["rungs"]]
    longest = max(len(trial["rungs"]) for trial in whole)
    for trial in content["trials"]:
        for rung, score in enumerate(np.clip(trial["rungs"], min(seen), max(seen)), 1):
            axes.plot(trial["number"], score, "o", color="C0", alpha=rung / longest)
    numbers, scores = zip(*((trial["number"], trial["score"]) for trial in whole), strict=True)
    best = np.maximum if content["higher_is_better"] else np.minimum
    axes.step(numbers, best.accumulate(scores), where="post", color="C1", label="best so far")
    axes.legend(frameon=False)
    axes.set(xlabel="trial", ylabel=f"validation {content['score']}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color="0.9")
    return figure


def _adaptation(comparison: Comparison, score: str) -> Figure:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    for curve in comparison.curves:
        found = np.array([stratified_bootstrap(scores, mean) for scores in curve.scores])
        middle, low, high = np.where(np.isfinite(found), found, np.nan).T
        at = range(len(middle))
        axes.fill_between(at, low, high, alpha=0.18, linewidth=0)
        axes.plot(at, middle, marker="o", markersize=4, label=figure_text(curve.name))
    axes.set(xlabel="inner steps", ylabel=score)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)
    axes.grid(color="0.9")
    return figure
