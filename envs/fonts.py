"""Which characters and typefaces Glyphs draws: free fonts found on this machine."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from fontTools.unicodedata import script
from matplotlib.ft2font import FT2Font

FREE = ("DejaVu", "FreeMono", "FreeSans", "FreeSerif", "Liberation", "Noto", "STIXGeneral")
"""Families drawn from, by how their names begin: all free to use, render and share the result."""

UNFIT = ("SignWriting", "Duployan", "Nastaliq", "LastResort")
"""Parts of names of faces whose letters are placed by shaping, and mean little alone."""

LETTERS = ("Lu", "Ll", "Lo")
"""Unicode categories of the characters drawn: no marks, digits, modifiers or symbols."""


@dataclass(frozen=True)
class Face:
    """One typeface file, a "drawer" of characters.

    Args:
        path: of the file.
        name: its PostScript name, by which copies in several folders are one.
        plain: whether it is neither bold nor slanted.
    """

    path: Path
    name: str
    plain: bool

    def characters(self) -> list[str]:
        """The letters that it has a glyph for, by code point: none that another decomposes to."""
        known = FT2Font(str(self.path)).get_charmap()
        return [chr(code) for code in sorted(known) if known[code] and _is_letter(chr(code))]


def find_faces() -> list[Face]:
    """Faces of the free families on this machine, matplotlib's own first, plain ones first.

    The order depends on the fonts alone, so machines with the same fonts agree.
    """
    found: dict[str, Face] = {}
    for path in _files():
        try:
            font = FT2Font(str(path))
        except Exception:  # not a font, or damaged in any way
            continue
        name = font.postscript_name
        if font.family_name.startswith(FREE) and not any(part in name for part in UNFIT):
            style = f"{font.style_name} {name}".lower()
            plain = not any(word in style for word in ("bold", "italic", "oblique", "light"))
            found.setdefault(name, Face(path, name, plain))
    return sorted(found.values(), key=lambda face: (not face.plain, face.name))


def script_of(character: str) -> str:
    """ISO 15924 code of a character's script: Latn, Grek, Ethi, ..."""
    return script(character)


def _is_letter(character: str) -> bool:
    return (
        unicodedata.category(character) in LETTERS
        and unicodedata.normalize("NFKD", character) == character
        and script(character) not in ("Zyyy", "Zinh", "Zzzz")
    )


def _files() -> Iterator[Path]:
    data = os.environ.get("XDG_DATA_HOME", "~/.local/share")
    folders = (
        Path(matplotlib.get_data_path()) / "fonts" / "ttf",
        Path("/usr/share/fonts"),
        Path("/usr/local/share/fonts"),
        Path(data).expanduser() / "fonts",
        Path("/Library/Fonts"),
    )
    for folder in folders:
        yield from sorted(
            path
            for path in folder.rglob("*")
            if path.suffix.lower() in (".ttf", ".otf", ".ttc") and os.path.isfile(path)
        )
