"""Fashion-MNIST and MNIST from their idx files, as few-shot families."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from envs.examples import SPLITS, ImageClasses
from envs.folders import given, not_there
from meta_rl.errors import InputError

FASHION = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts it."""

GARMENTS = (
    *("T-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "boot"),
)
IDX_ORDER = (0, 1, 5, 8, 4, 3, 9, 2, 6, 7)
"""Order in which the ten labels of an idx set go to train, validation and test."""

IDX_FILES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")


def fashion_mnist(ways: int = 5, folder: Path | None = None, rotations: bool = False):
    """Fashion-MNIST with disjoint classes; see :func:`idx_classes`."""
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
    """MNIST with disjoint classes; see :func:`idx_classes`."""
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
    """The ten classes of four idx files, plain or gzipped; 7,000 pictures of each.

    Ten classes do not divide into three splits of four or five: up to 3 ways, 4 classes are
    trained on, 3 validated on and 3 tested on; with 4 or 5 ways, 5 are trained on and 5 tested on.

    Raises:
        InputError: if a file is missing or is not an idx file.
    """
    arrays = [_read_idx(_idx_file(folder, stem, name, where)) for stem in IDX_FILES]
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
            if path.is_file():
                return path
    raise not_there(name, folder, f"{stem}-ubyte or {stem}-ubyte.gz", where)


def _read_idx(path: Path) -> np.ndarray:
    """An idx file of bytes: two zeros, 8 (bytes), the number of axes, their sizes, the bytes."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read ({error}). Get the file again.") from error
    axes = data[3] if data[:3] == b"\0\0\x08" and len(data) > 3 else 0
    shape = struct.unpack(f">{axes}I", data[4 : 4 + 4 * axes]) if len(data) >= 4 + 4 * axes else ()
    if not axes or not shape or len(data) != 4 + 4 * axes + int(np.prod(shape)):
        raise InputError(f"{path}: expected a whole idx file of bytes. Get the file again.")
    return np.frombuffer(data, dtype=np.uint8, offset=4 + 4 * axes).reshape(shape)
