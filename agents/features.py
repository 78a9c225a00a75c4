"""What the layers of a policy with memory take of an observation."""

from __future__ import annotations

import gymnasium as gym
from torch import Generator, Tensor, nn

from meta_rl.problems.observations import has_images, observation_size

from .pixels import JoinedFeatures


class Features(nn.Module):
    """Observations as layers take them, ``(N, L, O)`` to ``(N, L, size)``.

    Images pass through convolutions. Other observations stay as they are.
    """

    def __init__(self, space: gym.Space, scheme: str, generator: Generator):
        super().__init__()
        self.images, self.size = None, observation_size(space)
        if has_images(space):
            self.images = JoinedFeatures(space, True, scheme, generator)
            self.size = self.images.size

    def forward(self, obs: Tensor) -> Tensor:
        """Return the features."""
        if self.images is None:
            return obs
        return self.images(obs.flatten(0, 1)).unflatten(0, obs.shape[:2])
