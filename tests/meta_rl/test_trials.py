"""RL2: memory over the episodes of a trial, PPO on whole trials, and the adapted policy."""

import math
import types
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from meta_rl.agents import Categorical, RecurrentPolicy
from meta_rl.envs.discrete import Bandit
from stable_baselines3 import PPO
from stable_baselines3.common.logger import Logger

import meta_rl
from meta_rl import InputError, seeds
from meta_rl.config import EpisodesConfig, NetworkConfig, RL2Config
from meta_rl.evaluation.adapting import adapted
from meta_rl.evaluation.algorithms import Algorithm, Run
from meta_rl.families import GymFamily
from meta_rl.inner.memory import MEMORY
from meta_rl.outer.following import Following
from meta_rl.outer.rl2 import Judged, TrialPPO, ppo_sums
from meta_rl.problems.memory import Recalled, TrialEpisodes, Trials, joined
from meta_rl.problems.trials import TrialReinforcement
from meta_rl.types import MetaParameters

GRU = NetworkConfig(kind="gru", hidden=(4,))


def config_of(name="cartpole", steps=1, **data):
    config = meta_rl.algorithm("rl2", meta_rl.preset(name))
    return replace(
        config,
        inner=replace(config.inner, steps=steps),
        data=replace(config.data, **{"tasks": 2, "episodes": 2, **data}),
        network=replace(config.network, hidden=(6,)),
        outer=replace(config.outer, minibatches=2, epochs=2),
    )


def batches_of(learner, episodes, seed=0):
    """Return the episodes of trials of two tasks."""
    problem, theta = learner.problem, learner.meta.theta
    tasks, found = problem.sample_tasks(2, 0), []
    for _ in range(episodes):
        adapted = learner.inner.adapt(MetaParameters(theta, {}), list(found), 2)
        found.append(problem.collect(tasks, found, lambda adapted=adapted: adapted, seed, False))
    return found


def made_up(policy, lengths, actions):
    """Return random trials of these lengths in float64, judged at random."""
    generator = seeds.generator(3)
    n, longest = len(lengths), max(lengths)
    mask = (torch.arange(longest) < torch.tensor(lengths).unsqueeze(1)).double()
    draw = lambda *shape: torch.randn(n, longest, *shape, generator=generator).double()  # noqa: E731
    action = torch.randint(actions, (n, longest), generator=generator)
    previous = len(policy.start) - policy.state_size
    trials = Trials(
        obs=draw(3),
        action=action,
        reward=draw() * mask,
        mask=mask,
        log_prob=-1.1 + 0.05 * draw(),
        value=draw(),
        previous=draw(previous),
        clock=draw(2),
    )
    return Judged(trials, draw() * mask, draw(), draw().abs())


def recall(policy):
    def found(params, trials, state=None):
        if state is None:
            state = policy.start[: policy.state_size].expand(len(trials.mask), -1)
        inputs = trials.obs, trials.previous, state
        return torch.func.functional_call(policy, params, inputs)

    return found


@pytest.fixture
def policy():
    space = gym.spaces.Box(-1, 1, (3,))
    return RecurrentPolicy(space, gym.spaces.Discrete(3), GRU, seeds.generator(0)).double()


def test_the_gradient_of_whole_trials_is_that_of_finite_differences(policy):
    judged, config = made_up(policy, (5, 3, 7), 3), RL2Config()
    theta = {name: p.detach().clone() for name, p in policy.named_parameters()}

    def loss(params):
        return ppo_sums(recall(policy)(params, judged.trials), judged, config).loss

    for name, value in theta.items():
        leaf = value.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss({**theta, name: leaf}), leaf)
        way = torch.randn(value.shape, generator=seeds.generator(1)).double()
        ahead, behind = (loss({**theta, name: value + h * way}) for h in (1e-6, -1e-6))
        torch.testing.assert_close(
            (gradient * way).sum(), (ahead - behind) / 2e-6, rtol=1e-6, atol=1e-7
        )


def test_trials_together_give_what_each_gives_alone(policy):
    judged, theta = made_up(policy, (5, 3, 7), 3), dict(policy.named_parameters())
    together = recall(policy)(theta, judged.trials)
    sums = ppo_sums(together, judged, RL2Config())
    alone = []
    for row, length in enumerate((5, 3, 7)):
        cut = Trials(*(v[row : row + 1, :length] for v in judged.trials))
        found = recall(policy)(theta, cut)
        torch.testing.assert_close(found.value[0], together.value[row, :length])
        torch.testing.assert_close(found.policy.logits[0], together.policy.logits[row, :length])
        own = Judged(cut, *(v[row : row + 1, :length] for v in judged[1:]))
        alone.append(ppo_sums(found, own, RL2Config()))
    for one, other in zip(sums, map(sum, zip(*alone, strict=True)), strict=True):
        torch.testing.assert_close(one, other)


def test_rewards_are_normalized_and_values_in_units_of_the_returns_deviation(policy):
    judged, theta = made_up(policy, (5, 3, 7), 3), dict(policy.named_parameters())
    plain = recall(policy)(theta, judged.trials)
    sums = ppo_sums(plain, judged, RL2Config())
    policy.returns.variance.fill_(9.0)
    policy.rewards.variance.fill_(4.0)
    policy.rewards.mean.fill_(5.0)
    previous = judged.trials.previous.clone()
    previous[..., -2] = 5 + 2 * previous[..., -2]
    scaled = recall(policy)(theta, judged.trials._replace(previous=previous))
    torch.testing.assert_close(scaled.policy.logits, plain.policy.logits)
    torch.testing.assert_close(scaled.value, 3 * plain.value)
    again = ppo_sums(scaled, judged._replace(target=3 * judged.target), RL2Config())
    torch.testing.assert_close(again, sums)


def test_the_deviation_is_that_of_all_discounted_returns_of_trials():
    learner = meta_rl.build(config_of("bandit-5", gamma=0.5))
    batches = batches_of(learner, 2)
    learner.problem.learn([(0, batches), (1, batches)])
    reward, later = joined(batches).reward, torch.zeros(4)
    gained = []
    for t in reversed(range(20)):
        later = reward[:, t] + 0.5 * later
        gained.append(later)
    expected = torch.stack(gained).double().var(correction=0)
    policy = learner.problem.policy
    torch.testing.assert_close(policy.returns.variance[0], expected)
    torch.testing.assert_close(policy.rewards.mean[0], reward.double().mean())


@pytest.mark.parametrize("kind", ["gru", "lstm"])
@pytest.mark.parametrize("name", ["cartpole", "navigation-2d"])
def test_a_trial_read_at_once_is_what_the_policy_did_step_by_step(name, kind):
    """The state goes over from episode to episode, and padding between them leaves it alone."""
    config = config_of(name)
    learner = meta_rl.build(replace(config, network=replace(config.network, kind=kind)))
    batches = batches_of(learner, 3)
    trials = joined(batches)
    assert trials.mask.sum() == sum(batch.mask.sum() for batch in batches)
    assert (trials.mask.diff(dim=1) <= 0).all()  # real steps come first
    found = learner.problem.recall(learner.meta.theta, trials)
    real = trials.mask > 0
    for one, other in (
        (found.policy.log_prob(trials.action), trials.log_prob),
        (found.value, trials.value),
    ):
        torch.testing.assert_close(one[real], other[real], rtol=1e-3, atol=1e-4)


def test_a_trial_starts_without_memory_and_its_later_episodes_with_the_last_step():
    learner = meta_rl.build(config_of("cartpole"))
    first, second = batches_of(learner, 2)
    assert not first.previous[:, :, 0].any()
    last = first.mask.sum(-1).long() - 1
    for m in range(2):
        for b in range(2):
            action, reward, ended = first.action[m, b, last[m, b]], 1.0, 1.0
            expected = [*np.eye(2)[action], reward, ended]
            assert second.previous[m, b, 0].tolist() == expected
            state = first.memory[m, b, : learner.problem.policy.state_size]
            assert state.any()
    assert not second.previous[:, :, 1, -1].any()  # the mark is for an episode's first step
    again = batches_of(learner, 1)[0]
    assert torch.equal(again.value, first.value)  # nothing is left of the trials before


class Doors(Bandit):
    """Two arms, one of which always pays: only the last pull tells which."""

    def sample_tasks(self, n, seed, split="in-distribution"):
        """Draw n tasks."""
        paying = np.random.default_rng(seed).integers(2, size=n)
        return [{"means": (float(1 - one), float(one))} for one in paying]


def test_a_task_that_only_memory_solves_is_learned():
    config = config_of("bandit-5", tasks=100, episodes=2)
    config = replace(config, outer=RL2Config(learning_rate=0.02, minibatches=2))
    policy = RecurrentPolicy(
        (family := Doors(2, horizon=1)).observation_space,
        family.action_space,
        replace(config.network, hidden=(8,)),
        seeds.generator(0),
    )
    problem = TrialReinforcement(family, policy, None, config.data, GymFamily)
    learner = meta_rl.MetaLearner(problem, config).learn(12)
    tasks = problem.sample_tasks(100, 5)
    before, after = learner.evaluate(tasks, 1, 0).mean(1).tolist()
    assert 0.3 < before < 0.7
    assert after > 0.9
    forgetful = problem.collect(tasks, [], lambda: learner.inner.adapt(learner.meta, [], 100), 1, 1)
    assert 0.3 < forgetful.reward.sum(-1).mean() < 0.7


def test_the_loss_is_stable_baselines3s_on_the_same_numbers():
    config = RL2Config(clip=0.1, value_coefficient=0.7, entropy_coefficient=0.03)
    model = PPO(
        "MlpPolicy",
        gym.make("CartPole-v1"),
        n_steps=8,
        batch_size=8,
        n_epochs=1,
        clip_range=config.clip,
        vf_coef=config.value_coefficient,
        ent_coef=config.entropy_coefficient,
        normalize_advantage=False,
        device="cpu",
    )
    rng, buffer = np.random.default_rng(0), model.rollout_buffer
    buffer.observations[:] = rng.normal(size=(8, 1, 4))
    buffer.actions[:] = rng.integers(2, size=(8, 1, 1))
    buffer.log_probs[:] = np.log(rng.uniform(0.2, 0.9, size=(8, 1)))
    buffer.advantages[:] = rng.normal(size=(8, 1))
    buffer.returns[:] = rng.normal(size=(8, 1))
    buffer.full, buffer.pos = True, 8
    each = [torch.as_tensor(v[:, 0]).unsqueeze(0) for v in (buffer.observations, buffer.actions)]
    obs, action = each[0], each[1].squeeze(-1).long()
    numbers = [buffer.log_probs, buffer.advantages, buffer.returns]
    log_prob, advantage, target = (torch.as_tensor(v.T.copy()) for v in numbers)
    with torch.no_grad():
        logits = model.policy.get_distribution(obs[0]).distribution.logits
        value = model.policy.predict_values(obs[0]).T
    one = torch.ones(1, 8)
    trials = Trials(obs, action, one, one, log_prob, value, obs, torch.ones(1, 8, 2))
    found = Recalled(Categorical(logits.unsqueeze(0)), value, value, torch.ones(()))
    sums = ppo_sums(found, Judged(trials, advantage, target, one), config)
    model.set_logger(logger := Logger(None, []))
    model.train()
    assert sums.loss.item() / 8 == pytest.approx(logger.name_to_value["train/loss"], rel=1e-5)
    clipped = logger.name_to_value["train/clip_fraction"]
    assert sums.clipped.item() / 8 == pytest.approx(clipped)
    assert 0 < clipped < 1


@pytest.mark.parametrize("gamma", [0.9, 1.0])
def test_a_constant_critic_expects_even_rewards_to_the_trials_end(gamma):
    learner = meta_rl.build(config_of("bandit-5", gae_lambda=0.5, gamma=gamma))
    batches = batches_of(learner, 2)  # two episodes of ten pulls
    worth = sum(gamma**t for t in range(10))  # of an episode that pays 1 at every step
    even = [b._replace(reward=b.mask, value=worth * b.mask) for b in batches]
    (judged,) = learner.outer._judged([joined(even)])
    torch.testing.assert_close(judged.target, judged.trials.value)
    assert judged.trials.value[:, -1].tolist() == pytest.approx([1.0] * 4)
    (last,) = {*learner.problem.potential(even[-1], torch.zeros(2)).tolist()}
    assert last == pytest.approx(0.0, abs=1e-6)


def test_a_task_that_failed_changes_no_other():
    learner = meta_rl.build(config_of("bandit-5"))
    problem, tasks = learner.problem, learner.held_out_tasks(3)
    phi = learner.inner.adapt(learner.meta, [], 3)
    lost = {name: value.clone() for name, value in phi.items()}
    for value in lost.values():
        value[0] = 0.0  # as Failures replaces them
    one, other = (problem.collect(tasks, [], lambda p=p: p, 7, False) for p in (phi, lost))
    assert torch.equal(one.value[1:], other.value[1:])


def test_episodes_that_end_early_leave_the_time_of_later_ones(policy):
    one, clock = torch.ones(1, 1, 3), torch.tensor([[9.0, 9], [8, 9], [7, 9]]).view(1, 1, 3, 2)
    played = types.SimpleNamespace(log_prob=lambda action: action)
    given = one[..., None], one, one, torch.tensor([[[1.0, 1, 0]]]), played, one, one[..., None]
    trials = joined([TrialEpisodes(*given, one, one, clock)] * 2)
    assert trials.clock[0].tolist() == [[18, 9], [17, 9], [9, 9], [8, 9]]


def test_advantages_go_over_episodes_and_are_normalized_over_all_trials():
    learner = meta_rl.build(config_of("bandit-5", gae_lambda=0.5, gamma=0.9))
    outer = learner.outer
    assert isinstance(outer, TrialPPO)
    trials = joined(batches_of(learner, 2))
    (judged,) = outer._judged([trials])
    raw, after = torch.zeros_like(trials.value), torch.zeros(4)
    value = trials.value * (1 - 0.9 ** torch.arange(20, 0, -1)) / (1 - 0.9**10)
    for t in reversed(range(20)):  # two episodes of ten pulls
        following = value[:, t + 1] if t < 19 else 0.0
        delta = trials.reward[:, t] + 0.9 * following - value[:, t]
        after = raw[:, t] = delta + 0.45 * after
    torch.testing.assert_close(judged.advantage, (raw - raw.mean()) / raw.std(), atol=1e-4, rtol=0)
    torch.testing.assert_close(judged.target, raw + value)


def test_blocks_of_tasks_together_are_one_batch():
    learner = meta_rl.build(config_of("cartpole"))
    outer, trials = learner.outer, joined(batches_of(learner, 2))
    assert isinstance(outer, TrialPPO)
    halves = [Trials(*(v[part] for v in trials)) for part in (slice(0, 1), slice(1, 4))]
    whole, parts = outer._judged([trials]), outer._judged(halves)
    torch.testing.assert_close(whole[0].advantage, torch.cat([one.advantage for one in parts]))
    (one,), each = [outer._gradient(own) for own in whole], [outer._gradient(own) for own in parts]
    for total, summed in zip(one, map(sum, zip(*each, strict=True)), strict=True):
        torch.testing.assert_close(total, summed, rtol=1e-3, atol=1e-4)
    config = replace(config_of("bandit-5", tasks=4), blocks=2)
    learner = meta_rl.build(config).learn(1)
    assert learner.samples == 4 * 2 * 2 * 10


def test_an_adapted_policy_has_a_state_that_goes_on(tmp_path):
    learner = meta_rl.build(config_of("cartpole"))
    model = learner.adapt(learner.held_out_tasks(1)[0], steps=2)
    assert len(model.scores) == 3
    obs = np.zeros(4, np.float32)
    action, state = model.predict(obs, deterministic=True)
    assert action.shape == ()
    later, after = model.predict(obs, state, np.array([True]), True, reward=1.0)
    assert later.shape == ()
    assert not np.array_equal(state, after)
    assert state[0, -1] == 0
    many, _ = model.predict(np.zeros((3, 4)), np.repeat(state, 3, 0), np.ones(3, bool), True)
    assert many.shape == (3,)
    with pytest.raises(InputError, match="state of the last call"):
        model.predict(obs, np.zeros((2, 3)))
    with pytest.raises(InputError, match="expected a finite state"):
        model.predict(obs, np.full_like(state, np.nan))
    with pytest.raises(InputError, match="expected numbers as the state"):
        model.predict(obs, state.astype(str).astype(object))
    with pytest.raises(InputError, match="finite reward for each of 1"):
        model.predict(obs, state, reward=[1.0, 2.0])
    loaded = meta_rl.load_adapted(model.save(tmp_path / "model"))
    assert loaded.scores == model.scores
    same, again = loaded.predict(obs, deterministic=True)
    assert same == action
    np.testing.assert_array_equal(again, state)
    unadapted = learner.adapt(learner.held_out_tasks(1)[0], steps=0)
    assert not np.array_equal(unadapted.predict(obs, deterministic=True)[1], state)


def test_adapting_is_the_memory_of_the_episodes_played():
    learner = meta_rl.build(config_of("cartpole"))
    batches = batches_of(learner, 2)
    path = learner.inner.path(learner.meta, batches, 2)
    assert MEMORY not in path[0]
    for k in (1, 2):
        assert torch.equal(path[k][MEMORY], batches[k - 1].memory)
    assert all(torch.equal(path[2][n][0], v) for n, v in learner.meta.theta.items())


@pytest.mark.parametrize(
    "space", [gym.spaces.MultiDiscrete([2, 3]), gym.spaces.MultiBinary(4), gym.spaces.Discrete(5)]
)
def test_actions_of_all_kinds_are_remembered_as_gymnasium_flattens_them(space):
    policy = RecurrentPolicy(gym.spaces.Box(-1, 1, (3,)), space, GRU, seeds.generator(0))
    space.seed(0)
    action = space.sample()
    seen = policy.encode(torch.as_tensor(action))
    np.testing.assert_array_equal(seen, gym.spaces.flatten(space, action))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"network": NetworkConfig()}, "network.kind: expected gru or lstm"),
        ({"data": EpisodesConfig(tasks=1, episodes=1)}, "outer.minibatches: expected at most 1"),
        ({"outer": meta_rl.algorithm("maml", meta_rl.preset("cartpole")).outer}, "inner.method"),
        (
            {"outer": meta_rl.algorithm("es-maml", meta_rl.preset("cartpole")).outer},
            "memory is for RL2",
        ),
    ],
)
def test_settings_that_do_not_fit_a_policy_with_memory_are_refused(changes, told):
    with pytest.raises(InputError, match=told):
        replace(config_of("cartpole"), **changes)


def test_a_setting_of_inner_steps_is_refused():
    config = config_of("cartpole")
    with pytest.raises(InputError, match=r"inner\.step_size: expected it to be left out"):
        meta_rl.build(replace(config, inner=replace(config.inner, step_size=0.5)))


def test_what_needs_a_policy_without_memory_refuses_one_with_it(tmp_path):
    learner = meta_rl.build(config_of("cartpole"))
    model = learner.adapt(learner.held_out_tasks(1)[0], steps=0)
    told = "expected a policy that sees the current observation alone"
    for use in (
        lambda: meta_rl.prune(learner, 0.5),
        lambda: meta_rl.agents.sb3.to_ppo(model, gym.make("CartPole-v1")),
        lambda: meta_rl.build(config_of("cartpole"), init_sb3=tmp_path / "any.zip"),
    ):
        with pytest.raises(InputError, match=told):
            use()


def test_an_evaluation_counts_the_steps_of_one_trial_as_the_cost_of_adapting(tmp_path):
    learner = meta_rl.build(config_of("bandit-5", episodes=3))
    run = Run(tmp_path, learner, learner.problem, {})
    tasks = learner.held_out_tasks(2)
    curve = adapted(Algorithm("rl2", (run,)), tasks, "split", 2, 0, lambda _: None)
    assert curve.budget.tolist() == [0, 10, 20]  # an episode has ten pulls


def test_a_problem_of_trials_and_a_loop_of_inner_steps_are_refused_together():
    config = config_of("cartpole")
    problem = meta_rl.build(config).problem
    plain = meta_rl.preset("cartpole")
    with pytest.raises(InputError, match=r"expected memory .* with the problem TrialReinforcement"):
        meta_rl.MetaLearner(problem, plain)
    with pytest.raises(InputError, match=r"expected gradient, .* with the problem Reinforcement"):
        meta_rl.MetaLearner(meta_rl.build(plain).problem, config)


def test_a_film_shows_an_episode_without_memory_and_one_with_it(monkeypatch):
    learner, starts = meta_rl.build(config_of("cartpole")), []
    task = learner.held_out_tasks(1)[0]

    def film(family, task, *policies, **settings):
        starts.extend(policy.policy.start.abs().sum() for policy in policies)
        for policy in policies:  # the state goes on, and takes rewards
            obs = family.make_env(task).reset(seed=0)[0]
            _, state = policy.predict(obs, None, reward=None)
            assert not np.array_equal(policy.predict(obs, state, reward=1.0)[1], state)

    monkeypatch.setattr("meta_rl.problems.policy_pictures.film", film)
    learner.adapt(task, steps=1, pictures=True)
    assert starts[0] == 0
    assert starts[1] > 0


def truncated(config, steps):
    return replace(config, outer=replace(config.outer, truncation=steps))


def test_truncation_is_a_plain_loop_that_detaches_the_state(policy):
    """Parts of 3, 3 and 1 steps of trials of 5, 3 and 7."""
    judged, config = made_up(policy, (5, 3, 7), 3), RL2Config(truncation=3)
    learner = meta_rl.build(config_of("bandit-5"))
    theta = {name: p.detach().requires_grad_() for name, p in policy.named_parameters()}
    outer = TrialPPO(
        config, learner.inner, MetaParameters(theta, {}), recall(policy), learner.config.data, 0
    )
    found, trials = outer._gradient(judged), judged.trials
    state, outputs = torch.zeros(3, policy.state_size).double(), []
    for t in range(7):
        state = state.detach() if t in (3, 6) else state
        given = trials.obs[:, t : t + 1], trials.previous[:, t : t + 1], state
        outputs.append(one := torch.func.functional_call(policy, theta, given))
        state = one.state
    joint = outputs[0]._replace(
        policy=Categorical(torch.cat([one.policy.logits for one in outputs], 1)),
        value=torch.cat([one.value for one in outputs], 1),
    )
    sums = ppo_sums(joint, judged, config)
    torch.testing.assert_close(found[:4], [value.detach() for value in sums])
    expected = torch.autograd.grad(sums.loss, [*theta.values()])
    torch.testing.assert_close(found[4:], [*expected])
    outer.config = RL2Config()
    whole = outer._gradient(judged)
    torch.testing.assert_close(whole[0], found[0])  # the loss does not change
    assert not torch.allclose(whole[4], found[4])
    outer.config = RL2Config(truncation=7)
    assert all(map(torch.equal, outer._gradient(judged), whole))


def test_a_truncated_run_needs_the_memory_of_one_part():
    config = config_of("navigation-2d")
    learner = meta_rl.build(truncated(config, 20))
    outer, trials = learner.outer, joined(batches_of(learner, 2))
    assert isinstance(outer, TrialPPO)
    (judged,) = outer._judged([trials])
    steps = []
    outer.recall = lambda *given: (
        steps.append(given[1].mask.shape[1]) or learner.problem.recall(*given)
    )
    outer._gradient(judged)
    assert steps == [20] * (trials.mask.shape[1] // 20)
    learner.learn(1)


def test_truncation_at_or_above_a_whole_trial_is_refused():
    config = config_of("navigation-2d")  # two episodes of 100 steps
    meta_rl.build(truncated(config, 199))
    told = r"outer\.truncation: .* acts only below 200, the steps of a whole trial"
    with pytest.raises(InputError, match=told):
        meta_rl.build(truncated(config, 200))
    with pytest.raises(InputError, match="expected 1 or more"):
        truncated(config, 0)


def with_limit(target_kl, **outer):
    config = config_of()
    given = {"epochs": 8, "target_kl": target_kl, "learning_rate": 0.05} | outer
    return meta_rl.build(replace(config, outer=replace(config.outer, **given)))


def moved(learner):
    start = {n: v.detach().clone() for n, v in learner.meta.theta.items()}
    found = learner.iterate()
    far = max(float((v - start[n]).abs().max()) for n, v in learner.meta.theta.items())
    return found["train/steps"], float(found["train/kl"]), far


def test_a_step_after_which_the_policy_is_too_far_is_undone_and_ends_the_iteration():
    everything = moved(with_limit(None, learning_rate=0.01))
    assert everything[0] == 16
    assert moved(with_limit(1e6, learning_rate=0.01)) == everything
    limit = everything[1] / 10
    taken, shown, far = moved(with_limit(limit, learning_rate=0.01))
    assert 1 <= taken < 15
    assert shown > 1.5 * limit
    assert 0 < far < everything[2]
    taken, _, far = moved(with_limit(1e-12))  # the first step starts at the stored policy
    assert (taken, far) == (0, 0)


def test_a_rate_follows_the_divergence_within_its_bounds():
    def factors(target, kls, **most):
        rate, found = Following(target, **most), []
        for kl in kls:
            rate.follow(kl)
            found.append(rate.scale)
        return found

    assert factors(0.02, [0.0099] * 9) == pytest.approx([1.5**k for k in range(1, 8)] + [20] * 2)
    assert factors(0.02, [0.0301] * 9) == pytest.approx([1.5**-k for k in range(1, 8)] + [0.05] * 2)
    assert factors(0.02, [0.0101, 0.02, 0.0299]) == [1.0] * 3
    assert factors(0.02, [0.0, 1.0, 0.0], most=1.0) == pytest.approx([1.0, 1 / 1.5, 1.0])
    assert factors(0.02, [math.nan]) == pytest.approx([1 / 1.5])
    assert factors(None, [0.0, 1.0]) == [1.0] * 2


@pytest.mark.parametrize(
    ("target_kl", "outer", "factor"),
    [
        (1e6, {}, 1.5),
        (1e-12, {}, 1 / 1.5),
        (None, {}, 1.0),
        (0.02, {"epochs": 1, "minibatches": 1}, 1.0),  # nothing moves before its only step
    ],
)
def test_the_learning_rate_of_the_next_iteration_follows(target_kl, outer, factor):
    learner = with_limit(target_kl, **outer)
    found = [learner.iterate()["train/learning_rate"] for _ in range(2)]
    assert found == pytest.approx([0.05, 0.05 * factor])


@pytest.mark.parametrize("algorithm", ["rl2", "varibad"])
def test_without_a_limit_the_learning_rate_may_fall_along_a_cosine(algorithm):
    config = meta_rl.algorithm(algorithm, config_of())
    outer = {"target_kl": None, "learning_rate": 0.01, "final_learning_rate": 0.001}
    config = replace(config, iterations=4, outer=replace(config.outer, **outer))
    first, second = meta_rl.build(config), meta_rl.build(config)
    rates = [first.iterate()["train/learning_rate"] for _ in range(2)]
    second.outer.load_state_dict(first.outer.state_dict())
    rates += [second.iterate()["train/learning_rate"] for _ in range(4)]
    left = [1, 0.5 + 8**-0.5, 0.5, 0.5 - 8**-0.5, 0, 0]
    assert rates == pytest.approx([0.001 + 0.009 * part for part in left])
    steady = replace(config, outer=replace(config.outer, final_learning_rate=None))
    ends = [meta_rl.build(each).learn(3).meta.theta for each in (config, steady)]
    assert any(not torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_a_learning_rate_that_follows_the_divergence_has_no_other_end():
    config = config_of()
    config = replace(config, outer=replace(config.outer, target_kl=0.02, final_learning_rate=1e-5))
    with pytest.raises(InputError, match=r"final_learning_rate.*--outer.target-kl None"):
        meta_rl.build(config)


def scaled(learner, factor):
    scale = torch.tensor(factor, dtype=torch.float64)
    learner.outer.load_state_dict(learner.outer.state_dict() | {"scale": scale})
    return learner


def test_a_step_is_as_long_as_the_learning_rate():
    one = {"epochs": 1, "minibatches": 1}
    whole, half = moved(with_limit(0.02, **one)), moved(scaled(with_limit(0.02, **one), 0.5))
    assert half[2] == pytest.approx(whole[2] / 2, rel=1e-3)


def test_the_learning_rate_is_kept_in_the_state():
    first, second = with_limit(1e-12), with_limit(1e-12)
    first.learn(2)
    second.outer.load_state_dict(first.outer.state_dict())
    assert second.iterate()["train/learning_rate"] == pytest.approx(0.05 / 1.5**2)
    older = {n: v for n, v in first.outer.state_dict().items() if n != "scale"}
    second.outer.load_state_dict(older)
    assert second.iterate()["train/learning_rate"] == 0.05


@pytest.mark.parametrize("broken", ["gradient", "divergence"])
def test_a_broken_second_minibatch_leaves_the_parameters_finite(broken):
    learner = with_limit(1e6)
    outer, calls = learner.outer, []
    derived = outer._derived

    def breaking(chosen):
        sums, real, gradient = derived(chosen)
        calls.append(real)
        if len(calls) > 1 and broken == "divergence":
            sums = sums._replace(kl=sums.kl * math.nan)
        elif len(calls) > 1:
            gradient.theta.update({n: v * math.nan for n, v in gradient.theta.items()})
        return sums, real, gradient

    outer._derived = breaking
    found = learner.iterate()
    assert found["train/skipped"] == 1
    assert len(calls) == 2
    assert all(v.isfinite().all() for v in learner.meta.theta.values())
    outer._derived = derived
    factor = {"gradient": 1, "divergence": 1 / 1.5}[broken]
    assert learner.iterate()["train/learning_rate"] == pytest.approx(0.05 * factor)


@pytest.mark.parametrize("algorithm", ["rl2", "varibad"])
def test_exploration_is_over_the_whole_range_of_actions_and_on_robots_the_presets(algorithm):
    scales = {
        name: meta_rl.algorithm(algorithm, meta_rl.preset(name)).data.action_scale
        for name in ("navigation-2d", "pendulum", "walker2d-random-params", "metaworld-ml10")
    }
    assert [*scales.values()] == [1.0, 1.0, 3.0, 3.0]
    robot = meta_rl.preset("half-cheetah-velocity")
    own = replace(robot, family="a robot of mine")
    assert meta_rl.algorithm(algorithm, own).data.action_scale == robot.data.action_scale
