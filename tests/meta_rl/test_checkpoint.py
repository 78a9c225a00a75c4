"""Checkpoints: whole or not there, verified, and exact when resumed."""

import dataclasses
import json

import pytest
import torch

import meta_rl
from meta_rl.config import (
    AdamConfig,
    EpisodesConfig,
    InnerConfig,
    NetworkConfig,
    ProMPConfig,
    ReptileConfig,
    SpeedConfig,
)
from meta_rl.errors import InputError
from meta_rl.storage import checkpoint, run_folder

pytestmark = pytest.mark.usefixtures("short_episodes")

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(1)}


def small(name):
    """A preset cut to milliseconds."""
    config = meta_rl.PRESETS[name]
    if name == "sinusoid":
        return dataclasses.replace(config, log_every=1, speed=SpeedConfig(program="recorded"))
    data = dataclasses.replace(config.data, tasks=2, episodes=2)
    return dataclasses.replace(config, data=data)


def reptile(name, **outer):
    """Reptile at a decaying rate, which must go on where it stopped."""
    inner = InnerConfig(steps=2, learn_step_size=False)
    outer = ReptileConfig(linear_decay=True, **outer)
    config = dataclasses.replace(small(name), iterations=4, speed=SpeedConfig())
    return dataclasses.replace(config, inner=inner, outer=outer)


LEARNERS = {
    "navigation, TRPO": small("navigation-2d"),
    "navigation, Adam, Meta-SGD": dataclasses.replace(
        small("navigation-2d"), outer=AdamConfig(), inner=InnerConfig(form="parameter", steps=2)
    ),
    "cartpole, TRPO": small("cartpole"),
    "cartpole, TRPO, Adam inside, learned schedule": dataclasses.replace(
        small("cartpole"),
        network=NetworkConfig(hidden=(8,)),
        inner=InnerConfig(optimizer="adam", step_size=0.01, schedule="learned", steps=2),
    ),
    "cartpole, Adam, mixture of context rules": dataclasses.replace(
        small("cartpole"),
        outer=AdamConfig(),
        inner=InnerConfig(optimizer="mixture", adapts="context"),
        network=NetworkConfig(hidden=(8,), context=2),
    ),
    "sinusoid, Adam": small("sinusoid"),
    "navigation, ProMP, adaptive": dataclasses.replace(
        small("navigation-2d"), outer=ProMPConfig(kl_target=1.0), inner=InnerConfig(steps=2)
    ),
    "navigation, Reptile": reptile("navigation-2d"),
    "sinusoid, Reptile, Adam": reptile("sinusoid", optimizer="adam"),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_training_2n_equals_training_n_then_n_more_bit_for_bit(name, tmp_path):
    assert_resumes_bit_for_bit(LEARNERS[name], tmp_path)


def assert_resumes_bit_for_bit(config, folder):
    """Two further iterations are the same after a stop; returns the learner after four."""
    whole = meta_rl.build(config).learn(2)
    whole.save(folder / "half")
    whole.learn(2)
    resumed = meta_rl.load(folder / "half").learn(2)
    assert (resumed.iteration, resumed.samples) == (4, whole.samples)
    for part, other in zip(whole.meta, resumed.meta, strict=True):
        assert part.keys() == other.keys()
        assert all(torch.equal(part[key], other[key]) for key in part)
    kept, restored = whole.outer.state_dict(), resumed.outer.state_dict()
    assert kept.keys() == restored.keys()
    assert all(torch.equal(kept[key], restored[key]) for key in kept)
    return whole


def test_a_save_in_the_middle_of_a_run_changes_no_bit_of_it(tmp_path):
    whole, saved = (meta_rl.build(LEARNERS["cartpole, TRPO"]) for _ in range(2))
    saved.learn(1).save(tmp_path / "c")
    torch.testing.assert_close(saved.learn(1).meta, whole.learn(2).meta, rtol=0, atol=0)


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
    config = LEARNERS["navigation, TRPO"]
    one, same, other = (
        meta_rl.build(dataclasses.replace(config, seed=seed)).learn(1) for seed in (5, 5, 6)
    )
    weight = "mean.0.weight"
    assert torch.equal(one.meta.theta[weight], same.meta.theta[weight])
    assert not torch.equal(one.meta.theta[weight], other.meta.theta[weight])


def test_training_leaves_the_global_generators_alone():
    before = torch.get_rng_state()
    meta_rl.build(LEARNERS["cartpole, TRPO"]).learn(1)
    assert torch.equal(before, torch.get_rng_state())


def test_tensors_and_manifest_come_back(tmp_path):
    checkpoint.save(tmp_path / "c", {"kind": "test", "number": 3}, TENSORS)
    manifest, tensors = checkpoint.load(tmp_path / "c")
    assert (manifest["kind"], manifest["number"]) == ("test", 3)
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_an_existing_checkpoint_is_never_overwritten(tmp_path):
    checkpoint.save(tmp_path / "c", {}, TENSORS)
    with pytest.raises(InputError, match="exists already"):
        checkpoint.save(tmp_path / "c", {}, {})
    assert checkpoint.load(tmp_path / "c")[1].keys() == TENSORS.keys()


@pytest.mark.parametrize("file", [checkpoint.MANIFEST, checkpoint.TENSORS])
def test_one_flipped_bit_anywhere_is_noticed(file, tmp_path):
    path = checkpoint.save(tmp_path / "c", {"kind": "test"}, TENSORS) / file
    whole = path.read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        try:
            manifest, _ = checkpoint.load(path.parent)
        except InputError:
            continue
        # White space between JSON values is the one thing that may change without harm.
        assert file == checkpoint.MANIFEST
        assert json.loads(bytes(damaged)) == json.loads(whole), manifest


@pytest.mark.parametrize("file", [checkpoint.MANIFEST, checkpoint.TENSORS])
def test_truncation_is_noticed(file, tmp_path):
    path = checkpoint.save(tmp_path / "c", {"kind": "test"}, TENSORS) / file
    whole = path.read_bytes().rstrip()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="damaged"):
            checkpoint.load(path.parent)


def test_a_newer_schema_is_refused(tmp_path):
    checkpoint.save(tmp_path / "c", {}, TENSORS)
    manifest = json.loads((tmp_path / "c/manifest.json").read_text())
    manifest["schema"] = 99
    (tmp_path / "c/manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="expected schema 2 or older, got 99"):
        checkpoint.load(tmp_path / "c")


def test_a_missing_checkpoint_says_what_to_give(tmp_path):
    with pytest.raises(InputError, match="expected a run folder with checkpoints, got"):
        meta_rl.load(tmp_path / "nowhere")


def test_the_newest_whole_checkpoint_is_used_and_the_damaged_one_named(tmp_path):
    for number in (1, 2):
        checkpoint.save(tmp_path / "checkpoints" / f"{number:09d}", {"iteration": number}, TENSORS)
    (tmp_path / "checkpoints/000000002/tensors.safetensors").write_bytes(b"")
    _, manifest, _, passed_over = run_folder.load_newest(tmp_path)
    assert manifest["iteration"] == 1
    assert "000000002 is damaged" in passed_over[0]


def test_a_checkpoint_of_another_family_is_refused(tmp_path):
    meta_rl.build(small("cartpole")).save(tmp_path / "c")
    manifest, tensors = checkpoint.load(tmp_path / "c")
    with pytest.raises(InputError, match="another family"):
        meta_rl.build(small("navigation-2d")).restore(manifest, tensors)


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    config = small("cartpole")
    meta_rl.build(config).save(tmp_path / "c")
    manifest, tensors = checkpoint.load(tmp_path / "c")
    wider = dataclasses.replace(config, network=dataclasses.replace(config.network, hidden=(8,)))
    with pytest.raises(InputError, match=r"made of .*Tanh, .*It belongs to another model"):
        meta_rl.build(wider).restore(manifest, tensors)


def test_episodes_config_is_what_reinforcement_presets_hold():
    assert isinstance(meta_rl.PRESETS["cartpole"].data, EpisodesConfig)
