"""Success: whether episodes reach their task's aim, as the environment tells in its info.

An episode succeeds if ``info["is_success"]`` or ``info["success"]`` is true at any of its steps: at
the last one, where stable-baselines3 reads it, or before, as Meta-World counts. It is 1.0 or 0.0 in
tensors, and NaN for an episode of an environment that tells neither.
"""

from __future__ import annotations

import torch
from torch import Tensor


def any_step(so_far: Tensor, told: Tensor | None, running: Tensor) -> Tensor:
    """Return the episodes' success up to and with one more step, ``(M, B)``.

    Args:
        so_far: their success before the step.
        told: the step's success; None if no environment tells it.
        running: whether each episode has this step.
    """
    return so_far if told is None else torch.where(running, torch.fmax(so_far, told), so_far)


def rates(success: Tensor) -> Tensor:
    """Return the fraction of each task's episodes ``(M, B)`` that succeed; NaN if none tells.

    An episode that does not tell, beside others that do, does not succeed: some environments tell
    success only once there is one.
    """
    rate = success.nan_to_num(0.0).mean(-1)
    return torch.where(success.isnan().all(-1), torch.nan, rate)


def counted(rate: Tensor | None) -> Tensor | None:
    """Return the success rates after 0..K inner steps ``(K + 1, M)``; None if no task tells it.

    A task without a rate, beside others with one, has a rate of 0: its episodes told no success, or
    adapting diverged.
    """
    return None if rate is None or rate.isnan().all() else rate.nan_to_num(0.0)
