"""Compare one iteration of an algorithm on a device with the same iteration on the CPU.

A generator of a GPU draws other numbers than one of the CPU with the same seed. For this comparison
both devices draw on the CPU, so that they see the same episodes and differ by rounding alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from meta_rl.algorithms import ALGORITHMS, algorithm
from meta_rl.assemble import build
from meta_rl.config import Config, EpisodesConfig, SpeedConfig, TRPOConfig
from meta_rl.errors import InputError
from meta_rl.presets import preset

FAMILIES = "sinusoid", "navigation-2d"
"""A supervised family, and one of episodes whose dynamics are tensor operations."""

TOLERANCE = 0.01
"""Largest error of an iteration, relative to its change of the meta-parameters. Two sets of CPU
kernels (AVX2 and none) differed by at most 0.001 on these settings, most by 0.00001."""


def settings(family: str, name: str) -> Config:
    """Return an algorithm's settings on few tasks, run plainly.

    TRPO is damped, and takes all its conjugate-gradient iterations: with the presets' settings its
    step is so sensitive that rounding alone changes it by 20 %.

    Raises:
        InputError: if the algorithm does not fit the family.
    """
    config = algorithm(name, preset(family))
    data: Any = dataclasses.replace(config.data, tasks=4)
    if isinstance(data, EpisodesConfig):
        data = dataclasses.replace(data, episodes=4)
    outer = config.outer
    if isinstance(outer, TRPOConfig):
        outer = dataclasses.replace(outer, damping=0.1, cg_progress=0.0)
    speed = SpeedConfig(program="plain")
    return dataclasses.replace(config, data=data, outer=outer, speed=speed, log_every=1)


def pairs() -> list[tuple[str, str]]:
    """Return each family with each algorithm that fits it."""

    def fits(family: str, name: str) -> bool:
        try:
            settings(family, name)
        except InputError:
            return False
        return True

    return [(family, name) for family in FAMILIES for name in ALGORITHMS if fits(family, name)]


def error(config: Config, device: str) -> float:
    """Return how far an iteration on a device is from the CPU's, relative to the CPU's change."""
    before = flat(build(config).meta)
    exact, found = after_one(config, "cpu"), after_one(config, device)
    return float((found - exact).norm() / (exact - before).norm())


def after_one(config: Config, device: str) -> Tensor:
    """Return the meta-parameters after one iteration, as :func:`flat` does."""
    with drawn_on_the_cpu():  # a population is drawn while its learner is built
        learner = build(config, device)
        learner.iterate()
    learner.problem.close()
    return flat(learner.meta)


def flat(meta: Any) -> Tensor:
    """Return all meta-parameters in one vector, in float64 on the CPU."""
    return torch.cat([leaf.detach().cpu().double().flatten() for leaf in tree_leaves(meta)])


@contextmanager
def drawn_on_the_cpu() -> Iterator[None]:
    """Draw all random numbers on the CPU, and move them to the device that asks for them."""
    with mock.patch("torch.Generator", HostGenerator), HostDraws():
        yield


class HostGenerator(torch.Generator):
    """A generator on the CPU that calls itself one of the device it is made for."""

    def __new__(cls, device: Any = "cpu"):
        """Make a generator on the CPU."""
        return super().__new__(cls, "cpu")  # pyright: ignore[reportCallIssue]

    def __init__(self, device: Any = "cpu"):
        self._named = torch.device(device)

    @property
    def device(self) -> torch.device:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Return the device that the generator is made for."""
        return self._named


class HostDraws(TorchFunctionMode):
    """Calls functions with a generator on the CPU, then moves the result to the device asked."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = dict(kwargs or {})
        if given.get("generator") is None or given.get("device") is None:
            return func(*args, **given)
        return func(*args, **given | {"device": "cpu"}).to(given["device"])
