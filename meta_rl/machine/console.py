"""Standard output and error that outlast their reader: printing never ends work.

A pipe whose reader has gone, a full disk, a terminal that is closed: what is printed is lost, and
work goes on to its end. The first error is kept, for who wants to know.
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

# Control characters, and those that turn the direction of text. A carriage return may begin what
# is written: so progress bars are drawn.
UNSAFE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]|(?!\\A)\r(?!\n)"
)
STYLE = re.compile("(\x1b\\[[\\d;]*m)")
"""A terminal's colours, in text of this project's own making."""
UP = re.compile("(\x1b\\[A)+")
"""What progress bars write, alone, to get from one of them to another."""


def visible(text: str) -> str:
    r"""Return the text with control characters as escapes, such as ``\x1b`` for ESC.

    Names of files and classes come from others: they must not steer the reader's terminal.
    """
    return UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class Console(io.TextIOWrapper):
    """A stream for people. No write fails, and no character that is written steers a terminal.

    Args:
        raw: where bytes go.
        encoding: of the text; characters that it does not have are escaped.
        line_buffering: whether each line is written at once.
        buffered: False to write everything at once.
    """

    def __init__(self, raw: Any, encoding: str, line_buffering: bool, buffered: bool = True):
        self._lasting = _Lasting(raw)
        self.styled = False  # whether colours pass
        super().__init__(
            io.BufferedWriter(self._lasting) if buffered else self._lasting,  # type: ignore[arg-type]
            encoding,
            "backslashreplace",
            line_buffering=line_buffering,
            write_through=not buffered,
        )

    @property
    def lost(self) -> OSError | None:
        """The first error of writing, if there was one."""
        self.flush()
        return self._lasting.error

    def close(self) -> None:
        """Write what is held back, and stay open: who closes it is not the only one to print."""
        self.flush()

    def flush(self) -> None:
        """Write what is held back."""
        if not self.closed:
            super().flush()

    def write(self, text: str, /) -> int:
        """Write text."""
        if self.closed:  # as its buffer may be, by other code
            return len(text)
        if self.styled:
            parts = STYLE.split(text)
            shown = "".join(p if STYLE.fullmatch(p) else visible(p) for p in parts)
        else:
            shown = text if UP.fullmatch(text) else visible(text)
        super().write(shown)
        return len(text)


class _Lasting(io.RawIOBase):
    """Writes that never fail: what cannot be written is dropped, and the first error kept."""

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
                if written is None:  # a pipe that does not block, and is full
                    select.select((), (self.raw,), ())
                rest = rest[written or 0 :]
        except OSError as error:
            self.error = self.error or error
        except ValueError:  # other code has closed it
            pass
        return size


def install() -> None:
    """Make the streams of this process consoles; those that are closed lead nowhere.

    Streams that somebody has put in place of Python's own, as test runners do, are left alone.
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
    """Let colours pass while text of this project's own, such as ``--help``, is printed."""
    consoles = [stream for stream in (sys.stdout, sys.stderr) if isinstance(stream, Console)]
    for console in consoles:
        console.styled = True
    try:
        yield
    finally:
        for console in consoles:
            console.styled = False


def on_terminal() -> bool:
    """Return whether standard error is a terminal; a process may have none."""
    return sys.stderr is not None and sys.stderr.isatty()


def lost(stream: TextIO) -> OSError | None:
    """Return the error by which something printed was lost, if it is a console's."""
    return stream.lost if isinstance(stream, Console) else None


def _console(stream: Any) -> Console:
    if stream is None:
        return Console(io.FileIO(os.open(os.devnull, os.O_WRONLY), "w"), "utf-8", False)
    with contextlib.suppress(OSError):  # of the reader of what an import has printed
        stream.flush()
    buffer = stream.buffer
    console = Console(
        getattr(buffer, "raw", buffer),  # the same where python runs with -u
        stream.encoding,
        stream.line_buffering,
        buffered=hasattr(buffer, "raw"),
    )
    console._before = stream  # type: ignore[attr-defined]  # it would close the descriptor
    return console


def _reserve(number: int) -> None:
    """Open a closed descriptor on nothing: the next file opened would get it, and all prints."""
    try:
        os.fstat(number)
    except OSError:
        nothing = os.open(os.devnull, os.O_RDWR)
        if nothing != number:
            os.dup2(nothing, number)
            os.close(nothing)
        os.set_inheritable(number, True)
