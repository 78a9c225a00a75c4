"""Make the cards and the table of the models that are shipped, from their ``scores.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.published_tables import SHOWN
from benchmarks.speed.tables import table
from meta_rl.presets import preset
from meta_rl.statistics import margin
from meta_rl.storage import pretrained


def models() -> list[dict[str, Any]]:
    """Return the content of every shipped model's ``scores.json``."""
    folders = [pretrained.HOME / name for name in pretrained.names()]
    return [json.loads((folder / "scores.json").read_text()) for folder in folders]


def pretrained_table() -> str:
    """Return a row for each shipped model: what it was trained on, and its scores."""
    head = ["", "trained on", "score", "before", "after 1", "after 3"]
    rows = []
    for model in models():
        scores = np.array(model["scores"])
        cells = [interval(scores[k]) if k < len(scores) else "-" for k in (0, 1, 3)]
        name = f"`{pretrained.PREFIX}{model['name']}`"
        rows.append([name, _amount(model), model["score"], *cells])
    return table(head, rows)


def card(model: Mapping[str, Any]) -> str:
    """Return a model's card, in Markdown."""
    made, versions = model["provenance"], ("python", "torch", "numpy", "gymnasium", "mujoco")
    told = ", ".join(f"{name} {made[name]}" for name in versions if made[name])
    usual = preset(model["name"]).iterations
    but = "" if usual == model["iterations"] else f" (which has {usual:,} iterations)"
    rows = [
        ["family", f"`{model['family']}`: {model['summary']}"],
        [
            "algorithm",
            f"{model['algorithm']}, with the settings that the preset `{model['name']}` had "
            f"then{but}",
        ],
        ["meta-training", f"{model['iterations']:,} iterations, {_amount(model)}"],
        ["processor time", f"{model['seconds']:.0f} s on one thread of {made['cpu']}"],
        ["seed", str(model["seed"])],
        ["commit", ", ".join(f"`{commit}`" for commit in made["commit"])],
        ["versions", told],
    ]
    return f"""# {model["name"]}

    meta-rl adapt {pretrained.PREFIX}{model["name"]}

{table(["", ""], rows)}

## Scores

{_protocol(model)}

{_scores(model)}

## How it was chosen

{_choice(model)}

The settings are in `manifest.json`, all numbers in `scores.json`. `python -m benchmarks.pretrained`
wrote this folder.
"""


def interval(values: np.ndarray) -> str:
    """Return the mean of values and half its 95 % interval."""
    return f"{values.mean():.4g} ± {float(margin(values)):.2g}"


def _amount(model: Mapping[str, Any]) -> str:
    return f"{model['samples']:,} {model['unit']}"


def _protocol(model: Mapping[str, Any]) -> str:
    tasks, each = len(model["scores"][0]), model["episodes"]
    what = "episodes" if model["unit"] == "environment steps" else "examples"
    tasks = f"{tasks} held-out tasks" if model["held_out"] else f"{tasks} adaptations"
    why = "" if model["held_out"] else " The family has few tasks, and none is held out."
    return (
        f"Mean {model['score']} on {tasks} and its 95 % interval. Each inner step takes {each} "
        f"{what}.{why}"
    )


def _scores(model: Mapping[str, Any]) -> str:
    scores = np.array(model["scores"])
    shown = [k for k in SHOWN if k < len(scores)]
    return table(["inner steps", model["score"]], [[str(k), interval(scores[k])] for k in shown])


def _choice(model: Mapping[str, Any]) -> str:
    seeds, steps = model["candidates"], model["inner_steps"]
    rows = [[str(each["seed"]), f"{each['means'][-1]:.4g}"] for each in seeds]
    steps = f"{steps} inner step{'s' * (steps != 1)}"
    others = "other tasks" if model["held_out"] else "other episodes of the same tasks"
    return (
        f"Seed {model['seed']} is the best of {len(seeds)} by the mean {model['score']} after "
        f"{steps} on {model['validation_tasks']} {others}:\n\n"
        + table(["seed", f"validation {model['score']}"], rows)
    )
