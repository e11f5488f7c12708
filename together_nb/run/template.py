"""Fills names into a prompt: ``{name}``, ``{name.attr}``, ``{name[key]}``.

A name is filled in if it is defined; every other brace stays as typed, so JSON, LaTeX and code
paste unharmed. Nothing is called, no code is run, and filled-in text is not scanned again.

In code (Markdown's, and Python's f-strings) a user's name is filled in only if it is the whole content, as in a
fence around ``{code}``. Modules, the environment, what runs the notebook and secrets are never filled in. The names
of a batch's item are used on purpose, and are filled in in code too.
"""

from __future__ import annotations

import builtins
import keyword
import math
import os
import re
import unicodedata
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import ModuleType
from typing import Any, NamedTuple

from together_nb.errors import InputError
from together_nb.run.code_spans import code_in

# Single braces only: {{name}} belongs to other templates.
_FIELD = re.compile(
    r"""(?P<tex>\\[A-Za-z]+\*?(?:\{[^{}\n]*\})+|\^\{[^{}\n]*\})  # a command of LaTeX and its arguments
    |(?<!\{)\{
        (?P<root>[^\W\d]\w*)
        (?P<path>(?:\.[^\W\d]\w*|\[(?:-?\d+|[^\W\d]\w*|'[^'\n]*'|"[^"\n]*")\])*)
    \}(?!\})""",
    re.VERBOSE,
)
_IPYTHONS_OWN = frozenset({"In", "Out", "get_ipython", "exit", "quit", "open", "_", "_i", "_ih", "_oh", "_dh"})
_HISTORY = frozenset({"In", "Out", "_ih", "_oh", "_dh"})
_NO_TEXTS = _HISTORY | {"get_ipython", "exit", "quit"}
_INPUT = re.compile(r"_i+|_i\d+")  # IPython's names for earlier cells
_STEP = re.compile(
    r"""\.(?P<attribute>\w+)|\[(?:(?P<number>-?\d+)|'(?P<single>[^']*)'|"(?P<double>[^"]*)"|(?P<word>\w+))\]"""
)
_Environment = type(os.environ)
_LEAST_ENVIRONMENT = 60  # characters
_HOLDERS = (list, tuple, dict, set, frozenset, bytes, bytearray)  # their text is at least as long as their `len`


class Filler:
    """Fills in the texts of a request; a name has the same value in all of them.

    Parameters
    ----------
    names
        The defined names.
    items
        Names of a batch's item: they precede `names`, and are filled in in code too.
    limit
        The most characters to fill into a text.
    is_secret
        Whether a value must never be filled in; called for each text, and for each value that leads to it.

    Attributes
    ----------
    values
        The text for each name met so far; None if it stays as typed.
    """

    def __init__(
        self,
        names: Mapping[str, Any],
        items: Mapping[str, Any] | None = None,
        *,
        limit: float = math.inf,
        is_secret: Callable[[Any], bool] = lambda _: False,
    ) -> None:
        self.values: dict[str, str | None] = {}
        self._names = names
        self._items = items or {}
        self._limit = limit
        self._is_secret = is_secret

    def fill(self, text: str) -> tuple[str, tuple[str, ...]]:
        """Return `text` with the names filled in, and the names that were, each once.

        Raises
        ------
        InputError
            More than the limit would be filled in.
        """
        out: list[str] = []
        filled: dict[str, None] = {}
        left = self._limit
        end = 0
        for field in _fields(text):
            of_item = _spelled(field.root) in self._items
            value = None if field.in_code and not of_item else self._value(field, of_item)
            if value is None:
                continue
            left -= len(value)
            if left < 0:
                raise self._too_long("What is filled in is", self._limit - left)
            out += text[end : field.start], value
            end = field.end
            filled[field.name] = None
        return "".join((*out, text[end:])), tuple(filled)

    def fill_both(self, prompt: str, system: str | None) -> tuple[str, str | None, tuple[str, ...]]:
        """Return a prompt and a system prompt with the names filled in, and the names that were."""
        prompt, names = self.fill(prompt)
        others: tuple[str, ...] = ()
        if system is not None:
            system, others = self.fill(system)
        return prompt, system, tuple(dict.fromkeys((*names, *others)))

    def _value(self, field: _Field, of_item: bool) -> str | None:
        """Return the text for a name, or None if it stays as typed."""
        name = field.name
        if name in self.values:
            return self.values[name]
        self.values[name] = None
        try:
            found = self._found(field, of_item)
            least = len(found) if type(found) in _HOLDERS else 0
            text = "" if least > self._limit else str.__str__(str(found))
            length = max(least, len(text))
            if length <= self._limit and (self._is_secret(text) or _is_environment(text)):
                return None
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001  (a property or a __str__ of the user's may raise anything)
            return None
        if length > self._limit:
            raise self._too_long(f"{{{name}}} is", length)
        self.values[name] = text
        return text

    def _found(self, field: _Field, of_item: bool) -> Any:
        """Return the value that a name leads to.

        Raises
        ------
        LookupError
            It leads nowhere, or to or through something that is never filled in.
        """
        root = _spelled(field.root)
        if not of_item and (root.startswith("__") or _INPUT.fullmatch(root) or (root in _NO_TEXTS and not field.path)):
            raise LookupError(root)
        found = _item(self._items if of_item else self._names, root)
        for step in _STEP.finditer(field.path):
            self._check(found)
            if step["attribute"] is not None:
                if step["attribute"].startswith("_"):
                    raise LookupError(step["attribute"])
                found = getattr(found, step["attribute"])
            elif step["number"] is not None:
                found = _item(found, int(step["number"]))
            else:
                found = _item(found, next(one for one in step.group("single", "double", "word") if one is not None))
        self._check(found)
        # Functions, classes and modules are not text: `{open}` and `{json}` stay as typed.
        if (
            callable(found)
            or isinstance(found, ModuleType)
            or any(found is self._names.get(name) for name in _HISTORY if isinstance(found, (list, dict)))
        ):
            raise LookupError(root)
        return found

    def _check(self, found: Any) -> None:
        """Raise a `LookupError` for a value that is never filled in, nor any part of it."""
        namespace = isinstance(found, dict) and ("__builtins__" in found or "__spec__" in found)
        if found is self._names or namespace or isinstance(found, _Environment):
            raise LookupError
        if not (isinstance(found, str) and str.__len__(found) > self._limit) and self._is_secret(found):
            raise LookupError  # a text over the limit is refused anyway, unread

    def _too_long(self, what: str, length: float) -> InputError:
        return InputError(
            f"{what} {length:,} characters long; at most {self._limit:,} are filled in.",
            "Use less of it, or raise the limit: `%config TogetherMagics.fill_limit` or `settings.fill_limit`.",
        )


def fill(text: str, names: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Return `text` with the names filled in, and the names that were, each once.

    Parameters
    ----------
    text
        The prompt as typed.
    names
        The defined names.
    """
    return Filler(names).fill(text)


def _spelled(name: str) -> str:
    """Return `name` as Python normalizes it."""
    return unicodedata.normalize("NFKC", name)


def _item(holder: Any, key: Any) -> Any:
    if isinstance(holder, Mapping) and key not in holder:
        raise KeyError(key)  # a defaultdict would create it
    return holder[key]


def _is_environment(text: str) -> bool:
    """Whether it is most of the environment, in any form."""
    if len(text) < _LEAST_ENVIRONMENT:
        return False
    values = {value for value in os.environ.values() if len(value) > 3}  # noqa: PLR2004  (shorter ones stand in any text)
    words = sum(value in text or repr(value)[1:-1] in text for value in values)
    return len(values) > 4 and words > len(values) / 2  # noqa: PLR2004


def variable(name: str) -> str | None:
    """Return `name` as Python normalizes it, or None if no variable should have it.

    That is: invalid names, keywords, Python's own names (``print``), and IPython's (``In``, ``get_ipython``).
    """
    spelled = _spelled(name)
    if not spelled.isidentifier() or keyword.iskeyword(spelled) or hasattr(builtins, spelled):
        return None
    return None if spelled.startswith("__") or spelled in _IPYTHONS_OWN else spelled


class _Field(NamedTuple):
    """A name in braces."""

    root: str
    path: str
    start: int
    end: int
    in_code: bool  # and not its whole content

    @property
    def name(self) -> str:
        return self.root + self.path


def _is_field(content: str) -> bool:
    field = _FIELD.fullmatch(content)
    return field is not None and field["root"] is not None


@lru_cache(4)  # a template is the same for each item
def _fields(text: str) -> tuple[_Field, ...]:
    """Return the names in braces, in order."""
    found = [match for match in _FIELD.finditer(text) if match["root"]]
    if not found:
        return ()
    kept = [code for code in code_in(text) if not _is_field(code.content)]
    fields = []
    number = reach = 0
    for match in found:
        while number < len(kept) and kept[number].start < match.end():
            reach = max(reach, kept[number].end)
            number += 1
        fields.append(_Field(match["root"], match["path"], *match.span(), match.start() < reach))
    return tuple(fields)
