"""Workers that die, hang or are interrupted; observations outside their space."""

import os
import signal
from contextlib import nullcontext
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch

from meta_rl.errors import InputError
from meta_rl.families import GymFamily, workers
from tests.extras import posix

CPU = {"device": "cpu", "dtype": torch.float64}
ACTION = torch.zeros(1, 2, dtype=torch.int64)


def send(env, number, worker=0):
    os.kill(env._vector.processes[worker].pid, number)


@posix
def test_workers_that_die_or_hang_are_refused_and_replaced_and_ctrl_c_leaves_them_alone():
    family = GymFamily("CartPole-v1")
    family.worker_timeout = 60.0
    env = family.make_vec(1, 2, **CPU, workers=1)
    first = env.reset([{}], seed=0)
    assert env.occupies_cores
    assert not family.make_vec(1, 2, **CPU).occupies_cores
    send(env, signal.SIGINT)
    assert torch.isfinite(env.step(ACTION).obs).all()
    env._timeout = 0.3
    send(env, signal.SIGSTOP)
    with pytest.raises(InputError, match=r"no answer to step for 0\.3 s and were killed"):
        env.step(ACTION)
    env._timeout = 60.0
    assert torch.equal(env.reset([{}], seed=0), first)
    process = env._vector.processes[0]
    send(env, signal.SIGKILL)
    with pytest.raises(InputError, match=r"a worker died in step, with exit codes \[-9\]"):
        env.step(ACTION)
    assert not process.is_alive()
    assert torch.equal(env.reset([{}], seed=0), first)
    env.close()


class Outside(gym.Env):
    """Observes what its space does not hold."""

    observation_space = gym.spaces.Box(-1, 1, (2,))
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        return np.array([0, 3], np.float32), 0.0, False, False, {}


def test_an_observation_outside_its_space_is_said_once():
    env = GymFamily(Outside, horizon=3).make_vec(1, 2, **CPU)
    env.reset([{}], seed=0)
    with pytest.warns(UserWarning, match=r"task \{\} has 3 as entry \[1\], outside its space"):
        env.step(ACTION)
    assert env.step(ACTION).obs[0, 0].tolist() == [0, 3]  # and no second warning, an error here
    env.close()


class Closing(Outside):
    """Leaves a file when it is closed."""

    def __init__(self, folder):
        self.folder = folder

    def close(self):
        (self.folder / str(os.getpid())).touch()


def test_environments_in_workers_are_closed(monkeypatch, tmp_path):
    monkeypatch.setattr(workers, "CLOSING", 60.0)
    env = GymFamily(partial(Closing, tmp_path), horizon=3).make_vec(1, 2, **CPU, workers=2)
    env.reset([{}], seed=0)
    processes = env._vector.processes
    env.close()
    assert {str(p.pid) for p in processes} <= {path.name for path in tmp_path.iterdir()}
    assert [p.exitcode for p in processes] == [0, 0]


class Counts(gym.Env):
    """Observes one whole number."""

    observation_space = gym.spaces.Box(0, 2**40, (1,), np.int64)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, number):
        self.number = number

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.array([self.number]), {}

    def step(self, action):
        return np.array([self.number]), 0.0, False, False, {}


@pytest.mark.parametrize(
    ("number", "dtype", "rounded"),
    [
        (2**24 + 1, torch.float32, True),
        (2**24 + 2, torch.float32, False),
        (2**24 + 1, torch.float64, False),
    ],
)
def test_whole_numbers_that_cannot_be_told_apart_are_said_once(number, dtype, rounded):
    env = GymFamily(partial(Counts, number), horizon=3).make_vec(1, 2, device="cpu", dtype=dtype)
    told = rf"task {{}} has {number} as entry \[0\], which torch.float32 rounds"
    with pytest.warns(UserWarning, match=told) if rounded else nullcontext():
        env.reset([{}], seed=0)
    env.step(ACTION)  # and no second warning, an error here
