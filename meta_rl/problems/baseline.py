"""What a baseline of the advantages does, and the data that it learns from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from meta_rl.types import Params


class ValuedBlock(NamedTuple):
    """The data of one block of tasks, for a baseline to learn from."""

    seed: int
    batches: list[tuple[Tensor, Tensor, Tensor]]
    """For each batch obs ``(M, B, T, O)``, returns ``(M, B, T)`` and mask ``(M, B, T)``."""


class Baseline(Protocol):
    """A value function of observations. Members with a body are optional."""

    def values(self, obs: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
        """Return values ``(M, B, T)``, 0 where masked.

        Args:
            obs: observations ``(M, B, T, O)``.
            returns: the returns ``(M, B, T)`` that the values estimate; a baseline may fit them.
            mask: 1.0 on real steps, ``(M, B, T)``.
        """
        ...

    def fit(self, blocks: Sequence[ValuedBlock]) -> None:
        """Learn from the data of an iteration, after its advantages were computed.

        Args:
            blocks: the blocks of this process.
        """
        return

    def bytes_needed(self, tasks: int, rows: int, size: int) -> float:
        """Return a lower bound of the memory that :meth:`values` takes, beside its arguments.

        Args:
            tasks: M tasks.
            rows: B T, the steps of one task.
            size: O, the numbers of an observation.
        """
        return 0.0

    def state(self) -> Params:
        """Return the tensors that :meth:`fit` changes in place; none if it learns nothing."""
        return {}
