"""The outer steps: conjugate gradients, the trust region, rejection, and Adam."""

import dataclasses

import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map

import meta_rl
from meta_rl.config import AdamConfig, ProMPConfig, TRPOConfig
from meta_rl.inner.adaptation import adapt_to_tasks
from meta_rl.outer.trpo import conjugate_gradient
from meta_rl.problems.reinforcement import Reinforcement
from meta_rl.tasks import over_tasks, unflatten_like

pytestmark = pytest.mark.usefixtures("short_episodes")


def step_of(outer=None, episodes=4, **data):
    """A small navigation learner, its recorded batches, and its parameters before any step."""
    config = meta_rl.PRESETS["navigation-2d"]
    config = dataclasses.replace(
        config,
        outer=outer or config.outer,
        data=dataclasses.replace(config.data, tasks=3, episodes=episodes, **data),
    )
    learner = meta_rl.build(config)
    tasks = learner.problem.sample_tasks(3, 0)
    *supports, query = adapt_to_tasks(
        learner.problem, learner.inner, learner.meta, tasks, 1, 0
    ).batches
    before = [leaf.clone() for leaf in tree_leaves(learner.meta)]
    return learner, supports, query, before


def test_conjugate_gradients_solve_a_positive_definite_system():
    g = torch.Generator().manual_seed(0)
    root = torch.randn(6, 6, generator=g, dtype=torch.float64)
    matrix = root @ root.mT + torch.eye(6, dtype=torch.float64)
    target = torch.randn(6, generator=g, dtype=torch.float64)

    def product(v):
        result = matrix @ torch.cat([v[0].flatten(), v[1]])
        return [result[:4].reshape(2, 2), result[4:]]

    given = [target[:4].reshape(2, 2), target[4:]]
    parts, residual, _ = conjugate_gradient(product, given, 3)
    for r, t, h in zip(residual, given, product(parts), strict=True):
        torch.testing.assert_close(r, t - h)
    parts, *_ = conjugate_gradient(product, given, 10, 1e-24)
    solution = torch.cat([parts[0].flatten(), parts[1]])
    torch.testing.assert_close(solution, torch.linalg.solve(matrix, target))


def test_conjugate_gradients_do_not_depend_on_the_units_of_the_target():
    diagonal = 1e-4 * torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    for size in (1.0, 1e-9):
        target = torch.full((3,), size, dtype=torch.float64)
        (solution,), *_ = conjugate_gradient(lambda v: [diagonal * v[0]], [target], 10)
        torch.testing.assert_close(solution, target / diagonal)


def test_conjugate_gradients_stop_at_a_direction_without_positive_curvature():
    target = [torch.tensor([1.0, 2.0])]
    solution, *_ = conjugate_gradient(lambda v: [-v[0]], target, 10)
    assert torch.equal(solution[0], torch.zeros(2))


def test_conjugate_gradients_end_with_an_iteration_that_adds_little():
    diagonal = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0], dtype=torch.float64)
    target = torch.tensor([10.0, 14.0, 0.17, 0.1, 0.05], dtype=torch.float64)

    def product(v):
        return [diagonal * v[0]]

    (solution,), _, products = conjugate_gradient(product, [target], 10, 0.01)
    assert products == 3, "after two large directions the third adds a ten-thousandth"
    assert target @ solution > 0.99 * (target @ (target / diagonal))
    (solution,), _, products = conjugate_gradient(product, [target], 10)
    assert products >= 5
    torch.testing.assert_close(solution, target / diagonal)


def test_an_accepted_step_lowers_the_outer_loss_within_the_trust_region():
    learner, supports, query, before = step_of()
    metrics = learner.outer.step(supports, query)
    assert metrics["train/accepted"] == 1
    assert 0 < metrics["train/kl"] <= learner.config.outer.max_kl
    assert metrics["train/improvement"] > 0
    after = learner.inner.outer_losses(learner.meta, supports, query).mean()
    assert after < metrics["train/outer_loss"]
    moved = [not torch.equal(a, b) for a, b in zip(tree_leaves(learner.meta), before, strict=True)]
    assert all(moved), "theta and the step size both receive the outer gradient"


def test_the_natural_step_has_the_requested_length_in_kl():
    """KL(t * step) -> max_kl t^2 as t -> 0; in float64, where so small a KL can be seen."""
    learner, supports, query, _ = step_of(TRPOConfig())
    inner, outer = learner.inner, learner.outer
    meta, *supports, query = (
        tree_map(lambda leaf: leaf.double() if leaf.is_floating_point() else leaf, value)
        for value in (learner.meta, *supports, query)
    )
    phi = inner.adapt(meta, supports, 3)
    stored = over_tasks(learner.problem.distribution, (0, 0), None)(phi, query)
    query = query._replace(behaviour=stored)
    outer.meta = meta
    _, gradient = inner.meta_gradient(meta, supports, query)
    product = outer._curvature(supports, query)
    direction, *_ = conjugate_gradient(product, tree_leaves(gradient), 10)
    quadratic = sum((d * h).sum() for d, h in zip(direction, product(direction), strict=True))
    scale = 1e-3 * (2 * 0.01 / quadratic) ** 0.5
    moved = [leaf - scale * d for leaf, d in zip(tree_leaves(meta), direction, strict=True)]
    loss, kl = outer._loss_and_kl(unflatten_like(meta, moved), supports, query)
    assert kl == pytest.approx(0.01 * 1e-6, rel=0.02)
    assert loss < inner.outer_losses(meta, supports, query).mean()


def test_the_curvature_of_a_few_tasks_at_a_time_adds_up_to_that_of_all():
    learner, supports, query, _ = step_of()
    outer = learner.outer
    vector = [torch.randn_like(leaf) for leaf in tree_leaves(learner.meta)]
    whole = outer._curvature(supports, query)(vector)
    outer.inner = dataclasses.replace(outer.inner, tasks_at_once=2)  # of 3 tasks
    for part, expected in zip(outer._curvature(supports, query)(vector), whole, strict=True):
        torch.testing.assert_close(part, expected)


def test_the_line_search_starts_from_the_outer_loss_and_no_divergence():
    learner, supports, query, _ = step_of()
    with torch.no_grad():
        loss, kl = learner.outer._loss_and_kl(learner.meta, supports, query)
    expected = learner.inner.outer_losses(learner.meta, supports, query).mean()
    assert loss == pytest.approx(float(expected), abs=1e-6)
    assert kl == pytest.approx(0.0, abs=1e-6)


def test_a_step_that_finds_nothing_better_is_rejected_and_changes_nothing():
    learner, supports, query, before = step_of()
    # With all advantages zero there is no gradient, hence no direction that lowers the loss.
    flat = [b._replace(advantage=torch.zeros_like(b.advantage)) for b in (*supports, query)]
    metrics = learner.outer.step(flat[:-1], flat[-1])
    assert metrics["train/accepted"] == 0
    assert all(torch.equal(a, b) for a, b in zip(tree_leaves(learner.meta), before, strict=True))


def test_a_line_search_that_finds_nothing_leaves_everything_as_it_was():
    learner, supports, query, before = step_of(TRPOConfig(max_kl=1e4, backtracks=2))
    metrics = learner.outer.step(supports, query)  # a step so long that it does harm
    assert metrics["train/grad_norm_theta"] > 0
    assert (metrics["train/accepted"], metrics["train/line_search_trials"]) == (0, 2)
    assert all(torch.equal(a, b) for a, b in zip(tree_leaves(learner.meta), before, strict=True))


def test_a_curvature_that_is_negative_everywhere_leaves_everything_as_it_was(monkeypatch):
    learner, supports, query, before = step_of()
    monkeypatch.setattr(learner.outer, "_curvature", lambda *_: lambda v: [-x for x in v])
    assert learner.outer.step(supports, query)["train/accepted"] == 0
    assert all(torch.equal(a, b) for a, b in zip(tree_leaves(learner.meta), before, strict=True))


@pytest.mark.parametrize("outer", [TRPOConfig(), AdamConfig(), ProMPConfig(kl_target=0.01)])
def test_a_gradient_that_is_not_finite_is_skipped_and_said(outer):
    learner, supports, query, before = step_of(outer)
    query = query._replace(advantage=query.advantage * float("nan"))
    assert learner.outer.step(supports, query)["train/skipped"] == 1
    assert all(torch.equal(a, b) for a, b in zip(tree_leaves(learner.meta), before, strict=True))


def test_one_step_of_adam_moves_every_parameter_by_its_learning_rate():
    outer = AdamConfig(learning_rate=0.01, step_size_learning_rate=0.5)
    learner, supports, query, before = step_of(outer)
    _, gradient = learner.inner.meta_gradient(learner.meta, supports, query)
    learner.outer.step(supports, query)
    rates = [0.01] * len(learner.meta.theta) + [0.5] * len(learner.meta.rule)
    after, gradients = tree_leaves(learner.meta), tree_leaves(gradient)
    for a, b, g, rate in zip(after, before, gradients, rates, strict=True):
        large = g.abs() > 1e-5
        expected = b - rate * g.sign()
        torch.testing.assert_close(a[large], expected[large], rtol=1e-3, atol=1e-5)


def test_adam_scales_a_long_gradient_down():
    outer = AdamConfig(max_grad_norm=1e-3)
    learner, supports, query, _ = step_of(outer)
    metrics = learner.outer.step(supports, query)
    clipped = torch.stack([leaf.grad.norm() for leaf in tree_leaves(learner.meta)]).norm()
    assert metrics["train/grad_norm"] > 1e-3
    assert clipped == pytest.approx(1e-3, rel=1e-3)


def test_curvature_on_a_fraction_of_episodes_keeps_gradient_and_loss():
    whole, *batches, _ = step_of(TRPOConfig(curvature_fraction=1.0))
    part, *_ = step_of(TRPOConfig(curvature_fraction=0.5))
    metrics = [learner.outer.step(*batches) for learner in (whole, part)]
    assert metrics[0]["train/outer_loss"] == metrics[1]["train/outer_loss"]
    assert metrics[0]["train/grad_norm_theta"] == metrics[1]["train/grad_norm_theta"]
    assert metrics[0]["train/kl"] != metrics[1]["train/kl"]


def test_the_line_search_judges_the_whole_outer_loss_exploration_too():
    learner, supports, query, _ = step_of(estimator="log-likelihood", exploration=0.5)
    metrics = learner.outer.step(supports, query)
    assert metrics["train/accepted"] == 1
    after = learner.inner.outer_losses(learner.meta, supports, query).mean()
    fell = metrics["train/outer_loss"] - float(after)
    assert fell == pytest.approx(metrics["train/improvement"], rel=1e-4)
    without = dataclasses.replace(learner.inner, exploration_loss=None)
    other = without.outer_losses(learner.meta, supports, query).mean()
    assert not torch.allclose(after, other)


def test_without_supports_there_is_no_exploration_to_credit():
    learner, _, query, _ = step_of(estimator="log-likelihood", exploration=0.5)
    without = dataclasses.replace(learner.inner, exploration_loss=None)
    both = (part.outer_losses(learner.meta, [], query) for part in (learner.inner, without))
    assert torch.equal(*both)


def test_the_gradient_and_the_line_search_are_of_one_loss(monkeypatch):
    monkeypatch.setattr(Reinforcement, "loss", lambda *_: torch.tensor(torch.nan))
    learner, supports, query, _ = step_of()
    metrics = learner.outer.step(supports, query)
    loss, _ = learner.outer._loss_and_kl(learner.meta, supports, query)
    fell = metrics["train/outer_loss"] - loss
    assert fell == pytest.approx(metrics["train/improvement"], rel=1e-4)
