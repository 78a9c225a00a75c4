"""Networks of images, joined parts and one's own, to stable-baselines3 and back: equal actions."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from meta_rl.agents import make_policy, use_module
from meta_rl.agents.own_modules import MODULES
from meta_rl.agents.sb3 import load_expert, read_parameters, save_ppo, to_ppo
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from torch import nn

from meta_rl.config import NetworkConfig
from meta_rl.problems.adapted import adapted_policy
from tests.agents.test_own_modules import Theirs, Wide

LARGE, SMALL = (spaces.Box(0, 255, shape, np.uint8) for shape in ((36, 40, 3), (9, 10, 3)))
VECTOR = spaces.Box(-1, 1, (2, 2))
DISCRETE, BOX = spaces.Discrete(5), spaces.Box(-0.1, 0.1, (2, 2))
MANY, FLAGS = spaces.MultiDiscrete([3, 2]), spaces.MultiBinary(3)
CASES = {
    "Atari network": (LARGE, DISCRETE, {"hidden": ()}),
    "channels first": (spaces.Box(0, 255, (1, 36, 36), np.uint8), FLAGS, {"hidden": (6,)}),
    "small network": (SMALL, BOX, {}),
    "image and vector": (spaces.Dict(eye=LARGE, at=VECTOR), MANY, {}),
    "small image and others": (
        spaces.Dict(eye=SMALL, at=VECTOR, kind=spaces.Discrete(3), on=FLAGS),
        BOX,
        {"activation": "silu"},
    ),
    "vectors": (spaces.Dict(at=VECTOR, kind=spaces.MultiDiscrete([2, 3])), MANY, {}),
    "an extractor of theirs": (spaces.Box(-1, 1, (4,)), DISCRETE, {"module": Theirs}),
    "a module": (spaces.Dict(at=VECTOR), FLAGS, {"module": "Parts"}),
    "a module of images": (SMALL, BOX, {"module": Wide, "hidden": ()}),
}


class Parts(nn.Module):
    """Takes a dict."""

    def __init__(self, space):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, inputs):
        return torch.sin(self.linear(inputs["at"].flatten(1)))


class Still(gym.Env):
    """Five steps of random observations, each rewarded by 1."""

    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space, self.t = observation_space, action_space, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.t += 1
        return self.observation_space.sample(), 1.0, False, self.t == 5, {}


@pytest.fixture(autouse=True)
def forget():
    yield
    MODULES.clear()


def case(name):
    """An environment, and a policy for it that is moved away from its initial weights."""
    observations, actions, network = CASES[name]
    module = {"Parts": Parts}.get(network.get("module"), network.get("module"))
    if module is not None:
        network = {**network, "module": use_module(module)}
    env, generator = Still(observations, actions), torch.Generator().manual_seed(0)
    observations.seed(0)
    config = NetworkConfig(**{"hidden": (8,), **network})
    policy = make_policy(observations, actions, config, generator, action_scale=2.0)
    params = {
        name: value.detach() + 0.1 * value.std() * torch.randn(value.shape, generator=generator)
        if value.numel() > 1
        else value.detach()
        for name, value in policy.named_parameters()
    }
    return env, adapted_policy(policy, params, env, (), {})


def batch(space, count=32):
    """Observations with a leading axis in each part."""
    each = [space.sample() for _ in range(count)]
    if isinstance(space, spaces.Dict):
        return {name: np.stack([one[name] for one in each]) for name in space.spaces}
    return np.stack(each)


def check_equal_actions(one, other, env):
    obs = batch(env.observation_space)
    ours, theirs = (model.predict(obs, deterministic=True)[0] for model in (one, other))
    assert len(np.unique(ours.reshape(len(ours), -1), axis=0)) > 1
    np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_every_network_is_the_same_in_stable_baselines3_and_back(name, tmp_path):
    env, ours = case(name)
    file = tmp_path / "ppo.zip"
    save_ppo(to_ppo(ours, env), file)
    theirs = PPO.load(file, env=env, device="cpu", n_steps=4, batch_size=4, n_epochs=1)
    check_equal_actions(ours, theirs, env)
    torch.testing.assert_close(read_parameters(file, ours.policy), ours.params)
    theirs.learn(4)
    assert evaluate_policy(theirs, Monitor(env), n_eval_episodes=1)[0] == 5
    assert evaluate_policy(ours, Monitor(env), n_eval_episodes=1)[0] == 5


@pytest.mark.parametrize(("algorithm", "share"), [(PPO, True), (A2C, False)])
@pytest.mark.parametrize("space", [LARGE, spaces.Dict(eye=LARGE, at=VECTOR)], ids=["image", "dict"])
def test_networks_of_stable_baselines3_act_the_same_here(algorithm, share, space, tmp_path):
    env = Still(space, BOX)
    space.seed(0)
    name = "MultiInputPolicy" if isinstance(space, spaces.Dict) else "CnnPolicy"
    arguments = {"share_features_extractor": share}
    theirs = algorithm(name, env, policy_kwargs=arguments, seed=0, device="cpu")
    theirs.policy.action_net.weight.data.mul_(3)  # it starts tiny
    theirs.save(tmp_path / "theirs.zip")
    check_equal_actions(theirs, load_expert(tmp_path / "theirs.zip", env), env)
