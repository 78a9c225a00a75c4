"""Kernels of :mod:`agents.image_functions` for one task, without gradients, by torch's own kernels.

Images are ``(S, H, W, C)``, with channels last in memory. Bytes stand for numbers from 0 to 1, and
become numbers a few images at a time. ``where`` holds the places in each image that 2x2 pooling
took its values from. If ``where`` is given, the full-size maps of a convolution exist for only a
few images at a time.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

aten: Any = torch.ops.aten


class How(NamedTuple):
    """The image size, stride, padding and window of a convolution."""

    size: tuple[int, int]  # height and width of the images
    stride: int
    padding: int = 1
    window: int = 3  # height and width of the weight


def pool_into(images: Tensor, weight: Tensor, values: Tensor, where: Tensor) -> None:
    """Write the largest map value of each window into ``values``, and its place into ``where``.

    It takes a few images at a time, so that their maps stay in the cache.
    """
    size = _few(images, weight.shape[0])
    parts = zip(*(tensor.split(size) for tensor in (images, values, where)), strict=True)
    for few, some_values, places in parts:
        maps = torch.conv2d(channels_first(few), weight, padding=1)
        into, indices = channels_first(some_values), channels_first(places)
        aten.max_pool2d_with_indices(maps, [2, 2], out=into, indices=indices)


def convolution(images: Tensor, weight: Tensor, where: Tensor | None, how: How) -> Tensor:
    """Return the images' maps; with ``where``, only the values at these places."""
    if images.dtype == torch.uint8:
        some = images.split(_few(images, images.shape[-1]))
        return torch.cat([convolution(from_bytes(few, weight), weight, None, how) for few in some])
    if where is None:
        maps = torch.conv2d(channels_first(images), weight, stride=how.stride, padding=how.padding)
        return channels_last(maps)
    size = _few(images, weight.shape[0])
    parts = [
        _gather(channels_last(torch.conv2d(channels_first(few), weight, padding=1)), places)
        for few, places in zip(images.split(size), where.split(size), strict=True)
    ]
    return torch.cat(parts)


def grad_images(weight: Tensor, maps: Tensor, where: Tensor | None, how: How) -> Tensor:
    """Return the gradient of ``sum(maps * convolution)`` in the images."""
    if where is not None:
        maps = unpooled(maps, where, how.size)
    images = channels_first(maps.new_empty(maps.shape[0], *how.size, weight.shape[1]))
    return channels_last(_backward(maps, images, weight, how, [True, False, False])[0])


def grad_weight(images: Tensor, maps: Tensor, where: Tensor | None, how: How) -> Tensor:
    """Return the gradient of ``sum(maps * convolution)`` in the weight."""
    if images.dtype == torch.uint8:
        size = _few(images, images.shape[-1])
        parts = zip(images.split(size), maps.split(size), strict=True)
        each = [grad_weight(from_bytes(few, m), m, None, how) for few, m in parts]
        return torch.stack(each).sum(0)
    weight = maps.new_empty(maps.shape[-1], images.shape[-1], how.window, how.window)
    mask = [False, True, False]
    if where is None:
        return _backward(maps, channels_first(images), weight, how, mask)[1].contiguous()
    size = _few(images, maps.shape[-1])
    parts = zip(images.split(size), maps.split(size), where.split(size), strict=True)
    return torch.stack(
        [
            _backward(unpooled(m, at, how.size), channels_first(few), weight, how, mask)[1]
            for few, m, at in parts
        ]
    ).sum(0)


def _backward(maps: Tensor, images: Tensor, weight: Tensor, how: How, mask: list) -> Any:
    window = [how.stride] * 2, [how.padding] * 2, [1, 1], False, [0, 0], 1
    return aten.convolution_backward(channels_first(maps), images, weight, None, *window, mask)


def from_bytes(images: Tensor, like: Tensor) -> Tensor:
    """Return images of bytes as numbers from 0 to 1, with the type of ``like``."""
    return images.to(like.dtype) / 255


def unpooled(pooled: Tensor, where: Tensor, size: tuple[int, int]) -> Tensor:
    """Put each pooled value where it came from, zeros elsewhere."""
    like = channels_first(pooled.new_empty(pooled.shape[0], *size, pooled.shape[-1]))
    window = [2, 2], [2, 2], [0, 0], [1, 1], False
    maps = aten.max_pool2d_with_indices_backward(
        channels_first(pooled), like, *window, channels_first(where)
    )
    return channels_last(maps)


def _gather(maps: Tensor, where: Tensor) -> Tensor:
    """Gather ``(S, H, W, C)`` at indices ``(S, H', W', C)`` into each image's H x W."""
    return maps.flatten(1, 2).gather(1, where.flatten(1, 2)).view(where.shape)


def _few(images: Tensor, channels: int) -> int:
    """Return how many images' maps fit into 2 MB in single precision."""
    return max(1, 2**19 // (images.shape[1] * images.shape[2] * channels))


def channels_first(maps: Tensor) -> Tensor:
    """Order the dimensions channels first, and keep channels last in memory.

    A flat view comes between: otherwise torch takes a single channel's strides for channels first.
    """
    return maps.reshape(-1).view(maps.shape).permute(0, 3, 1, 2)


def channels_last(maps: Tensor) -> Tensor:
    """Undo :func:`channels_first`."""
    return maps.permute(0, 2, 3, 1).contiguous()
