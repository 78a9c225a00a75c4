"""Find the characters and typefaces that Glyphs draws, in this machine's free fonts."""

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
"""Name prefixes of the font families used: all free to use, to render and to publish renderings."""

UNFIT = ("SignWriting", "Duployan", "Nastaliq", "LastResort")
"""Parts of the names of faces left out: their letters are placed by shaping, not drawn alone."""

LETTERS = ("Lu", "Ll", "Lo")
"""Unicode categories of the characters drawn: no marks, digits, modifiers or symbols."""


@dataclass(frozen=True)
class Face:
    """One typeface file, a "drawer" of characters.

    Args:
        path: the typeface's file.
        name: the PostScript name, by which copies in several folders count as one.
        plain: whether the face is neither bold nor light nor slanted.
    """

    path: Path
    name: str
    plain: bool

    def characters(self) -> list[str]:
        """Return the letters that the face has a glyph for, by code point; none that decompose."""
        known = FT2Font(str(self.path)).get_charmap()
        return [chr(code) for code in sorted(known) if known[code] and _is_letter(chr(code))]


def find_faces() -> list[Face]:
    """Return the faces of the free families on this machine, plain ones first, then by name.

    The order depends on the fonts alone, so machines with the same fonts agree. Of copies,
    matplotlib's comes first.
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
    """Return the ISO 15924 code of a character's script: Latn, Grek, Ethi, ..."""
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
