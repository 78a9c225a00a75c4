"""Tables as text, for the terminal."""

from __future__ import annotations

Table = tuple[list[str], list[list[str]]]
"""A table's head and its rows."""


def aligned(table: Table) -> str:
    """Return a table as text: the first column left-aligned, the others right-aligned."""
    head, rows = table
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in [head, *rows]
    ]
    return "\n".join(line.rstrip() for line in lines)
