"""Names of tensors with several owners, and names of outside things in other languages."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meta_rl.types import Params

LONGEST = 100  # characters of a file name, and half of its bytes; file systems allow 255 bytes
NOT_IN_FILE_NAMES = frozenset('/\\:*?"<>|[]{}$%#`')
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""Beginnings of a cell that spreadsheets compute instead of showing."""


def under(owner: str, tensors: Params) -> Params:
    """The tensors named ``owner.NAME``."""
    return {f"{owner}.{name}": value for name, value in tensors.items()}


def part_of(owner: str, tensors: Params) -> Params:
    """The tensors of one owner, by the names that :func:`under` was given."""
    start = f"{owner}."
    return {
        name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)
    }


def printable(text: str) -> str:
    """Return the text with every control character and undecodable byte as ``�``."""
    return "".join(char if char.isprintable() else "�" for char in text)


def safe_name(text: str) -> str:
    """Return the text as the name of one file or folder, unchanged where it is one already.

    The name has no separator, no leading dot and no character that a shell, a glob or a URL reads
    as its own. One too long is cut and ends in a checksum of the whole.
    """
    plain = printable(text).replace("�", "-")
    name = "".join("-" if char in NOT_IN_FILE_NAMES else char for char in plain).strip()
    if name.startswith("."):
        name = "-" + name.lstrip(".")
    name = name.rstrip(". ") or "unnamed"
    if len(name) <= LONGEST and len(name.encode()) <= 2 * LONGEST:
        return name
    digest = f"-{zlib.crc32(text.encode('utf-8', 'surrogatepass')):08x}"
    while len(name) + len(digest) > LONGEST or len(name.encode()) + len(digest) > 2 * LONGEST:
        name = name[:-1]
    return name + digest


def figure_text(text: str) -> str:
    """Return the text so that matplotlib draws it as it is.

    Dollars would begin a formula, and a legend leaves out what begins with an underscore.
    """
    shown = printable(text).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def _is_byte(char: str) -> bool:
    """Return whether a character stands for a byte of a file name that no text decodes to."""
    return "\udc80" <= char <= "\udcff"


def csv_cell(value: Any) -> Any:
    """Return a cell that spreadsheets show and do not compute; numbers stay as they are.

    Text that would be a formula gets an apostrophe before it. Undecodable bytes of a file name stay
    apart; other control characters become ``�``.
    """
    if not isinstance(value, str):
        return value
    shown = "".join(c if c.isprintable() or c in "\t\r\n" or _is_byte(c) else "�" for c in value)
    if not shown.startswith(FORMULA):
        return shown
    try:
        float(shown)
    except ValueError:
        return f"'{shown}"
    return shown
