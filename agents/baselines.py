"""The linear baseline, fitted anew for each task and each inner step."""

from __future__ import annotations

import torch
from torch import Tensor

from meta_rl.problems.baseline import Baseline

FEATURE_BOUND = 10.0
ENOUGH = 3
"""Real steps for each feature, below which a task's baseline sees the time alone."""


class LinearFeatureBaseline(Baseline):
    """Ridge regression of returns on polynomial features of observation and time.

    Features ``[o, o^2, t, t^2, t^3, 1]`` with o clipped to +-10 and t in hundreds of steps (Duan
    et al. 2016, "Benchmarking Deep Reinforcement Learning"), one fit per task, all tasks in one
    batched solve in float64. Bytes are scaled to [0, 1]. The time features make it a finite-horizon
    value function.

    A task with fewer than ``ENOUGH`` steps for each feature is fitted on the time features alone:
    almost as many features as steps fit the returns almost exactly, and leave advantages that tell
    little or nothing of the actions.

    Args:
        ridge: regularization added to the normal equations' diagonal; raised tenfold, up to
            five times, for a task whose equations cannot be factorized.
    """

    def __init__(self, ridge: float = 1e-5):
        self.ridge = ridge

    def values(self, obs: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
        """Return values ``(M, B, T)`` fitted to the returns on the same data, 0 where masked.

        Args:
            obs: observations ``(M, B, T, O)``.
            returns: returns ``(M, B, T)`` to fit.
            mask: ``(M, B, T)``, 1.0 on real steps.
        """
        few = mask.sum((1, 2)) < ENOUGH * _features(obs.shape[-1])
        features = self._time(obs)
        if not few.all():
            clipped = _clipped(obs).masked_fill(few[:, None, None, None], 0.0)
            features = torch.cat([clipped, clipped**2, features], -1)
        return self.on_features(features, returns * mask, mask).to(returns.dtype)

    def bytes_needed(self, tasks: int, rows: int, size: int) -> float:
        """Return the bytes of the features and of the equations; see ``Baseline``."""
        features = _features(size) if rows >= ENOUGH * _features(size) else _features(0)
        return 8.0 * tasks * (2 * rows * features + 3 * features**2)

    def on_features(self, features: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
        """Return values ``(M, B, T)`` fitted on given features, 0 where masked.

        Args:
            features: each step's features, ``(M, B, T, F)``, float64.
            returns: returns ``(M, B, T)`` to fit, 0 where masked.
            mask: ``(M, B, T)``, 1.0 on real steps.
        """
        features = features * mask.unsqueeze(-1)
        flat = features.flatten(1, 2)
        target = returns.flatten(1).to(flat.dtype).unsqueeze(-1)
        normal, moment = flat.mT @ flat, flat.mT @ target
        return (features @ self._solve(normal, moment)[:, None]).squeeze(-1)

    def _time(self, obs: Tensor) -> Tensor:
        steps = torch.arange(obs.shape[2], device=obs.device, dtype=torch.float64) / 100.0
        time = torch.stack([steps, steps**2, steps**3, torch.ones_like(steps)], -1)
        return time.expand(*obs.shape[:-1], 4)

    def _solve(self, normal: Tensor, moment: Tensor) -> Tensor:
        identity = torch.eye(normal.shape[-1], device=normal.device, dtype=normal.dtype)
        ridge = normal.new_full((normal.shape[0], 1, 1), self.ridge)
        factor, failed = torch.linalg.cholesky_ex(normal + ridge * identity)
        for _ in range(5):
            if not failed.any():
                break
            ridge = torch.where(failed[:, None, None] > 0, 10 * ridge, ridge)
            factor, failed = torch.linalg.cholesky_ex(normal + ridge * identity)
        weights = torch.cholesky_solve(moment, factor)
        # A task whose equations still cannot be factorized gets no baseline.
        return torch.where(failed[:, None, None] > 0, torch.zeros_like(weights), weights)


def _features(size: int) -> int:
    """Return the number of features of observations of a size."""
    return 2 * size + 4


def _clipped(obs: Tensor) -> Tensor:
    """Return observations in float64, numbers within +-10 and bytes as fractions of 255."""
    if obs.dtype == torch.uint8:
        return obs.double() / 255
    return obs.double().clamp(-FEATURE_BOUND, FEATURE_BOUND)
