"""Load published image sets and your own folders as few-shot families.

Nothing is downloaded: each loader reads the published layout, or says where to get the files.
"""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import numpy as np

from meta_rl.errors import InputError
from meta_rl.families.examples import SPLITS, ImageClasses, split_classes
from meta_rl.families.folders import entries, given, is_folder, not_there
from meta_rl.families.image_reading import class_folders, is_colour, read_images
from meta_rl.storage.reading import read_file, reading, shortened

OMNIGLOT = (1100, 100, 423)
"""Characters per split in the MAML authors' code (1200 to train on, 100 of them put aside)."""


def omniglot(ways: int = 5, folder: Path | None = None, rotations: bool = False) -> ImageClasses:
    """Load Omniglot from ``images_background`` and ``images_evaluation``, 28x28, ink = 1.

    The characters of both are shuffled and split 1100 / 100 / 423 as in the MAML authors' code (in
    these proportions if there are not 1623), by characters and not by alphabets.

    Raises:
        InputError: if the folder does not have that layout.
    """
    layout = "a folder with images_background/ALPHABET/characterNN/*.png and images_evaluation"
    where = "Get both zip files from github.com/brendenlake/omniglot (python/) and unpack them."
    root = given("omniglot", folder, layout, where)
    halves = [
        half
        for base in (root, root / "python", root / "omniglot-py")
        for half in (base / "images_background", base / "images_evaluation")
    ]
    alphabets = [p for half in halves if is_folder(half) for p in entries(half)]
    classes = {
        f"{alphabet.name}/{name}": files
        for alphabet in alphabets
        for name, files in class_folders(alphabet).items()
    }
    if not classes:
        raise not_there("omniglot", root, layout, where)
    return ImageClasses(
        "omniglot",
        _read_classes(list(classes.values()), (1, 28, 28), ink=True),
        split_classes(len(classes), OMNIGLOT, seed=1),
        ways=ways,
        rotations=rotations,
        names=tuple(classes),
        summary=f"{len(classes)} handwritten characters, 28x28.",
        source="Lake et al. 2015; MIT licence",
        ink=True,
    )


def mini_imagenet(ways: int = 5, folder: Path | None = None, rotations: bool = False):
    """Load mini-ImageNet, 84x84 RGB, with the 64 / 16 / 20 classes of Ravi and Larochelle (2017).

    Raises:
        InputError: if the folder has neither of the two layouts.
    """
    layout = (
        "a folder with train, val and test that hold a sub-folder for each class, or with "
        "train.csv, val.csv, test.csv and images"
    )
    where = (
        "ImageNet may not be passed on: make it from your copy with the csv files of "
        "github.com/twitter-research/meta-learning-lstm (data/miniImagenet)."
    )
    root = given("mini-imagenet", folder, layout, where)
    found = {split: _one_split(root, split) for split in SPLITS}
    if not (found["train"] and found["test"]):
        raise not_there("mini-imagenet", root, layout, where)
    return _from_split_folders(
        "mini-imagenet",
        found,
        (3, 84, 84),
        ways,
        rotations,
        "Vinyals et al. 2016; ImageNet's terms",
    )


def image_folder(
    ways: int = 5,
    folder: Path | None = None,
    rotations: bool = False,
    shape: tuple[int, int, int] | None = None,
    seed: int = 0,
) -> ImageClasses:
    """Load your own pictures: one sub-folder for each class.

    If there are sub-folders ``train``, ``validation`` (or ``val``) and ``test``, they are the
    splits. Otherwise the seed shuffles the classes and splits them 60 : 20 : 20, with at least N
    classes in each split. With fewer than 3 N classes there is no validation split.

    Args:
        ways: N, the number of classes in a task.
        folder: the folder of the pictures.
        rotations: whether quarter turns are classes of their own.
        shape: ``(channels, H, W)`` that pictures are resized to. By default ``(3, 84, 84)`` if the
            first picture of any class has colours, else ``(1, 28, 28)``.
        seed: the seed of the split.

    Raises:
        InputError: if there are too few classes, or a picture cannot be read.
    """
    layout = "a folder with a sub-folder of pictures for each class"
    root = given("folder", folder, layout, "Give yours.")
    found = {split: _one_split(root, split) for split in SPLITS}
    if not (found["train"] and found["test"]):
        classes = class_folders(root)
        if len(classes) < 2 * ways:
            raise not_there(
                "folder", root, f"{layout}, {2 * ways} classes or more for {ways} ways", "Add some."
            )
        sizes = _split_sizes(len(classes), ways)
        names = np.array(list(classes))[np.random.default_rng(seed).permutation(len(classes))]
        parts = np.split(names, np.cumsum(sizes)[:-1])
        found = {
            split: {str(name): classes[str(name)] for name in part}
            for split, part in zip(SPLITS, parts, strict=True)
        }
    if shape is None:
        firsts = [files[0] for classes in found.values() for files in classes.values()]
        shape = (3, 84, 84) if any(map(is_colour, firsts)) else (1, 28, 28)
    return _from_split_folders("folder", found, shape, ways, rotations, str(root))


def _split_sizes(count: int, ways: int) -> tuple[int, int, int]:
    held_out = max(ways, round(0.2 * count))
    if count < 3 * ways:
        return count - held_out, 0, held_out
    return count - 2 * held_out, held_out, held_out


def _one_split(root: Path, split: str) -> dict[str, list[Path]]:
    short = "val" if split == "validation" else split
    for name in (split, short):
        if classes := class_folders(root / name):
            return classes
    table = root / f"{short}.csv"
    return _read_split_csv(table, root / "images") if os.path.isfile(table) else {}


def _read_split_csv(table: Path, images: Path) -> dict[str, list[Path]]:
    classes: dict[str, list[Path]] = {}
    with reading(f"csv file {table}", "Get the file again."):
        text = read_file(table).decode("utf-8-sig")  # with or without a byte-order mark
        rows = [*csv.DictReader(io.StringIO(text, newline=""))]
    for row in rows:
        if not row.get("label") or not row.get("filename"):
            raise InputError(
                f"{table}: expected the columns filename and label, got the row {shortened(row)}."
            )
        classes.setdefault(row["label"], []).append(images / row["filename"])
    return dict(sorted(classes.items()))


def _from_split_folders(
    name: str,
    found: dict[str, dict[str, list[Path]]],
    shape: tuple[int, int, int],
    ways: int,
    rotations: bool,
    source: str,
) -> ImageClasses:
    labels = [label for split in SPLITS for label in found[split]]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise InputError(
            f"{name}: expected every class in one of {', '.join(SPLITS)}, got {twice[0]!r} in "
            "several. Few-shot learning is tested on classes that it was not trained on."
        )
    files = [pictures for split in SPLITS for pictures in found[split].values()]
    counts = [len(found[split]) for split in SPLITS]
    parts = np.split(np.arange(len(files)), np.cumsum(counts)[:-1])
    total = sum(map(len, files))
    return ImageClasses(
        name,
        _read_classes(files, shape),
        dict(zip(SPLITS, parts, strict=True)),
        ways=ways,
        rotations=rotations,
        names=tuple(labels),
        summary=f"{total:,} pictures of {len(files)} classes, {shape[1]}x{shape[2]}.",
        source=source,
    )


def _read_classes(
    files: list[list[Path]], shape: tuple[int, int, int], ink: bool = False
) -> list[np.ndarray]:
    pictures = read_images([file for of_class in files for file in of_class], shape, ink)
    return np.split(pictures, np.cumsum([len(of_class) for of_class in files])[:-1])
