"""Reptile: closed forms on quadratics, both outer optimizers, decay, and that it learns."""

import dataclasses

import pytest
import torch
from test_core import ALPHA, D, quadratic, tasks

import meta_rl
from meta_rl import seeds
from meta_rl.config import InnerConfig, ReptileConfig, SpeedConfig
from meta_rl.inner.core import InnerLoop
from meta_rl.inner.rules import GradientDescent
from meta_rl.outer.reptile import Reptile
from meta_rl.types import MetaParameters

EPSILON = 0.25


def make(steps, iterations=10, **outer):
    rule = GradientDescent(InnerConfig(steps=steps, step_size=ALPHA, learn_step_size=False))
    meta = MetaParameters({"x": torch.linspace(-1, 1, D, dtype=torch.float64)}, {})
    config = ReptileConfig(**{"learning_rate": EPSILON, **outer})
    return Reptile(config, InnerLoop(loss=quadratic, rule=rule), meta, iterations)


@pytest.mark.parametrize("steps", [1, 3])
def test_the_update_equals_the_closed_form(steps):
    """x -> x - alpha A (x - c) is affine: phi_K - c = (1 - alpha A)^K (theta - c)."""
    reptile, (matrix, centre) = make(steps), tasks(0)
    theta = reptile.meta.theta["x"].clone()
    reptile.step([(matrix, centre)] * steps, tasks(1))
    shrink = torch.linalg.matrix_power(torch.eye(D, dtype=torch.float64) - ALPHA * matrix, steps)
    phi = centre + (shrink @ (theta - centre).unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(reptile.meta.theta["x"], theta + EPSILON * (phi.mean(0) - theta))


def test_one_inner_step_descends_the_mean_loss():
    """With K = 1 the update is epsilon alpha times the gradient of joint training."""
    reptile, (matrix, centre) = make(1), tasks(0)
    theta = reptile.meta.theta["x"].clone()
    reptile.step([(matrix, centre)], tasks(1))
    gradient = (matrix @ (theta - centre).unsqueeze(-1)).squeeze(-1).mean(0)
    torch.testing.assert_close(reptile.meta.theta["x"], theta - EPSILON * ALPHA * gradient)


def test_the_query_is_scored_and_nothing_more():
    one, other = make(2), make(2)
    metrics = [r.step([tasks(0)] * 2, tasks(q)) for r, q in ((one, 1), (other, 2))]
    assert torch.equal(one.meta.theta["x"], other.meta.theta["x"])
    assert metrics[0]["train/outer_loss"] != metrics[1]["train/outer_loss"]


def test_adam_gets_theta_minus_phi_as_its_gradient():
    sgd, adam = make(2), make(2, optimizer="adam", learning_rate=0.01)
    start = sgd.meta.theta["x"].clone()
    for reptile in (sgd, adam):
        reptile.step([tasks(0)] * 2, tasks(1))
    direction = (sgd.meta.theta["x"] - start).sign()
    torch.testing.assert_close(adam.meta.theta["x"], start + 0.01 * direction, rtol=0, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_linear_decay_reaches_zero_at_the_end_of_the_run(optimizer):
    reptile = make(1, iterations=4, optimizer=optimizer, linear_decay=True)
    rates = [reptile.step([tasks(0)], tasks(1))["train/outer_learning_rate"] for _ in range(4)]
    assert rates == [EPSILON * share for share in (1.0, 0.75, 0.5, 0.25)]
    last = reptile.meta.theta["x"].clone()
    assert reptile.step([tasks(0)], tasks(1))["train/outer_learning_rate"] == 0
    assert torch.equal(reptile.meta.theta["x"], last)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_step_that_is_not_finite_is_skipped_and_said(optimizer):
    reptile, (matrix, centre) = make(1, optimizer=optimizer), tasks(0)
    before = reptile.meta.theta["x"].clone()
    assert reptile.step([(matrix, centre * float("nan"))], tasks(1))["train/skipped"] == 1
    assert torch.equal(reptile.meta.theta["x"], before)


def test_sinusoid_regression_adapts_after_some_hundred_iterations():
    config = dataclasses.replace(
        meta_rl.PRESETS["sinusoid"],
        inner=InnerConfig(steps=5, step_size=0.02, learn_step_size=False),
        outer=ReptileConfig(learning_rate=0.5),
        speed=SpeedConfig(),
    )
    learner = meta_rl.build(config)
    drawn = learner.problem.sample_tasks(100, seeds.derive(99, seeds.EVALUATION))
    fresh = learner.evaluate(drawn, 5, seed=1).mean(1)
    scores = learner.learn(300).evaluate(drawn, 5, seed=1).mean(1)
    assert scores[5] < 0.9 * scores[0]
    assert scores[5] < 0.9 * fresh[5]


def test_navigation_improves_after_adapting():
    config = meta_rl.PRESETS["navigation-2d"]
    config = dataclasses.replace(
        config,
        inner=InnerConfig(steps=2, step_size=0.3, learn_step_size=False),
        outer=ReptileConfig(learning_rate=0.01, optimizer="adam"),
        data=dataclasses.replace(config.data, tasks=10, episodes=8),
    )
    learner = meta_rl.build(config)
    drawn = learner.problem.sample_tasks(20, seeds.derive(99, seeds.EVALUATION))
    before = learner.evaluate(drawn, 2, seed=1).mean(1)
    after = learner.learn(8).evaluate(drawn, 2, seed=1).mean(1)
    assert after[1] > before[1] + 2
    assert after[2] > before[2] + 2
