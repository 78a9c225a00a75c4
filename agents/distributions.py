"""Action distributions that policies return, as tuples of tensors.

``torch.distributions`` objects cannot leave ``torch.vmap`` and cannot be sampled from a given
generator; these tuples can. ``*`` stands for any leading axes, such as (M, B, T).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Generator, Tensor

LOG_2PI = math.log(2 * math.pi)


def uniform_like(values: Tensor, generator: Generator) -> Tensor:
    """Draw from [0, 1), with the shape, type and device of ``values``."""
    return torch.rand(values.shape, generator=generator, device=values.device, dtype=values.dtype)


class DiagonalGaussian(NamedTuple):
    """Independent normal action dimensions; log-probabilities are *summed* over them."""

    mean: Tensor  # (*, A)
    log_std: Tensor  # (*, A)

    def sample(self, generator: Generator) -> Tensor:
        """Sample actions ``(*, A)``."""
        noise = torch.randn(
            self.mean.shape, generator=generator, device=self.mean.device, dtype=self.mean.dtype
        )
        return self.mean + self.log_std.exp() * noise

    def mode(self) -> Tensor:
        """Return the mean ``(*, A)``."""
        return self.mean

    def log_prob(self, action: Tensor) -> Tensor:
        """Return the log-density ``(*,)`` of actions ``(*, A)``."""
        standardized = (action - self.mean) * torch.exp(-self.log_std)
        return (-0.5 * (standardized**2 + LOG_2PI) - self.log_std).sum(-1)

    def entropy(self) -> Tensor:
        """Return the differential entropy ``(*,)`` in nats."""
        return (self.log_std + 0.5 * (1 + LOG_2PI)).sum(-1)

    def kl(self, other: DiagonalGaussian) -> Tensor:
        """Return KL(self || other) ``(*,)`` in nats."""
        ratio = torch.exp(2 * (self.log_std - other.log_std))
        shift = ((self.mean - other.mean) * torch.exp(-other.log_std)) ** 2
        return (other.log_std - self.log_std + 0.5 * (ratio + shift - 1)).sum(-1)

    def fisher(self, tangent: DiagonalGaussian) -> DiagonalGaussian:
        """Multiply a tangent by the Fisher information in (mean, log_std), diag(1 / std^2, 2)."""
        precision = torch.exp(-2 * self.log_std)
        return DiagonalGaussian(precision * tangent.mean, 2 * tangent.log_std)


class Categorical(NamedTuple):
    """A distribution over A discrete actions."""

    logits: Tensor  # (*, A), not normalized

    def sample(self, generator: Generator) -> Tensor:
        """Sample actions ``(*,)`` int64, by the Gumbel-max trick."""
        uniform = uniform_like(self.logits, generator)
        uniform = uniform.clamp(min=torch.finfo(uniform.dtype).tiny)
        return (self.logits - torch.log(-torch.log(uniform))).argmax(-1)

    def mode(self) -> Tensor:
        """Return the likeliest action ``(*,)`` int64."""
        return self.logits.argmax(-1)

    def log_prob(self, action: Tensor) -> Tensor:
        """Return the log-probability ``(*,)`` of actions ``(*,)``."""
        normalized = torch.log_softmax(self.logits, -1)
        return normalized.gather(-1, action.unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor:
        """Return the entropy ``(*,)`` in nats."""
        normalized = torch.log_softmax(self.logits, -1)
        return -(normalized.exp() * normalized).sum(-1)

    def kl(self, other: Categorical) -> Tensor:
        """Return KL(self || other) ``(*,)`` in nats."""
        mine = torch.log_softmax(self.logits, -1)
        return (mine.exp() * (mine - torch.log_softmax(other.logits, -1))).sum(-1)

    def fisher(self, tangent: Categorical) -> Categorical:
        """Multiply a tangent by the Fisher information in the logits, diag(p) - p p^T."""
        p = torch.softmax(self.logits, -1)
        centred = tangent.logits - (p * tangent.logits).sum(-1, keepdim=True)
        return Categorical(p * centred)
