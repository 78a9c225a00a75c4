"""Few-shot tasks in arrays of one's own: read, split, drawn, refused in one line."""

import io
import zipfile

import numpy as np
import pytest
import torch
from meta_rl.envs import Arrays, make_examples

from meta_rl.errors import InputError

TASKS, EACH = 10, 4
TASK = np.repeat([f"t{m}" for m in range(TASKS)], EACH)
X = np.arange(TASKS * EACH * 6, dtype=np.float64).reshape(-1, 3, 2)  # sequences, all different
Y = X.sum((1, 2))


def stored(folder, suffix, **arrays):
    """The arrays as a file, or as a folder of .npy files."""
    folder.mkdir(exist_ok=True)
    if suffix == "npz":
        np.savez(folder / "own.npz", **arrays)
        return folder / "own.npz"
    for name, value in arrays.items():
        np.save(folder / f"{name}.npy", value)
    return folder


def table(file, lines):
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def sequences_csv(file, task=TASK):
    """One row for each step, as pandas writes it from long tables, with a byte-order mark."""
    lines = ["\ufefftask,example,y,first,second"]
    for row in range(len(X)):
        for step in X[row]:
            lines.append(f"{task[row]},{row % EACH},{Y[row]},{step[0]},{step[1]}")
    return table(file, lines)


def test_a_file_a_folder_a_table_and_tasks_along_the_first_axis_are_the_same_tasks(tmp_path):
    split = X.reshape(TASKS, EACH, 3, 2), Y.reshape(TASKS, EACH)
    families = [
        make_examples("arrays", folder=stored(tmp_path / "file", "npz", x=X, y=Y, task=TASK)),
        make_examples("arrays", folder=stored(tmp_path / "files", "npy", x=X, y=Y, task=TASK)),
        make_examples("arrays", folder=sequences_csv(tmp_path / "own.csv")),
        Arrays(torch.from_numpy(X), Y.tolist(), task=TASK),
        Arrays(*split),
    ]
    assert families[0].names == tuple(sorted(set(TASK)))
    for family in families:
        assert (family.kind, family.input_shape, family.output_size) == ("regression", (3, 2), 1)
        names = families[0].names if family is not families[-1] else [str(m) for m in range(TASKS)]
        tasks = [{"task": str(name)} for name in names]
        x, y = family.draw(tasks, 0, EACH, 0, "cpu")
        order = y[..., 0].argsort(1)
        for m in range(TASKS):
            assert np.array_equal(y[m, order[m], 0], split[1][m])
            assert np.array_equal(x[m, order[m]], split[0][m])


def test_tasks_are_split_by_task_the_same_at_every_start():
    parts = [
        {t["task"] for t in Arrays(X, Y, task=TASK).sample_tasks(200, 0, split)}
        for split in ("train", "validation", "test")
    ]
    assert [len(part) for part in parts] == [6, 2, 2]
    assert len(set.union(*parts)) == TASKS
    three = Arrays(X[:12], Y[:12], task=TASK[:12])
    assert [len(three._split[s]) for s in three.splits] == [1, 1, 1]


def test_classes_are_drawn_equally_often_and_named_in_their_order():
    label = np.tile(["walk", "run", "run", "walk"], TASKS)
    family = Arrays(X, label=label, task=TASK)
    assert (family.kind, family.output_size, family.fewest) == ("classification", 2, 2)
    assert family.labels == ("run", "walk")
    x, y = family.draw([{"task": "t3"}, {"task": "t0"}], 0, 2, 0, "cpu")
    assert y.tolist() == [[0, 0, 1, 1]] * 2
    runs = {tuple(row.flatten().tolist()) for row in x[0, :2]}
    assert runs == {tuple(row.flatten()) for row in X[12:16][[1, 2]].astype(np.float32)}


def test_numbers_are_names_of_tasks_and_classes_too():
    family = Arrays(X[:, 0, 0], label=np.tile([7, 7, 11, 11], TASKS), task=np.repeat(range(10), 4))
    assert (family.input_shape, family.labels) == ((1,), ("11", "7"))
    assert family.check_task({"task": 3}) == {"task": "3"}
    with pytest.raises(InputError, match=r"expected one of 10 tasks, such as .*, got '33'"):
        family.check_task({"task": "33"})


def test_other_kinds_of_names_and_columns_that_begin_like_targets_stay_what_they_are(tmp_path):
    family = Arrays(X, label=np.tile([True, False], 20), task=TASK.astype("S"))
    assert (family.labels, family.names[0]) == (("False", "True"), "t0")
    assert Arrays(X, Y, task=TASK.astype(object)).names == family.names
    odd = Arrays(X, Y, task=np.where(TASK == "t0", b"\xff", TASK.astype("S")))
    assert "\\xff" in odd.names
    rows = [f"t{n // 2},{n},{n},{n},{n}" for n in range(12)]
    two = make_examples(
        "arrays", folder=table(tmp_path / "own.csv", ["task,y_1,y_2,y_position,yaw", *rows])
    )
    assert (two.output_size, two.input_shape) == (2, (2,))


def test_differences_that_float32_loses_are_warned_of():
    with pytest.warns(UserWarning, match="column 2 of x varies from 1000000000.0 to 1000000238.0"):
        Arrays(X + 1e9 * np.array([0, 1]) - np.array([0, 1]), Y, task=TASK)
    with pytest.warns(UserWarning, match="column 1 of y varies from 10000000015 to"):
        Arrays(X, (Y + 1e10).astype(int), task=TASK)
    Arrays(X * 0 + np.array([1e9, 0.1 + 0.2]), Y + 1e4, task=TASK)  # the same, or little lost


BAD = {
    "infinite": ({"task": np.where(TASK == "t0", np.inf, 1.0)}, "task: expected texts or whole"),
    "texts": ({"x": np.full(40, "a")}, "x: expected numbers, got dtype"),
    "not finite": (
        {"x": np.where(X == 7, np.nan, X)},
        r"x: expected finite numbers, got nan at \[1",
    ),
    "too large": ({"x": X * 1e300}, r"x: expected finite numbers, got .*e\+30"),
    "complex": ({"x": X + 1j}, "x: expected an array of numbers or texts, got dtype.'complex128"),
    "objects": ({"task": np.where(TASK == "t0", None, TASK)}, "task: expected an array of numbers"),
    "dates": ({"task": np.full(40, np.datetime64("2026-01-01"))}, "task: expected an array"),
    "lengths": ({"y": Y[:-1]}, r"expected x \(n, ...\), task .*'y': \(39,\)"),
    "three axes": ({"y": X}, r"expected x \(n, ...\), task"),
    "one task": ({"task": np.full(40, "me")}, r"expected 3 tasks or more.*got \['me'\]"),
    "few examples": ({"task": np.arange(40)}, "task '0': expected 2 examples or more, .*got 1"),
    "task missing": ({"task": None}, "expected task, the task of each example; or tasks along"),
    "task of text": ({"task": np.where(TASK == "t0", "", TASK)}, "task: expected a name for every"),
    "fractions": ({"task": np.arange(40) / 2}, "task: expected texts or whole numbers"),
    "empty": ({"x": X[:0], "y": Y[:0], "task": TASK[:0]}, r"got .*'x': \(0, 3, 2\)"),
    "y missing": ({"y": None}, r"expected y \(numbers\) or label \(classes\), got none"),
    "both": ({"label": TASK}, r"expected y \(numbers\) or label \(classes\), got both"),
    "one class": ({"y": None, "label": np.ones(40, int)}, "label: expected two classes or more"),
    "class missing": (
        {"y": None, "label": np.where(TASK == "t0", "a", np.tile(["a", "a", "b", "b"], 10))},
        "class 'b' of task 't0': expected 2 examples or more",
    ),
    "ragged": ({"x": [[1], [1, 2]]}, "x: expected an array"),
}


@pytest.mark.parametrize(("changes", "message"), BAD.values(), ids=BAD)
def test_arrays_that_are_no_tasks_are_refused_in_one_line(changes, message):
    given = {"x": X, "y": Y, "task": TASK, **changes}
    with pytest.raises(InputError, match=message) as refused:
        Arrays(given.pop("x"), given.pop("y"), **given)
    assert "\n" not in str(refused.value)


def npy(array):
    content = io.BytesIO()
    np.save(content, array, allow_pickle=True)
    return content.getvalue()


def header(dtype, count):
    """The bytes of a file that promises an array and has none of it."""
    content = io.BytesIO()
    told = {"descr": dtype, "fortran_order": False, "shape": (count,)}
    np.lib.format.write_array_header_1_0(content, told)
    return content.getvalue()


class Runs:
    """What a pickle could run."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was opened",))


def zipped(file, **contents):
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(f"{name}.npy", content)


HEAD = "task,y,a"
GOOD = [f"t{n // 2},{n},{n}" for n in range(12)]
CONTENTS = {
    "pickle.npz": (
        lambda f: zipped(f, x=npy(np.array([Runs()], object)), y=npy(Y)),
        r"cannot be read \(it holds Python objects, .* save texts by astype\(str\)",
    ),
    "cut.npz": (lambda f: zipped(f, x=npy(X)[:-9], y=npy(Y), task=npy(TASK)), "cannot be read"),
    "lies.npz": (
        lambda f: zipped(f, x=npy(X).replace(b"(40, 3, 2)", b"(4000000000000,)"), y=npy(Y)),
        "cannot be read",
    ),
    "nothing long.npz": (
        lambda f: zipped(f, x=npy(X), y=npy(Y), task=header("|V0", 10**12)),
        r"expected the numbers of \|V0 \(1000000000000,\), got 0 bytes",
    ),
    "texts of nothing.npz": (
        lambda f: zipped(f, x=npy(X), y=npy(Y), task=header("<U0", 10**10)),
        "cannot be read .*expected the numbers of <U0",
    ),
    "gap.csv": (
        lambda f: table(f, ["task,y_1,y_3,a"]),
        r"expected y, or y_1, y_2, ... without a gap, got y_1, y_3",
    ),
    "zero.csv": (lambda f: table(f, ["task,y_01,a"]), "without a gap, got y_01"),
    "y and y_1.csv": (lambda f: table(f, ["task,y,y_1,a"]), "without a gap, got y, y_1"),
    "other.npz": (lambda f: zipped(f, a=npy(X)), "expected the arrays x, y .*got the arrays none"),
    "no.npz": (lambda f: f.write_bytes(b"PK" + bytes(99)), "cannot be read"),
    "own.xlsx": (lambda f: f.write_bytes(b"PK"), "expected an .npz file of the arrays"),
    "folder.csv": (lambda f: f.mkdir(), "expected the arrays x, y .*got the arrays none"),
    "gone.csv": (lambda f: None, "No such file"),
    "empty.csv": (lambda f: f.touch(), "expected different columns, with task"),
    "head.csv": (lambda f: table(f, [HEAD]), "expected columns of inputs, and rows"),
    "semicolons.csv": (lambda f: table(f, ["task;y;a"]), "got 'task;y;a'"),
    "no y.csv": (lambda f: table(f, ["task,a", *GOOD]), "expected different columns"),
    "twice.csv": (lambda f: table(f, ["task,y,y,a"]), "expected different columns"),
    "no task.csv": (
        lambda f: table(f, ["y,a", "1,2", "3,4"]),
        "expected the column task, the task of each row",
    ),
    "no input.csv": (lambda f: table(f, ["task,y", "a,1"]), "expected columns of inputs"),
    "text.csv": (
        lambda f: table(f, [HEAD, *GOOD, "t9,1,tall"]),
        "line 14: expected a number as a, got 'tall'",
    ),
    "blank.csv": (lambda f: table(f, [HEAD, *GOOD, "t9,1,"]), "line 14: expected a number as a"),
    "nan.csv": (lambda f: table(f, [HEAD, *GOOD, "t9,nan,1"]), "line 14: expected a number as y"),
    "y.csv": (lambda f: table(f, [HEAD, *GOOD, "t9,,1"]), "y: expected finite numbers"),
    "short.csv": (lambda f: table(f, [HEAD, *GOOD, "t9,1"]), "line 14: expected 3 values, got 2"),
    "latin.csv": (lambda f: f.write_bytes("task,y,größe".encode("latin-1")), "Save it as UTF-8"),
    "zeros.csv": (lambda f: f.write_bytes(bytes(99)), "csv file|expected different columns"),
    "quote.csv": (lambda f: table(f, [HEAD, '"t,1,2']), "cannot be read"),
    "steps.csv": (
        lambda f: table(f, ["task,example,y,a", "t,1,0,1", "t,1,0,2", "t,2,0,3"]),
        "expected equally many rows .* got from 1 to 2",
    ),
    "several y.csv": (
        lambda f: table(f, ["task,example,y,a", "t,1,0,1", "t,1,5,2"]),
        "expected one y in all rows of an example",
    ),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_hostile_files_are_refused_in_one_line_that_names_the_file(name, tmp_path):
    make, message = CONTENTS[name]
    make(tmp_path / name)
    with pytest.raises(InputError, match=message) as refused:
        make_examples("arrays", folder=tmp_path / name)
    assert name in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_unpacks_to_more_than_the_limit_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr("meta_rl.envs.array_files.LARGEST", 5_000)
    zipped(tmp_path / "bomb.npz", x=npy(np.zeros(10_000)), y=npy(Y), task=npy(TASK))
    assert (tmp_path / "bomb.npz").stat().st_size < 5_000
    with pytest.raises(InputError, match="expected at most 5,000 bytes unpacked, got 81"):
        make_examples("arrays", folder=tmp_path / "bomb.npz")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", [np.float16, np.longdouble])
def test_fractions_of_any_width_are_no_names(dtype):
    with pytest.raises(InputError, match="label: expected texts or whole numbers"):
        Arrays(X, label=np.full(40, 1.5, dtype), task=TASK)
