"""The linear baseline, fitted anew for each task and each inner step."""

from __future__ import annotations

import torch
from torch import Tensor

from meta_rl.problems.baseline import Baseline

FEATURE_BOUND = 10.0
AT_ONCE = 2**12
"""Entries of an observation whose features are held at once in the form with one unknown a row."""


class LinearFeatureBaseline(Baseline):
    """Ridge regression of returns on polynomial features of observation and time.

    Features ``[o, o^2, t, t^2, t^3, 1]`` with o clipped to +-10 and t in hundreds of steps (Duan
    et al. 2016, "Benchmarking Deep Reinforcement Learning"), one fit per task, all tasks in one
    batched solve in float64. Bytes are scaled to [0, 1]. The time features make it a finite-horizon
    value function.

    It is solved in the cheaper of two forms with equal results. With X the features (rows x F) and
    y the returns: ``X (X^T X + ridge)^-1 X^T y`` has one unknown a feature, and
    ``X X^T (X X^T + ridge)^-1 y`` one a row. The second serves large observations, such as images.

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
        rows = mask[0].numel()
        fit = self._by_feature if 2 * obs.shape[-1] + 4 <= rows else self._by_row
        return fit(obs, returns * mask, mask).to(returns.dtype)

    def bytes_needed(self, tasks: int, rows: int, size: int) -> float:
        """Return the bytes of the features and of the equations; see ``Baseline``."""
        features = 2 * size + 4
        if features <= rows:
            return 8.0 * tasks * (2 * rows * features + 3 * features**2)
        return 8.0 * tasks * (rows * min(size, AT_ONCE) + 3 * rows**2)

    def _by_feature(self, obs: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
        return self.on_features(self._features(obs), returns, mask)

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

    def _by_row(self, obs: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
        gram = self._gram(self._time(obs), mask)  # (M, B T, B T), a part of the features at a time
        for entries in obs.split(AT_ONCE, -1):
            clipped = _clipped(entries)
            gram = gram + self._gram(clipped, mask) + self._gram(clipped**2, mask)
        target = returns.flatten(1).to(gram.dtype).unsqueeze(-1)
        return (gram @ self._solve(gram, target)).view_as(mask)

    def _gram(self, features: Tensor, mask: Tensor) -> Tensor:
        flat = (features * mask.unsqueeze(-1)).flatten(1, 2)
        return flat @ flat.mT

    def _features(self, obs: Tensor) -> Tensor:
        clipped = _clipped(obs)
        return torch.cat([clipped, clipped**2, self._time(obs)], -1)

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


def _clipped(obs: Tensor) -> Tensor:
    """Return observations in float64, numbers within +-10 and bytes as fractions of 255."""
    if obs.dtype == torch.uint8:
        return obs.double() / 255
    return obs.double().clamp(-FEATURE_BOUND, FEATURE_BOUND)
