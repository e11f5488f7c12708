r"""Texts that a regular expression matches: what `pattern` and `format` ask for, drawn by dice.

Read are letters, ``.``, classes (``[a-z_]``, ``\d``, ``\w``, ``\s``), groups, ``|``, the quantifiers
``? * + {m,n}``, and ``^`` and ``$`` at the ends of the whole. What looks ahead, behind or back is not.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from typing import TYPE_CHECKING

from together_nb.errors import InputError

if TYPE_CHECKING:
    import random

_WORD = string.ascii_letters + string.digits + "_"
_PRINTED = "".join(map(chr, range(32, 127)))
_CLASSES = {"d": string.digits, "w": _WORD, "s": " "}
_CONTROLS = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v"}
_COUNT = re.compile(r"\{(\d+)(?:(,)(\d*))?\}")
_LONGEST_COUNT = 1000
_MORE = 5  # how often more than at least, where nothing says
_TRIES = 200
_DEEPEST = 50

# What validators take for each; the words are such as stand in prose about computing.
_NAME = "(ada|alan|grace|edsger|barbara|donald|hedy|margaret)"
_TIME = r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d"
_DATE = r"(19|20)\d\d-(0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])"
_HOST = r"(www|docs|library)\.example\.(com|org|net)"
FORMATS = {
    "date": _DATE,
    "time": _TIME + "Z",
    "date-time": _DATE + "T" + _TIME + "Z",
    "duration": r"P[1-9]DT[1-9]H",
    "email": _NAME + r"@example\.(com|org|net)",
    "idn-email": _NAME + r"@example\.(com|org|net)",
    "hostname": _HOST,
    "idn-hostname": _HOST,
    "uri": "https://" + _HOST + "/" + _NAME,
    "uri-reference": "/" + _NAME,
    "iri": "https://" + _HOST + "/" + _NAME,
    "iri-reference": "/" + _NAME,
    "uri-template": "https://" + _HOST + "/" + _NAME,
    "uuid": "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    "ipv4": r"192\.0\.2\.[1-9]\d?",  # addresses that are kept for documents (RFC 5737, RFC 3849)
    "ipv6": "2001:db8::[1-9a-f][0-9a-f]{0,3}",
    "json-pointer": "/" + _NAME,
    "relative-json-pointer": "[0-9]/" + _NAME,
    "regex": "[a-z]{2,5}",
}
"""A pattern for each `format` that is made; the others are notes, as JSON Schema has it."""


@dataclass(frozen=True)
class _Letters:
    """One of some characters."""

    among: str

    def draw(self, dice: random.Random) -> str:
        return dice.choice(self.among)


@dataclass(frozen=True)
class _Sequence:
    """One part after the other."""

    parts: tuple[_Letters | _Repeated | _Either, ...]

    def draw(self, dice: random.Random) -> str:
        return "".join(part.draw(dice) for part in self.parts)


@dataclass(frozen=True)
class _Repeated:
    """A part some times."""

    part: _Letters | _Either
    least: int
    most: int

    def draw(self, dice: random.Random) -> str:
        return "".join(self.part.draw(dice) for _ in range(dice.randint(self.least, self.most)))


@dataclass(frozen=True)
class _Either:
    """One of some sequences."""

    alternatives: tuple[_Sequence, ...]

    def draw(self, dice: random.Random) -> str:
        return dice.choice(self.alternatives).draw(dice)


def compiled(source: str) -> re.Pattern[str]:
    """The expression, to search with.

    Raises
    ------
    InputError
        It is none.
    """
    try:
        return re.compile(source)
    except (re.error, RecursionError, OverflowError) as error:
        raise InputError(f"The pattern {source!r} is no regular expression: {error}.") from None


class Pattern:
    """A regular expression that texts are drawn for.

    Parameters
    ----------
    source
        The expression.
    least, most
        Lengths of the texts, in characters; `most` None is no limit.
    also
        A second expression that they must match.

    Raises
    ------
    InputError
        It is no regular expression, or one that looks around, or has no text of such a length.
    """

    def __init__(self, source: str, least: int = 0, most: int | None = None, also: str = "") -> None:
        self._searches = [compiled(source).search, compiled(also).search]
        self._least, self._most = least, most
        self._whole = _Parser(source).parsed()

    def draw(self, dice: random.Random) -> str | None:
        """A text that matches and has the length, or None if many tries found none."""
        for _ in range(_TRIES):
            text = self._whole.draw(dice)
            if self._least <= len(text) <= (len(text) if self._most is None else self._most) and all(
                search(text) for search in self._searches
            ):
                return text
        return None


class _Parser:
    """Reads an expression from left to right."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._at = 0
        self._depth = 0

    def parsed(self) -> _Either:
        whole = self._either()
        if self._at < len(self._source):
            raise self._unread()
        return whole

    def _unread(self) -> InputError:
        return InputError(
            f"The pattern {self._source!r} cannot be honoured from {self._source[self._at :]!r} on.",
            "Letters, classes, groups, | and the quantifiers can.",
        )

    def _peek(self) -> str:
        return self._source[self._at : self._at + 1]

    def _next(self) -> str:
        if not (character := self._peek()):
            raise self._unread()
        self._at += 1
        return character

    def _either(self) -> _Either:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._unread()
        alternatives = [self._sequence()]
        while self._peek() == "|":
            self._at += 1
            alternatives.append(self._sequence())
        self._depth -= 1
        return _Either(tuple(alternatives))

    def _sequence(self) -> _Sequence:
        parts: list[_Letters | _Repeated | _Either] = []
        while (character := self._peek()) and character not in "|)":
            if (character == "^" and not parts) or (
                character == "$" and self._source[self._at + 1 :][:1] in ("", "|", ")")
            ):
                self._at += 1  # what is drawn is checked by the expression itself
                continue
            parts.append(self._quantified(self._part()))
        return _Sequence(tuple(parts))

    def _part(self) -> _Letters | _Either:
        start = self._at
        character = self._next()
        if character == "(":
            if self._peek() == "?":
                named = re.compile(r"\?(?::|P?<[A-Za-z_]\w*>)").match(self._source, self._at)
                if not named:
                    raise self._unread()
                self._at = named.end()
            inner = self._either()
            if self._next() != ")":
                raise self._unread()
            return inner
        if character == "[":
            return _Letters(self._class())
        if character == ".":
            return _Letters(string.ascii_lowercase)
        if character == "\\":
            return _Letters(self._escaped())
        if character in "^$*+?":
            self._at = start
            raise self._unread()
        return _Letters(character)

    def _escaped(self) -> str:
        """The characters that an escape stands for, its backslash having been read."""
        character = self._next()
        if character in _CLASSES:
            return _CLASSES[character]
        if character.lower() in _CLASSES:
            return "".join(other for other in _PRINTED if other not in _CLASSES[character.lower()])
        if character in _CONTROLS:
            return _CONTROLS[character]
        if character.isalnum():  # a border, a reference, a property
            self._at -= 2
            raise self._unread()
        return character

    def _class(self) -> str:
        excluded = self._peek() == "^"
        self._at += excluded
        letters: list[str] = []
        while (character := self._next()) != "]" or not letters:
            first = self._escaped() if character == "\\" else character
            if self._peek() == "-" and self._source[self._at + 1 : self._at + 2] not in ("", "]") and len(first) == 1:
                self._at += 1
                last = self._escaped() if (character := self._next()) == "\\" else character
                first = "".join(map(chr, range(ord(first), min(ord(last[0]), ord(first) + 255) + 1)))
            letters.append(first)
        among = "".join(letters)
        if excluded:
            among = "".join(other for other in _PRINTED if other not in among)
        if not among:
            raise self._unread()
        return among

    def _quantified(self, part: _Letters | _Either) -> _Letters | _Either | _Repeated:
        counted = _COUNT.match(self._source, self._at)
        if counted:
            self._at = counted.end()
            least = int(counted[1])
            most = least if not counted[2] else int(counted[3]) if counted[3] else least + _MORE
        elif self._peek() and self._peek() in "?*+":
            sign = self._next()
            least, most = int(sign == "+"), 1 if sign == "?" else _MORE
        else:
            return part
        if least > _LONGEST_COUNT:
            raise InputError(f"The pattern {self._source!r} repeats more than {_LONGEST_COUNT} times.")
        if self._peek() == "?":  # whether it is greedy is nothing to what is drawn
            self._at += 1
        return _Repeated(part, least, min(most, least + _LONGEST_COUNT))
