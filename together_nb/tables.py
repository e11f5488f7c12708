"""Lists as tables, in Markdown and in plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from together_nb.escape import literal, visible

if TYPE_CHECKING:
    from together_nb.catalog import Model

_COLUMNS = ("model", "api", "context", "$ per million in", "out")


def of_models(rows: list[Model], note: str = "") -> tuple[str, str]:
    """A table of `rows` with a note below, in Markdown and in plain text."""
    return _markdown(rows, note), _plain(rows, note)


def _cells(row: Model) -> tuple[str, ...]:
    price = ("", "") if row.price is None else tuple(f"{amount:.2f}" for amount in row.price)
    return (" ".join(row.id.split()), row.api, f"{row.context_length:,}" if row.context_length else "", *price)


def _markdown(rows: list[Model], note: str) -> str:
    head = " | ".join(_COLUMNS)
    lines = [f"| {head} |", "|:--|:--|--:|--:|--:|"]
    lines += [f"| {' | '.join(literal(cell) for cell in _cells(row))} |" for row in rows]
    return "\n".join(lines) + (f"\n\n<sub>{literal(note)}</sub>" if note else "")


def _plain(rows: list[Model], note: str) -> str:
    table = [_COLUMNS, *map(_cells, rows)]
    widths = [max(len(cells[column]) for cells in table) for column in range(len(_COLUMNS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip() for cells in table
    ]
    return visible("\n".join((*lines, note)).rstrip())
