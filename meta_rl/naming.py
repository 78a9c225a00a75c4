"""Tensors of several owners in one dictionary: each name is preceded by its owner's and a dot."""

from __future__ import annotations

from meta_rl.types import Params


def under(owner: str, tensors: Params) -> Params:
    """The tensors named ``owner.NAME``."""
    return {f"{owner}.{name}": value for name, value in tensors.items()}


def part_of(owner: str, tensors: Params) -> Params:
    """The tensors of one owner, by the names that :func:`under` was given."""
    start = f"{owner}."
    return {
        name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)
    }
