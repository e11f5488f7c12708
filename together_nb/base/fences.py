"""Fenced blocks of Markdown: write them, find them, close open ones."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeGuard

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


_OPENING = re.compile(r"(`{3,}|~{3,})[ \t]*([\w+#.-]*)")


def one_block(text: str) -> tuple[str, str] | None:
    """Return language and code if `text` is exactly one fenced block."""
    first, *code = text.strip().split("\n")
    fence, language = _opening(first)
    if not fence or not code or code[-1].strip() != fence:
        return None
    if any(line.lstrip().startswith(fence) for line in code[:-1]):  # two blocks, and text between
        return None
    return language, "\n".join(code[:-1])


def _opening(line: str) -> tuple[str, str]:
    """Return fence and language of a line that opens a block, else "" twice."""
    opening = _OPENING.match(line)
    return ("", "") if opening is None or "`" in line[opening.end() :] else (opening[1], opening[2])


def fenced_blocks(text: str) -> list[tuple[str, str]]:
    """Return language and code of each fenced block, in order; an unclosed one as far as it goes."""
    blocks: list[tuple[str, str]] = []
    fence, language, indent = "", "", ""
    code: list[str] = []
    for line in text.split("\n"):
        if not fence:
            fence, language = _opening(line.strip())
            indent, code = line[: len(line) - len(line.lstrip())], []  # of a list item
        elif re.fullmatch(rf"{re.escape(fence[0])}{{{len(fence)},}}", line.strip()):
            blocks.append((language, "\n".join(code)))
            fence = ""
        else:
            code.append(line.removeprefix(indent))
    return [*blocks, (language, "\n".join(code))] if fence else blocks


# A list item may begin with a fence. `sanitize.harmless` allows none deeper than 500.
_FENCE = re.compile(
    r"(?P<before>(?:[ \t]|(?:[-*+]|\d{1,9}[.)])(?=[ \t])){0,500})(?P<fence>`{3,}|~{3,})(?P<info>[^\n]*)"
)


def fenced(text: str, language: str = "") -> str:
    """Return a fenced code block of `text`, whatever backticks it has."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}{'' if text.endswith(chr(10)) or not text else chr(10)}{fence}"


def open_fence(markdown: str) -> str:
    """The line that opens the code block or ``$$`` in which `markdown` ends, or ""."""
    opening = ""
    for opening in open_fences(markdown.split("\n")):  # noqa: B007  (the last one is wanted)
        pass
    return opening


def open_fences(lines: Iterable[str]) -> Iterator[str]:
    """Yield, for each line, the line that opened the block or ``$$`` still open, or ""."""
    opening = mark = ""
    in_list = False
    for line in lines:
        match = _FENCE.match(line)
        if mark:
            if match and _closes(match, mark, in_list=in_list):
                opening = mark = ""
        elif opening:
            if line.rstrip().endswith("$$"):
                opening = ""
        elif _opens_code(match):
            opening, mark, in_list = line, match["fence"], match["before"] != ""
        elif line.lstrip().startswith("$$") and "$$" not in line.lstrip()[2:]:
            opening = line
        yield opening


def _opens_code(match: re.Match[str] | None) -> TypeGuard[re.Match[str]]:
    return match is not None and not (match["fence"].startswith("`") and "`" in match["info"])


def _closes(match: re.Match[str], mark: str, *, in_list: bool) -> bool:
    if match["before"].strip() or match["info"].strip() or not match["fence"].startswith(mark):
        return False
    # Four spaces make it code, unless both fences are in a list item.
    return len(match["before"]) < 4 or in_list  # noqa: PLR2004


def closing(opening: str) -> str:
    """Return the line that closes `opening`, with the same indent: it may be in a list item."""
    match = _FENCE.match(opening)
    return re.sub(r"\S", " ", match["before"]) + match["fence"] if match else "$$"


def balanced(markdown: str) -> str:
    """Close what `markdown` leaves open, so that it does not swallow the text after it."""
    opening = open_fence(markdown)
    if opening:
        newline = "" if markdown.endswith("\n") else "\n"
        return f"{markdown}{newline}{closing(opening)}"
    return markdown
