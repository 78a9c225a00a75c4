"""Policies: what they act in, how that reaches the environment, and what they refuse."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from meta_rl.agents import CategoricalPolicy, GaussianPolicy, convolutional, make_policy, mlp
from meta_rl.agents.networks import policy_network

from meta_rl.config import NetworkConfig
from meta_rl.errors import InputError

NETWORK = NetworkConfig(hidden=(8,))


def seeded():
    return torch.Generator().manual_seed(0)


def gaussian(low, high, scale):
    space = gym.spaces.Box(np.float32(low), np.float32(high))
    return GaussianPolicy(3, space, NETWORK, seeded(), action_scale=scale)


def test_actions_are_scaled_linearly_onto_the_box_and_clipped():
    policy = gaussian([-0.1, 0.0], [0.1, 4.0], scale=10)
    actions = torch.tensor([[0.0, 0.0], [10.0, -10.0], [5.0, 5.0], [-50.0, 99.0]])
    expected = torch.tensor([[0.0, 2.0], [0.1, 0.0], [0.05, 3.0], [-0.1, 4.0]])
    torch.testing.assert_close(policy.env_action(actions), expected)


def test_an_unbounded_box_passes_actions_through():
    policy = gaussian([-np.inf], [np.inf], scale=10)
    torch.testing.assert_close(policy.env_action(torch.tensor([[37.0]])), torch.tensor([[37.0]]))


def test_leading_axes_of_observations_are_kept():
    obs = torch.randn(2, 5, 3, generator=seeded())
    policy = gaussian([-1, -1], [1, 1], scale=1)
    assert policy(obs).mean.shape == policy(obs).log_std.shape == (2, 5, 2)
    torch.testing.assert_close(policy(obs).mean[1, 3], policy(obs[1, 3:4]).mean[0])
    discrete = CategoricalPolicy(3, gym.spaces.Discrete(4), NETWORK, seeded())
    assert discrete(obs).logits.shape == (2, 5, 4)


def test_discrete_actions_count_from_the_spaces_start():
    policy = CategoricalPolicy(3, gym.spaces.Discrete(4, start=-1), NETWORK, seeded())
    assert policy.env_action(torch.tensor([0, 3])).tolist() == [-1, 2]


def test_the_same_generator_gives_the_same_weights_and_global_state_is_left_alone():
    before = torch.get_rng_state()
    one, other = gaussian([-1], [1], 1), gaussian([-1], [1], 1)
    assert all(map(torch.equal, one.parameters(), other.parameters()))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("observation", "action", "message"),
    [
        (gym.spaces.Dict({}), gym.spaces.Discrete(2), "observation space: expected Box"),
        (gym.spaces.Box(0, 1, (2,)), gym.spaces.Text(2), "action space: expected Discrete"),
        (gym.spaces.Box(0, 1, (2,)), gym.spaces.Box(0, 5, (2,), np.int64), "Box of floats"),
    ],
)
def test_spaces_that_no_policy_handles_are_refused(observation, action, message):
    with pytest.raises(InputError, match=message):
        make_policy(observation, action, NETWORK, seeded())


def test_a_context_stands_beside_every_row_of_the_input():
    network = mlp(3, (), 2, "tanh", seeded(), context=2)
    params = dict(network.named_parameters())
    assert params["context"].tolist() == [0, 0]
    assert params["0.weight"].shape == (2, 5)
    params["context"].data.copy_(torch.tensor([2.0, -1.0]))
    x = torch.randn(4, 3, generator=seeded())
    weight = params["0.weight"]
    expected = x @ weight[:, :3].mT + 2 * weight[:, 3] - weight[:, 4]
    torch.testing.assert_close(network(x), expected)


@pytest.mark.parametrize(
    "action_space", [gym.spaces.Discrete(2), gym.spaces.Box(-1, 1, (2,))], ids=["discrete", "box"]
)
def test_policies_take_a_context_and_without_one_are_as_before(action_space):
    observation_space = gym.spaces.Box(-1, 1, (3,))
    sizes = {}
    for context in (0, 4):
        network = NetworkConfig(hidden=(8,), context=context)
        policy = make_policy(observation_space, action_space, network, seeded())
        policy(torch.zeros(2, 5, 3))
        sizes[context] = {n.split(".", 1)[-1]: tuple(p.shape) for n, p in policy.named_parameters()}
    assert sizes[4].pop("context") == (4,)
    assert sizes[4] == sizes[0] | {"0.weight": (8, 7)}


def test_initial_weights_are_drawn_as_asked():
    def first_and_last(scheme):
        config = NetworkConfig(hidden=(8,), initialization=scheme)
        return [w for w in policy_network(4, 3, config, seeded()).parameters() if w.ndim == 2]

    eye = torch.eye(8)
    first, last = first_and_last("orthogonal")  # as ActorCriticPolicy: gains sqrt 2 and 0.01
    torch.testing.assert_close(first.T @ first, 2 * eye[:4, :4])
    torch.testing.assert_close(last @ last.T, 1e-4 * eye[:3, :3])
    limits = {"xavier": ((6 / 12) ** 0.5, (6 / 11) ** 0.5), "he": ((6 / 4) ** 0.5, (3 / 8) ** 0.5)}
    for scheme, bounds in limits.items():
        for weight, bound in zip(first_and_last(scheme), bounds, strict=True):
            assert 0.75 * bound < weight.abs().max() <= bound
    block, head = (
        convolutional((1, 4, 4), 3, seeded(), channels=8, blocks=1, initialization="orthogonal")[i]
        for i in (0, 2)
    )
    torch.testing.assert_close(block.weight.flatten(1) @ block.weight.flatten(1).T, 2 * eye)
    torch.testing.assert_close(head.weight @ head.weight.T, eye[:3, :3])
