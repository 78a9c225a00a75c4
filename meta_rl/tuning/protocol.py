"""Run a tuning: score trials on validation tasks, then compare the best with the default."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from optuna.trial import FrozenTrial
from tqdm import tqdm

from meta_rl import assemble, loading
from meta_rl.algorithms import algorithm
from meta_rl.config import Config, from_dict
from meta_rl.errors import DivergedError, InputError
from meta_rl.evaluation.curves import Curve
from meta_rl.evaluation.progress import progress
from meta_rl.runs.learner import MetaLearner
from meta_rl.statistics import Estimate, difference_interval
from meta_rl.tuning.candidates import Conditions, build, curve, samples_of_run, train
from meta_rl.tuning.settings import TuningSettings
from meta_rl.tuning.space import Space
from meta_rl.tuning.study import CONFIG, Claim, Study
from meta_rl.types import Task

DEFAULT = "default"


@dataclass(frozen=True)
class TuningPlan:
    """The tuning to compute; all settings have been checked against each other."""

    settings: TuningSettings
    space: Space
    folder: Path
    conditions: Conditions
    default: Config
    """The strategy to beat: the preset with the space's first algorithm."""
    problem: Any
    validation: Sequence[Task]
    """The tasks that trials are scored on."""
    test: Sequence[Task]
    """The tasks of the comparison, which had no part in the choice."""

    @property
    def sign(self) -> int:
        """1 if higher scores are better, -1 if lower scores are."""
        return 1 if self.problem.maximizes else -1


def plan(name: str, settings: TuningSettings, space: Space) -> TuningPlan:
    """Build the default strategy, draw both sets of tasks, and fix the budget.

    Raises:
        InputError: if the default cannot be built, or the device is missing.
    """
    device = assemble.resolve_device(settings.device)
    default = algorithm(space.algorithms[0], settings.config)
    learner = assemble.build(default, device)
    learner.problem.close()
    tasks = default.eval.test_tasks or default.eval.tasks
    return TuningPlan(
        settings,
        space,
        settings.out or Path("runs") / f"tune-{name}",
        Conditions(
            config=settings.config,
            budget=settings.budget or samples_of_run(default, device),
            device=device,
        ),
        default,
        learner.problem,
        learner.held_out_tasks(default.eval.tasks),
        learner.held_out_tasks(tasks, final=True),
    )


def on_budget(planned: TuningPlan, budget: int) -> TuningPlan:
    """Return the plan with a study's original budget, which could be measured differently now."""
    return replace(planned, conditions=replace(planned.conditions, budget=budget))


def search(planned: TuningPlan, study: Study) -> None:
    """Train trials until this and other processes together have trained enough."""
    while claim := study.claim():
        trials = study.settings.trials
        title = f"trial {len(study.trials)}/{trials}"
        bar = progress(planned.conditions.budget, title, "sample")
        value, reason = _measured(planned, study, claim, bar)
        bar.close()
        study.settle(claim, value, reason)
        score = planned.problem.score_name
        told = f"{score} {value:.4g}" if value is not None else reason
        tqdm.write(f"trial {claim.trial.number}: {described(planned, claim.trial.params)}: {told}")


def described(planned: TuningPlan, params: dict[str, Any]) -> str:
    """Describe a strategy in words: its algorithm, and its differences from the default."""
    usual = planned.space.default
    told = [str(params["algorithm"])]
    for name, value in params.items():
        if isinstance(value, float):
            told += [f"{value:.2g} {name}"] if value != 1 else []
        elif name != "algorithm" and value != usual[name]:
            told.append(f"{name} {value}")
    return ", ".join(told)


def _measured(
    planned: TuningPlan, study: Study, claim: Claim, bar: tqdm
) -> tuple[float | None, str]:
    """Return a trial's score after the whole budget, or None and the reason if it ended early."""
    try:
        learner = build(claim.config, planned.conditions)
        with closing(learner.problem):
            return _climbed(planned, study, claim, learner, bar)
    except DivergedError as error:
        return None, f"failed: {error}"
    except InputError as error:
        again = "It stays failed in this study; to try it again, give another --out."
        return None, f"failed: {error} {again}"


def _climbed(
    planned: TuningPlan, study: Study, claim: Claim, learner: MetaLearner, bar: tqdm
) -> tuple[float | None, str]:
    trial, score = claim.trial, float("nan")
    ends_early = claim.config != planned.default  # the default is the comparison's other arm
    for number, share in enumerate(study.rungs()):
        train(learner, planned.conditions, bar.update, share)
        score = _score(planned, learner)
        trial.set_user_attr("iterations", learner.iteration)
        trial.set_user_attr("samples", learner.samples)
        if not np.isfinite(score):
            return None, f"adapting diverged, at {share:.2g} of the budget"
        trial.report(score, study.settings.keeps_one_of**number)
        if share < 1 and trial.should_prune() and ends_early:
            shown = f"{planned.problem.score_name} {score:.4g}"
            return None, f"behind others at {share:.2g} of the budget: {shown}"
    return score, ""


def _score(planned: TuningPlan, learner: MetaLearner) -> float:
    """Return the mean score on the validation tasks after the last inner step."""
    found = curve("trial", [learner], planned.validation, planned.conditions)
    return float(found.scores[-1].mean())


@dataclass(frozen=True)
class Comparison:
    """The default and the chosen strategy on fresh seeds and tasks never seen."""

    trial: FrozenTrial
    """The chosen strategy's trial."""
    config: Config
    curves: tuple[Curve, ...]
    """The curves of default and chosen strategy; empty if they are the same strategy."""
    cut: tuple[str, ...] = ()
    """Sentences on runs whose training diverged before the budget was spent."""

    def difference(self, sign: int) -> Estimate:
        """Return the chosen strategy's gain over the default after the last inner step."""
        default, chosen = (curve.scores[-1] for curve in self.curves)
        with np.errstate(invalid="ignore"):
            better = sign * (chosen - default)
        both_lost = np.isinf(chosen) & np.isinf(default)
        return difference_interval(np.where(both_lost, 0.0, better))


def compare(planned: TuningPlan, study: Study) -> Comparison:
    """Train default and chosen strategy on fresh seeds, and score them on the test tasks.

    Trained learners are saved as checkpoints in the study's folder. A killed comparison can thus
    be resumed, and several processes can divide the work.
    """
    trial = study.best
    config = from_dict(trial.user_attrs[CONFIG])
    is_default = config == planned.default
    config = replace(config, iterations=trial.user_attrs["iterations"])
    if is_default:
        return Comparison(trial, config, ())
    arms = {DEFAULT: planned.default, f"trial-{trial.number}": config}
    first = planned.settings.config.seed + 1
    work = [
        (planned.folder / "comparison" / arm / f"seed-{seed}", replace(settings, seed=seed))
        for seed in range(first, first + planned.settings.seeds)
        for arm, settings in arms.items()
    ]
    bar = progress(len(work) * planned.conditions.budget, "comparing", "sample")
    for timeout in (0, -1):  # first take free work, then wait for what other processes hold
        for folder, settings in work:
            _trained(planned, folder, settings, timeout, bar)
    bar.close()
    curves, cut, budget = [], [], planned.conditions.budget
    for arm in arms:
        those = [folder for folder, _ in work if folder.parent.name == arm]
        data = getattr(planned.settings.config.data, "folder", None)
        learners = [loading.load(f, planned.conditions.device, data=data) for f in those]
        curves.append(curve(arm, learners, planned.test, planned.conditions))
        cut += [
            f"Training of {arm} diverged with seed {learner.config.seed} after {learner.samples:,} "
            f"of {budget:,}; it is scored as it was then."
            for learner in learners
            if learner.samples < budget
        ]
    return Comparison(trial, config, tuple(curves), tuple(cut))


def _trained(planned: TuningPlan, folder: Path, config: Config, timeout: int, bar: tqdm) -> None:
    """Train one arm on one seed, unless that is done or another process holds it.

    What diverges is kept as it was then. Other errors leave nothing, for the next try.
    """
    lock = FileLock(planned.folder / "locks" / f"{folder.parent.name}-{folder.name}")
    try:
        lock.acquire(timeout=timeout)
    except Timeout:
        return
    try:
        if not folder.exists():
            learner = build(config, planned.conditions)
            with closing(learner.problem):
                try:
                    train(learner, planned.conditions, bar.update)
                except DivergedError as error:
                    warnings.warn(f"{folder}: {error} It is scored as it was then.", stacklevel=2)
            learner.save(folder)
    finally:
        lock.release()
