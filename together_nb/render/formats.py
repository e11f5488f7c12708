"""How an answer is shown: the one table of `--show`, each row turning text into Markdown.

The views get the Markdown of the partial and of the whole answer from here; how they draw it
(widgets, a terminal, one display at the end) is up to them.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from together_nb.base.escape import literal, visible
from together_nb.base.fences import balanced, fenced, one_block
from together_nb.base.suggest import suggestion
from together_nb.errors import InputError
from together_nb.render.sanitize import harmless
from together_nb.values.parameters import AUTO

if TYPE_CHECKING:
    from collections.abc import Callable

_STRING_OR_SPACE = re.compile(r'("[^"\\]*(?:\\.[^"\\]*)*")|\s+')
_MOST_INDENTED = 8  # times as long as the code: deep in a value, a line of spaces would precede each number


@dataclass(frozen=True)
class Format:
    """One row of the table.

    Parameters
    ----------
    name
        What the user types after ``--show``.
    help
        One line for the help text.
    partial
        Text that is still growing → Markdown. The Markdown of two texts, one below the other, must
        read as that of their concatenation, up to the space between blocks.
    final
        The whole text → Markdown.
    markdown
        Whether the text is itself Markdown, so that it can be split between blocks.
    of_tokens
        Whether it shows the tokens with their probabilities (`together_nb.render.token_html`); `partial` and `final`
        are then used where only the text fits.
    """

    name: str
    help: str
    partial: Callable[[str], str]
    final: Callable[[str], str]
    markdown: bool = False
    of_tokens: bool = False


def _code(text: str) -> str:
    """The answer as code; an answer that is one fenced block keeps that block's language."""
    language, code = one_block(text) or ("", text)
    return fenced(visible(code), language)


def _json(text: str) -> str:
    """The answer as indented JSON, or as received if it is not JSON."""
    _, code = one_block(text) or ("", text)
    try:
        indented = _indented(json.loads(code, parse_constant=_no_constant), _MOST_INDENTED * len(code))
    except (ValueError, RecursionError):
        return fenced(visible(text), "json") + "\n\n*This is not valid JSON, so it is shown as it came.*"
    # Indenting would change long numbers, duplicate keys and escapes: then it stays as received.
    same = indented and _without_space(indented) == _without_space(code)
    return fenced(visible(indented if same else code), "json")


def _indented(value: Any, longest: int) -> str:
    """Return `value` as indented JSON; "" if it is longer than `longest`."""
    parts: list[str] = []
    for part in json.JSONEncoder(indent=2, ensure_ascii=False).iterencode(value):
        parts.append(part)
        longest -= len(part)
        if longest < 0:
            return ""
    return "".join(parts)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _without_space(code: str) -> str:
    return _STRING_OR_SPACE.sub(lambda found: found[1] or "", code)


def _markdown(text: str) -> str:
    return harmless(balanced(visible(text)))


def _text(text: str) -> str:
    # A completion mostly begins with a space, which would indent its first line.
    return literal(text[1:] if text[:1] == " " != text[1:2] else text)


def _nothing(text: str) -> str:  # noqa: ARG001  (one signature for all rows)
    return ""


FORMATS: dict[str, Format] = {
    row.name: row
    for row in (
        Format("markdown", "Markdown, drawn as it arrives", _markdown, _markdown, markdown=True),
        Format("text", "the characters as they are, nothing interpreted", _text, _text),
        Format("code", "one block of code", lambda text: fenced(visible(text)), _code),
        Format("json", "one block of JSON, indented at the end", lambda text: fenced(visible(text), "json"), _json),
        Format("tokens", "each token shaded by its probability, with the alternatives", _text, _text, of_tokens=True),
        Format("none", "nothing; the answer is in its variable", _nothing, _nothing),
    )
}
CODE, JSON = "code", "json"


def format_for(show: str, *, chat: bool) -> Format:
    """Return the row named `show`; ``auto`` is Markdown for a chat and text for a completion.

    Raises
    ------
    InputError
        There is no such row.
    """
    if show == AUTO:
        return FORMATS["markdown" if chat else "text"]
    if show not in FORMATS:
        known = (AUTO, *FORMATS)
        hint = suggestion(show, known) or f"Use one of: {', '.join(known)}."
        raise InputError(f"There is no way to show an answer called {show!r}.", hint)
    return FORMATS[show]
