"""Names filled in in a prompt: ``{name}``, ``{name.attr}``, ``{name[key]}``.

A name is filled in where it is defined; every other brace stays as typed, so JSON, LaTeX and code
paste unharmed. Nothing is called, no code is run, and what was filled in is not looked at again.
"""

from __future__ import annotations

import builtins
import keyword
import re
import unicodedata
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

# Single braces only: {{name}} is a template's own.
_FIELD = re.compile(
    r"""(?P<tex>\\[A-Za-z]+\*?(?:\{[^{}\n]*\})+|\^\{[^{}\n]*\})  # a command of LaTeX and its arguments
    |(?<!\{)\{
        (?P<root>[^\W\d]\w*)
        (?P<path>(?:\.[^\W\d]\w*|\[(?:-?\d+|[^\W\d]\w*|'[^'\n]*'|"[^"\n]*")\])*)
    \}(?!\})""",
    re.VERBOSE,
)
_IPYTHONS_OWN = frozenset({"In", "Out", "get_ipython", "exit", "quit", "open", "_", "_i", "_ih", "_oh", "_dh"})
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
        if match["tex"]:
            return match.group()
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
    found = names[unicodedata.normalize("NFKC", root)]
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


def variable(name: str) -> str | None:
    """`name` as Python spells it, or None where no variable should be called so.

    Besides what is no name at all: keywords, names of Python's own (``print``), and those by which
    IPython does its work (``In``, ``get_ipython``).
    """
    spelled = unicodedata.normalize("NFKC", name)
    if not spelled.isidentifier() or keyword.iskeyword(spelled) or hasattr(builtins, spelled):
        return None
    return None if spelled.startswith("__") or spelled in _IPYTHONS_OWN else spelled
