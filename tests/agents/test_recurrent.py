"""Recurrent layers: torch's numbers and names, every algorithm, and modules of others."""

import dataclasses

import pytest
import torch
from meta_rl.agents import GRU, LSTM, make_network
from meta_rl.envs import Adding
from torch import nn
from torch.func import functional_call, grad, vmap

import meta_rl
from meta_rl import InputError, Supervised, seeds
from meta_rl.config import NetworkConfig, ShotsConfig

PAIRS = [(GRU, nn.GRU), (LSTM, nn.LSTM)]


@pytest.fixture
def float64():
    """Networks made in a test are in float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def twins(ours, theirs, layers):
    one = ours(3, (5,) * layers, seeds.generator(0))
    other = theirs(3, 5, layers, batch_first=True)
    other.load_state_dict(one.state_dict())
    back = ours(3, (5,) * layers, seeds.generator(1))
    back.load_state_dict(other.state_dict())
    assert [*one.state_dict()] == [*other.state_dict()]
    return back, other


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_outputs_and_gradients_are_torchs_and_weights_move_both_ways(ours, theirs, layers, float64):
    one, other = twins(ours, theirs, layers)
    x = torch.randn(4, 7, 3, generator=seeds.generator(2))
    outputs = one(x), other(x)[0]
    torch.testing.assert_close(*outputs)
    for output in outputs:
        (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    for mine, theirs_ in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs_.grad)


@pytest.mark.parametrize(("ours", "gates"), [(GRU, 3), (LSTM, 4)])
def test_inputs_start_as_large_whatever_their_number_and_the_state_keeps_its_length(ours, gates):
    for inputs in (3, 50):
        layer = ours(inputs, (64, 32), seeds.generator(0))
        spread = layer.weight_ih_l0.std() * inputs**0.5
        assert 0.9 < spread < 1.1
        for gate in layer.weight_hh_l1.detach().split(32):
            torch.testing.assert_close(gate @ gate.T, torch.eye(32), atol=1e-5, rtol=0)
    assert len(layer.bias_hh_l0) == gates * 64
    assert not layer.bias_hh_l0.any()
    forgets = layer.bias_ih_l0.detach().view(gates, 64).any(1)
    assert forgets.tolist() == [False, ours is LSTM, *[False] * (gates - 2)]


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_all_tasks_adapt_at_once_as_each_alone_and_the_second_derivative_is_right(kind, float64):
    config = NetworkConfig(kind=kind, hidden=(4, 3), context=2)
    network = make_network((5, 2), 1, config, seeds.generator(0))
    own = {name: value.detach() for name, value in network.named_parameters()}
    x = torch.randn(3, 6, 5, 2, generator=seeds.generator(1))

    def loss(params, x):
        return functional_call(network, params, (x,)).square().mean()

    def after_a_step(params, x):
        gradient = grad(loss)(params, x)
        return loss({name: value - 0.1 * gradient[name] for name, value in params.items()}, x)

    together = vmap(grad(after_a_step), in_dims=(None, 0))(own, x)
    for task in range(3):
        alone = grad(after_a_step)(own, x[task])
        for name, value in alone.items():
            torch.testing.assert_close(together[name][task], value)
    for name, value in own.items():
        along = torch.randn(value.shape, generator=seeds.generator(3))
        ends = [after_a_step({**own, name: value + sign * 1e-5 * along}, x[0]) for sign in (1, -1)]
        expected = (ends[0] - ends[1]) / 2e-5
        torch.testing.assert_close(
            (together[name][0] * along).sum(), expected, rtol=1e-5, atol=1e-8
        )


def small(**changes):
    config = meta_rl.preset("adding")
    data = ShotsConfig(tasks=2, shots=3, queries=3)
    network = dataclasses.replace(config.network, hidden=(4,))
    config = dataclasses.replace(config, data=data, network=network, iterations=2)
    speed = dataclasses.replace(config.speed, program="plain")
    return dataclasses.replace(config, **{"speed": speed, **changes})


@pytest.mark.parametrize("algorithm", ["maml", "cavia", "anil", "reptile", "es-maml"])
def test_sequences_are_learned_by_algorithms_that_adapt_different_parts(algorithm):
    config = meta_rl.algorithm(algorithm, small())
    assert config.network.kind == "gru"
    learner = meta_rl.build(config).learn()
    model = learner.adapt(learner.held_out_tasks(1)[0], steps=2)
    assert model.predict(torch.zeros(4, 20, 2).numpy()).shape == (4, 1)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_every_parameter_learns_and_recorded_operations_give_the_same_bits(kind):
    config, learned = small(network=NetworkConfig(kind=kind, hidden=(4,))), []
    for program in ("plain", "recorded"):
        network = make_network((2, 2), 1, config.network, seeds.generator(0))
        speed = dataclasses.replace(config.speed, program=program)
        run = dataclasses.replace(config, speed=speed)
        learner = meta_rl.MetaLearner(Supervised(Adding(2), network, config.data), run)
        learned.append(learner.learn().meta.theta)
    for name, value in network.named_parameters():
        assert torch.equal(learned[0][name], learned[1][name])
        assert not torch.equal(learned[0][name], value), name


@pytest.mark.parametrize(
    ("shape", "hidden", "message"),
    [
        ((3,), (4,), r"gru needs sequences \(T, features\), got inputs \(3,\)"),
        ((1, 8, 8), (4,), "gru needs sequences"),
        ((5, 2), (), r"network\.hidden: expected one layer or more"),
    ],
)
def test_what_is_no_sequence_is_refused(shape, hidden, message):
    with pytest.raises(InputError, match=message):
        make_network(shape, 1, NetworkConfig(kind="gru", hidden=hidden), seeds.generator(0))


def test_a_perceptron_takes_sequences_where_the_preset_has_a_recurrent_network():
    network = NetworkConfig(kind="mlp", hidden=(4,))
    assert "1.0.weight" in meta_rl.build(small(network=network)).learn().meta.theta
    with pytest.raises(InputError, match=r"network\.kind: .*on images, or sequences"):
        meta_rl.build(dataclasses.replace(meta_rl.preset("sinusoid"), network=network))


@pytest.mark.parametrize(
    ("preset", "changes", "message"),
    [
        ("sinusoid", {"kind": "gru"}, "network.kind: gru needs sequences"),
        ("cartpole", {"kind": "lstm"}, "network.kind: .*on sequences of few-shot families"),
        ("adding", {"kind": "convolutional"}, "network.kind: convolutional needs images"),
        ("adding", {"activation": "relu"}, "network.activation: .*a recurrent one's tanh"),
        ("adding", {"channels": 8}, "network.channels: .*with --network.kind convolutional"),
    ],
)
def test_settings_of_recurrent_networks_act_or_are_refused(preset, changes, message):
    config = meta_rl.preset(preset)
    network = dataclasses.replace(config.network, **{"activation": None, **changes})
    with pytest.raises(InputError, match=message):
        meta_rl.build(dataclasses.replace(config, network=network))


@pytest.mark.parametrize("layers", [GRU, LSTM])
def test_a_run_has_the_values_and_the_first_derivatives_of_plain_operations(layers):
    draw = seeds.generator(0)
    module = layers(3, (4, 5), draw).double()
    x = torch.randn(2, 6, 3, generator=draw).double().requires_grad_()
    state = torch.randn(2, sum(module.state_sizes), generator=draw).double().requires_grad_()
    given = [x, state, *module.parameters()]
    weights = [torch.randn(v.shape, generator=draw).double() for v in module.run(x, state)]
    found = []
    for values in (module.run(x, state), module._run(x, state, module.through)):
        loss = sum((v.sin() * w).sum() for v, w in zip(values, weights, strict=True))
        found.append([*values, *torch.autograd.grad(loss, given)])
    torch.testing.assert_close(*found)
