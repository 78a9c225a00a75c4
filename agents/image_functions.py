"""Convolution, normalization and pooling of M tasks' images, differentiable any number of times.

They compute the same values as ``F.conv2d``, ``F.batch_norm`` and ``F.max_pool2d``. They exist
because ``vmap`` turns a convolution with a weight per task into a grouped convolution, whose
derivatives, the second above all, are several times slower than a loop over tasks. Here

- the derivatives are closed forms in the same few kernels (:class:`_Convolution`, ``_Projection``);
- under ``vmap`` each kernel runs task by task in the plain, ungrouped form, but the graph and
  elementwise operations run once for all tasks; if all tasks share the weight, one kernel runs
  over all tasks' images;
- channels come last in memory, where the CPU's kernels are fastest.

Images are ``(M, S, H, W, C)``, weights ``(M, outputs, C, h, h)``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .image_kernels import (
    How,
    aten,
    channels_first,
    channels_last,
    convolution,
    grad_images,
    grad_weight,
    pool_into,
    unpooled,
)
from .task_by_task import TaskByTask, one_weight, stack

IMAGES, WEIGHT, MAPS = range(3)


def convolve(images: Tensor, weight: Tensor, stride: int = 1, padding: int = 1) -> Tensor:
    """Convolve one task's images.

    Args:
        images: the task's images ``(S, H, W, C)``: numbers, or bytes that stand for numbers from 0
            to 1 and are kept as bytes for the derivatives.
        weight: the weight ``(outputs, C, h, h)``.
        stride: rows and columns from one output to the next.
        padding: rows and columns of zeros at each edge.

    Returns:
        ``(S, H', W', outputs)`` with ``H' = (H + 2 padding - h) // stride + 1``.
    """
    how = How((images.shape[1], images.shape[2]), stride, padding, weight.shape[-1])
    return _Convolution.apply(MAPS, how, None, images[None], weight[None]).squeeze(0)


def convolve_and_pool(images: Tensor, weight: Tensor) -> Tensor:
    """Compute ``max_pool(convolve(images, weight))`` a few images at a time, to save memory."""
    return _PooledConvolution.apply(images[None], weight[None])[0].squeeze(0)


def channel_moments(images: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return each output channel's mean and variance, from the moments of the images' patches.

    With the mean m and the covariance C of the 3x3 patches (9 x channels numbers each), the
    channels' moments are w m and w C w. For images of few channels this is much less work than
    computing the maps.

    Args:
        images: one task's images ``(S, H, W, C)``.
        weight: the weight ``(outputs, C, 3, 3)``.
    """
    patches = F.unfold(images.permute(0, 3, 1, 2), 3, padding=1).transpose(0, 1).flatten(1)
    mean = patches.mean(1, keepdim=True)
    centered = patches - mean
    flat = weight.flatten(1)
    covariance = centered @ centered.T / patches.shape[1]
    return (flat @ mean).squeeze(1), ((flat @ covariance) * flat).sum(1)


def standardize(maps: Tensor, epsilon: float) -> Tensor:
    """Scale one task's maps ``(S, H, W, C)``: each channel gets mean 0 and variance 1."""
    return _Standardization.apply(maps[None], epsilon)[0].squeeze(0)


def max_pool(maps: Tensor) -> Tensor:
    """Take the largest value of each 2x2 window: ``(S, H, W, C)`` to ``(S, H // 2, W // 2, C)``."""
    return _Pooling.apply(maps[None])[0].squeeze(0)


class _Convolution(TaskByTask):
    """The gradient in one of three arguments of ``sum(maps * convolution(images, weight))``.

    The sum is linear in each argument. Its gradient in ``maps`` is the convolution, its gradients
    in ``images`` and ``weight`` are the convolution's derivatives, and the derivatives of all three
    gradients are gradients of the same sum again. With ``where``, the maps are the pooled maps,
    taken at these places.
    """

    @staticmethod
    def forward(
        wanted: int, how: How, where: Tensor | None, first: Tensor, second: Tensor
    ) -> Tensor:
        """Compute the wanted gradient from the other two arguments, given in their order."""
        one = {IMAGES: grad_images, WEIGHT: grad_weight, MAPS: convolution}[wanted]
        places = [None] * len(first) if where is None else where
        return stack(one(*task, how) for task in zip(first, second, places, strict=True))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        ctx.wanted, ctx.how, *tensors = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,) = gradients
        where, *values = ctx.saved_tensors
        values.insert(ctx.wanted, gradient)
        needed = list(ctx.needs_input_grad[3:])
        needed.insert(ctx.wanted, False)
        results = [
            _Convolution.apply(slot, ctx.how, where, *values[:slot], *values[slot + 1 :])
            if needed[slot]
            else None
            for slot in (IMAGES, WEIGHT, MAPS)
        ]
        return None, None, None, *results[: ctx.wanted], *results[ctx.wanted + 1 :]

    @classmethod
    def vmap(cls, info: Any, in_dims: tuple, *arguments: Any) -> tuple[Any, Any]:
        """Merge calls into the image axis if they share the weight, else into the task axis."""
        at = {IMAGES: 3, MAPS: 4}.get(arguments[0])  # the weight's position
        if at is None or in_dims[at] is not None:
            return super().vmap(info, in_dims, *arguments)
        return one_weight(cls, info, in_dims, arguments, at)


class _PooledConvolution(TaskByTask):
    """The convolution's largest value in each 2x2 window, and its place in the image."""

    @staticmethod
    def forward(images: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        shape = (*images.shape[:2], images.shape[2] // 2, images.shape[3] // 2, weight.shape[1])
        values, where = images.new_empty(shape), images.new_empty(shape, dtype=torch.int64)
        for task in zip(images, weight, values, where, strict=True):
            pool_into(*task)
        return values, where

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*inputs, output[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        gradient, _ = gradients
        images, weight, where = ctx.saved_tensors
        how, needed = How(images.shape[2:4], stride=1), ctx.needs_input_grad
        return (
            _Convolution.apply(IMAGES, how, where, weight, gradient) if needed[0] else None,
            _Convolution.apply(WEIGHT, how, where, images, gradient) if needed[1] else None,
        )

    @classmethod
    def vmap(cls, info: Any, in_dims: tuple, *arguments: Any) -> tuple[Any, Any]:
        """Merge calls as :class:`_Convolution` does."""
        if in_dims[1] is not None:
            return super().vmap(info, in_dims, *arguments)
        return one_weight(cls, info, in_dims, arguments, 1)


class _Standardization(TaskByTask):
    """``(maps - mean) * inverse``, and the inverse standard deviation ``(M, C)``."""

    @staticmethod
    def forward(maps: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
        standard, inverse = maps.new_empty(maps.shape), maps.new_empty(len(maps), maps.shape[-1])
        mean = torch.empty_like(inverse)
        for one, out, average, factor in zip(maps, standard, mean, inverse, strict=True):
            into = {"out": channels_first(out), "save_mean": average, "save_invstd": factor}
            aten.native_batch_norm(
                channels_first(one), None, None, None, None, True, 0.0, epsilon, **into
            )
        return standard, inverse

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*output)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        gradient, of_inverse = gradients
        standard, inverse = ctx.saved_tensors
        parts = []
        if gradient is not None:
            parts.append(_Projection.apply(gradient, standard, inverse))
        if of_inverse is not None:
            factor = inverse.square() * of_inverse / standard[0, ..., 0].numel()
            parts.append(-_wide(factor) * standard)
        return sum(parts[1:], parts[0]) if parts else None, None


class _Projection(TaskByTask):
    """``inverse * P(g)`` with ``P(g) = g - mean(g) - x mean(g x)``, x the standardized maps.

    This is the derivative of standardization. P is symmetric, so its own derivative contains P.
    """

    @staticmethod
    def forward(gradient: Tensor, standard: Tensor, inverse: Tensor) -> Tensor:
        zero, one = torch.zeros_like(inverse[0]), torch.ones_like(inverse[0])
        return stack(
            channels_last(
                aten.native_batch_norm_backward(
                    channels_first(g),
                    channels_first(x),
                    scale,
                    None,
                    None,
                    zero,
                    one,
                    True,
                    0.0,
                    [True] * 3,
                )[0]
            )
            for g, x, scale in zip(gradient, standard, inverse, strict=True)
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (h,) = gradients
        g, x, inverse, output = ctx.saved_tensors
        mean_gx, mean_hx = _mean(g * x) * inverse, _mean(h * x) * inverse
        of_x = -(_wide(mean_gx) * h + _wide(mean_hx) * g)
        of_inverse = _mean(h * output) * x[0, ..., 0].numel() / inverse
        return _Projection.apply(h, x, inverse), of_x, of_inverse


class _Pooling(TaskByTask):
    """The largest value of each window, and its place in the image (the first of equals)."""

    @staticmethod
    def forward(maps: Tensor) -> tuple[Tensor, Tensor]:
        pooled, where = aten.max_pool2d_with_indices(channels_first(maps.flatten(0, 1)), [2, 2])
        tasks = maps.shape[:2]
        return channels_last(pooled).unflatten(0, tasks), channels_last(where).unflatten(0, tasks)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        ctx.size = inputs[0].shape[2:4]
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        gradient, _ = gradients
        return _Unpooling.apply(gradient, ctx.saved_tensors[0], ctx.size)


class _Unpooling(TaskByTask):
    """Puts each pooled value where it came from, zeros elsewhere."""

    @staticmethod
    def forward(pooled: Tensor, where: Tensor, size: tuple[int, int]) -> Tensor:
        maps = unpooled(pooled.flatten(0, 1), where.flatten(0, 1), size)
        return maps.unflatten(0, pooled.shape[:2])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,) = gradients
        where = ctx.saved_tensors[0]
        taken = gradient.flatten(2, 3).gather(2, where.flatten(2, 3))
        return taken.view(where.shape), None, None


def _mean(maps: Tensor) -> Tensor:
    """Average over all of a task's images: ``(M, C)``."""
    return maps.flatten(1, -2).mean(1)


def _wide(value: Tensor) -> Tensor:
    """Give ``(M, C)`` the axes to broadcast against ``(M, S, H, W, C)``."""
    return value[:, None, None, None]
