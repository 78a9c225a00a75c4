"""Check that worker processes can import the running script, which they do first."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from meta_rl.errors import InputError

OTHERWISE = "Or step environments in the script's own process: workers=0 (--speed.workers 0)."


def require_guard() -> None:
    """Refuse to start workers from a script that would start workers again when imported.

    A worker imports the script under another name than ``__main__``. A notebook, ``python -c`` and
    ``python -m PACKAGE`` are not imported, so they need no guard.

    Raises:
        InputError: if the running line of the script is not guarded, or the script is standard
            input.
    """
    main = sys.modules.get("__main__")
    file, spec = getattr(main, "__file__", None), getattr(main, "__spec__", None)
    if file is None or (spec is not None and spec.name.rpartition(".")[2] == "__main__"):
        return
    if not Path(file).exists():
        raise InputError(
            "environment: workers import the script that starts them, and standard input cannot be "
            f"imported: save it as a file. {OTHERWISE}"
        )
    line = _running_line(vars(main))
    if line is not None and not _guarded(Path(file), line):
        raise InputError(
            f"environment: put the code of {Path(file).name} at line {line} under `if __name__ == "
            '"__main__":`, because every worker process imports the script and would run that line '
            f"again. {OTHERWISE}"
        )


def _running_line(names: dict) -> int | None:
    """Return the line of the main module's code that runs now; None if the module has ended."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_globals is names and frame.f_code.co_name == "<module>":
            return frame.f_lineno
        frame = frame.f_back
    return None


def _guarded(file: Path, line: int) -> bool:
    """Return whether a test of ``__name__`` guards the statement at a line."""
    try:
        tree = ast.parse(file.read_text())
    except (OSError, ValueError, SyntaxError):
        return True  # no Python source, so nothing can be checked
    return any(_spans(one, line) for node in ast.walk(tree) for one in _only_in_main(node))


def _only_in_main(node: ast.AST) -> list[Any]:
    """Return the code that a test of ``__name__`` guards: a branch of an if, or the rest of an and.

    A test of inequality guards the other branch, or the rest of an or.
    """
    if isinstance(node, ast.If | ast.IfExp) and "__name__" in ast.unparse(node.test):
        side = node.orelse if _is_unequal(node.test) else node.body
        return side if isinstance(side, list) else [side]
    if isinstance(node, ast.BoolOp) and "__name__" in ast.unparse(node.values[0]):
        holds = isinstance(node.op, ast.Or) == _is_unequal(node.values[0])
        return node.values[1:] if holds else []
    return []


def _is_unequal(test: ast.expr) -> bool:
    return isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.NotEq)


def _spans(node: Any, line: int) -> bool:
    return node.lineno <= line <= (node.end_lineno or line)
