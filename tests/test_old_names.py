"""Settings that were written under old names are read under the new ones."""

import json
import shutil
from pathlib import Path

import pytest

import meta_rl
from meta_rl.cli import adapt, evaluate, train
from meta_rl.config import from_dict, to_dict
from meta_rl.config.renamed import RENAMED, VALUES
from meta_rl.errors import InputError

BEFORE = Path(__file__).parent / "data" / "old-names"
KEPT = [*BEFORE.glob("*.json"), BEFORE / "sinusoid_1/config.json"]


@pytest.mark.parametrize("file", KEPT, ids=lambda file: file.stem)
def test_settings_under_old_names_are_read_and_written_under_the_new_ones(file):
    older = json.loads(file.read_text())
    config = from_dict(older)
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config
    moved = 0
    for old, new in RENAMED.items():
        (part, name), (home, own) = old.split("."), new.split(".")
        if name in older.get(part, {}):
            value = older[part][name]
            new = VALUES[name][value] if name in VALUES else value
            assert getattr(getattr(config, home), own) == new
            assert name not in to_dict(config)[part]
            moved += 1
    assert moved >= 2


def test_an_old_name_never_overrules_a_new_one():
    values = to_dict(meta_rl.preset("glyphs-5way-1shot"))
    values["inner"]["tasks_at_once"] = 3
    with pytest.raises(InputError, match="InnerConfig has no setting 'tasks_at_once'"):
        from_dict(values)
    values = to_dict(meta_rl.preset("cartpole"))
    del values["speed"]
    values["data"]["workers"], values["inner"]["recorded"] = 2, True
    speed = from_dict(values).speed
    assert (speed.workers, speed.program, speed.members_at_once) == (2, "recorded", None)


@pytest.mark.filterwarnings("ignore:checkpoint. written with")  # other versions than here
def test_a_run_with_old_names_is_resumed_adapted_and_evaluated(tmp_path, capsys):
    """Its folder is as it was written; only --iterations is raised."""
    run = shutil.copytree(BEFORE / "sinusoid_1", tmp_path / "sinusoid_1")
    words = ["--eval.tasks", "2", "--eval.test-tasks", "2", "--device", "cpu"]
    train.main(["--resume", str(run), "--iterations", "301", *words])
    learner = meta_rl.load(run)
    assert (learner.iteration, learner.config.speed.program) == (301, "recorded")
    adapt.main([str(run), "--task", "amplitude=2,phase=1", "--device", "cpu", "--no-pictures"])
    evaluate.main([str(run), "--tasks", "2", "--device", "cpu"])
    assert "after 3 inner steps" in capsys.readouterr().out


@pytest.mark.parametrize("algorithm", ["rl2", "varibad"])
def test_trials_of_old_settings_had_no_limit_of_divergence(algorithm):
    stored = to_dict(meta_rl.algorithm(algorithm, meta_rl.preset("cartpole")))
    assert from_dict(stored).outer.target_kl == 0.02
    del stored["outer"]["target_kl"]
    assert from_dict(stored).outer.target_kl is None


def test_episodes_of_old_settings_had_the_linear_baseline():
    values = to_dict(meta_rl.preset("cartpole"))
    del values["data"]["baseline"]
    assert from_dict(values).data.baseline == "linear"


@pytest.mark.parametrize("kind", ["mlp", "convolutional"])
def test_an_activation_that_old_settings_spell_out_is_the_one_left_out(kind):
    values = to_dict(meta_rl.preset("glyphs-5way-1shot"))
    own = {"mlp": "tanh", "convolutional": "relu"}
    for activation in own.values():
        network = values["network"] | {"kind": kind, "activation": activation}
        del network["initialization"]
        read = from_dict({**values, "network": network}).network
        assert read.activation == (None if activation == own[kind] else activation)
