"""Value baselines, fitted anew for each task and each inner step."""

from __future__ import annotations

import torch
from torch import Tensor

FEATURE_BOUND = 10.0


class LinearFeatureBaseline:
    """Ridge regression of returns on polynomial features of observation and time.

    Features ``[o, o^2, t, t^2, t^3, 1]`` with o clipped to +-10 and t in hundreds of steps (Duan
    et al. 2016, "Benchmarking Deep Reinforcement Learning"), one fit per task, all tasks in one
    batched solve in float64. The time features make it a finite-horizon value function.

    Args:
        ridge: regularization added to the normal equations' diagonal; raised tenfold, up to
            five times, for a task whose equations cannot be factorized.
    """

    def __init__(self, ridge: float = 1e-5):
        self.ridge = ridge

    def fit_predict(self, obs: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
        """Return values ``(M, B, T)`` fitted to the returns on the same data, 0 where masked.

        Args:
            obs: observations ``(M, B, T, O)``.
            returns: returns ``(M, B, T)`` to fit.
            mask: ``(M, B, T)``, 1.0 on real steps.
        """
        features = self._features(obs) * mask.unsqueeze(-1)  # (M, B, T, F)
        flat = features.flatten(1, 2)
        target = (returns * mask).flatten(1).to(flat.dtype).unsqueeze(-1)
        normal, moment = flat.mT @ flat, flat.mT @ target
        return (features @ self._solve(normal, moment)[:, None]).squeeze(-1).to(returns.dtype)

    def _features(self, obs: Tensor) -> Tensor:
        clipped = obs.double().clamp(-FEATURE_BOUND, FEATURE_BOUND)
        steps = torch.arange(obs.shape[2], device=obs.device, dtype=torch.float64) / 100.0
        time = torch.stack([steps, steps**2, steps**3, torch.ones_like(steps)], -1)
        return torch.cat([clipped, clipped**2, time.expand(*obs.shape[:-1], 4)], -1)

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
