"""Noise that lasts for several steps: how long, and what it does to each step's distribution."""

import dataclasses

import pytest
import torch

import meta_rl
from meta_rl import agents, seeds
from meta_rl.errors import InputError
from meta_rl.problems.exploration import LastingNoise

ROWS = 2, 500
POLICIES = {
    "gaussian": agents.distributions.DiagonalGaussian(
        torch.full((*ROWS, 1), 2.0), torch.full((*ROWS, 1), 0.5)
    ),
    "categorical": agents.distributions.Categorical(
        torch.tensor([0.0, 1.0, -1.0]).expand(*ROWS, 3)
    ),
}


def actions(policy, persistence, steps=40):
    generator = seeds.generator(0)
    noise, drawn = LastingNoise(generator, persistence), []
    for _ in range(steps):
        with noise:
            drawn.append(policy.sample(generator))
    return torch.stack(drawn)


@pytest.mark.parametrize("name", POLICIES)
def test_each_step_draws_from_the_policy_if_observations_do_not_depend_on_the_noise(name):
    policy = POLICIES[name]
    drawn, log_prob = actions(policy, 0.7), policy.log_prob
    expected = -log_prob(policy.sample(seeds.generator(1))).mean()
    # The entropy of each step over rows; 1,000 rows err by 0.02 or so.
    found = torch.stack([-log_prob(step).mean() for step in drawn])
    assert (found - policy.entropy().mean()).abs().max() < 0.15
    assert abs(expected - policy.entropy().mean()) < 0.15


def test_gradients_are_biased_where_observations_depend_on_the_noise():
    """The mean of the score, which is zero for noise that is new at every step."""
    scores = []
    for persistence in (0.0, 0.7):
        generator, obs, score = seeds.generator(0), torch.zeros(1, 4000, 1), torch.zeros(1, 4000, 1)
        noise = LastingNoise(generator, persistence)
        for _ in range(20):  # the policy N(w obs, 1) at w = 0
            with noise:
                action = torch.randn(obs.shape, generator=generator)
            score, obs = score + action * obs, 0.5 * obs + action
        scores.append(score.mean().item())
    assert abs(scores[0]) < 0.5
    assert scores[1] > 10


@pytest.mark.parametrize("draw", [torch.bernoulli, lambda p, **own: torch.normal(p, p, **own)])
def test_draws_that_depend_on_the_policys_outputs_are_refused(draw):
    generator = seeds.generator(0)
    refused = pytest.raises(InputError, match="random numbers do not depend on its outputs")
    with refused, LastingNoise(generator, 0.5):
        draw(torch.full((2, 3), 0.5), generator=generator)


def test_numbers_that_a_policy_changes_in_place_are_kept_as_drawn():
    generator, drawn = seeds.generator(0), []
    noise = LastingNoise(generator, 0.99)
    for _ in range(3):
        with noise:
            drawn.append(torch.randn((1, 50), generator=generator).mul_(0.1).add_(10))
    assert (torch.stack(drawn) - 10).abs().max() < 1


@pytest.mark.parametrize("persistence", [0.0, 0.5, 0.9])
def test_noise_is_kept_as_often_as_asked_for(persistence):
    drawn = actions(POLICIES["gaussian"], persistence)
    kept = (drawn[1:] == drawn[:-1]).float().mean().item()
    assert kept == pytest.approx(persistence, abs=0.02)


def test_rows_keep_their_noise_apart_from_each_other():
    drawn = actions(POLICIES["gaussian"], 0.5, steps=2)
    kept = (drawn[1] == drawn[0]).float()
    assert 0.4 < kept.mean() < 0.6


def lasting(persistence):
    config = meta_rl.preset("acrobot")
    data = dataclasses.replace(config.data, episodes=2, noise_persistence=persistence)
    return meta_rl.build(dataclasses.replace(config, data=data))


def test_a_rollout_keeps_its_noise_and_the_same_seed_gives_the_same_bits():
    learner = lasting(0.95)
    tasks = learner.problem.sample_tasks(2, 0)
    theta = {n: v.detach().expand(2, *v.shape) for n, v in learner.meta.theta.items()}
    first, again = (learner.problem.sampler.rollout(tasks, theta, 2, 0) for _ in range(2))
    assert torch.equal(first.action, again.action)
    repeats = (first.action[..., 1:] == first.action[..., :-1]).float().mean()
    assert repeats > 0.85, "a neutral policy of three actions repeats one by chance in a third"


def test_noise_that_lasts_for_ever_is_refused():
    with pytest.raises(InputError, match=r"data\.noise_persistence: expected 0 to below 1, got 1"):
        lasting(1.0)


def test_credit_needs_other_tasks_in_each_block():
    config = meta_rl.algorithm("e-maml", meta_rl.preset("navigation-2d"))
    meta_rl.build(dataclasses.replace(config, blocks=10)).learn(0)
    lonely = meta_rl.build(dataclasses.replace(config, blocks=20))
    with pytest.raises(InputError, match=r"data\.tasks: expected 40 or more with data\.expl"):
        lonely.learn(0)
