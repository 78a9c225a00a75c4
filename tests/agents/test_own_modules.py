"""Features extractors of one's own: adapted, saved and exported like ours, or refused in a line."""

import sys
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from meta_rl.agents import make_policy, use_module
from meta_rl.agents.own_modules import MODULES
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

import meta_rl
from meta_rl import seeds
from meta_rl.cli import adapt, train
from meta_rl.cli.command import import_families
from meta_rl.config import NetworkConfig
from meta_rl.errors import InputError
from meta_rl.storage.own_code import FAMILIES
from tests.meta_rl.test_effects import tiny


@pytest.fixture(autouse=True)
def forget():
    yield
    MODULES.clear()


class Wide(nn.Module):
    """Any module of torch; its first layer takes the size that comes."""

    def __init__(self, space):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.LazyLinear(5), nn.Tanh())

    def forward(self, inputs):
        return self.body(inputs)


class Theirs(BaseFeaturesExtractor):
    """As users of stable-baselines3 have them."""

    def __init__(self, observation_space, features_dim=6):
        super().__init__(observation_space, features_dim)
        self.linear = nn.Linear(observation_space.shape[0], features_dim)

    def forward(self, observations):
        return torch.tanh(self.linear(observations))


def with_module(preset, module, hidden=(4,)):
    own = NetworkConfig(module=use_module(module), hidden=hidden)
    return replace(tiny(preset, "maml"), network=own)


@pytest.mark.parametrize(("preset", "module"), [("sinusoid", Wide), ("cartpole", Theirs)])
def test_a_module_of_ones_own_is_adapted_saved_and_loaded(preset, module, tmp_path):
    before = torch.get_rng_state()
    learner = meta_rl.build(with_module(preset, module))
    assert torch.equal(before, torch.get_rng_state())
    start = {name: value.clone() for name, value in learner.meta.theta.items()}
    learner.iterate()
    assert all(not torch.equal(start[name], value) for name, value in learner.meta.theta.items())
    learner.save(tmp_path / "saved")
    again = meta_rl.load(tmp_path / "saved")
    task = learner.held_out_tasks(1)[0]
    one, other = (some.adapt(task, steps=1) for some in (learner, again))
    one.save(tmp_path / "adapted")
    loaded = meta_rl.load_adapted(tmp_path / "adapted")
    assert one.scores == other.scores
    assert all(torch.equal(one.params[name], loaded.params[name]) for name in one.params)
    learner.iterate()
    again.iterate()
    assert all(map(torch.equal, learner.meta.theta.values(), again.meta.theta.values()))
    MODULES.clear()
    for load, folder in ((meta_rl.load, "saved"), (meta_rl.load_adapted, "adapted")):
        told = rf"expected the class {module.__name__}, .*settings run no code.*use_module"
        with pytest.raises(InputError, match=told):
            load(tmp_path / folder)


FILE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, space):
        super().__init__()
        self.layer = nn.Linear(space.shape[0], 5)

    def forward(self, x):
        return torch.tanh(self.layer(x))
"""


def test_commands_run_the_file_that_they_are_given_and_no_other(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("nets.py").write_text(FILE)
    small = "--iterations 1 --data.tasks 2 --data.episodes 2 --eval.no-test --eval.every 0"
    train.main(["bandit-5", *small.split(), "--network.module", "nets.py:Net"])
    assert "--families nets.py" in capsys.readouterr().out
    (run,) = Path("runs").iterdir()
    assert (run / "module.py").read_text() == FILE
    MODULES.clear()
    with pytest.raises(InputError, match=r"expected the class Net, whose code was in 'nets\.py'"):
        adapt.main(["--no-pictures", "--steps", "1"])
    adapt.main(["--no-pictures", "--steps", "1", "--families", str(run / "module.py")])
    train.main(["--resume", str(run), "--iterations", "2", "--network.module=nets.py:Net"])


def test_a_file_of_families_and_networks_runs_once(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, FAMILIES, raising=False)
    file = tmp_path / "both.py"
    file.write_text(f"open({str(tmp_path / 'ran')!r}, 'x').close()\n{FILE}")
    import_families(file)
    assert use_module(f"{file}:Net") == f"{file}:Net"


def test_pruning_removes_units_behind_a_module_alone():
    learner = meta_rl.build(with_module("sinusoid", Wide, (6,)))
    smaller = meta_rl.prune(learner, 0.5, "magnitude").meta.theta
    assert smaller["features.body.1.weight"].shape == (5, 1)
    assert smaller["layers.0.weight"].shape == (3, 5)


class Seen(nn.Module):
    """Keeps what it is called with."""

    def __init__(self, space):
        super().__init__()
        self.space, self.scale = space, nn.Parameter(torch.ones(2))

    def forward(self, inputs):
        self.given = inputs
        return self.scale.expand(2, 2)


def test_a_module_gets_what_stable_baselines3_gives_to_its_extractors():
    from stable_baselines3.common.preprocessing import preprocess_obs
    from stable_baselines3.common.vec_env import VecTransposeImage

    space = gym.spaces.Dict(
        camera=gym.spaces.Box(0, 255, (8, 9, 3), np.uint8),
        flags=gym.spaces.MultiBinary(3),
        kind=gym.spaces.Discrete(4),
        many=gym.spaces.MultiDiscrete([2, 3]),
        place=gym.spaces.Box(-1, 1, (2, 2)),
    )
    space.seed(0)
    config = NetworkConfig(module=use_module(Seen), hidden=())
    policy = make_policy(space, gym.spaces.Discrete(2), config, seeds.generator(0))
    samples = [space.sample() for _ in range(2)]
    flat = np.stack([gym.spaces.flatten(space, sample) for sample in samples])
    policy(torch.from_numpy(flat).float())
    extractor = policy.logits.features
    batch = {name: np.stack([sample[name] for sample in samples]) for name in space.spaces}
    batch["camera"] = VecTransposeImage.transpose_image(batch["camera"])
    theirs = preprocess_obs({n: torch.from_numpy(v) for n, v in batch.items()}, extractor.space)
    assert extractor.space["camera"].shape == (3, 8, 9)
    assert extractor.given.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(extractor.given[name], value)


class Fails(nn.Module):
    def __init__(self, space, size):
        super().__init__()


class Listed(nn.Module):
    def __init__(self, space):
        super().__init__()
        self.layers = [nn.Linear(1, 2)]

    def forward(self, inputs):
        return self.layers[0](inputs)


class Square(Wide):
    def forward(self, inputs):
        return self.body(inputs)[:, None]


class Liar(Wide):
    features_dim = 7


class Normed(Wide):
    def __init__(self, space):
        super().__init__(space)
        self.body.append(nn.BatchNorm1d(5))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (dict, "expected a class derived from torch.nn.Module, got <class 'dict'>"),
        ("x.py:Net", "network.module: expected a Python file, got x.py"),
        ("Net", "expected a Python file and a class in it, FILE.py:Class, got 'Net'"),
        ("nets.py:Nett", "Did you mean 'Net'"),
        ("bad.py:Net", "network.module: bad.py raised ZeroDivisionError: division by zero"),
        (Fails, r"Fails\(observation_space\).* to work, got TypeError: .*'size'"),
        (Listed, r"expected parameters in Listed, got none.*ModuleList"),
        (Square, r"floats of shape \[2, 'features'\] for two observations, got \[2, 1, 5\]"),
        (Liar, r"floats of shape \[2, 7\] for two observations, got \[2, 5\]"),
        (Normed, r"features.body.3: expected normalization by the current batch alone"),
    ],
)
def test_a_module_that_cannot_be_adapted_is_refused(module, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("nets.py").write_text(FILE)
    Path("bad.py").write_text("1 / 0")
    with pytest.raises(InputError, match=message):
        meta_rl.build(with_module("sinusoid", module))
