"""Our features of images, and modules of one's own, as features extractors of stable-baselines3.

``PPO.load`` imports these classes, so zips that have one need this package where they are loaded.
Parameters have the names of our own modules.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_flattened_obs_dim, is_image_space
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from .extractor_inputs import extractor_input
from .pixels import FEATURES, LARGE, NatureCNN, SmallCNN


class ImageExtractor(BaseFeaturesExtractor):
    """Convolutions of :mod:`agents.pixels` for images with channels first.

    Args:
        observation_space: the images' space.
        joined: whether an observation has other parts too, for the number of features.
    """

    def __init__(self, observation_space: gym.Space, joined: bool = False):
        assert isinstance(observation_space, spaces.Box)
        channels, *sides = observation_space.shape
        small = min(sides) < LARGE
        super().__init__(observation_space, FEATURES["joined" if joined else "alone"][small])
        layers: list[nn.Module] = []
        for outputs, window, stride, padding in (SmallCNN if small else NatureCNN).convolutions:
            layers += [nn.Conv2d(channels, outputs, window, stride, padding), nn.ReLU()]
            channels = outputs
        self.cnn = nn.Sequential(*layers, nn.Flatten())
        with torch.no_grad():
            size = self.cnn(torch.zeros(1, *observation_space.shape)).shape[1]
        self.linear = nn.Sequential(nn.Linear(size, self.features_dim), nn.ReLU())

    def forward(self, observations: Tensor) -> Tensor:
        """Map images ``(N, C, H, W)`` from 0 to 1 to features ``(N, F)``."""
        return self.linear(self.cnn(observations))


class JoinedExtractor(BaseFeaturesExtractor):
    """Like ``CombinedExtractor``, with our convolutions for pictures too small for the Atari ones.

    Args:
        observation_space: a Dict.
    """

    def __init__(self, observation_space: gym.Space):
        assert isinstance(observation_space, spaces.Dict)
        parts = observation_space.spaces
        extractors: dict[str, Any] = {
            name: ImageExtractor(part, joined=True) if is_image_space(part) else nn.Flatten()
            for name, part in parts.items()
        }
        size = sum(
            getattr(extractors[name], "features_dim", None) or get_flattened_obs_dim(part)
            for name, part in parts.items()
        )
        super().__init__(observation_space, size)
        self.extractors = nn.ModuleDict(extractors)

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """Map parts ``(N, ...)`` to features ``(N, F)``."""
        each = [extractor(observations[name]) for name, extractor in self.extractors.items()]
        return torch.cat(each, 1)


class ModuleExtractor(BaseFeaturesExtractor):
    """A module that is no ``BaseFeaturesExtractor``.

    Args:
        observation_space: the space that the module is called with.
        module: the module's class.
        features_dim: number of features that it returns.
    """

    def __init__(self, observation_space: gym.Space, module: type[nn.Module], features_dim: int):
        super().__init__(observation_space, features_dim)
        self.module = module(observation_space)
        zeros = torch.zeros(2, spaces.flatdim(observation_space))
        with torch.no_grad():  # gives lazy layers their shapes
            self.module(extractor_input(observation_space, zeros, torch.float32))

    def forward(self, observations: Any) -> Tensor:
        """Return the module's features ``(N, F)``."""
        return self.module(observations)
