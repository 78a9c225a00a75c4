"""The study's file: what costs a trial, what survives a death, and what several processes share."""

import os
import threading
from types import SimpleNamespace

import pytest

import meta_rl
from meta_rl.errors import DivergedError, InputError
from meta_rl.tuning import protocol
from meta_rl.tuning import study as study_module
from meta_rl.tuning.settings import TuningSettings
from meta_rl.tuning.space import Space, fitting, one_of
from meta_rl.tuning.study import Study

BANDIT = meta_rl.preset("bandit-5")
STEPS = Space(algorithms=("maml", "fomaml"), factors={"inner.step_size": (0.1, 10.0)})
FORMS = one_of("inner.form", "scalar", "tensor", "parameter")


@pytest.fixture
def opened(tmp_path):
    """Makes a search in a folder; all are closed in the end."""
    made = []

    def make(folder="study", space=None, maximizes=True, **settings):
        settings = TuningSettings(config=BANDIT, **{"trials": 4, "halving": 1, **settings})
        space = fitting(space or STEPS, BANDIT)
        identity = settings.identity(space, 100)
        made.append(Study(tmp_path / folder, settings, space, identity, maximizes))
        return made[-1]

    yield make
    for search in made:
        search.close()


def numbers(search):
    return [trial.number for trial in search.trials]


@pytest.mark.parametrize("kind", ["tpe", "random", "evolution"])
def test_the_default_comes_first_and_proposals_depend_on_the_history_alone(opened, kind):
    """One search, and one that is opened anew in its middle, as after a kill."""
    whole, params = opened(search=kind), []
    while claim := whole.claim():
        params.append(claim.trial.params)
        whole.settle(claim, float(len(params)))
    assert params[0] == {"algorithm": "maml", "× inner.step_size": 1.0}
    assert len(params) == 4
    for halves in ((0, 1), (2, 3)):
        again = opened("other", search=kind)
        for position in halves:
            claim = again.claim()
            assert claim.trial.params == params[position]
            again.settle(claim, float(position + 1))
    assert again.claim() is None


@pytest.mark.parametrize("kind", ["tpe", "random"])
def test_a_lost_trial_changes_no_later_proposal(opened, kind):
    """Trial 2 of the second study is lost and repeated; what follows is as in the first."""
    proposed = []
    for folder in ("whole", "killed"):
        search, params = opened(folder, search=kind, trials=7), []
        while claim := search.claim():
            if (folder, claim.trial.number) == ("killed", 2):
                claim.held.release()
                continue
            params.append(claim.trial.params)
            search.settle(claim, float(len(params) % 3))
        proposed.append(params)
    assert len(proposed[0]) == 7
    assert proposed[0] == proposed[1]


@pytest.mark.parametrize("kind", ["random", "greedy"])
def test_a_process_that_ends_inside_a_proposal_loses_nothing_declared(opened, kind, monkeypatch):
    """Killed with the algorithm drawn, or taken from what was declared, and nothing else yet."""

    def die(space, config, trial):
        trial.suggest_categorical("algorithm", space.algorithms)
        raise KeyboardInterrupt

    proposed = []
    for folder in ("whole", "killed"):
        search, params = opened(folder, search=kind), []
        while True:
            if folder == "killed" and len(params) == 1:
                with monkeypatch.context() as patch:
                    patch.setattr(study_module, "strategy", die)
                    with pytest.raises(KeyboardInterrupt):
                        search.claim()
            if (claim := search.claim()) is None:
                break
            params.append(claim.trial.params)
            search.settle(claim, 0.0)
        proposed.append(params)
    if kind == "greedy":  # whose lost one is at the end of the line then
        proposed[1].insert(1, proposed[1].pop())
    assert proposed[0] == proposed[1]
    assert len(proposed[0]) == 4


def test_a_study_keeps_the_budget_it_measured_first(opened, monkeypatch):
    assert opened().budget == 100
    measured = TuningSettings.identity
    monkeypatch.setattr(TuningSettings, "identity", lambda *of: measured(*of) | {"budget": 120})
    assert opened().budget == 100
    with pytest.raises(InputError, match="another budget"):
        opened(budget=120)


@pytest.mark.parametrize("trials", [4, 9])
def test_greedy_measures_every_declared_option_once(opened, trials):
    space = Space(algorithms=("maml", "fomaml"), choices={"form": FORMS})
    search, seen = opened(space=space, search="greedy", trials=trials), []
    while claim := search.claim():
        seen.append((claim.trial.params["algorithm"], claim.trial.params["form"]))
        search.settle(claim, 0.0)
    # "scalar" is the preset's own form: known already, so that it is none of the 4 trials.
    assert seen == [("maml", "preset"), ("fomaml", "preset"), ("maml", "tensor"),
                    ("maml", "parameter")]  # fmt: skip
    assert [trial.params["form"] for trial in search.skipped] == ["scalar"]


def test_refused_and_known_combinations_cost_no_trial(opened, monkeypatch):
    """Reptile learns no step sizes, so that it has one form."""
    monkeypatch.setattr(study_module, "PATIENCE", 12)
    forms = one_of("inner.form", "tensor")
    space = Space(algorithms=("reptile", "maml"), choices={"form": forms})
    search, seen = opened(space=space, search="random", trials=20), []

    def go_on():
        while claim := search.claim():
            seen.append((claim.config.inner.form, type(claim.config.outer).__name__))
            search.settle(claim, 0.0)

    with pytest.warns(UserWarning, match="refused or known already; the search ends after 3"):
        go_on()
    assert len(seen) == len(set(seen)) == len(search.trials) == 3
    why = [trial.user_attrs["skipped"] for trial in search.skipped]
    assert any("refused: inner.learn_step_size" in reason for reason in why)
    assert any("has the settings of trial 0" in reason for reason in why)


@pytest.mark.parametrize("kind", ["random", "greedy"])
def test_a_lost_trial_is_tried_again_and_given_up_after_ten_times(opened, kind, capsys):
    search = opened(search=kind)
    default = search.claim()
    for losses in range(1, 10):
        default.held.release()  # what the system does when a process ends
        again = search.claim() if kind == "random" else claim_like(search, default)
        assert again.config == default.config
        assert (
            f"time {losses} of 10 for these settings. It is tried again" in capsys.readouterr().err
        )
        default = again
    default.held.release()
    after = search.claim()
    assert "time 10 of 10 for these settings. It is given up" in capsys.readouterr().err
    assert after is None or after.config != default.config
    assert len(search.lost) == 10


def claim_like(search, lost):
    """Greedy search puts what was lost at the end of its line."""
    while (claim := search.claim()).config != lost.config:
        search.settle(claim, 0.0)
    return claim


def test_two_processes_hold_different_trials_and_wait_for_the_last(opened):
    one, other = opened(trials=2), opened(trials=2)
    first, second = one.claim(), other.claim()
    assert first.config != second.config
    found = []
    waiting = threading.Thread(target=lambda: found.append(other.claim()))
    other.settle(second, 1.0)
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive(), "the first process may still die and leave its trial"
    one.settle(first, 2.0)
    waiting.join(20)
    assert found == [None]
    assert one.best.number == first.trial.number


@pytest.mark.parametrize(("maximizes", "best"), [(True, 3.0), (False, 1.0)])
def test_the_best_is_the_highest_or_the_lowest_of_whole_trials(opened, maximizes, best):
    search = opened(maximizes=maximizes)
    for value in (2.0, 1.0, 3.0):
        search.settle(search.claim(), value)
    claim = search.claim()
    claim.trial.report(100.0 if maximizes else -100.0, 1)
    search.settle(claim, None, "behind others")
    assert search.best.value == best
    assert search.claim() is None


@pytest.mark.parametrize("maximizes", [True, False])
def test_successive_halving_ends_trials_that_fall_behind(opened, maximizes):
    sign, ended = 1 if maximizes else -1, []
    search = opened(trials=6, halving=3, maximizes=maximizes)
    for quality in (3.0, 1.0, 2.0, 0.0, 4.0, 5.0):
        claim = search.claim()
        claim.trial.report(sign * quality, 1)
        ended.append(claim.trial.should_prune())
        search.settle(claim, None if ended[-1] else sign * quality)
    assert ended == [False, True, True, True, False, False]
    assert search.rungs() == pytest.approx([1 / 9, 1 / 3, 1])
    assert opened("whole", halving=1).rungs() == [1.0]


def test_another_study_is_not_continued(opened):
    opened()
    opened(trials=8)  # more trials are the same study
    with pytest.raises(InputError, match="another halving, search; only --trials"):
        opened(search="random", halving=2)
    with pytest.raises(InputError, match="another space"):
        opened(space=Space(algorithms=("maml",)))


def test_a_study_without_a_whole_trial_says_why(opened):
    search = opened(trials=1)
    search.settle(search.claim(), None, "failed: training: gradients are not finite")
    with pytest.raises(InputError, match=r"not even the default's.*gradients are not finite"):
        _ = search.best


def test_a_file_that_is_no_study_is_refused(opened, tmp_path):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "study.db").write_text("not a database, " * 100)
    with pytest.raises(InputError, match=r"expected a study in .*study\.db, got"):
        opened()


def test_a_named_pipe_in_place_of_a_study_is_refused_at_once(opened, tmp_path):
    (tmp_path / "study").mkdir()
    os.mkfifo(tmp_path / "study" / "study.db")
    with pytest.raises(InputError, match="got no regular file"):
        opened()


def test_a_folder_may_have_characters_that_a_url_reads_otherwise(opened, tmp_path):
    opened(name := "50%25 of what? #1 {a} $b", trials=1)
    assert (tmp_path / name / "study.db").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("error", [DivergedError, InputError])
def test_a_candidate_whose_training_diverges_fails_and_the_search_goes_on(monkeypatch, error):
    def build(config, conditions):
        raise error("training: gradients are not finite.")

    monkeypatch.setattr(protocol, "build", build)
    planned, claim = SimpleNamespace(conditions=None), SimpleNamespace(config=None)
    score, why = protocol._measured(planned, None, claim, None)
    again = " It stays failed in this study; to try it again, give another --out."
    told = "failed: training: gradients are not finite." + again * (error is InputError)
    assert (score, why) == (None, told)
