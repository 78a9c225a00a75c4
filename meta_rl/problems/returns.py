"""Returns and advantages of padded episodes; pure functions of tensors (M, B, T)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def discounted_returns(reward: Tensor, mask: Tensor, gamma: float) -> Tensor:
    """Return ``R_t = r_t + gamma R_{t+1}``, with 0 after an episode's last step.

    A time limit ends an episode as termination does: these are finite-horizon returns, which the
    time-dependent baseline fits (the convention of MAML and ProMP).

    Args:
        reward: rewards, ``(M, B, T)``.
        mask: 1.0 on real steps, ``(M, B, T)``.
        gamma: discount per step.
    """
    return _discounted_sum(reward * mask, gamma)


def gae(reward: Tensor, value: Tensor, mask: Tensor, gamma: float, lam: float) -> Tensor:
    """Return generalized advantage estimates ``(M, B, T)``, 0 where masked.

    Schulman et al. 2016, equation 16, with value 0 after an episode's last step:
    ``delta_t = r_t + gamma V_{t+1} - V_t``, ``A_t = sum_l (gamma lam)^l delta_{t+l}``.

    Args:
        reward: rewards, ``(M, B, T)``.
        value: V of each step's observation, ``(M, B, T)``.
        mask: 1.0 on real steps, ``(M, B, T)``.
        gamma: discount per step.
        lam: lambda; 1 gives the return minus the baseline, 0 the one-step error.
    """
    value = value * mask
    following = torch.cat([value[..., 1:], torch.zeros_like(value[..., :1])], -1)
    delta = (reward + gamma * following - value) * mask
    return _discounted_sum(delta, gamma * lam) * mask


def share_left(clock: Tensor, gamma: float) -> Tensor:
    """Return the discounted sum of a reward of 1 until the trial's time limit, over an episode's.

    ``(1 - gamma^left) / (1 - gamma^limit)``. A critic that sees no clock, times this share, is
    right at every step if rewards are paid at an even rate, and zero once the trial is over.
    Without the share the trial's last steps look bad, and the ends of its other episodes good.

    Args:
        clock: steps that are left at most, this one included, and an episode's limit, ``(*, 2)``.
        gamma: discount per step.
    """
    left, limit = clock.unbind(-1)
    if gamma == 1:
        return left / limit
    rate = math.log(gamma)
    return torch.expm1(rate * left) / torch.expm1(rate * limit)


ROUNDING = 8
"""Standard deviation of advantages that is the returns' rounding, in their last place."""


def normalize(advantage: Tensor, mask: Tensor, returns: Tensor, epsilon: float = 1e-8) -> Tensor:
    """Normalize advantages to mean 0 and variance 1 over each task's real steps; 0 where masked.

    Normalizing over the meta-batch would change the tasks' effective inner step sizes. A task whose
    advantages are all equal, up to the rounding of its returns, gets zeros.

    Args:
        advantage: advantages, ``(M, B, T)``.
        mask: 1.0 on real steps, ``(M, B, T)``.
        returns: the returns that the advantages are made of, ``(M, B, T)``.
        epsilon: added to the standard deviation.
    """
    centred, std, constant = _spread(advantage, mask, returns)
    return torch.where(constant, torch.zeros_like(centred), centred / (std + epsilon))


def mean_size(advantage: Tensor, mask: Tensor) -> Tensor:
    """Return each task's mean absolute advantage over its real steps, ``(M,)``."""
    dims = tuple(range(1, mask.ndim))
    return (advantage.abs() * mask).sum(dims) / mask.sum(dims)


def explained(returns: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Return the fraction of the returns' variance that the values explain, over all real steps."""
    error = (returns - value) * mask
    centred = (returns - (returns * mask).sum() / mask.sum()) * mask
    return 1 - (error**2).sum() / (centred**2).sum().clamp(min=1e-8)


def credit(returns: Tensor, advantage: Tensor, mask: Tensor, epsilon: float = 1e-8) -> Tensor:
    """Return each episode's credit, ``(M, B)``, for :func:`estimators.exploration`.

    It is the episode's return minus the mean return of the other tasks of its block. This baseline
    does not depend on the task's own data, so it lowers the variance without adding bias; a block
    has to have two tasks. The credit is in units of the outer loss: divided by the task's std of
    advantages and mean episode length.

    Args:
        returns: returns from each step on, ``(M, B, T)``.
        advantage: advantages before normalization, ``(M, B, T)``.
        mask: 1.0 on real steps, ``(M, B, T)``.
        epsilon: as in :func:`normalize`.
    """
    _, std, constant = _spread(advantage, mask, returns)
    mean = returns[..., 0].mean(1)  # (M,)
    others = (mean.sum() - mean) / max(1, len(mean) - 1)
    unit = (std + epsilon).flatten(1) * mask.sum(-1).mean(1, keepdim=True)  # (M, 1)
    gain = (returns[..., 0] - others[:, None]) / unit
    return torch.where(constant.flatten(1), torch.zeros_like(gain), gain)


def _spread(advantage: Tensor, mask: Tensor, returns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return centred advantages, and each task's std and whether it is rounding, (M, 1, 1)."""
    dims = tuple(range(1, advantage.ndim))
    count = mask.sum(dims, keepdim=True).clamp(min=1.0)
    mean = (advantage * mask).sum(dims, keepdim=True) / count
    centred = (advantage - mean) * mask
    std = ((centred**2).sum(dims, keepdim=True) / count).sqrt()
    size = (((returns * mask) ** 2).sum(dims, keepdim=True) / count).sqrt()
    return centred, std, std <= ROUNDING * torch.finfo(advantage.dtype).eps * size


def _discounted_sum(values: Tensor, discount: float) -> Tensor:
    total = torch.zeros_like(values[..., 0])
    sums = []
    for step in reversed(values.unbind(-1)):
        total = step + discount * total
        sums.append(total)
    return torch.stack(sums[::-1], -1)
