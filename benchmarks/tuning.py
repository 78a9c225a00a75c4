"""Tune a preset within a stated budget, and compare the chosen strategy with the default.

    python -m benchmarks.tuning navigation-2d

Runs ``meta-rl tune`` with the arguments below, in ``runs/``, and writes
``benchmarks/results/tuning-PRESET.json``. If it is killed, the same command resumes it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from benchmarks.provenance import write
from meta_rl.cli import tune

# Small meta-batches, and a fraction of the preset's own run, to take minutes on one core.
STUDIES: dict[str, list[str]] = {
    "navigation-2d": [
        "--data.tasks", "10", "--data.episodes", "10", "--budget", "400000",
        "--eval.tasks", "20", "--eval.test-tasks", "40",
    ],
    "cartpole": [
        "--data.tasks", "10", "--budget", "400000", "--eval.tasks", "20", "--eval.test-tasks", "40",
    ],
    "glyphs-5way-1shot": [
        "--network.channels", "16", "--data.tasks", "8", "--speed.tasks-at-once", "8",
        "--budget", "18000", "--eval.tasks", "50", "--eval.test-tasks", "200",
    ],
}  # fmt: skip
KEPT = (
    "score", "higher_is_better", "search", "halving", "budget", "inner_steps", "episodes",
    "validation_tasks", "test_tasks", "trials", "skipped", "importance", "chosen", "settings",
    "comparison", "verdict",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("preset", choices=STUDIES)
    parser.add_argument("--trials", type=int, default=12)
    args = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path("runs") / f"tune-{args.preset}"
    given = [*STUDIES[args.preset], "--trials", str(args.trials), "--device", "cpu"]
    tune.main([args.preset, *given, "--out", str(folder)])
    content = json.loads((folder / "tuning.json").read_text(encoding="utf-8"))
    result = {"command": " ".join(["meta-rl", "tune", args.preset, *given])}
    print(write(f"tuning-{args.preset}", result | {name: content[name] for name in KEPT}))


if __name__ == "__main__":
    main()
