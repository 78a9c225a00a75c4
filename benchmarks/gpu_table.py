"""Make the table of ``make gpu`` for benchmarks/report.py."""

from __future__ import annotations

from typing import Any

from benchmarks.speed.tables import table


def ran(name: str, result: dict[str, Any]) -> str:
    """Return how each step ended, how many tests passed, and the largest error of an iteration."""
    head = ["step", "seconds", "budget", "how it ended"]
    rows = [
        [row["step"], f"{row['seconds']:g}", f"{row['budget']:g}", row["outcome"]]
        for row in result["steps"]
    ]
    return "\n\n".join([table(head, rows), *tested(result)])


def tested(result: dict[str, Any]) -> list[str]:
    """Return lines on the tests, none if they left no report."""
    if "tests" not in result:
        return []
    counts = ", ".join(f"{count} {how}" for how, count in result["tests"].items())
    failures = "; ".join(f"{test} ({said})" for test, said in result["failures"].items())
    lines = [f"Tests: {counts}{': ' if failures else ''}{failures}."]
    if errors := result["errors"]:
        worst = max(errors, key=lambda what: errors[what])
        lines += [f"Errors against the CPU: at most {errors[worst]:.2g} ({worst})."]
    return lines
