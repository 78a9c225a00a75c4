"""Exact products with the curvature of the mean KL divergence of adapted policies.

At the current point the KL of each adapted policy to itself has zero gradient, so its Hessian in
the meta-parameters is exactly ``J^T F J``: J = d phi / d (theta, rule), the derivative of
adaptation, and F the Fisher information of the adapted policies. No third derivative of the loss
is needed, and the result is positive semi-definite by construction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from meta_rl.inner.core import InnerLoop
from meta_rl.tasks import num_tasks, unflatten_like
from meta_rl.types import Distribution, Episodes, MetaParameters, Params

Vector = Sequence[Tensor]
"""Tensors in the order of ``tree_leaves(meta)``."""


class KLCurvature:
    """``v -> (J^T F J) v`` for the mean over tasks of the masked mean KL on the query data.

    Adaptation and the network run once, at construction; every product reuses their graphs. J and
    J^T are linear maps kept as autograd graphs: ``J^T u`` is a backward pass, and ``J v`` the
    derivative of ``u -> J^T u`` in the direction v (the double-backward form of forward mode, which
    costs less here than forward mode itself).

    Args:
        inner: the inner loop; any rule, any number of inner steps.
        distribution: the policy of one task, ``(params, episodes) -> Distribution``.
        meta: the current meta-parameters.
        supports: K batches of episodes, leaves ``(M, B, ...)``.
        query: episodes of the adapted policies, leaves ``(M, B, ...)``.
        tasks: number of tasks to average over; M when None, more if M is a part of them.
    """

    def __init__(
        self,
        inner: InnerLoop,
        distribution: Callable[[Params, Episodes], Distribution],
        meta: MetaParameters,
        supports: Sequence[Episodes],
        query: Episodes,
        tasks: int | None = None,
    ):
        count = num_tasks(query)
        self._leaves = [leaf.detach().requires_grad_() for leaf in tree_leaves(meta)]
        adapted = inner.adapt(unflatten_like(meta, self._leaves), supports, count)
        self._phi = tree_leaves(adapted)
        self._adapt_tangent = _linear_map(self._phi, self._leaves)

        self._phi_leaves = [value.detach().requires_grad_() for value in self._phi]
        phi = dict(zip(adapted, self._phi_leaves, strict=True))
        policy = inner.over_tasks(distribution, 0, 0)(phi, query)
        self._outputs, self._structure = tree_flatten(policy)
        self._policy = tree_unflatten([o.detach() for o in self._outputs], self._structure)
        self._network_tangent = _linear_map(self._outputs, self._phi_leaves)
        samples = query.mask.flatten(1).sum(1).clamp(min=1.0)  # (M,)
        self._weight = query.mask / ((tasks or count) * samples[:, None, None])  # (M, B, T)

    def __call__(self, vector: Vector) -> list[Tensor]:
        """Return the product with one vector, as tensors like the meta-parameters."""
        tangent = self._network_tangent(self._adapt_tangent(vector))
        fisher = self._policy.fisher(tree_unflatten(tangent, self._structure))
        weighted = [
            leaf * self._weight.reshape(self._weight.shape + (1,) * (leaf.ndim - 3))
            for leaf in tree_leaves(fisher)
        ]
        return _backward(self._phi, self._leaves, self._pullback(weighted))

    def _pullback(self, weighted: Vector) -> list[Tensor]:
        return _backward(self._outputs, self._phi_leaves, weighted)


def _backward(outputs: Vector, inputs: Vector, cotangent: Vector) -> list[Tensor]:
    """Return ``J^T cotangent``, keeping the graph for the next product."""
    return list(
        torch.autograd.grad(
            outputs, inputs, cotangent, retain_graph=True, allow_unused=True, materialize_grads=True
        )
    )


def _linear_map(outputs: Vector, inputs: Vector) -> Callable[[Any], list[Tensor]]:
    """Return the function ``tangent -> J tangent``, with J = d outputs / d inputs."""
    dummy = [torch.zeros_like(output).requires_grad_() for output in outputs]
    transposed = torch.autograd.grad(
        outputs, inputs, dummy, create_graph=True, allow_unused=True, materialize_grads=True
    )
    # An input that the outputs do not depend on has a constant zero here, with no graph.
    live = [i for i, value in enumerate(transposed) if value.requires_grad]
    rows = [transposed[i] for i in live]
    return lambda tangent: _backward(rows, dummy, [tangent[i] for i in live])
