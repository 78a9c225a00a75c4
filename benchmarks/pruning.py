"""What is lost and gained with fewer units: a policy and a few-shot network, pruned and trained on.

    python -m benchmarks.pruning

Meta-trains each model, prunes it to several shares of its units by ``prune.py`` (in one round, then
meta-training goes on for as long with every share, 1 among them), and writes
``benchmarks/results/pruning.json``: sizes, scores on held-out tasks after adaptation, latencies of
one prediction and of one inner step; and of the adapted model as an ONNX file, how far its outputs
are from ``predict``'s and its latency in ONNX Runtime, all on one processor.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import presets
import prune
import train
from agents.onnx_file import input_shape, open_onnx, predicted, run_onnx, save_onnx
from benchmarks.provenance import RESULTS, provenance, write

KEEP = ("1", "0.75", "0.5", "0.25")
GLYPHS = ["--network.channels", "16", "--data.tasks", "8", "--inner.tasks-at-once", "8"]
MODELS = {  # preset, settings, iterations before pruning and after, held-out tasks
    "navigation-2d, 64 and 64 units": ("navigation-2d", ["--seed", "1"], 100, 15, 40),
    "glyphs-5way-1shot, 4 blocks of 16 channels": ("glyphs-5way-1shot", GLYPHS, 1000, 250, 200),
}


def measure(model: str, by: str, home: Path) -> dict[str, Any]:
    """Train one model, unless its run is there, and prune it; what ``prune.py`` and ONNX say."""
    preset, settings, iterations, more, tasks = MODELS[model]
    run = home / f"{preset}_1"
    logs = ["--log-dir", str(home), "--device", "cpu"]
    if not run.exists():
        quiet = ["--eval.every", "0", "--eval.no-pictures", *logs]
        train.main([preset, "--iterations", str(iterations), *settings, *quiet])
    before = {*home.glob("*-pruned_*")}
    options = ["--by", by, "--iterations", str(more), "--tasks", str(tasks), *logs]
    prune.main([str(run), "--keep", *KEEP, *options])
    (folder,) = {*home.glob("*-pruned_*")} - before
    found = json.loads((folder / "pruning.json").read_text())
    found["settings"]["run"] = run.name
    for one in found["measured"]:
        one["onnx"] = in_onnx_runtime(Path(one.pop("run") or run), folder / f"{one['name']}.onnx")
    return found


def in_onnx_runtime(run: Path, file: Path) -> dict[str, float]:
    """Largest difference from ``predict`` over batches of 10, and the latency of one input."""
    learner = presets.load(run)
    model = learner.adapt(learner.held_out_tasks(1)[0], steps=1)
    save_onnx(model, file)
    session, shape = open_onnx(file), input_shape(model)
    differences = []
    for inputs in np.random.default_rng(1).normal(size=(100, 10, *shape)).astype(np.float32):
        differences.append(np.abs(run_onnx(session, inputs) - predicted(model, inputs)).max())
    single, seconds = np.zeros((1, *shape), np.float32), []
    for _ in range(2000):
        start = time.perf_counter()
        run_onnx(session, single)
        seconds.append(time.perf_counter() - start)
    return {"difference": float(max(differences)), "seconds": statistics.median(seconds)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--by", default="saliency", choices=["saliency", "magnitude"])
    parser.add_argument("--home", type=Path, help="keep runs here, and take those that are here")
    args = parser.parse_args()
    file = RESULTS / "pruning.json"
    # Models that are not asked for stay as they were measured.
    results: dict[str, Any] = json.loads(file.read_text())["models"] if file.exists() else {}
    for model in args.models:
        with TemporaryDirectory() as fresh:
            results[model] = measure(model, args.by, args.home or Path(fresh))
        results[model]["commit"] = provenance()["commit"]
        print(write("pruning", {"models": results}))


if __name__ == "__main__":
    main()
