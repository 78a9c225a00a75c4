"""The declared set of strategies: what fits, what is refused, and what choices make of a preset."""

from dataclasses import replace

import pytest

import meta_rl
from meta_rl.errors import InputError
from meta_rl.tuning.space import SPACES, Given, Space, changed, fitting, one_of, strategy, usual

CARTPOLE, SINUSOID = meta_rl.preset("cartpole"), meta_rl.preset("sinusoid")
MULTIPLIED = ("inner.step_size", "outer.learning_rate", "outer.max_kl", "data.tasks")
ONES = {f"× {name}": 1.0 for space in SPACES.values() for name in space.factors}


@pytest.mark.parametrize(
    ("name", "space", "unfit"),
    [
        ("bandit-5", "episodes", {"maml++", "oracle"}),
        ("sinusoid", "examples", {"promp", "e-maml", "rl2", "varibad", "oracle"}),
        (
            "glyphs-5way-1shot",
            "images",
            {"promp", "e-maml", "rl2", "varibad", "pretrain", "oracle"},
        ),
    ],
)
def test_a_preset_has_a_space_with_the_algorithms_that_fit_it(name, space, unfit):
    config = meta_rl.preset(name)
    assert usual(config) == space
    fits = fitting(SPACES[space], config)
    assert set(fits.algorithms) == set(meta_rl.ALGORITHMS) - unfit
    assert fits.algorithms[0] == "maml"
    assert strategy(fits, config, Given(fits.default | ONES)) == config


def test_a_policy_that_sees_the_task_is_tried_only_if_it_is_named():
    named = replace(SPACES["episodes"], algorithms=("maml", "oracle"))
    assert fitting(named, CARTPOLE).algorithms == ("maml", "oracle")
    seeing = changed(CARTPOLE, {"data.sees_task": True})
    assert "oracle" in fitting(SPACES["episodes"], seeing).algorithms


def test_greedy_search_has_everything_declared_once_alone():
    space = Space(
        algorithms=("maml", "fomaml"),
        choices={"form": one_of("inner.form", "tensor", "parameter")},
        factors={"inner.step_size": (0.5, 2.0), "data.tasks": (0.5, 1.0)},
    )
    default = {"algorithm": "maml", "form": "preset"}
    assert list(space.alone()) == [
        default,
        default | {"algorithm": "fomaml"},
        default | {"form": "tensor"},
        default | {"form": "parameter"},
        default | {"× inner.step_size": 0.5},
        default | {"× inner.step_size": 2.0},
        default | {"× data.tasks": 0.5},
    ]


def test_factors_multiply_what_algorithm_and_options_have_set():
    space = Space(
        algorithms=("promp",),
        choices={"rule": {"preset": {}, "adam": {"inner.step_size": 0.01}}},
        factors=dict.fromkeys(MULTIPLIED, (0.1, 3.0)),
    )
    params = {"algorithm": "promp", "rule": "adam", "× inner.step_size": 2.0,
              "× outer.learning_rate": 0.5, "× data.tasks": 0.13}  # fmt: skip
    config = strategy(space, CARTPOLE, Given(params))  # ProMP has no max_kl: never asked for
    assert config.inner.step_size == pytest.approx(0.02)
    assert config.outer.learning_rate == pytest.approx(0.005)
    assert (config.data.tasks, type(config.data.tasks)) == (3, int)


def test_settings_that_need_each_other_change_at_once():
    config = changed(SINUSOID, {"inner.adapts": "context", "network.context": 3, "seed": 4})
    assert (config.inner.adapts, config.network.context, config.seed) == ("context", 3, 4)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (Space(algorithms=("maml++",)), "algorithm: maml"),
        (Space(algorithms=("mamal",)), "Did you mean 'maml'"),
        (Space(choices={"form": one_of("inner.from", "tensor")}), "Did you mean 'form'"),
        (Space(choices={"form": one_of("inner.form", "tonsor")}), "fits no algorithm; of the firs"),
        (Space(factors={"inner.stepsize": (0.5, 2.0)}), r"factors\['inner.stepsize'\]: expected"),
        (Space(factors={"network.hidden": (0.5, 2.0)}), "a setting whose value is a number, got"),
        (Space(factors={"inner.learn_step_size": (0.5, 2.0)}), "value is a number, got True"),
    ],
)
def test_what_can_never_fit_is_refused(space, message):
    with pytest.raises(InputError, match=message):
        fitting(space, CARTPOLE)


def test_the_first_option_is_the_preset_and_factors_hold_it():
    with pytest.raises(InputError, match="a first option that changes nothing"):
        Space(choices={"form": {"tensor": {"inner.form": "tensor"}}})
    for name in ("algorithm", "seed"):
        with pytest.raises(InputError, match=rf"no choice or factor of .*, got \['{name}'\]"):
            Space(choices={name: one_of("seed", 1, 2) if name == "seed" else {"preset": {}}})
    with pytest.raises(InputError, match=r"got \['iterations'\]"):
        Space(factors={"iterations": (0.5, 2.0)})
    with pytest.raises(InputError, match="low <= 1 <= high"):
        Space(factors={"inner.step_size": (2.0, 3.0)})
    assert replace(SPACES["images"], factors={}).choices == SPACES["images"].choices
