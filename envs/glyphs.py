"""Glyphs: few-shot tasks like Omniglot's, drawn from this machine's fonts without a download.

Classes are characters, and typefaces are the drawers. No script is in two splits. docs/few-shot.md
lists the characters, fonts and licences.
"""

from __future__ import annotations

import functools
import hashlib
import zlib
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, features
from torch.nn import functional as F

from meta_rl.families.examples import SPLITS, ImageClasses
from meta_rl.machine.bars import slow

from .cache import cached_arrays
from .fonts import Face, find_faces, script_of

VERSION = 1  # the pictures' version: a new one draws them anew
SIZE = 28  # pixels a side
FACES_COMPARED = 4  # the first, plain ones: in heavy faces different letters are alike
IMAGES = 20  # images per character, as in Omniglot
MOST = 100  # most characters of one script, so that no script outweighs the others
ALIKE = {"same split": 0.95, "another": 0.9}  # largest cosine of two different characters' pictures

VALIDATION = "Hebr Geor Syrc Samr Mand Armi Phnx Palm Mymr Cham Kali Glag Orkh Olck Osma Yiii"
TEST = (
    "Armn Tfng Nkoo Adlm Ethi Vaii Bamu Mend Hmng Thai Laoo Khmr Tavt Lana "
    "Tale Talu Telu Knda Mlym Sinh Taml Gran Java Bali Sund"
)
"""Scripts to validate and test on, by ISO 15924 code; all others are trained on."""


class Character(NamedTuple):
    """One class: a character, its script's split, and its picture in every face."""

    text: str
    split: str
    drawn: np.ndarray  # uint8 (faces, 2 SIZE, 2 SIZE)


@functools.cache
def load() -> dict[str, np.ndarray]:
    """Return the arrays of :func:`render` for this machine's fonts, drawn once and cached."""
    faces = find_faces()
    settings = (VERSION, SIZE, IMAGES, MOST, ALIKE, FACES_COMPARED, VALIDATION, TEST)
    versions = (features.version("pil"), features.version("freetype2"))
    files = [(face.name, face.path.stat().st_size) for face in faces]
    key = hashlib.sha256(repr((settings, versions, files)).encode()).hexdigest()[:16]
    return cached_arrays(f"glyphs-{key}", lambda: render(faces))


def make_glyphs(ways: int = 5, rotations: bool = False) -> ImageClasses:
    """Make Glyphs from this machine's fonts; drawn once, then read from the cache.

    Args:
        ways: N, the number of classes in a task.
        rotations: whether quarter turns are classes of their own.
    """
    arrays = load()
    texts = [chr(code) for code in arrays["characters"]]
    splits = {name: np.flatnonzero(arrays["split"] == i) for i, name in enumerate(SPLITS)}
    scripts = len({script_of(text) for text in texts})
    return ImageClasses(
        "glyphs",
        list(arrays["images"]),
        splits,
        ways=ways,
        rotations=rotations,
        names=texts,
        summary=f"{len(texts)} characters of {scripts} scripts, {IMAGES} images of each, drawn "
        "from this machine's free fonts; scripts differ between splits.",
        source="DejaVu, STIX and, where installed, Noto, GNU FreeFont, Liberation",
        ink=True,
    )


def render(faces: Sequence[Face]) -> dict[str, np.ndarray]:
    """Draw all characters that these faces have.

    Returns:
        ``characters`` (C,) code points, ``split`` (C,) positions in SPLITS, and ``images``
        uint8 (C, IMAGES, SIZE, SIZE), ink 255 on 0.
    """
    chosen = _choose(faces)
    kept = _drop_alike([_draw(text, chosen[text]) for text in _progress(sorted(chosen), "drawing")])
    images = [_vary(character) for character in _progress(kept, "varying")]
    return {
        "characters": np.array([ord(character.text) for character in kept], dtype=np.int64),
        "split": np.array([SPLITS.index(character.split) for character in kept], dtype=np.int64),
        "images": np.stack(images),
    }


def _progress(items: Sequence, what: str):
    return slow(items, f"Glyphs, once: {what}")


def _choose(faces: Sequence[Face]) -> dict[str, list[Face]]:
    """Return the MOST characters of each script that most faces have, each with its first faces."""
    having: dict[str, list[Face]] = defaultdict(list)
    for face in faces:
        for text in face.characters():
            having[text].append(face)
    scripts: dict[str, list[str]] = defaultdict(list)
    for text in having:
        scripts[script_of(text)].append(text)
    chosen = {}
    for texts in scripts.values():
        # A hash decides ties, so as not to take only the start of a long ordered syllabary.
        texts.sort(key=lambda text: (-len(having[text]), zlib.crc32(text.encode()), text))
        chosen.update({text: having[text][:IMAGES] for text in texts[:MOST]})
    return chosen


def _split_of(text: str) -> str:
    code = script_of(text)
    if code in TEST.split():
        return "test"
    return "validation" if code in VALIDATION.split() else "train"


def _draw(text: str, faces: Sequence[Face]) -> Character:
    drawn = [picture for face in faces if (picture := _picture(text, face)) is not None]
    empty = np.zeros((0, 2 * SIZE, 2 * SIZE), dtype=np.uint8)
    return Character(text, _split_of(text), np.stack(drawn) if drawn else empty)


def _picture(text: str, face: Face) -> np.ndarray | None:
    """Draw a character at twice the size, its longer side 40 of 56 pixels; None if blank."""
    canvas = Image.new("L", (400, 400))
    ImageDraw.Draw(canvas).text((140, 120), text, fill=255, font=_font(face))
    box = canvas.getbbox()
    if box is None:
        return None
    ink = canvas.crop(box)
    scale = 40 / max(ink.size)
    width, height = (max(1, round(side * scale)) for side in ink.size)
    ink = ink.resize((width, height), Image.Resampling.LANCZOS)
    picture = Image.new("L", (2 * SIZE, 2 * SIZE))
    picture.paste(ink, ((2 * SIZE - width) // 2, (2 * SIZE - height) // 2))
    return np.asarray(picture)


@functools.lru_cache(maxsize=512)
def _font(face: Face) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(face.path), 80, layout_engine=ImageFont.Layout.BASIC)


def _drop_alike(characters: Sequence[Character]) -> list[Character]:
    """Drop blank characters, and characters that look like an earlier one in the first faces.

    Test characters come first, so a character that looks alike in two splits leaves training.
    """
    order = sorted(characters, key=lambda c: (-SPLITS.index(c.split), c.text))
    kept: list[Character] = []
    seen = torch.zeros(len(order) * FACES_COMPARED, (SIZE // 2) ** 2)
    limit = {split: torch.full((len(seen),), ALIKE["another"]) for split in SPLITS}
    filled = 0
    for character in _progress(order, "comparing"):
        if not len(character.drawn):
            continue
        first = character.drawn[:FACES_COMPARED]
        coarse = F.avg_pool2d(torch.from_numpy(first).float().unsqueeze(1), 4)
        unit = F.normalize(coarse.flatten(1), dim=1)
        if (unit @ seen[:filled].T > limit[character.split][:filled]).any():
            continue
        rows = slice(filled, filled + len(unit))
        seen[rows] = unit
        limit[character.split][rows] = ALIKE["same split"]
        filled += len(unit)
        kept.append(character)
    return kept


def _vary(character: Character) -> np.ndarray:
    """Return IMAGES different pictures: the faces in turn, slightly rotated, sheared and bent.

    The variation depends on the character alone, not on the others drawn.
    """
    uniform = np.random.default_rng([VERSION, ord(character.text)]).uniform(-1, 1, (IMAGES, 56))
    draws = torch.from_numpy(uniform).float()
    angle, shear = 0.2 * draws[:, 0], 0.2 * draws[:, 1]  # radians, and a slope
    wide, high = torch.exp(0.12 * draws[:, 2]), torch.exp(0.12 * draws[:, 3])
    shift = 0.1 * draws[:, 4:6]  # in halves of the picture
    cos, sin = torch.cos(angle), torch.sin(angle)
    rows = [wide * cos, shear - sin, shift[:, 0], sin, high * cos, shift[:, 1]]
    grid = F.affine_grid(
        torch.stack(rows, 1).view(-1, 2, 3), [IMAGES, 1, SIZE, SIZE], align_corners=False
    )
    bend = 0.1 * draws[:, 6:].view(IMAGES, 2, 5, 5)
    bend = F.interpolate(bend, (SIZE, SIZE), mode="bicubic", align_corners=True)
    faces = character.drawn[np.arange(IMAGES) % len(character.drawn)]
    pictures = F.avg_pool2d(torch.from_numpy(faces).float().unsqueeze(1), 2, stride=1)
    bent = F.grid_sample(pictures, grid + bend.permute(0, 2, 3, 1), align_corners=False)
    return bent.squeeze(1).round().clamp(0, 255).to(torch.uint8).numpy()
