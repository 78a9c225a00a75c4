"""Arrays of one's own, by command: trained on, saved, loaded and adapted in another process."""

import csv
import subprocess
import sys

import numpy as np
import pytest
from meta_rl.agents import convolutional

import meta_rl
from meta_rl import seeds
from meta_rl.cli import adapt, train
from meta_rl.cli.runners import own_data
from meta_rl.errors import InputError
from meta_rl.problems.adapted import AdaptedNetwork
from meta_rl.problems.modules import check_problem
from tests.test_resume import ROOT

SMALL = ["--iterations", "2", "--data.tasks", "2", "--eval.tasks", "2", "--eval.test-tasks", "2"]
SMALL += ["--network.hidden", "4", "--speed.program", "plain", "--device", "cpu"]
SMALL += ["--data.shots", "2", "--data.queries", "2", "--eval.no-pictures"]


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    """Ten tasks of twelve sequences: numbers to predict, and classes."""
    folder = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    x = generator.normal(size=(10, 12, 5, 2))
    np.savez(folder / "numbers.npz", x=x, y=x[:, :, -1, 0])
    label = np.tile(["up", "down"], 6)
    task, x = np.repeat(np.arange(10), 12), x.reshape(-1, 5, 2)
    np.savez(folder / "classes.npz", x=x, label=np.tile(label, 10), task=task)
    return folder


def trained(file, logs, *options):
    train.main(["arrays", "--data", str(file), *SMALL, *options, "--log-dir", str(logs)])
    return logs / "arrays_1"


ADAPTED = """
import sys
import numpy as np
import meta_rl
from meta_rl.problems.supervised import Examples
learner = meta_rl.load(sys.argv[1])
model = learner.adapt({"task": "3"}, steps=2)
print(model.predict(np.ones((1, 5, 2))).item(), *model.scores)
print(meta_rl.load_adapted(sys.argv[2]).predict(np.ones((1, 5, 2))).item())
"""


def test_a_run_is_loaded_and_adapted_in_another_process_to_the_same_numbers(arrays, tmp_path):
    run = trained(arrays / "numbers.npz", tmp_path, "--network.kind", "gru")
    model = meta_rl.load(run).adapt({"task": "3"}, steps=2)
    model.save(tmp_path / "adapted")
    words = [sys.executable, "-c", ADAPTED, str(run), str(tmp_path / "adapted")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    value = model.predict(np.ones((1, 5, 2))).item()
    assert [float(word) for word in done.stdout.split()] == [value, *model.scores, value]


def test_a_final_test_on_few_tasks_says_how_many_differ(arrays, tmp_path, capsys):
    many = ["--eval.tasks", "4", "--eval.test-tasks", "30"]
    trained(arrays / "numbers.npz", tmp_path, *many, "--eval.test")
    out = capsys.readouterr().out
    assert "on 30 held-out tasks" in out
    assert "only 2 of these 30 tasks differ: intervals are for new data of them" in out
    train.main(["sinusoid", *SMALL, *many, "--eval.test", "--log-dir", str(tmp_path)])
    assert "differ" not in capsys.readouterr().out


def test_a_run_resumes_bit_for_bit_and_adapts_without_its_data_to_examples_of_ones_own(
    arrays, tmp_path, capsys
):
    file = tmp_path / "moved.npz"
    file.write_bytes((arrays / "classes.npz").read_bytes())
    whole = trained(file, tmp_path, "--network.kind", "lstm")
    part = trained(file, tmp_path / "part", "--network.kind", "lstm", "--iterations", "1")
    train.main(["--resume", str(part), "--iterations", "2"])
    for name, value in meta_rl.load(whole).meta.theta.items():
        assert (value == meta_rl.load(part).meta.theta[name]).all()
    file.unlink()
    with pytest.raises(InputError, match="expected the data that the run was trained on"):
        meta_rl.load(whole)
    own = np.load(arrays / "classes.npz")
    label = np.where(np.arange(12) < 8, own["label"][:12], "")
    np.savez(tmp_path / "own.npz", x=own["x"][:12], label=label)
    adapt.main([str(whole), "--data", str(tmp_path / "own.npz"), "--steps", "2"])
    assert "accuracy on 8 examples of your own" in capsys.readouterr().out
    folder = whole / "adapted/own-examples"
    rows = list(csv.reader((folder / "predictions.csv").read_text().splitlines()))
    assert rows[0] == ["example", "class", "down", "up"]
    assert [row[0] for row in rows[1:]] == ["9", "10", "11", "12"]
    shares = meta_rl.load_adapted(folder).predict(own["x"][8:12])
    assert [[float(v) for v in row[2:]] for row in rows[1:]] == pytest.approx(shares, abs=1e-4)
    alone = meta_rl.load(whole, with_images=False)
    assert alone.problem.family.labels == ("down", "up")
    with pytest.raises(InputError, match="expected the examples of arrays, which were not opened"):
        alone.held_out_tasks(1)


def test_numbers_are_predicted_by_command_and_from_python(arrays, tmp_path):
    run = trained(arrays / "numbers.npz", tmp_path)
    lines = ["example,y,a,b"]
    for example in range(3):
        lines += [f"{example},{'' if example == 2 else example},{step},1" for step in range(5)]
    (tmp_path / "own.csv").write_text("\n".join(lines))
    adapt.main([str(run), "--data", str(tmp_path / "own.csv"), "--steps", "1"])
    folder = run / "adapted/own-examples"
    rows = list(csv.reader((folder / "predictions.csv").read_text().splitlines()))
    x = np.stack([np.arange(5.0), np.ones(5)], 1)[None]
    predicted = meta_rl.load_adapted(folder).predict(x).item()
    assert [row[0] for row in rows] == ["example", "3"]
    assert [rows[0][1], float(rows[1][1])] == ["y", pytest.approx(predicted)]
    with pytest.raises(InputError, match="expected y, as the run was trained on"):
        adapt.main([str(run), "--data", str(arrays / "classes.npz")])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data.ways", "3"], r"data\.ways: expected it to be left out"),
        (["--data.rotations"], "rotations: expected False, since arrays has no pictures"),
        (["--network.kind", "convolutional"], "convolutional needs images"),
        (["--data.shots", "11"], "of at most 12 together, got 11 and 2: task '0' of arrays has"),
    ],
)
def test_what_does_not_fit_the_arrays_is_refused_before_work_starts(
    options, message, arrays, tmp_path
):
    with pytest.raises(InputError, match=message):
        trained(arrays / "numbers.npz", tmp_path / "runs", *options)
    assert not (tmp_path / "runs").exists()


def test_a_run_on_a_table_keeps_the_names_of_its_inputs(tmp_path):
    lines = [f"t{n // 4},{n / 10},{1 - n},{n}" for n in range(48)]
    (tmp_path / "train.csv").write_text("\n".join(["task,age,height,y", *lines]))
    run = trained(tmp_path / "train.csv", tmp_path)
    predictions = []
    for header, order in (("age,height,y", (0, 1, 2)), ("y,height,age", (2, 1, 0))):
        rows = [("0.5", "3", "1"), ("0.1", "-2", "2"), ("0.7", "5", "")]
        told = [",".join(row[place] for place in order) for row in rows]
        (tmp_path / "own.csv").write_text("\n".join([header, *told]))
        adapt.main([str(run), "--data", str(tmp_path / "own.csv"), "--steps", "1"])
        predictions.append((run / "adapted/own-examples/predictions.csv").read_text())
    assert predictions[0] == predictions[1]
    (tmp_path / "own.csv").write_text("age,weight,y\n1,2,3")
    with pytest.raises(InputError, match="trained on, age, height, got age, weight"):
        adapt.main([str(run), "--data", str(tmp_path / "own.csv")])


def test_a_checkpoint_without_names_of_inputs_fits_a_table_and_other_names_do_not(tmp_path):
    lines = [f"t{n // 4},{n / 10},{n}" for n in range(48)]
    (tmp_path / "train.csv").write_text("\n".join(["task,age,y", *lines]))
    run = trained(tmp_path / "train.csv", tmp_path)
    problem = meta_rl.load(run).problem
    ours = problem.describe()
    assert ours.pop("columns") == ["age"]
    check_problem(problem, ours)
    with pytest.raises(InputError, match=r"expected .*'age'.*got .*'height'"):
        check_problem(problem, {**ours, "columns": ["height"]})


def test_a_run_is_not_loaded_where_a_task_that_it_was_trained_on_is_held_out(arrays, tmp_path):
    own, file = np.load(arrays / "numbers.npz"), tmp_path / "grows.npz"
    np.savez(file, x=own["x"], y=own["y"])
    run = trained(file, tmp_path)
    file = file.rename(tmp_path / "moved.npz")
    splits = meta_rl.load(run, data=file).problem.family.split_names
    more = np.random.default_rng(1).normal(size=(3, *own["x"].shape[1:]))
    np.savez(file, x=np.concatenate([own["x"], more]), y=np.zeros((13, 12)))
    with pytest.raises(
        InputError, match=r"got '\d'.* trained on before and held out now: .* --data"
    ):
        meta_rl.load(run, data=file)
    np.savez(file, x=own["x"], y=own["y"])
    now = meta_rl.load(run, data=file)
    manifest, tensors = now.state()
    assert manifest["splits"] == splits
    with pytest.raises(InputError, match="held out before and trained on now"):
        now.restore({**manifest, "splits": {"train": [], "test": splits["train"]}}, tensors)
    with pytest.raises(InputError, match="expected lists of names as splits"):
        now.restore({**manifest, "splits": {"train": 3}}, tensors)
    del manifest["splits"]  # as of older checkpoints
    now.restore(manifest, tensors)


def test_images_are_predicted_in_batches_of_one_size(capsys):
    network = convolutional((1, 8, 8), 1, seeds.generator(0), channels=(4, 4))
    params = {name: value.detach() for name, value in network.named_parameters()}
    model = AdaptedNetwork(network, params, (), {}, (1, 8, 8), False)
    x = np.random.default_rng(0).normal(size=(101, 1, 8, 8))
    own = own_data.OwnData(None, "own-examples", "", (), x, [str(n) for n in range(101)])
    _, *rows = own_data.predict(model, own)
    halves = np.concatenate([model.predict(x[:51]), model.predict(x[51:])])
    assert [row[1] for row in rows] == halves[:, 0].tolist()
    assert "predicted 51 at a time: batch normalization" in capsys.readouterr().out
