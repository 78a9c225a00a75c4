"""Estimate each choice's importance from the trials."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, create_trial

from meta_rl.tuning.study import Study, scores_at_rungs

LEAST = 8  # fewest trials for an estimate


def importance(study: Study) -> dict[str, float]:
    """Return each choice's importance for being a good trial; {} with too few trials.

    The estimate is PED-ANOVA (Watanabe et al. 2023). It uses scores at the first rung, the only
    rung that all trials reach. Good trials are the best quarter. A factor that some algorithms do
    not use is left out, because it would reveal a trial's algorithm.
    """
    trials = [trial for trial in study.trials if trial.intermediate_values]
    if len(trials) < LEAST:
        return {}
    shared: dict[str, BaseDistribution] = {
        name: kind
        for name, kind in trials[0].distributions.items()
        if all(name in trial.params for trial in trials)
    }
    alike = optuna.create_study(direction=study.study.direction)
    for trial in trials:
        params = {name: trial.params[name] for name in shared}
        alike.add_trial(
            create_trial(params=params, distributions=shared, value=scores_at_rungs(trial)[0])
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.25)
        found = optuna.importance.get_param_importances(alike, evaluator=evaluator)
    return {name: float(share) for name, share in found.items()}


def by_option(trials: Sequence[FrozenTrial]) -> list[dict[str, Any]]:
    """Return every option's number of trials, with their scores at the first rung."""
    scored = [trial for trial in trials if trial.intermediate_values]
    found: dict[tuple[str, str], list[FrozenTrial]] = {}
    for trial in scored:
        for name, value in trial.params.items():
            if isinstance(value, str):
                found.setdefault((name, value), []).append(trial)
    names = list(dict.fromkeys(name for name, _ in found))
    rows = []
    for name, option in sorted(found, key=lambda pair: names.index(pair[0])):
        those = found[name, option]
        firsts = np.array([scores_at_rungs(trial)[0] for trial in those])
        rows.append({
            "choice": name, "option": option, "trials": len(those),
            "mean": float(firsts.mean()), "least": float(firsts.min()),
            "most": float(firsts.max()),
        })  # fmt: skip
    return rows
