"""Tables as text, for the terminal."""

from __future__ import annotations

Table = tuple[list[str], list[list[str]]]
"""Head and rows."""


def aligned(table: Table) -> str:
    """As text, the first column to the left and the others to the right."""
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
