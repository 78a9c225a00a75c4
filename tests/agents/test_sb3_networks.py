"""Networks of images, joined parts and one's own, to stable-baselines3 and back: equal actions."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from meta_rl.agents import make_policy, use_module
from meta_rl.agents.own_modules import MODULES
from meta_rl.agents.sb3 import _joined_alike, load_expert, read_parameters, save_ppo, to_ppo
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from meta_rl import seeds
from meta_rl.config import NetworkConfig
from meta_rl.errors import InputError
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
    check_equal_actions(ours, load_expert(file, env, action_scale=3.0), env)
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


def of_space(space, **network):
    config = NetworkConfig(hidden=(4,), **network)
    policy = make_policy(space, DISCRETE, config, seeds.generator(0))
    return adapted_policy(policy, dict(policy.named_parameters()), Still(space, DISCRETE), (), {})


@pytest.mark.parametrize(
    ("space", "network", "message"),
    [
        (spaces.Tuple([SMALL, VECTOR]), {}, "images that enter convolutions, alone or in a Dict"),
        (spaces.Box(0, 255, (2, 9, 9, 3), np.uint8), {}, "with three axes, got"),
        (SMALL, {"kind": "mlp"}, "pixels in a perceptron"),
        (spaces.Dict(a=spaces.Dict(eye=SMALL)), {}, "images that enter convolutions|in a Dict"),
    ],
)
def test_networks_without_a_counterpart_are_refused(space, network, message):
    with pytest.raises(InputError, match=message):
        to_ppo(of_space(space, **network), Still(space, DISCRETE))


class Squares(BaseFeaturesExtractor):
    """An extractor without tensors."""

    def __init__(self, observation_space):
        super().__init__(observation_space, 4)

    def forward(self, observations):
        return observations.square()


def changed(name):
    """Write another tensor into a zip's ``policy.pth``."""

    def change(ppo):
        state = ppo.policy.state_dict()
        own = ppo.policy.state_dict
        other = {**state, name: state[name] + 1}
        ppo.policy.state_dict = lambda *given, **more: other if not given else own(*given, **more)

    return change


FLAT = spaces.Box(-1, 1, (4,))


@pytest.mark.parametrize(
    ("space", "arguments", "change", "message"),
    [
        (FLAT, {"features_extractor_class": Squares}, None, "one without tensors, Squares, in"),
        (LARGE, {"normalize_images": False}, None, "expected images as numbers from 0 to 1"),
        (FLAT, {"features_extractor_class": Theirs}, None, "of vectors, got Theirs in .*--network"),
        (
            LARGE,
            {},
            changed("pi_features_extractor.cnn.0.bias"),
            "the same tensors in features",
        ),
        (LARGE, {"features_extractor_kwargs": {"features_dim": 8}}, None, "got 8 in"),
    ],
)
def test_zips_that_compute_something_else_are_refused(space, arguments, change, message, tmp_path):
    name = "CnnPolicy" if space is LARGE else "MlpPolicy"
    theirs = PPO(name, Still(space, DISCRETE), policy_kwargs=arguments, device="cpu")
    if change:
        change(theirs)
    theirs.save(tmp_path / "theirs.zip")
    with pytest.raises(InputError, match=message):
        read_parameters(tmp_path / "theirs.zip", of_space(space).policy)


@pytest.mark.parametrize(
    "parts",
    [
        {"a.b": spaces.Box(-1, 1, (2,)), "img": spaces.Box(0, 255, (36, 36, 3), np.uint8)},
        {
            "a": spaces.Box(0, 255, (3, 36, 36), np.uint8),
            "b": spaces.Box(0, 255, (36, 36, 3), np.uint8),
        },
    ],
)
def test_dicts_that_stable_baselines3_cannot_join_are_refused(parts):
    space = spaces.Dict(parts)
    assert not _joined_alike(space, images=True)
