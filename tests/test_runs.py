"""What a run keeps: of itself and of others' files, whatever is raised, wherever it is moved."""

import json
import os
import shutil
import signal
from dataclasses import replace

import gymnasium as gym
import pytest
import torch
from meta_rl.envs import FAMILIES

import meta_rl
from meta_rl.cli import adapt, train
from meta_rl.cli.command import run_command
from meta_rl.cli.runners import train as runner
from meta_rl.errors import InputError
from meta_rl.families import GymFamily
from meta_rl.machine import parallel
from meta_rl.runs.recorder import RunRecorder
from meta_rl.runs.signals import StopOnSignal, Stopped
from meta_rl.storage import checkpoint, run_folder
from tests.test_resume import tiny

SMALL = ["--data.tasks", "2", "--eval.tasks", "2", "--log-every", "1", "--device", "cpu"]
SMALL += ["--speed.program", "plain", "--network.hidden", "8"]


def learner(**settings):
    config = replace(tiny("sinusoid"), log_every=1, **{"checkpoint_every": 1, **settings})
    return meta_rl.build(config)


def same_bits(one, other):
    return run_folder.load_newest(one)[2].keys() == other._state._tensors().keys() and all(
        torch.equal(value, other._state._tensors()[name])
        for name, value in run_folder.load_newest(one)[2].items()
    )


def files(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_only_what_this_run_saved_is_counted_renamed_or_removed(tmp_path):
    """Folders, copies, files and links of a person's own beside the checkpoints."""
    run, one = tmp_path / "run", learner()
    other = learner(seed=1).learn(6).save(tmp_path / "000000006")
    with RunRecorder(run, one) as recorder:
        one.learn(2, [recorder])
        own = run / "checkpoints"
        for name in ("keep-a", "keep-b", "keep-c", "keep-d", "keep-e", "000000004", ".mine.tmp"):
            (own / name).mkdir()
            (own / name / "notes.txt").write_text("mine")
        shutil.copytree(own / "000000002", own / "best")
        shutil.copytree(own / "000000002", own / "000000999")
        (own / "000000003").write_text("a file")
        (own / "000000005").symlink_to(tmp_path / "nowhere")
        shutil.copytree(other, own / "000000006")
        (own / "000000001" / "notes.txt").write_text("why this one is good")
        before = files(own)
        with pytest.warns(UserWarning, match="is not what this run saved. It stays") as said:
            one.learn(4, [recorder])
        assert len({str(warning.message) for warning in said}) == 4
        one.learn(6, [recorder])
    mine = {p: b for p, b in before.items() if p.parent.name not in ("000000000", "000000002")}
    assert mine.items() <= files(own).items()
    assert (own / "000000005").is_symlink()
    kept = [path.name for path in run_folder.checkpoints(run) if path.name != "000000001"]
    assert kept == [f"{number:09d}" for number in (8, 9, 10, 11, 12)]
    with pytest.warns(UserWarning, match="000000999 is not what this run saved: passed over"):
        resumed = meta_rl.load(run)
    assert resumed.iteration == 12
    assert same_bits(own / "000000012", one)


def test_an_iteration_whose_name_is_taken_at_the_end_is_saved_all_the_same(tmp_path):
    one = learner(checkpoint_every=9)
    recorder = RunRecorder(tmp_path, one)
    (tmp_path / "checkpoints/000000003").mkdir()
    one.learn(3, [recorder])
    with pytest.warns(UserWarning, match="saved beside it under another name"):
        recorder.__exit__(None)
    assert meta_rl.load(tmp_path).iteration == 3


ERRORS = (MemoryError, RuntimeError, KeyError, SystemExit, KeyboardInterrupt)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("where", ["callback", "evaluation", "outer step"])
def test_whatever_is_raised_the_whole_iterations_are_saved(error, where, tmp_path):
    never = learner().learn(3)
    one = learner(checkpoint_every=100)
    step = one.outer.step

    def fail(*given):
        if one.iteration == 3:
            if where == "outer step":
                step(*given)  # what it has changed already is no whole iteration
            raise error("no memory")
        return step(*given) if where == "outer step" else None

    if where == "outer step":
        one.outer.step = fail
    if where == "evaluation":
        one.config = replace(one.config, eval=replace(one.config.eval, every=3))
        one.results = fail
    callbacks = [fail] if where == "callback" else []
    with pytest.raises(error), RunRecorder(tmp_path, one) as recorder:
        one.learn(5, [recorder, *callbacks])
    assert run_folder.newest_iteration(tmp_path) == 3
    assert same_bits(tmp_path, never)
    one.outer.step = step  # the learner itself can go on as well, to the same bits
    whole = learner().learn(5)
    one.learn(2)
    torch.testing.assert_close(one.meta, whole.meta, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR1"])
def test_a_lost_terminal_and_a_warning_of_slurm_end_the_iteration_and_save_it(name, tmp_path):
    one, number = learner(checkpoint_every=100), getattr(signal, name)
    sent = [lambda *_: os.kill(os.getpid(), number) if one.iteration == 2 else None]
    closed, before = os.dup(2), signal.signal(number, signal.SIG_DFL)  # as without nohup
    try:
        with RunRecorder(tmp_path, one) as recorder, StopOnSignal() as stop:
            os.close(2)  # the message goes nowhere
            one.learn(9, [*sent, recorder, stop])
    finally:
        os.dup2(closed, 2)
        os.close(closed)
        signal.signal(number, before)
    assert stop.number == number
    assert run_folder.newest_iteration(tmp_path) == one.iteration == 2


def test_a_run_under_nohup_does_not_stop_with_its_terminal():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopOnSignal() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
        assert not stop.stopped
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.fixture
def trained(tmp_path):
    """A run of two iterations whose final test was stopped by SIGTERM in its second batch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "_tested", interrupted(runner._tested, signal.SIGTERM))
        words = ["sinusoid", "--iterations", "2", *SMALL, "--log-dir", str(tmp_path)]
        patch.setattr("sys.argv", ["train.py", *words])
        with pytest.raises(SystemExit) as end:
            run_command(train.main)
    assert end.value.code == 128 + signal.SIGTERM
    return tmp_path / "sinusoid_1"


def interrupted(tested, number):
    """The final test, sent a signal once a batch is collected."""

    def act(recorder, stop, again):
        results = recorder.learner.results

        def signalled(tasks, steps, seed, tick):
            def send(done, total):
                tick(done, total)
                os.kill(os.getpid(), number)
                assert done == 1, "it went on"

            return results(tasks, steps, seed, send)

        recorder.learner.results = signalled
        return tested(recorder, stop, again)

    return act


def test_a_stopped_final_test_says_so_and_can_be_had_later_and_again(trained, capsys):
    assert run_folder.newest_iteration(trained) == 2
    before = files(trained / "checkpoints")
    said = []
    for _ in range(2):
        train.main(["--resume", str(trained), "--device", "cpu"])
        out, err = capsys.readouterr()
        assert "all iterations are done; its final test is left" in out
        assert "final test: " in err, "progress in plain lines"
        said.append(out.split("held-out tasks")[1])
    assert said[0] == said[1]
    assert files(trained / "checkpoints") == before
    with pytest.raises(InputError, match="is at iteration 2 already"):
        train.main(["--resume", str(trained), "--iterations", "1"])


def test_a_stopped_final_test_ends_with_the_signals_status_and_a_hint(tmp_path, capsys):
    one = learner()
    with (
        pytest.raises(SystemExit) as end,
        RunRecorder(tmp_path / "run", one) as recorder,
        StopOnSignal() as stop,
    ):
        interrupted(runner._tested, signal.SIGINT)(recorder, stop, f"train.py --resume {tmp_path}")
    assert end.value.code == 130
    err = capsys.readouterr().err
    assert f"final test was not finished; test it with: train.py --resume {tmp_path}" in err


class Wanderer(gym.Wrapper):
    """An environment that changes the working directory."""

    def step(self, action):
        os.chdir("/")
        return super().step(action)


def test_an_environment_that_changes_the_working_directory_takes_no_run_along(
    tmp_path, monkeypatch, capsys
):
    family = GymFamily("CartPole-v1", wrappers=[Wanderer], horizon=5, id="wanderer")
    monkeypatch.chdir(tmp_path)  # now: it has wandered when it was tried
    monkeypatch.setitem(FAMILIES, "wanderer", family)
    words = "wanderer --iterations 2 --data.tasks 2 --data.episodes 2 --eval.no-test --device cpu"
    train.main([*words.split(), "--log-dir", "own"])
    assert run_folder.newest_iteration(tmp_path / "own" / "wanderer_1") == 2
    assert "adapt it: meta-rl adapt own/wanderer_1" in capsys.readouterr().out


def test_a_signal_before_work_that_may_stop_at_once_stops_it():
    with StopOnSignal() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Stopped), stop.at_once():
            raise AssertionError("it began")


def test_no_test_and_no_evaluations_evaluate_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("meta_rl.runs.learner.MetaLearner.results", None)
    options = ["--eval.every", "0", "--eval.no-test", "--iterations", "2", "--log-dir"]
    small = [*SMALL[:2], *SMALL[4:]]  # without --eval.tasks, which could not act
    train.main(["sinusoid", *small, *options, str(tmp_path)])
    assert "not tested" in capsys.readouterr().out
    train.main(["--resume", str(tmp_path / "sinusoid_1"), "--device", "cpu"])
    assert "--eval.no-test: nothing is left" in capsys.readouterr().out
    monkeypatch.undo()
    train.main(["--resume", str(tmp_path / "sinusoid_1"), "--eval.test", "--device", "cpu"])
    assert "95 % interval" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["missing", "cut off", "no object", "another run's"])
def test_without_a_config_file_everything_works_from_the_checkpoint(damage, tmp_path):
    run, one = tmp_path / "run", learner()
    with RunRecorder(run, one) as recorder:
        one.learn(2, [recorder])
    settings = run / "config.json"
    before = settings.read_text()
    if damage == "missing":
        settings.unlink()
    else:
        other = before.replace('"seed": 0', '"seed": 7')
        content = {"cut off": before[:99], "no object": "[]", "another run's": other}
        settings.write_text(content[damage])
    assert meta_rl.load(run).iteration == 2
    train.main(["--resume", str(run), "--iterations", "3", "--eval.no-test", "--device", "cpu"])
    adapt.main([str(run), "--task", "amplitude=2,phase=1", "--no-pictures", "--device", "cpu"])
    assert (run / "adapted").is_dir()
    written = json.loads(settings.read_text())
    assert (written["seed"], written["iterations"]) == (0, 3)


def test_data_and_runs_may_move_and_the_working_folder_change(idx_folder, tmp_path, monkeypatch):
    home, other = tmp_path / "home", tmp_path / "other"
    shutil.copytree(idx_folder, home / "split")
    other.mkdir()
    monkeypatch.chdir(home)
    options = ["--data.tasks", "2", "--data.shots", "1", "--data.queries", "1", "--eval.no-test"]
    options += ["--network.channels", "2", "--eval.every", "0", "--data.ways", "2"]
    train.main(["mnist", "--data", "split", "--iterations", "1", *options, "--device", "cpu"])
    monkeypatch.chdir(other)
    run = home / "runs" / "mnist_1"
    again = ["--device", "cpu", "--iterations"]
    train.main(["--resume", str(run), *again, "2"])
    (home / "split").rename(other / "moved")
    run = shutil.move(run, other / "run")
    with pytest.raises(InputError, match=r"in .*split, got nothing there.* --data FOLDER"):
        train.main(["--resume", str(run), *again, "3"])
    with pytest.raises(InputError, match="got nothing there"):
        meta_rl.load(run)
    train.main(["--resume", str(run), "--data", "moved", *again, "3"])
    (other / "moved").rename(other / "again")
    assert meta_rl.load(run, data="again").iteration == 3
    adapt.main([str(run), "--run-data", "again", "--no-pictures", "--device", "cpu"])
    kept = [json.loads((c / "manifest.json").read_text()) for c in run_folder.checkpoints(run)]
    assert len({content["config"]["data"]["folder"] for content in kept}) == 2
    assert meta_rl.load(run, data="again").learn(1).iteration == 4


def signed(folder, change, tensors=None):
    """Change a checkpoint's manifest, or its tensors, as somebody who can sign."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest.pop("manifest_sha256")
    manifest |= change
    if tensors is not None:
        data = checkpoint.save_tensors(tensors)
        (folder / "tensors.safetensors").write_bytes(data)
        manifest["sha256"] = checkpoint.hashlib.sha256(data).hexdigest()
    manifest["manifest_sha256"] = checkpoint._digest(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("field", ["iteration", "samples", "skipped"])
@pytest.mark.parametrize("value", [-5, True, 2.0, 10**30, None, "3", []])
def test_counters_that_no_training_leaves_are_refused(field, value, tmp_path):
    path = learner().save(tmp_path / "c")
    signed(path, {field: value})
    with pytest.raises(InputError, match=field):
        meta_rl.load(path)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int64, torch.bool])
@pytest.mark.parametrize("part", ["theta", "rule", "outer"])
def test_tensors_of_another_type_are_refused(part, dtype, tmp_path):
    path = learner().learn(1).save(tmp_path / "c")
    tensors = checkpoint.load(path)[1]
    name = next(n for n, v in tensors.items() if n.startswith(part) and v.is_floating_point())
    signed(path, {}, tensors | {name: tensors[name].to(dtype)})
    with pytest.raises(InputError, match=rf"expected \[.*\] of float32 for {name[6:]}|for {name}"):
        meta_rl.load(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_models_with_numbers_that_are_not_finite_are_refused(value, tmp_path):
    one = learner()
    model = one.adapt(one.held_out_tasks(1)[0])
    for path in (model.save(tmp_path / "model"), one.save(tmp_path / "run")):
        tensors = checkpoint.load(path)[1]
        name = next(n for n in tensors if n.endswith("bias"))
        tensors[name][0] = value
        signed(path, {}, tensors)
    with pytest.raises(InputError, match="expected finite numbers in"):
        meta_rl.load_adapted(tmp_path / "model")
    with pytest.raises(InputError, match="expected finite numbers in theta"):
        meta_rl.load(tmp_path / "run")


def test_other_versions_are_said_in_one_line(tmp_path):
    path = learner().save(tmp_path / "c")
    meta_rl.load(path)
    signed(path, {"versions": {"torch": "1.0", "numpy": checkpoint.np.__version__}})
    with pytest.warns(UserWarning, match=r"written with torch 1.0 \(now .*equal bits") as said:
        meta_rl.load(path)
    assert len(said) == 1
    for nothing in (None, [], "x", {"torch": checkpoint.torch.__version__}):
        signed(path, {"versions": nothing})
        meta_rl.load(path)


def test_a_restart_finds_the_run_of_a_family_with_any_name(tmp_path, monkeypatch):
    monkeypatch.setitem(FAMILIES, "mine/../swing", FAMILIES["bandit-5"])
    monkeypatch.setattr(parallel, "launch", lambda: "one")
    options = ["mine/../swing", "--data.tasks", "2", "--data.episodes", "2", "--eval.no-test"]
    options += ["--iterations", "1", "--device", "cpu", "--log-dir", str(tmp_path / "runs")]
    train.main(options)
    monkeypatch.setattr(parallel, "launched_before", lambda: True)
    train.main(options)
    runs = [path.name for path in (tmp_path / "runs").iterdir()]
    assert len(runs) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


@pytest.mark.parametrize("path", ["x" * 300, "a\0b", 5, None])
def test_what_is_no_path_is_refused_at_every_door(path):
    learner = meta_rl.build(tiny("sinusoid"))
    model = learner.adapt(learner.held_out_tasks(1)[0], steps=0)
    doors = (learner.save, model.save, meta_rl.load, meta_rl.load_adapted)
    for door in doors:
        with pytest.raises(InputError, match=r"folder: |run: |checkpoint: "):
            door(path)


@pytest.mark.skipif(os.name == "nt", reason="there a folder that is in use stays")
def test_a_working_folder_that_was_removed_is_told(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(InputError, match="working folder: it was removed"):
        train.main(["sinusoid"])
    monkeypatch.chdir(tmp_path)
