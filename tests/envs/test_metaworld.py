"""Meta-World: goals, splits and episodes. Runs only where the extra is installed:

python -m venv mw && mw/bin/pip install -e '.[test,metaworld]' && mw/bin/pytest -k metaworld
"""

import dataclasses
import functools
import pickle

import numpy as np
import pytest
import torch
from meta_rl.envs import FAMILIES

import meta_rl
from meta_rl.config import EpisodesConfig
from meta_rl.errors import InputError
from meta_rl.families.registry import make_family
from tests.contract import check_family
from tests.extras import needs

metaworld = needs("metaworld")
env_dict = metaworld.env_dict

SEED = 0  # of the benchmarks


@pytest.fixture(autouse=True, scope="module")
def goals_drawn_once():
    """ML10's take seconds; the family and the tests may share them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metaworld, "ML10", functools.cache(metaworld.ML10))
        yield


@pytest.fixture(scope="module")
def reach():
    return make_family("metaworld-ml1-reach-v3")


def goal_of(setting):
    """The random vector of one of Meta-World's own tasks: object and goal positions."""
    return pickle.loads(setting.data)["rand_vec"]


def served(env):
    """The same of an environment that has been reset."""
    env.reset(seed=0)
    return env.unwrapped._last_rand_vec


def episode(env, actions, seed=0):
    """Observations, rewards, ends and successes under these actions."""
    obs, _ = env.reset(seed=seed)
    steps = [env.step(action) for action in actions]
    observations = np.array([obs, *(step[0] for step in steps)])
    rewards, ends = np.array([s[1] for s in steps]), [(s[2], s[3]) for s in steps]
    return observations, rewards, ends, [s[4]["success"] for s in steps]


def random_actions(steps=60):
    return np.random.default_rng(0).uniform(-1, 1, (steps, 4)).astype(np.float32)


# Meta-World's ways: bounds (0, 0) for hidden goals, and a function to seed besides reset(seed).
@pytest.mark.filterwarnings("ignore:.*maximum and minimum values are equal")
@pytest.mark.filterwarnings("ignore:.*support for the `seed` function")
@pytest.mark.parametrize("name", ["metaworld-ml1-reach-v3", "metaworld-ml10"])
def test_family_keeps_the_contract(name, monkeypatch):
    # Theirs again: compute_reward, by which stable-baselines3 would take it for a GoalEnv.
    monkeypatch.setattr("stable_baselines3.common.env_checker._is_goal_env", lambda env: False)
    check_family(make_family(name))


def test_spaces_are_those_of_every_environment_with_a_hidden_goal(reach):
    assert reach.observation_space.shape == (39,)
    assert reach.observation_space.dtype == np.float64
    assert reach.action_space.shape == (4,)
    assert np.array_equal(reach.action_space.high, np.ones(4))
    ml10 = make_family("metaworld-ml10")
    for name in ("door-open-v3", "lever-pull-v3"):
        env = ml10.make_env({"task": name, "goal": 0})
        assert env.observation_space == reach.observation_space
        assert env.action_space == reach.action_space


def test_ml1_trains_on_the_train_goals_and_extrapolates_to_the_test_goals(reach):
    benchmark = metaworld.ML1("reach-v3", seed=SEED)
    train, test = (
        [goal_of(setting) for setting in settings]
        for settings in (benchmark.train_tasks, benchmark.test_tasks)
    )
    assert len(np.unique(train + test, axis=0)) == 100
    for i in (0, 17, 49):
        assert np.array_equal(served(reach.make_env({"goal": i})), train[i])
        assert np.array_equal(served(reach.make_env({"goal": 50 + i})), test[i])
    assert {task["goal"] for task in reach.sample_tasks(2000, 0)} == {*range(50)}
    held_out = reach.sample_tasks(2000, 0, "extrapolation")
    assert {task["goal"] for task in held_out} == {*range(50, 100)}


def test_goals_are_the_same_on_every_machine(reach):
    target = served(reach.make_env({"goal": 0}))[3:]
    np.testing.assert_allclose(target, [-0.0233117, 0.8791725, 0.18222373], atol=1e-8)
    target = served(reach.make_env({"goal": 50}))[3:]
    np.testing.assert_allclose(target, [0.0340935, 0.84173048, 0.18967246], atol=1e-8)


def test_making_a_family_leaves_the_global_generator_alone():
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    make_family("metaworld-ml1-push-v3").make_env({"goal": 0})
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


def test_ml10_and_ml45_extrapolate_to_their_test_environments():
    for number, benchmark in ((10, env_dict.ML10_V3), (45, env_dict.ML45_V3)):
        family = make_family(f"metaworld-ml{number}")
        train = {task["task"] for task in family.sample_tasks(2000, 0)}
        test = {task["task"] for task in family.sample_tasks(2000, 0, "extrapolation")}
        assert (train, test) == ({*benchmark["train"]}, {*benchmark["test"]})
        assert (len(train), len(test), train & test) == (number, 5, set())
        assert {task["goal"] for task in family.sample_tasks(2000, 0)} == {*range(50)}


def test_ml10_makes_the_environment_and_goal_of_its_task():
    family, benchmark = make_family("metaworld-ml10"), metaworld.ML10(seed=SEED)
    settings = {"reach-v3": benchmark.train_tasks, "lever-pull-v3": benchmark.test_tasks}
    for name, tasks in settings.items():
        env = family.make_env({"task": name, "goal": 17})
        assert isinstance(env.unwrapped, metaworld.ALL_V3_ENVIRONMENTS[name])
        expected = [goal_of(task) for task in tasks if task.env_name == name][17]
        assert np.array_equal(served(env), expected)


def test_an_episode_is_meta_worlds_own_and_the_task_stays(reach):
    benchmark = metaworld.ML1("reach-v3", seed=SEED)
    theirs = benchmark.train_classes["reach-v3"]()
    theirs.set_task(benchmark.train_tasks[3])
    ours = reach.make_env({"goal": 3})
    expected = episode(theirs, random_actions())
    for seed in (0, 1, None):
        answer = episode(ours, random_actions(), seed)
        assert np.array_equal(answer[0], expected[0])
        assert np.array_equal(answer[1], expected[1])
    assert not answer[0][:, 36:].any(), "the goal shows"


def test_reset_takes_the_seed(reach):
    env = reach.make_env({"goal": 0})
    draws = []
    for seed in (5, 5, 6):
        env.reset(seed=seed)
        draws.append(env.unwrapped.np_random.random())
    assert draws[0] == draws[1] != draws[2]


def test_success_is_told_at_every_step_and_does_not_end_the_episode(reach):
    env = reach.make_env({"goal": 0})
    env.reset(seed=0)
    arm, told = env.unwrapped, []
    for step in range(500):
        push = np.clip(10 * (arm._target_pos - arm.tcp_center), -1, 1)
        _, _, terminated, truncated, info = env.step(np.array([*push, 0], np.float32))
        told.append(info["success"])
        assert not terminated
        assert truncated == (step == 499)
    assert (told[0], told[-1]) == (0.0, 1.0)


def test_success_of_every_row_is_within_reach_of_an_evaluation(reach):
    env = reach.make_vec(2, 2, device="cpu", dtype=torch.float64)
    env.reset([{"goal": 0}, {"goal": 1}], seed=0)
    succeeded = torch.zeros(2, 2, dtype=torch.bool)
    for _ in range(150):
        arms = [row.unwrapped for row in env.envs]
        push = [np.clip(10 * (arm._target_pos - arm.tcp_center), -1, 1) for arm in arms]
        action = torch.tensor(np.array([[*p, 0] for p in push])).reshape(2, 2, 4)
        action[1] = 0  # the second task's arms stay where they are
        told = env.step(action).success
        succeeded |= told > 0
    assert succeeded.tolist() == [[True, True], [False, False]]
    env.close()


def test_ml1_trains_and_adapts_to_a_test_goal():
    short = EpisodesConfig(tasks=2, episodes=1)
    config = dataclasses.replace(meta_rl.preset("metaworld-ml1-reach-v3"), data=short)
    learner = meta_rl.build(config)
    learner.learn(iterations=1)
    policy = learner.adapt({"goal": 73}, steps=1)
    assert learner.samples == 2 * 2 * 500
    assert len(policy.scores) == 2
    assert min(policy.scores) > 0.0, "reach pays at every step"


def test_workers_get_the_goals_instead_of_drawing_them_again(reach):
    reach.make_env({"goal": 0})
    copied = pickle.loads(pickle.dumps(reach))
    assert "_settings" in vars(copied)
    env = copied.make_env({"goal": 7})
    assert np.array_equal(served(env), served(reach.make_env({"goal": 7})))


def test_families_are_made_on_demand_and_once(reach):
    assert make_family("metaworld-ml1-reach-v3") is reach
    assert not any("metaworld" in name for name in FAMILIES)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("metaworld-ml1-reech-v3", "Did you mean 'metaworld-ml1-reach-v3'"),
        ("metaworld-ml1", "expected one of metaworld-ml1-TASK, metaworld-ml10, metaworld-ml45"),
        ("metaworld-ml25", "got 'metaworld-ml25'"),
    ],
)
def test_unknown_benchmarks_are_refused(name, message):
    with pytest.raises(InputError, match=message):
        make_family(name)


def test_impossible_tasks_are_refused(reach):
    with pytest.raises(InputError, match=r"a whole number from 0 to 49, .* 50 to 99, got 100"):
        reach.check_task({"goal": 100})
    with pytest.raises(InputError, match=r"task parameter task: expected one of reach-v3, .*got"):
        make_family("metaworld-ml10").check_task({"task": "hammer-v3", "goal": 0})
