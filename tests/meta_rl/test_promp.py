"""ProMP: its gradient by double backward, the clip, the KL penalty and its coefficient."""

import dataclasses

import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map

import meta_rl
from meta_rl import seeds
from meta_rl.config import InnerConfig, NetworkConfig, ProMPConfig
from meta_rl.inner.adaptation import adapt_to_tasks
from meta_rl.outer.promp import RANGE, ProMP, adapt_coefficient, clipped_surrogate
from meta_rl.tasks import select, unflatten_like
from meta_rl.types import Episodes


def recorded(steps=1, name="navigation-2d", outer=None, **inner):
    """ProMP in float64, at the parameters that sampled the batches which come with it."""
    config = meta_rl.PRESETS[name]
    config = dataclasses.replace(
        config,
        inner=InnerConfig(steps=steps, step_size=0.1, **inner),
        outer=outer or ProMPConfig(kl_coefficient=0.5),
        data=dataclasses.replace(config.data, tasks=3, episodes=3),
        network=NetworkConfig(hidden=(5,)),
    )
    learner = meta_rl.build(config)
    learner.problem.policy.double()
    learner.problem.dtype = torch.float64
    meta = tree_map(torch.Tensor.double, learner.meta)
    promp = ProMP(config.outer, learner.inner, meta, learner.problem.distribution, steps)
    tasks = learner.problem.sample_tasks(3, 0)
    *supports, query = adapt_to_tasks(learner.problem, learner.inner, meta, tasks, steps, 0).batches
    return promp, supports, query


def move(promp, size, seed=0):
    """Away from the sampling parameters, so that ratios differ from one."""
    generator = torch.Generator().manual_seed(seed)
    for leaf in tree_leaves(promp.meta):
        leaf += size * torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype)


def by_double_backward(promp, supports, query, alpha):
    """Loss and gradient of a plain loop over tasks, written from the paper and nothing else.

    Args:
        alpha: (rule tensors, k, name) -> step size.
    """
    theta, rule = (
        {n: v.detach().clone().requires_grad_() for n, v in part.items()} for part in promp.meta
    )
    clip, eta = promp.config.clip, promp.config.kl_coefficient
    total, clipped, steps = torch.zeros((), dtype=torch.float64), 0, 0
    for m in range(query.mask.shape[0]):
        phi, penalty = theta, torch.zeros((), dtype=torch.float64)
        for k, episodes in enumerate(select(batch, m) for batch in supports):
            policy, real = promp.distribution(phi, episodes), episodes.mask.bool()
            ratio = (policy.log_prob(episodes.action) - episodes.log_prob)[real].exp()
            inner_loss = -(ratio * episodes.advantage[real]).mean()
            penalty = penalty + eta * episodes.behaviour.kl(policy)[real].mean() / len(supports)
            gradients = torch.autograd.grad(inner_loss, list(phi.values()), create_graph=True)
            phi = {
                name: value - alpha(rule, k, name) * gradient
                for (name, value), gradient in zip(phi.items(), gradients, strict=True)
            }
        episodes = select(query, m)
        policy, real = promp.distribution(phi, episodes), episodes.mask.bool()
        ratio = (policy.log_prob(episodes.action) - episodes.log_prob)[real].exp()
        advantage = episodes.advantage[real]
        too_good = ((advantage > 0) & (ratio > 1 + clip)) | ((advantage < 0) & (ratio < 1 - clip))
        bound = 1 + clip * advantage.sign()
        gain = torch.where(too_good, bound, ratio) * advantage
        total = total - gain.mean() + penalty
        clipped, steps = clipped + int(too_good.sum()), steps + len(ratio)
    total = total / query.mask.shape[0]
    leaves = [*theta.values(), *rule.values()]
    return total.detach(), torch.autograd.grad(total, leaves), clipped / steps


@pytest.mark.parametrize("moved", [0.0, 0.2])
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("name", ["navigation-2d", "cartpole"])
def test_the_gradient_of_an_epoch_equals_double_backward_over_a_loop_of_tasks(name, steps, moved):
    promp, supports, query = recorded(steps, name)
    move(promp, moved)
    loss, gradient = promp.inner.meta_gradient(promp.meta, supports, query, promp._part)
    expected_loss, expected, clipped = by_double_backward(
        promp, supports, query, lambda rule, k, name: rule["step_size"].exp()
    )
    assert (clipped > 0.02) == (moved > 0)
    torch.testing.assert_close(loss, expected_loss, rtol=1e-10, atol=1e-12)
    for ours, theirs in zip(tree_leaves(gradient), expected, strict=True):
        assert theirs.abs().max() > 1e-6
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_step_sizes_per_step_and_tensor_get_that_gradient_too():
    promp, supports, query = recorded(2, form="tensor", per_step=True)
    move(promp, 0.1)
    _, gradient = promp.inner.meta_gradient(promp.meta, supports, query, promp._part)
    _, expected, _ = by_double_backward(
        promp, supports, query, lambda rule, k, name: rule[f"step_size.{name}"][k].exp()
    )
    for ours, theirs in zip(tree_leaves(gradient), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_at_the_sampling_parameters_without_penalty_it_is_the_gradient_of_maml():
    """Ratios are one there, so that nothing is clipped and the KL has no gradient."""
    promp, supports, query = recorded(2)
    _, gradient = promp.inner.meta_gradient(promp.meta, supports, query, promp._part)
    _, plain = promp.inner.meta_gradient(promp.meta, supports, query)
    torch.testing.assert_close(gradient, plain, rtol=1e-8, atol=1e-10)


def test_recorded_epochs_see_a_coefficient_that_moved():
    plain, supports, query = recorded(2)
    move(plain, 0.1)
    inner = dataclasses.replace(plain.inner, program="recorded")
    promp = ProMP(plain.config, inner, plain.meta, plain.distribution, 2)
    for eta in (0.5, 2.0):
        for one in (plain, promp):
            one.kl_coefficient.fill_(eta)
        given = plain.meta, supports, query
        expected = plain.inner.meta_gradient(*given, plain._part)
        assert torch.equal(promp.inner.meta_gradient(*given, promp._part)[0], expected[0])
        assert torch.equal(promp.measure(supports, query).loss, plain.measure(supports, query).loss)


@pytest.mark.parametrize("tasks_at_once", [1, 2])
def test_chunks_of_tasks_equal_all_at_once(tasks_at_once):
    promp, supports, query = recorded(2)
    move(promp, 0.1)
    loss, gradient = promp.inner.meta_gradient(promp.meta, supports, query, promp._part)
    measures = promp.measure(supports, query)
    promp.inner = dataclasses.replace(promp.inner, tasks_at_once=tasks_at_once)
    walked, other = promp.inner.meta_gradient(promp.meta, supports, query, promp._part)
    torch.testing.assert_close(loss, walked)
    torch.testing.assert_close(gradient, other)
    torch.testing.assert_close(measures, promp.measure(supports, query))
    assert measures.inner_kls.shape == (3, 2)


def test_the_path_ends_where_adapting_ends():
    promp, supports, _ = recorded(3)
    path = promp.inner.path(promp.meta, supports, 3)
    assert len(path) == 4
    for k, phi in enumerate(path):
        replayed = promp.inner.adapt(promp.meta, supports[:k], 3)
        assert all(torch.equal(phi[name], replayed[name]) for name in phi)


def test_the_clip_on_literal_numbers():
    """Ratios 2, 0.5, 1.2 with A = 1, -1, 1 and clip 0.3; the fourth step is padding."""
    ratio = torch.tensor([[2.0, 0.5, 1.2, 9.0]])
    log_prob = ratio.log().requires_grad_()
    episodes = Episodes(
        obs=torch.zeros(1, 4, 1),
        action=torch.zeros(1, 4),
        reward=torch.zeros(1, 4),
        mask=torch.tensor([[1.0, 1.0, 1.0, 0.0]]),
        log_prob=torch.zeros(1, 4),
        behaviour=None,
        advantage=torch.tensor([[1.0, -1.0, 1.0, 0.0]]),
        credit=torch.zeros(1),
        success=torch.zeros(1),
    )
    loss, fraction = clipped_surrogate(log_prob, episodes, 0.3)
    assert loss.item() == pytest.approx(-(1.3 - 0.7 + 1.2) / 3)
    assert fraction.item() == pytest.approx(2 / 3)
    (gradient,) = torch.autograd.grad(loss, log_prob)
    torch.testing.assert_close(gradient, torch.tensor([[0.0, 0.0, -1.2 / 3, 0.0]]))
    # On the side that hurts, the ratio counts in full.
    hurt, _ = clipped_surrogate(log_prob, episodes._replace(advantage=-episodes.advantage), 0.3)
    assert hurt.item() == pytest.approx((2.0 - 0.5 + 1.2) / 3)


def test_the_penalty_is_zero_where_the_data_were_sampled_and_grows_beyond():
    promp, supports, query = recorded(2)
    here = promp.measure(supports, query)
    torch.testing.assert_close(here.inner_kls, torch.zeros(3, 2, dtype=torch.float64))
    move(promp, 0.1)
    assert (promp.measure(supports, query).inner_kls > 1e-4).all()


def test_the_gradient_of_the_penalty_equals_finite_differences():
    promp, supports, query = recorded(2)
    move(promp, 0.1)
    # Without advantages on the query, the penalty is all that is left of the objective.
    query = query._replace(advantage=torch.zeros_like(query.advantage))
    _, gradient = promp.inner.meta_gradient(promp.meta, supports, query, promp._part)
    leaves, epsilon = tree_leaves(promp.meta), 1e-6
    for i, exact in enumerate(tree_leaves(gradient)):
        direction, losses = torch.ones_like(exact), []
        for sign in (1, -1):
            moved = [leaf.clone() for leaf in leaves]
            moved[i] += sign * epsilon * direction
            point = unflatten_like(promp.meta, moved)
            path = promp.inner.outer_losses(point, supports, query, promp.objective)
            losses.append(path.mean())
        estimate = (losses[0] - losses[1]) / (2 * epsilon)
        assert estimate.abs() > 1e-5
        torch.testing.assert_close(exact.sum(), estimate, rtol=1e-5, atol=1e-8)


def test_the_coefficient_doubles_and_halves_on_literal_numbers():
    eta, kl = torch.full((4,), 0.5), torch.tensor([0.0151, 0.0149, 0.0067, 0.0066])
    expected = torch.tensor([1.0, 0.5, 0.5, 0.25])
    assert torch.equal(adapt_coefficient(eta, kl, 0.01), expected)


@pytest.mark.parametrize(("target", "factor"), [(1e9, 0.5), (1e-9, 2.0)])
def test_each_step_moves_an_adaptive_coefficient_and_tells_the_one_it_used(target, factor):
    promp, supports, query = recorded(2, outer=ProMPConfig(kl_coefficient=0.25, kl_target=target))
    assert promp.step(supports, query)["train/kl_coefficient"] == 0.25
    assert promp.kl_coefficient.tolist() == [0.25 * factor] * 2
    promp.kl_coefficient.fill_(0.25 * (RANGE if factor > 1 else 1 / RANGE))
    promp.step(supports, query)
    assert promp.kl_coefficient.tolist() == [0.25 * (RANGE if factor > 1 else 1 / RANGE)] * 2


def test_several_epochs_lower_the_objective_further_than_one():
    falls = []
    for epochs in (1, 5):
        promp, supports, query = recorded(1, outer=ProMPConfig(epochs=epochs, learning_rate=0.01))
        metrics = promp.step(supports, query)
        falls.append(float(metrics["train/outer_loss"] - metrics["train/outer_loss_after"]))
    assert 0 < 2 * falls[0] < falls[1]
    assert metrics["train/kl"] > 0
    assert metrics["train/kl_inner"] > 0


def test_a_larger_coefficient_keeps_the_inner_policies_nearer():
    kls = []
    for eta in (0.0, 10.0):
        outer = ProMPConfig(kl_coefficient=eta, learning_rate=0.01)
        promp, supports, query = recorded(1, outer=outer)
        kls.append(float(promp.step(supports, query)["train/kl_inner"]))
    assert kls[1] < 0.7 * kls[0]


def test_navigation_pays_to_adapt_after_a_few_iterations():
    config = meta_rl.PRESETS["navigation-2d"]
    config = dataclasses.replace(
        config,
        outer=ProMPConfig(learning_rate=0.01, step_size_learning_rate=0.05),
        data=dataclasses.replace(config.data, tasks=10, episodes=10),
    )
    learner = meta_rl.build(config)
    tasks = learner.problem.sample_tasks(20, seeds.derive(99, seeds.EVALUATION))
    before = learner.evaluate(tasks, 1, seed=1).mean(1)
    after = learner.learn(8).evaluate(tasks, 1, seed=1).mean(1)
    assert after[1] > before[1] + 5
    assert after[1] > after[0] + 5
