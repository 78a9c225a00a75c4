"""Names of tensors by owner, and safe names for files, figures and spreadsheets."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meta_rl.types import Params

LONGEST = 100  # most characters, and half the most bytes, of a file name; file systems allow 255
NOT_IN_FILE_NAMES = frozenset('/\\:*?"<>|[]{}$%#`')
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""First characters of cells that spreadsheets compute instead of showing."""


def under(owner: str, tensors: Params) -> Params:
    """Return the tensors, renamed to ``owner.NAME``."""
    return {f"{owner}.{name}": value for name, value in tensors.items()}


def part_of(owner: str, tensors: Params) -> Params:
    """Return the tensors of one owner, without the prefix of :func:`under`."""
    start = f"{owner}."
    return {
        name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)
    }


def moment(k: int, remembers: bool) -> str:
    """Return when a score was taken, for a policy that remembers or for one that adapts."""
    return f"in episode {k + 1} of a trial" if remembers else f"after {k} inner steps"


def printable(text: str) -> str:
    """Return the text with every control character and undecodable byte as ``�``."""
    return "".join(char if char.isprintable() else "�" for char in text)


def safe_name(text: str) -> str:
    """Return the text as a name for a file or folder, unchanged if it is safe already.

    The name has no separator, no leading dot and no character with a meaning in shells, globs or
    URLs. A name that is too long is cut, and ends in a checksum of the whole text.
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
    """Return the text escaped so that matplotlib draws it unchanged.

    A dollar sign would start a formula, and a legend leaves out a label that starts with an
    underscore.
    """
    shown = printable(text).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def _is_byte(char: str) -> bool:
    """Return whether a character stands for an undecodable byte of a file name."""
    return "\udc80" <= char <= "\udcff"


def csv_cell(value: Any) -> Any:
    """Return a cell that spreadsheets show and do not compute; numbers stay unchanged.

    Text that would be a formula gets a leading apostrophe. Undecodable bytes of a file name stay
    distinct; other control characters become ``�``.
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
