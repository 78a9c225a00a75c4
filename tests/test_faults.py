"""What goes wrong in and around a run: environments, disks, signals, two at once, bombs."""

import hashlib
import json
import os
import pickle
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils._pytree import tree_leaves

import meta_rl
from meta_rl import envs
from meta_rl.cli.runners.folders import next_run
from meta_rl.errors import InputError
from meta_rl.families import GymFamily, Parameter, Uniform
from meta_rl.runs import recorder as callbacks
from meta_rl.runs.recorder import RunRecorder
from meta_rl.runs.signals import StopOnSignal
from meta_rl.storage import checkpoint, run_folder
from tests.extras import posix
from tests.test_resume import ROOT, tiny


def learner(**settings):
    config = replace(tiny("sinusoid"), log_every=1, checkpoint_every=1, **settings)
    return meta_rl.build(config)


@contextmanager
def files_no_longer_than(size):
    """What a full disk is to a process: its writes fail with an OSError."""
    import resource  # Windows has none

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@posix
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_full_disk_keeps_old_checkpoints_and_training_goes_on(tmp_path):
    one = learner()
    with RunRecorder(tmp_path / "run", one) as recorder:
        one.learn(2, [recorder])
        with (
            files_no_longer_than(100),
            pytest.warns(UserWarning, match=r"cannot write .*Training goes on"),
        ):
            one.learn(2, [recorder])
        assert one.iteration == 4
        assert run_folder.newest_iteration(tmp_path / "run") == 2
        assert not list((tmp_path / "run/checkpoints").glob(".*"))
    assert meta_rl.load(tmp_path / "run").iteration == 4  # there was room again at the end


@posix
def test_a_disk_full_to_the_end_is_told_in_one_line(tmp_path):
    one = learner()
    recorder = RunRecorder(tmp_path / "run", one).__enter__()
    recorder._logs = False
    one.learn(1)
    with files_no_longer_than(100), pytest.raises(InputError, match="Earlier checkpoints are unt"):
        recorder.__exit__(None)
    assert run_folder.newest_iteration(tmp_path / "run") == 0


@posix
def test_a_read_only_folder_is_refused_at_the_start(tmp_path):
    tmp_path.chmod(0o555)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # to root nothing is read-only
    try:
        with pytest.raises(InputError, match="run folder: cannot write"):
            RunRecorder(tmp_path / "run", learner())
        with pytest.raises(InputError, match="run folder: cannot write"):
            next_run(tmp_path, "run")
    finally:
        os.seteuid(user)
        tmp_path.chmod(0o755)


def test_a_folder_is_one_runs_alone_until_it_ends(tmp_path):
    one = learner()
    with RunRecorder(tmp_path / "run", one):
        with pytest.raises(InputError, match="in use by another process; nothing was overwritten"):
            RunRecorder(tmp_path / "run", one)
        code = (
            "import sys; from pathlib import Path; from meta_rl.runs.recorder import lock;"
            "lock(Path(sys.argv[1]))"
        )
        other = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "run")],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert "is in use by another process" in other.stderr
    with RunRecorder(tmp_path / "run", one):
        pass


def test_a_fresh_learner_never_goes_on_in_the_folder_of_one_that_has_learned(tmp_path):
    one = learner()
    with RunRecorder(tmp_path, one) as recorder:
        one.learn(2, [recorder])
    with pytest.raises(InputError, match="does not continue"):
        RunRecorder(tmp_path, learner())
    with RunRecorder(tmp_path, meta_rl.load(tmp_path)):
        pass


def test_two_runs_started_together_get_two_folders(tmp_path):
    assert [next_run(tmp_path, "run").name for _ in range(3)] == ["run_1", "run_2", "run_3"]


def test_what_a_killed_save_left_is_cleared_away(tmp_path):
    with RunRecorder(tmp_path, learner()):
        (tmp_path / "checkpoints/.000000001.77.tmp").mkdir()
    with RunRecorder(tmp_path, learner()):
        assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["000000000"]


def test_the_newest_five_are_kept(tmp_path):
    one = learner()
    with RunRecorder(tmp_path, one) as recorder:
        one.learn(7, [recorder])
    kept = [int(path.name) for path in run_folder.checkpoints(tmp_path)]
    assert kept == [3, 4, 5, 6, 7]
    assert len(kept) == callbacks.KEEP_CHECKPOINTS


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_in_the_middle_of_an_iteration_ends_it_whole(number, tmp_path, capfd):
    one = learner()
    sample = one.problem.sample_tasks

    def interrupted(n, seed, split=None):
        if one.iteration == 2:
            os.kill(os.getpid(), number)
        return sample(n, seed, split)

    one.problem.sample_tasks = interrupted
    with RunRecorder(tmp_path, one) as recorder, StopOnSignal() as stop:
        one.learn(5, [recorder, stop])
    assert one.iteration == run_folder.newest_iteration(tmp_path) == 3
    assert "stopping after this iteration" in capfd.readouterr().err


@posix
def test_a_second_ctrl_c_stops_at_once_and_the_last_checkpoint_stays(tmp_path):
    one = learner()
    sample = one.problem.sample_tasks

    def interrupted(n, seed, split=None):
        for _ in range(2 if one.iteration == 2 else 0):
            os.kill(os.getpid(), signal.SIGINT)
        return sample(n, seed, split)

    one.problem.sample_tasks = interrupted
    with (
        pytest.raises(KeyboardInterrupt),
        RunRecorder(tmp_path, one) as recorder,
        StopOnSignal() as stop,
    ):
        one.learn(5, [recorder, stop])
    resumed = meta_rl.load(tmp_path)
    assert resumed.iteration == 2
    with RunRecorder(tmp_path, resumed) as recorder:  # the folder is free again
        resumed.learn(1, [recorder])


class Bomb:
    """Leaves a file behind if it is ever unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("file", [checkpoint.MANIFEST, checkpoint.TENSORS])
def test_a_pickle_offered_as_a_checkpoint_is_refused_and_never_runs(file, tmp_path):
    path = learner().save(tmp_path / "c")
    bomb = pickle.dumps(Bomb(tmp_path / "ran"))
    (path / file).write_bytes(bomb)
    if file == checkpoint.TENSORS:  # by somebody who knows how to sign
        manifest = json.loads((path / checkpoint.MANIFEST).read_text())
        manifest.pop("manifest_sha256")
        manifest["sha256"] = hashlib.sha256(bomb).hexdigest()
        manifest["manifest_sha256"] = checkpoint._digest(manifest)
        (path / checkpoint.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"damaged|Nothing in it was executed"):
        meta_rl.load(path)
    assert not (tmp_path / "ran").exists()
    pickle.loads(bomb)  # it would have
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("file", [checkpoint.MANIFEST, checkpoint.TENSORS])
def test_a_missing_file_falls_back_to_the_checkpoint_before(file, tmp_path):
    one = learner()
    with RunRecorder(tmp_path, one) as recorder:
        one.learn(2, [recorder])
    (tmp_path / "checkpoints/000000002" / file).unlink()
    with pytest.warns(UserWarning, match=f"expected a folder with .*{file}"):
        assert meta_rl.load(tmp_path).iteration == 1


def test_another_action_space_is_refused():
    with pytest.raises(InputError, match="action space: the policy was trained with"):
        meta_rl.build(tiny("navigation-2d")).adapt("MountainCar-v0")


@pytest.mark.parametrize("field", ["tasks", "episodes"])
def test_no_trajectories_are_refused(field):
    with pytest.raises(InputError, match=f"data.{field}: expected 1 or more, got 0"):
        tiny("cartpole", **{field: 0})


class Fragile(gym.Env):
    """Its episodes have so many steps, of reward 1 each; it can be told to fail in the last."""

    observation_space = gym.spaces.Box(-1, 1, (2,))
    action_space = gym.spaces.Discrete(2)
    last, fault, limit = 3, None, False

    def __init__(self, gain=1.0):
        self.gain = gain

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.time += 1
        ends = self.time == self.last
        if ends and self.fault == "raises":
            raise RuntimeError("the motor burnt out")
        what, value = self.fault if ends and self.fault else (None, 0.0)
        obs = np.full(2, value if what == "observation" else 0.1 * self.gain, np.float32)
        reward = value if what == "reward" else 1.0
        return obs, reward, ends and not self.limit, ends and self.limit, {}


@pytest.fixture
def fragile(monkeypatch):
    """A family of it."""
    family = GymFamily(Fragile, Parameter("gain", Uniform(0.5, 2.0)), horizon=9, id="fragile")
    monkeypatch.setitem(envs.FAMILIES, "fragile", family)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("raises", "raised RuntimeError: the motor burnt out"),
        *(
            ((what, value), f"returned the {what} .*, which is not finite")
            for what, value in (("reward", np.nan), ("reward", -np.inf), ("observation", np.inf))
        ),
    ],
)
def test_an_environment_that_fails_in_training_costs_no_whole_iteration(
    fault, message, fragile, monkeypatch, tmp_path
):
    one = meta_rl.build(tiny("fragile"))
    where = message + r", at step 3 of task \{'gain': [\d.]+\}, seed \d+"
    with RunRecorder(tmp_path, one) as recorder:
        one.learn(2, [recorder])
        with monkeypatch.context() as patch:
            patch.setattr(Fragile, "fault", fault)
            with pytest.raises(InputError, match=where):
                one.learn(1, [recorder])
    mended, never = meta_rl.load(tmp_path).learn(2), meta_rl.build(tiny("fragile")).learn(4)
    assert mended.iteration == 4
    torch.testing.assert_close(mended.meta, never.meta, rtol=0, atol=0)


@pytest.mark.parametrize("algorithm", ["maml", "e-maml", "promp", "reptile", "es-maml", "ga-maml"])
def test_one_step_episodes_of_equal_rewards_and_observations_are_learned_from(
    algorithm, fragile, monkeypatch
):
    """All advantages are 0 and the baseline's equations singular."""
    monkeypatch.setattr(Fragile, "last", 1)
    one = meta_rl.build(tiny("fragile", algorithm)).learn(2)
    assert one.iteration == 2
    assert all(bool(torch.isfinite(leaf).all()) for leaf in tree_leaves(one.meta))
    policy = one.adapt({"gain": 1.0}, steps=2, episodes=2)
    assert policy.scores == (1.0, 1.0, 1.0)


def test_a_time_limit_is_learned_from_as_an_end_is(fragile, monkeypatch):
    learned = {}
    for limit in (False, True):
        monkeypatch.setattr(Fragile, "limit", limit)
        learned[limit] = meta_rl.build(tiny("fragile")).learn(2).meta
    torch.testing.assert_close(learned[True], learned[False], rtol=0, atol=0)


@posix
def test_a_save_killed_at_any_of_its_lines_leaves_the_old_checkpoint_or_the_new_one(tmp_path):
    command = [sys.executable, "-m", "tests.kills", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 30  # lines, each a death


def test_a_step_size_that_was_learned_to_be_negative_is_on_record(tmp_path):
    """Only with ``positive`` none can it be; then steps climb, and TensorBoard shows why."""
    config = tiny("sinusoid")
    free = replace(config, inner=replace(config.inner, positive="none"), log_every=1)
    one = meta_rl.build(free)
    one.meta.rule["step_size"].data.fill_(-0.5)
    with RunRecorder(tmp_path, one) as recorder:
        metrics = one.iterate()
        recorder(one, metrics)
    assert metrics["meta/loss_post"] > metrics["meta/loss_pre"]
    events = EventAccumulator(str(tmp_path)).Reload()
    assert events.Scalars("rule/step_size")[-1].value == pytest.approx(-0.5, abs=0.01)
    usual = meta_rl.build(config)
    usual.meta.rule["step_size"].data.fill_(-50.0)
    assert usual.step_sizes()["step_size"] > 0
