"""The examples of one task of one's own: read, put in the model's order, refused in one line."""

import numpy as np
import pytest
from meta_rl.envs import Arrays, make_examples, read_task

from meta_rl.errors import InputError
from tests.envs.test_arrays import TASK, X, Y, stored, table


def test_one_tasks_examples_are_read_and_those_without_a_label_are_left_to_predict(tmp_path):
    own = read_task(
        table(tmp_path / "own.csv", ["a,label", "1,run", "2,", "3,walk"]), ("run", "walk")
    )
    assert (own.x.tolist(), own.targets.tolist()) == ([[1.0], [3.0]], [0, 1])
    assert (own.unlabelled.tolist(), own.positions.tolist()) == ([[2.0]], [2])
    y = np.where(np.arange(40) < 30, Y, np.nan)
    own = read_task(stored(tmp_path / "file", "npz", x=X, y=y), ())
    assert (own.x.shape, own.targets.shape, own.unlabelled.shape) == (
        (30, 3, 2),
        (30, 1),
        (10, 3, 2),
    )
    for lines, labels, message in (
        (["a,label", "1,jump"], ("run", "walk"), "unknown label 'jump'|label.*jump"),
        (["a,label", "1,"], ("run", "walk"), "label: expected examples to adapt to, got"),
        (["a,y", "1,2"], ("run", "walk"), "expected label, as the run was trained on"),
        (["task,a,y", "s,1,2", "t,1,2"], (), "expected examples of one task, got .*s"),
    ):
        with pytest.raises(InputError, match=message):
            read_task(table(tmp_path / "own.csv", lines), labels)


def test_columns_of_targets_are_in_the_order_of_their_numbers(tmp_path):
    names = [f"y_{k}" for k in (10, 2, 1, 3, 4, 5, 6, 7, 8, 9)]
    lines = [",".join(["a", *names]), ",".join(["0", *(name[2:] for name in names)])]
    own = read_task(table(tmp_path / "own.csv", lines), ())
    assert own.targets.tolist() == [[*range(1, 11)]]


def test_columns_of_inputs_are_found_by_the_names_that_the_model_was_trained_with(tmp_path):
    rows = [f"t{n // 2},{n},{100 + n},{n}" for n in range(12)]
    family = make_examples("arrays", folder=table(tmp_path / "a.csv", ["task,age,height,y", *rows]))
    assert family.columns == ("age", "height")
    file = table(tmp_path / "own.csv", ["height,age,y", "100,1,0", "101,2,1"])
    assert read_task(file, (), family.columns).x.tolist() == [[1, 100], [2, 101]]
    assert read_task(file, ()).x.tolist() == [[100, 1], [101, 2]]  # a model without names
    steps = table(tmp_path / "steps.csv", ["height,age,y,example", "100,1,0,0", "101,2,0,0"])
    assert read_task(steps, (), family.columns).x.tolist() == [[[1, 100], [2, 101]]]
    for names in ("height", "height,weight", "age,height,weight"):
        lines = [f"{names},y", ",".join("1" * (names.count(",") + 2))]
        with pytest.raises(
            InputError, match=f"trained on, age, height, got {names}.".replace(",", ", ?")
        ):
            read_task(table(tmp_path / "other.csv", lines), (), family.columns)
    with pytest.raises(InputError, match="columns: expected 2 names, or none"):
        Arrays(X, Y, task=TASK, columns=["a"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": X[:0], "y": Y[:0]}, r"expected x \(n, ...\) .* got \(0, 3, 2\) and \(0,\)"),
        ({"x": X[:, :0]}, r"expected x \(n, ...\) .* got \(40, 0, 2\)"),
        ({"task": TASK[:1]}, r"task: expected shape \(40,\), as of x, got \(1,\)"),
        ({"task": np.ones(40, complex)}, "task: expected an array of numbers or texts"),
    ],
)
def test_what_is_not_one_tasks_examples_is_refused(changes, message, tmp_path):
    with pytest.raises(InputError, match=message):
        read_task(stored(tmp_path, "npz", **{"x": X, "y": Y, **changes}), ())
