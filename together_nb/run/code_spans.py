"""Finds code in a prompt: Markdown's fences and spans, and Python's f-strings.

Simpler than CommonMark. Where the two differ, this takes too much for code: a name that stays as typed is visible,
whereas a value that was sent can't be recalled.

Source: https://spec.commonmark.org/0.31.2/#fenced-code-blocks, #code-spans
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


class Code(NamedTuple):
    """A piece of code.

    Parameters
    ----------
    start, end
        Its range, with fences and backticks.
    content
        What it holds, without surrounding white space; "" if it need not be examined.
    """

    start: int
    end: int
    content: str = ""


# A quotation or a list item may contain a fence.
_FENCE = re.compile(r"(?P<before>(?:[ \t>]|[-+*][ \t]|\d{1,9}[.)][ \t])*)(?:(?P<ticks>`{3,})[^`]*|(?P<tildes>~{3,}).*)")
_BEGINS = re.compile(r"[ \t>]*(?:#{1,6}|[-+*]|\d{1,9}[.)])(?:[ \t]|$)")  # a heading or a list item
_TICKS = re.compile("`+")
_INDENT = 3  # spaces of indentation allowed for a fence


def code_in(text: str) -> list[Code]:
    """Return all code in `text`, ordered by start; pieces may overlap."""
    markdown = sorted(_blocks_and_spans(text))
    return sorted([*markdown, *_literals(text, markdown)])


def _blocks_and_spans(text: str) -> Iterator[Code]:
    start = end = paragraph = begin = 0
    fence = before = ""
    content: list[str] = []
    for line in text.splitlines(keepends=True):
        start, end = end, end + len(line)
        line = line.rstrip("\r\n")  # noqa: PLW2901
        bare = line.strip(" \t>")
        if fence:
            quoted = line.lstrip(" \t").startswith(">") or ">" not in before
            if quoted and not _closes(line, bare, fence, before):
                content.append(bare)
                continue
            yield Code(begin, end if quoted else start, "\n".join(content).strip())
            fence, paragraph = "", end if quoted else start
            if quoted:
                continue
        opening = _FENCE.fullmatch(line)
        if opening or not bare or _BEGINS.match(line):
            yield from _spans(text, paragraph, start)
            paragraph = end if opening else start
        if opening:
            fence, before = opening["ticks"] or opening["tildes"], opening["before"]
            begin, content = start, []
            yield Code(start, end)  # the fence's info string
        else:
            yield from _spans(text, start, end)
    if fence:
        yield Code(begin, end, "\n".join(content).strip())
    else:
        yield from _spans(text, paragraph, end)


def _closes(line: str, bare: str, fence: str, before: str) -> bool:
    """Whether a line in a block of code closes it."""
    indent = len(line) - len(line.lstrip(" \t>"))
    return bare.startswith(fence) and not bare.strip(fence[0]) and indent <= len(before) + _INDENT


def _spans(text: str, start: int, end: int) -> Iterator[Code]:
    """Yield the code spans of a paragraph: from a run of backticks to the next of equal length."""
    ticks = [one.span() for one in _TICKS.finditer(text, start, end)]
    closing: dict[int, list[int]] = {}
    for number, (first, last) in enumerate(ticks):
        closing.setdefault(last - first, []).append(number)
    number = 0
    while number < len(ticks):
        first, last = ticks[number]
        before = text[start:first]
        first += (len(before) - len(before.rstrip("\\"))) % 2  # an escaped one does not count
        closings = closing.get(last - first, [])
        place = bisect_right(closings, number)
        if place < len(closings):
            number = closings[place]
            yield Code(first, ticks[number][1], text[last : ticks[number][0]].strip())
        start = ticks[number][1]
        number += 1


_OPENING = re.compile(r"""(?P<prefix>(?<!\w)(?:[ft]r?|r[ft]))?(?P<quote>'''|\"\"\"|['"])""", re.IGNORECASE)
_PARTS = re.compile(r"""\\.|['"\r\n]""", re.DOTALL)
_PARTS_OF_F = re.compile(rf"""\{{[^{{}}\r\n]*\}}|{_PARTS.pattern}""", re.DOTALL)
_FORMAT = re.compile(r"[\s)]*\.format(?:_map)?\(")
_NO_END = re.compile(r"""(?![bfrtu]{1,2}['"])[\w(']""", re.IGNORECASE)  # f'(x) is a derivative


_BEFORE = tuple("=(,+[{:%")


def _literals(text: str, code: list[Code]) -> Iterator[Code]:
    """Yield Python's f-strings, and literals with ``.format``, outside of `code`."""
    at = number = last = 0
    unended: dict[str, int] = {}  # as `seen`, for f-strings alone: any other literal may precede one
    seen: dict[str, int] = {}  # how far the end of a literal was searched for, by quotation mark
    while opening := _OPENING.search(text, at):
        start, at = opening.span()
        while number < len(code) and code[number].end <= start:
            number += 1
        if number < len(code) and code[number].start <= start:
            at = code[number].end
            continue
        quote = opening["quote"]
        if start < (seen if opening["prefix"] is None else unended).get(quote, 0):
            continue
        # In "f" the second mark ends a literal.
        is_f = opening["prefix"] is not None and (
            start == last or text[start - 1 : start] != quote[0] or text[at : at + 1] == "{"
        )
        # f' = 1 is a derivative.
        if is_f and quote == "'" and text[at : at + 1].isspace() and text[:start].rstrip(" ")[-1:] not in _BEFORE:
            is_f = False
        end = _end_of_literal(text, quote, at, _PARTS_OF_F if is_f else _PARTS)
        seen[quote] = abs(end) - len(quote)
        if is_f and end < 0:
            unended[quote] = -end
        if end > 0 and ((is_f and not (quote == "'" and _NO_END.match(text, end))) or _FORMAT.match(text, end)):
            yield Code(start, end)
            at = last = end


def _end_of_literal(text: str, quote: str, at: int, parts: re.Pattern[str]) -> int:
    """Return the end of the literal whose content begins at `at`; if it has none, minus how far it was searched for."""
    if len(quote) > 1:
        found = text.find(quote, at)
        return -len(text) if found < 0 else found + len(quote)
    for part in parts.finditer(text, at):
        if part.group() in (quote, "\r", "\n"):
            return part.end() if part.group() == quote else -part.end()
    return -len(text)
