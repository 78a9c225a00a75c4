"""Networks for observations with images in them: convolutions, and parts joined to one vector."""

from __future__ import annotations

import gymnasium as gym
import torch
from torch import Generator, Tensor, nn

from meta_rl.problems.observations import ImageLayout, image_layout, leaves

from .image_functions import convolve
from .initialization import draw_weight, linear

LARGE = 36
"""The least height and width of an image that the convolutions of :class:`NatureCNN` fit in."""
FEATURES = {"alone": (512, 128), "joined": (256, 128)}
"""Features of an image that is the whole observation, and of one among other parts: large, small.

The large ones are stable-baselines3's: of ``NatureCNN``, and in ``CombinedExtractor``.
"""


class Convolution(nn.Module):
    """A convolution with a bias: ``(S, H, W, C)`` to ``(S, H', W', channels)``.

    Images of bytes stand for numbers from 0 to 1.

    Args:
        in_channels: channels C of the input.
        channels: channels of the output.
        window: height and width of the weight.
        stride: rows and columns from one output to the next.
        padding: rows and columns of zeros at each edge.
        scheme: initialization of the weight, see :func:`~agents.initialization.draw_weight`.
        generator: the generator that draws the weight.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        window: int,
        stride: int,
        padding: int,
        scheme: str,
        generator: Generator,
    ):
        super().__init__()
        self.stride, self.padding = stride, padding
        self.weight = nn.Parameter(torch.empty(channels, in_channels, window, window))
        draw_weight(self.weight, scheme, generator)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, images: Tensor) -> Tensor:
        """Convolve one task's images."""
        return convolve(images, self.weight, self.stride, self.padding) + self.bias


class ChannelsFirst(nn.Module):
    """Flattens ``(S, H, W, C)`` to ``(S, C H W)``, in the order of networks with channels first."""

    def forward(self, maps: Tensor) -> Tensor:
        """Return each image's maps as one vector."""
        return maps.permute(0, 3, 1, 2).flatten(1)


class ImageFeatures(nn.Module):
    """Convolutions with ReLU, and a linear layer with ReLU: images ``(S, H, W, C)`` to features.

    Args:
        layout: size of the images.
        features: number of features.
        scheme: initialization of the weights.
        generator: the generator that draws the weights.
    """

    convolutions: tuple[tuple[int, int, int, int], ...]
    """Channels, window, stride and padding of each convolution."""

    def __init__(self, layout: ImageLayout, features: int, scheme: str, generator: Generator):
        super().__init__()
        layers: list[nn.Module] = []
        height, width, channels = layout.size
        for outputs, window, stride, padding in self.convolutions:
            form = (outputs, window, stride, padding)
            layers += [Convolution(channels, *form, scheme, generator), nn.ReLU()]
            height, width = (
                (side + 2 * padding - window) // stride + 1 for side in (height, width)
            )
            channels = outputs
        self.cnn = nn.Sequential(*layers, ChannelsFirst())
        size = channels * height * width
        self.linear = nn.Sequential(linear(size, features, scheme, generator), nn.ReLU())

    def forward(self, images: Tensor) -> Tensor:
        """Return features ``(S, F)``."""
        return self.linear(self.cnn(images))


class NatureCNN(ImageFeatures):
    """The Atari network of Mnih et al. 2015, "Human-level control"; 36 x 36 pixels or more.

    Its parameters have the names and the order of stable-baselines3's ``NatureCNN``.
    """

    convolutions = ((32, 8, 4, 0), (64, 4, 2, 0), (64, 3, 1, 0))


class SmallCNN(ImageFeatures):
    """Three convolutions for little pictures; the last two halve height and width, rounding up."""

    convolutions = ((16, 3, 1, 1), (32, 3, 2, 1), (64, 3, 2, 1))


class JoinedFeatures(nn.Module):
    """Features of an observation's images, and its other parts as they are, in their order.

    Maps flat observations ``(S, O)`` to ``(S, size)``, as stable-baselines3's
    ``CombinedExtractor`` does with dicts.

    Args:
        space: an observation space with images.
        convolves: whether images enter convolutions; if not, all their pixels are features.
        scheme: initialization of the weights.
        generator: the generator that draws the weights.
    """

    number: Tensor

    def __init__(self, space: gym.Space, convolves: bool, scheme: str, generator: Generator):
        super().__init__()
        among = "alone" if isinstance(space, gym.spaces.Box) else "joined"
        self.space, self.images, self.size = space, nn.ModuleList(), 0
        self._parts: list[tuple[int, ImageLayout | None]] = []
        for part in leaves(space):
            length, layout = gym.spaces.flatdim(part), image_layout(part)
            self._parts.append((length, layout))
            if layout and convolves:
                small = min(layout.size[:2]) < LARGE
                kind, length = (SmallCNN if small else NatureCNN), FEATURES[among][small]
                self.images.append(kind(layout, length, scheme, generator))
            self.size += length

        self.register_buffer("number", torch.zeros(()), persistent=False)

    def forward(self, obs: Tensor) -> Tensor:
        """Return the features ``(S, size)`` of observations ``(S, O)``."""
        parts, images = obs.split([length for length, _ in self._parts], -1), iter(self.images)
        joined = [
            self._features(part, layout, next(images, None) if layout else None)
            for part, (_, layout) in zip(parts, self._parts, strict=True)
        ]
        return torch.cat(joined, -1) if len(joined) > 1 else joined[0]

    def _features(
        self, part: Tensor, layout: ImageLayout | None, network: nn.Module | None
    ) -> Tensor:
        if layout is None:
            return part.to(self.number.dtype)
        if network is None:
            return part.to(self.number.dtype) / 255
        images = layout.images(part)
        # Convolutions read bytes as numbers from 0 to 1 themselves.
        return network(images if images.dtype == torch.uint8 else images / 255)
