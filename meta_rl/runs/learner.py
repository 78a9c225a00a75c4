"""Meta-training: the loop over meta-batches, for reinforcement learning and few-shot alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from meta_rl import seeds
from meta_rl.animation import Animation
from meta_rl.config import Config, require_effect, to_dict
from meta_rl.config.descent import GradientConfig, TRPOConfig
from meta_rl.errors import check_callbacks, require_whole
from meta_rl.from_settings import make_inner, make_outer, make_rule, settled, unprogrammed
from meta_rl.inner.adaptable import check_runs
from meta_rl.inner.adaptation import adapt_to_tasks
from meta_rl.inner.meta_batch import MetaBatch
from meta_rl.machine import parallel
from meta_rl.problem import Problem
from meta_rl.problems.adapted import AdaptedNetwork, AdaptedPolicy
from meta_rl.problems.foreseen import Work, evaluating, require_memory, require_training
from meta_rl.problems.modules import made_of, require_problem
from meta_rl.runs.adapting import Results, adapted_model, require_numbers, results_of
from meta_rl.runs.metrics import Metrics, iteration_metrics, time_metrics
from meta_rl.runs.state import TrainingState
from meta_rl.storage import checkpoint
from meta_rl.storage.reading import as_path
from meta_rl.types import MetaParameters, Params, Task


class MetaLearner:
    """Meta-learns an initialization and an update rule.

        for each iteration:
            tasks ~ family                      M tasks, by uniform or another sampling
            for k in 0 .. K-1: support[k] = collect(adapt(theta, rule, support[:k]))
            query = collect(adapt(theta, rule, support))
            (theta, rule) <- outer step on mean_m loss(adapt(theta, rule, support)[m], query[m])

    Args:
        problem: reinforcement learning on a family, or supervised few-shot learning.
        config: the run's settings.
        origin: settings that ``config`` was derived from, such as a checkpoint's. A setting taken
            from ``origin`` is accepted even if it has no effect.

    Raises:
        InputError: if ``problem`` is not a Problem or does not match the settings' data, a setting
            of the inner or outer loop would have no effect, or the network does not run with the
            settings.
    """

    def __init__(self, problem: Problem, config: Config, origin: Config | None = None):
        require_problem(problem, config)
        require_effect(config, origin, parts=("", "inner", "outer", "speed"))
        config = settled(config, problem)
        self._problem, self.config = problem, config
        rule = make_rule(config.inner, seeds.derive(config.seed, seeds.INITIAL, 1))
        differentiable, self.inner = make_inner(problem, rule, config)
        self.evaluated = unprogrammed(self.inner)
        theta = problem.initial_parameters()
        self.meta = MetaParameters(theta, rule.init(theta))
        self.outer = make_outer(differentiable, self.meta, problem, config)
        differentiates = isinstance(config.outer, TRPOConfig | GradientConfig)
        # TRPO has an inner loop of its own: it differentiates the loss of its line search.
        tried = getattr(self.outer, "inner", self.inner) if differentiates else self.inner
        check_runs(problem, tried, self.meta, differentiates)
        self._state = TrainingState(problem, config, self.meta, self.outer)

    @property
    def problem(self) -> Problem:
        """The problem to learn."""
        return self._problem

    @property
    def iteration(self) -> int:
        """The number of whole iterations done."""
        return self._state.iteration

    @property
    def samples(self) -> int:
        """Environment steps (or examples) collected so far, over all processes."""
        return self._state.samples

    def iterate(self) -> Metrics:
        """Run one iteration and return its metrics, empty if the iteration is not logged."""
        config, start = self.config, time.perf_counter()
        self._state.begin()
        sampling = self._state.sampling
        logged = self.iteration == 0 or (self.iteration + 1) % config.log_every == 0
        batch = self._meta_batch(sampling.draw(self.iteration), logged or sampling.learns)
        outcome = self.outer.iterate(batch)
        seconds = time.perf_counter() - start
        metrics: Metrics = {}
        if outcome.adaptation is not None:
            metrics = iteration_metrics(self.problem, outcome) if logged else {}
            chosen = sampling.learn(batch, outcome.adaptation) if sampling.learns else {}
            metrics = metrics and metrics | chosen
        seconds += batch.teach()
        samples = int(parallel.total(batch.samples))
        self._state.end(samples, skipped="train/skipped" in outcome.metrics)
        return metrics and metrics | time_metrics(batch, samples, seconds)

    def learn(
        self,
        iterations: int | None = None,
        callbacks: Sequence[Callable[[MetaLearner, Metrics], Any]] = (),
    ) -> MetaLearner:
        """Run iterations and return self.

        Args:
            iterations: number of further iterations; up to the config's number when None.
            callbacks: functions called after every iteration with the learner and the metrics
                (empty if the iteration is not logged). Returning False stops the run, on all
                processes.

        Raises:
            InputError: if a callback cannot be called; stable-baselines3's own cannot.
            DivergedError: if too many outer steps in a row were not finite.
        """
        if iterations is not None:
            require_whole("iterations", iterations, 0)
        check_callbacks(callbacks)
        require_training(self.problem, self.config)
        last = self.config.iterations if iterations is None else self.iteration + iterations
        while self.iteration < last:
            metrics = self.iterate()
            answers = [callback(self, metrics) for callback in callbacks]
            if parallel.total(any(answer is False for answer in answers)):
                break
        return self

    @property
    def deployed(self) -> MetaParameters:
        """The meta-parameters to deploy: ``meta`` with a mixture of rules hardened."""
        self._state.undo()
        return self.meta._replace(rule=self.inner.rule.harden(self.meta.rule))

    def evaluate(
        self,
        tasks: Sequence[Task],
        steps: int,
        seed: int,
        tick: Callable[[int, int], None] | None = None,
        episodes: int | None = None,
    ) -> Tensor:
        """Return the scores of :meth:`results`, ``(steps + 1, M)``."""
        return self.results(tasks, steps, seed, tick, episodes).scores

    def results(
        self,
        tasks: Sequence[Task],
        steps: int,
        seed: int,
        tick: Callable[[int, int], None] | None = None,
        episodes: int | None = None,
    ) -> Results:
        """Return each task's scores and success rates after 0..steps inner steps.

        Adapts with the hardened rule, and learns nothing from the tasks. Where adapting to a task
        fails, because parameters, rewards or observations are no longer finite, its scores are NaN
        from there on, and a warning says why.

        Args:
            tasks: M tasks of the family.
            steps: number of inner steps.
            seed: seed of the data.
            tick: called with the numbers of batches collected and to collect.
            episodes: B episodes (or S shots) per inner step; as in meta-training when None.

        Raises:
            InputError: if there are no tasks, a task is not one of the family, or a number is out
                of range.
        """
        require_numbers(steps, seed, episodes)
        problem = self.problem if episodes is None else self.problem.resized(episodes)
        try:
            checked = problem.check_tasks(tasks)
            work = evaluating("the number of tasks", problem, len(checked), steps)
            require_memory(problem, self.config, work)
            return results_of(problem, self.evaluated, self.deployed, checked, steps, seed, tick)
        finally:
            if problem is not self.problem:
                problem.close()

    @torch.no_grad()
    def pictures(self, task: Task, steps: int, seed: int) -> dict[str, Figure | Animation]:
        """Draw the adaptation to one task of the family; see ``Deployment.pictures``.

        Raises:
            InputError: if the task is not one of the family, or a number is out of range.
        """
        require_numbers(steps, seed)
        (task,) = self.problem.check_tasks([task])
        given = self.problem, self.evaluated, self.deployed, [task], steps, seed
        adaptation = adapt_to_tasks(*given, path=True)
        return self.problem.pictures(task, adaptation.batches, adaptation.path)

    def adapt(
        self,
        variant: Any,
        *,
        steps: int | None = None,
        episodes: int | None = None,
        seed: int = 0,
        pictures: bool = False,
    ) -> AdaptedPolicy | AdaptedNetwork:
        """Adapt to one variant and return the adapted model; the learner does not change.

        Args:
            variant: the task to adapt to: a task of the family, such as ``{"goal": (0.3, -0.2)}``;
                or, with the same spaces, a ``gymnasium.Env`` (used as it is), a registered id, a
                function that makes environments, or a family of one task.
            steps: inner steps; as in meta-training when None.
            episodes: B episodes (or S shots) per inner step; as in meta-training when None.
            seed: seed of the episodes to adapt on.
            pictures: whether to draw the model's ``pictures`` before and after adaptation. A
                rollout film takes two more episodes of an environment that can be rendered.

        Returns:
            The policy or network, with ``scores`` and ``success`` after 0..steps inner steps.

        Raises:
            InputError: if the variant's parameters or spaces do not fit, or a number is out of
                range.
            DivergedError: if the adapted parameters are not finite.
        """
        steps = self.config.inner.steps if steps is None else steps
        require_numbers(steps, seed, episodes)
        manifest = {
            "config": to_dict(self.config),
            "problem": self.problem.describe(),
            "optimizer": self.inner.rule.optimizer(self.meta.rule),
            "made_of": made_of(self.problem),
        }
        with closing(self.problem.resized(episodes)) as resized:
            problem, task = resized.variant(variant)
            with closing(problem):
                require_memory(problem, self.config, Work("steps", 1, steps), task)
                given = problem, self.evaluated, self.deployed, task, steps, seed
                return adapted_model(*given, manifest, pictures)

    def held_out_tasks(self, n: int, final: bool = False) -> list[Task]:
        """Return n held-out tasks, from a random stream that meta-training never draws from.

        Args:
            n: number of tasks.
            final: whether to return the tasks kept for the final test.

        Raises:
            InputError: unless n is a whole number of 1 or more.
        """
        require_whole("n", n, 1)
        seed = seeds.derive(self.config.seed, seeds.EVALUATION, *([1] if final else []))
        return self.problem.held_out_tasks(n, seed, final)

    def step_sizes(self) -> Params:
        """Return the current inner step sizes, and the weights of a mixture of rules."""
        return {
            name: value.detach()
            for name, value in self.inner.rule.step_sizes(self.meta.rule, self.meta.theta).items()
        }

    def save(self, folder: str | Path) -> Path:
        """Write a checkpoint folder; :meth:`restore` continues from it bit for bit on the CPU.

        Raises:
            InputError: if the folder exists or cannot be written.
        """
        return checkpoint.save(as_path("folder", folder), *self.state())

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return the manifest and the tensors that :meth:`save` writes and :meth:`restore` takes.

        They describe the last whole iteration, also after an iteration was cut off.
        """
        return self._state.saved()

    def restore(self, manifest: dict[str, Any], tensors: dict[str, Tensor]) -> MetaLearner:
        """Continue from a checkpoint's manifest and tensors, and return self.

        Warns if other versions of torch, numpy and so on wrote the checkpoint.

        Raises:
            InputError: if the checkpoint is of another kind, family, spaces or network, or holds
                numbers that no training leaves.
        """
        self._state.restore(manifest, tensors)
        return self

    def _meta_batch(self, tasks: Sequence[Task], scored: bool) -> MetaBatch:
        config = self.config
        seed = seeds.derive(config.seed, seeds.TASKS, self.iteration)
        blocks = config.blocks or parallel.ranks()
        return MetaBatch(self.problem, self.inner, tasks, config.inner.steps, seed, scored, blocks)
