"""Modules that the core can adapt, and those it refuses before they fail strangely."""

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad

from meta_rl.adaptable import check_adaptable
from meta_rl.errors import InputError


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
    with pytest.raises(InputError, match=r"^calls: expected buffers that a call leaves"):
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
