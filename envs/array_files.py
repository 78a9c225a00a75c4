"""Read arrays of one's own from numpy files, or from a csv file with a column of tasks."""

from __future__ import annotations

import csv
import io
import math
import os
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from meta_rl.errors import InputError, require
from meta_rl.families.arrays import Arrays, as_array, classes, numbers
from meta_rl.families.folders import given, is_folder, not_there
from meta_rl.storage.reading import LARGEST, read_file, reading, shortened

NAMES = ("x", "y", "label", "task")
LAYOUT = (
    "an .npz file of the arrays x, y (or label) and task, a folder with x.npy and so on, or a .csv "
    "file with the columns task, y (or label) and inputs"
)


def arrays(file: Path | None, seed: int = 0) -> Arrays:
    """Load few-shot tasks from a file or folder of one's own; see docs/few-shot.md.

    Args:
        file: a ``.npz`` or ``.csv`` file, or a folder of ``.npy`` files.
        seed: the seed of the split of tasks.

    Raises:
        InputError: if the file cannot be read, or its arrays are not few-shot tasks.
    """
    path = given("arrays", file, LAYOUT, "Give yours with --data.")
    found, columns = read_arrays(path)
    x, y, label, task = (found.get(name) for name in NAMES)
    if task is None and path.suffix.lower() == ".csv":
        raise InputError(f"{path}: expected the column task, the task of each row, got none.")
    try:
        return Arrays(x, y, label=label, task=task, columns=columns, seed=seed, source=str(path))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def read_arrays(path: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the arrays ``x``, ``y`` or ``label``, and ``task`` if there is one, as they are.

    With them return the names of a csv file's inputs, in the order of the file; else none.

    Raises:
        InputError: if the file cannot be read, or an array is missing.
    """
    advice = "Write it again, with numpy.savez(file, x=..., y=..., task=...)."
    if is_folder(path):
        files = {
            name: path / f"{name}.npy" for name in NAMES if os.path.lexists(path / f"{name}.npy")
        }
        found = {}
        for name, file in files.items():
            with reading(f"numpy file {file}", "Write it again, with numpy.save."):
                found[name] = _array(read_file(file))
    elif path.suffix.lower() == ".csv":
        with reading(f"csv file {path}", "Save it as UTF-8, with commas between the columns."):
            return _read_csv(path)
    elif path.suffix.lower() == ".npz":
        with reading(f"numpy file {path}", advice):
            found = _read_npz(path)
    else:
        raise not_there("arrays", path, LAYOUT, "Give another.")
    if "x" not in found or not ("y" in found or "label" in found):
        got = f"the arrays {', '.join(found) or 'none'}"
        raise InputError(f"{path}: expected the arrays x, y (or label) and task, got {got}.")
    return found, []


def _array(content: bytes) -> np.ndarray:
    """Return the array of an ``.npy`` file's bytes. Nothing is unpickled.

    Raises:
        ValueError: if the bytes are no such file, or fewer than the array's.
    """
    file = io.BytesIO(content)
    old = np.lib.format.read_magic(file) == (1, 0)
    header = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are not opened; save texts by astype(str)")
    size, left = math.prod(shape) * dtype.itemsize, len(content) - file.tell()
    if dtype.itemsize == 0 or size > left:  # before numpy makes room for them
        raise ValueError(f"expected the numbers of {dtype} {shape}, got {left:,} bytes")
    return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(io.BytesIO(read_file(path))) as archive:
        members = {name: f"{name}.npy" for name in NAMES if f"{name}.npy" in archive.namelist()}
        size = sum(archive.getinfo(member).file_size for member in members.values())
        require(size <= LARGEST, f"{path}", f"at most {LARGEST:,} bytes unpacked", size)
        return {name: _array(archive.read(member)) for name, member in members.items()}


def _read_csv(path: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    text = read_file(path).decode("utf-8-sig")  # with or without a byte-order mark
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    header = [name.strip() for name in next(lines, [])]
    numbered = [(lines.line_num, row) for row in lines if row]
    targets = _targets(path, header)
    if len(set(header)) < len(header) or not ("label" in header or targets):
        raise InputError(
            f"{path}: expected different columns, with task, y (or y_1, y_2, ..., or label) and "
            f"inputs, got {shortened(', '.join(header), 100)!r}."
        )
    for line, row in numbered:
        if len(row) != len(header):
            raise InputError(f"{path}, line {line}: expected {len(header)} values, got {len(row)}.")
    other = {"task", "example", "label", *targets}
    inputs = [name for name in header if name not in other]
    require(bool(inputs and numbered), f"{path}", "columns of inputs, and rows", header)

    def cells(names: Sequence[str], empty: bool = False) -> np.ndarray:
        places = [(name, header.index(name)) for name in names]
        return np.array(
            [[_number(path, line, n, row[at], empty) for n, at in places] for line, row in numbered]
        )

    def texts(name: str) -> np.ndarray:
        return np.array([row[header.index(name)].strip() for _, row in numbered])

    found = {"x": cells(inputs)}
    if "label" in header:
        found["label"] = texts("label")
    if targets:
        found["y"] = cells(targets, empty=True)
    if "task" in header:
        found["task"] = texts("task")
    if "example" in header:
        found = _sequences(path, found, texts("example"))
    return found, inputs


def _targets(path: Path, header: Sequence[str]) -> list[str]:
    """Return the columns to predict, ``y`` or ``y_1``, ``y_2``, ..., in the order of numbers."""
    found = {name for name in header if name == "y" or re.fullmatch(r"y_\d+", name)}
    ordered = [f"y_{number + 1}" for number in range(len(found))]
    if found not in ({"y"}, set(ordered)):
        raise InputError(
            f"{path}: expected y, or y_1, y_2, ... without a gap, got "
            f"{shortened(', '.join(sorted(found)), 100)}. Name the columns so."
        )
    return ordered if "y" not in found else ["y"]


def _number(path: Path, line: int, name: str, text: str, empty: bool) -> float:
    """Return a cell's number; nan for an empty one, where that is allowed."""
    if empty and not text.strip():
        return math.nan
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        got = shortened(text, 40)
        raise InputError(f"{path}, line {line}: expected a number as {name}, got {got!r}.")
    return value


def _sequences(
    path: Path, found: dict[str, np.ndarray], example: np.ndarray
) -> dict[str, np.ndarray]:
    """Return sequences: the rows with one task and one example, in the order of the file."""
    task = found.get("task", np.full(len(example), ""))
    numbered: dict[tuple[str, str], int] = {}
    number = [numbered.setdefault(of, len(numbered)) for of in zip(task, example, strict=True)]
    sizes = np.bincount(number)
    if sizes.min() < sizes.max():
        raise InputError(
            f"{path}: expected equally many rows (steps) for every example, got from {sizes.min()} "
            f"to {sizes.max()}. Cut or fill the sequences."
        )
    rows = np.argsort(number, kind="stable").reshape(-1, sizes[0])  # (n, T)
    for name in found.keys() - {"x", "task"}:
        of_steps = found[name][rows].astype(str)  # as texts, nan is equal to itself
        if (of_steps != of_steps[:, :1]).any():
            raise InputError(f"{path}: expected one {name} in all rows of an example, got several.")
    return {
        name: value[rows] if name == "x" else value[rows[:, 0]] for name, value in found.items()
    }


class OneTask(NamedTuple):
    """A user's own examples of one task, in the order of the file."""

    x: np.ndarray  # (n, *input_shape)
    targets: np.ndarray  # (n, outputs), or int64 classes (n,)
    unlabelled: np.ndarray  # (m, *input_shape)
    positions: np.ndarray  # (m,), the places of the unlabelled in the file, from 1


def read_task(path: Path, labels: Sequence[str], columns: Sequence[str] = ()) -> OneTask:
    """Read the examples of one task, to adapt a trained model to.

    Args:
        path: as for :func:`arrays`, without ``task`` or with one. Examples whose y is empty (nan)
            or whose label is empty are to be predicted.
        labels: the names of the classes; empty for regression.
        columns: the names of the inputs, if the model knows them. A csv file's columns are put in
            their order; other files have no names, and are taken as they are.

    Raises:
        InputError: if the file cannot be read, has several tasks or other columns, or no example
            with y or label.
    """
    found, got = read_arrays(path)
    if columns and got:
        found["x"] = found["x"][..., _places(path, columns, got)]
    name = "label" if labels else "y"
    require(name in found, f"{path}", f"{name}, as the run was trained on", [*found])
    x, targets = (as_array(name, value) for name, value in (("x", found["x"]), (name, found[name])))
    fits = x.ndim > 0 and targets.ndim in (1, 1 if labels else 2) and len(x) == len(targets)
    if not (fits and x.size and targets.size):
        raise InputError(
            f"{path}: expected x (n, ...) and as many as {name}, got {x.shape} and {targets.shape}."
        )
    if "task" in found:
        _check_one(path, as_array("task", found["task"]), len(x))
    if labels:
        empty = targets.astype(str) == ""
    else:
        require(targets.dtype.kind in "fiub", f"{path}: y", "numbers", targets.dtype)
        targets = targets.reshape(len(x), -1)
        empty = np.isnan(targets).all(1)
    require(not empty.all(), f"{path}: {name}", "examples to adapt to", [])
    inputs = numbers("x", x.reshape(len(x), -1) if x.ndim == 1 else x)
    known = targets[~empty]
    told = classes(name, known, labels) if labels else numbers(name, known)
    return OneTask(inputs[~empty], told, inputs[empty], np.flatnonzero(empty) + 1)


def _places(path: Path, columns: Sequence[str], got: Sequence[str]) -> list[int]:
    """Return where the model's columns are among a file's."""
    if sorted(columns) != sorted(got):
        wanted, given = (shortened(", ".join(names), 200) for names in (columns, got))
        raise InputError(
            f"{path}: expected the inputs that the run was trained on, {wanted}, got {given}. "
            "Name the columns so, in any order, and leave others out."
        )
    return [got.index(name) for name in columns]


def _check_one(path: Path, task: np.ndarray, count: int) -> None:
    """Refuse what does not give every example the same task."""
    require(task.shape == (count,), f"{path}: task", f"shape {(count,)}, as of x", task.shape)
    names = np.unique(task)
    require(len(names) == 1, f"{path}: task", "examples of one task", names.tolist()[:3])
