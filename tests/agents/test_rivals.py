"""The baselines by stable-baselines3: their environments, their budgets, and that they learn."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check
from gymnasium.wrappers import TimeLimit
from meta_rl.agents.ppo import fine_tune, from_scratch, pretrain
from meta_rl.agents.rl2 import in_context_returns, train_rl2
from meta_rl.agents.trials import RandomTaskEnv, TrialEnv, with_unit_actions
from meta_rl.envs import Navigation2D
from meta_rl.envs.discrete import BanditEnv
from stable_baselines3.common.env_checker import check_env as stable_baselines3_check

from meta_rl.errors import InputError
from meta_rl.families.registry import make_family


class Apart(gym.ObservationWrapper):
    """Shows which arm pays in numbers far from each other's size."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,))

    def observation(self, observation):
        return np.float32([1e4 + self.np_random.normal(), 1e-3 * self.np_random.normal()])


def test_rivals_normalize_what_they_see_and_keep_their_statistics():
    model = pretrain(lambda seed: Apart(bandit(seed % 2)), 128, normalize=True)
    statistics = model.get_vec_normalize_env().obs_rms
    assert abs(statistics.mean[0] - 1e4) < 1
    before = statistics.mean.copy()
    make, seen = lambda: Apart(bandit(1)), []
    scores = fine_tune(model, make, [0, 64], episodes=2, callback=lambda held, _: seen.append(
        held["self"].get_vec_normalize_env().obs_rms.count) or True)  # fmt: skip
    assert len(scores) == 2
    assert statistics.count < seen[0]
    assert (statistics.mean == before).all()
    recurrent = train_rl2(
        lambda seed: Apart(bandit(seed % 2)), 2, 8, rollout=8, hidden=4, normalize=True
    )
    assert recurrent.get_vec_normalize_env().obs_rms.mean.shape == (6,)
    assert in_context_returns(recurrent, lambda seed: make(), 2, [0]).shape == (1, 2)


def bandit(right, pulls=1):
    """Two arms, of which one always pays and the other never."""
    return TimeLimit(BanditEnv((1.0 - right, float(right))), pulls)


def draw_bandit(seed):
    return bandit(seed % 2)


def draw_from(name):
    family = make_family(name)
    return lambda seed: family.make_env(family.sample_tasks(1, seed)[0])


@pytest.mark.parametrize("name", ["navigation-2d", "cartpole", "bandit-5"])
@pytest.mark.parametrize("make", [RandomTaskEnv, lambda draw: TrialEnv(draw, 2)])
@pytest.mark.filterwarnings("ignore:.*(symmetric and normalized|infinity|not recommended)")
def test_both_checkers_accept_the_environments(make, name):
    env = make(draw_from(name))
    gymnasium_check(env, skip_render_check=True)
    stable_baselines3_check(env, warn=True)


def test_a_trial_shows_what_happened_and_keeps_its_task_over_episodes():
    env = TrialEnv(lambda seed: bandit(seed % 2, pulls=2), episodes=3)
    rows, rewards = [], []
    obs, _ = env.reset(seed=0)
    for t, action in enumerate([0, 1, 1, 1, 0, 0]):
        rows.append(obs)
        obs, reward, terminated, truncated, info = env.step(action)
        rewards.append(reward)
        assert (terminated, truncated) == (t == 5, False)
    rows.append(obs)
    right = 1 if rewards[1] else 0
    assert rewards == [float(a == right) for a in [0, 1, 1, 1, 0, 0]]
    # (observation, one-hot of the previous action, previous reward, done)
    assert rows[0].tolist() == [1, 0, 0, 0, 0]
    assert rows[1].tolist() == [1, 1, 0, rewards[0], 0]
    assert rows[2].tolist() == [1, 0, 1, rewards[1], 1]
    assert rows[3].tolist() == [1, 0, 1, rewards[2], 0]
    assert rows[6].tolist() == [1, 1, 0, rewards[5], 1]
    assert info["returns"] == [1.0, 2.0 * right, 2.0 * (1 - right)]


def test_the_task_changes_between_trials_and_episodes_and_the_seed_decides():
    def right_arms(env, seed):
        arms = []
        env.reset(seed=seed)
        for _ in range(20):
            arms.append(env.unwrapped._env.unwrapped.means.tolist())
            env.reset()
        return arms

    for make in (RandomTaskEnv, lambda draw: TrialEnv(draw, 3)):
        once = right_arms(make(draw_bandit), 4)
        assert once == right_arms(make(draw_bandit), 4)
        assert once != right_arms(make(draw_bandit), 5)
        assert len({tuple(means) for means in once}) == 2


def test_boxes_are_rescaled_and_the_previous_action_is_seen_rescaled():
    env = TrialEnv(lambda seed: with_unit_actions(Navigation2D().make_env({"goal": (0, 0)})), 1)
    assert env.action_space == gym.spaces.Box(-1.0, 1.0, (2,))
    env.reset(seed=0)
    obs = env.step(np.float32([1.0, -0.5]))[0]
    np.testing.assert_allclose(obs[:4], [0.1, -0.05, 1.0, -0.5], atol=1e-6)
    discrete = bandit(1)
    assert with_unit_actions(discrete) is discrete


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TrialEnv(draw_bandit, 0), "episodes: expected 1 or more, got 0"),
        (lambda: from_scratch(lambda: bandit(1), [128, 128]), "budgets: expected rising"),
        (lambda: from_scratch(lambda: bandit(1), []), "budgets: expected rising"),
        (lambda: from_scratch(lambda: bandit(1), [0, 63]), r"budgets: expected 64 steps \(a mini"),
        (lambda: pretrain(draw_bandit, 10), "budgets: expected 64 steps"),
        (lambda: train_rl2(draw_bandit, 2, 10), r"steps: expected 128 \(a rollout\) or more"),
        (lambda: train_rl2(draw_bandit, 2, 10, rollout=1), "rollout: expected 2 or more"),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


class Counted(gym.Wrapper):
    """Counts steps over all episodes."""

    def __init__(self, env):
        super().__init__(env)
        self.steps = 0

    def step(self, action):
        self.steps += 1
        return self.env.step(action)


def test_ppo_learns_within_its_budgets_and_never_beyond_them():
    made = []

    def make_env():
        made.append(Counted(bandit(1, pulls=8)))
        return made[-1]

    scores = from_scratch(make_env, [0, 300, 600], episodes=50, seed=0)
    learned_on, scored_on = made
    assert learned_on.steps == 512  # rollouts of 256: one in 300, two in 600
    assert scored_on.steps == 3 * 50 * 8
    assert scores[2] > scores[0] + 0.8
    again = from_scratch(make_env, [0, 300, 600], episodes=50, seed=0)
    assert again == scores


def test_a_pretrained_ppo_starts_where_the_family_left_it_and_stays_as_it_is():
    model = pretrain(lambda seed: bandit(0, pulls=8), 1024, seed=0)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    same = fine_tune(model, lambda: bandit(0, pulls=8), [0], episodes=50)
    other = fine_tune(model, lambda: bandit(1, pulls=8), [0, 1024], episodes=50)
    assert same[0] > 5 > 3 > other[0]
    assert other[1] > other[0] + 0.8
    assert all(bool((before[n] == v).all()) for n, v in model.policy.state_dict().items())


def test_rl2_finds_the_paying_arm_in_one_pull():
    """The first pull is a guess; each later one of the trial need not be."""
    model = train_rl2(
        draw_bandit, 5, 800, rollout=160, hidden=8, learning_rate=0.02, seed=0
    )  # fmt: skip
    returns = in_context_returns(model, draw_bandit, 5, range(40))
    assert returns.shape == (40, 5)
    assert returns[:, 2:].mean() > 0.8
    np.testing.assert_array_equal(returns, in_context_returns(model, draw_bandit, 5, range(40)))
