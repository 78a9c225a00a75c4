"""Which choices mattered: as a study says whose scores follow from one of them alone."""

from types import SimpleNamespace

import optuna
import pytest

from meta_rl.tuning.importance import LEAST, by_option, importance


@pytest.fixture
def study():
    """Random trials of two choices and a factor; the score is the form's alone."""
    inner = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(40):
        trial = inner.ask()
        form = trial.suggest_categorical("form", ["tensor", "scalar"])
        trial.suggest_categorical("network", ["wide", "narrow"])
        if form == "scalar":  # says nothing but that, and is left out
            trial.suggest_float("× inner.step_size", 0.1, 10.0, log=True)
        trial.report(1.0 if form == "tensor" else 2.0, 1)
        inner.tell(trial, state=optuna.trial.TrialState.PRUNED)
    return SimpleNamespace(study=inner, trials=inner.get_trials())


def test_the_choice_that_decides_is_the_most_important(study):
    found = importance(study)
    assert set(found) == {"form", "network"}
    assert sum(found.values()) == pytest.approx(1)
    assert found["form"] > 3 * found["network"]


def test_few_trials_say_nothing(study):
    study.trials = study.trials[: LEAST - 1]
    assert importance(study) == {}


def test_options_have_their_trials_and_scores(study):
    rows = {(row["choice"], row["option"]): row for row in by_option(study.trials)}
    assert rows["form", "tensor"]["mean"] == 1
    assert rows["form", "scalar"]["least"] == 2
    assert sum(rows["network", option]["trials"] for option in ("wide", "narrow")) == 40
