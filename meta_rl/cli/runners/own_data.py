"""Read a user's own examples to adapt to, and predict those without a label."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from meta_rl import agents, envs
from meta_rl.errors import InputError
from meta_rl.families import read_labelled
from meta_rl.problems.supervised import Examples

TOGETHER = 100
"""The most examples predicted in one batch; all batches are of one size, or one less."""


class OwnData(NamedTuple):
    """A user's own examples of one task."""

    examples: Examples
    folder: str  # name of the adapted model's folder
    described: str
    classes: tuple[str, ...]  # names; none for a regression
    unlabelled: np.ndarray  # (n, *input_shape)
    names: list[str]  # of the unlabelled


def read(path: Path, learner: Any) -> OwnData:
    """Read the pictures in a user's folder, or the arrays in a file, as the model takes them.

    Raises:
        InputError: if the run was trained on neither, or the path does not hold what it should.
    """
    family = learner.problem.family
    if not isinstance(family, envs.Unopened):
        raise InputError(f"adapt: --data needs a run on images or arrays, got one on {family.id}.")
    if family.id == envs.ARRAYS:
        return _arrays(path, family)
    pictures = read_labelled(path, family.input_shape, family.ink)
    own = Examples(torch.from_numpy(pictures.x), torch.from_numpy(pictures.y))
    described = f"{len(own.y)} pictures of your own ({', '.join(pictures.classes)}), themselves"
    files = [str(file) for file in pictures.unlabelled_files]
    classes = tuple(pictures.classes)
    return OwnData(own, "own-images", described, classes, pictures.unlabelled, files)


def _arrays(path: Path, family: envs.Unopened) -> OwnData:
    task = envs.read_task(path, family.labels, family.columns)
    own = Examples(torch.from_numpy(task.x), torch.from_numpy(task.targets))
    described = f"{len(own.y)} examples of your own, themselves"
    names = [str(position) for position in task.positions]
    return OwnData(own, "own-examples", described, family.labels, task.unlabelled, names)


def predict(model: Any, own: OwnData) -> list[list[Any]]:
    """Predict the unlabelled examples; print and return the rows of ``predictions.csv``."""
    pictures = own.folder == "own-images"
    if not len(own.unlabelled):
        where = (
            "pictures beside the classes' sub-folders" if pictures else "example without a label"
        )
        print(f"nothing to {'classify' if own.classes else 'predict'}: no {where}")
        return []
    parts = np.array_split(own.unlabelled, math.ceil(len(own.unlabelled) / TOGETHER))
    found = np.concatenate([model.predict(part) for part in parts])
    if len(found) > 1 and any(isinstance(layer, agents.Block) for layer in model.network.modules()):
        told = f"{len(parts[0])} at a time: batch normalization lets each see the others"
        print(f"{'classified' if own.classes else 'predicted'} {told}")
    if not own.classes:
        columns = [f"y_{k + 1}" for k in range(found.shape[1])] if found.shape[1] > 1 else ["y"]
        print(f"predicted: {len(found)} examples")
        rows = [[name, *map(float, values)] for name, values in zip(own.names, found, strict=True)]
        return [["example", *columns], *rows]
    shares = found[:, : len(own.classes)]
    shares = shares / shares.sum(1, keepdims=True)
    rows = [["file" if pictures else "example", "class", *own.classes]]
    for name, share in zip(own.names, shares, strict=True):
        chosen = own.classes[share.argmax()]
        rows.append([name, chosen, *(f"{value:.4f}" for value in share)])
        print(f"  {Path(name).name}: {chosen} ({share.max():.0%})")
    return rows
