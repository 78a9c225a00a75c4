"""Standard output and error streams whose writes never fail.

If the reader of a pipe is gone, the disk is full or the terminal is closed, printed text is lost
and the program goes on. The first error is kept; see :func:`lost`.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import select
import sys
from collections.abc import Iterator
from typing import Any, TextIO

# Control characters, and characters that change the direction of text. A carriage return may start
# the text, as in progress bars.
UNSAFE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]|(?!\\A)\r(?!\n)"
)
STYLE = re.compile("(\x1b\\[[\\d;]*m)")
"""Escape codes of a terminal's colours, as this project's own text uses them."""
UP = re.compile("(\x1b\\[A)+")
"""Escape codes that progress bars write alone, to move between bars."""


def visible(text: str) -> str:
    r"""Return the text with control characters as escapes, such as ``\x1b`` for ESC.

    Names of files and classes may come from others, and must not control the terminal.
    """
    return UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class Console(io.TextIOWrapper):
    """A text stream whose writes never fail and never control the terminal.

    Args:
        raw: the stream of bytes to write to.
        encoding: encoding of the text; characters outside it are escaped.
        line_buffering: whether to write each line at once.
        buffered: whether to buffer; False writes everything at once.
    """

    def __init__(self, raw: Any, encoding: str, line_buffering: bool, buffered: bool = True):
        self._lasting = _Lasting(raw)
        self.styled = False  # whether to let colours pass
        super().__init__(
            io.BufferedWriter(self._lasting) if buffered else self._lasting,  # type: ignore[arg-type]
            encoding,
            "backslashreplace",
            line_buffering=line_buffering,
            write_through=not buffered,
        )

    @property
    def lost(self) -> OSError | None:
        """The first write error, or None."""
        self.flush()
        return self._lasting.error

    def close(self) -> None:
        """Write the buffer and stay open: other code may still print."""
        self.flush()

    def flush(self) -> None:
        """Write the buffer."""
        if not self.closed:
            super().flush()

    def write(self, text: str, /) -> int:
        """Write text."""
        if self.closed:  # other code may have closed the buffer
            return len(text)
        if self.styled:
            parts = STYLE.split(text)
            shown = "".join(p if STYLE.fullmatch(p) else visible(p) for p in parts)
        else:
            shown = text if UP.fullmatch(text) else visible(text)
        super().write(shown)
        return len(text)


class _Lasting(io.RawIOBase):
    """A raw stream that drops bytes it cannot write, and keeps the first error."""

    def __init__(self, raw: Any):
        self.raw, self.error = raw, None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.raw.fileno()

    def isatty(self) -> bool:
        return self.raw.isatty()

    def write(self, data: Any, /) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while rest:
                written = self.raw.write(rest)
                if written is None:  # a full non-blocking pipe
                    select.select((), (self.raw,), ())
                rest = rest[written or 0 :]
        except OSError as error:
            self.error = self.error or error
        except ValueError:  # other code has closed it
            pass
        return size


def install() -> None:
    """Replace this process's output streams by consoles; a closed stream discards its text.

    Streams that replace Python's own, as in test runners, are left alone.
    """
    for number in range(3):
        _reserve(number)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__") and not isinstance(stream, Console):
            console = _console(stream)
            setattr(sys, name, console)
            setattr(sys, f"__{name}__", console)


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Let colours pass inside the context, for this project's own text, such as ``--help``."""
    consoles = [stream for stream in (sys.stdout, sys.stderr) if isinstance(stream, Console)]
    for console in consoles:
        console.styled = True
    try:
        yield
    finally:
        for console in consoles:
            console.styled = False


def on_terminal() -> bool:
    """Return whether standard error is a terminal; False without standard error."""
    return sys.stderr is not None and sys.stderr.isatty()


def lost(stream: TextIO) -> OSError | None:
    """Return the first write error of a stream, if it is a console; else None."""
    return stream.lost if isinstance(stream, Console) else None


def _console(stream: Any) -> Console:
    if stream is None:
        return Console(io.FileIO(os.open(os.devnull, os.O_WRONLY), "w"), "utf-8", False)
    with contextlib.suppress(OSError):  # an import's output may have lost its reader
        stream.flush()
    buffer = stream.buffer
    console = Console(
        getattr(buffer, "raw", buffer),  # under python -u, buffer is raw already
        stream.encoding,
        stream.line_buffering,
        buffered=hasattr(buffer, "raw"),
    )
    console._before = stream  # type: ignore[attr-defined]  # its end would close the descriptor
    return console


def _reserve(number: int) -> None:
    """Open a closed descriptor on the null device, or the next opened file would get all prints."""
    try:
        os.fstat(number)
    except OSError:
        nothing = os.open(os.devnull, os.O_RDWR)
        if nothing != number:
            os.dup2(nothing, number)
            os.close(nothing)
        os.set_inheritable(number, True)
