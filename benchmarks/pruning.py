"""Measure the costs and gains of pruning a policy and a few-shot network.

    python -m benchmarks.pruning

Meta-trains each model with several seeds and prunes it by ``meta-rl prune``, in one round, to
several fractions of its units, 1 among them. Meta-training then continues equally long with every
fraction. Writes ``benchmarks/results/pruning.json``: sizes, scores on held-out tasks after
adaptation, the loss against the whole network after the same training, and latencies of one
prediction and one inner step. The adapted model is exported to ONNX too: the file holds the largest
difference of its outputs from ``predict``'s, and its latency in ONNX Runtime. All run on one
processor.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import meta_rl
from benchmarks.provenance import provenance, read, write
from meta_rl import agents
from meta_rl.cli import prune, train
from meta_rl.statistics import mean, stratified_bootstrap


@dataclasses.dataclass(frozen=True)
class Model:
    """A model to train and prune, and the length of its training."""

    preset: str
    iterations: int
    """Iterations of meta-training before pruning."""
    more: int
    """Iterations of meta-training after pruning."""
    tasks: int
    """Number of held-out tasks."""
    keep: tuple[str, ...] = ("1", "0.75", "0.5", "0.25")
    settings: tuple[str, ...] = ()


GLYPHS = ("--data.tasks", "8")
MODELS = {
    "navigation-2d, 64 and 64 units": Model("navigation-2d", 200, 100, 400),
    "glyphs-5way-1shot, 4 blocks of 32 channels": Model(
        "glyphs-5way-1shot", 1000, 500, 1000, ("1", "0.5"), ("--network.channels", "32", *GLYPHS)
    ),
    "glyphs-5way-1shot, 4 blocks of 16 channels": Model(
        "glyphs-5way-1shot", 1000, 500, 1000, settings=("--network.channels", "16", *GLYPHS)
    ),
}


def measure(model: Model, by: str, seeds: int, home: Path) -> dict[str, Any]:
    """Train one model with each seed, prune it, and return its measurements."""
    each = [pruned(model, by, seed, home / str(seed)) for seed in range(seeds)]
    measured = [run["measured"] for run in each]
    names = [one["name"] for one in measured[0]]
    last = {n: np.array([run[i].pop("last") for run in measured]) for i, n in enumerate(names)}
    for run in measured:
        for one in run:
            if one["name"] not in ("before", "keep 1"):
                percent = 100 * (last["keep 1"] - last[one["name"]]) / abs(last["keep 1"].mean())
                # Each seed has its own tasks. Draws take the same positions in all seeds, which
                # does no harm because tasks are independent.
                one["lost"] = stratified_bootstrap(percent, mean)
    settings = {**dataclasses.asdict(model), "by": by, "seeds": seeds}
    return {"score": each[0]["score"], "settings": settings, "runs": measured}


def pruned(model: Model, by: str, seed: int, home: Path) -> dict[str, Any]:
    """Train and prune one seed's run; return its measurements."""
    run = home / f"{model.preset}_1"
    logs = ["--log-dir", str(home), "--device", "cpu"]
    quiet = ["--eval.every", "0", "--eval.no-pictures", "--seed", str(seed), *logs]
    train.main([model.preset, "--iterations", str(model.iterations), *model.settings, *quiet])
    before = {*home.glob("*-pruned_*")}
    options = ["--by", by, "--iterations", str(model.more), "--tasks", str(model.tasks), *logs]
    prune.main([str(run), "--keep", *model.keep, *options])
    (folder,) = {*home.glob("*-pruned_*")} - before
    found = json.loads((folder / "pruning.json").read_text(encoding="utf-8"))
    for one in found["measured"]:
        one["onnx"] = in_onnx_runtime(Path(one.pop("run") or run), folder / f"{one['name']}.onnx")
    return found


def in_onnx_runtime(run: Path, file: Path) -> dict[str, float]:
    """Return the largest difference from ``predict`` on batches of 10, and one input's latency."""
    learner = meta_rl.load(run)
    model = learner.adapt(learner.held_out_tasks(1)[0], steps=1)
    agents.onnx_file.save_onnx(model, file)
    session, generator = agents.onnx_file.open_onnx(file), np.random.default_rng(1)
    differences = []
    for inputs in (agents.onnx_file.random_inputs(model, 10, generator) for _ in range(100)):
        differences.append(
            np.abs(
                agents.onnx_file.run_onnx(session, inputs)
                - agents.onnx_file.predicted(model, inputs)
            ).max()
        )
    single, seconds = agents.onnx_file.random_inputs(model, 1, generator), []
    for _ in range(2000):
        start = time.perf_counter()
        agents.onnx_file.run_onnx(session, single)
        seconds.append(time.perf_counter() - start)
    return {"difference": float(max(differences)), "seconds": statistics.median(seconds)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--by", default="saliency", choices=["saliency", "magnitude"])
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    # Models that are not asked for keep their measurements.
    results: dict[str, Any] = read("pruning").get("models", {})
    for model in args.models:
        with TemporaryDirectory() as fresh:
            results[model] = measure(MODELS[model], args.by, args.seeds, Path(fresh))
        results[model]["commit"] = provenance()["commit"]
        print(write("pruning", {"models": results}))


if __name__ == "__main__":
    main()
