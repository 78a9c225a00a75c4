"""The progress bar of evaluation and tuning."""

from __future__ import annotations

import sys

from tqdm import tqdm

from meta_rl.machine.console import on_terminal


def progress(total: int, what: str, unit: str) -> tqdm:
    """Return a progress bar on standard error; off a terminal it is drawn twice a minute."""
    interval = 0.2 if on_terminal() else 30.0
    return tqdm(
        total=total, desc=what, unit=unit, unit_scale=total > 10_000,
        mininterval=interval, maxinterval=interval, dynamic_ncols=True,
        disable=sys.stderr is None,
    )  # fmt: skip
