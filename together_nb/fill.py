"""Names filled in in a prompt: ``{name}``, ``{name.attr}``, ``{name[key]}``.

A name is filled in where it is defined; every other brace stays as typed, so JSON, LaTeX and code
paste unharmed. Nothing is called, no code is run, and what was filled in is not looked at again.

In code, which is what Markdown takes for it and Python's f-strings, a name of the user's is filled in only where it
is all there is, as in a fence around ``{code}``. Modules, the environment, what runs the notebook and secrets are
filled in nowhere. The names of a batch's item are named on purpose, and stand for themselves in code too.
"""

from __future__ import annotations

import builtins
import keyword
import math
import os
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from types import ModuleType
from typing import Any, NamedTuple

from together_nb.errors import InputError

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
_HISTORY = frozenset({"In", "Out", "_ih", "_oh", "_dh"})
_NO_TEXTS = _HISTORY | {"get_ipython", "exit", "quit"}
_INPUT = re.compile(r"_i+|_i\d+")  # IPython's names for the cells before
_STEP = re.compile(
    r"""\.(?P<attribute>\w+)|\[(?:(?P<number>-?\d+)|'(?P<single>[^']*)'|"(?P<double>[^"]*)"|(?P<word>\w+))\]"""
)
_Environment = type(os.environ)
_LEAST_ENVIRONMENT = 60  # characters
_HOLDERS = (list, tuple, dict, set, frozenset, bytes, bytearray)  # as a text none is shorter than what it holds


class Filler:
    """Fills in the texts of a request; what a name came to in one of them it is in the others.

    Parameters
    ----------
    names
        What is defined.
    items
        Names of the item of a batch: they go before `names`, and are filled in in code too.
    limit
        The most characters to fill in in a text.
    is_secret
        Whether a value is never to be filled in; it is asked about each text, and about what leads to it.

    Attributes
    ----------
    values
        What stands for each name that was met; None where it stays as typed.
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
        """`text` with the names filled in, and what was filled in, each once.

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

    def _value(self, field: _Field, of_item: bool) -> str | None:
        """The text that stands for a name, or None where it stays as typed."""
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
        """What a name leads to.

        Raises
        ------
        LookupError
            It leads nowhere, or to or through what is never filled in.
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
        # `{open}` means what it says: functions and classes are no text.
        if callable(found) or any(
            found is self._names.get(name) for name in _HISTORY if isinstance(found, (list, dict))
        ):
            raise LookupError(root)
        return found

    def _check(self, found: Any) -> None:
        """Let nothing pass that is never filled in, and whose parts are not either."""
        namespace = isinstance(found, dict) and ("__builtins__" in found or "__spec__" in found)
        if found is self._names or namespace or isinstance(found, (ModuleType, _Environment)):
            raise LookupError
        if not (isinstance(found, str) and str.__len__(found) > self._limit) and self._is_secret(found):
            raise LookupError  # what is over the limit is refused unread

    def _too_long(self, what: str, length: float) -> InputError:
        return InputError(
            f"{what} {length:,} characters long; at most {self._limit:,} are filled in.",
            "Use less of it, or raise the limit: `%config TogetherMagics.fill_limit` or `settings.fill_limit`.",
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
    return Filler(names).fill(text)


def _spelled(name: str) -> str:
    """`name` as Python spells it."""
    return unicodedata.normalize("NFKC", name)


def _item(holder: Any, key: Any) -> Any:
    if isinstance(holder, Mapping) and key not in holder:
        raise KeyError(key)  # which a defaultdict would make
    return holder[key]


def _is_environment(text: str) -> bool:
    """Whether it is most of the environment, in whatever form."""
    if len(text) < _LEAST_ENVIRONMENT:
        return False
    values = {value for value in os.environ.values() if len(value) > 3}  # noqa: PLR2004  (shorter ones stand in any text)
    told = sum(value in text or repr(value)[1:-1] in text for value in values)
    return len(values) > 4 and told > len(values) / 2  # noqa: PLR2004


def variable(name: str) -> str | None:
    """`name` as Python spells it, or None where no variable should be called so.

    Besides what is no name at all: keywords, names of Python's own (``print``), and those by which
    IPython does its work (``In``, ``get_ipython``).
    """
    spelled = _spelled(name)
    if not spelled.isidentifier() or keyword.iskeyword(spelled) or hasattr(builtins, spelled):
        return None
    return None if spelled.startswith("__") or spelled in _IPYTHONS_OWN else spelled


# Where code is


class _Field(NamedTuple):
    """A name in braces."""

    root: str
    path: str
    start: int
    end: int
    in_code: bool  # and not all there is of it

    @property
    def name(self) -> str:
        return self.root + self.path


class _Code(NamedTuple):
    """A piece of code, and what stands in it but for white space."""

    start: int
    end: int
    content: str

    def is_field(self) -> bool:
        field = _FIELD.fullmatch(self.content)
        return field is not None and field["root"] is not None


@lru_cache(4)  # a template is the same for each item
def _fields(text: str) -> tuple[_Field, ...]:
    """The names in braces, in their order."""
    found = [match for match in _FIELD.finditer(text) if match["root"]]
    if not found:
        return ()
    code = _Blocks(text).code()
    kept = sorted([*(one for one in code if not one.is_field()), *_literals(text, code)])
    fields = []
    number = reach = 0
    for match in found:
        while number < len(kept) and kept[number].start < match.end():
            reach = max(reach, kept[number].end)
            number += 1
        fields.append(_Field(match["root"], match["path"], *match.span(), match.start() < reach))
    return tuple(fields)


_LINE = re.compile(r"[^\r\n]+|\r\n|\r|\n")
_BLANKS = re.compile(r"[ \t]*")
_ITEM = re.compile(r"(?:[-+*]|(?P<number>\d{1,9})[.)])(?=[ \t]|\Z)")
_RULE = re.compile(r"(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})\Z")
_UNDERLINE = re.compile(r"(?:=+|-+)[ \t]*\Z")
_HEADING = re.compile(r"#{1,6}(?=[ \t]|\Z)")
_FENCE = re.compile(r"(?P<fence>`{3,})[^`]*\Z|(?P<tildes>~{3,})")
_TICKS = re.compile("`+")
_QUOTATION = 0  # in place of the width of a list's item
_DEEPEST = 100  # lists and quotations, one within the other
_CODE_INDENT = 4


class _Blocks:
    """Code as CommonMark has it: fences, indented blocks, spans; quotations and lists are looked into.

    Parameters
    ----------
    text
        The Markdown.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._found: list[_Code] = []
        self._within: list[int] = []  # the lists and quotations that are open: the width of an item's indentation
        self._fence = ""  # what opened the block that is open
        self._start = 0  # of the paragraph or block of code that is open
        self._end = 0
        self._content: list[str] | None = None  # of the block of code
        self._paragraph = False
        self._empty_item = False  # whether the line before began one
        self._closings: dict[str, int] = {}  # the next line that closes a fence which its list or quotation has ended

    def code(self) -> list[_Code]:
        """All of it, in its order."""
        for line in _LINE.finditer(self._text):
            if line.group()[0] not in "\r\n":
                self._line(*line.span())
            elif line.start() == 0 or self._text[line.start() - 1] in "\r\n":
                self._line(line.start(), line.start())
        self._finish()
        return sorted(self._found)

    def _line(self, start: int, end: int) -> None:
        at, column, base, matched = self._continued(start, end)
        if self._fence and matched == len(self._within):
            self._in_fence(at, end, column - base)
            return
        if self._fence:
            self._lapse(start)
        within = self._within[:matched]
        if self._empty_item and at == end and within == self._within:
            within.pop()  # an item that is empty ends with its line, unless the next one goes on
        self._empty_item = False
        goes_on = self._paragraph and matched == len(self._within)
        while at < end and column - base < _CODE_INDENT and len(within) < _DEEPEST:
            item = _ITEM.match(self._text, at, end)
            if self._text[at] == ">":
                at, column, base = self._after_mark(at, end, column)
                within.append(_QUOTATION)
            elif item and not _RULE.match(self._text, at, end):
                after, width = self._indent(item.end(), end, column + len(item.group()))
                if goes_on and (after == end or item["number"] not in (None, "1")):
                    break
                first = column + len(item.group())
                blanks = width - first if after < end and width - first <= _CODE_INDENT else 1
                within.append(first + blanks - base)
                at, column, base = after, width, first + blanks
                self._empty_item = at == end
            else:
                break
            goes_on = False
            self._finish()
        self._leaf(at, end, column - base, within)

    def _continued(self, at: int, end: int) -> tuple[int, int, int, int]:
        """Where a line's own text begins, its column, that of the indentation, and how many that are open it is within."""
        at, column = self._indent(at, end, 0)
        base = 0
        for matched, width in enumerate(self._within):
            if width == _QUOTATION:
                if at == end or column - base >= _CODE_INDENT or self._text[at] != ">":
                    return at, column, base, matched
                at, column, base = self._after_mark(at, end, column)
            elif at == end or column - base >= width:
                base += width
            else:
                return at, column, base, matched
        return at, column, base, len(self._within)

    def _after_mark(self, at: int, end: int, column: int) -> tuple[int, int, int]:
        """What follows the ``>`` of a quotation, of which a blank is part."""
        base = column + 1
        at, column = self._indent(at + 1, end, base)
        return at, column, base + (column > base)

    def _indent(self, at: int, end: int, column: int) -> tuple[int, int]:
        """The next character that is no blank, and its column."""
        blanks = _BLANKS.match(self._text, at, end).group()  # type: ignore[union-attr]
        if "\t" not in blanks:
            return at + len(blanks), column + len(blanks)
        for blank in blanks:
            column += 4 - column % 4 if blank == "\t" else 1
        return at + len(blanks), column

    def _lapse(self, start: int) -> None:
        """End a fence with the list or quotation that it is in, and take for code what goes on to where it is closed.

        Code is pasted into a list without its indentation; CommonMark takes it for text, and who pasted it does not.
        """
        if self._closings.get(self._fence, -1) < start:
            line = rf"^[ \t>]*{self._fence}{self._fence[0]}*[ \t]*\r?$"
            closing = re.compile(line, re.MULTILINE).search(self._text, start)
            self._closings[self._fence] = len(self._text) if closing is None else closing.start()
            if closing is not None:
                self._found.append(_Code(start, closing.end(), self._text[start : closing.start()].strip()))
        self._finish()

    def _in_fence(self, at: int, end: int, indent: int) -> None:
        line = self._text[at:end].rstrip(" \t")
        if indent < _CODE_INDENT and line.startswith(self._fence) and not line.strip(self._fence[0]):
            self._end = end
            self._finish()
        elif line:
            self._content.append(line)  # type: ignore[union-attr]
            self._end = end

    def _leaf(self, at: int, end: int, indent: int, within: list[int]) -> None:
        """What a line holds, within its lists and quotations."""
        line = (self._text, at, end)
        if at == end:
            if self._paragraph or within != self._within:
                self._finish()
            self._within = within
        elif indent < _CODE_INDENT and (fence := _FENCE.match(*line)):
            self._begin(end, within, fence["fence"] or fence["tildes"])
            self._found.append(_Code(at, end, ""))
        elif indent >= _CODE_INDENT and not self._paragraph:
            if self._content is None or self._within != within:
                self._begin(at, within)
            self._content.append(self._text[at:end].strip())  # type: ignore[union-attr]
            self._end = end
        elif indent < _CODE_INDENT and (_HEADING.match(*line) or _RULE.match(*line)):
            self._finish()
            self._within = within
            self._spans(at, end)
        elif self._paragraph:
            self._end = end
            if self._within == within and indent < _CODE_INDENT and _UNDERLINE.match(*line):
                self._finish()
        else:
            self._finish()
            self._within = within
            self._paragraph, self._start, self._end = True, at, end

    def _begin(self, at: int, within: list[int], fence: str = "") -> None:
        self._finish()
        self._within, self._fence, self._start, self._content = within, fence, at, []
        self._end = at

    def _finish(self) -> None:
        """End the paragraph or the block of code that is open."""
        if self._content is not None:
            self._found.append(_Code(self._start, self._end, "\n".join(self._content)))
        elif self._paragraph:
            self._spans(self._start, self._end)
        self._fence, self._content, self._paragraph = "", None, False

    def _spans(self, start: int, end: int) -> None:
        """The spans of code in a paragraph: from backticks to the next that are as many."""
        ticks = [one.span() for one in _TICKS.finditer(self._text, start, end)]
        closing: dict[int, list[int]] = {}
        for number, (first, last) in enumerate(ticks):
            closing.setdefault(last - first, []).append(number)
        number = 0
        while number < len(ticks):
            first, last = ticks[number]
            before = self._text[start:first]
            first += (len(before) - len(before.rstrip("\\"))) % 2  # one that is escaped is none
            closings = closing.get(last - first, [])
            place = bisect_right(closings, number)
            if place < len(closings):
                number = closings[place]
                self._found.append(_Code(first, ticks[number][1], self._text[last : ticks[number][0]].strip()))
            start = ticks[number][1]
            number += 1


_OPENING = re.compile(r"""(?P<prefix>(?<!\w)(?:[ft]r?|r[ft]))?(?P<quote>'''|\"\"\"|['"])""", re.IGNORECASE)
_PARTS = re.compile(r"""\\.|['"\r\n]""", re.DOTALL)
_PARTS_OF_F = re.compile(rf"""\{{[^{{}}\r\n]*\}}|{_PARTS.pattern}""", re.DOTALL)
_FORMAT = re.compile(r"[\s)]*\.format(?:_map)?\(")
_NO_END = re.compile(r"""(?![bfrtu]{1,2}['"])[\w(']""", re.IGNORECASE)  # f'(x) is a derivative


def _literals(text: str, code: list[_Code]) -> Iterator[_Code]:
    """Python's f-strings, and what ``.format`` fills in, outside of `code`."""
    at = number = last = 0
    seen: dict[str, int] = {}  # how far was looked for the end of a literal, by its quotation mark
    while opening := _OPENING.search(text, at):
        start, at = opening.span()
        while number < len(code) and code[number].end <= start:
            number += 1
        if number < len(code) and code[number].start <= start:
            at = code[number].end
            continue
        quote = opening["quote"]
        if start < seen.get(quote, 0):
            continue
        # The second mark of "f" ends a literal.
        is_f = opening["prefix"] is not None and (start == last or text[start - 1 : start] != quote[0])
        end = _end_of_literal(text, quote, at, _PARTS_OF_F if is_f else _PARTS)
        seen[quote] = abs(end) - len(quote)
        if end > 0 and ((is_f and not (quote == "'" and _NO_END.match(text, end))) or _FORMAT.match(text, end)):
            yield _Code(start, end, "")
            at = last = end


def _end_of_literal(text: str, quote: str, at: int, parts: re.Pattern[str]) -> int:
    """The end of the literal whose content begins at `at`; less than 0, and how far it was looked for, if it has none."""
    if len(quote) > 1:
        found = text.find(quote, at)
        return -len(text) if found < 0 else found + len(quote)
    for part in parts.finditer(text, at):
        if part.group() in (quote, "\r", "\n"):
            return part.end() if part.group() == quote else -part.end()
    return -len(text)
