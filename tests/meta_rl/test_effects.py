"""A setting acts or is refused: whatever is changed, something changes, or one line says why not."""

import dataclasses
import types
import typing
from dataclasses import replace
from typing import Literal

import pytest
import torch

import presets
from meta_rl.config import ShotsConfig
from meta_rl.errors import InputError

PARTS = ("", "inner", "outer", "data", "network", "eval")
ELSEWHERE = {
    "family": "another problem altogether",
    "checkpoint_every": "files alone: test_checkpoints_and_evaluations_come_as_often_as_they_say",
    "eval.every": "the same",
    "eval.tasks": "the same",
    "eval.steps": "the same",
    "eval.test_tasks": "the same",
    "eval.pictures": "the same",
    "blocks": "the order of sums: tests/meta_rl/test_parallel.py",
    "inner.tasks_at_once": "speed: test_settings_of_speed_change_how_it_is_computed",
    "inner.recorded": "the same",
    "outer.members_at_once": "the same",
    "data.workers": "the same",
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
COMBINED = [(shape, "maml") for shape in SHAPES] + [
    (shape, name)
    for name in presets.ALGORITHMS
    for shape in ("bandit-5", "sinusoid")
    if name != "maml"
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
                [2, 3] if value is None else [value + 1, value + 2] if type(value) is int else [3]
            )
        elif option is float:
            found += [value / 2, (1 + value) / 2] if value else [0.3, 0.003]
        elif typing.get_origin(option) is tuple:
            found += [(5, 6, 7, 8)]
    return [other for other in found if other != value]


def _is_union(hint):
    return typing.get_origin(hint) in (types.UnionType, typing.Union)


def tiny(shape, algorithm):
    config = presets.algorithm(algorithm, presets.preset(shape))
    sizes = {"tasks": 3}
    if isinstance(config.data, ShotsConfig):
        sizes |= {"shots": 2, "queries": 2}
    else:
        sizes |= {"episodes": 3}
    config = replace(config, data=replace(config.data, **sizes), iterations=2, log_every=1)
    for name, value in SHAPES[shape].items():
        if value_of(config, name) != (64, 64):
            config = changed(config, name, value)
    if config.network.kind == "mlp":
        config = changed(config, "network.hidden", (6,))
    for name, value in {"outer.population": 5, "outer.parents": 2}.items():
        if hasattr(config.outer, name.split(".")[1]):
            config = changed(config, name, value)
    return changed(config, "inner.recorded", False)


def trace(config):
    """All that can be seen of a run: its tensors and metrics, and scores of adapting."""
    learner, seen = presets.build(config), []
    learner.learn(callbacks=[lambda _, metrics: seen.append(metrics)])
    task = learner.held_out_tasks(1)[0]
    model = learner.adapt(task, steps=config.inner.steps + 1)
    _, tensors = learner.state()
    learner.problem.close()
    metrics = [{n: v for n, v in m.items() if not n.startswith("time/")} for m in seen]
    return tensors | model.params, [metrics, task, model.scores]


def same(one, other):
    tensors, others = one[0], other[0]
    if tensors.keys() != others.keys() or one[1] != other[1]:
        return False
    return all(torch.equal(tensors[name], others[name]) for name in tensors)


def acts(before, config, name, value):
    """Whether a value changes anything that can be seen, or is refused in one line."""
    try:
        return not same(before, trace(changed(config, name, value)))
    except InputError as error:
        assert "\n" not in str(error) and ": " in str(error)
        return True


@pytest.mark.parametrize(("shape", "algorithm"), COMBINED)
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
