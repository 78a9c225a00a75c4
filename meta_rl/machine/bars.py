"""A bar for loops that may take long."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

from meta_rl.machine.console import on_terminal

T = TypeVar("T")


def slow(items: Iterable[T], title: str, delay: float = 2.0) -> Iterable[T]:
    """Return the items, with a bar on a terminal if going through them takes long.

    Args:
        items: the items of the loop.
        title: what the loop does.
        delay: seconds after which the bar appears; it vanishes at the end.
    """
    return tqdm(items, desc=title, delay=delay, leave=False) if on_terminal() else items
