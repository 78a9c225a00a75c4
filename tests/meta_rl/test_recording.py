"""Recorded tensor operations give the same bits as the functions they were recorded from."""

import dataclasses

import pytest
import torch
from torch.utils._pytree import tree_leaves

import presets
from meta_rl.recording import Recorded


def small(preset, recorded, **inner):
    config = presets.PRESETS[preset]
    data = dataclasses.replace(config.data, tasks=3)
    inner = dataclasses.replace(config.inner, recorded=recorded, **inner)
    network = dataclasses.replace(config.network, hidden=(8, 8))
    return presets.build(
        dataclasses.replace(config, data=data, inner=inner, network=network, log_every=1)
    )


@pytest.mark.parametrize(
    ("preset", "inner"),
    [
        ("sinusoid", {"steps": 2}),
        ("sinusoid", {"steps": 2, "first_order": True, "tasks_at_once": 2}),
        ("sinusoid", {"steps": 2, "optimizer": "adam", "tasks_at_once": 1}),
        ("bandit-5", {}),
        ("navigation-pearl", {}),
    ],
)
def test_training_with_recorded_operations_gives_the_same_bits(preset, inner):
    plain, recorded = (small(preset, flag, **inner) for flag in (False, True))
    for _ in range(2):
        one, other = plain.iterate(), recorded.iterate()
        assert one["train/outer_loss"] == other["train/outer_loss"]
    for a, b in zip(tree_leaves(plain.meta), tree_leaves(recorded.meta), strict=True):
        assert torch.equal(a, b)


def test_a_function_runs_once_for_every_shape_and_constant():
    calls = []

    def scaled(values, factor):
        calls.append(factor)
        return {"sum": (factor * values["x"]).sum(), "x": values["x"]}

    recorded, x = Recorded(scaled), torch.arange(3.0)
    for _ in range(2):
        assert recorded({"x": x + 1}, 2)["sum"] == 12
        assert recorded({"x": x + 1}, 3)["sum"] == 18
        assert recorded({"x": torch.ones(4)}, 3)["sum"] == 12
    assert calls == [2, 3, 3]


def test_derivatives_within_a_recorded_function_follow_its_arguments():
    cubes = Recorded(torch.func.grad(lambda x: (x**3).sum()))
    for x in (torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])):
        torch.testing.assert_close(cubes(x), 3 * x**2)
