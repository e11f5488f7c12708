"""Names filled in in a prompt: ``{name}``, ``{name.attr}``, ``{name[key]}``.

A name is filled in where it is defined; every other brace stays as typed, so JSON, LaTeX and code
paste unharmed. Nothing is called, no code is run, and what was filled in is not looked at again.
"""

from __future__ import annotations

import keyword
import re
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

# Single braces only: {{name}} is a template's own.
_FIELD = re.compile(
    r"""(?<!\{)\{
        (?P<root>[^\W\d]\w*)
        (?P<path>(?:\.[^\W\d]\w*|\[(?:-?\d+|[^\W\d]\w*|'[^'\n]*'|"[^"\n]*")\])*)
    \}(?!\})""",
    re.VERBOSE,
)
_STEP = re.compile(
    r"""\.(?P<attribute>\w+)|\[(?:(?P<number>-?\d+)|'(?P<single>[^']*)'|"(?P<double>[^"]*)"|(?P<word>\w+))\]"""
)


def fill(text: str, names: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """`text` with the names filled in, and what was filled in, each once.

    Parameters
    ----------
    text
        The prompt as typed.
    names
        What is defined.
    """
    filled: dict[str, None] = {}

    def value(match: re.Match[str]) -> str:
        try:
            found = _look_up(match["root"], match["path"], names)
            # `{open}` and `{json}` mean what they say: functions, classes and modules are no text.
            if callable(found) or isinstance(found, ModuleType):
                return match.group()
            shown = str(found)
        except Exception:  # noqa: BLE001  (a property or a __str__ of the user's may raise anything)
            return match.group()
        filled[match["root"] + match["path"]] = None
        return shown

    return _FIELD.sub(value, text), tuple(filled)


def _look_up(root: str, path: str, names: Mapping[str, Any]) -> Any:
    found = names[root]
    for step in _STEP.finditer(path):
        if step["attribute"] is not None:
            if step["attribute"].startswith("_"):
                raise AttributeError(step["attribute"])
            found = getattr(found, step["attribute"])
        elif step["number"] is not None:
            found = found[int(step["number"])]
        else:
            found = found[next(key for key in (step["single"], step["double"], step["word"]) if key is not None)]
    return found


def bindable(name: str) -> bool:
    """Whether `name` can be a variable's name."""
    return name.isidentifier() and not keyword.iskeyword(name)
