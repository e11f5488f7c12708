"""Lists as tables, in Markdown and in plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from together_nb.base.escape import literal, visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from together_nb.values.model_list import Model


_WIDEST = 80  # characters of a column of plain text


def table(columns: str, rows: Sequence[Sequence[str]], note: str = "") -> tuple[str, str]:
    """A table, in Markdown and in plain text.

    Parameters
    ----------
    columns
        The heads, separated by ``|``; a leading ``>`` marks a column of figures.
    rows
        The cells; each is shown literally, on one line.
    note
        A sentence below, or "".
    """
    heads = [head.strip() for head in columns.split("|")]
    rules = ["--:" if head.startswith(">") else ":--" for head in heads]
    named = [head.removeprefix(">") for head in heads]
    lines = [[" ".join(visible(cell).split()) for cell in row] for row in rows]
    markdown = [f"| {' | '.join(named)} |", f"|{'|'.join(rules)}|"]
    markdown += [f"| {' | '.join(map(literal, line))} |" for line in lines]
    # A wider cell sticks out rather than widening its column.
    widths = [min(max(len(line[column]) for line in (named, *lines)), _WIDEST) for column in range(len(named))]
    plain = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in (named, *lines)
    ]
    below = f"\n\n<sub>{literal(note)}</sub>" if note else ""
    return "\n".join(markdown) + below, "\n".join((*plain, visible(note))).rstrip()


def of_models(rows: list[Model], note: str = "") -> tuple[str, str]:
    """A table of `rows` with a note below."""
    return table("model | api | >context | >$ per million in | >out", [_of_model(row) for row in rows], note)


def _of_model(row: Model) -> tuple[str, ...]:
    price = ("", "") if row.price is None else tuple(f"{amount:.2f}" for amount in row.price)
    return (row.id, row.api, f"{row.context_length:,}" if row.context_length else "", *price)
