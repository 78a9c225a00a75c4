"""Convolution, normalization and pooling of the images of M tasks, differentiable as often as wanted.

What these compute is what ``F.conv2d``, ``F.batch_norm`` and ``F.max_pool2d`` compute. They exist
because a vmapped convolution with weights of its own for every task becomes a grouped one, whose
derivatives, the second above all, are several times slower than a loop over tasks. Here

- the derivatives are closed forms in the same few kernels (:class:`_Convolution`, ``_Projection``);
- under ``vmap`` each kernel runs task by task on the plain, ungrouped form, but everything around
  it (graph, elementwise operations) runs once for all; a weight that all tasks share makes it one
  kernel over all tasks' images;
- channels come last in memory, where the CPU's kernels are fastest.

Images are ``(M, S, H, W, C)``, weights ``(M, outputs, C, 3, 3)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.utils._pytree import tree_map

aten: Any = torch.ops.aten

IMAGES, WEIGHT, MAPS = range(3)


def convolve(images: Tensor, weight: Tensor, stride: int = 1) -> Tensor:
    """3x3 convolution of one task's images, padded by 1.

    Args:
        images: ``(S, H, W, C)``.
        weight: ``(outputs, C, 3, 3)``.
        stride: rows and columns from one output to the next.

    Returns:
        ``(S, H', W', outputs)`` with ``H' = ceil(H / stride)``.
    """
    size = (images.shape[1], images.shape[2])
    return _Convolution.apply(MAPS, size, stride, images[None], weight[None]).squeeze(0)


def standardize(maps: Tensor, epsilon: float) -> Tensor:
    """One task's maps ``(S, H, W, C)``, each channel with mean 0 and variance 1 over S, H and W."""
    return _Standardization.apply(maps[None], epsilon)[0].squeeze(0)


def max_pool(maps: Tensor) -> Tensor:
    """Largest value of each 2x2 window: ``(S, H, W, C)`` to ``(S, H // 2, W // 2, C)``."""
    return _Pooling.apply(maps[None])[0].squeeze(0)


class _TaskByTask(Function):
    """A function of tensors ``(M, ...)``, where ``vmap`` only makes M larger."""

    @classmethod
    def vmap(cls, info: Any, in_dims: tuple, *arguments: Any) -> tuple[Any, Any]:
        """The B values of the new dimension join the M tasks."""

        def joined(value: Any, dim: int | None) -> Any:
            if not isinstance(value, Tensor):
                return value
            value = value.expand(info.batch_size, *value.shape) if dim is None else value
            return value.movedim(dim or 0, 0).flatten(0, 1)

        results = cls.apply(*(joined(*pair) for pair in zip(arguments, in_dims, strict=True)))
        results = tree_map(lambda value: value.unflatten(0, (info.batch_size, -1)), results)
        return results, tree_map(lambda _: 0, results)


class _Convolution(_TaskByTask):
    """The gradient in one of three arguments of ``sum(maps * convolution(images, weight))``.

    That form is linear in each argument: its gradient in ``maps`` is the convolution, those in
    the other two are the convolution's derivatives, and the derivatives of all three are gradients
    of the same form again.
    """

    @staticmethod
    def forward(wanted: int, size: tuple, stride: int, first: Tensor, second: Tensor) -> Tensor:
        """``first`` and ``second`` are the two arguments not wanted, in their order."""
        one = {IMAGES: _grad_images, WEIGHT: _grad_weight, MAPS: _convolution}[wanted]
        return _stack(one(a, b, size, stride) for a, b in zip(first, second, strict=True))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        ctx.wanted, ctx.size, ctx.stride, *others = inputs
        ctx.save_for_backward(*others)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        others = [slot for slot in (IMAGES, WEIGHT, MAPS) if slot != ctx.wanted]
        values = {ctx.wanted: gradient, **dict(zip(others, ctx.saved_tensors, strict=True))}
        gradients: list[Tensor | None] = []
        for slot, needed in zip(others, ctx.needs_input_grad[3:], strict=True):
            rest = [values[other] for other in (IMAGES, WEIGHT, MAPS) if other != slot]
            gradients.append(
                _Convolution.apply(slot, ctx.size, ctx.stride, *rest) if needed else None
            )
        return None, None, None, *gradients

    @classmethod
    def vmap(cls, info: Any, in_dims: tuple, *arguments: Any) -> tuple[Any, Any]:
        """With a weight that is the same for all, the B values join the S images instead."""
        wanted, size, stride, *values = arguments
        at = {IMAGES: 0, MAPS: 1}.get(wanted)  # where the weight is among the values
        if at is None or in_dims[3 + at] is not None:
            return super().vmap(info, in_dims, *arguments)
        values[1 - at] = values[1 - at].movedim(in_dims[4 - at], 1).flatten(1, 2)
        result = cls.apply(wanted, size, stride, *values)
        return result.unflatten(1, (info.batch_size, -1)), 1


class _Standardization(_TaskByTask):
    """``(maps - mean) * inverse`` and inverse, that of the standard deviation: ``(M, C)``."""

    @staticmethod
    def forward(maps: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
        pairs = [
            aten.native_batch_norm(_first(one), None, None, None, None, True, 0.0, epsilon)
            for one in maps
        ]
        return _stack(_last(pair[0]) for pair in pairs), _stack(pair[2] for pair in pairs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, of_inverse: Tensor | None) -> Any:
        standard, inverse = ctx.saved_tensors
        of_maps = _Projection.apply(gradient, standard, inverse)
        if of_inverse is None:
            return of_maps, None
        factor = inverse.square() * of_inverse / standard[0, ..., 0].numel()
        return of_maps - _wide(factor) * standard, None


class _Projection(_TaskByTask):
    """``inverse * P(g)`` with ``P(g) = g - mean(g) - x mean(g x)``, x the standardized maps.

    The derivative of standardization; P is symmetric, so that its own derivative has it again.
    """

    @staticmethod
    def forward(gradient: Tensor, standard: Tensor, inverse: Tensor) -> Tensor:
        zero, one = torch.zeros_like(inverse[0]), torch.ones_like(inverse[0])
        return _stack(
            _last(
                aten.native_batch_norm_backward(
                    _first(g), _first(x), scale, None, None, zero, one, True, 0.0, [True] * 3
                )[0]
            )
            for g, x, scale in zip(gradient, standard, inverse, strict=True)
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    def backward(ctx: Any, h: Tensor) -> Any:
        g, x, inverse, output = ctx.saved_tensors
        mean_gx, mean_hx = _mean(g * x) * inverse, _mean(h * x) * inverse
        of_x = -(_wide(mean_gx) * h + _wide(mean_hx) * g)
        of_inverse = _mean(h * output) * x[0, ..., 0].numel() / inverse
        return _Projection.apply(h, x, inverse), of_x, of_inverse


class _Pooling(_TaskByTask):
    """Largest value of each window, and where in its image it is (the first of equals)."""

    @staticmethod
    def forward(maps: Tensor) -> tuple[Tensor, Tensor]:
        pooled, where = aten.max_pool2d_with_indices(_first(maps.flatten(0, 1)), [2, 2])
        return tuple(_last(value).unflatten(0, maps.shape[:2]) for value in (pooled, where))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        ctx.size = inputs[0].shape[2:4]
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Any) -> Any:
        return _Unpooling.apply(gradient, ctx.saved_tensors[0], ctx.size)


class _Unpooling(_TaskByTask):
    """Puts each pooled value where it came from, zeros elsewhere."""

    @staticmethod
    def forward(pooled: Tensor, where: Tensor, size: tuple[int, int]) -> Tensor:
        shape = (*pooled.shape[:2], *size, pooled.shape[-1])
        like = _first(pooled.new_empty(shape).flatten(0, 1))
        window = [2, 2], [2, 2], [0, 0], [1, 1], False
        flat = (_first(value.flatten(0, 1)) for value in (pooled, where))
        maps = aten.max_pool2d_with_indices_backward(next(flat), like, *window, next(flat))
        return _last(maps).unflatten(0, pooled.shape[:2])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        where = ctx.saved_tensors[0]
        taken = gradient.flatten(2, 3).gather(2, where.flatten(2, 3))
        return taken.view(where.shape), None, None


def _convolution(images: Tensor, weight: Tensor, size: tuple, stride: int) -> Tensor:
    return _last(torch.conv2d(_first(images), weight, stride=stride, padding=1))


def _grad_images(weight: Tensor, maps: Tensor, size: tuple, stride: int) -> Tensor:
    images = _first(maps.new_empty(maps.shape[0], *size, weight.shape[1]))
    return _last(_backward(maps, images, weight, stride, [True, False, False])[0])


def _grad_weight(images: Tensor, maps: Tensor, size: tuple, stride: int) -> Tensor:
    weight = maps.new_empty(maps.shape[-1], images.shape[-1], 3, 3)
    return _backward(maps, _first(images), weight, stride, [False, True, False])[1].contiguous()


def _backward(maps: Tensor, images: Tensor, weight: Tensor, stride: int, mask: list) -> Any:
    window = [stride] * 2, [1, 1], [1, 1], False, [0, 0], 1
    return aten.convolution_backward(_first(maps), images, weight, None, *window, mask)


def _first(maps: Tensor) -> Tensor:
    """Channels first in the order of dimensions, last in memory."""
    return maps.contiguous().permute(0, 3, 1, 2)


def _last(maps: Tensor) -> Tensor:
    return maps.permute(0, 2, 3, 1).contiguous()


def _stack(each: Iterable[Tensor]) -> Tensor:
    tensors = list(each)
    return torch.stack(tensors) if len(tensors) > 1 else tensors[0][None]


def _mean(maps: Tensor) -> Tensor:
    """Over all of a task's images: ``(M, C)``."""
    return maps.flatten(1, -2).mean(1)


def _wide(value: Tensor) -> Tensor:
    """``(M, C)`` beside ``(M, S, H, W, C)``."""
    return value[:, None, None, None]
