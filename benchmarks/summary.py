"""Make the table of docs/benchmarks.md: the main results, with a link to each page.

Our numbers and the baselines' are read from the tracked results. Numbers of other libraries and of
papers are written here; the page that a row links to tells their sources.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.arms import arms
from benchmarks.reproduce_list import CHEAP
from benchmarks.speed.tables import seconds, short, table
from meta_rl.evaluation.curves import Curve
from meta_rl.evaluation.tables import needed, same_tasks

LIBRARIES_ON_NAVIGATION = "pytorch-maml-rl: 5.6 s; garage, one process: 8.6 s; learn2learn: 67.7 s"
LIBRARY_ON_CHEETAH = "pytorch-maml-rl: 9.7 s"
PUBLISHED = (
    ("navigation-2d", "maml_500", "MAML paper, up to 40M steps: -11.7, -3.3, -3.2"),
    (
        "half-cheetah-direction",
        "maml_300",
        "learn2learn, 24M steps: 260 (40 to 470) after 1, with twice the steps 400 after 3; RLlib, "
        "90M steps or more: 260 after 1; ANIL paper, by ANIL: 363",
    ),
)
"""Long runs, by preset and arm, and what others report."""
Row = tuple[str, str, str, str]
"""The measurement, our number, the numbers to compare it with, and the link to the page."""


def summary(results: dict[str, Any]) -> str:
    """Return the table: scores after adaptation, then the environment steps, then speed."""
    rows = [*returns(results), *few_shot(results), *steps(results), *speed(results)]
    return table(["what", "here", "beside it", "page"], [list(row) for row in rows])


def returns(results: dict[str, Any]) -> list[Row]:
    """Return rows of mean returns on held-out tasks after 1 and 3 inner steps."""
    page = "[learning](benchmarks/learning.md)"
    rows = []
    for family, note in (("navigation-2d", ", an older preset"), ("cartpole", "")):
        by_arm = results[f"learning-{family}"]["arms"]
        told = [
            f"pretrained on all tasks, then adapted: {after(by_arm['pretrained'], 1, 3)}",
            f"PPO from scratch: {after(by_arm['PPO from scratch'], 1, 3)}",
        ]
        what = f"`{family}`{note}: return after 1 and 3 inner steps"
        rows.append((what, after(by_arm["maml"], 1, 3), "; ".join(told), page))
    return [*rows, *long_runs()]


def long_runs() -> list[Row]:
    """Return rows of listed runs with finished seeds, beside what is published."""
    found = {f"{arm.preset}_{arm.name}": arm for arm in arms(CHEAP) if arm.lines}
    rows = []
    for preset, name, told in PUBLISHED:
        if not (arm := found.get(f"{preset}_{name}")):
            continue
        steps = float(np.median([line["samples"] for line in arm.lines])) / 1e6
        scores, given = arm.values().mean((1, 2)), f"{steps:.0f}M steps, {len(arm.lines)} seeds"
        rows.append(
            (
                f"`{preset}`, {given}: return after 1, 2 and 3 inner steps",
                ", ".join(short(scores[k]) for k in (1, 2, 3)),
                told,
                f"[published numbers](benchmarks/published.md#{preset})",
            )
        )
    return rows


def few_shot(results: dict[str, Any]) -> list[Row]:
    """Return rows of the supervised few-shot problems."""
    arms = results["learning-sinusoid"]["arms"]
    images = results["learning-few-shot-glyphs-5way-1shot"]["arms"]
    loss = "sinusoid, 5 shots: mean squared error after 1, 5 and 10 inner steps"
    right = f"glyphs, 5-way 1-shot, {images['maml'][0]['iterations']} iterations: accuracy after 5"
    return [
        (
            loss,
            after(arms["5 shots"], 1, 5, 10),
            "MAML paper: 0.67, 0.38, 0.35",
            "[learning](benchmarks/learning.md#sinusoid)",
        ),
        (
            f"{right} inner steps",
            after(images["maml"], 5),
            f"random initialization: {after(images['random initialization'], 5)}; "
            "nearest neighbour in pixels: 0.704",
            "[few-shot](benchmarks/few-shot.md)",
        ),
    ]


def after(runs: list[dict[str, Any]], *steps: int) -> str:
    """Return the mean scores over seeds and tasks after each of some inner steps."""
    scores = np.array([run["scores"] for run in runs])  # (seeds, K + 1, M)
    return ", ".join(short(scores[:, k].mean()) for k in steps)


def steps(results: dict[str, Any]) -> list[Row]:
    """Return rows of the environment steps of one inner step, and of PPO for the same return."""
    rows = []
    for family in ("navigation-2d", "cartpole", "pendulum"):
        given, curves = evaluation(results[f"evaluation-{family}"])
        head, ((_, spent, *others),) = needed(given, same_tasks(curves))
        told = dict(zip(head[2:], others, strict=True))
        rows.append(
            (
                f"`{family}`: environment steps to the return after 1 inner step",
                spent,
                "; ".join(f"{who}: {told[who]}" for who in list(told)[:2]),
                "[baselines](benchmarks/baselines.md)",
            )
        )
    return rows


def speed(results: dict[str, Any]) -> list[Row]:
    """Return rows of seconds per meta-iteration and of environment steps a second."""
    page = "[speed](benchmarks/speed.md)"
    rows = [
        iteration(results["speed-W3"], "MAML-TRPO, `navigation-2d`", LIBRARIES_ON_NAVIGATION),
        iteration(results["speed-W4"], "MAML-TRPO, `half-cheetah-direction`", LIBRARY_ON_CHEETAH),
        iteration(results["speed-W1"], "MAML, sinusoid, 1 step, second order", ""),
    ]
    images = results["few-shot-speed"]["work"]["1 step, second order, 2 threads"]
    wall = {arm: seconds(float(np.median(values["seconds"]))) for arm, values in images.items()}
    told = f"looped: {wall['loop, autograd']}; torch's layers under vmap: "
    what = "MAML, 5-way 1-shot, 4 blocks of 64 channels: an iteration"
    rows.append((what, wall["ours, 8 tasks"], told + wall["vmap, torch's layers"]))
    rates = results["stepping"]["steps a second"]["half-cheetah-direction"]
    told = "; ".join(
        f"{who}: {rates[who]['median']:,}" for who in ("SyncVectorEnv", "AsyncVectorEnv")
    )
    steps = "[environment steps](benchmarks/stepping.md)"
    stepping = ("HalfCheetah: environment steps a second", f"{rates['ours']['median']:,}", told)
    return [*((*row, page) for row in rows), (*stepping, steps)]


def iteration(result: dict[str, Any], title: str, libraries: str) -> tuple[str, str, str]:
    """Return a row, without its link, of one iteration of the first work of a result."""
    row = next(iter(result["works"].values()))["phases"]["iteration"]
    told = [f"the same, looped: {seconds(row['reference']['median'])}", *filter(None, [libraries])]
    return f"{title}: an iteration", seconds(row["ours"]["median"]), "; ".join(told)


def trained(curve: dict[str, Any], result: dict[str, Any]) -> float | None:
    """Return the steps of meta-training; evaluations of before have them elsewhere."""
    if "trained" in curve or curve["kind"] == "oracle":
        return curve.get("trained")
    if curve["kind"] == "algorithm":
        return float(np.mean([run["samples"] for run in result["runs"]]))
    learned = curve["kind"] == "rival" and curve["name"] != "PPO from scratch"
    return result["settings"]["training_steps"] if learned else 0.0


def evaluation(result: dict[str, Any]) -> tuple[Any, list[Curve]]:
    """Return an evaluation's plan, as far as tables need it, and its curves."""
    curves = [
        Curve(
            name=curve["name"],
            kind=curve["kind"],
            split=curve["split"],
            members=tuple(curve["members"]),
            steps=tuple(point["inner_steps"] for point in curve["points"]),
            budget=np.array([point["budget"] for point in curve["points"]]),
            scores=np.array([point["scores"] for point in curve["points"]], float),
            trained=trained(curve, result),
        )
        for curve in result["curves"]
    ]
    given = SimpleNamespace(
        unit=result["budget_unit"],
        settings=SimpleNamespace(seed=result["settings"]["seed"]),
        sign=1 if result["higher_is_better"] else -1,
    )
    return given, curves
