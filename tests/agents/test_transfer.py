"""What is carried from another run's theta, and what is not."""

import dataclasses
import json

import pytest
import torch
from meta_rl.agents import use_module
from meta_rl.agents.transfer import FromRun, match

import meta_rl
from meta_rl.cli import train
from meta_rl.config import NetworkConfig
from meta_rl.errors import InputError
from meta_rl.problems.modules import fixed
from tests.test_resume import tiny


def zeros(**shapes):
    return {name.replace("__", "."): torch.zeros(shape) for name, shape in shapes.items()}


def carried(own, source):
    return {m.name: m.source for m in match(own, source)}


def test_layers_match_by_their_place_and_heads_with_heads():
    """A continuous policy's mean from a discrete one's logits with other observations."""
    own = zeros(log_std=2, mean__0__weight=(8, 3), mean__0__bias=8, mean__2__weight=(8, 8),
                mean__2__bias=8, mean__4__weight=(2, 8), mean__4__bias=2)  # fmt: skip
    source = zeros(logits__0__weight=(8, 4), logits__0__bias=8, logits__2__weight=(8, 8),
                   logits__2__bias=8, logits__4__weight=(3, 8), logits__4__bias=3)  # fmt: skip
    assert carried(own, source) == {
        "log_std": None,
        "mean.0.weight": None,
        "mean.0.bias": None,  # it fits, but its weight does not
        "mean.2.weight": "logits.2.weight",
        "mean.2.bias": "logits.2.bias",
        "mean.4.weight": None,
        "mean.4.bias": None,
    }
    why = {m.name: m.why for m in match(own, source)}
    assert why["log_std"] == "the other run has none"
    assert why["mean.0.bias"] == "expected [8, 3] for mean.0.weight, got [8, 4]"
    assert why["mean.2.bias"] == "[8] of logits.2.bias"


def test_layers_of_images_match_whatever_the_order_of_the_tensors():
    """They have numbers in several places, and the linear layer follows all convolutions."""
    image = [f"0.images.0.{layer}" for layer in ("cnn.0", "cnn.2", "linear.0")]
    layers = [f"{name}.weight" for name in (*image, "1.0", "1.2")]
    own = {f"logits.{name}": torch.zeros(8, 8) for name in layers}
    source = {f"mean.{name}": torch.zeros(8, 8) for name in reversed(layers)}
    assert carried(own, source) == {f"logits.{name}": f"mean.{name}" for name in layers}


@pytest.mark.parametrize("actions", [2, 3])
def test_a_standard_deviation_is_carried_with_its_head_alone(actions):
    own = zeros(log_std=2, mean__0__weight=(8, 3), mean__2__weight=(2, 8))
    source = zeros(log_std=2, mean__0__weight=(8, 3), mean__2__weight=(actions, 8))
    fits = actions == 2
    assert carried(own, source) == {
        "log_std": "log_std" if fits else None,
        "mean.0.weight": "mean.0.weight",
        "mean.2.weight": "mean.2.weight" if fits else None,
    }
    why = {m.name: m.why for m in match(own, source)}
    assert fits or why["log_std"] == "expected [2, 8] for mean.2.weight, got [3, 8]"


def test_a_head_is_no_hidden_layer_even_of_the_same_shape():
    own = zeros(mean__0__weight=(4, 4), mean__0__bias=4, mean__2__weight=(4, 4), mean__2__bias=4)
    deeper = {**own, **zeros(mean__4__weight=(4, 4), mean__4__bias=4)}
    assert [s for s in carried(own, deeper).values() if s] == ["mean.0.weight", "mean.0.bias"]
    assert [s for s in carried(deeper, own).values() if s] == ["mean.0.weight", "mean.0.bias"]


def learned(name, folder, **network):
    """A run of one iteration, all of whose parameters are its own."""
    config = tiny(name, **({"queries": 2, "ways": 2} if name.startswith("glyphs") else {}))
    config = dataclasses.replace(config, network=dataclasses.replace(config.network, **network))
    learner = meta_rl.build(dataclasses.replace(config, seed=7)).learn(1)
    learner.save(folder / name)
    return config, learner, folder / name


def test_another_family_with_other_spaces_starts_from_the_hidden_layers(tmp_path):
    _, source, run = learned("cartpole", tmp_path, hidden=(8, 8))
    config = dataclasses.replace(tiny("acrobot"), network=NetworkConfig(hidden=(8, 8)))
    fresh, start = meta_rl.build(config).meta.theta, FromRun(run)
    theta = meta_rl.build(config, start=start).meta.theta
    for name, value in theta.items():
        layer = int(name.split(".")[1])
        expected = source.meta.theta[name] if layer == 2 else fresh[name]
        assert torch.equal(value, expected), name
    assert not torch.equal(theta["logits.2.weight"], fresh["logits.2.weight"])
    told = "\n".join(start.told)
    assert "logits.2.weight  carried: [8, 8] of logits.2.weight" in told
    assert "logits.0.weight  fresh: expected [8, 6] for logits.0.weight, got [8, 4]" in told
    start.keep(tmp_path)
    kept = json.loads((tmp_path / "init_run.json").read_text())
    assert kept["run"] == str(run)
    assert {name: row["start"] for name, row in kept["parameters"].items()} == {
        name: "carried" if ".2." in name else "fresh" for name in theta
    }


def test_a_backbone_keeps_its_blocks_and_gets_a_head_for_other_ways(few_glyphs, tmp_path):
    config, source, run = learned("glyphs-5way-1shot", tmp_path)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, ways=3))
    theta = meta_rl.build(config, start=FromRun(run)).meta.theta
    (weight, bias) = [n for n in theta if int(n.split(".")[0]) > 3]
    for name, value in theta.items():
        assert (name in (weight, bias)) != (
            value.shape == source.meta.theta[name].shape
            and torch.equal(value, source.meta.theta[name])
        )
    assert theta[weight].shape[0] == 3


def test_an_adapted_policy_is_a_start_too(tmp_path):
    config, source, _ = learned("navigation-2d", tmp_path)
    policy = source.adapt(source.held_out_tasks(1)[0], steps=1)
    theta = meta_rl.build(config, start=FromRun(policy.save(tmp_path / "one"))).meta.theta
    assert all(torch.equal(theta[name], value) for name, value in policy.params.items())


def test_what_cannot_be_carried_is_refused(tmp_path):
    config, _, run = learned("cartpole", tmp_path)

    def build(network):
        return meta_rl.build(dataclasses.replace(config, network=network), start=FromRun(run))

    with pytest.raises(InputError, match=r"fit, got none: .*Its hidden layers have 8 units"):
        build(NetworkConfig(hidden=(4, 4)))
    with pytest.raises(InputError, match=r"expected activation relu, got tanh.*activation tanh"):
        build(NetworkConfig(hidden=(8,), activation="relu"))
    with pytest.raises(InputError, match="expected a run folder with checkpoints"):
        meta_rl.build(config, start=FromRun(tmp_path / "nowhere"))


def test_by_command_the_table_is_printed_and_kept_and_the_run_resumes(tmp_path, capsys):
    small = ["--data.tasks", "2", "--data.episodes", "2", "--eval.tasks", "2", "--device", "cpu"]
    options = ["--iterations", "1", *small, "--log-dir", str(tmp_path)]
    train.main(["navigation-2d", *options])
    source = tmp_path / "navigation-2d_1"
    train.main(["navigation-pearl", "--init-run", str(source), *options])
    assert "mean.0.weight  carried: [64, 2] of mean.0.weight" in capsys.readouterr().out
    run = tmp_path / "navigation-pearl_1"
    theta, start = (
        meta_rl.load(path).meta.theta for path in (source, run / "checkpoints" / "000000000")
    )
    assert all(torch.equal(theta[name], start[name]) for name in theta)
    assert json.loads((run / "init_run.json").read_text())["run"] == str(source)
    train.main(["--resume", str(run), "--iterations", "2", "--device", "cpu"])
    assert meta_rl.load(run).iteration == 2
    with pytest.raises(InputError, match="a run keeps its own settings"):
        train.main(["--resume", str(run), "--iterations", "3", "--init-run", str(source)])


def test_a_perceptron_behind_convolutions_keeps_its_activation(tmp_path):
    config, _, run = learned("pixel-goals", tmp_path, kind="convolutional", activation="tanh")
    network = dataclasses.replace(config.network, activation="relu")
    with pytest.raises(InputError, match=r"expected activation relu, got tanh"):
        meta_rl.build(dataclasses.replace(config, network=network), start=FromRun(run))


class OnFixed(torch.nn.Module):
    """Learned layers on a fixed random projection."""

    def __init__(self, space):
        super().__init__()
        self.fixed = torch.nn.Linear(space.shape[0], 5).requires_grad_(False)
        self.learned = torch.nn.Linear(5, 4)

    def forward(self, observations):
        return self.learned(self.fixed(observations))


def test_what_a_module_does_not_learn_goes_with_the_layers_on_top(tmp_path):
    name = use_module(OnFixed)
    config, source, run = learned("cartpole", tmp_path, module=name)
    start = dataclasses.replace(config, seed=config.seed + 1)
    learner = meta_rl.build(start, start=FromRun(run))
    before, after = (fixed(one.problem.policy) for one in (source, learner))
    assert len(before) == 2
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert all(torch.equal(v, learner.meta.theta[n]) for n, v in source.meta.theta.items())
