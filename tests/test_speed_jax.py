"""The JAX programs that iterations are timed against do the same work; without JAX, skipped."""

import dataclasses
from functools import partial

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_leaves

import meta_rl
from benchmarks.speed.agreement import moved
from benchmarks.speed.navigation import fixed
from benchmarks.speed.programs import of_program
from meta_rl.inner.adaptation import adapt_to_tasks
from meta_rl.problems import returns
from tests.extras import needs

jax = needs("optax", "jax")

TOLERANCE = 1e-10  # relative; both sides compute in float64


@pytest.fixture
def double():
    """Compute in float64: in float32 a rounding can move a unit over the kink of a ReLU.

    Compile fast programs less, and soon.
    """
    options = "jax_enable_x64", "jax_disable_most_optimizations"
    for option in options:
        jax.config.update(option, True)
    yield
    for option in options:
        jax.config.update(option, False)


def in_double(config):
    """A learner, meta-parameters and batches of a config, in float64."""
    learner = meta_rl.build(of_program(config, "plain"))
    problem, meta, steps = learner.problem, learner.meta, config.inner.steps
    tasks = problem.sample_tasks(config.data.tasks, 0)
    batches = adapt_to_tasks(problem, learner.inner, meta, tasks, steps, 0).batches
    return learner, *moved((meta, batches), "cpu", torch.float64)


def error(found, exact):
    """The relative distance of JAX's arrays from tensors of ours."""
    one = torch.cat([torch.tensor(np.array(leaf)).flatten() for leaf in found])
    other = torch.cat([leaf.detach().flatten() for leaf in exact])
    assert one.dtype == other.dtype == torch.float64
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("steps", [1, 5])
def test_jax_has_our_meta_gradient_of_the_sinusoid(steps, first_order, double):
    from benchmarks.speed import jax_networks, jax_sinusoid

    preset = meta_rl.PRESETS["sinusoid"]
    inner = dataclasses.replace(
        preset.inner, steps=steps, learn_step_size=False, first_order=first_order
    )
    learner, meta, batches = in_double(dataclasses.replace(preset, inner=inner))
    *supports, query = batches
    loss, gradient = learner.inner.meta_gradient(meta, supports, query)
    batch = jax_sinusoid.Batch(*map(jax_networks.array, (*supports[0], *query)))

    function = jax.jit(jax_sinusoid.meta_gradient(steps, 0.01, first_order))
    theirs, layers = function(jax_networks.layers_of(meta.theta), batch)
    found = [part for weight, bias in layers for part in (weight.T, bias)]
    assert float(theirs) == pytest.approx(float(loss), rel=TOLERANCE)
    assert error(found, tree_leaves(gradient)) < TOLERANCE
    other = dataclasses.replace(learner.inner, first_order=not first_order)
    _, wrong = other.meta_gradient(meta, supports, query)
    assert error(found, tree_leaves(wrong)) > 1e-3


@pytest.mark.slow
def test_jax_has_our_gradient_curvature_and_line_search_of_navigation(double):
    from benchmarks.speed import jax_navigation, jax_networks, jax_trpo

    config = fixed(0.25, 7)
    data = dataclasses.replace(config.data, tasks=3, episodes=4)
    learner, meta, (support, query) = in_double(dataclasses.replace(config, data=data))
    # Elsewhere than the policy that sampled: ratios are not 1, and the KL is not 0.
    meta.theta["log_std"].add_(0.1)
    outer = learner.outer
    outer.meta = meta
    start = jax_navigation.initial(meta).meta

    def theirs(episodes):
        given = (getattr(episodes, name) for name in jax_trpo.Episodes._fields[:5])
        return jax_trpo.Episodes(*map(jax_networks.array, (*given, *episodes.behaviour)))

    def leaves(tree):
        weights = [part for w, b in tree.theta.layers for part in (w.T, b)]
        return [tree.theta.log_std, *weights, tree.log_alpha]

    given = map(jax_networks.array, (support.obs, support.reward, support.mask))
    advantages = jax.vmap(partial(jax_navigation.advantages, config=data))
    raw = learner.problem.advantages.raw(support)
    togo = returns.discounted_returns(support.reward, support.mask, data.gamma)
    assert error([advantages(*given)], [returns.normalize(raw, support.mask, togo)]) < 1e-6

    batches = theirs(support), theirs(query)
    loss, gradient = outer.inner.meta_gradient(meta, [support], query)
    value, found = jax.jit(jax.value_and_grad(jax_trpo.outer_loss))(start, *batches)
    assert float(value) == pytest.approx(float(loss), rel=TOLERANCE)
    assert error(leaves(found), tree_leaves(gradient)) < TOLERANCE

    trial = jax.jit(jax_trpo.loss_and_kl)(start, *batches)
    exact = outer._loss_and_kl(meta, [support], query)
    assert [*map(float, trial)] == pytest.approx([*exact], rel=TOLERANCE)

    flat, unflatten = jax.flatten_util.ravel_pytree(found)
    curved = jax.jit(jax_trpo.curvature(start, *batches, config.outer))(flat)
    product = outer._curvature([support], query)
    assert error(leaves(unflatten(curved)), product(tree_leaves(gradient))) < TOLERANCE


@pytest.mark.slow
def test_jax_learns_navigation_as_we_do():
    from benchmarks.speed import jax_navigation

    config = fixed(0.25, 7)
    iterate = jax.jit(jax_navigation.iteration(config.data, config.outer))
    state = jax_navigation.initial(meta_rl.build(config).meta)
    after = []
    for _ in range(12):
        state, metrics = iterate(state)
        after.append(float(metrics["post"]))
    assert after[0] < -25
    assert after[-1] > -20
