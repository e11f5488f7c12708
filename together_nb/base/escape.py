r"""Model text escaped for a terminal and for Markdown.

A model's answer is not trusted. Terminals obey escape sequences (``\x1b]52;…`` writes the
clipboard), and Markdown obeys an unclosed fence. Nothing is dropped here: what would be obeyed
is shown instead.
"""

from __future__ import annotations

import re
from functools import cache

# C0 and C1 controls except tab and newline, and the bidirectional controls that reorder a line.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_MARKDOWN_ANYWHERE = re.compile(r"[\\`*_\[\]<>&$|~^]|://|(?<=\bwww)\.|(?<=\w)@(?=\w)")
# Begins a heading, a list, a rule or an underline at the start of a line.
_MARKDOWN_LINE_START = re.compile(r"^([ ]*\d*)([#+=:.)-])", re.MULTILINE)
_SPACES = re.compile(r"^[ ]+|[ ]{2,}|[ ]+$", re.MULTILINE)


def visible(text: str) -> str:
    r"""Return `text` with control characters shown as ``\x1b``, ``\u202e`` and so on.

    Tab and newline stay; a carriage return before a newline is dropped, any other is shown.
    Lone surrogates, which no encoding can carry, become U+FFFD.
    """
    if text.isascii() and text.isprintable():
        return text
    text = text.replace("\r\n", "\n")
    return _CONTROL.sub(lambda match: _code(match.group()), without_surrogates(text))


@cache
def _code(character: str) -> str:
    return f"\\x{ord(character):02x}" if character <= "\xff" else f"\\u{ord(character):04x}"


def without_surrogates(text: str) -> str:
    r"""Join the surrogate pairs of `text` and replace lone surrogates by U+FFFD.

    JSON can spell half a character (``"\ud83d"``); neither UTF-8 nor a socket can carry it.
    """
    if _SURROGATE.search(text) is None:
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def literal(text: str) -> str:
    """Return Markdown that renders as `text`, character for character, with line breaks and spaces.

    It uses entities rather than backslashes: every renderer (JupyterLab, GitHub, nbconvert)
    leaves them alone, even the passes that look for maths before the Markdown is parsed.
    """
    text = visible(text).expandtabs(4)
    text = _MARKDOWN_ANYWHERE.sub(lambda match: _entities(match.group()), text)
    text = _MARKDOWN_LINE_START.sub(lambda match: match.group(1) + _entities(match.group(2)), text)
    text = _SPACES.sub(lambda match: "&nbsp;" * len(match.group()), text)
    return _lines(text)


@cache
def _entities(characters: str) -> str:
    return "".join(entity(character) for character in characters)


def entity(character: str) -> str:
    """Spell `character` so that neither Markdown nor MathJax interprets it.

    MathJax looks for formulas in the finished page, where entities are decoded, but not across elements.
    """
    spelled = f"&#{ord(character)};"
    return f"<span>{spelled}</span>" if character in "$\\" else spelled


def _lines(text: str) -> str:
    """Make line breaks within a paragraph hard, and keep blank lines from collapsing."""
    lines = text.split("\n")
    out: list[str] = []
    for number, line in enumerate(lines):
        before = lines[number - 1] if number else ""
        if line:
            following = lines[number + 1] if number + 1 < len(lines) else ""
            out.append(line + "  " if following else line)
        elif not before and 0 < number < len(lines) - 1:
            out.extend(("&nbsp;", ""))
        else:
            out.append("")
    return "\n".join(out)
