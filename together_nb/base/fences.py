"""Fenced blocks of Markdown: written, found, and closed where they are left open."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeGuard

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


_OPENING = re.compile(r"(`{3,}|~{3,})[ \t]*([\w+#.-]*)")


def one_block(text: str) -> tuple[str, str] | None:
    """Language and code of `text` where it is one fenced block and nothing else."""
    first, *code = text.strip().split("\n")
    fence, language = _opening(first)
    if not fence or not code or code[-1].strip() != fence:
        return None
    if any(line.lstrip().startswith(fence) for line in code[:-1]):  # two blocks, and text between
        return None
    return language, "\n".join(code[:-1])


def _opening(line: str) -> tuple[str, str]:
    """The fence and the language of a line that opens a block; "" twice where it opens none."""
    opening = _OPENING.match(line)
    return ("", "") if opening is None or "`" in line[opening.end() :] else (opening[1], opening[2])


def fenced_blocks(text: str) -> list[tuple[str, str]]:
    """Language and code of each fenced block of `text`, in order; of one that is not closed, what has come."""
    blocks: list[tuple[str, str]] = []
    fence, language, indent = "", "", ""
    code: list[str] = []
    for line in text.split("\n"):
        if not fence:
            fence, language = _opening(line.strip())
            indent, code = line[: len(line) - len(line.lstrip())], []  # of a list's item
        elif re.fullmatch(rf"{re.escape(fence[0])}{{{len(fence)},}}", line.strip()):
            blocks.append((language, "\n".join(code)))
            fence = ""
        else:
            code.append(line.removeprefix(indent))
    return [*blocks, (language, "\n".join(code))] if fence else blocks


# A list's item may begin with a fence. None begins deeper than `harmless` has any.
_FENCE = re.compile(
    r"(?P<before>(?:[ \t]|(?:[-*+]|\d{1,9}[.)])(?=[ \t])){0,500})(?P<fence>`{3,}|~{3,})(?P<info>[^\n]*)"
)


def fenced(text: str, language: str = "") -> str:
    """A fenced code block that holds `text` whatever backticks are in it."""
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
    """After each line, the line that opened the code block or ``$$`` that goes on, or ""."""
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
    # Four spaces make it code, unless both stand in a list's item.
    return len(match["before"]) < 4 or in_list  # noqa: PLR2004


def closing(opening: str) -> str:
    """The line that closes what the line `opening` opened, as far indented: it may stand in a list's item."""
    match = _FENCE.match(opening)
    return re.sub(r"\S", " ", match["before"]) + match["fence"] if match else "$$"


def balanced(markdown: str) -> str:
    """`markdown` with what it leaves open closed, so that text after it stands on its own."""
    opening = open_fence(markdown)
    if opening:
        newline = "" if markdown.endswith("\n") else "\n"
        return f"{markdown}{newline}{closing(opening)}"
    return markdown
