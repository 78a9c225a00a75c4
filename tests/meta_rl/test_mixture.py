"""The learned choice of optimizer: what it mixes, what it picks, and how it is deployed."""

import dataclasses

import pytest
import torch

import meta_rl
from meta_rl.config import AdamConfig, InnerConfig, SpeedConfig
from meta_rl.from_settings import make_rule
from meta_rl.inner.core import InnerLoop
from meta_rl.inner.optimizers import OPTIMIZERS
from meta_rl.outer.adam import Adam
from meta_rl.types import MetaParameters

SCALE = 0.01
THETA = {"w": torch.tensor([1.0, 2.0, 3.0]).double(), "b": torch.zeros(1).double()}
LOSS = torch.tensor(0.5).double()


def one_hot(learned, name):
    logits = torch.full_like(learned["choice"], -torch.inf)
    logits[list(OPTIMIZERS).index(name)] = 0.0
    return {**learned, "choice": logits}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_all_weight_on_one_rule_is_exactly_that_rule(name):
    config = InnerConfig(steps=3, optimizer="mixture", gradient_scale=SCALE, schedule="exponential")
    mixture = make_rule(config)
    learned = one_hot(mixture.init(THETA), name)
    own = {k.removeprefix(f"{name}."): v for k, v in learned.items() if k.startswith(name)}
    single = make_rule(dataclasses.replace(config, optimizer=name))
    phi, state = THETA, mixture.initial_state(THETA)
    other, other_state = THETA, single.initial_state(THETA)
    generator = torch.Generator().manual_seed(0)
    for k in range(3):
        g = {n: torch.randn(v.shape, generator=generator, dtype=v.dtype) for n, v in THETA.items()}
        phi, state = mixture.step(learned, k, phi, g, LOSS, state)
        other, other_state = single.step(own, k, other, g, LOSS, other_state)
        assert all(torch.equal(phi[n], other[n]) for n in THETA)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_four_start_with_first_steps_of_equal_length(name):
    rule = make_rule(InnerConfig(step_size=0.1, optimizer="mixture", gradient_scale=SCALE))
    gradient = {n: torch.full_like(v, SCALE) for n, v in THETA.items()}
    learned = one_hot(rule.init(THETA), name)
    phi, _ = rule.step(learned, 0, THETA, gradient, LOSS, rule.initial_state(THETA))
    torch.testing.assert_close(THETA["w"] - phi["w"], 0.1 * gradient["w"], rtol=1e-3, atol=0)


def test_a_rule_without_weight_has_no_say_even_at_infinity():
    rule = make_rule(InnerConfig(optimizer="mixture"))
    learned = one_hot(rule.init(THETA), "adam") | {"sgd.step_size": torch.tensor(1e4).double()}
    phi, _ = rule.step(learned, 0, THETA, THETA, LOSS, rule.initial_state(THETA))
    assert torch.isfinite(phi["w"]).all()


def test_hardening_keeps_the_most_likely_rule():
    rule = make_rule(InnerConfig(optimizer="mixture"))
    learned = rule.init(THETA) | {"choice": torch.tensor([0.1, 0.3, 0.2, 0.25]).double()}
    hard = rule.harden(learned)
    weights = rule.step_sizes(hard, THETA)
    assert [weights[f"choice.{name}"].item() for name in OPTIMIZERS] == [0, 1, 0, 0]
    assert rule.optimizer(learned) == rule.optimizer(hard) == "momentum"
    assert all(hard[name] is learned[name] for name in learned if name != "choice")


def family(kind, generator):
    """Quadratics 0.5 (x - c)^T D (x - c) on which one kind of rule clearly wins."""
    if kind == "well-conditioned":  # one step of gradient descent with alpha = 1 is exact
        scale, centre = torch.ones(8, 6), torch.randn(8, 6, generator=generator)
    else:  # |x_i - c_i| is the same everywhere, curvatures span six decades
        scale = torch.logspace(-3, 3, 6).expand(8, 6)
        centre = torch.randint(0, 2, (8, 6), generator=generator) * 2.0 - 1.0
    return scale.double(), centre.double()


@pytest.mark.parametrize(
    ("kind", "size", "gradient_scale", "winners"),
    [
        ("well-conditioned", 0.5, 1.0, {"sgd"}),
        ("badly scaled", 1e-3, 300.0, {"rmsprop", "adam"}),
    ],
)
def test_the_outer_loop_finds_the_rule_that_wins(kind, size, gradient_scale, winners):
    config = InnerConfig(
        steps=3, step_size=size, optimizer="mixture", gradient_scale=gradient_scale
    )
    rule = make_rule(config)

    def loss(params, batch):
        scale, centre = batch
        return 0.5 * (scale * (params["x"] - centre).square()).sum()

    def distance(params, batch):
        return 0.5 * (params["x"] - batch[1]).square().sum()

    theta = {"x": torch.zeros(6).double()}
    meta = MetaParameters(theta, rule.init(theta))
    inner = InnerLoop(loss=loss, outer_loss=distance, rule=rule)
    outer = Adam(AdamConfig(learning_rate=1e-6, step_size_learning_rate=0.05), inner, meta)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(150):
        batch = family(kind, generator)
        losses.append(float(outer.step([batch] * 3, batch)["train/outer_loss"]))
    weights = rule.step_sizes(meta.rule, theta)
    assert rule.optimizer(meta.rule) in winners
    assert sum(weights[f"choice.{name}"] for name in winners) > 0.7
    batch = family(kind, generator)

    def loss_with(learned):
        return float(inner.outer_losses(meta._replace(rule=learned), [batch] * 3, batch).mean())

    hard = loss_with(rule.harden(meta.rule))
    assert hard < 0.1 * losses[0]
    assert hard == min(loss_with(one_hot(meta.rule, name)) for name in OPTIMIZERS)


def test_adapting_and_evaluating_use_the_hardened_rule_and_say_which(tmp_path):
    config = meta_rl.PRESETS["sinusoid"]
    inner = dataclasses.replace(config.inner, optimizer="mixture", steps=2, gradient_scale=0.2)
    config = dataclasses.replace(config, inner=inner, speed=SpeedConfig(program="plain"))
    learner = meta_rl.build(config).learn(1)
    learner.meta.rule["choice"].copy_(torch.tensor([0.0, 0.0, 0.0, 2.0]))
    weights = learner.step_sizes()
    assert weights["choice.adam"] == pytest.approx(0.711, abs=1e-3)
    task = learner.held_out_tasks(1)[0]
    adapted = learner.adapt(task)
    assert adapted.manifest["optimizer"] == "adam"
    soft = learner.evaluate([task], 2, 0)
    learner.meta.rule["choice"].copy_(torch.tensor([-1e9, -1e9, -1e9, 0.0]))
    assert torch.equal(learner.evaluate([task], 2, 0), soft)
    assert learner.adapt(task).scores == adapted.scores
    saved = meta_rl.load_adapted(adapted.save(tmp_path / "adapted"))
    assert saved.manifest["optimizer"] == "adam"
