"""The sampler and the objective on ragged episodes: padding counts for nothing."""

import dataclasses

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

import meta_rl
from meta_rl.errors import DivergedError, InputError, NotFiniteError
from meta_rl.inner.adaptation import adapt_to_tasks
from meta_rl.problems import rollouts
from meta_rl.tasks import expand

pytestmark = pytest.mark.usefixtures("short_episodes")


def cartpole(episodes=5):
    config = meta_rl.PRESETS["cartpole"]
    data = dataclasses.replace(config.data, tasks=3, episodes=episodes)
    return meta_rl.build(dataclasses.replace(config, data=data))


def recorded(learner, steps=1, seed=0):
    tasks = learner.problem.sample_tasks(3, seed)
    return adapt_to_tasks(learner.problem, learner.inner, learner.meta, tasks, steps, seed).batches


def test_episodes_end_where_the_environment_says_and_are_masked_after():
    batch = recorded(cartpole())[0]
    lengths = batch.mask.sum(-1)
    assert lengths.min() < lengths.max()
    assert torch.equal(batch.mask, batch.mask.sort(-1, descending=True).values)
    assert torch.equal(batch.reward, batch.mask)
    assert (batch.advantage[batch.mask == 0] == 0).all()


def test_what_a_reward_is_after_the_end_of_an_episode_does_not_matter(monkeypatch):
    learner, kept = cartpole(), recorded(cartpole())[0]
    advance = type(learner.problem.family).tensor_env.advance

    def endless(self, action):
        over = self.over if self._time > 1 else torch.zeros(self.rows, dtype=torch.bool)
        reward, terminated = advance(self, action)
        self.over = over | terminated
        return reward.masked_fill(over, torch.inf), terminated

    monkeypatch.setattr(type(learner.problem.family).tensor_env, "advance", endless)
    assert torch.equal(recorded(learner)[0].reward, kept.reward)


def test_the_loss_is_the_one_without_padding():
    learner = cartpole()
    one = tree_map(lambda leaf: leaf[1], recorded(learner)[0])
    policy = learner.problem.distribution(learner.meta.theta, one)
    real = one.mask > 0
    ratio = torch.exp(policy.log_prob(one.action) - one.log_prob)
    expected = -(ratio * one.advantage)[real].mean()
    torch.testing.assert_close(learner.problem.loss(learner.meta.theta, one), expected)


def test_what_stands_in_the_padding_changes_neither_loss_nor_gradient():
    learner = cartpole()
    *supports, query = recorded(learner)
    wild = [
        b._replace(obs=torch.where(b.mask[..., None] > 0, b.obs, torch.tensor(1e4)))
        for b in (*supports, query)
    ]
    # Away from the sampling parameters, where ratios are not one.
    for leaf in learner.meta.theta.values():
        leaf.add_(0.1 * torch.randn(leaf.shape, generator=torch.Generator().manual_seed(1)))
    loss, gradient = learner.inner.meta_gradient(learner.meta, supports, query)
    other_loss, other = learner.inner.meta_gradient(learner.meta, wild[:-1], wild[-1])
    torch.testing.assert_close(loss, other_loss)
    torch.testing.assert_close(gradient, other)


def test_advantages_have_zero_mean_and_unit_variance_per_task():
    batch = recorded(cartpole())[0]
    for advantage, mask in zip(batch.advantage, batch.mask, strict=True):
        real = advantage[mask > 0]
        torch.testing.assert_close(real.mean(), torch.tensor(0.0), atol=1e-5, rtol=0)
        torch.testing.assert_close(real.std(correction=0), torch.tensor(1.0), rtol=1e-3, atol=0)


def test_every_inner_step_samples_anew_and_every_seed_differs():
    learner = cartpole()
    first, second = recorded(learner)
    assert not torch.equal(first.obs[:, :, 0], second.obs[:, :, 0])
    assert not torch.equal(first.obs[:, :, 0], recorded(learner, seed=1)[0].obs[:, :, 0])


def test_stored_log_probabilities_are_those_of_the_sampling_policy():
    learner = cartpole()
    batch = recorded(learner)[0]
    policy = learner.problem.distribution(learner.meta.theta, tree_map(lambda x: x[0], batch))
    torch.testing.assert_close(policy.log_prob(batch.action[0]), batch.log_prob[0])


def test_constant_rewards_and_single_step_episodes_leave_a_finite_step():
    learner = cartpole(episodes=1)
    *supports, query = recorded(learner)
    flat = [b._replace(advantage=torch.zeros_like(b.advantage)) for b in (*supports, query)]
    _, gradient = learner.inner.meta_gradient(learner.meta, flat[:-1], flat[-1])
    assert all(torch.isfinite(g).all() for g in gradient.theta.values())


class Answers(TorchDispatchMode):
    """Counts the operations whose result Python waits for; each stops a GPU until it is there."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func._overloadpacket._qualified_op_name in (
            "aten::_local_scalar_dense",
            "aten::nonzero",
            "aten::equal",
        )
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("program", ["plain", "recorded"])
@pytest.mark.parametrize(
    "family",
    ["navigation-2d", "navigation-corner", "cartpole", "pendulum", "bandit-5", "tabular-mdp"],
)
def test_a_rollout_waits_for_no_answer_at_a_step(family, program):
    config = meta_rl.preset(family)
    speed = dataclasses.replace(config.speed, program=program)
    learner = meta_rl.build(dataclasses.replace(config, speed=speed))
    problem, tasks = learner.problem, learner.problem.sample_tasks(2, 0)
    phi = expand(learner.meta.theta, 2)
    if program == "recorded":
        problem.sampler.rollout(tasks, phi, 3, 0)  # recording asks more often
    with Answers() as answers:
        problem.sampler.rollout(tasks, phi, 3, 0)
    assert answers.count <= problem.family.horizon // 8 + 2, "one of eight steps, and at the end"


@pytest.mark.parametrize(("occupies", "limit", "expected"), [
    (True, 2**26, {1}), (False, 2**26, {2}), (True, 0, {2}),
])  # fmt: skip
def test_a_small_policy_acts_on_one_thread_beside_an_environment_on_the_cores(
    occupies, limit, expected, monkeypatch
):
    learner, seen = cartpole(), set()
    env = learner.problem.sampler.env(3, 5, "cpu", torch.float32)
    step = env.step
    monkeypatch.setattr(env, "occupies_cores", occupies, raising=False)
    monkeypatch.setattr(
        env, "step", lambda action: seen.add(torch.get_num_threads()) or step(action)
    )
    monkeypatch.setattr(rollouts, "ONE_THREAD", limit)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        recorded(learner)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == expected


def test_parameters_that_diverge_are_nobodys_fault_and_rewards_are_the_environments(monkeypatch):
    learner = cartpole()
    problem, tasks = learner.problem, learner.problem.sample_tasks(3, 0)
    phi = {name: value.clone() for name, value in expand(learner.meta.theta, 3).items()}
    next(iter(phi.values()))[1] = torch.nan
    with pytest.raises(DivergedError, match="after 0 inner steps are not finite") as diverged:
        problem.collect(tasks, [], lambda: phi, seed=0, query=False)
    assert diverged.value.rows == [1]
    assert not isinstance(diverged.value, InputError)
    advance = problem.family.tensor_env.advance

    def broken(env, action):
        reward, terminated = advance(env, action)
        reward[2] = torch.inf
        return reward, terminated

    monkeypatch.setattr(problem.family.tensor_env, "advance", broken)
    with pytest.raises(NotFiniteError, match="finite reward") as faulty:
        problem.collect(tasks, [], lambda: expand(learner.meta.theta, 3), seed=0, query=False)
    assert faulty.value.rows == [2]
    assert isinstance(faulty.value, InputError)
