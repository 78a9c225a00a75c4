"""Fashion-MNIST and MNIST from their idx files, as few-shot families."""

from __future__ import annotations

import contextlib
import gzip
import math
import os
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from meta_rl.errors import InputError
from meta_rl.families.examples import SPLITS, ImageClasses
from meta_rl.families.folders import given, not_there
from meta_rl.storage.reading import LARGEST, open_file, reading

FASHION = Path("/usr/share/datasets/fashion-mnist")
"""The folder of Debian's package dataset-fashion-mnist."""

GARMENTS = (
    *("T-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "boot"),
)
IDX_ORDER = (0, 1, 5, 8, 4, 3, 9, 2, 6, 7)
"""The order in which the ten labels of an idx set fill train, validation and test."""

IDX_FILES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")


def fashion_mnist(ways: int = 5, folder: Path | None = None, rotations: bool = False):
    """Load Fashion-MNIST with disjoint classes; see :func:`idx_classes`."""
    return idx_classes(
        "fashion-mnist",
        folder or FASHION,
        "Get it from github.com/zalandoresearch/fashion-mnist (data/fashion), or on Debian: apt "
        "install dataset-fashion-mnist.",
        ways=ways,
        rotations=rotations,
        names=GARMENTS,
        source="Xiao et al. 2017, arXiv 1708.07747; MIT licence",
    )


def mnist(ways: int = 5, folder: Path | None = None, rotations: bool = False):
    """Load MNIST as a few-shot family: other digits to train on than to test on.

    Args:
        ways: classes in a task.
        folder: the folder with the four idx files, plain or gzipped; required.
        rotations: whether quarter turns of the images are further classes.

    Raises:
        InputError: if there is no folder, or a file is missing or no idx file.
    """
    where = "Get it from ossci-datasets.s3.amazonaws.com/mnist."
    return idx_classes(
        "mnist",
        given("mnist", folder, f"a folder with {', '.join(IDX_FILES)}-ubyte(.gz)", where),
        where,
        ways=ways,
        rotations=rotations,
        names=tuple("0123456789"),
        source="LeCun et al. 1998",
    )


def idx_classes(
    name: str,
    folder: Path,
    where: str,
    *,
    ways: int,
    rotations: bool,
    names: tuple[str, ...],
    source: str,
) -> ImageClasses:
    """Load the ten classes, of 7,000 pictures each, from four idx files, plain or gzipped.

    Up to 3 ways, train, validation and test have 4, 3 and 3 classes. With 4 or 5 ways, ten classes
    do not suffice for three splits: train and test have 5 each.

    Raises:
        InputError: if a file is missing or is not an idx file.
    """
    files = [_idx_file(folder, stem, name, where) for stem in IDX_FILES]
    arrays = [_read_idx(file) for file in files]
    _check_pairs(files, arrays, len(names))
    pixels = np.concatenate([arrays[0], arrays[2]])
    labels = np.concatenate([arrays[1], arrays[3]])
    ends = [4, 7] if ways <= 3 else [5, 5]
    return ImageClasses(
        name,
        [pixels[labels == label] for label in range(len(names))],
        dict(zip(SPLITS, np.split(np.array(IDX_ORDER), ends), strict=True)),
        ways=ways,
        rotations=rotations,
        names=names,
        ink=True,
        summary=f"{len(pixels):,} pictures of {len(names)} classes; other classes to test on.",
        source=source,
    )


def _idx_file(folder: Path, stem: str, name: str, where: str) -> Path:
    for kind in (f"{stem}-ubyte", f"{stem.replace('-idx', '.idx')}-ubyte"):
        for path in (folder / kind, folder / f"{kind}.gz"):
            if os.path.lexists(path):
                return path
    raise not_there(name, folder, f"{stem}-ubyte or {stem}-ubyte.gz", where)


def _read_idx(path: Path) -> np.ndarray:
    """Read an idx file of bytes: two zeros, 8 (bytes), the number of axes, their sizes, data."""
    packed = gzip.open if path.suffix == ".gz" else contextlib.nullcontext
    with reading(f"idx file {path}", "Get the file again."):
        with open_file(path) as plain, packed(plain) as file:
            magic = file.read(4)
            axes = magic[3] if magic[:3] == b"\0\0\x08" and len(magic) == 4 else 0
            sizes = file.read(4 * axes)
            if not axes or len(sizes) < 4 * axes:
                raise InputError(f"{path}: expected a whole idx file of bytes. Get the file again.")
            shape = struct.unpack(f">{axes}I", sizes)
            count = math.prod(shape)
            if count > LARGEST:
                raise InputError(f"{path}: expected at most {LARGEST:,} bytes, got {count:,}.")
            data = file.read(count + 1)  # one byte more reveals a longer file
        if len(data) != count:
            got = "more" if len(data) > count else f"{len(data):,}"
            raise InputError(
                f"{path}: expected a whole idx file of {count:,} bytes, got {got}. Get the file "
                "again."
            )
        return np.frombuffer(data, dtype=np.uint8).reshape(shape)


def _check_pairs(files: Sequence[Path], arrays: Sequence[np.ndarray], classes: int) -> None:
    """Refuse pictures and labels that do not belong together."""
    for file, array, axes in zip(files, arrays, (3, 1, 3, 1), strict=True):
        if array.ndim != axes:
            raise InputError(f"{file}: expected {axes} axes, got the shape {array.shape}.")
    for number in (0, 2):
        pictures, labels = arrays[number : number + 2]
        of_these = f"{files[number + 1]}: expected labels of the {len(pictures):,} pictures in"
        if len(labels) != len(pictures):
            raise InputError(f"{of_these} {files[number]}, got {len(labels):,} labels.")
        if labels.size and labels.max() >= classes:
            raise InputError(f"{of_these} {files[number]}, 0 to {classes - 1}, got {labels.max()}.")
    if arrays[0].shape[1:] != arrays[2].shape[1:]:
        sizes = [" x ".join(map(str, array.shape[1:])) for array in arrays[::2]]
        raise InputError(f"{files[2]}: expected pictures of {sizes[0]}, got {sizes[1]}.")
    counts = np.bincount(np.concatenate(arrays[1::2]), minlength=classes)
    if not counts.all() or not arrays[0][0].size:
        raise InputError(f"{files[1]}: expected pictures of {classes} classes, got {counts}.")
