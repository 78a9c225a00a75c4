"""Run the CUDA tests and the speed benchmarks on a machine with a GPU, in at most seven minutes.

    make gpu                 the same as python -m benchmarks.gpu
    COMMIT=1a2b3c4 make gpu  on a copy of the files that is no git checkout

The tests compare an iteration of every algorithm with the CPU's (``tests/test_cuda.py``). Then come
W1 to W6 (``benchmarks.speed`` and ``benchmarks.few_shot``), each in a process of its own, which
writes its own result file. A step that overruns is stopped, and the next one begins.
``benchmarks/results/gpu.json`` says how each step ended, and holds the tests' errors; it is written
anew after every step.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch

from benchmarks.provenance import ROOT, provenance, write
from meta_rl.presets import PRESETS

LIMIT = 420
"""Seconds of the whole command."""

SEED = PRESETS["sinusoid"].seed
"""The seed of every preset, and so of all steps."""

GRACE = 3.0
"""Seconds of a step that is told to stop, before it is killed."""


@dataclass(frozen=True)
class Step:
    """A Python process with a budget.

    Args:
        name: the step's name.
        seconds: its budget. A step may also use what the steps before it left of theirs.
        arguments: the arguments of Python.
        result: the result file that it writes, if it does.
    """

    name: str
    seconds: float
    arguments: Sequence[str]
    result: str | None = None


def speed(work: str, seconds: float) -> Step:
    """Return the step that measures a workload of ``benchmarks.speed``."""
    given = "-m", "benchmarks.speed", work, "--device", "cuda", "--rounds", "3"
    return Step(work, seconds, given, f"speed-{work}-cuda")


def steps(report: Path) -> list[Step]:
    """Return all steps in their order.

    Args:
        report: the file for the tests' report. Warnings of a machine's other versions are no
            errors there.
    """
    tests = "-m", "pytest", "tests/test_cuda.py", "-W", "default", f"--junitxml={report}"
    arms = "--arms", "ours, 8 tasks", "ours, all", "loop, autograd", "the convolutions alone"
    works = "--works", "1 step, second order", "5 steps, second order"
    images = "-m", "benchmarks.few_shot", "--device", "cuda", "--rounds", "5", *works, *arms
    return [
        Step("tests", 90, tests),
        speed("W1", 65),
        Step("W2", 35, images, "few-shot-speed-cuda"),
        speed("W3", 50),
        speed("W4", 55),
        speed("W5", 65),
        speed("W6", 45),
    ]


def main() -> None:
    if not torch.cuda.is_available():
        raise SystemExit(
            f"gpu: expected a GPU that torch can use, got none (torch {torch.__version__}, built "
            f"for CUDA {torch.version.cuda}). Run this on a machine with an NVIDIA GPU."
        )
    provenance()  # refuses a copy without commit now, not after the measurements
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "tests.xml"
        rows: list[dict[str, Any]] = []

        def ended(row: dict[str, Any]) -> None:
            rows.append(row)
            print(*(f"{key} {value}" for key, value in row.items()), sep=", ", flush=True)
            write("gpu", {"limit": LIMIT, "seed": SEED, "steps": rows, **told(report)})

        run(steps(report), ended)
    raise SystemExit(not all(row["outcome"] == "done" for row in rows))


def run(
    steps: Sequence[Step],
    ended: Callable[[dict[str, Any]], None],
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Run the steps one after the other, each until the budgets so far are used up.

    Args:
        steps: the steps to run.
        ended: called after each step, with how it ended.
        clock: the seconds now.
    """
    start, budget = clock(), 0.0
    for step in steps:
        budget += step.seconds
        begun = clock()
        outcome = run_one(step.arguments, start + budget - GRACE - begun)
        row = {"step": step.name, "seconds": round(clock() - begun, 1), "budget": step.seconds}
        result = {"result": step.result} if step.result and outcome == "done" else {}
        ended({**row, "outcome": outcome, **result})


def run_one(arguments: Sequence[str], seconds: float) -> str:
    """Run Python for at most some seconds; return ``done``, or why it is not."""
    if seconds <= 0:
        return "not begun: the steps before it used up the time"
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        command = [sys.executable, *arguments]
        # A process group of its own: what it started is stopped with it.
        child = subprocess.Popen(command, cwd=ROOT, stderr=said, start_new_session=True)
        try:
            status = child.wait(seconds)
        except subprocess.TimeoutExpired:
            return f"stopped after {seconds:.1f} s"
        finally:
            stop(child)
            said.seek(0)
            text = said.read()
            sys.stderr.write(text)
    lines = text.strip().splitlines() or ["it said nothing more"]
    return f"failed with status {status}: {lines[-1]}" if status else "done"


def stop(child: subprocess.Popen) -> None:
    """End a process and those it started: interrupt them, wait for the grace, then kill them."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGINT)  # pytest then still writes its report
        with suppress(subprocess.TimeoutExpired):
            child.wait(GRACE)
    with suppress(ProcessLookupError):  # none is left
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def told(report: Path) -> dict[str, Any]:
    """Return the tests' count, failures and measured errors, from their report; {} without one."""
    if not report.exists():
        return {}
    cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    failures = {
        case.get("name", ""): failure.get("message", "").partition("\n")[0]
        for case in cases
        for failure in (*case.iter("failure"), *case.iter("error"))
    }
    skipped = sum(case.find("skipped") is not None for case in cases)
    counts = {
        "passed": len(cases) - len(failures) - skipped,
        "skipped": skipped,
        "failed": len(failures),
    }
    measured = {
        each.get("name", ""): float(f"{float(each.get('value', 'nan')):.2g}")
        for case in cases
        for each in case.iter("property")
    }
    return {"tests": counts, "failures": failures, "errors": measured}


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()  # there are no options
    main()
