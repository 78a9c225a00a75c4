"""Measure the machine's limits, and time calls in turns."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

SIDE = 1024  # side of the matrices to multiply


def race(
    calls: Mapping[str, Callable[[], Any]], rounds: int, device: str
) -> dict[str, list[float]]:
    """Time each call in each round, in turns, after one round to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if device != "cpu":
                torch.cuda.synchronize()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def summary(seconds: Sequence[float], scale: float = 1.0) -> dict[str, float]:
    """Return median and range in seconds, times a scale, with four digits."""
    values = {"median": statistics.median(seconds), "min": min(seconds), "max": max(seconds)}
    return {name: float(f"{scale * value:.4g}") for name, value in values.items()}


def probes(device: str) -> dict[str, Callable[[], Any]]:
    """Return calls that measure the machine's rates; see :class:`Rates`."""
    left, right = torch.randn(2, SIDE, SIDE, device=device)
    wide, tiny = torch.randn(2**15, device=device), torch.zeros(1, device=device)

    def many(call: Callable[[], Any]) -> None:
        with torch.no_grad():
            for _ in range(100):
                call()

    return {
        "matrix": lambda: left @ right,
        "tanh": lambda: many(lambda: torch.tanh(wide)),
        "operation": lambda: many(lambda: torch.add(tiny, tiny)),
    }


@dataclass(frozen=True, kw_only=True)
class Rates:
    """The machine's rates per second, measured in the same rounds as the work."""

    matrix: float  # floating-point operations of a matrix product, 1024 x 1024
    tanh: float  # evaluations of tanh, on 32,768 numbers that stay in the cache
    operation: float  # operations on a single number: the least cost of an operation

    @classmethod
    def of(cls, seconds: Mapping[str, list[float]]) -> Rates:
        """Compute the rates from the seconds of :func:`probes`."""
        median = {name: statistics.median(seconds[name]) for name in probes("cpu")}
        return cls(
            matrix=2 * SIDE**3 / median["matrix"],
            tanh=100 * 2**15 / median["tanh"],
            operation=100 / median["operation"],
        )


def seconds_at_least(
    rates: Rates, sizes: Sequence[int], samples: float, passes: float, tanhs: float
) -> float:
    """Return the seconds of only a perceptron's arithmetic at the machine's rates.

    Args:
        rates: the machine's rates.
        sizes: sizes of the network's layers, with inputs and outputs.
        samples: rows that go through the network.
        passes: matrix products of every layer: 1 forward, 2 more for a gradient.
        tanhs: evaluations of the hidden layers' tanh.
    """
    products = 2 * sum(size_in * size_out for size_in, size_out in pairwise(sizes))
    return samples * (passes * products / rates.matrix + tanhs * sum(sizes[1:-1]) / rates.tanh)


def load() -> float:
    """Return the mean number of processes that ran or waited over the last minute."""
    return round(os.getloadavg()[0], 1)
