"""ONNX Runtime gives what predict gives, from every kind of model, or there is no file."""

import dataclasses
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from meta_rl.agents import convolutional, make_network, make_policy, use_module
from meta_rl.agents.onnx_file import (
    open_onnx,
    predicted,
    random_inputs,
    run_onnx,
    save_onnx,
    step_onnx,
    to_module,
)

import meta_rl
from meta_rl import seeds
from meta_rl.config import NetworkConfig
from meta_rl.errors import InputError
from meta_rl.problems.adapted import AdaptedNetwork, AdaptedPolicy, adapted_policy
from meta_rl.problems.remembering import RememberingPolicy
from tests.agents.test_own_modules import Wide
from tests.extras import needs

needs_onnx = pytest.mark.usefixtures("onnx")
BOX = gym.spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 0.5], np.float32))
SOME = NetworkConfig(hidden=(8,))
IMAGE = gym.spaces.Box(0, 255, (9, 10, 3), np.uint8)
PARTS = gym.spaces.Dict(
    eye=gym.spaces.Box(0, 255, (36, 36, 1), np.uint8),
    at=gym.spaces.Box(-1.0, 1.0, (2, 2)),
    kind=gym.spaces.MultiDiscrete([2, 3], start=[1, 0]),
    on=gym.spaces.MultiBinary(2),
)


@pytest.fixture
def onnx():
    needs("onnxruntime", "onnxscript")


def moved(module):
    """Parameters of a module that are none of its own."""
    generator = seeds.generator(1)
    return {
        name: value.detach() + 0.5 * torch.randn(value.shape, generator=generator)
        for name, value in module.named_parameters()
    }


def policy(action_space, network=SOME, space=None, scale=4.0):
    space = space or gym.spaces.Box(-1.0, 1.0, (3,))
    module = make_policy(
        space, action_space, network, seeds.generator(0), action_scale=scale, init_std=0.5
    )
    return adapted_policy(module, moved(module), SimpleNamespace(observation_space=space), (), {})


def network(shape, module, classifies):
    return AdaptedNetwork(module, moved(module), (), {}, shape, classifies)


def images(**settings):
    return convolutional((1, 16, 16), 3, seeds.generator(0), **settings)


def sequences(settings):
    return network((3, 2), make_network((3, 2), 1, settings, seeds.generator(0)), False)


MODELS = {
    "box": lambda: policy(BOX),
    "discrete, counted from 2": lambda: policy(gym.spaces.Discrete(4, start=2)),
    "context": lambda: policy(BOX, NetworkConfig(hidden=(8,), context=3)),
    "observations in rows": lambda: policy(BOX, space=gym.spaces.Box(-1.0, 1.0, (2, 3))),
    "image": lambda: policy(gym.spaces.Discrete(4), space=IMAGE),
    "parts": lambda: policy(gym.spaces.MultiBinary(3), space=PARTS),
    "number": lambda: policy(BOX, space=gym.spaces.Discrete(5, start=2)),
    "module": lambda: policy(BOX, NetworkConfig(module=use_module(Wide)), IMAGE),
    "unbounded": lambda: policy(gym.spaces.Box(-np.inf, np.inf, (2,))),
    "regression": lambda: network(
        (2,), make_network((2,), 1, NetworkConfig(hidden=(8,)), seeds.generator(0)), False
    ),
    "sequences": lambda: sequences(NetworkConfig(kind="gru", hidden=(4,))),
    "sequences, context": lambda: sequences(NetworkConfig(kind="lstm", hidden=(4,), context=2)),
    "images": lambda: network((1, 16, 16), images(channels=(12, 4, 3, 2)), True),
    "images, strided": lambda: network((1, 16, 16), images(channels=4, strided=True), True),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_module_that_is_exported_computes_what_predict_does(name):
    model = MODELS[name]()
    inputs = random_inputs(model, 50, np.random.default_rng(2))
    own = predicted(model, inputs)
    module = to_module(model)
    parts = inputs.values() if isinstance(inputs, dict) else [inputs]
    got = module(*(torch.from_numpy(part) for part in parts)).numpy()
    np.testing.assert_allclose(got, own, rtol=1e-5, atol=1e-5)
    assert got.dtype == own.dtype
    assert len(np.unique(own, axis=0)) > 1
    assert not any(p.requires_grad for p in module.parameters())


EXPORTED = ["box", "discrete, counted from 2", "images", "parts", "sequences", "sequences, context"]


@needs_onnx
@pytest.mark.parametrize("name", EXPORTED)
def test_onnx_runtime_gives_what_predict_gives(name, tmp_path):
    model, file = MODELS[name](), tmp_path / "model.onnx"
    save_onnx(model, file)
    session = open_onnx(file)
    for size in (1, 33):
        inputs = random_inputs(model, size, np.random.default_rng(2))
        own = predicted(model, inputs)
        np.testing.assert_allclose(run_onnx(session, inputs), own, rtol=1e-5, atol=1e-5)
    assert list(tmp_path.iterdir()) == [file]
    with pytest.raises(InputError, match="exists already; nothing was overwritten"):
        save_onnx(model, file)


@needs_onnx
def test_a_file_that_computes_something_else_is_not_kept(tmp_path, monkeypatch):
    model = MODELS["box"]()
    other = AdaptedPolicy(model.policy, moved(model.policy), (3,), (), {})
    other.params["mean.2.bias"] = other.params["mean.2.bias"] + 0.1
    wrong = to_module(other)
    monkeypatch.setattr("meta_rl.agents.onnx_file.to_module", lambda _: wrong)
    with pytest.raises(InputError, match="expected ONNX Runtime to give the model's own outputs"):
        save_onnx(model, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing", ["onnxruntime", "onnxscript"])
def test_without_the_packages_one_line_says_what_to_install(missing, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == missing else 1)
    with pytest.raises(InputError, match=rf"got no {missing}\. Install them: pip install -e '\.\["):
        save_onnx(MODELS["box"](), tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("file", "message"),
    [("x.zip", r"a name ending in \.onnx"), ("no/x.onnx", "expected a folder to write to")],
)
def test_a_file_that_cannot_be_made_is_refused(file, message, tmp_path):
    with pytest.raises(InputError, match=message):
        save_onnx(MODELS["box"](), tmp_path / file)


@needs_onnx
@pytest.mark.parametrize(
    ("algorithm", "name", "kind"),
    [("rl2", "bandit-5", "gru"), ("rl2", "pendulum", "lstm"), ("varibad", "cartpole", "gru")],
)
def test_a_policy_with_memory_acts_and_remembers_as_predict_does(algorithm, name, kind, tmp_path):
    config = meta_rl.algorithm(algorithm, meta_rl.preset(name))
    network = dataclasses.replace(config.network, kind=kind, hidden=(4,))
    data = dataclasses.replace(config.data, tasks=2, episodes=2)
    learner = meta_rl.build(dataclasses.replace(config, data=data, network=network))
    model = learner.adapt(learner.held_out_tasks(1)[0], steps=1)
    assert isinstance(model, RememberingPolicy)
    save_onnx(model, tmp_path / "model.onnx")
    session = open_onnx(tmp_path / "model.onnx")
    names = [one.name for one in (*session.get_inputs(), *session.get_outputs())]
    assert names == ["observation", "state", "action", "next_state"]
    generator, state, reward = np.random.default_rng(3), None, None
    given = None
    for step in range(5):
        obs, first = random_inputs(model, 3, generator), np.full(3, step == 3)
        own, state = model.predict(obs, state, first, deterministic=True, reward=reward)
        got, given = step_onnx(session, obs, given)
        np.testing.assert_allclose(got, own, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(given, state, rtol=1e-4, atol=1e-5)
        reward = generator.normal(size=3)
        given[:, -2], given[:, -1] = reward, step == 2
