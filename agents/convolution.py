"""The convolutional network of the few-shot literature, with the current batch's statistics."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from agents.image_functions import (
    convolve,
    convolve_and_pool,
    max_pool,
    channel_moments,
    standardize,
)
from meta_rl.errors import require


def convolutional(
    input_shape: tuple[int, int, int],
    outputs: int,
    generator: Generator,
    *,
    channels: int = 64,
    blocks: int = 4,
) -> nn.Sequential:
    """Convolution blocks and a linear layer: ``(S, C, H, W) -> (S, outputs)``.

    The network of Vinyals et al. 2016, Finn et al. 2017 (there with 64 channels for Omniglot and 32
    for mini-ImageNet) and Snell et al. 2017: each :class:`Block` halves height and width; what the
    last one leaves is flattened. Weights are Xavier-uniform (Glorot and Bengio 2010), as MAML's,
    shifts zero, scales one. No global generator is touched.

    Batches are normalized by their own statistics, query sets too (transductive,
    as in MAML): a prediction depends on the other images of its batch.

    Args:
        input_shape: channels, height and width of an image.
        outputs: N, one for each class.
        generator: of the initial weights.
        channels: of every block.
        blocks: how many.

    Raises:
        InputError: if the images are too small to be halved that often.
    """
    in_channels, height, width = input_shape
    sizes = [in_channels, *[channels] * blocks]
    rows, columns = height >> blocks, width >> blocks
    require(
        blocks > 0 and min(*sizes, rows, columns) > 0,
        "input_shape, channels, blocks",
        f"sizes above 0 and images of at least {2**blocks} x {2**blocks} for {blocks} blocks",
        (input_shape, channels, blocks),
    )
    layers: list[nn.Module] = [
        Block(size_in, size_out, generator) for size_in, size_out in pairwise(sizes)
    ]
    head: Any = nn.utils.skip_init(nn.Linear, channels * rows * columns, outputs)
    nn.init.xavier_uniform_(head.weight, generator=generator)
    nn.init.zeros_(head.bias)
    return nn.Sequential(*layers, nn.Flatten(), head)


class Block(nn.Module):
    """3x3 convolution, batch normalization, ReLU, 2x2 max pooling: ``(S, C, H, W)`` halved.

    The convolution has no bias: normalization would take it away again.

    Args:
        in_channels: C of the input.
        channels: C of the output.
        generator: of the initial weight.
        epsilon: added to the variance.
    """

    def __init__(
        self, in_channels: int, channels: int, generator: Generator, epsilon: float = 1e-5
    ):
        super().__init__()
        self.epsilon = epsilon
        self.few = 9 * in_channels < channels
        self.weight = nn.Parameter(torch.empty(channels, in_channels, 3, 3))
        nn.init.xavier_uniform_(self.weight, generator=generator)
        self.scale = nn.Parameter(torch.ones(channels))
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, images: Tensor) -> Tensor:
        """``(S, C, H, W)`` to ``(S, channels, H // 2, W // 2)``."""
        sign = torch.where(self.scale < 0, -1.0, 1.0).to(self.scale)
        weight = self.weight * sign.view(-1, 1, 1, 1)
        maps = images.permute(0, 2, 3, 1)
        if self.few:
            mean, variance = channel_moments(maps, weight)
            maps = convolve_and_pool(maps, weight)
            factor = self.scale * sign * (variance + self.epsilon).rsqrt()
            offset = self.shift - mean * factor
        else:
            maps = max_pool(standardize(convolve(maps, weight), self.epsilon))
            factor, offset = self.scale * sign, self.shift
        return torch.addcmul(offset, maps, factor).relu_().permute(0, 3, 1, 2)
