"""What is lost and gained with fewer units: a policy and a few-shot network, pruned and trained on.

    python -m benchmarks.pruning

Meta-trains each model, prunes it to several shares of its units by ``prune.py`` (in one round, then
meta-training goes on for as long with every share, 1 among them), and writes
``benchmarks/results/pruning.json``: sizes, scores on held-out tasks after adaptation, and latencies
of one prediction and of one inner step. ONNX Runtime's latency is that of the exported policy.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import prune
import train
from benchmarks.provenance import write

MODELS = {  # preset, settings, iterations before pruning, and after
    "navigation-2d, policy of 64 and 64 units": ("navigation-2d", [], 100, 15),
    "glyphs-5way-1shot, 4 blocks of 16 channels": (
        "glyphs-5way-1shot",
        ["--network.channels", "16", "--data.tasks", "8", "--inner.tasks-at-once", "8"],
        1000,
        250,
    ),
}
KEEP = ("1", "0.75", "0.5", "0.25")


def measure(model: str, by: list[str], home: Path) -> dict[str, Any]:
    """Train one model and prune it by each criterion; what ``prune.py`` wrote."""
    preset, settings, iterations, more = MODELS[model]
    quiet = ["--eval.every", "0", "--eval.no-pictures", "--log-dir", str(home), "--device", "cpu"]
    train.main([preset, "--iterations", str(iterations), *settings, *quiet])
    options = ["--iterations", str(more), "--log-dir", str(home), "--device", "cpu"]
    found = {}
    for number, criterion in enumerate(by, start=1):
        prune.main([str(home / f"{preset}_1"), "--keep", *KEEP, "--by", criterion, *options])
        text = (home / f"{preset}_1-pruned_{number}" / "pruning.json").read_text()
        found[criterion] = json.loads(text)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--by", nargs="+", default=["saliency", "magnitude"])
    args = parser.parse_args()
    results: dict[str, Any] = {}
    for model in args.models:
        with TemporaryDirectory() as home:
            results[model] = measure(model, args.by, Path(home))
        print(write("pruning", {"settings": vars(args), "models": results}))


if __name__ == "__main__":
    main()
