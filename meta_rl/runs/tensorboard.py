"""TensorBoard: scalars, step-size histograms, adaptation-curve figures and the opening layout."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from tensorboard.compat.proto.summary_pb2 import (
    Summary,  # pyright: ignore[reportAttributeAccessIssue] - generated
)
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from meta_rl.animation import Animation
from meta_rl.config import InnerConfig
from meta_rl.plots.pictures import adaptation_figure
from meta_rl.plots.rule_pictures import means, rule_figure
from meta_rl.storage import files
from meta_rl.types import Params

EVENTS = "events.out.tfevents.*"


@contextmanager
def events(folder: Path, score_name: str) -> Iterator[RunWriter]:
    """Write events into a folder; after an error, remove those written so far.

    Raises:
        InputError: if the events cannot be written.
    """
    before = {*folder.glob(EVENTS)}
    writer = None
    try:
        writer = RunWriter(folder, score_name)
        yield writer
        writer.close()
    except BaseException as error:
        with suppress(OSError):  # reported below; closing ends the thread that writes
            if writer:
                writer.close()
        for file in {*folder.glob(EVENTS)} - before:
            file.unlink()
        if isinstance(error, OSError):
            raise files.unwritable(folder / EVENTS, error) from error
        raise


class _Silent:
    """Replaces a writer that cannot be made: every method does nothing."""

    def __getattr__(self, name: str) -> Callable[..., _Silent]:
        return lambda *args, **kwargs: self


class RunWriter:
    """Writes one run's events; ``rollout/``, ``train/`` and ``time/`` as in stable-baselines3.

    Args:
        folder: the run's folder.
        score_name: name of the scores: ``return``, ``loss`` or ``accuracy``.
        resumed_at: iteration from which old events are hidden, as the run writes them again.
    """

    def __init__(self, folder: Path, score_name: str, resumed_at: int | None = None):
        self._writer: Any = _Silent()
        try:
            self._writer = SummaryWriter(str(folder), purge_step=resumed_at)
        except UnicodeError:
            warnings.warn(
                f"tensorboard: expected a folder with a name in UTF-8, got {folder}. No curves "
                "are written; everything else is. Rename the folder to get curves.",
                stacklevel=3,
            )
        self._score_name = score_name
        self._history: list[tuple[int, dict[str, np.ndarray]]] = []  # of the rule
        self._tags: set[str] = set()

    def layout(self) -> None:
        """Make the Custom Scalars page show the most important curves first.

        Call it after scalars were written: charts without a scalar are left out.
        """
        written = {*self._tags, f"eval/{self._score_name}_step_0"}  # may come much later
        if "rollout/success_rate" in written:
            written.add("eval/success_rate_step_0")
        pages = {
            page: {
                title: ["Multiline", patterns]
                for title, patterns in charts.items()
                if any(re.fullmatch(pattern, tag) for pattern in patterns for tag in written)
            }
            for page, charts in self._charts().items()
        }
        self._writer.add_custom_scalars(pages)

    def scalars(self, metrics: dict[str, float], iteration: int) -> None:
        """Write every metric under its own name."""
        for name, value in metrics.items():
            self._scalar(name, value, iteration)

    def step_sizes(self, step_sizes: Params, config: InnerConfig, iteration: int) -> None:
        """Write the mean of each of the rule's tensors, and one histogram of all step sizes."""
        if not step_sizes:
            return
        self._history.append((iteration, means(step_sizes, config)))
        for name, value in step_sizes.items():
            flat = value.flatten().cpu()
            self._scalar(f"rule/{name}", flat.mean().item(), iteration)
            if value.ndim == 1 and flat.numel() <= 10:
                for k, one in enumerate(flat):
                    self._scalar(f"rule/{name}_{k}", one.item(), iteration)
        sizes = [value for name, value in step_sizes.items() if "step_size" in name]
        everything = np.concatenate([value.flatten().cpu().numpy() for value in sizes])
        finite = everything[np.isfinite(everything)]
        if finite.size:
            self._writer.add_histogram("rule/step_sizes", finite, iteration)

    def adaptation_curve(
        self, scores: Tensor, tag: str, iteration: int, success: Tensor | None = None
    ) -> None:
        """Write results after 0..K inner steps: mean scalars, and a figure of the scores.

        Args:
            scores: every task's scores, ``(K + 1, M)``.
            tag: the start of the scalars' and the figure's names.
            iteration: the iteration of the scores.
            success: every task's success rates, ``(K + 1, M)``; None if they are not known.
        """
        known = {} if success is None else {"success_rate": success}
        for name, values in {self._score_name: scores, **known}.items():
            for k, value in enumerate(values.mean(1)):
                self._scalar(f"{tag}/{name}_step_{k}", value.item(), iteration)
        figure = adaptation_figure(scores, self._score_name)
        self._writer.add_figure(f"{tag}/adaptation", figure, iteration)
        self._writer.flush()

    def rule(self, config: InnerConfig, learned: Params, iteration: int) -> None:
        """Write a figure of all :meth:`step_sizes` so far, and of the rule's other tensors."""
        if self._history and any("step_size" in name for name in self._history[-1][1]):
            figure = rule_figure(self._history, config, learned)
            self._writer.add_figure("rule/picture", figure, iteration)

    def picture(self, tag: str, picture: Figure | Animation, iteration: int) -> None:
        """Write a figure, or an animation that plays, under the Images tab.

        An animation is written as a GIF image: with moviepy 2, ``SummaryWriter.add_video`` silently
        writes nothing, and the Images tab shows every format that the browser shows.
        """
        if isinstance(picture, Figure):
            self._writer.add_figure(tag, picture, iteration)
            return
        _, height, width, _ = picture.frames.shape
        image = Summary.Image(height=height, width=width, colorspace=3)
        image.encoded_image_string = picture.gif()
        summary = Summary(value=[Summary.Value(tag=tag, image=image)])
        self._writer._get_file_writer().add_summary(summary, iteration)

    def close(self) -> None:
        """Flush and close the file."""
        self._writer.close()

    def _scalar(self, tag: str, value: float, iteration: int) -> None:
        self._tags.add(tag)
        self._writer.add_scalar(tag, value, iteration)

    def _charts(self) -> dict[str, dict[str, list[str]]]:
        name = self._score_name
        return {
            "The curves that matter": {
                f"{name} before and after adaptation": [f"meta/{name}_step_\\d+"],
                "gain from adapting": ["meta/gain"],
                f"held-out tasks: {name} after k steps": [f"eval/{name}_step_\\d+"],
                "success before and after adaptation": ["meta/success_rate_step_\\d+"],
                "held-out tasks: success after k steps": ["eval/success_rate_step_\\d+"],
                "step sizes": ["rule/.*step_size.*"],
                "weights of a mixture of rules": ["rule/choice.*"],
            },
            "Outer step": {
                "outer loss": ["train/outer_loss"],
                "fall of the outer loss": ["train/improvement"],
                "KL of the step": ["train/kl"],
                "learning rate": ["train/learning_rate"],
                "line search": ["train/step_scale", "train/accepted"],
                "gradient norms": ["train/grad_norm.*"],
                "fitness of the population": ["train/fitness_.*"],
                "diversity of the population": ["train/population_diversity"],
                "sampled tasks: their effective number": ["sampling/effective_tasks"],
                "sampled tasks: mean and tail of scores": ["sampling/(mean|tail)_score"],
                "sampled tasks: fraction replayed": ["sampling/replayed"],
            },
            "Speed": {
                "seconds by phase": ["time/seconds_.*"],
                "samples a second": ["time/fps.*"],
            },
        }
