"""Progress bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys

from tqdm import tqdm

from meta_rl.machine.console import on_terminal
from meta_rl.runs.learner import MetaLearner
from meta_rl.runs.metrics import Metrics


class ProgressBar:
    """Shows a run's rate, time left, and scores before and after adaptation.

    Args:
        learner: the learner, at the iteration that progress starts from.
    """

    LINES = 20

    def __init__(self, learner: MetaLearner):
        total, start = learner.config.iterations, learner.iteration
        self._plain = not on_terminal()
        self._every = max(1, total // self.LINES)
        self._bar = _bar(total, start, self._plain)
        self._scores = ""

    def __call__(self, learner: MetaLearner, metrics: Metrics) -> None:
        """Show one iteration."""
        name = learner.problem.score_name
        if metrics:
            pre, post = (metrics[f"meta/{name}_{when}"] for when in ("pre", "post"))
            self._scores = f"{name} {pre:.4g} -> {post:.4g}"
            if "rollout/success_rate" in metrics:
                rate, again = (
                    metrics[key] for key in ("meta/success_rate_step_0", "rollout/success_rate")
                )
                self._scores += f", success {rate:.0%} -> {again:.0%}"
            self._bar.set_description(self._scores, refresh=False)
        self._bar.update()
        last = learner.iteration == learner.config.iterations
        if self._plain and (learner.iteration % self._every == 0 or last):
            print(self._bar, file=sys.stderr, flush=True)

    def close(self) -> None:
        """End the bar."""
        self._bar.close()


class EvaluationProgress:
    """Shows how many of an evaluation's batches are collected."""

    def __init__(self):
        self._plain = not on_terminal()
        self._bar = _bar(None, 0, self._plain, "final test", "batch")
        self._shown = 0

    def __call__(self, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` batches are collected."""
        self._bar.total = total
        self._bar.update(done - self._bar.n)
        part = done * ProgressBar.LINES // total
        if self._plain and part > self._shown:
            self._shown = part
            print(self._bar, file=sys.stderr, flush=True)

    def close(self) -> None:
        """End the bar."""
        self._bar.close()


def _bar(
    total: int | None, done: int, plain: bool, title: str | None = None, unit: str = "it"
) -> tqdm:
    return tqdm(
        total=total, initial=done, desc=title, unit=unit, dynamic_ncols=True, disable=False,
        file=_Nowhere() if plain else sys.stderr, mininterval=0.2,
    )  # fmt: skip


class _Nowhere:
    """Discards a bar's drawing if there is no terminal."""

    def write(self, text: str) -> None:
        pass

    def flush(self) -> None:
        pass
