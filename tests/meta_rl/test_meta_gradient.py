"""Meta-gradients and curvature through the real objectives, on recorded data, in float64."""

import dataclasses
import itertools

import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map

import meta_rl
from meta_rl.config import InnerConfig, NetworkConfig, SpeedConfig
from meta_rl.inner.adaptation import adapt_to_tasks
from meta_rl.inner.core import InnerLoop
from meta_rl.inner.rules import GradientDescent
from meta_rl.outer.curvature import KLCurvature
from meta_rl.tasks import num_tasks, over_tasks, unflatten_like

pytestmark = pytest.mark.usefixtures("short_episodes")

FORMS = list(itertools.product(["scalar", "tensor", "parameter"], [False, True]))


def recorded(name, steps=2, context=0, data=None, **inner_options):
    """A float64 learner and the batches one meta-iteration of it would record."""
    config = meta_rl.PRESETS[name]
    config = dataclasses.replace(
        config,
        inner=InnerConfig(steps=steps, **{"step_size": 0.1, **inner_options}),
        network=NetworkConfig(hidden=(5,), context=context),
        speed=SpeedConfig(),
    )
    if name != "sinusoid":
        data = dataclasses.replace(config.data, tasks=3, episodes=2, **(data or {}))
        config = dataclasses.replace(config, data=data)
    learner = meta_rl.build(config)
    tasks = learner.problem.sample_tasks(3, 0)
    batches = adapt_to_tasks(learner.problem, learner.inner, learner.meta, tasks, steps, 0).batches
    meta, batches = (tree_map(to_double, value) for value in (learner.meta, batches))
    return learner, meta, batches


def to_double(leaf):
    return leaf.double() if leaf.is_floating_point() else leaf


def assert_equals_finite_differences(inner, meta, supports, query, epsilon=1e-6, entries=8):
    """Entries of every tensor of theta and the rule, by central differences of the outer loss."""
    _, gradient = inner.meta_gradient(meta, supports, query)
    leaves = tree_leaves(meta)
    for position, (leaf, exact) in enumerate(zip(leaves, tree_leaves(gradient), strict=True)):
        for index in itertools.islice(itertools.product(*map(range, leaf.shape)), entries):
            losses = []
            for sign in (1, -1):
                moved = leaf.clone()
                moved[index] += sign * epsilon
                point = unflatten_like(meta, [*leaves[:position], moved, *leaves[position + 1 :]])
                losses.append(inner.outer_losses(point, supports, query).mean())
            estimate = (losses[0] - losses[1]) / (2 * epsilon)
            torch.testing.assert_close(exact[index], estimate, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["navigation-2d", "cartpole", "sinusoid"])
@pytest.mark.parametrize("steps", [1, 3])
def test_the_meta_gradient_of_every_objective_equals_finite_differences(name, steps):
    learner, meta, (*supports, query) = recorded(name, steps)
    assert_equals_finite_differences(learner.inner, meta, supports, query)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize(
    ("estimator", "exploration"), [("dice", 0.0), ("log-likelihood", 0.0), ("log-likelihood", 0.7)]
)
def test_so_does_that_of_every_estimator_and_of_exploration(estimator, exploration, steps):
    data = {"estimator": estimator, "exploration": exploration}
    learner, meta, (*supports, query) = recorded("cartpole", steps, data=data, form="tensor")
    assert_equals_finite_differences(learner.inner, meta, supports, query)


@pytest.mark.parametrize("tasks_at_once", [1, 2])
def test_exploration_does_not_depend_on_how_tasks_are_walked(tasks_at_once):
    data = {"estimator": "log-likelihood", "exploration": 0.7}
    learner, meta, (*supports, query) = recorded("cartpole", 2, data=data)
    walked = dataclasses.replace(learner.inner, tasks_at_once=tasks_at_once)
    expected = learner.inner.meta_gradient(meta, supports, query)
    torch.testing.assert_close(walked.meta_gradient(meta, supports, query), expected)
    without = dataclasses.replace(learner.inner, exploration_loss=None)
    theta = without.meta_gradient(meta, supports, query)[1].theta
    assert not torch.allclose(theta["logits.0.weight"], expected[1].theta["logits.0.weight"])


@pytest.mark.parametrize(("form", "per_step"), FORMS)
def test_every_step_size_form_gets_its_true_gradient_through_the_rl_loss(form, per_step):
    learner, meta, (*supports, query) = recorded("navigation-2d", form=form, per_step=per_step)
    assert_equals_finite_differences(learner.inner, meta, supports, query)


@pytest.mark.parametrize("positive", ["softplus", "none"])
def test_every_positivity_choice_gets_its_true_gradient(positive):
    learner, meta, (*supports, query) = recorded("navigation-2d", positive=positive)
    assert_equals_finite_differences(learner.inner, meta, supports, query)


def test_first_order_differs_from_the_true_gradient_in_theta_but_not_in_the_last_step_size():
    learner, meta, (*supports, query) = recorded("navigation-2d", steps=1)
    first = dataclasses.replace(learner.inner, first_order=True)
    _, exact = learner.inner.meta_gradient(meta, supports, query)
    _, approximate = first.meta_gradient(meta, supports, query)
    assert not torch.allclose(exact.theta["mean.0.weight"], approximate.theta["mean.0.weight"])
    torch.testing.assert_close(exact.rule["step_size"], approximate.rule["step_size"])


def test_the_inner_hessian_keeps_the_term_that_log_likelihood_loses():
    """E[grad log pi grad log pi^T A] must be in the Hessian: compare with both written out."""
    learner, meta, (support, _) = recorded("cartpole", steps=1)
    problem, episodes = learner.problem, tree_map(lambda leaf: leaf[0], support)
    names, leaves = zip(*meta.theta.items(), strict=True)
    count = episodes.mask.sum()

    def log_likelihood_loss(*values):
        policy = problem.distribution(dict(zip(names, values, strict=True)), episodes)
        return -(policy.log_prob(episodes.action) * episodes.advantage).sum() / count

    def ratio_loss(*values):
        return problem.loss(dict(zip(names, values, strict=True)), episodes)

    def flat_hessian(loss):
        blocks = torch.autograd.functional.hessian(loss, leaves)
        rows = [[b.reshape(leaves[i].numel(), -1) for b in row] for i, row in enumerate(blocks)]
        return torch.cat([torch.cat(row, 1) for row in rows])

    def log_probs(*values):
        policy = problem.distribution(dict(zip(names, values, strict=True)), episodes)
        return policy.log_prob(episodes.action).flatten()

    jacobian = torch.autograd.functional.jacobian(log_probs, leaves)
    scores = torch.cat([block.flatten(1) for block in jacobian], 1)
    lost = -(scores.mT * episodes.advantage.flatten()) @ scores / count
    difference = flat_hessian(ratio_loss) - flat_hessian(log_likelihood_loss)
    torch.testing.assert_close(difference, lost, rtol=1e-5, atol=1e-6)
    assert lost.abs().max() > 1e-3


@pytest.mark.parametrize("name", ["navigation-2d", "cartpole"])
@pytest.mark.parametrize("steps", [1, 3])
def test_the_curvature_product_equals_double_backward_through_the_kl(name, steps):
    learner, meta, batches = recorded(name, steps, form="tensor", per_step=True)
    assert_the_curvature_equals_double_backward(learner, meta, batches)


def assert_the_curvature_equals_double_backward(learner, meta, batches):
    problem, inner = learner.problem, learner.inner
    *supports, query = batches
    # The stored behaviour is that of the current point, in float64 as everything else.
    phi = inner.adapt(meta, supports, num_tasks(query))
    stored = over_tasks(problem.distribution, (0, 0), None)(phi, query)
    query = query._replace(behaviour=tree_map(torch.Tensor.detach, stored))
    leaves = [leaf.detach().requires_grad_() for leaf in tree_leaves(meta)]

    def task_kl(params, episodes):
        kl = episodes.behaviour.kl(problem.distribution(params, episodes))
        return (kl * episodes.mask).sum() / episodes.mask.sum()

    adapted = inner.adapt(unflatten_like(meta, leaves), supports, num_tasks(query))
    kl = over_tasks(task_kl, (0, 0), None)(adapted, query).mean()
    gradient = torch.autograd.grad(kl, leaves, create_graph=True)
    generator = torch.Generator().manual_seed(0)
    vector = [torch.randn(v.shape, generator=generator, dtype=v.dtype) for v in leaves]
    dot = sum((g * v).sum() for g, v in zip(gradient, vector, strict=True))
    expected = torch.autograd.grad(dot, leaves)

    product = KLCurvature(inner, problem.distribution, meta, supports, query)(vector)
    assert max(p.abs().max() for p in product) > 1e-3
    for ours, theirs in zip(product, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


def test_sampling_parameters_equal_those_replayed_from_the_recorded_data():
    learner, _, _ = recorded("navigation-2d", steps=3)
    tasks = learner.problem.sample_tasks(3, 7)
    batches = adapt_to_tasks(learner.problem, learner.inner, learner.meta, tasks, 3, 7).batches
    for k, batch in enumerate(batches):
        phi = learner.inner.adapt(learner.meta, batches[:k], 3)
        policy = over_tasks(learner.problem.distribution, (0, 0), None)(phi, batch)
        torch.testing.assert_close(policy.mean, batch.behaviour.mean, rtol=0, atol=1e-5)


def test_a_rule_and_loss_of_ones_own_use_the_same_loop():
    inner = InnerLoop(
        loss=lambda params, batch: ((params["x"] - batch) ** 2).sum(),
        rule=GradientDescent(InnerConfig(step_size=0.5, learn_step_size=False)),
    )
    from meta_rl.types import MetaParameters

    phi = inner.adapt(MetaParameters({"x": torch.zeros(2)}, {}), [torch.tensor([[1.0, 2.0]])], 1)
    assert torch.equal(phi["x"], torch.tensor([[1.0, 2.0]]))
