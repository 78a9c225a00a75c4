"""What ``--help`` shows of the settings, and what it leaves out."""

import re
from dataclasses import replace

import pytest
from meta_rl.envs import make_examples

import meta_rl
from meta_rl.algorithms import ALGORITHMS
from meta_rl.assemble import facts_of, make_problem
from meta_rl.cli import train, tune
from meta_rl.cli.command import Ended
from meta_rl.config import EpisodesConfig, to_dict
from meta_rl.config.renamed import RENAMED
from meta_rl.config.showing import RARE, without_effect
from meta_rl.errors import InputError
from meta_rl.presets import PRESETS, facts
from tests import extras
from tests.meta_rl.test_effects import (
    ELSEWHERE,
    QUICK,
    changed,
    others,
    same,
    settings,
    tiny,
)
from tests.meta_rl.test_effects import value_of as value
from tests.traces import trace

MOST = 42  # options at a glance
ALL = ["--help-all"]


def shown(capsys, *words, command=train):
    """The names of the options that help lists."""
    with pytest.raises(Ended):
        command.main([*words, *([] if "--help-all" in words else ["--help"])])
    return re.findall(r"^[│ ]{1,3}(--[a-z][^\s,]*)", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize(
    "words",
    [
        *([], ["navigation-2d"], ["cartpole"], ["bandit-5"], ["pendulum"], ["ant-goal"]),
        *(["sinusoid"], ["preferences"], ["movielens"], ["folder"], ["mnist"]),
        *(["glyphs-5way-1shot"], ["omniglot-20way-1shot"], ["mini-imagenet-5way-5shot"]),
        *(["pendulum", "--algorithm", name] for name in ("reptile", "cavia")),
        *(["sinusoid", "--algorithm", name] for name in ("maml++", "learned-optimizer")),
    ],
    ids=" ".join,
)
def test_help_of_a_preset_shows_few_options(words, capsys):
    options = shown(capsys, *words)
    assert len(options) == len(set(options)) <= MOST
    assert {"--iterations", "--data.tasks", "--inner.steps", "--device"} <= {*options}


@pytest.mark.parametrize("name", PRESETS)
def test_no_preset_has_more_settings_at_a_glance(name):
    config = PRESETS[name]
    # Options beside the settings; a policy of stable-baselines3 and experts start policies alone.
    of_the_command = 7 if isinstance(config.data, EpisodesConfig) else 5
    left = {name for name, _ in settings(config)} - without_effect(config, facts(config)) - RARE
    assert len(left) + of_the_command <= MOST


@pytest.mark.parametrize(("shape", "algorithm"), QUICK)
def test_every_setting_that_help_shows_changes_something(shape, algorithm):
    config = tiny(shape, algorithm)
    before, silent = trace(config), without_effect(config, facts(meta_rl.preset(shape)))
    for name, hint in settings(config):
        if name not in ELSEWHERE and name not in silent:
            tried = others(value(config, name), hint)
            assert any(works(before, config, name, other) for other in tried), name


def works(before, config, name, other):
    """Whether a value is accepted and changes something."""
    try:
        return not same(before, trace(changed(config, name, other), origin=config))
    except InputError:
        return False


def test_a_choice_before_help_shows_the_options_of_its_own(capsys):
    plain = shown(capsys, "cartpole")
    for choice, own in (
        (["--inner.schedule", "exponential"], "--inner.decay"),
        (["--inner.optimizer", "mixture"], "--inner.gradient-scale"),
        (["--inner.steps", "2"], "--inner.per-step"),
        (["--data.estimator", "log-likelihood"], "--data.exploration"),
        (["--algorithm", "es-maml", "--inner.method", "es"], "--inner.sigma"),
        (["--algorithm", "cavia"], "--network.context"),
        (["--init-experts", "a@b.zip"], "--init-imitation"),
    ):
        assert own not in plain
        assert own in shown(capsys, "cartpole", *choice), choice


def test_help_all_leaves_nothing_out(capsys):
    options = shown(capsys, "cartpole", "--help-all")
    config = meta_rl.preset("cartpole")
    names = {f"--{name.replace('_', '-')}" for name, _ in settings(config)}
    assert names <= {*options}
    assert {"--resume", "--config", "--init-imitation"} <= {*options}


def test_tune_leaves_the_same_out(capsys):
    plain, everything = (shown(capsys, "cartpole", *more, command=tune) for more in ([], ALL))
    assert {"--inner.decay", "--outer.damping", "--eval.every"} <= {*everything} - {*plain}


@pytest.mark.parametrize("name", PRESETS)
def test_what_presets_say_of_their_families_is_so(name):
    config = PRESETS[name]
    said = facts(config)
    if said.files:
        return
    if said.files is False:
        with pytest.raises(InputError, match="reads none"):
            make_examples(config.family, folder="somewhere")
    if name.startswith(("half-cheetah", "ant", "humanoid", "walker2d", "hopper")):
        extras.needs("mujoco")
    found = facts_of(make_problem(config, "cpu"))
    assert replace(found, horizon=None) == replace(said, files=None)


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_option_is_told_its_new_name(old, new):
    option = f"--{old.replace('_', '-')}"
    for given in ([option, "1"], [f"{option}=1"], [option.replace(".", ".no-")]):
        with pytest.raises(InputError, match=rf"expected its new name, --{new.split('.')[0]}"):
            train.main(["cartpole", *given])
    part, name = new.split(".")
    assert name in to_dict(meta_rl.preset("cartpole"))[part]


OWN = """
from dataclasses import dataclass, replace
from meta_rl import ALGORITHMS
from meta_rl.config import InnerConfig

@dataclass(frozen=True, kw_only=True)
class Halved(InnerConfig):
    \"""An inner loop of one's own.\"""

    factor: float = 0.5
    \"""Factor on each step.\"""

assert Halved.__annotations__["factor"] is float, "the file's own future, not ours"

ALGORITHMS["halved"] = lambda config: replace(config, inner=Halved(step_size=0.1))
"""


def test_settings_of_ones_own_file_are_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("meta_rl.algorithms.ALGORITHMS", dict(ALGORITHMS))
    file = tmp_path / "mine.py"
    file.write_text(OWN)
    words = ["navigation-2d", "--families", str(file), "--algorithm", "halved", "--help-all"]
    assert "--inner.factor" in shown(capsys, *words)
    assert not (tmp_path / "__pycache__").exists()
