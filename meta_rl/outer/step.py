"""The protocol of outer steps, their common base class, and helpers for their optimizers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from meta_rl.inner.adaptation import Adaptation
from meta_rl.inner.meta_batch import MetaBatch
from meta_rl.storage import checkpoint
from meta_rl.types import MetaParameters


class Outcome(NamedTuple):
    """The result of an outer step."""

    metrics: dict[str, Any]
    """Metrics by their TensorBoard tags. ``train/skipped`` means that the step changed nothing,
    because some numbers were not finite."""
    adaptation: Adaptation | None
    """The adaptation from the meta-parameters before the step. A step that needs no adaptation
    returns one if the meta-batch is ``scored``."""


class OuterStep(Protocol):
    """Changes its MetaParameters in place, once per iteration."""

    def iterate(self, batch: MetaBatch) -> Outcome:
        """Adapt to the tasks of a meta-batch, and update the meta-parameters."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state kept between steps, as named tensors."""
        ...

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore the result of :meth:`state_dict`."""
        ...


class StepOnData(ABC):
    """The base of outer steps that use only the data collected with their MetaParameters.

    A subclass has a ``meta`` and a :meth:`step`. If it keeps state between steps, it also has
    :meth:`state_dict` and :meth:`load_state_dict`.
    """

    meta: MetaParameters
    steady = False
    """Whether the tensors of :meth:`state_dict` stay the same objects, and change in place."""

    def iterate(self, batch: MetaBatch) -> Outcome:
        """Adapt to the tasks from the current MetaParameters, and step on the data collected."""
        adaptation = batch.adapt(self.meta)
        return Outcome(self.step(adaptation.supports, adaptation.query), adaptation)

    @abstractmethod
    def step(self, supports: Sequence[Any], query: Any) -> dict[str, Any]:
        """Update ``meta`` in place and return metrics.

        With several blocks, each batch is a :class:`meta_rl.machine.parallel.BlockedBatch`.

        Args:
            supports: K batches, leaves ``(M, ...)``.
            query: the query batch, leaves ``(M, ...)``.
        """
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """Return no tensors: no state is kept between steps."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Refuse the state of another outer step."""
        checkpoint.match_tensors({}, state)


def optimizer_of(
    kind: Callable[..., torch.optim.Optimizer],
    meta: MetaParameters,
    rate: float,
    rule_rate: float | None,
) -> torch.optim.Optimizer:
    """Return a torch optimizer of theta and the rule.

    Args:
        kind: a class of ``torch.optim``.
        meta: the meta-parameters, leaf tensors.
        rate: learning rate of theta.
        rule_rate: learning rate of the rule; ``rate`` when None.
    """
    groups = [
        {"params": list(meta.theta.values())},
        {"params": list(meta.rule.values()), "lr": rule_rate or rate},
    ]
    return kind([group for group in groups if group["params"]], lr=rate)


def start_moments(optimizer: torch.optim.Optimizer) -> None:
    """Give every parameter without moments its first ones, as the first step would."""
    for group in optimizer.param_groups:
        for leaf in group["params"]:
            if not optimizer.state[leaf]:
                zeros = {name: torch.zeros_like(leaf) for name in ("exp_avg", "exp_avg_sq")}
                optimizer.state[leaf] = {"step": torch.tensor(0.0), **zeros}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return a torch optimizer's state, as named tensors."""
    return {
        f"{index}.{key}": value
        for index, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
        if value is not None
    }


def take(state: dict[str, Tensor], like: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove from ``state`` the tensors named in ``like``, and return them.

    Raises:
        InputError: if a tensor is missing, or has another shape or type.
    """
    taken = {name: state.pop(name) for name in like if name in state}
    checkpoint.match_tensors(like, taken)
    return taken


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, state: dict[str, Tensor]) -> None:
    """Replace a torch optimizer's state by the result of :func:`optimizer_tensors`.

    Raises:
        InputError: if a tensor is missing, or has another name, shape or type than its parameter's.
    """
    leaves: list[Tensor] = [leaf for group in optimizer.param_groups for leaf in group["params"]]
    keys = {name.partition(".")[2] for name in state}
    like = {"step": torch.tensor(0.0)}  # other tensors are like their parameter
    expected = {
        f"{index}.{key}": like.get(key, leaf) for index, leaf in enumerate(leaves) for key in keys
    }
    checkpoint.match_tensors(expected, state)
    remembered: dict[int, dict[str, Tensor]] = {}
    for name, value in state.items():
        index, key = name.split(".", 1)
        remembered.setdefault(int(index), {})[key] = value.clone()  # it changes in place
    optimizer.load_state_dict({**optimizer.state_dict(), "state": remembered})


def gradient_norms(gradient: MetaParameters) -> dict[str, float]:
    """Return the Euclidean norms of the meta-gradient, its theta part and its rule part."""
    norms = {}
    for part, tensors in zip(gradient._fields, gradient, strict=True):
        if tensors:
            norms[f"train/grad_norm_{part}"] = float(
                torch.stack([t.norm() for t in tensors.values()]).norm()
            )
    return norms
