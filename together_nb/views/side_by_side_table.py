"""Answers side by side as saved output: a table whose cells hold Markdown.

HTML in Markdown ends at a blank line, so a cell's Markdown stands between blank lines. It cannot leak out
of its cell: `Completion.bundle` turns its tags into text and closes its code and formulas.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from together_nb.base.escape import literal, visible
from together_nb.render.token_html import literal_html
from together_nb.views.parts import sentences

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    from together_nb.values.completion import Completion

    Ended: TypeAlias = tuple[str, Completion, BaseException | None]

WIDEST = 4  # columns in a row: more are too narrow to read
_LEAST = 200  # pixels; minimum width of a column
# JupyterLab aligns cells right and middle, whatever their attributes say; GitHub strips styles and honours
# attributes.
_LOOK = ' valign="top" style="vertical-align: top; text-align: left"'


def in_rows(items: Sequence[Any], across: int) -> list[list[Any]]:
    """Group `items` into rows of `across`, each split further if it is too wide."""
    width = _width(min(across, len(items)))
    return [
        list(group[start : start + width])
        for first in range(0, len(items), across)
        for group in (items[first : first + across],)
        for start in range(0, len(group), width)
    ]


def _width(across: int) -> int:
    """Balanced row width: five are split three and two rather than four and one."""
    return -(-across // -(-across // WIDEST)) if across else 1


def bundle(ended: Sequence[Ended], across: int, show: str) -> dict[str, str]:
    """Return what a notebook saves of answers side by side.

    Parameters
    ----------
    ended
        Each column's title, its answer and its error.
    across
        How many belong in a row.
    show
        Name of a format.
    """
    saved = [
        (title, completion.bundle(show, alone=False), failure(completion, error)) for title, completion, error in ended
    ]
    rows = in_rows(saved, across)
    width = max(map(len, rows), default=1)
    lines = [_table(width)]
    for group in rows:
        lines += ["<tr>", *(_head(literal(_line(title)), width) for title, _, _ in group), "</tr>", "<tr>"]
        lines += [_markdown_cell(one["text/markdown"], words) for _, one, words in group]
        lines.append("</tr>")
    lines.append("</table>")
    plain = ["\n\n".join(filter(None, (visible(title), one["text/plain"], words))) for title, one, words in saved]
    made = {"text/markdown": "\n".join(lines), "text/plain": "\n\n\n".join(plain)}
    if saved and all("text/html" in one for _, one, _ in saved):
        made["text/html"] = _html(rows, width)
    return made


def _html(rows: Sequence[Sequence[tuple[str, dict[str, str], str]]], width: int) -> str:
    """The same table for HTML answers."""
    parts = [_table(width)]
    for group in rows:
        heads = "".join(_head(literal_html(_line(title)), width) for title, _, _ in group)
        cells = (f"{one['text/html']}{f'<b>{literal_html(words)}</b>' if words else ''}" for _, one, words in group)
        parts.append(f"<tr>{heads}</tr><tr>{''.join(f'<td{_LOOK}>{cell}</td>' for cell in cells)}</tr>")
    return "".join([*parts, "</table>"])


def metadata(ended: Sequence[Ended]) -> dict[str, Any]:
    """The output's metadata: what made the answers."""
    return {"together_nb": {"compared": [{"title": title, **one.metadata()} for title, one, _ in ended]}}


def plain_text(completion: Completion, error: BaseException | None, show: str) -> str:
    """An answer and its error as plain text."""
    parts = (completion.bundle(show, alone=False)["text/plain"], failure(completion, error))
    return "\n\n".join(filter(None, parts))


def failure(completion: Completion, error: BaseException | None) -> str:
    """A column's error in words; "" if it succeeded or was stopped."""
    return "" if error is None or completion.cancelled else visible(" ".join(sentences(error)).strip())


def _table(width: int) -> str:
    # Equal column widths despite long words; the table scrolls if there is too little room.
    style = f"table-layout: fixed; width: 100%; min-width: {_LEAST * width}px; overflow-wrap: anywhere"
    return f'<table style="{style}">'


def _line(title: str) -> str:
    return " ".join(title.split())


def _head(words: str, width: int) -> str:
    return f'<th width="{100 // width}%"{_LOOK}><div align="left">{words}</div></th>'


def _markdown_cell(markdown: str, words: str) -> str:
    inner = f"{markdown}\n\n<b>{literal(words)}</b>" if words else markdown
    return f'<td{_LOOK}><div align="left">\n\n{inner}\n\n</div></td>'
