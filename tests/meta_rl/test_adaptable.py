"""Modules that the core can adapt, and those it refuses before they fail strangely."""

from dataclasses import replace

import pytest
import torch
from meta_rl.envs import FAMILIES
from meta_rl.envs.navigation import Navigation2D
from meta_rl.envs.sinusoid import Sinusoid
from torch import nn
from torch.func import functional_call, grad

import meta_rl
from meta_rl import MetaLearner, Supervised
from meta_rl.errors import InputError
from meta_rl.families.registry import register
from meta_rl.inner.adaptable import check_adaptable
from meta_rl.runs.callbacks import EvalCallback
from tests.test_resume import tiny


def seq(*layers):
    return nn.Sequential(nn.Linear(3, 4), *layers, nn.Linear(4, 2))


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return self.linear(x)


class DataDependent(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x):
        y = self.linear(x)
        return y if y.sum() > 0 else -y


REFUSED = {
    "running statistics": (seq(nn.BatchNorm1d(4)), "^1: .*track_running_stats=False"),
    "instance statistics": (
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.InstanceNorm2d(2, track_running_stats=True)),
        "^1: .*InstanceNorm2d",
    ),
    "dropout": (seq(nn.Dropout(0.5)), r"^1: .*Dropout in training mode.*\.eval\(\)"),
    "attention dropout": (
        nn.TransformerEncoderLayer(4, 2, 8, dropout=0.1),
        "^self_attn: .*MultiheadAttention",
    ),
    "random slope": (seq(nn.RReLU()), "^1: .*RReLU"),
    "lazy": (nn.LazyLinear(2), "^weight: .*lazy.*call the network once"),
    "no parameters": (nn.Sequential(nn.ReLU()), "^network: .*parameters to adapt"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_adapted_is_refused_with_its_name_and_what_to_do(case):
    module, message = REFUSED[case]
    with pytest.raises(InputError, match=message):
        check_adaptable(module)


@pytest.mark.parametrize(
    "module",
    [
        seq(nn.BatchNorm1d(4, track_running_stats=False)),
        seq(nn.BatchNorm1d(4)).eval(),
        seq(nn.Dropout(0.5)).eval(),
        seq(nn.Dropout(0.0), nn.LayerNorm(4)),
    ],
)
def test_their_harmless_forms_run_for_two_tasks(module):
    check_adaptable(module, torch.randn(5, 3))


def test_a_buffer_that_a_call_changes_is_found_by_a_trial_and_put_back():
    network = Counter()
    with pytest.raises(InputError, match=r"^calls: expected buffers that a call does not change"):
        check_adaptable(network, torch.randn(5, 3))
    assert network.calls == 0


def test_control_flow_on_values_is_found_by_a_trial():
    with pytest.raises(InputError, match="under vmap"):
        check_adaptable(DataDependent(), torch.randn(5, 3))


def test_shared_parameters_adapt_as_one():
    network = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))
    network[2].weight = network[0].weight
    x = torch.randn(5, 3)
    check_adaptable(network, x)
    params = dict(network.named_parameters())
    gradient = grad(lambda p: functional_call(network, p, (x,)).square().sum())(params)
    network(x).square().sum().backward()
    assert "2.weight" not in gradient
    torch.testing.assert_close(gradient["0.weight"], network[0].weight.grad)


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.layer, self.out = kind(1, 4, batch_first=True), nn.Linear(4, 1)

    def forward(self, x):
        return self.out(self.layer(x.unsqueeze(-1))[0][:, -1])


def learner(network, **speed):
    config = tiny("sinusoid")
    config = replace(config, speed=replace(config.speed, **speed))
    at_once = speed.get("tasks_at_once")
    return MetaLearner(Supervised(Sinusoid(), network, config.data, at_once), config)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_recurrent_layers_are_refused_with_the_setting_they_run_with_and_run_with_it(kind):
    with pytest.raises(
        InputError, match=r"under vmap, got .*set tasks_at_once=1 .* it runs, or take .*GRU"
    ):
        learner(Recurrent(kind))
    learner(Recurrent(kind), tasks_at_once=1, program="plain").learn(1)


def test_a_recurrent_layer_that_cannot_be_recorded_is_refused_in_one_line():
    with pytest.raises(InputError, match=r"^speed.program: .* give --speed\.program plain"):
        learner(Recurrent(nn.LSTM), tasks_at_once=1, program="recorded").learn(1)


class Distances(nn.Module):
    """The gradient of ``torch.cdist`` has no gradient."""

    def __init__(self):
        super().__init__()
        self.centres, self.out = nn.Parameter(torch.tensor([[0.5], [2.0]])), nn.Linear(2, 1)

    def forward(self, x):
        return self.out(torch.cdist(x, self.centres))


def test_a_learner_tries_what_its_outer_step_differentiates():
    with pytest.raises(InputError, match=r"^network: .* set .*first_order=True .* it runs\."):
        learner(Distances(), program="plain")


BAD = {
    "out of range": ({"goal": (9.0, 0.0)}, "task parameter goal: expected 2 numbers"),
    "mistyped": ({"gaol": (0.1, 0.0)}, "Did you mean 'goal'"),
    "missing": ({}, "missing goal"),
    "no task": ((0.1, 0.0), "expected a dictionary of parameters"),
}


@pytest.mark.parametrize("case", BAD)
def test_every_door_refuses_a_bad_task_alike(case):
    task, message = BAD[case]
    learner = meta_rl.build(tiny("navigation-2d"))
    good = learner.held_out_tasks(1)[0]
    doors = [
        lambda: learner.evaluate([good, task], 1, 0),
        lambda: learner.pictures(task, 1, 0),
        lambda: learner.learn(1, [EvalCallback([good, task], eval_freq=1000)]),
    ]
    if isinstance(task, dict):  # anything else is taken for an environment there
        doors.append(lambda: learner.adapt(task))
    for door in doors:
        with pytest.raises(InputError, match=message):
            door()


def test_numbers_out_of_range_and_no_tasks_are_refused():
    learner = meta_rl.build(tiny("navigation-2d"))
    tasks = learner.held_out_tasks(1)
    for given in ((tasks, -1, 0), (tasks, 1, -1), ([], 1, 0)):
        with pytest.raises(InputError, match=r"^(steps|seed|tasks): expected"):
            learner.evaluate(*given)


@pytest.mark.parametrize("drawn", [[{"goal": (9.0, 0.0)}] * 2, [{"goal": (0.1, 0.0)}], [], [None]])
def test_what_a_family_of_ones_own_draws_is_checked(drawn):
    class Careless(Navigation2D):
        id = "careless"

        def sample_tasks(self, n, seed, split="in-distribution"):
            return drawn

    register(Careless())
    try:
        learner = meta_rl.build(tiny("careless"))
        for draw in (learner.iterate, lambda: learner.held_out_tasks(3)):
            with pytest.raises(InputError, match="sample_tasks of careless"):
                draw()
    finally:
        del FAMILIES["careless"]


class Huge(nn.Module):
    """Asks for more memory than there is."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def forward(self, x):
        return self.layer(x) + torch.empty(2**60)


def test_memory_that_is_not_there_is_no_fault_of_the_network():
    with pytest.raises(RuntimeError, match="memory"):
        check_adaptable(Huge(), torch.zeros(3, 1))
    with pytest.raises(RuntimeError, match="memory"):
        learner(Huge(), program="plain")


def test_a_layer_at_two_places_is_refused_with_a_way_out():
    layer, second = nn.Linear(3, 3), nn.Linear(3, 3)
    with pytest.raises(InputError, match="2: expected a layer of its own, got the Linear at 0"):
        check_adaptable(nn.Sequential(layer, nn.Tanh(), layer))
    second.weight, second.bias = layer.weight, layer.bias
    check_adaptable(nn.Sequential(layer, nn.Tanh(), second), torch.zeros(2, 3))
