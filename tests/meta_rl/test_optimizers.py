"""Inner optimizers and schedules: literal values, zero gradients, factors, and what adapts."""

import math

import pytest
import torch
from torch import nn

from meta_rl.config import Config, InnerConfig, NetworkConfig
from meta_rl.errors import InputError
from meta_rl.from_settings import make_rule
from meta_rl.inner.core import InnerLoop
from meta_rl.inner.optimizers import Coefficient
from meta_rl.inner.rules import adapted_names
from meta_rl.types import MetaParameters

GRADIENTS = torch.tensor([[0.3, -2.0, 1.5], [0.7, 0.1, -4.0]], dtype=torch.float64)
START = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
LOSS = torch.tensor(0.5, dtype=torch.float64)
ALL = ["sgd", "momentum", "rmsprop", "adam", "mixture"]


def walk(rule, gradients, start=START):
    """Parameters after each step along given gradients."""
    theta = {"w": start}
    learned, phi, state, path = rule.init(theta), theta, rule.initial_state(theta), []
    for k, gradient in enumerate(gradients):
        phi, state = rule.step(learned, k, phi, {"w": gradient}, LOSS, state)
        path.append(phi["w"])
    return path


@pytest.mark.parametrize("learn", [True, False])
@pytest.mark.parametrize(
    ("optimizer", "make"),
    [
        ("sgd", lambda p: torch.optim.SGD(p, lr=0.1)),
        ("momentum", lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
        ("rmsprop", lambda p: torch.optim.RMSprop(p, lr=0.1, alpha=0.9, eps=1e-12)),
        ("adam", lambda p: torch.optim.Adam(p, lr=0.1, eps=1e-12)),
    ],
)
def test_two_steps_equal_those_of_torch(optimizer, make, learn):
    """Up to where eps stands: at most a relative 1e-8 / (2 * 0.1 * 0.1^2) = 5e-6 of a step here."""
    rule = make_rule(InnerConfig(step_size=0.1, optimizer=optimizer, learn_step_size=learn))
    parameter = START.clone().requires_grad_()
    theirs = make([parameter])
    for ours, gradient in zip(walk(rule, GRADIENTS), GRADIENTS, strict=True):
        parameter.grad = gradient.clone()
        theirs.step()
        torch.testing.assert_close(ours, parameter.detach(), rtol=0, atol=2e-6)


def test_two_steps_have_their_literal_values():
    g0, g1, eps = 0.3, 0.7, 1e-8
    v0 = 0.1 * g0**2
    v1 = 0.9 * v0 + 0.1 * g1**2
    m_hat = (0.9 * 0.1 * g0 + 0.1 * g1) / (1 - 0.9**2)
    v_hat = (0.999 * 0.001 * g0**2 + 0.001 * g1**2) / (1 - 0.999**2)
    expected = {
        "momentum": (g0, 0.9 * g0 + g1),
        "rmsprop": (g0 / math.sqrt(v0 + eps), g1 / math.sqrt(v1 + eps)),
        "adam": (g0 / math.sqrt(g0**2 + eps), m_hat / math.sqrt(v_hat + eps)),
    }
    for optimizer, (first, second) in expected.items():
        path = walk(make_rule(InnerConfig(step_size=0.1, optimizer=optimizer)), GRADIENTS)
        assert path[0][0].item() == pytest.approx(1 - 0.1 * first, rel=1e-12)
        assert path[1][0].item() == pytest.approx(1 - 0.1 * (first + second), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("optimizer", ALL)
def test_first_and_second_derivatives_are_finite_at_a_zero_gradient(optimizer, dtype):
    rule = make_rule(InnerConfig(steps=2, optimizer=optimizer, schedule="learned"))
    gradient = torch.zeros(3, dtype=dtype, requires_grad=True)
    learned = {n: v.requires_grad_() for n, v in rule.init({"w": START.to(dtype)}).items()}
    theta = {"w": torch.zeros(3, dtype=dtype)}
    phi, state = theta, rule.initial_state(theta)
    for k in range(2):
        phi, state = rule.step(learned, k, phi, {"w": gradient}, LOSS.to(dtype) * 0, state)
    inputs = [gradient, *learned.values()]
    first = torch.autograd.grad(phi["w"].sum(), inputs, create_graph=True, materialize_grads=True)
    assert first[0].abs().min() > 0
    assert all(torch.isfinite(g).all() for g in first)
    second = torch.autograd.grad(
        sum((g * (i + 1.0)).sum() for i, g in enumerate(first)), inputs, materialize_grads=True
    )
    assert all(torch.isfinite(g).all() for g in second)


def test_a_coefficient_that_rounds_to_one_leaves_no_division_by_zero():
    nearly_one = Coefficient(torch.tensor(40.0))
    assert nearly_one.value == 1
    assert nearly_one.rest > 0
    torch.testing.assert_close(nearly_one.rest_of_power(2) / nearly_one.rest, torch.tensor(2.0))


@pytest.mark.parametrize("optimizer", ALL)
def test_coefficients_are_learned_with_the_step_size_and_shown(optimizer):
    theta = {"w": START}
    shown = {
        "sgd": {},
        "momentum": {"momentum": 0.9},
        "rmsprop": {"square_decay": 0.9},
        "adam": {"beta1": 0.9, "beta2": 0.999},
    }
    shown["mixture"] = {f"{o}.{n}": v for o, part in shown.items() for n, v in part.items()}
    rule = make_rule(InnerConfig(optimizer=optimizer))
    values = rule.step_sizes(rule.init(theta), theta)
    coefficients = {
        name: value.item()
        for name, value in values.items()
        if "step_size" not in name and "choice" not in name
    }
    assert coefficients == pytest.approx(shown[optimizer])


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ("constant", [1, 1, 1]),
        ("inverse-sqrt", [1, 2**-0.5, 3**-0.5]),
        ("exponential", [1, 0.8, 0.64]),
        ("learned", [1, 1, 1]),
    ],
)
def test_schedules_have_their_factors(schedule, factors):
    config = InnerConfig(steps=2, step_size=0.1, schedule=schedule, decay=0.8, extra_step_scale=0.5)
    path = [START, *walk(make_rule(config), GRADIENTS[[0, 0, 0]])]
    factors[2] *= 0.5  # beyond the trained steps
    for k, factor in enumerate(factors):
        torch.testing.assert_close(path[k + 1] - path[k], -0.1 * factor * GRADIENTS[0])


def test_the_learned_schedule_scales_the_step_and_decays_the_value():
    rule = make_rule(InnerConfig(steps=2, step_size=0.1, schedule="learned"), seed=3)
    theta = {"w": START, "b": START[:1]}
    learned = rule.init(theta)
    learned["schedule.1.bias"] = torch.tensor([math.log(2), 0.25], dtype=torch.float64)
    gradient = {"w": GRADIENTS[0], "b": GRADIENTS[1, :1]}
    phi, _ = rule.step(learned, 0, theta, gradient, LOSS, rule.initial_state(theta))
    torch.testing.assert_close(phi["w"], 0.75 * START - 0.2 * GRADIENTS[0])
    learned["schedule.1.weight"] = torch.ones(2, 16, dtype=torch.float64)
    small = {name: 1e-3 * g for name, g in gradient.items()}
    moved = [
        (rule.step(learned, k, theta, g, loss, {})[0]["w"] - START) / g["w"][0]
        for k, g, loss in (
            (0, gradient, LOSS), (1, gradient, LOSS), (0, small, LOSS), (2, gradient, LOSS)
        )
    ]  # fmt: skip
    assert not torch.allclose(moved[0], moved[1]), "the step is a feature"
    assert not torch.allclose(moved[0], moved[2]), "so is the gradient"
    assert torch.equal(moved[1], moved[3]), "a step that was not trained counts as the last"


def test_the_learned_schedule_starts_from_its_seed_alone():
    config, theta = InnerConfig(schedule="learned"), {"w": START}
    name = "schedule.0.weight"
    one, same, other = (make_rule(config, seed).init(theta)[name] for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


class Body(nn.Module):
    """A network whose names are in no alphabetical order, with a scale that is no layer."""

    def __init__(self):
        super().__init__()
        self.log_std = nn.Parameter(torch.zeros(2))
        self.z_body = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
        self.head = nn.Linear(4, 2)


def test_the_head_is_the_last_layer_and_a_policys_log_std():
    assert adapted_names("head", dict(Body().named_parameters())) == [
        "log_std",
        "head.weight",
        "head.bias",
    ]
    flat = {"weight": torch.zeros(2, 3), "final": torch.zeros(3, 1), "bias": torch.zeros(3)}
    assert adapted_names("head", flat) == ["final"]


@pytest.mark.parametrize(
    ("adapts", "message"),
    [("head", "layer with a weight.*got parameters w"), ("context", "parameter named 'context'")],
)
def test_nothing_of_the_kind_to_adapt_is_refused(adapts, message):
    rule = make_rule(InnerConfig(adapts=adapts))
    with pytest.raises(InputError, match=message):
        rule.init({"w": START})


def test_a_context_starts_at_zero_for_every_task_whatever_theta_says():
    rule = make_rule(InnerConfig(adapts="context", step_size=0.5, positive="none"))
    theta = {"w": START, "net.context": torch.full((3,), 9.0, dtype=torch.float64)}
    inner = InnerLoop(loss=lambda p, x: ((p["net.context"] + p["w"] - x) ** 2).sum() / 2, rule=rule)
    meta, targets = MetaParameters(theta, rule.init(theta)), torch.stack([START + 1, START - 1])
    assert torch.equal(inner.adapt(meta, [], 2)["net.context"], torch.zeros(2, 3).double())
    phi = inner.adapt(meta, [targets], 2)
    torch.testing.assert_close(phi["net.context"][:, 0], torch.tensor([0.5, -0.5]).double())
    assert torch.equal(phi["w"][1], START)
    _, gradient = inner.meta_gradient(meta, [targets], targets + 1)
    assert torch.equal(gradient.theta["net.context"], torch.zeros(3).double())


@pytest.mark.parametrize(("adapts", "context"), [("context", 0), ("all", 2), ("head", 1)])
def test_a_context_and_adapting_it_go_together(adapts, context):
    with pytest.raises(InputError, match=r"network\.context: expected a size above 0 with"):
        Config(family="x", inner=InnerConfig(adapts=adapts), network=NetworkConfig(context=context))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: InnerConfig(optimizer="adamw"), r"inner\.optimizer: expected one of 'sgd'"),
        (lambda: InnerConfig(schedule="cosine"), r"inner\.schedule: expected one of 'constant'"),
        (lambda: InnerConfig(adapts="body"), r"inner\.adapts: expected one of 'all'"),
        (lambda: InnerConfig(decay=0.0), r"inner\.decay: expected above 0, at most 1, got 0"),
        (lambda: InnerConfig(gradient_scale=-1.0), r"inner\.gradient_scale: expected above 0"),
        (lambda: NetworkConfig(context=-1), r"network\.context: expected 0 or more"),
    ],
)
def test_rule_settings_that_make_no_sense_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
