"""The protocol of outer steps, and what several of them share."""

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
    """What an outer step returns."""

    metrics: dict[str, Any]
    """Numbers by their name in TensorBoard. ``train/skipped`` says that the step changed nothing,
    because some numbers were not finite."""
    adaptation: Adaptation | None
    """The adaptation from the meta-parameters before the step. A step that needs none returns it
    where the meta-batch is ``scored``."""


class OuterStep(Protocol):
    """Changes the MetaParameters it was made with, in place, once per iteration."""

    def iterate(self, batch: MetaBatch) -> Outcome:
        """Adapt to the tasks of a meta-batch, and step."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """What it remembers between steps, as named tensors."""
        ...

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` gave."""
        ...


class StepOnData(ABC):
    """An outer step that needs nothing but the data collected with its MetaParameters.

    It has a ``meta`` and a :meth:`step`; one that remembers something between steps has its own
    :meth:`state_dict` and :meth:`load_state_dict`.
    """

    meta: MetaParameters

    def iterate(self, batch: MetaBatch) -> Outcome:
        """Adapt to the tasks from the current MetaParameters, and step on the data collected."""
        adaptation = batch.adapt(self.meta)
        return Outcome(self.step(adaptation.supports, adaptation.query), adaptation)

    @abstractmethod
    def step(self, supports: Sequence[Any], query: Any) -> dict[str, Any]:
        """Update ``meta`` in place; returns metrics.

        With several blocks, each batch is a :class:`meta_rl.machine.parallel.BlockedBatch`.

        Args:
            supports: K batches, leaves ``(M, ...)``.
            query: a batch of the same tasks, collected after adapting to them.
        """
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """Nothing is remembered between steps."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Refuse what another outer step remembered."""
        checkpoint.match_tensors({}, state)


def optimizer_of(
    kind: Callable[..., torch.optim.Optimizer],
    meta: MetaParameters,
    rate: float,
    rule_rate: float | None,
) -> torch.optim.Optimizer:
    """A torch optimizer of theta and the rule.

    Args:
        kind: a class of ``torch.optim``.
        meta: leaf tensors.
        rate: learning rate of theta.
        rule_rate: that of the rule; the same when None.
    """
    groups = [
        {"params": list(meta.theta.values())},
        {"params": list(meta.rule.values()), "lr": rule_rate or rate},
    ]
    return kind([group for group in groups if group["params"]], lr=rate)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What a torch optimizer remembers, as named tensors."""
    return {
        f"{index}.{key}": value
        for index, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
        if value is not None
    }


def take(state: dict[str, Tensor], like: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a state that have the names of these, and leave the rest in it.

    Raises:
        InputError: if one is missing, or has another shape or type.
    """
    taken = {name: state.pop(name) for name in like if name in state}
    checkpoint.match_tensors(like, taken)
    return taken


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, state: dict[str, Tensor]) -> None:
    """Restore what :func:`optimizer_tensors` gave; what it remembered before is forgotten.

    Raises:
        InputError: if a tensor is missing, or has another name, shape or type than its parameter's.
    """
    leaves: list[Tensor] = [leaf for group in optimizer.param_groups for leaf in group["params"]]
    keys = {name.partition(".")[2] for name in state}
    like = {"step": torch.tensor(0.0)}  # others are like their parameter
    expected = {
        f"{index}.{key}": like.get(key, leaf) for index, leaf in enumerate(leaves) for key in keys
    }
    checkpoint.match_tensors(expected, state)
    remembered: dict[int, dict[str, Tensor]] = {}
    for name, value in state.items():
        index, key = name.split(".", 1)
        remembered.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": remembered})


def gradient_norms(gradient: MetaParameters) -> dict[str, float]:
    """Euclidean norms of the meta-gradient, of theta's part and of the rule's part."""
    norms = {}
    for part, tensors in zip(gradient._fields, gradient, strict=True):
        if tensors:
            norms[f"train/grad_norm_{part}"] = float(
                torch.stack([t.norm() for t in tensors.values()]).norm()
            )
    return norms
