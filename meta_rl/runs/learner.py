"""Meta-training: the loop over meta-batches, for reinforcement learning and few-shot alike."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from meta_rl import parallel, seeds
from meta_rl.animation import Animation
from meta_rl.config import Config, require_effect, to_dict
from meta_rl.config.outer import GradientConfig, TRPOConfig
from meta_rl.console import on_terminal
from meta_rl.errors import InputError, require_whole, shown
from meta_rl.inner.adaptable import check_runs
from meta_rl.inner.core import InnerLoop
from meta_rl.inner.search import Search
from meta_rl.inner.trial import Trial, collect, met, score
from meta_rl.making import make_outer, make_rule
from meta_rl.naming import part_of, under
from meta_rl.problems.adapted import AdaptedNetwork, AdaptedPolicy
from meta_rl.problems.modules import check_made_of, fixed, load_fixed, made_of, module_of
from meta_rl.storage import checkpoint
from meta_rl.storage.reading import as_path
from meta_rl.types import Meta, Params, Problem, Task

Metrics = dict[str, float]
SKIPS_ALLOWED = 10
COUNTERS = ("iteration", "samples", "skipped")


class MetaLearner:
    """Meta-learns an initialization and an update rule.

        for each iteration:
            tasks ~ family                                            M of them
            for k in 0 .. K-1: support[k] = collect(adapt(theta, rule, support[:k]))
            query = collect(adapt(theta, rule, support))
            (theta, rule) <- outer step on mean_m loss(adapt(theta, rule, support)[m], query[m])

    Args:
        problem: reinforcement learning on a family, or supervised few-shot learning.
        config: the run's settings.
        origin: settings that these were derived from, such as a checkpoint's: what they have is
            not refused where it has no effect.

    Raises:
        InputError: if the problem is none or has other data than the settings, a setting of the
            inner or outer loop would have no effect, or the network does not run as the settings
            walk tasks.
    """

    def __init__(self, problem: Problem, config: Config, origin: Config | None = None):
        _check_problem(problem, config)
        require_effect(config, origin, parts=("", "inner", "outer"))
        self.problem, self.config = problem, config
        rule = make_rule(config.inner, seeds.derive(config.seed, seeds.INITIAL, 1))
        differentiable = InnerLoop(
            loss=problem.inner_loss,
            outer_loss=problem.loss,
            exploration_loss=problem.exploration_loss,
            rule=rule,
            first_order=config.inner.first_order,
            tasks_at_once=config.inner.tasks_at_once,
            recorded=config.inner.recorded,
        )
        by_gradient = config.inner.method == "gradient"
        self.inner = differentiable if by_gradient else Search(rule=rule, config=config.inner)
        theta = problem.initial_parameters()
        self.meta = Meta(theta, rule.init(theta))
        self.outer = make_outer(differentiable, self.meta, problem, config)
        differentiates = isinstance(config.outer, TRPOConfig | GradientConfig)
        # TRPO differentiates the loss of its own line search, whatever the problem's loss is.
        tried = getattr(self.outer, "inner", self.inner) if differentiates else self.inner
        check_runs(problem, tried, self.meta, differentiates)
        self.iteration = 0
        self.samples = 0
        self._skipped = 0  # outer steps in a row
        # What state() gives while an iteration is under way, or after one was cut off.
        self._last_whole: tuple[dict[str, int], dict[str, Tensor]] | None = None

    def iterate(self) -> Metrics:
        """One outer step; returns its metrics when this iteration is one to log, else nothing."""
        config, start = self.config, time.perf_counter()
        self._begin()
        seed = seeds.derive(config.seed, seeds.TASKS, self.iteration)
        tasks = self.problem.sample_tasks(config.data.tasks, seed)
        logged = self.iteration == 0 or (self.iteration + 1) % config.log_every == 0
        blocks = config.blocks or parallel.ranks()
        trial = Trial(self.problem, self.inner, tasks, config.inner.steps, seed, logged, blocks)
        metrics = self.outer.iterate(trial)
        samples = int(parallel.total(trial.samples))
        self._skipped = self._skipped + 1 if "train/skipped" in metrics else 0
        self.iteration, self.samples = self.iteration + 1, self.samples + samples
        self._last_whole = None
        self._stop_if_diverged()
        if trial.scores is None:
            return {}
        total = time.perf_counter() - start
        return {
            **{key: float(value) for key, value in metrics.items()},
            **self._statistics(trial.batches[-1]),
            **self._summary(trial.scores.mean(1)),
            "time/seconds_collect": trial.seconds,
            "time/seconds_outer": total - trial.seconds,
            "time/seconds_iteration": total,
            "time/fps": samples / total,
            "time/fps_collect": samples / max(trial.seconds, 1e-9),
        }

    def learn(
        self,
        iterations: int | None = None,
        callbacks: Sequence[Callable[[MetaLearner, Metrics], Any]] = (),
    ) -> MetaLearner:
        """Run iterations and return self.

        Args:
            iterations: how many more; up to the config's number when None.
            callbacks: called after every iteration with the learner and its metrics (empty where
                this iteration is not logged); the run stops after one returns False, on all
                processes if there are more.

        Raises:
            InputError: if the number is below 0 or not whole, or a callback cannot be called, as
                stable-baselines3's own cannot.
        """
        if iterations is not None:
            require_whole("iterations", iterations, 0)
        if not isinstance(callbacks, Sequence):
            raise InputError(f"callbacks: expected a list of functions, got {shown(callbacks)}.")
        for callback in callbacks:
            if not callable(callback):
                raise InputError(
                    "callbacks: expected functions of (learner, metrics), got a "
                    f"{type(callback).__name__}. Those of meta_rl have the same names."
                )
        last = self.config.iterations if iterations is None else self.iteration + iterations
        while self.iteration < last:
            metrics = self.iterate()
            answers = [callback(self, metrics) for callback in callbacks]
            if parallel.total(any(answer is False for answer in answers)):
                break
        return self

    @property
    def deployed(self) -> Meta:
        """What evaluation and adaptation use: ``meta`` with a mixture of rules hardened to one."""
        self._undo()
        return self.meta._replace(rule=self.inner.rule.harden(self.meta.rule))

    def evaluate(
        self,
        tasks: Sequence[Task],
        steps: int,
        seed: int,
        tick: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """Adapt to tasks without learning from them: scores after 0..steps steps, ``(steps+1, M)``.

        Uses B episodes (or S shots) per step, as meta-training does, and the hardened rule.

        Args:
            tasks: M of them.
            steps: inner steps.
            seed: of everything collected.
            tick: called with the number of batches collected, and how many there will be.

        Raises:
            InputError: if there are no tasks, one is none of the family's, or a number is out of
                range.
        """
        _require_numbers(steps, seed)
        tasks, scores = self.problem.check_tasks(tasks), []
        meta, size = self.deployed, self.problem.evaluated_at_once or len(tasks)
        parts = range(0, len(tasks), size)
        ticks, total = count(1), len(parts) * (steps + 1)

        def collected() -> None:
            if tick:
                tick(next(ticks), total)

        for start in tqdm(
            parts, desc="evaluating", delay=2, leave=False, disable=not on_terminal()
        ):
            group, stream = (
                tasks[start : start + size],
                seeds.derive(seed, start) if start else seed,
            )
            batches = collect(
                self.problem, self.inner, meta, group, steps, stream, collected=collected
            )
            scores.append(score(self.problem, self.inner, meta, batches))
        return torch.cat(scores, 1).cpu()

    @torch.no_grad()
    def pictures(self, task: Task, steps: int, seed: int) -> dict[str, Figure | Animation]:
        """What adapting does to one task of the family, to look at; see ``Problem.pictures``.

        Raises:
            InputError: if the task is none of the family's, or a number is out of range.
        """
        _require_numbers(steps, seed)
        (task,) = self.problem.check_tasks([task])
        batches = collect(self.problem, self.inner, self.deployed, [task], steps, seed)
        path = self.inner.path(self.deployed, batches[:-1], 1)
        return self.problem.pictures(task, met(batches), path)

    def adapt(
        self,
        variant: Any,
        *,
        steps: int | None = None,
        episodes: int | None = None,
        seed: int = 0,
        pictures: bool = False,
    ) -> AdaptedPolicy | AdaptedNetwork:
        """A policy (or network) adapted to one variant; the learner itself stays as it is.

        Args:
            variant: a task of the family, such as ``{"goal": (0.3, -0.2)}``; or, with the same
                spaces, a ``gymnasium.Env`` (used as it is), a registered id, a function that makes
                environments, or a family of one task.
            steps: inner steps; as in meta-training when None.
            episodes: B (or shots) per step; as in meta-training when None.
            seed: of the episodes it adapts on.
            pictures: whether the model gets ``pictures`` of before and after, by name. A roll-out
                is two episodes more, of environments that can be rendered.

        Returns:
            The model, with ``predict``, ``save``, and its ``scores`` after 0..steps inner steps.

        Raises:
            InputError: if the variant's parameters or spaces do not fit, a number is out of range,
                or adapting gives parameters that are not finite.
        """
        steps = self.config.inner.steps if steps is None else steps
        _require_numbers(steps, seed)
        if episodes is not None:
            require_whole("episodes", episodes, 1)
        problem, task = self.problem.variant(variant, episodes)
        meta = self.deployed
        try:
            batches = collect(problem, self.inner, meta, [task], steps, seed)
            scores = score(problem, self.inner, meta, batches)
            with torch.no_grad():
                path = self.inner.path(meta, batches[:-1], 1)
                shown = problem.pictures(task, met(batches), path) if pictures else {}
        finally:
            problem.close()
        params = {name: value[0].detach().clone() for name, value in path[-1].items()}
        manifest = {
            "config": to_dict(self.config),
            "problem": self.problem.describe(),
            "optimizer": self.inner.rule.optimizer(self.meta.rule),
            "made_of": made_of(self.problem),
        }
        model = problem.deploy(params, tuple(scores[:, 0].tolist()), manifest)
        model.pictures = shown
        return model

    def held_out_tasks(self, n: int, final: bool = False) -> list[Task]:
        """N tasks from a stream that meta-training never draws from; final: for the last test.

        Raises:
            InputError: unless n is a whole number of 1 or more.
        """
        require_whole("n", n, 1)
        seed = seeds.derive(self.config.seed, seeds.EVALUATION, *([1] if final else []))
        return self.problem.held_out_tasks(n, seed, final)

    def step_sizes(self) -> Params:
        """The inner step sizes in force, with the weights of a mixture of rules."""
        return {
            name: value.detach()
            for name, value in self.inner.rule.step_sizes(self.meta.rule, self.meta.theta).items()
        }

    def save(self, folder: str | Path) -> Path:
        """Write a checkpoint folder from which :meth:`restore` continues bit for bit on the CPU.

        Raises:
            InputError: if the folder exists or cannot be written.
        """
        return checkpoint.save(as_path("folder", folder), *self.state())

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The manifest and the tensors that :meth:`save` writes and :meth:`restore` takes.

        They are those after the last whole iteration, whatever has cut off the one after it.
        """
        counters, tensors = self._last_whole or (self._counters(), self._tensors())
        manifest = {
            "kind": "meta",
            "config": to_dict(self.config),
            "problem": self.problem.describe(),
            **counters,
            "made_of": made_of(self.problem),
        }
        return manifest, {**tensors, **under("fixed", fixed(module_of(self.problem)))}

    def restore(self, manifest: dict[str, Any], tensors: dict[str, Tensor]) -> MetaLearner:
        """Continue from a checkpoint's manifest and tensors; returns self.

        Warns where it was written by other versions of torch, numpy and so on.

        Raises:
            InputError: if it is of another kind, family, spaces or network, or holds numbers that
                no training leaves.
        """
        fields = {"config": dict, "problem": dict, "iteration": int, "samples": int}
        checkpoint.require_fields(manifest, "meta", **fields)
        iteration, samples, skipped = (checkpoint.counter(manifest, name) for name in COUNTERS)
        self._check_problem(manifest["problem"])
        check_made_of(manifest, made_of(self.problem))
        own = {n: value for n, value in self._tensors().items() if not n.startswith("outer.")}
        kept = {n: value for n, value in tensors.items() if not n.startswith(("outer.", "fixed."))}
        checkpoint.match_tensors(own, kept)
        checkpoint.require_finite(kept)
        checkpoint.warn_of_versions(manifest)
        load_fixed(module_of(self.problem), part_of("fixed", tensors))
        self.outer.load_state_dict(part_of("outer", tensors))
        for name, value in own.items():
            value.copy_(tensors[name])
        self.iteration, self.samples, self._skipped = iteration, samples, skipped
        self._last_whole = None
        return self

    def _begin(self) -> None:
        """Keep the state as it is before an iteration, for :meth:`state`."""
        self._undo()
        copies = {name: value.clone() for name, value in self._tensors().items()}
        self._last_whole = self._counters(), copies

    def _undo(self) -> None:
        """Take back what an iteration that was cut off in its middle may have changed."""
        if self._last_whole:
            self.restore(*self.state())

    def _counters(self) -> dict[str, int]:
        values = self.iteration, self.samples, self._skipped
        return dict(zip(COUNTERS, values, strict=True))

    def _check_problem(self, trained: dict[str, Any]) -> None:
        """Refuse another family or other spaces; say where its tasks' ranges have changed."""
        ours = self.problem.describe()
        differ = [n for n in ours.keys() | trained.keys() if ours.get(n) != trained.get(n)]
        if set(differ) - {"parameters"}:
            raise InputError(
                f"checkpoint: expected {ours}, got {trained}. "
                "It was trained on another family or other spaces."
            )
        if differ and "parameters" in trained:
            warnings.warn(
                f"checkpoint: it was trained on tasks with {trained['parameters']}; those of "
                f"{self.config.family} have {ours['parameters']} now.",
                stacklevel=3,
            )

    def _tensors(self) -> dict[str, Tensor]:
        parts = {"theta": self.meta.theta, "rule": self.meta.rule, "outer": self.outer.state_dict()}
        named = [under(part, tensors) for part, tensors in parts.items()]
        return {name: value.detach() for part in named for name, value in part.items()}

    def _stop_if_diverged(self) -> None:
        if self._skipped >= SKIPS_ALLOWED:
            raise InputError(
                f"training: {SKIPS_ALLOWED} outer steps in a row had gradients, or members, that "
                f"are not finite and were skipped, up to iteration {self.iteration}. Lower the "
                "outer learning rate or the inner step size."
            )

    def _statistics(self, query: Any) -> Metrics:
        """What the problem says about the query batch, or its mean over blocks."""
        blocks = [self.problem.statistics(block) for _, block in parallel.blocks_of([], query)]
        if len(blocks) == parallel.ranks() == 1 or not blocks[0]:
            return {name: float(value) for name, value in blocks[0].items()}
        held = [[torch.tensor([float(v) for v in block.values()])] for block in blocks]
        mean = parallel.add(held)[0] / (len(blocks) * parallel.ranks())
        return dict(zip(blocks[0], mean.tolist(), strict=True))

    def _summary(self, scores: Tensor) -> Metrics:
        steps = [float(score) for score in scores]
        name, sign = self.problem.score_name, 1 if self.problem.maximizes else -1
        summary = {f"meta/{name}_step_{k}": value for k, value in enumerate(steps)}
        summary |= {f"meta/{name}_pre": steps[0], f"meta/{name}_post": steps[-1]}
        summary["meta/gain"] = sign * (steps[-1] - steps[0])
        if name == "return":
            summary["rollout/ep_rew_mean"] = steps[-1]
        return summary


def _check_problem(problem: Any, config: Config) -> None:
    """Refuse what is no problem, and settings of the data of another kind of problem."""
    if isinstance(problem, type) or not callable(getattr(problem, "initial_parameters", None)):
        raise InputError(
            f"problem: expected a Supervised or Reinforcement problem, got {shown(problem)}."
        )
    data = getattr(problem, "config", config.data)  # a problem of one's own need not have it
    if type(data) is not type(config.data):
        raise InputError(
            f"config: expected {type(data).__name__} as its data, which the problem has, got "
            f"{type(config.data).__name__}. Start from a preset of the same kind."
        )


def _require_numbers(steps: int, seed: int) -> None:
    for name, number in (("steps", steps), ("seed", seed)):
        require_whole(name, number, 0)
