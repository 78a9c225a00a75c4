"""Read pictures from files, and from folders with one sub-folder for each class."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from meta_rl.errors import InputError
from meta_rl.families.folders import describe_folder, entries, is_folder
from meta_rl.machine.bars import slow
from meta_rl.storage.reading import open_file, reading

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "PPM", "TIFF", "WEBP")
"""Formats that are read. Pillow knows more, but for PostScript it would run Ghostscript."""
UNLABELLED = "unlabelled"


class LabelledFolder(NamedTuple):
    """A folder's labelled pictures, and its pictures to classify; float32 in [0, 1]."""

    x: np.ndarray  # (n, channels, H, W)
    y: np.ndarray  # (n,) int64, positions in classes
    classes: tuple[str, ...]
    files: tuple[Path, ...]  # the file of each picture in x
    unlabelled: np.ndarray  # (u, channels, H, W)
    unlabelled_files: tuple[Path, ...]


def read_labelled(folder: Path, input_shape: tuple[int, ...], ink: bool = False) -> LabelledFolder:
    """Read a user's labelled pictures to adapt a model to, and the pictures to classify.

    Every sub-folder is a class of its name. Pictures beside the sub-folders, or in a sub-folder
    ``unlabelled``, are the ones to classify.

    Args:
        folder: the folder of the pictures.
        input_shape: the model's ``(channels, H, W)``, 1 or 3 channels; pictures are resized to it.
        ink: whether the model was trained on ink = 1, see :func:`read_image`.

    Raises:
        InputError: if fewer than two classes have pictures, or a picture cannot be read.
    """
    classes = {name: f for name, f in class_folders(folder).items() if name != UNLABELLED}
    if len(classes) < 2:
        raise InputError(
            f"data: expected a folder with a sub-folder of pictures for each class, two or more, "
            f"got {folder} with {describe_folder(folder)}."
        )
    files = [file for of_class in classes.values() for file in of_class]
    sizes = [len(of_class) for of_class in classes.values()]
    rest = [*pictures_in(folder), *pictures_in(folder / UNLABELLED)]
    pictures = read_images([*files, *rest], input_shape, ink).astype(np.float32) / 255.0
    return LabelledFolder(
        x=pictures[: len(files)],
        y=np.repeat(np.arange(len(classes)), sizes),
        classes=tuple(classes),
        files=tuple(files),
        unlabelled=pictures[len(files) :],
        unlabelled_files=tuple(rest),
    )


def pictures_in(folder: Path) -> list[Path]:
    """Return the picture files directly in a folder, by name; none if the folder is missing."""
    if not is_folder(folder):
        return []
    return [
        path
        for path in entries(folder)
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    ]


def class_folders(folder: Path) -> dict[str, list[Path]]:
    """Return the pictures of each sub-folder that has any, by the sub-folder's name."""
    if not is_folder(folder):
        return {}
    found = {p.name: pictures_in(p) for p in entries(folder) if is_folder(p)}
    return {name: pictures for name, pictures in found.items() if pictures}


def read_images(files: Sequence[Path], shape: tuple[int, ...], ink: bool = False) -> np.ndarray:
    """Read pictures as uint8 ``(n, channels, H, W)``, each as :func:`read_image` does.

    Show a progress bar if it takes long.
    """
    pictures = np.empty((len(files), *shape), dtype=np.uint8)
    for row, file in enumerate(slow(files, "reading pictures")):
        pictures[row] = read_image(file, shape, ink)
    return pictures


def read_image(file: Path, shape: tuple[int, ...], ink: bool = False) -> np.ndarray:
    """Read one picture of any size and mode as uint8 ``(channels, H, W)``.

    It becomes grey for one channel, RGB for three. Transparent parts become white. The picture is
    turned upright by its EXIF data and squeezed to the shape (LANCZOS). White is 65535 in pictures
    of 16 bits. A TIFF of 32-bit whole numbers is refused: its white is not known.

    Args:
        file: the picture's path.
        shape: ``(channels, H, W)`` to return.
        ink: return ink = 255 on 0: invert a picture whose border is mostly light.

    Raises:
        InputError: if the picture cannot be read.
    """
    mode = {1: "L", 3: "RGB"}.get(shape[0])
    if mode is None or len(shape) != 3:
        raise InputError(f"pictures: expected (1 or 3, H, W) as their shape, got {shape}.")
    size = (shape[2], shape[1])
    with _opened(file) as opened:
        opened.draft(mode, (2 * size[0], 2 * size[1]))  # JPEG: decode no finer than needed
        picture = ImageOps.exif_transpose(_opaque(opened)).convert(mode)
        resized = np.asarray(picture.resize(size, Image.Resampling.LANCZOS))
    pixels = resized[None] if mode == "L" else resized.transpose(2, 0, 1)
    return 255 - pixels if ink and _light_border(pixels) else pixels


def is_colour(file: Path) -> bool:
    """Return whether a picture has colours.

    Raises:
        InputError: if the picture cannot be read.
    """
    with _opened(file) as picture:
        return picture.mode not in ("1", "L", "LA", "I", "I;16", "I;16B", "F")


@contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    """Open a picture of one of FORMATS; turn any error of reading it into one line."""
    with reading(f"picture {file}", "Remove it."), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about oddities such as damaged EXIF data
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with open_file(file) as content:
            try:
                opened = Image.open(content, formats=FORMATS)
            except UnidentifiedImageError:
                known = ", ".join(FORMATS)
                raise InputError(
                    f"picture {file}: expected {known}, got something else. Remove it."
                ) from None
            with opened as picture:
                yield picture


def _opaque(picture: Image.Image) -> Image.Image:
    if picture.mode == "I" and picture.format == "TIFF":  # their range cannot be known
        raise ValueError("expected whole numbers of 8 or 16 bits, got 32")
    if picture.mode.startswith("I"):  # whole numbers of 16 bits
        grey = np.asarray(picture) / 257.0
        return Image.fromarray(grey.round().clip(0, 255).astype(np.uint8))
    if picture.mode == "F":
        values = np.nan_to_num(np.asarray(picture)).clip(0.0, 1e30)
        shades = values * 255 if values.max() <= 1 else values
        return Image.fromarray(shades.round().clip(0, 255).astype(np.uint8))
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        over = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over)
    return picture


def _light_border(pixels: np.ndarray) -> bool:
    edges = (pixels[:, 0], pixels[:, -1], pixels[:, :, 0], pixels[:, :, -1])
    return bool(np.median(np.concatenate([edge.reshape(-1) for edge in edges])) > 127)
