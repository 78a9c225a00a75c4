"""Meta-gradients against closed forms: quadratic tasks in float64."""

import dataclasses

import pytest
import torch
from torch.utils._pytree import tree_leaves

from meta_rl.config import InnerConfig
from meta_rl.inner.core import InnerLoop
from meta_rl.inner.rules import GradientDescent
from meta_rl.types import MetaParameters

M, D, ALPHA = 5, 4, 0.1


def quadratic(params, batch):
    """0.5 (x - c)^T A (x - c), whose gradient is A (x - c)."""
    matrix, centre = batch
    offset = params["x"] - centre
    return 0.5 * offset @ matrix @ offset


def tasks(seed):
    g = torch.Generator().manual_seed(seed)
    root = torch.randn(M, D, D, generator=g, dtype=torch.float64)
    return root @ root.mT / D, torch.randn(M, D, generator=g, dtype=torch.float64)


def make(steps, **options):
    config = InnerConfig(steps=steps, step_size=ALPHA, **options)
    rule = GradientDescent(config)
    theta = {"x": torch.linspace(-1, 1, D, dtype=torch.float64)}
    inner = InnerLoop(
        loss=quadratic,
        rule=rule,
        first_order=config.first_order,
    )
    return inner, MetaParameters(theta, rule.init(theta))


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("first_order", [False, True])
def test_meta_gradient_equals_the_closed_form(steps, first_order):
    inner, meta = make(steps, positive="none", first_order=first_order)
    supports, query = [tasks(k) for k in range(steps)], tasks(99)
    loss, gradient = inner.meta_gradient(meta, supports, query)

    phi = meta.theta["x"].expand(M, D)
    jacobian = torch.eye(D, dtype=torch.float64).expand(M, D, D)
    in_alpha = torch.zeros(M, D, dtype=torch.float64)
    for matrix, centre in supports:
        inner_gradient = (matrix @ (phi - centre).unsqueeze(-1)).squeeze(-1)
        if not first_order:
            shrink = torch.eye(D, dtype=torch.float64) - ALPHA * matrix
            jacobian = shrink @ jacobian
            in_alpha = (shrink @ in_alpha.unsqueeze(-1)).squeeze(-1)
        in_alpha = in_alpha - inner_gradient
        phi = phi - ALPHA * inner_gradient
    matrix, centre = query
    outer = (matrix @ (phi - centre).unsqueeze(-1)).squeeze(-1)
    expected = (jacobian.mT @ outer.unsqueeze(-1)).squeeze(-1).mean(0)
    torch.testing.assert_close(gradient.theta["x"], expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient.rule["step_size"], (in_alpha * outer).sum(1).mean())
    expected_loss = 0.5 * (outer * (phi - centre)).sum(1).mean()
    torch.testing.assert_close(loss, expected_loss)


@pytest.mark.parametrize("tasks_at_once", [1, 2, 4])
def test_every_way_to_walk_the_tasks_gives_the_same_gradient(tasks_at_once):
    inner, meta = make(2, form="parameter", per_step=True)
    supports, query = [tasks(0), tasks(1)], tasks(2)
    walked = dataclasses.replace(inner, tasks_at_once=tasks_at_once)
    loss, gradient = inner.meta_gradient(meta, supports, query)
    other_loss, other_gradient = walked.meta_gradient(meta, supports, query)
    torch.testing.assert_close(loss, other_loss)
    for one, other in zip(tree_leaves(gradient), tree_leaves(other_gradient), strict=True):
        torch.testing.assert_close(one, other)
    phi, other_phi = inner.adapt(meta, supports, M), walked.adapt(meta, supports, M)
    torch.testing.assert_close(phi, other_phi)


def test_the_order_of_tasks_does_not_matter():
    inner, meta = make(2)
    batches = [tasks(0), tasks(1), tasks(2)]
    order = torch.tensor([3, 0, 4, 2, 1])
    shuffled = [(matrix[order], centre[order]) for matrix, centre in batches]
    _, gradient = inner.meta_gradient(meta, batches[:-1], batches[-1])
    _, other = inner.meta_gradient(meta, shuffled[:-1], shuffled[-1])
    torch.testing.assert_close(gradient, other)


def test_adapting_without_support_is_theta_for_every_task():
    inner, meta = make(1)
    phi = inner.adapt(meta, [], M)
    assert phi["x"].shape == (M, D)
    assert torch.equal(phi["x"][2], meta.theta["x"])


def test_fixed_step_sizes_are_not_learned():
    inner, meta = make(1, learn_step_size=False)
    _, gradient = inner.meta_gradient(meta, [tasks(0)], tasks(1))
    assert meta.rule == {}
    assert gradient.rule == {}
    assert torch.isfinite(gradient.theta["x"]).all()
