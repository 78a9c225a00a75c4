"""The stable-baselines3 bridge: the same actions out and in, and nothing planted ever runs."""

import base64
import io
import json
import os
import pickle
import zipfile

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.wrappers import NormalizeObservation, RescaleAction
from meta_rl.agents import make_policy, mlp
from meta_rl.agents.networks import ACTIVATIONS
from meta_rl.agents.sb3 import load_expert, read_parameters, save_ppo, to_ppo
from meta_rl.envs import Navigation2D
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from meta_rl import AdaptedPolicy
from meta_rl.config import NetworkConfig
from meta_rl.errors import InputError

SMALL = NetworkConfig(hidden=(16, 8))
OFFSET = gym.spaces.Box(np.float32([-0.1, 0.0]), np.float32([0.3, 4.0]))
UNBOUNDED = gym.spaces.Box(-np.inf, np.inf, (2,))


class Still(gym.Env):
    """Ten steps; the reward is the first action."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (3,))

    def __init__(self, action_space):
        self.action_space, self.t = action_space, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.t += 1
        reward = float(np.atleast_1d(action)[0])
        return self.observation_space.sample(), reward, False, self.t == 10, {}


class FlattenedImage(Still):
    """Of three numbers, but what stable-baselines3 takes for an image."""

    observation_space = gym.spaces.Box(0, 255, (1, 1, 3), np.uint8)


class Sighted(Still):
    """Sees more."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (4,))


def adapted(action_space, network=SMALL, scale=1.0, observation_space=Still.observation_space):
    """A policy with every parameter moved away from its initial value, the log-std included."""
    generator = torch.Generator().manual_seed(0)
    policy = make_policy(observation_space, action_space, network, generator, action_scale=scale)
    params = {
        name: value.detach() + 0.3 * torch.randn(value.shape, generator=generator)
        for name, value in policy.named_parameters()
    }
    last = max(name for name in params if name.endswith(".weight"))
    params[last] *= 3 * scale  # so that some actions leave the box
    manifest = {"config": {"data": {"gamma": 0.9}}}
    return AdaptedPolicy(policy, params, observation_space.shape, (), manifest)


def observations(spread):
    return np.random.default_rng(1).normal(0, spread, (300, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("space", "scale", "exact"),
    [
        (gym.spaces.Discrete(4), 1.0, True),
        (gym.spaces.Box(-2.0, 2.0, (1,)), 2.0, True),
        (gym.spaces.Box(-0.1, 0.1, (2,)), 10.0, False),
        (OFFSET, 1.0, False),
    ],
    ids=["discrete", "box", "scaled", "off centre"],
)
@pytest.mark.parametrize(
    "network",
    [
        SMALL,
        NetworkConfig(hidden=(12,), activation="relu"),
        NetworkConfig(hidden=()),
        NetworkConfig(hidden=(16, 8), context=3),
    ],
    ids=["tanh", "relu", "linear", "context"],
)
def test_a_ppo_predicts_what_the_policy_does_before_and_after_saving(
    space, scale, exact, network, tmp_path
):
    policy = adapted(space, network, scale)
    ppo = to_ppo(policy, Still(space))
    assert ppo.gamma == 0.9
    ppo.save(tmp_path / "ppo.zip")
    loaded = PPO.load(tmp_path / "ppo.zip", device="cpu")
    assert type(loaded.policy).__module__ == "stable_baselines3.common.policies"
    obs = observations(1.0)
    ours, _ = policy.predict(obs, deterministic=True)
    for model in (ppo, loaded):
        theirs, _ = model.predict(obs, deterministic=True)
        if exact and not network.context:
            np.testing.assert_array_equal(theirs, ours)
        elif isinstance(space, gym.spaces.Discrete):
            assert (theirs == ours).mean() > 0.99  # two logits may tie to float32's rounding
        else:
            difference = np.abs(theirs - ours) / (space.high - space.low)
            assert difference.max() < 1e-6
    if isinstance(space, gym.spaces.Box):
        assert 0.05 < ((ours == space.low) | (ours == space.high)).mean() < 0.95


@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_sampled_actions_have_the_same_spread(scale):
    space = gym.spaces.Box(np.float32([-2.0, -0.3]), np.float32([2.0, 0.1]))
    policy = adapted(space, SMALL, scale)
    ppo = to_ppo(policy, Still(space))
    obs = torch.as_tensor(observations(1.0))
    ours = torch.func.functional_call(policy.policy, policy.params, (obs,))
    theirs = ppo.policy.get_distribution(obs).distribution
    half = torch.tensor([2.0, 0.2])
    torch.testing.assert_close(theirs.stddev, half / scale * ours.log_std.exp())


def test_a_learned_policy_goes_on_with_stable_baselines3(tmp_path):
    import meta_rl

    learner = meta_rl.build(meta_rl.preset("navigation-2d"))
    task = {"goal": (0.3, -0.2)}
    policy = learner.adapt(task, steps=1, episodes=4)
    env = Navigation2D().make_env(task)
    save_ppo(to_ppo(policy, env), tmp_path / "ppo.zip")
    ppo = PPO.load(tmp_path / "ppo.zip", env=env, n_steps=128, device="cpu")
    obs = np.random.default_rng(0).uniform(-1, 1, (200, 2)).astype(np.float32)
    ours, theirs = (m.predict(obs, deterministic=True)[0] for m in (policy, ppo))
    np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=1e-7)
    scores = [
        evaluate_policy(m, Monitor(env), n_eval_episodes=1, deterministic=True)[0]
        for m in (policy, ppo)
    ]
    assert -200 < scores[0] < 0
    before = {name: value.clone() for name, value in ppo.policy.state_dict().items()}
    ppo.learn(256)
    ppo.learn(128, reset_num_timesteps=False)
    assert ppo.num_timesteps == 384
    changed = [
        name for name, v in ppo.policy.state_dict().items() if not torch.equal(v, before[name])
    ]
    assert set(changed) == set(before)


def test_exporting_leaves_the_global_generator_alone_and_repeats():
    policy = adapted(OFFSET)
    before = torch.get_rng_state()
    one, other = (to_ppo(policy, Still(OFFSET), seed=3).policy.state_dict() for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize(
    ("space", "env", "message"),
    [
        (
            gym.spaces.Discrete(3, start=1),
            Still(gym.spaces.Discrete(3, start=1)),
            "counted from 0, got {'n': 3",
        ),
        (gym.spaces.Discrete(3), Still(gym.spaces.Discrete(4)), "action space: expected {'n': 3"),
        (OFFSET, Still(UNBOUNDED), "action space: expected {'low'"),
        (OFFSET, Navigation2D().make_env({"goal": (0, 0)}), "action space: expected"),
        (OFFSET, FlattenedImage(OFFSET), "joins to 3 numbers"),
        (OFFSET, Sighted(OFFSET), "joins to 3 numbers"),
        (UNBOUNDED, Still(UNBOUNDED), "expected actions with finite bounds, as PPO does"),
        (OFFSET, Still(gym.spaces.Discrete(4)), "action space: expected {'low'"),
        (OFFSET, NormalizeObservation(Still(OFFSET)), "got NormalizeObservation, whose statistics"),
        (
            gym.spaces.Box(np.float32([1, 0]), np.float32([1, 2])),
            Still(gym.spaces.Box(np.float32([1, 0]), np.float32([1, 2]))),
            "expected actions with a range",
        ),
    ],
)
def test_what_a_ppo_cannot_carry_is_refused(space, env, message):
    with pytest.raises(InputError, match=message):
        to_ppo(adapted(space), env)


def test_files_are_never_overwritten_or_renamed(tmp_path):
    ppo = to_ppo(adapted(OFFSET), Still(OFFSET))
    (tmp_path / "there.zip").write_text("mine")
    for name, message in (
        ("there.zip", "exists already"),
        ("ppo.model", "ending in .zip"),
        ("no/ppo.zip", "a folder"),
        ("x" * 300 + ".zip", "File name too long"),
    ):
        with pytest.raises(InputError, match=message):
            save_ppo(ppo, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["there.zip"]
    assert (tmp_path / "there.zip").read_text() == "mine"


@pytest.mark.parametrize(("algorithm", "name"), [*zip([PPO, A2C] * 3, ACTIVATIONS, strict=True)])
@pytest.mark.parametrize("space", [gym.spaces.Discrete(3), OFFSET], ids=["discrete", "box"])
def test_a_saved_actor_acts_the_same_here(algorithm, space, name, tmp_path):
    env, file = Still(space), tmp_path / "theirs.zip"
    arguments = {"net_arch": [16, 8], "activation_fn": ACTIVATIONS[name], "log_std_init": -1.0}
    model = algorithm("MlpPolicy", env, policy_kwargs=arguments, seed=0, device="cpu")
    model.policy.action_net.weight.data.mul_(100)  # it starts tiny
    model.save(file)
    expert = load_expert(file, env)
    obs = observations(3.0)
    theirs, ours = (m.predict(obs, deterministic=True)[0] for m in (model, expert))
    assert len(np.unique(theirs)) > 1
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    policy = adapted(space, NetworkConfig(hidden=(16, 8), activation=name, context=2), 10.0).policy
    policy.load_state_dict(read_parameters(file, policy))  # with another scale, and a context
    started = AdaptedPolicy(policy, dict(policy.named_parameters()), (3,), (), {})
    np.testing.assert_allclose(
        started.predict(obs, deterministic=True)[0], theirs, rtol=1e-5, atol=1e-5
    )
    with pytest.raises(InputError, match="save: expected a model that a learner adapted"):
        expert.save(tmp_path / "expert")


def test_out_and_in_again_gives_the_same_parameters(tmp_path):
    policy = adapted(OFFSET, SMALL, 10.0)
    save_ppo(to_ppo(policy, Still(OFFSET)), tmp_path / "ppo.zip")
    torch.testing.assert_close(read_parameters(tmp_path / "ppo.zip", policy.policy), policy.params)


def saved(tmp_path, env, cls=PPO, **arguments):
    cls("MlpPolicy", env, device="cpu", **arguments).save(tmp_path / "theirs.zip")
    return tmp_path / "theirs.zip"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: saved(path, Still(OFFSET)), r"Give --network.hidden 64 64 --network.activ"),
        (lambda path: saved(path, RescaleAction(Still(OFFSET), -1, 1)), "without RescaleAction"),
        (lambda path: saved(path, Still(gym.spaces.Discrete(2))), "action space: expected"),
        (lambda path: saved(path, Still(OFFSET), use_sde=True), "got a policy with gSDE"),
        (
            lambda path: saved(path, Still(gym.spaces.Discrete(2)), DQN, buffer_size=10),
            "expected its own MlpPolicy, got a policy class of stable_baselines3.dqn",
        ),
        (
            lambda path: saved(
                path, Still(OFFSET), policy_kwargs={"activation_fn": torch.nn.Mish}
            ),
            "expected one of Tanh, ReLU, ELU, GELU, SiLU, LeakyReLU as activation",
        ),
        (lambda path: path / "missing.zip", "expected a zip that PPO.save wrote, got .*missing"),
        (lambda path: path, "expected a zip that PPO.save wrote"),
    ],
)  # fmt: skip
def test_a_zip_that_does_not_fit_is_refused(make, message, tmp_path):
    policy = adapted(OFFSET).policy
    with pytest.raises(InputError, match=message):
        read_parameters(make(tmp_path), policy)


def test_normalized_observations_are_refused_and_normalized_rewards_need_not_be(tmp_path):
    vec = VecNormalize(DummyVecEnv([lambda: Still(OFFSET)]), norm_obs=False)
    model = PPO("MlpPolicy", vec, n_steps=64, device="cpu")
    model.learn(64)
    model.save(tmp_path / "normalized.zip")
    with pytest.raises(InputError, match="one trained behind VecNormalize"):
        load_expert(tmp_path / "normalized.zip", Still(OFFSET))
    model._last_original_obs = None  # as the message says
    model.save(tmp_path / "raw.zip")
    obs = observations(1.0)
    ours, _ = load_expert(tmp_path / "raw.zip", Still(OFFSET)).predict(obs, deterministic=True)
    np.testing.assert_allclose(ours, model.predict(obs, deterministic=True)[0], atol=1e-6)


class Bomb:
    """Leaves a folder when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_pickles_planted_in_a_zip_never_run(tmp_path):
    """In ``data`` and beside the weights they are not looked at; as the weights, refused."""
    good, proof = saved(tmp_path, Still(OFFSET)), tmp_path / "it ran"
    bomb = pickle.dumps(Bomb(proof))
    pickle.loads(bomb)
    assert proof.exists()  # the bomb works
    proof.rmdir()
    with zipfile.ZipFile(good) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    data = json.loads(entries["data"])
    for value in data.values():
        if isinstance(value, dict) and ":serialized:" in value:
            value[":serialized:"] = base64.b64encode(bomb).decode()
    data["clip_range"] = {":type:": "float", ":serialized:": base64.b64encode(bomb).decode()}
    planted = {**entries, "data": json.dumps(data), "pytorch_variables.pth": bomb}
    hostile = tmp_path / "hostile.zip"
    with zipfile.ZipFile(hostile, "w") as archive:
        for name, content in planted.items():
            archive.writestr(name, content)
    assert load_expert(hostile, Still(OFFSET)).predict(np.zeros(3))[0].shape == (2,)
    for weights in (bomb, _torch_bomb(proof)):
        with zipfile.ZipFile(hostile, "w") as archive:
            for name, content in {**planted, "policy.pth": weights}.items():
                archive.writestr(name, content)
        with pytest.raises(InputError, match="expected a zip that PPO"):
            load_expert(hostile, Still(OFFSET))
    assert not proof.exists()
    with pytest.raises(Exception):  # noqa: B017, PT011  what the others' door does with it
        PPO.load(tmp_path / "hostile.zip")
    assert proof.exists()


def _torch_bomb(proof):
    buffer = io.BytesIO()
    torch.save({"action_net.weight": Bomb(proof)}, buffer)
    return buffer.getvalue()


def test_a_damaged_zip_is_refused_or_read_and_never_worse(tmp_path):
    rng, good = np.random.default_rng(0), saved(tmp_path, Still(OFFSET))
    with zipfile.ZipFile(good) as archive:
        entries = {name: archive.read(name) for name in ("data", "policy.pth")}
    refused, file = 0, tmp_path / "damaged.zip"
    for trial in range(60):
        name = "policy.pth" if trial % 3 else "data"
        content = bytearray(entries[name])
        for at in rng.integers(len(content), size=20):
            content[at] = rng.integers(256)
        with zipfile.ZipFile(file, "w") as archive:
            for key, whole in {
                **entries,
                name: bytes(content[: rng.integers(len(content) + 1)]),
            }.items():
                archive.writestr(key, whole)
        try:
            load_expert(file, Still(OFFSET))
        except InputError:
            refused += 1
    assert refused > 50


def test_only_policies_of_environments_cross_the_bridge(tmp_path):
    network = mlp(3, (4,), 2, "tanh", torch.Generator())
    model = AdaptedPolicy(network, dict(network.named_parameters()), (3,), (), {})
    with pytest.raises(InputError, match="expected one of our policies, got a Seq"):
        to_ppo(model, Still(OFFSET))
    with pytest.raises(InputError, match="got a Sequential"):
        read_parameters(saved(tmp_path, Still(OFFSET)), network)
