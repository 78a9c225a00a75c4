"""Policies of images: layouts, convolutions for every task, bytes, and parts of observations."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from meta_rl.agents import JoinedFeatures, NatureCNN, SmallCNN, make_policy
from meta_rl.agents.image_functions import convolve
from stable_baselines3.common.torch_layers import NatureCNN as TheirNatureCNN
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

import meta_rl
from meta_rl.config import Config, EpisodesConfig, EvalConfig, NetworkConfig
from meta_rl.errors import InputError
from meta_rl.families.registry import FAMILIES
from meta_rl.problems.observations import flat, flat_space, image_layout, keeps_bytes


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def image(*shape):
    return spaces.Box(0, 255, shape, np.uint8)


def pixels(*shape):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=seeded(1))


@pytest.mark.parametrize(
    ("shape", "order"),
    [
        ((5, 4, 3), (0, 1, 2, 3)),  # channels last
        ((3, 5, 4), (0, 2, 3, 1)),  # channels first
        ((2, 5, 4, 3), (0, 2, 3, 1, 4)),  # stacked frames
        ((2, 3, 5, 4), (0, 3, 4, 1, 2)),
    ],
)
def test_images_of_every_layout_become_height_width_channels(shape, order):
    given = pixels(6, *shape)
    layout = image_layout(image(*shape))
    expected = given.permute(order).reshape(6, 5, 4, -1)
    assert torch.equal(layout.images(given.flatten(1)), expected)
    assert layout.size == expected.shape[1:]


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(0, 1, (5, 4, 3), np.float32),
        spaces.Box(0, 10, (5, 4, 3), np.uint8),  # codes of a grid
        spaces.Box(0, 255, (128,), np.uint8),  # an Atari machine's memory
    ],
)
def test_other_boxes_are_no_images(space):
    assert image_layout(space) is None
    assert not keeps_bytes(space)


def test_a_dict_of_bytes_and_flags_is_one_vector_of_bytes():
    parts = {"camera": image(2, 2, 1), "door": spaces.Discrete(3), "keys": spaces.MultiBinary(2)}
    space = spaces.Dict(parts)
    seen = {"camera": np.full((2, 2, 1), 200, np.uint8), "door": 1, "keys": np.array([0, 1])}
    assert flat_space(space).dtype == np.uint8
    assert flat(space, seen).tolist() == [200] * 4 + [0, 1, 0] + [0, 1]
    speed = spaces.Dict({**parts, "speed": spaces.Box(-1, 1, (1,))})
    assert not keeps_bytes(speed)
    assert flat_space(speed).dtype == np.float32


@pytest.mark.parametrize(("window", "stride", "padding"), [(4, 2, 0), (3, 1, 1), (3, 2, 1)])
def test_convolutions_with_a_weight_for_every_task_are_torchs(window, stride, padding):
    images = torch.randn(3, 2, 7, 8, 2, generator=seeded(), dtype=torch.float64)
    weight = torch.randn(3, 4, 2, window, window, generator=seeded(), dtype=torch.float64)
    other = torch.randn(weight.shape, generator=seeded(2), dtype=torch.float64)

    def ours(weight, images):
        return convolve(images, weight, stride, padding).tanh().sum()

    def theirs(weight, images):
        return F.conv2d(images.permute(0, 3, 1, 2), weight, None, stride, padding).tanh().sum()

    def twice(function):
        return lambda w, v, x: grad(lambda w: (grad(function)(w, x) * v).sum())(w)

    for one, another in ((ours, theirs), (grad(ours), grad(theirs))):
        torch.testing.assert_close(vmap(one)(weight, images), vmap(another)(weight, images))
    both = [vmap(twice(function))(weight, other, images) for function in (ours, theirs)]
    torch.testing.assert_close(*both)


def test_bytes_are_read_as_numbers_from_0_to_1_whatever_is_derived():
    images, weight = pixels(2, 40, 60, 60, 3), torch.randn(2, 4, 3, 5, 5, generator=seeded())

    def loss(weight, images):
        return convolve(images, weight, 3, 0).square().mean()

    def slope(weight, images):
        return grad(loss)(weight, images).square().sum()

    for function in (loss, grad(loss), grad(slope)):
        of_bytes, of_numbers = (vmap(function)(weight, x) for x in (images, images / 255))
        torch.testing.assert_close(of_bytes, of_numbers, rtol=1e-4, atol=1e-6)


def test_the_atari_network_is_that_of_stable_baselines3():
    policy = make_policy(image(40, 36, 4), spaces.Discrete(3), NetworkConfig(hidden=()), seeded())
    features = policy.get_submodule("logits.0.images.0")
    assert isinstance(features, NatureCNN)
    theirs = TheirNatureCNN(image(4, 40, 36))
    theirs.load_state_dict(features.state_dict())
    seen = pixels(5, 40, 36, 4)
    expected = theirs(seen.permute(0, 3, 1, 2) / 255)
    torch.testing.assert_close(features(seen), expected)
    logits = policy(seen.flatten(1)).logits
    assert torch.equal(logits, policy.get_submodule("logits.1")(features(seen)))
    torch.testing.assert_close(policy(seen.flatten(1).float()).logits, logits)


def test_parts_of_a_dict_are_joined_in_their_order():
    parts = {"a": spaces.Box(-1, 1, (2,)), "camera": image(9, 9, 3), "z": spaces.Discrete(3)}
    features = JoinedFeatures(spaces.Dict(parts), True, "xavier", seeded())
    (camera,) = features.images
    assert isinstance(camera, SmallCNN)
    assert features.size == 2 + 128 + 3
    seen = torch.cat([torch.tensor([[0.5, -1.0]]), pixels(1, 243).float(), torch.eye(3)[1:2]], -1)
    joined = features(seen)
    assert joined[0, [0, 1, -3, -2, -1]].tolist() == [0.5, -1.0, 0.0, 1.0, 0.0]
    torch.testing.assert_close(joined[:, 2:-3], camera(pixels(1, 243).view(1, 9, 9, 3)))


def test_images_enter_a_perceptron_if_asked_and_vectors_no_convolutions():
    config = NetworkConfig(kind="mlp", hidden=(4,))
    policy = make_policy(image(3, 3, 1), spaces.Discrete(2), config, seeded())
    seen = pixels(2, 9)
    assert not [layer for layer in policy.modules() if isinstance(layer, SmallCNN)]
    torch.testing.assert_close(policy(seen).logits, policy.get_submodule("logits.1")(seen / 255))
    with pytest.raises(InputError, match="convolutional needs images"):
        make_policy(
            spaces.Box(0, 1, (3,)),
            spaces.Discrete(2),
            NetworkConfig(kind="convolutional"),
            seeded(),
        )


def test_the_meta_gradient_through_a_policy_of_images_is_that_of_torchs_layers():
    policy = make_policy(
        image(6, 5, 2), spaces.Discrete(3), NetworkConfig(hidden=(4,)), seeded()
    ).double()
    seen, scores = pixels(2, 8, 60), torch.randn(2, 8, 3, generator=seeded(), dtype=torch.float64)
    theta = {name: value.detach() for name, value in policy.named_parameters()}

    def plain(params, seen):
        maps = (seen.view(-1, 6, 5, 2).permute(0, 3, 1, 2) / 255.0).double()
        for layer, stride in (("0", 1), ("2", 2), ("4", 2)):
            prefix = f"logits.0.images.0.cnn.{layer}"
            weight, bias = params[f"{prefix}.weight"], params[f"{prefix}.bias"]
            maps = F.relu(F.conv2d(maps, weight, bias, stride, 1))
        features = F.relu(F.linear(maps.flatten(1), *of(params, "logits.0.images.0.linear.0")))
        hidden = torch.tanh(F.linear(features, *of(params, "logits.1.0")))
        return F.linear(hidden, *of(params, "logits.1.2"))

    def of(params, layer):
        return params[f"{layer}.weight"], params[f"{layer}.bias"]

    def ours(params, seen):
        return functional_call(policy, params, (seen,)).logits

    def adapted(network):
        def loss(params, seen, scores):
            return (network(params, seen).log_softmax(-1) * scores).mean()

        def outer(params, seen, scores):
            slope = grad(loss)(params, seen, scores)
            return loss({n: v - 0.5 * slope[n] for n, v in params.items()}, seen, scores)

        return vmap(grad(outer), (None, 0, 0))(theta, seen, scores)

    found, expected = adapted(ours), adapted(plain)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-9)


class Beacon(gym.Env):
    """A picture lit on the left or right; the task says which action it asks for."""

    observation_space = image(8, 8, 1)
    action_space = spaces.Discrete(2)

    def __init__(self, reversed_: int = 0):
        self.reversed = reversed_

    def _see(self):
        self.left = bool(self.np_random.integers(2))
        seen = np.zeros((8, 8, 1), np.uint8)
        seen[:, 0 if self.left else 7] = 255
        return seen

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._see(), {}

    def step(self, action):
        paid = (int(action) == int(self.left)) != bool(self.reversed)
        return self._see(), float(paid), False, False, {}


def test_a_family_of_images_is_trained_adapted_saved_and_loaded(tmp_path, monkeypatch):
    parameter = meta_rl.Parameter("reversed_", meta_rl.Choice(0, 1))
    family = meta_rl.GymFamily(Beacon, parameter, horizon=6, id="beacon")
    monkeypatch.setitem(FAMILIES, "beacon", family)
    config = Config(
        family="beacon",
        iterations=2,
        data=EpisodesConfig(tasks=2, episodes=2),
        network=NetworkConfig(hidden=()),
        eval=EvalConfig(tasks=2, steps=1, every=0),
    )
    learner = meta_rl.build(config)
    phi = {name: value[None] for name, value in learner.meta.theta.items()}
    seen = learner.problem.sampler.rollout([{"reversed_": 0}], phi, 1, 0).obs
    assert (seen.dtype, seen.shape) == (torch.uint8, (1, 1, 6, 64))
    learner.learn().save(tmp_path / "run")
    adapted = meta_rl.load(tmp_path / "run").adapt({"reversed_": 1}, steps=1)
    adapted.save(tmp_path / "adapted")
    picture = pixels(8, 8, 1).numpy()
    one, other = (
        model.predict(picture, deterministic=True)[0]
        for model in (adapted, meta_rl.load_adapted(tmp_path / "adapted"))
    )
    assert one == other
    assert adapted.predict(np.stack([picture] * 3), deterministic=True)[0].tolist() == [one] * 3


def test_our_convolutions_are_no_layers_of_torch_that_vmap_would_group():
    policy = make_policy(image(8, 8, 1), spaces.Discrete(2), NetworkConfig(), seeded())
    assert not [layer for layer in policy.modules() if isinstance(layer, nn.Conv2d)]
