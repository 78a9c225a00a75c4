"""Compare adaptation with every baseline at equal environment steps, with three seeds.

    python -m benchmarks.evaluations navigation-2d cartpole pendulum

Trains three seeds, evaluates them together and keeps ``evaluation.json``, without the runs'
settings, as ``benchmarks/results/evaluation-PRESET.json``. It takes hours: PPO learns each of three
tasks from scratch with 100 times the environment steps of adaptation.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.provenance import write
from meta_rl.cli import evaluate, train

PRESETS = {"navigation-2d": (100, 100_000), "cartpole": (60, 40_000), "pendulum": (60, 40_000)}
"""Meta-iterations, and the environment steps that ``pretrained`` and ``rl2`` train on."""
SEEDS = ("0", "1", "2")
BASELINES = ("random", "oracle", "ppo-100x", "pretrained", "rl2")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("presets", nargs="+", choices=PRESETS)
    for preset in parser.parse_args().presets:
        with TemporaryDirectory() as logs:
            keep(preset, evaluated(preset, Path(logs)))


def evaluated(preset: str, logs: Path) -> Path:
    """Train and evaluate a preset; return the evaluation's folder."""
    shared = ["--device", "cpu"]
    iterations, before = map(str, PRESETS[preset])
    for seed in SEEDS:
        trained = ["--iterations", iterations, "--seed", seed, "--log-dir", str(logs)]
        train.main([preset, *trained, *shared])
    runs = sorted(str(run) for run in logs.glob(f"{preset}_*"))
    against = ["--steps", "1", "--baselines", *BASELINES, "--baseline-tasks", "3"]
    against += ["--training-steps", before]
    evaluate.main([*runs, *against, "--out", str(logs / "evaluation"), *shared])
    return logs / "evaluation"


def keep(preset: str, folder: Path) -> None:
    """Write the evaluation as a result file, without paths and settings, which this file has."""
    found = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    del found["settings"]["runs"], found["settings"]["out"]
    found["runs"] = [{key: run[key] for key in ("seed", "iteration", "samples")}
                     for run in found["runs"]]  # fmt: skip
    for curve in found["curves"]:
        curve["members"] = [Path(member).name for member in curve["members"]]
    print(write(f"evaluation-{preset}", found))


if __name__ == "__main__":
    main()
