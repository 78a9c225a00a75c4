"""Ship the best seed of each family's finished runs: ``python -m benchmarks.pretrained``.

The runs are those of ``benchmarks.reproduce`` by maml with the preset's own settings. Every seed
adapts to the same validation tasks, and the best becomes ``pretrained/PRESET``: a checkpoint
without training state, ``scores.json``, and ``card.md`` made of it. Scores on the test tasks are
those of the run's line of results. Repeated on the same runs, the command changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import tyro

from benchmarks.pretrained_cards import card
from benchmarks.provenance import compact as as_json
from benchmarks.reproduce import Reproduce, place
from benchmarks.reproduce_list import RUNS, Protocol, Run
from benchmarks.reproduce_results import evaluate, fits, read, results_file, rounded
from meta_rl import seeds
from meta_rl.cli.command import run_command
from meta_rl.cli.parsing import parse
from meta_rl.config import SpeedConfig, to_dict
from meta_rl.errors import InputError
from meta_rl.loading import load
from meta_rl.machine.threads import one_thread
from meta_rl.runs.learner import MetaLearner
from meta_rl.runs.state import without_training_state
from meta_rl.storage import checkpoint, files, pretrained, run_folder

ALGORITHM = "maml"
VALIDATION = 1997  # seed of the validation tasks and of the episodes on them
TASKS = 40  # validation tasks
LARGEST = 200_000  # bytes of a model
CARD, SCORES = "card.md", "scores.json"


@dataclass(frozen=True, kw_only=True)
class Ship:
    """The runs to choose from, and where their models go."""

    presets: tyro.conf.Positional[tuple[str, ...]] = ()
    """Presets to ship; if none is given, every preset with finished runs."""
    folder: Path = Reproduce.folder
    """Folder of the runs, as in benchmarks.reproduce."""
    results: Path = Reproduce.results
    """Folder of the runs' results, as in benchmarks.reproduce."""
    out: Path = pretrained.HOME
    """Folder of the models."""


def main(arguments: list[str], runs: Sequence[Run] = RUNS) -> None:
    """Ship a model for each preset, and print which seed was chosen."""
    command = parse(Ship, arguments, prog="pretrained", description=__doc__)
    names = command.presets or dict.fromkeys(run.preset for run in runs)
    there = {name: found for name in names if (found := finished(command, runs, name))}
    lacking = [name for name in command.presets if name not in there]
    if lacking or not there:
        raise InputError(
            f"presets: expected finished runs of {lacking[0] if lacking else 'a preset'} by "
            f"{ALGORITHM}, with checkpoints in {command.folder} and lines in {command.results}, "
            "got none. Train them with python -m benchmarks.reproduce."
        )
    for name, found in there.items():
        with one_thread():
            print(f"{name}: {ship(command, name, found)}", flush=True)


class Finished(NamedTuple):
    """A finished run."""

    run: Run
    folder: Path
    result: dict[str, Any]
    """The run's line of results."""


def finished(command: Ship, runs: Sequence[Run], name: str) -> list[Finished]:
    """Return the longest finished runs of a preset's own settings."""
    where, found = Reproduce(folder=command.folder, results=command.results), []
    for run in runs:
        own = (run.preset, run.algorithm, run.label, run.samples) == (name, ALGORITHM, "", None)
        lines = read(results_file(command.results, run)) if own else []
        folder = place(where, run) / "run"
        found += [Finished(run, folder, line) for line in lines if fits(line, run)]
    there = [
        one
        for one in found
        if "failed" not in one.result
        and run_folder.newest_iteration(one.folder) == one.result["iterations"]
    ]
    longest = max((one.run.iterations for one in there), default=0)
    return [one for one in there if one.run.iterations == longest]


def ship(command: Ship, name: str, found: Sequence[Finished]) -> str:
    """Write the model of the best of these runs; return what was done.

    Raises:
        InputError: if the model is too large.
    """
    home = command.out / name
    sources = [run_folder.load_newest(one.folder)[1]["sha256"] for one in found]
    old = json.loads((home / SCORES).read_text()) if (home / SCORES).exists() else {}
    same = [each["sha256"] for each in old.get("candidates", ())] == sources
    if same and old["scores"] in [_tested(one)["scores"] for one in found]:
        files.write(home / CARD, card(old))
        return f"{old['run']} as before"
    learners = [load(one.folder) for one in found]
    _require_small(name, learners[0])
    means = [validate(learner) for learner in learners]
    sign = 1 if learners[0].problem.maximizes else -1
    best = max(range(len(found)), key=lambda number: sign * means[number][-1])
    candidates = [
        {"run": one.run.id, "seed": one.run.seed, "sha256": source, "means": scores}
        for one, source, scores in zip(found, sources, means, strict=True)
    ]
    write(home, learners[best], describe(found[best], learners[best], candidates))
    for learner in learners:
        learner.problem.close()
    return f"{found[best].run.id}, the best of {len(found)} on validation tasks"


def validate(learner: MetaLearner) -> list[float]:
    """Return mean scores on validation tasks after 0..K inner steps, K as in meta-training.

    A family of few tasks has no others than the test's; then only the episodes are others.
    """
    tasks = learner.problem.held_out_tasks(TASKS, seeds.derive(VALIDATION, seeds.EVALUATION))
    protocol = Protocol(tasks=tuple(tasks), steps=learner.config.inner.steps)
    scores = evaluate(learner, protocol, VALIDATION)["scores"]
    return [rounded(sum(row) / len(row)) for row in scores]


def describe(
    chosen: Finished, learner: MetaLearner, candidates: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the content of a model's ``scores.json``.

    Args:
        chosen: the run that the model is of.
        learner: the run's learner.
        candidates: each run to choose from, with its validation scores.
    """
    run, result = chosen.run, chosen.result
    problem: Any = learner.problem
    data: Any = learner.config.data
    test = _tested(chosen)
    family, plays = problem.family, problem.environments is not None
    return {
        "name": run.preset,
        "family": family.id,
        "summary": family.summary,
        "algorithm": run.algorithm,
        "run": run.id,
        "seed": run.seed,
        "iterations": result["iterations"],
        "samples": result["samples"],
        "unit": "environment steps" if plays else "labelled examples",
        "seconds": result["seconds"],
        "provenance": result["provenance"],
        "score": problem.score_name,
        "held_out": isinstance(test["tasks"], int),
        "episodes": test["episodes"] or (data.episodes if plays else data.shots),
        "scores": test["scores"],
        "validation_tasks": TASKS,
        "inner_steps": learner.config.inner.steps,
        "candidates": [*candidates],
    }


def _tested(one: Finished) -> dict[str, Any]:
    """Return the run's scores with as many episodes as in meta-training, if it has them."""
    evaluations = one.result["evaluations"]
    return next((each for each in evaluations if each["episodes"] is None), evaluations[0])


def _require_small(name: str, learner: MetaLearner) -> None:
    _, tensors = without_training_state(*learner.state())
    size = sum(value.nbytes for value in tensors.values())
    if size >= LARGEST:
        raise InputError(f"{name}: expected a model of under 200 kB, got {size // 1000} kB.")


def write(home: Path, learner: MetaLearner, content: dict[str, Any]) -> None:
    """Write a model's folder in place of an older one."""
    manifest, tensors = without_training_state(*learner.state())
    # What suited the machine that trained it, such as a compiler, may be missing on another.
    manifest["config"] |= {"speed": to_dict(SpeedConfig(program="plain"))}
    for old in (home / CARD, home / SCORES):
        old.unlink(missing_ok=True)
    checkpoint.discard(home)
    checkpoint.save(home, manifest, tensors)
    files.write(home / SCORES, as_json(content) + "\n")
    files.write(home / CARD, card(content))


if __name__ == "__main__":
    run_command(main)
