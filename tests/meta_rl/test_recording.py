"""Recorded tensor operations give the same bits as the functions they were recorded from."""

import dataclasses

import pytest
import torch
from meta_rl.agents import mlp
from torch.func import functional_call, grad, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_leaves

import meta_rl
from meta_rl.config import SpeedConfig
from meta_rl.errors import InputError
from meta_rl.inner import graphs, recording
from meta_rl.inner.recording import Recorded


def small(preset, program, tasks_at_once=None, **inner):
    config = meta_rl.PRESETS[preset]
    data = dataclasses.replace(config.data, tasks=3)
    inner = dataclasses.replace(config.inner, **inner)
    speed = SpeedConfig(program=program, tasks_at_once=tasks_at_once)
    network = dataclasses.replace(config.network, hidden=(8, 8))
    return meta_rl.build(
        dataclasses.replace(
            config, data=data, inner=inner, network=network, speed=speed, log_every=1
        )
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
    plain, recorded = (small(preset, program, **inner) for program in ("plain", "recorded"))
    for _ in range(2):
        one, other = plain.iterate(), recorded.iterate()
        assert one["train/outer_loss"] == other["train/outer_loss"]
    for a, b in zip(tree_leaves(plain.meta), tree_leaves(recorded.meta), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("activation", ["elu", "gelu", "silu", "leaky-relu"])
def test_second_derivatives_of_every_activation_are_recorded(activation):
    network = mlp(2, (4,), 1, activation, torch.Generator().manual_seed(0))
    inputs = torch.linspace(-3, 3, 12).view(2, 3, 2)

    def loss(params, inputs):
        return functional_call(network, params, (inputs,)).square().mean()

    def adapted(params, inputs):
        slope = grad(loss)(params, inputs)
        return loss({name: value - 0.1 * slope[name] for name, value in params.items()}, inputs)

    meta_gradient = vmap(grad(adapted), (None, 0))
    theta = {name: value.detach() for name, value in network.named_parameters()}
    wanted, got = meta_gradient(theta, inputs), Recorded(meta_gradient)(theta, inputs)
    assert all(torch.equal(wanted[name], got[name]) for name in wanted)
    with torch.no_grad():
        double = {name: value.double() for name, value in theta.items()}
        x, step = inputs[0].double(), 1e-5 * torch.eye(8, dtype=torch.float64).view(8, 4, 2)
        near = [{**double, "0.weight": double["0.weight"] + s} for s in (*step, *-step)]
    values = torch.stack([adapted(params, x) for params in near])
    slopes = (values[:8] - values[8:]) / 2e-5
    torch.testing.assert_close(slopes, grad(adapted)(double, x)["0.weight"].flatten())


def test_a_function_is_recorded_once_for_every_shape_and_constant():
    calls = []

    def scaled(values, factor):
        calls.append(factor)
        return {"sum": (factor * values["x"]).sum(), "x": values["x"]}

    recorded, x = Recorded(scaled), torch.arange(3.0)
    for _ in range(2):
        assert recorded({"x": x + 1}, 2)["sum"] == 12
        assert recorded({"x": x + 1}, 3)["sum"] == 18
        assert recorded({"x": torch.ones(4)}, 3)["sum"] == 12
    assert calls == [2, 2, 3, 3, 3, 3]  # and once again each, beside its program


def operations(function, *given):
    """Of the recorded program, by name."""
    module = graphs.slimmed(make_fx(function)(*given))
    torch.testing.assert_close(module(*given), function(*given), rtol=0, atol=0)
    calls = [node for node in module.graph.nodes if node.op.startswith("call")]
    return [getattr(node.target, "__name__", str(node.target)) for node in calls]


def test_what_changes_nothing_or_was_taken_before_is_not_recorded():
    x = torch.rand(3, 4)
    assert operations(lambda x: (x * 1).view(3, 4).t().t().expand(3, 4).exp(), x) == ["exp"]
    assert operations(lambda x: x.exp() + x.exp(), x) == ["exp", "add"]
    linear = torch.vmap(torch.nn.functional.linear)
    weights = torch.rand(2, 5, 4), torch.rand(2, 5)
    # One view is that of the bias, (2, 1, 5).
    assert operations(linear, torch.rand(2, 3, 4), *weights) == ["transpose", "bmm", "view", "add"]


def test_other_views_and_turns_stay():
    x = torch.rand(2, 3, 4)
    assert operations(lambda x: x.transpose(0, 1).transpose(1, 2) + 0, x)[:2] == 2 * ["transpose"]
    assert operations(lambda x: x.expand(5, 2, 3, 4).exp(), x) == ["expand", "exp"]
    assert operations(lambda x: (x.t() * 2, x.t() + 2), x[0]) == ["t", "mul", "add"]
    assert operations(lambda x: (x * 1.0).exp(), torch.arange(3)) == ["mul", "exp"]


def test_what_is_returned_is_a_tensor_of_its_own():
    x = torch.rand(3)
    once, twice, again = Recorded(lambda x: (x * 1, x.exp(), x.exp()))(x)
    once += 1
    twice += 1
    assert torch.equal(once, x + 1)
    assert torch.equal(twice, again + 1)
    assert not torch.equal(once, x)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: ((x * 1)[0], x),
        lambda x: ((x * 1).view(4, 3), x),
        lambda x: ((x * 1).t().detach(), x),
        lambda x: (x.exp().t(), x.exp().t()),
        lambda x: (x.exp(), x.exp()[0]),
        lambda x: (x.max(0)[0], x.max(0)[0]),
    ],
)
def test_what_is_shown_of_a_result_is_no_other_results(function):
    first, second = graphs.slimmed(make_fx(function)(torch.rand(3, 4)))(torch.rand(3, 4))
    assert first.untyped_storage().data_ptr() != second.untyped_storage().data_ptr()


def test_buffers_keyword_arguments_strides_and_complex_numbers_are_regarded():
    network = torch.nn.Module()
    network.register_buffer("centre", torch.arange(3.0))
    x = torch.rand(2, 3)
    centred = Recorded(lambda x: (x - network.centre.view(1, 3).expand(1, 3).detach()).exp())
    assert torch.equal(centred(x), (x - network.centre).exp())
    twice = operations(lambda x: x.sum(dtype=torch.float32) + x.sum(dtype=torch.float64), x)
    assert twice == ["sum", "sum", "add"]
    column = torch.rand(3, 2)[:, :1]
    assert operations(lambda x: (x * 1).exp(), column) == ["mul", "exp"]  # (3, 1), but dense
    assert operations(lambda x: (x * 1).exp(), torch.rand(2, dtype=torch.complex64))[0] == "mul"
    assert operations(lambda x: (x * 1).as_strided((2,), (1,), 0).exp(), x[1]) != ["exp"]


def test_operations_in_place_and_random_ones_are_recorded_as_they_are():
    x = torch.rand(3)
    assert torch.equal(Recorded(lambda x: (x * 1).add_(1).mul_(1) + x)(x), x + 1 + x)
    module = graphs.slimmed(make_fx(lambda x: torch.rand_like(x) - torch.rand_like(x))(x))
    assert not torch.equal(module(x), torch.zeros(3))


def test_derivatives_within_a_recorded_function_follow_its_arguments():
    cubes = Recorded(torch.func.grad(lambda x: (x**3).sum()))
    for x in (torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])):
        torch.testing.assert_close(cubes(x), 3 * x**2)


def test_a_tensor_given_twice_is_not_taken_for_two():
    recorded, x, y = Recorded(lambda x, y: x - 2 * y), torch.rand(3), torch.rand(3)
    for one, other in ((x, x), (x, y), (y, y), (y, x)):
        assert torch.equal(recorded(one, other), one - 2 * other)


def test_constants_of_another_type_are_others():
    recorded, x = Recorded(lambda x, factor: x * factor), torch.ones(2, dtype=torch.int64)
    assert [recorded(x, factor).dtype for factor in (1, 1.0)] == [torch.int64, torch.float32]


def test_beyond_some_shapes_the_function_itself_runs(monkeypatch):
    monkeypatch.setattr(recording, "PROGRAMS", 2)
    calls, cubes = [], torch.func.grad(lambda x: (x**3).sum())

    def function(x):
        calls.append(len(x))
        return cubes(x)

    recorded = Recorded(function)
    for size in (1, 2, 3, 3, 1):
        x = torch.rand(size, requires_grad=True)
        assert torch.equal(recorded(x), cubes(x))
        assert not recorded(x).requires_grad
    assert calls.count(3) == 4  # every time
    assert calls.count(1) == 2  # recorded and checked


@pytest.mark.parametrize(
    "read",
    [
        lambda x: float(x.sum()),
        lambda x: 1.0 if (x > 0).all() else 2.0,
        lambda x: x.tolist()[0],
        lambda x: float(x.numpy()[0]),
        lambda x: x.tolist()[0] / x.tolist()[1],
    ],
)
def test_python_that_reads_a_value_is_refused(read):
    recorded = Recorded(lambda x: x * read(x.detach()))
    with pytest.raises(InputError, match=r"reads a tensor's value .* Give --speed\.program plain"):
        recorded(torch.tensor([1.0, 2.0]))


def test_expanded_transposed_empty_and_nan_arguments_are_recorded():
    recorded = Recorded(lambda *given: [(each.exp() + 1).sum(0) for each in given])
    base = torch.rand(3, 4)
    base[1, 2] = torch.nan
    given = (base.T, base[1].expand(5, 4), base[:, 1:3], base[:0], torch.arange(3))
    for got, value in zip(recorded(*given), given, strict=True):
        torch.testing.assert_close(got, (value.exp() + 1).sum(0), rtol=0, atol=0, equal_nan=True)
