"""VariBAD: beliefs about the task, their variational bound, and the policy that acts by them."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from meta_rl.agents import BeliefPolicy
from meta_rl.envs.discrete import Bandit
from torch.distributions import Normal, kl_divergence
from torch.func import functional_call

import meta_rl
from meta_rl import InputError, seeds
from meta_rl.config import NetworkConfig, RL2Config, VariBADConfig
from meta_rl.families import GymFamily
from meta_rl.problems.belief import ACTING, Belief, Draw, beside, bound, draw
from meta_rl.problems.memory import Trials, joined
from meta_rl.problems.trials import TrialReinforcement
from tests.meta_rl.test_trials import batches_of

pytestmark = pytest.mark.usefixtures("short_episodes")

GRU = NetworkConfig(kind="gru", hidden=(6,))
LENGTHS = (5, 3, 7)


def config_of(name="cartpole", **outer):
    config = meta_rl.algorithm("varibad", meta_rl.preset(name))
    return replace(
        config,
        data=replace(config.data, tasks=2, episodes=2),
        network=replace(config.network, hidden=(6,)),
        outer=replace(config.outer, minibatches=2, epochs=2, belief_epochs=1, **outer),
    )


def policy_of(space=None, actions=None, **given):
    space = space or gym.spaces.Box(-1, 1, (3,))
    given = {"latents": 2, **given}
    return BeliefPolicy(space, actions or gym.spaces.Discrete(3), GRU, seeds.generator(0), **given)


def made_up(policy, actions=3):
    """Return random trials of LENGTHS in float64; the first has two episodes."""
    generator, n, longest = seeds.generator(3), len(LENGTHS), max(LENGTHS)
    mask = (torch.arange(longest) < torch.tensor(LENGTHS).unsqueeze(1)).double()
    normal = lambda *shape: torch.randn(n, longest, *shape, generator=generator).double()  # noqa: E731
    previous = normal(len(policy.start) - policy.state_size)
    previous[..., -1] = 0.0
    previous[0, 2, -1] = 1.0
    return Trials(
        obs=normal(3),
        action=torch.randint(actions, (n, longest), generator=generator),
        reward=normal() * mask,
        mask=mask,
        log_prob=normal(),
        value=normal(),
        previous=previous,
        clock=torch.ones(n, longest, 2).double(),
    )


@pytest.fixture
def policy():
    return policy_of().double()


def test_the_divergence_of_beliefs_is_that_of_torch():
    one, other = (
        Belief(*torch.randn(2, 4, 5, 3, generator=seeds.generator(n)).double()) for n in (0, 1)
    )
    normal = [Normal(b.mean, (0.5 * b.log_variance).exp()) for b in (one, other)]
    torch.testing.assert_close(one.kl(other), kl_divergence(*normal).sum(-1))
    before = other.before()
    assert not any(value[:, 0].any() for value in before)  # a standard normal distribution
    assert all(torch.equal(a[:, 1:], b[:, :-1]) for a, b in zip(before, other, strict=True))


def test_the_gradient_of_the_bound_is_that_of_finite_differences(policy):
    trials = made_up(policy)
    chosen = draw(trials.mask, 4, 2, seeds.generator(1))
    noise = seeds.generator(2)  # biases of zero put units on the kink of relu
    theta = {
        name: p.detach() + 0.1 * torch.randn(p.shape, generator=noise).double()
        for name, p in policy.named_parameters()
    }

    def loss(params):
        return bound(policy, params, trials, chosen, 0.3).loss

    for name, value in theta.items():
        if name.startswith("acting."):
            continue
        leaf = value.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss({**theta, name: leaf}), leaf)
        way = torch.randn(value.shape, generator=seeds.generator(1)).double()
        ahead, behind = (loss({**theta, name: value + h * way}) for h in (1e-6, -1e-6))
        torch.testing.assert_close(
            (gradient * way).sum(), (ahead - behind) / 2e-6, rtol=1e-5, atol=1e-6
        )
        assert gradient.any()


def test_trials_together_have_the_bounds_that_each_has_alone(policy):
    trials, theta = made_up(policy), dict(policy.named_parameters())
    chosen = draw(trials.mask, min(LENGTHS), 2, seeds.generator(1))
    together = bound(policy, theta, trials, chosen, 0.3)
    alone = []
    for row, length in enumerate(LENGTHS):
        cut = Trials(*(value[row : row + 1, :length] for value in trials))
        own = Draw(*(value[row : row + 1] for value in chosen))
        alone.append(bound(policy, theta, cut, own, 0.3))
    for one, other in zip(together, map(sum, zip(*alone, strict=True)), strict=True):
        torch.testing.assert_close(one, other)


def test_the_bound_of_all_steps_is_the_papers_sum_over_beliefs_and_steps(policy):
    """Every belief reconstructs every reward, and every observation but an episode's first."""
    trials, theta = made_up(policy), dict(policy.named_parameters())
    policy.rewards.mean.fill_(0.5)
    policy.rewards.variance.fill_(4.0)
    chosen = draw(trials.mask, 7, 2, seeds.generator(1))
    sums = bound(policy, theta, trials, chosen, 0.3)
    seen, belief, _ = policy.infer(theta, trials)
    expected, decoder = 0.0, policy.decoder
    for n, length in enumerate(LENGTHS):
        for place, t in enumerate(chosen.beliefs[n][:length]):
            mean, log_variance = belief.mean[n, t], belief.log_variance[n, t]
            latent = mean + (log_variance / 2).exp() * chosen.noise[n, place]
            prior = Normal(belief.mean[n, t - 1], (belief.log_variance[n, t - 1] / 2).exp())
            prior = prior if t else Normal(torch.zeros(2), torch.ones(2))
            divergence = kl_divergence(Normal(mean, (log_variance / 2).exp()), prior).sum()
            expected += 0.3 * divergence / length
            for i in range(length):
                step = torch.cat([latent, seen[n, i], policy.encode(trials.action[n, i])])
                last = i == length - 1 or (n, i) == (0, 1)
                after = torch.zeros(4) if last else torch.cat([seen[n, i + 1], torch.ones(1)])
                reward = decoder.reward(torch.cat([step, after]))
                expected += ((reward - (trials.reward[n, i] - 0.5) / 2) ** 2).sum() / length
                if not last:
                    moved = seen[n, i + 1] - seen[n, i]
                    expected += ((decoder.change(step) - moved) ** 2).mean() / length
    torch.testing.assert_close(sums.loss, expected, rtol=1e-6, atol=1e-6)


def test_steps_are_drawn_without_repetition_and_never_from_padding():
    mask = (torch.arange(9) < torch.tensor([[9], [4], [6]])).float()
    chosen = draw(mask, 4, 2, seeds.generator(0))
    for steps in chosen[:2]:
        assert all(len(set(row)) == 4 for row in steps.tolist())
        assert mask.gather(1, steps).all()
    assert not torch.equal(chosen.beliefs, chosen.steps)
    assert chosen.noise.shape == (3, 4, 2)


def test_a_trial_of_one_step_has_a_bound(policy):
    trials = Trials(*(value[:, :1] for value in made_up(policy)))
    chosen = draw(trials.mask, 4, 2, seeds.generator(1))
    sums = bound(policy, dict(policy.named_parameters()), trials, chosen, 0.3)
    assert sums.reward_error > 0
    assert sums.next_error == 0
    torch.testing.assert_close(sums.loss, sums.reward_error + 0.3 * sums.kl)


def test_ppo_leaves_the_encoder_alone_and_the_bound_leaves_the_policy_alone():
    config = config_of("bandit-5")
    learner = meta_rl.build(config)
    problem, theta, outer = learner.problem, learner.meta.theta, learner.outer
    held = [joined(batches_of(learner, 2))]
    before = {name: value.clone() for name, value in theta.items()}
    outer._ppo.improve([outer._believing(trials) for trials in held])
    moved = {name for name in theta if not torch.equal(theta[name], before[name])}
    assert moved == {name for name in theta if name.startswith(f"{ACTING}.")}
    between = {name: value.clone() for name, value in theta.items()}
    outer._infer(held)
    rest = {name for name in theta if not torch.equal(theta[name], between[name])}
    assert rest == set(theta) - moved
    leaves = {name: value.detach().requires_grad_() for name, value in theta.items()}
    found = problem.recall(leaves, held[0])
    total = found.policy.logits.sum() + found.value.sum()
    gradient = torch.autograd.grad(total, [*leaves.values()], allow_unused=True)
    reached = {name for name, one in zip(leaves, gradient, strict=True) if one is not None}
    assert reached == moved


@pytest.mark.parametrize(("name", "kind"), [("cartpole", "gru"), ("navigation-2d", "lstm")])
def test_a_trial_read_at_once_is_what_the_policy_did_step_by_step(name, kind):
    config = config_of(name)
    config = replace(config, network=replace(config.network, kind=kind))
    learner = meta_rl.build(config).learn(1)  # with statistics that scale
    problem, theta = learner.problem, learner.meta.theta
    trials = joined(batches_of(learner, 2))
    belief = problem.policy.infer(theta, trials).belief
    found = problem.policy.decide(theta, trials._replace(previous=beside(belief)))
    real = trials.mask > 0
    for one, other in (
        (found.policy.log_prob(trials.action), trials.log_prob),
        (found.value, trials.value),
        (problem.recall(theta, trials).value, trials.value),
    ):
        torch.testing.assert_close(one[real], other[real], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("worth", [-1000.0, 0.01])
def test_rewards_of_any_size_are_reconstructed_in_units_of_their_deviation(worth):
    learner = meta_rl.build(config_of("bandit-5"))
    batches = [b._replace(reward=worth * b.reward) for b in batches_of(learner, 2)]
    trials, policy = joined(batches), learner.problem.policy
    learner.problem.learn([(0, batches)])
    units = policy.normalized(trials.reward)
    real = units[trials.mask > 0]
    torch.testing.assert_close(real.mean(), torch.tensor(0.0), atol=1e-3, rtol=0)
    torch.testing.assert_close(real.std(correction=0), torch.tensor(1.0), atol=1e-2, rtol=0)


def test_blocks_of_tasks_together_take_the_step_of_one_batch():
    learner = meta_rl.build(config_of("cartpole", decoded=1000))
    outer, trials = learner.outer, joined(batches_of(learner, 2))
    theta = learner.meta.theta
    chosen = draw(trials.mask, 1000, 5, seeds.generator(0))
    whole = bound(outer.policy, theta, trials, chosen, 0.1)
    parts = []
    for rows in (slice(0, 1), slice(1, 4)):
        own = Trials(*(value[rows] for value in trials))
        parts.append(bound(outer.policy, theta, own, Draw(*(v[rows] for v in chosen)), 0.1))
    for one, other in zip(whole, map(sum, zip(*parts, strict=True)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    config = config_of("bandit-5")
    learner = meta_rl.build(replace(config, data=replace(config.data, tasks=4), blocks=2)).learn(1)
    assert learner.samples == 4 * 2 * 2 * 10


class Doors(Bandit):
    """Two arms, one of which always pays: only the last pull tells which."""

    def sample_tasks(self, n, seed, split="in-distribution"):
        """Draw n tasks."""
        paying = np.random.default_rng(seed).integers(2, size=n)
        return [{"means": (float(1 - one), float(one))} for one in paying]


def test_a_task_that_only_inference_solves_is_learned():
    config = config_of("bandit-5")
    config = replace(
        config,
        data=replace(config.data, tasks=100),
        outer=VariBADConfig(
            learning_rate=0.01,
            belief_learning_rate=0.02,
            belief_epochs=8,
            kl_weight=0.01,
            minibatches=2,
        ),
    )
    family = Doors(2, horizon=1)
    policy = BeliefPolicy(
        family.observation_space, family.action_space, GRU, seeds.generator(0), latents=2
    )
    problem = TrialReinforcement(family, policy, None, config.data, GymFamily)
    learner = meta_rl.MetaLearner(problem, config).learn(14)
    tasks = problem.sample_tasks(100, 5)
    before, after = learner.evaluate(tasks, 1, 0).mean(1).tolist()
    assert 0.3 < before < 0.7
    assert after > 0.8


def test_an_adapted_policy_holds_what_the_encoder_knows(tmp_path):
    learner = meta_rl.build(config_of("cartpole")).learn(1)
    model = learner.adapt(learner.held_out_tasks(1)[0], steps=2)
    assert len(model.scores) == 3
    action, state = model.predict(np.zeros(4, np.float32), deterministic=True)
    later, after = model.predict(np.zeros(4), state, np.array([True]), True, reward=1.0)
    assert action.shape == later.shape == ()
    assert not np.array_equal(state, after)
    loaded = meta_rl.load_adapted(model.save(tmp_path / "model"))
    same, again = loaded.predict(np.zeros(4, np.float32), deterministic=True)
    assert same == action
    np.testing.assert_array_equal(again, state)


PICTURES = gym.spaces.Box(0, 255, (8, 8, 3), np.uint8)
SPACES = [
    (gym.spaces.Discrete(4), gym.spaces.MultiDiscrete([2, 3])),
    (gym.spaces.Box(-1, 1, (2, 2)), gym.spaces.Box(-1, 1, (2,))),
    (PICTURES, gym.spaces.Discrete(2)),
    (gym.spaces.Dict(a=PICTURES, b=gym.spaces.Box(-1, 1, (2,))), gym.spaces.MultiBinary(2)),
]


@pytest.mark.parametrize(("space", "actions"), SPACES)
def test_spaces_of_all_kinds_are_inferred_from(space, actions):
    """Of observations with images, rewards alone are reconstructed."""
    policy = policy_of(space, actions)
    images = policy.encoder.features.images is not None
    assert (policy.decoder.change is None) == images
    size, previous = gym.spaces.flatdim(space), len(policy.start) - policy.state_size
    obs = torch.zeros(2, 3, size, dtype=torch.uint8 if space == PICTURES else torch.float32)
    state, before = torch.zeros(2, policy.state_size), torch.zeros(2, 3, previous)
    theta = dict(policy.named_parameters())
    found = functional_call(policy, theta, (obs, before, state))
    action, one = found.policy.sample(seeds.generator(0)), torch.ones(2, 3)
    trials = Trials(obs, action, one, one, one, one, before, torch.ones(2, 3, 2))
    sums = bound(policy, theta, trials, draw(one, 3, 2, seeds.generator(0)), 0.1)
    assert torch.isfinite(sums.loss)
    assert (sums.next_error == 0) == images
    policy.learn([trials], 0.9)
    assert all(one.count == 6 for one in policy.statistics())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"latents": 0}, "outer.latents: expected 1 or more"),
        ({"decoded": 0}, "outer.decoded: expected 1 or more"),
        ({"kl_weight": -1.0}, "outer.kl_weight: expected 0 or more"),
        ({"belief_learning_rate": 0.0}, "outer.belief_learning_rate: expected above 0"),
    ],
)
def test_settings_without_a_meaning_are_refused(changes, told):
    with pytest.raises(InputError, match=told):
        VariBADConfig(**changes)


def test_settings_that_cannot_act_are_refused():
    config = config_of("cartpole")
    told = r"data\.normalize_observations: expected it to be left out"
    with pytest.raises(InputError, match=told):
        meta_rl.build(replace(config, data=replace(config.data, normalize_observations=True)))
    with pytest.raises(InputError, match="expected gru or lstm"):
        replace(config, network=NetworkConfig())
    with pytest.raises(InputError, match=r"outer\.truncation: expected it to be left out"):
        meta_rl.build(replace(config, outer=replace(config.outer, truncation=5)))
    with pytest.raises(InputError, match=r"network\.head: expected it to be left out"):
        meta_rl.build(replace(config, network=replace(config.network, head="hypernetwork")))


def test_a_policy_that_infers_and_one_that_does_not_keep_to_their_outer_steps():
    config = config_of("cartpole")
    problem = meta_rl.build(config).problem
    with pytest.raises(InputError, match=r"expected VariBADConfig .* got RL2Config"):
        meta_rl.MetaLearner(problem, replace(config, outer=RL2Config(minibatches=2)))
    plain = meta_rl.algorithm("rl2", meta_rl.preset("cartpole"))
    with pytest.raises(InputError, match="expected a policy that infers its task"):
        meta_rl.MetaLearner(meta_rl.build(plain).problem, config)


def test_statistics_that_no_training_leaves_are_refused():
    learner = meta_rl.build(config_of("bandit-5"))
    manifest, tensors = learner.state()
    tensors = {**tensors, "fixed.rewards.variance": torch.tensor([-1.0], dtype=torch.float64)}
    with pytest.raises(InputError, match="expected a finite memory and finite statistics"):
        learner.restore(manifest, tensors)
