"""Plan and run an evaluation: the same held-out tasks for every run and every baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from meta_rl import seeds
from meta_rl.assemble import resolve_device
from meta_rl.errors import InputError, require
from meta_rl.evaluation.adapting import AT_ONCE, adapted, oracle
from meta_rl.evaluation.algorithms import Algorithm, load_algorithms
from meta_rl.evaluation.curves import Curve
from meta_rl.evaluation.progress import progress
from meta_rl.evaluation.rivals import Arena, check_rivals, require_budgets, rivals
from meta_rl.evaluation.settings import SLOW, EvaluationSettings
from meta_rl.loading import keeps_step_size
from meta_rl.problem import Problem
from meta_rl.problems.foreseen import Work, require_memory
from meta_rl.problems.reinforcement import require_reinforcement
from meta_rl.types import Task, TaskFamily


@dataclass(frozen=True)
class EvaluationPlan:
    """The evaluation to compute; all settings have been checked against each other."""

    settings: EvaluationSettings
    algorithms: list[Algorithm]
    tasks: Mapping[str, Sequence[Task]]
    """The held-out tasks by split."""
    steps: int
    step_sizes: Mapping[str, float] = field(default_factory=dict)
    """The step size chosen for each algorithm that keeps its own, by the algorithm's name."""

    @property
    def problem(self) -> Problem:
        """The first run's problem."""
        return self.algorithms[0].runs[0].problem

    @property
    def environments(self) -> TaskFamily | None:
        """The family of environments; None for a supervised one."""
        return self.problem.environments

    @property
    def unit(self) -> str:
        """The unit of a budget."""
        return "environment steps" if self.environments else "labelled examples"

    @property
    def remembering(self) -> list[str]:
        """The names of the algorithms whose policies remember instead of taking inner steps."""
        first = {a.name: a.runs[0].learner.config.inner for a in self.algorithms}
        return [name for name, inner in first.items() if inner.method == "memory"]

    @property
    def sign(self) -> int:
        """1 if higher scores are better, -1 if lower scores are."""
        return 1 if self.problem.maximizes else -1


def plan(settings: EvaluationSettings) -> EvaluationPlan:
    """Load the runs and draw the tasks.

    Raises:
        InputError: if runs cannot be compared, or a split or a baseline does not fit the family.
    """
    device = resolve_device(settings.device)
    algorithms = load_algorithms(settings.runs, device, settings.episodes, settings.data)
    if settings.step_sizes and not any(keeps_step_size(a.runs[0].learner) for a in algorithms):
        raise InputError(
            "step_sizes: expected a run that keeps the step size it is given (--algorithm pretrain "
            "or oracle), got only runs that learned it or take no steps. Leave it out."
        )
    learner, problem = algorithms[0].runs[0].learner, algorithms[0].runs[0].problem
    family = problem.environments
    slow = [name for name in settings.baselines if name in SLOW]
    if slow and family is None:
        raise InputError(
            f"baselines: {', '.join(slow)} learn by reinforcement; {learner.config.family} is "
            "supervised. Leave them out."
        )
    if family is not None:
        check_rivals(family, slow, settings.training_steps, settings.rl2_episodes)
    known = problem.held_out_splits
    for split in settings.splits:
        require(split in known, "splits", f"some of {', '.join(known)}", split)
    tasks = {
        split: _tasks(problem, settings, split, number)
        for number, split in enumerate(known)
        if split in (settings.splits or known)
    }
    own = max(learner.config.eval.steps, learner.config.inner.steps)
    steps = settings.steps or own
    for run in (run for algorithm in algorithms for run in algorithm.runs):
        at_once = min(settings.tasks, AT_ONCE)
        require_memory(run.problem, run.learner.config, Work("tasks", at_once, steps))
    return EvaluationPlan(settings, algorithms, tasks, steps)


def contest(planned: EvaluationPlan) -> list[Curve]:
    """Return every curve of every split: algorithms first, then baselines."""
    curves: list[Curve] = []
    for number, split in enumerate(planned.tasks):
        curves += _quick(planned, split)
        if number == 0:
            curves += _slow(planned, split, curves[0])
    return curves


def _quick(planned: EvaluationPlan, split: str) -> list[Curve]:
    tasks, settings = planned.tasks[split], planned.settings
    random = (False, True) if "random" in settings.baselines else (False,)
    runs = sum(len(algorithm.runs) for algorithm in planned.algorithms)
    bar = progress(runs * len(random) * len(tasks), f"adapting, {split}", "task")
    given = tasks, split, planned.steps, settings.seed, bar.update
    curves = [
        adapted(algorithm, *given, random=kind)
        for kind in random
        for algorithm in planned.algorithms
    ]
    bar.close()
    if "oracle" in settings.baselines and planned.environments:
        best = oracle(planned.environments, tasks, split)
        curves += [best] if best else []
    return curves


def _slow(planned: EvaluationPlan, split: str, first: Curve) -> list[Curve]:
    settings, family = planned.settings, planned.environments
    names = [name for name in settings.baselines if name in SLOW]
    if not names or family is None:
        return []
    problem = require_reinforcement(planned.problem, "baselines", "they learn by reinforcement")
    count = settings.baseline_tasks
    arena = Arena(
        family=family,
        split=split,
        tasks=planned.tasks[split][:count],
        budget=[round(steps) for steps in first.first(count).budget],
        episodes=problem.config.episodes,
        training_steps=settings.training_steps,
        trial=settings.rl2_episodes,
        seeds=range(settings.seed, settings.seed + settings.baseline_seeds),
        normalize=problem.config.normalize_observations,
    )
    require_budgets(arena, names)
    return rivals(arena, names)


def _tasks(
    problem: Problem, settings: EvaluationSettings, split: str, number: int
) -> Sequence[Task]:
    seed = seeds.derive(settings.seed, seeds.EVALUATION, 2, number)
    return problem.sample_tasks(settings.tasks, seed, split)
