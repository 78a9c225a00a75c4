"""What every family of environments must satisfy. A new family is tested by being listed."""

import json
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env as gymnasium_check
from stable_baselines3.common.env_checker import check_env as stable_baselines3_check

from meta_rl.errors import InputError
from meta_rl.families import GymVec, TensorEnv, parse_task
from meta_rl.families.distributions import values_to_try
from meta_rl.families.effects import middle_task
from meta_rl.tasks import check_tasks as check_tasks_of

FLOAT64 = {"device": "cpu", "dtype": torch.float64}
QPOS_QVEL = ("qpos", "qvel")


def check_family(family):
    """Everything below."""
    check_tasks(family)
    check_every_value_works(family)
    check_spaces_and_checkers(family)
    check_batched_env(family, GymVec(family.make_env, 2, 2, **FLOAT64))
    env = family.make_vec(2, 2, **FLOAT64)
    if not isinstance(env, GymVec):
        check_batched_env(family, env)
        if family.stochastic:
            check_batched_env_agrees_with_single_env_on_average(family)
        else:
            check_batched_env_equals_single_env(family)
    check_every_parameter_takes_effect(family)


def check_tasks(family):
    """Sampling is deterministic and in range, tasks survive JSON, wrong ones are refused."""
    tasks = family.sample_tasks(50, seed=1)
    assert tasks == family.sample_tasks(50, seed=1)
    assert tasks != family.sample_tasks(50, seed=2)
    assert [family.check_task(json.loads(json.dumps(task))) for task in tasks] == tasks
    for name in tasks[0]:
        assert len({task[name] for task in tasks}) > 1
        with pytest.raises(InputError, match=f"task parameter {name}: expected .*, got"):
            family.check_task({**tasks[0], name: "no such value"})
        with pytest.raises(InputError, match="missing"):
            family.check_task({key: v for key, v in tasks[0].items() if key != name})
    with pytest.raises(InputError, match="got 'no such parameter'"):
        family.check_task({**tasks[0], "no such parameter": 1.0})
    for task in tasks[:10]:
        entries = {n: v if isinstance(v, tuple) else (v,) for n, v in task.items()}
        said = ",".join(f"{name}={','.join(map(str, each))}" for name, each in entries.items())
        assert repr(family.check_task(parse_task(said))) == repr(task)
    with pytest.raises(InputError, match="task: expected a dictionary"):
        check_tasks_of(family, [tuple(tasks[0].values())])


def check_every_value_works(family):
    """Every value of a choice, and both ends and the middle of a range, make a sound episode."""
    middle = middle_task(family)
    for parameter in family.space.parameters:
        for value in values_to_try(parameter.distribution):
            entries = value if parameter.size is None else (value,) * parameter.size
            env = family.make_env({**middle, parameter.name: entries})
            obs, _ = env.reset(seed=0)
            family.action_space.seed(0)
            for _ in range(min(10, family.horizon)):
                assert np.isfinite(obs).all(), f"{family.id}: {parameter.name}={entries}"
                obs, reward, terminated, truncated, _ = env.step(family.action_space.sample())
                assert np.isfinite(reward), f"{family.id}: {parameter.name}={entries}"
                if terminated or truncated:
                    break
            env.close()


def check_spaces_and_checkers(family):
    """The single environment is one that Gymnasium and stable-baselines3 accept."""
    env = family.make_env(family.sample_tasks(1, seed=0)[0])
    assert env.observation_space == family.observation_space
    assert env.action_space == family.action_space
    assert env.spec is None or env.spec.max_episode_steps in (None, family.horizon)
    with warnings.catch_warnings():
        # Advice, not faults: actions in [-1, 1], observations with bounds, flat or large.
        for advice in ("symmetric and normalized", "infinity", "unconventional", "resolution"):
            warnings.filterwarnings("ignore", message=f".*{advice}.*")
        if env.unwrapped.observation_space == env.observation_space:
            gymnasium_check(env.unwrapped, skip_render_check=True)
            stable_baselines3_check(env.unwrapped, warn=True)
        else:  # wrapped by the family; Gymnasium's checker takes no such environment
            stable_baselines3_check(env, warn=True)
    env.close()


def check_batched_env(family, env):
    """Same seed, same bits; the task persists across resets; shapes and types as promised."""
    tasks = family.sample_tasks(2, seed=3)
    first, again = (run(family, env, tasks, seed=5) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    for obs, reward, terminated, truncated in first:
        assert obs.shape == (2, 2, gym.spaces.flatdim(family.observation_space))
        assert reward.shape == terminated.shape == truncated.shape == (2, 2)
        assert obs.dtype == reward.dtype == torch.float64
        assert terminated.dtype == truncated.dtype == torch.bool
        assert torch.isfinite(obs).all()
        assert torch.isfinite(reward).all()
    env.close()
    env.close()


def check_batched_env_equals_single_env(family):
    """Over whole episodes with random actions, flags included, to 1e-6, in float64."""
    tasks = family.sample_tasks(4, seed=7)
    batched = family.make_vec(4, 1, **FLOAT64)
    singles = [family.make_env(task) for task in tasks]
    batched.reset(tasks, seed=0)
    observations = [single.reset(seed=m)[0] for m, single in enumerate(singles)]
    started = start_alike(batched, singles)
    np.testing.assert_allclose(started[:, 0].numpy(), observations, atol=1e-6)
    running = [True] * 4
    ended = 0
    for _ in range(family.horizon):
        actions = sample_actions(family, 4, 1)
        step = batched.step(actions)
        for m, single in enumerate(singles):
            if not running[m]:
                continue
            action = actions[m, 0].numpy()
            obs, reward, terminated, truncated, _ = single.step(
                action.astype(family.action_space.dtype)
            )
            np.testing.assert_allclose(step.obs[m, 0].numpy(), obs, atol=1e-6)
            assert abs(step.reward[m, 0].item() - reward) < 1e-6
            assert step.terminated[m, 0].item() == terminated
            assert step.truncated[m, 0].item() == truncated
            running[m] = not (terminated or truncated)
            ended += not running[m]
    assert ended == 4


def check_batched_env_agrees_with_single_env_on_average(family):
    """Means over 500 episodes of the same actions, at each of up to 10 steps.

    They differ by less than 5 standard errors: over all entries and families together, right
    environments fail for less than one seed in a thousand.
    """
    tasks = family.sample_tasks(2, seed=7)
    rows, steps = (2, 500), min(10, family.horizon)
    family.action_space.seed(0)
    actions = [torch.as_tensor(family.action_space.sample()) for _ in range(steps)]
    samples = []
    for env in (family.make_vec(*rows, **FLOAT64), GymVec(family.make_env, *rows, **FLOAT64)):
        env.reset(tasks, seed=1)
        taken = [env.step(action.expand(*rows, *action.shape)) for action in actions]
        samples.append(
            torch.stack([torch.cat([step.obs, step.reward[..., None]], -1) for step in taken])
        )
    difference = (samples[0].mean(2) - samples[1].mean(2)).abs()
    error = ((samples[0].var(2) + samples[1].var(2)) / rows[1]) ** 0.5
    assert (difference <= 5 * error).all()


def check_every_parameter_takes_effect(family):
    """Another value of any one parameter changes observations or rewards.

    Within 100 steps of some of 16 episodes, each with one random action held: even a sparse reward
    is met by walking straight on.
    """
    base, *others = family.sample_tasks(40, seed=11)
    env = family.make_vec(1, 16, **FLOAT64)
    steps = min(100, family.horizon)
    before = run(family, env, [base], seed=0, steps=steps, held=True)
    for name in base:
        value = next(task[name] for task in others if task[name] != base[name])
        after = run(family, env, [{**base, name: value}], seed=0, steps=steps, held=True)
        same = all(
            torch.equal(a, b)
            for one, two in zip(before, after, strict=True)
            for a, b in zip(one[:2], two[:2], strict=True)
        )
        assert not same, f"{family.id}: {name} changes nothing"


def run(family, env, tasks, seed, steps=10, held=False):
    """The first steps of an episode under fixed random actions, new at each step or held."""
    obs = env.reset(tasks, seed)
    assert obs.shape[:2] == env.rows
    return [env.step(sample_actions(family, *env.rows, 0 if held else t)) for t in range(steps)]


def sample_actions(family, num_tasks, episodes, seed=None):
    """Random actions (M, B, A) or (M, B) from the action space."""
    space = family.action_space
    if seed is not None:
        space.seed(seed)
    rows = [[space.sample() for _ in range(episodes)] for _ in range(num_tasks)]
    return torch.tensor(np.array(rows))


def start_alike(batched, singles):
    """Put every row into the state of its single environment; returns obs."""
    inside = [single.unwrapped for single in singles]
    if isinstance(batched, TensorEnv):
        states = [env.state if hasattr(env, "state") else env.position for env in inside]
        batched.state = torch.tensor(np.array(states, dtype=np.float64)).unsqueeze(1)
        return batched.observe()
    return batched.set_state(*([getattr(e.data, name) for e in inside] for name in QPOS_QVEL))
