"""A setting acts or is refused: whatever is changed, something changes or one line says why."""

import dataclasses
import pkgutil
import types
import typing
from dataclasses import replace
from typing import Literal

import pytest
import torch

import meta_rl
from meta_rl import MetaLearner
from meta_rl.algorithms import ALGORITHMS, nearest
from meta_rl.assemble import facts_of, make_problem
from meta_rl.config import Facts, ShotsConfig, require_effect
from meta_rl.errors import DivergedError, InputError
from meta_rl.presets import PRESETS
from meta_rl.runs.adapting import Results
from meta_rl.runs.recorder import RunRecorder
from meta_rl.storage import run_folder
from tests import extras
from tests.traces import trace

PARTS = ("", "inner", "outer", "data", "network", "eval", "speed")
ELSEWHERE = {
    "family": "another problem altogether",
    "checkpoint_every": "files alone: test_checkpoints_and_evaluations_come_as_often_as_they_say",
    "eval.every": "the same",
    "eval.test": "train.py alone: tests/test_runs.py",
    "eval.tasks": "the same",
    "eval.steps": "the same",
    "eval.test_tasks": "the same",
    "eval.pictures": "the same",
    "blocks": "the order of sums: tests/meta_rl/test_parallel.py",
    "speed.tasks_at_once": "speed: test_settings_of_speed_change_how_it_is_computed",
    "speed.program": "the same",
    "speed.members_at_once": "the same",
    "speed.workers": "the same",
    "outer.backtracks": "a limit that is rarely met: tests/meta_rl/test_trpo.py",
    "data.folder": "other files: tests/envs/test_image_files.py",
}
SHAPES = {
    "cartpole": {},
    "pendulum": {},
    "bandit-5": {},
    "sinusoid": {},
    "glyphs-5way-1shot": {"network.channels": 4},
    "preferences": {},
}
QUICK = [("bandit-5", "maml"), *(("sinusoid", n) for n in ("reptile", "es-maml", "ga-maml"))]
COMBINED = [(shape, "maml") for shape in SHAPES] + [
    (shape, name)
    for name in meta_rl.ALGORITHMS
    for shape in ("bandit-5", "sinusoid")
    if name != "maml"
]
CASES = [
    pytest.param(*case, marks=[] if case in QUICK else [pytest.mark.slow]) for case in COMBINED
]


def changed(config, name, value):
    part, _, setting = name.rpartition(".")
    if not part:
        return replace(config, **{setting: value})
    return replace(config, **{part: replace(getattr(config, part), **{setting: value})})


def value_of(config, name):
    part, _, setting = name.rpartition(".")
    return getattr(getattr(config, part) if part else config, setting)


def settings(config):
    """Every setting by its dotted name, with its type."""
    for part in PARTS:
        owner = getattr(config, part) if part else config
        hints = typing.get_type_hints(type(owner))
        for field in dataclasses.fields(owner):
            if field.name not in PARTS:
                yield f"{part}.{field.name}".lstrip("."), hints[field.name]


def others(value, hint):
    """Valid values of this type, beside the one that it has."""
    options = typing.get_args(hint) if _is_union(hint) else (hint,)
    found = []
    for option in options:
        if typing.get_origin(option) is Literal:
            found += typing.get_args(option)
        elif option is bool:
            found += [False, True]
        elif option is int:
            found += (
                [2, 3]
                if value is None
                else [value + 1, value + 2, 1]
                if type(value) is int
                else [3]
            )
        elif option is float:
            found += [value / 2, (1 + value) / 2] if value else [0.3, 0.003]
        elif typing.get_origin(option) is tuple:
            found += [(5, 6, 7, 8)]
    return [other for other in found if other != value]


def _is_union(hint):
    return typing.get_origin(hint) in (types.UnionType, typing.Union)


def tiny(shape, algorithm):
    config = meta_rl.algorithm(algorithm, meta_rl.preset(shape))
    sizes = {"tasks": 3}
    if isinstance(config.data, ShotsConfig):
        sizes |= {"shots": 2, "queries": 2}
    else:
        sizes |= {"episodes": 3}
        if config.inner.method == "gradient":
            sizes |= {"baseline": "linear"}  # what None means for small vectors
    config = replace(config, data=replace(config.data, **sizes), iterations=2, log_every=1)
    for name, value in SHAPES[shape].items():
        if value_of(config, name) != (64, 64):
            config = changed(config, name, value)
    if config.network.kind != "convolutional":
        config = changed(config, "network.hidden", (6,))
    if config.network.activation is None:  # spell out what None means
        own = "relu" if config.network.kind == "convolutional" else "tanh"
        config = changed(config, "network.activation", own)
    if algorithm == "oracle":  # its line search goes back only from longer steps
        config = changed(config, "outer.max_kl", 4.0)
    if algorithm in ("rl2", "varibad"):  # ratios reach their limits only by longer steps
        config = changed(config, "outer.learning_rate", 0.02)
    for name, value in {"outer.population": 5, "outer.parents": 2}.items():
        if hasattr(config.outer, name.split(".")[1]):
            config = changed(config, name, value)
    return changed(config, "speed.program", "plain")


def same(one, other):
    tensors, others = one[0], other[0]
    if tensors.keys() != others.keys() or one[1] != other[1]:
        return False
    return all(torch.equal(tensors[name], others[name]) for name in tensors)


def acts(before, config, name, value):
    """Whether a value changes anything that can be seen, or is refused in one line."""
    try:
        return not same(before, trace(changed(config, name, value)))
    except (InputError, DivergedError) as error:
        return "\n" not in str(error)


@pytest.mark.parametrize(("shape", "algorithm"), CASES)
def test_a_setting_that_is_changed_changes_something_or_is_refused(shape, algorithm, request):
    if shape.startswith("glyphs"):
        request.getfixturevalue("few_glyphs")
    try:
        config = tiny(shape, algorithm)
    except InputError:
        pytest.skip("the algorithm does not fit")
    before, silent = trace(config), []
    for name, hint in settings(config):
        if name not in ELSEWHERE:
            values = others(value_of(config, name), hint)
            numbers = [value for value in values if type(value) in (int, float)]
            words = [value for value in values if type(value) not in (int, float)]
            # A number may be rounded, or be no limit where another one is.
            if numbers and not any(acts(before, config, name, value) for value in numbers):
                silent.append((name, numbers))
            silent += [(name, word) for word in words if not acts(before, config, name, word)]
    assert silent == []


@pytest.mark.parametrize(
    ("shape", "algorithm", "name", "value", "needs"),
    [
        ("cartpole", "maml", "network.kind", "convolutional", "on images"),
        ("cartpole", "maml", "network.channels", 8, "with --network.kind convolutional, on images"),
        ("cartpole", "maml", "data.init_std", 0.5, "on continuous actions"),
        ("cartpole", "maml", "data.action_scale", 2.0, "on continuous actions"),
        ("cartpole", "maml", "speed.workers", 2, "families of single environments"),
        ("half-cheetah-velocity", "maml", "speed.workers", 2, "families of single environments"),
        ("cartpole", "maml", "inner.gradient_scale", 0.1, "--inner.optimizer mixture"),
        ("cartpole", "maml", "inner.decay", 0.9, "--inner.schedule exponential"),
        ("cartpole", "maml", "inner.sigma", 0.2, "--inner.method es"),
        ("cartpole", "maml", "inner.queries", 3, "--inner.method es or hill-climbing"),
        ("cartpole", "reptile", "inner.positive", "softplus", "step sizes that are learned"),
        ("cartpole", "reptile", "data.estimator", "log-likelihood", "on a meta-gradient"),
        ("cartpole", "ga-maml", "outer.tournament", 2, "--outer.selection tournament"),
        ("sinusoid", "maml", "outer.multi_step_fraction", 0.1, "several inner steps"),
        ("sinusoid", "maml", "data.ways", 3, "if labels are classes"),
        ("sinusoid", "reptile", "speed.program", "recorded", "with a meta-gradient"),
        ("mnist", "maml", "network.hidden", (8,), "with --network.kind mlp"),
        ("mnist", "maml", "network.activation", "tanh", "a convolutional network's is relu"),
        ("sinusoid", "maml", "eval.tasks", 7, "with --eval.every above 0"),
        ("sinusoid", "maml++", "eval.steps", 2, "from --inner.steps on"),
        ("sinusoid", "maml", "inner.per_step", True, "with several inner steps"),
    ],
)
def test_what_cannot_act_is_refused_with_what_it_acts_with(shape, algorithm, name, value, needs):
    if shape.startswith("half-cheetah"):
        extras.needs("mujoco")
    config = meta_rl.algorithm(algorithm, meta_rl.preset(shape))
    config = changed(config, "eval.every", 0)
    facts = Facts(classes=shape == "mnist")
    if not isinstance(config.data, ShotsConfig):
        facts = facts_of(make_problem(config, "cpu"))
    require_effect(config, nearest(config), facts)
    config = changed(config, name, value)
    with pytest.raises(InputError, match=f"^{name}: expected it to be left out.*{needs}"):
        require_effect(config, nearest(config), facts)


@pytest.mark.parametrize(
    ("algorithm", "one", "name", "value"),
    [
        ("promp", "outer.epochs", "outer.clip", 0.2),
        ("promp", "outer.epochs", "outer.kl_coefficient", 0.1),
        ("promp", "outer.epochs", "outer.kl_target", 0.1),
        ("maml", "outer.backtracks", "outer.backtrack_ratio", 0.5),
        ("maml", "outer.cg_iterations", "outer.cg_progress", 0.1),
        ("ga-maml", "outer.parents", "outer.crossover", 0.5),
        ("maml", "data.gamma", "data.gae_lambda", 0.5),
    ],
)
def test_what_needs_several_of_something_is_refused_with_one(algorithm, one, name, value):
    config = meta_rl.algorithm(algorithm, meta_rl.preset("cartpole"))
    require_effect(changed(config, name, value), nearest(config))
    config = changed(config, one, 0.0 if one == "data.gamma" else 1)
    require_effect(config, nearest(config))
    with pytest.raises(InputError, match=f"^{name}: expected it to be left out"):
        require_effect(changed(config, name, value), nearest(config))


def test_no_preset_by_any_algorithm_has_a_setting_that_is_refused():
    different = {replace(preset, family="any"): preset for preset in PRESETS.values()}
    for preset in different.values():
        for change in ALGORITHMS.values():
            try:
                config = change(preset)
            except InputError:  # one that does not fit
                continue
            require_effect(config, nearest(config))


def test_what_the_preset_chose_is_not_refused_where_a_person_changed_something_else():
    glyphs = changed(meta_rl.preset("glyphs-5way-1shot"), "network.kind", "mlp")
    assert glyphs.network.channels == 32  # not the default, and without effect now
    bred = meta_rl.algorithm("ga-maml", meta_rl.preset("cartpole"))
    for config in (glyphs, changed(bred, "outer.selection", "tournament")):
        require_effect(config, nearest(config))
        with pytest.raises(InputError, match="left out"):
            require_effect(config)


def test_a_learner_made_by_hand_refuses_them_too_and_an_old_checkpoint_loads(tmp_path):
    learner = meta_rl.build(tiny("bandit-5", "maml"))
    config = changed(learner.config, "inner.decay", 0.9)
    with pytest.raises(InputError, match=r"inner\.decay"):
        MetaLearner(learner.problem, config)
    with pytest.raises(InputError, match=r"inner\.decay"):
        meta_rl.build(config)
    MetaLearner(learner.problem, config, origin=config).save(tmp_path / "old")
    assert meta_rl.load(tmp_path / "old").config == config


def test_checkpoints_and_evaluations_come_as_often_as_they_say(tmp_path, monkeypatch):
    seen = []
    results = Results(torch.zeros(4, 2), None)
    monkeypatch.setattr(
        MetaLearner,
        "results",
        lambda _, tasks, steps, seed, tick=None: seen.append((len(tasks), steps)) or results,
    )
    monkeypatch.setattr(RunRecorder, "_log", lambda *_: None)  # curves and pictures of them
    monkeypatch.setattr(MetaLearner, "pictures", lambda *_: seen.append("pictures") or {})

    def record(number, **changes):
        seen.clear()
        config = tiny("bandit-5", "maml")
        for name, value in {"eval.every": 2, "checkpoint_every": 2, **changes}.items():
            config = changed(config, name, value)
        with RunRecorder(tmp_path / str(number), meta_rl.build(config)) as recorder:
            recorder.learner.learn(callbacks=[recorder])
            recorder.test()
        return len(run_folder.checkpoints(recorder.folder)), list(seen)

    usual = record(0)
    for number, (name, value) in enumerate(
        {
            "checkpoint_every": 1,
            "eval.every": 1,
            "eval.tasks": 3,
            "eval.steps": 5,
            "eval.test_tasks": 9,
            "eval.pictures": False,
        }.items()
    ):
        assert record(number + 1, **{name: value}) != usual, name


@pytest.mark.parametrize(
    ("algorithm", "name", "value", "watched"),
    [
        ("maml", "speed.tasks_at_once", 1, "meta_rl.inner.core.InnerLoop.gradient_part"),
        ("maml", "speed.program", "recorded", "meta_rl.inner.recording.Recorded.__call__"),
        ("es-maml", "speed.members_at_once", 2, "meta_rl.inner.meta_batch.MetaBatch.fitness"),
    ],
)
def test_settings_of_speed_change_how_it_is_computed(algorithm, name, value, watched, monkeypatch):
    owner, _, method = watched.rpartition(".")
    target, calls = pkgutil.resolve_name(owner), []
    original = getattr(target, method)
    monkeypatch.setattr(target, method, lambda *a, **k: calls.append(1) or original(*a, **k))
    config = tiny("sinusoid", algorithm)
    meta_rl.build(config).learn(1)
    before = len(calls)
    calls.clear()
    meta_rl.build(changed(config, name, value)).learn(1)
    assert len(calls) > before
