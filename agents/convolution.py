"""The convolutional network of the few-shot literature, with the current batch's statistics."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Generator, Tensor, nn

from meta_rl.errors import require

from .image_functions import channel_moments, convolve, convolve_and_pool, max_pool, standardize
from .initialization import draw_weight, linear


def convolutional(
    input_shape: tuple[int, int, int],
    outputs: int,
    generator: Generator,
    *,
    channels: int | Sequence[int] = 64,
    blocks: int = 4,
    strided: bool = False,
    initialization: str = "xavier",
) -> nn.Sequential:
    """Return convolution blocks and a linear layer: ``(S, C, H, W) -> (S, outputs)``.

    This is the network of Vinyals et al. 2016, Finn et al. 2017 (64 channels for Omniglot, 32 for
    mini-ImageNet) and Snell et al. 2017. Each :class:`Block` halves height and width; the last
    block's maps are flattened. Weights start Xavier-uniform (Glorot and Bengio 2010), as in MAML,
    or as asked; shifts zero and scales one. No global generator is touched.

    Batches are normalized by their own statistics, query sets too (transductive, as in MAML): a
    prediction depends on the other images of its batch.

    Args:
        input_shape: channels, height and width of an image.
        outputs: N, one output for each class.
        generator: the generator that draws the initial weights.
        channels: channels of every block, or one number per block, which overrides ``blocks``.
        blocks: number of blocks.
        strided: halve by convolutions of stride 2 instead of pooling, rounding up, and average
            the last block's maps: MAML's network for Omniglot.
        initialization: ``xavier``, ``orthogonal`` or ``he``.

    Raises:
        InputError: if the images are too small to be halved that often.
    """
    in_channels, height, width = input_shape
    each = [channels] * blocks if isinstance(channels, int) else list(channels)
    sizes, blocks = [in_channels, *each], len(each)
    rows, columns = (1, 1) if strided else (height >> blocks, width >> blocks)
    require(
        blocks > 0 and min(*sizes, height, width, rows, columns, outputs) > 0,
        "input_shape, outputs, channels, blocks",
        f"sizes above 0 and images of at least {2**blocks} x {2**blocks} for {blocks} blocks",
        (input_shape, outputs, channels, blocks),
    )
    layers: list[nn.Module] = [
        Block(size_in, size_out, generator, strided, initialization=initialization)
        for size_in, size_out in pairwise(sizes)
    ]
    head = linear(sizes[-1] * rows * columns, outputs, initialization, generator, head_gain=1.0)
    return nn.Sequential(*layers, Average() if strided else nn.Flatten(), head)


class Average(nn.Module):
    """Averages over height and width: ``(S, C, H, W)`` to ``(S, C)``."""

    def forward(self, images: Tensor) -> Tensor:
        """Return each channel's mean."""
        return images.mean((2, 3))


class Block(nn.Module):
    """A 3x3 convolution, batch normalization, 2x2 max pooling and ReLU; halves ``(S, C, H, W)``.

    The convolution has no bias: normalization would cancel it. Scale, shift and ReLU follow
    pooling, on a quarter of the values. A channel with a negative scale flips its weight's sign
    instead, so that pooling still picks the value that is largest after scaling.

    Args:
        in_channels: channels C of the input.
        channels: channels C of the output.
        generator: the generator that draws the initial weight.
        strided: convolve with stride 2 and do not pool.
        epsilon: number added to the variance.
        initialization: ``xavier``, ``orthogonal`` or ``he``.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        generator: Generator,
        strided: bool = False,
        epsilon: float = 1e-5,
        initialization: str = "xavier",
    ):
        super().__init__()
        self.strided, self.epsilon = strided, epsilon
        self.from_patches = not strided and 9 * in_channels < channels
        self.weight = nn.Parameter(torch.empty(channels, in_channels, 3, 3))
        draw_weight(self.weight, initialization, generator)
        self.scale = nn.Parameter(torch.ones(channels))
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, images: Tensor) -> Tensor:
        """Map ``(S, C, H, W)`` to ``(S, channels, H // 2, W // 2)``; strided, rounded up."""
        sign = torch.where(self.scale < 0, -1.0, 1.0).to(self.scale)
        weight = self.weight * sign.view(-1, 1, 1, 1)
        maps, offset, factor = images.permute(0, 2, 3, 1), self.shift, self.scale * sign
        if self.from_patches:
            mean, variance = channel_moments(maps, weight)
            factor = factor * (variance + self.epsilon).rsqrt()
            offset = offset - mean * factor
            maps = convolve_and_pool(maps, weight)
        elif self.strided:
            maps = standardize(convolve(maps, weight, stride=2), self.epsilon)
        else:
            maps = max_pool(standardize(convolve(maps, weight), self.epsilon))
        return torch.addcmul(offset, maps, factor).relu_().permute(0, 3, 1, 2)
