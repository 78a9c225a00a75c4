"""What iterations are timed against does the same work, and is counted rightly."""

import dataclasses

import pytest
import torch

import meta_rl
from benchmarks.speed import loops
from benchmarks.speed.machine import Rates, seconds_at_least
from benchmarks.speed.tables import growth, phases, seconds
from meta_rl.inner.adaptation import adapt_to_tasks
from meta_rl.tasks import select


def recorded(preset, outer=None, **data):
    """A learner of three tasks with a fixed step size, and its batches task by task."""
    config = meta_rl.PRESETS[preset]
    config = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, tasks=3, **data),
        inner=dataclasses.replace(config.inner, learn_step_size=False),
        outer=outer or config.outer,
    )
    learner = meta_rl.build(config)
    drawn = learner.problem.sample_tasks(3, 0)
    *supports, query = adapt_to_tasks(
        learner.problem, learner.inner, learner.meta, drawn, 1, 0
    ).batches
    tasks = [([select(s, m) for s in supports], select(query, m)) for m in range(3)]
    return learner, supports, query, tasks


@pytest.mark.parametrize("first_order", [False, True])
def test_the_loop_gives_our_meta_gradient(first_order):
    learner, supports, query, tasks = recorded("sinusoid")
    inner = dataclasses.replace(learner.inner, first_order=first_order)
    _, gradient = inner.meta_gradient(learner.meta, supports, query)
    theta = loops.leaves_of(learner.meta.theta)
    given = learner.problem.loss, learner.problem.loss, theta, tasks
    loops.meta_gradient(*given, learner.config.inner.step_size, first_order)
    for name, leaf in theta.items():
        torch.testing.assert_close(leaf.grad, gradient.theta[name])


def test_the_loop_gives_our_curvature_products():
    outer = dataclasses.replace(meta_rl.PRESETS["navigation-2d"].outer, damping=0.0)
    learner, supports, query, tasks = recorded("navigation-2d", outer, episodes=4)
    theta, alpha = learner.meta.theta, learner.config.inner.step_size
    loop = loops.PolicyLoop(learner.problem, theta, tasks, alpha, outer.curvature_fraction)
    product = learner.outer._curvature(supports, query)
    for looped, ours in zip(loop.curvature_product(), product(loop.vector), strict=True):
        torch.testing.assert_close(looped / 3, ours, rtol=1e-4, atol=1e-6)


def test_arithmetic_counts_products_and_tanhs_of_every_layer():
    rates = Rates(matrix=1e9, tanh=1e6, operation=1.0)
    least = seconds_at_least(rates, (2, 3, 5, 1), samples=10, passes=3, tanhs=2)
    products = 2 * (2 * 3 + 3 * 5 + 5 * 1)
    assert least == pytest.approx(10 * (3 * products / 1e9 + 2 * (3 + 5) / 1e6))


def test_tables_show_ratios_to_the_loop_and_shares_of_the_limit():
    row = {"ours": {"median": 0.02}, "reference": {"median": 0.1}, "limit": 0.005, "times": 2}
    found = {
        "phases": {"rollout": row},
        "counts": {"environment steps": 80_000, "times": {}},
        "machine": {"matrix": 1e11, "tanh": 1e9, "operation": 1e6},
    }
    text = phases("W", found)
    assert "| rollout | 2 | 20 ms | 100 ms | 5.0 | 5 ms | 25% |" in text
    assert "environment steps 80,000; matrix product 100 GFLOP/s" in text
    points = {"4": {"sampling": 0.1, "meta-gradient": 0.3, "peak_mb": 1500}}
    assert "| 4 | 100 ms | 300 ms | 100 ms | 1,500 |" in growth("tasks", points)
    assert seconds(2e-5) == "20 µs"
