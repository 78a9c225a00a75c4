"""Check that a device computes the same meta-gradients as the CPU."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from meta_rl.assemble import build
from meta_rl.config import SpeedConfig
from meta_rl.inner.adaptation import adapt_to_tasks
from meta_rl.presets import PRESETS

TOLERANCE = 1e-3  # relative; float32 sums of some thousand terms


def disagreement(device: str) -> dict[str, float]:
    """Return the relative error of the device's float32 meta-gradients against the CPU's float64.

    Raises:
        RuntimeError: if an error is above :data:`TOLERANCE`.
    """
    errors = {name: _error(name, device) for name in ("sinusoid", "navigation-2d")}
    for name, error in errors.items():
        if not error < TOLERANCE:
            raise RuntimeError(f"{name} on {device}: meta-gradient is off by {error:.1e}.")
    return errors


def _error(preset: str, device: str) -> float:
    # Plain: nothing is compiled for the CPU only to check a GPU.
    plain = dataclasses.replace(PRESETS[preset], speed=SpeedConfig(program="plain"))
    learner = build(plain)
    tasks = learner.problem.sample_tasks(learner.config.data.tasks, 0)
    batches = adapt_to_tasks(learner.problem, learner.inner, learner.meta, tasks, 1, 0).batches
    exact = _gradient(learner.inner, *moved((learner.meta, batches), "cpu", torch.float64))
    found = _gradient(
        build(PRESETS[preset], device).inner, *moved((learner.meta, batches), device, torch.float32)
    )
    return float((found.cpu().double() - exact).norm() / exact.norm())


def _gradient(inner: Any, meta: Any, batches: list[Any]) -> Tensor:
    *supports, query = batches
    _, gradient = inner.meta_gradient(meta, supports, query)
    return torch.cat([leaf.flatten() for leaf in tree_leaves(gradient)])


def moved(values: Any, device: str, dtype: torch.dtype) -> Any:
    """Move tensors to a device, and floating-point tensors to a type."""
    return tree_map(lambda v: v.to(device, dtype if v.is_floating_point() else v.dtype), values)
