"""Time a meta-iteration by phases, beside a plain loop and the machine's limit.

    pip install -e '.[jax]'                      for W1 and W3 beside JAX
    python -m benchmarks.speed                   W1, W3 to W7, some twenty minutes
    python -m benchmarks.speed W3 W4             only W3 and W4
    python -m benchmarks.speed W3 --profile      where the time of W3 goes
    python -m benchmarks.speed --device cuda     the same on a GPU, after a check against the CPU

W1 is the sinusoid, W3 MAML-TRPO on 2-D navigation, W4 on the half-cheetah's direction, W5 ProMP on
both, W6 the growth of time and memory, W7 RL2 beside sb3-contrib's RecurrentPPO. W2, the
convolutions, is ``python -m benchmarks.few_shot``. Contestants take turns in one process; figures
are medians. Each workload writes its own file, ``benchmarks/results/speed-W?.json``; ``python -m
benchmarks.report`` makes tables.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks.provenance import write
from benchmarks.speed import memory, navigation, policies, profiling, scaling, sinusoid
from benchmarks.speed.agreement import disagreement
from benchmarks.speed.machine import load
from benchmarks.speed.tables import beside_jax, profiled
from meta_rl.assemble import resolve_device
from meta_rl.machine.memory import keep_freed_memory

WORKLOADS: dict[str, Callable[[int, str], dict[str, Any]]] = {
    "W1": sinusoid.measure,
    **{name: partial(policies.measure, name) for name in policies.WORKS},
    "W3": navigation.measure,
    "W6": scaling.measure,
    "W7": memory.measure,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workloads", nargs="*", metavar="W", help=", ".join(WORKLOADS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--profile", action="store_true", help="of W3 or W4: operations by kind")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    if unknown := set(args.workloads) - set(WORKLOADS):
        parser.error(f"no workload {', '.join(sorted(unknown))}; there are {', '.join(WORKLOADS)}")
    if args.profile and set(args.workloads) - {"W3", "W4"}:
        parser.error(f"--profile: expected W3 or W4, got {' '.join(args.workloads)}")
    device = resolve_device(args.device)
    if args.profile and device != "cpu":
        parser.error(f"--profile: expected --device cpu, got {device}")
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    suffix = "" if device == "cpu" else f"-{device.partition(':')[0]}"
    if args.profile:
        suffix += "-profile"
    checked = disagreement(device)
    print("disagreement with float64 on the CPU:", checked)
    for name in args.workloads or (["W3"] if args.profile else WORKLOADS):
        before = load()
        measure = partial(profiling.measure, name) if args.profile else WORKLOADS[name]
        result = measure(args.rounds, device)
        about = {"rounds": args.rounds, "load": [before, load()], "disagreement": checked}
        show(result)
        print(write(f"speed-{name}{suffix}", {**about, **result}), flush=True)


def show(result: dict[str, Any]) -> None:
    """Print a workload's result."""
    for title, found in result.get("works", {}).items():
        print(title)
        for phase, row in found["phases"].items():
            ours, other = row["ours"]["median"], row.get("reference", {}).get("median")
            ratio = f"  x {other / ours:.1f}" if other else ""
            share = f"  {row['limit'] / ours:.0%} of the limit" if "limit" in row else ""
            print(f"  {phase:30} {1000 * ours:9.2f} ms{ratio}{share}")
        print(" ", found["counts"], found["machine"])
    if "programs" in result:
        print(beside_jax(result["programs"]))
    for title, phases in result.get("profile", {}).items():
        print(profiled(title, phases))


if __name__ == "__main__":
    main()
