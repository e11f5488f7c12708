r"""Random texts that match a regular expression, for `pattern` and `format`.

Supported are letters, ``.``, classes (``[a-z_]``, ``\d``, ``\w``, ``\s``), groups, ``|``, the quantifiers
``? * + {m,n}``, and ``^`` and ``$`` at the ends of an alternative; not lookaround or backreferences.

`re` is not used to search, since it may take exponential time: a `Matcher` follows all paths at once.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from together_nb.errors import InputError
from together_nb.local.effort import Effort

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable

_WORD = string.ascii_letters + string.digits + "_"
_PRINTED = "".join(map(chr, range(32, 127)))
_CLASSES = {"d": string.digits, "w": _WORD, "s": " "}
_CONTROLS = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v"}
_COUNT = re.compile(r"\{([0-9]+)(?:(,)([0-9]*))?\}")
_LONGEST_COUNT = 1000
_LONGEST_SOURCE = 2000
_LONGEST_TEXT = 10_000
_MOST_STATES = 20_000
_MOST_STEPS = 300_000  # to find one text, a tenth of a second
_MORE = 5  # repetitions beyond the least, if there is no limit
_TRIES = 200
_DEEPEST = 50

# Texts that validators accept; the words are common in prose about computing.
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
    "ipv4": r"192\.0\.2\.[1-9]\d?",  # reserved for documentation (RFC 5737, RFC 3849)
    "ipv6": "2001:db8::[1-9a-f][0-9a-f]{0,3}",
    "json-pointer": "/" + _NAME,
    "relative-json-pointer": "[0-9]/" + _NAME,
    "regex": "[a-z]{2,5}",
}
"""A pattern for each supported `format`; the others are annotations, as in JSON Schema."""


@dataclass(frozen=True)
class _Letters:
    """One character; `fits` tells whether it matches, and `among` has some that do, to draw from."""

    among: str
    fits: Callable[[str], Any]
    longest = 1

    def draw(self, dice: random.Random) -> str:
        return dice.choice(self.among)


@dataclass(frozen=True)
class _End:
    """An end of the text: the first for `^`, the last for `$`."""

    first: bool
    longest = 0

    def draw(self, dice: random.Random) -> str:
        del dice
        return ""


@dataclass(frozen=True)
class _Sequence:
    """One part after the other."""

    parts: tuple[_Part, ...]

    @cached_property
    def longest(self) -> int:
        return sum(part.longest for part in self.parts)

    def draw(self, dice: random.Random) -> str:
        return "".join(part.draw(dice) for part in self.parts)


@dataclass(frozen=True)
class _Repeated:
    """A repeated part; `limit` is the expression's, None for no limit, and `most` is the one for drawing."""

    part: _Letters | _Either
    least: int
    most: int
    limit: int | None

    @cached_property
    def longest(self) -> int:
        return self.most * self.part.longest

    def draw(self, dice: random.Random) -> str:
        return "".join(self.part.draw(dice) for _ in range(dice.randint(self.least, self.most)))


@dataclass(frozen=True)
class _Either:
    """One of several sequences."""

    alternatives: tuple[_Sequence, ...]

    @cached_property
    def longest(self) -> int:
        return max(part.longest for part in self.alternatives)

    def draw(self, dice: random.Random) -> str:
        return dice.choice(self.alternatives).draw(dice)


_Part = _Letters | _End | _Repeated | _Either


def compiled(source: str) -> re.Pattern[str]:
    """Compile the expression with `re`.

    Raises
    ------
    InputError
        It is invalid, or too long.
    """
    if len(source) > _LONGEST_SOURCE:
        raise InputError(f"A pattern has more than {_LONGEST_SOURCE} characters.")
    try:
        return re.compile(source)
    except (re.error, RecursionError, OverflowError) as error:
        raise InputError(f"The pattern {source!r} is no regular expression: {error}.") from None


class Matcher:
    """Searches texts for a regular expression, in at most characters times states steps.

    Parameters
    ----------
    source
        The expression.
    effort
        The budget for reading it.

    Raises
    ------
    InputError
        It is invalid or unsupported, or its texts are too long or its states too many.
    """

    def __init__(self, source: str, effort: Effort) -> None:
        compiled(source)
        self.whole = _PatternReader(source).parsed()
        if self.whole.longest > _LONGEST_TEXT:
            raise InputError(f"The pattern {source!r} asks for more than {_LONGEST_TEXT} characters.")
        self._source, self._effort = source, effort
        # For each state: the character or end that must come, if any, and the states that follow.
        self._states: list[tuple[_Letters | _End | None, tuple[int, ...]]] = []
        self._found = self._state(None, ())
        self._start = self._either(self.whole, self._found)

    def _state(self, wants: _Letters | _End | None, after: tuple[int, ...]) -> int:
        if len(self._states) == _MOST_STATES or not self._effort.spend(5):
            raise InputError(f"The pattern {self._source!r} repeats too much.")
        self._states.append((wants, after))
        return len(self._states) - 1

    def _either(self, either: _Either, after: int) -> int:
        return self._state(None, tuple(self._sequence(each, after) for each in either.alternatives))

    def _sequence(self, sequence: _Sequence, after: int) -> int:
        for part in reversed(sequence.parts):
            after = self._part(part, after)
        return after

    def _part(self, part: _Part, after: int) -> int:
        if isinstance(part, _Either):
            return self._either(part, after)
        if not isinstance(part, _Repeated):
            return self._state(part, (after,))
        state = after
        if part.limit is None or part.limit > _LONGEST_TEXT:  # no text is that long
            state = self._state(None, ())
            self._states[state] = (None, (self._part(part.part, state), after))
        else:
            for _ in range(part.limit - part.least):
                state = self._state(None, (self._part(part.part, state), after))
        for _ in range(part.least):
            state = self._part(part.part, state)
        return state

    def search(self, text: str, effort: Effort) -> bool:
        """Whether it matches somewhere in `text`; False if the effort runs out or the text is too long."""
        if len(text) > _LONGEST_TEXT:
            return False
        waiting: set[int] = set()
        last = len(text) - text.endswith("\n")  # `$` also matches before a final line break
        for place in range(len(text) + 1):
            states = self._reached({*waiting, self._start}, first=place == 0, last=place >= last)
            if self._found in states:
                return True
            if not effort.spend(1 + len(states)) or place == len(text):
                break
            waiting = set()
            for state in states:
                wants, after = self._states[state]
                if isinstance(wants, _Letters) and wants.fits(text[place]):
                    waiting.update(after)
        return False

    def _reached(self, states: Iterable[int], *, first: bool, last: bool) -> set[int]:
        """The states and those reachable from them before the next character."""
        reached, queue = set(states), list(states)
        for state in queue:  # grows during the loop
            wants, after = self._states[state]
            if wants is None or (isinstance(wants, _End) and (first if wants.first else last)):
                new = [each for each in after if each not in reached]
                reached.update(new)
                queue += new
        return reached


class Pattern:
    """A regular expression to draw matching texts for.

    Parameters
    ----------
    source
        The expression.
    least, most
        Lengths of the texts, in characters; `most` None is no limit.
    also
        A second expression that they must match.
    effort
        The budget for reading them.

    Raises
    ------
    InputError
        One is invalid or unsupported, or its texts are too long or its states too many.
    """

    def __init__(
        self, source: str, least: int = 0, most: int | None = None, also: str = "", effort: Effort | None = None
    ) -> None:
        effort = effort or Effort(_MOST_STEPS)
        self._matchers = [Matcher(source, effort)]
        if also:
            self._matchers.append(Matcher(also, effort))
        self._least, self._most = least, most
        self._whole = self._matchers[0].whole

    def draw(self, dice: random.Random, effort: Effort | None = None) -> str | None:
        """Draw a matching text of the right length; None if many tries find none or the effort runs out."""
        whole = effort or Effort(_MOST_STEPS)
        own = Effort(_MOST_STEPS, whole.look)
        for _ in range(_TRIES if self._least <= self._whole.longest else 0):
            text = self._whole.draw(dice)
            before = own.left
            fits = own.spend(1 + len(text)) and self._least <= len(text) <= (
                len(text) if self._most is None else self._most
            )
            fits = fits and all(matcher.search(text, own) for matcher in self._matchers)
            if not whole.spend(before - own.left) or own.left < 0:
                return None
            if fits:
                return text
        return None


class _PatternReader:
    """Reads an expression from left to right."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._at = 0
        self._depth = 0
        self._letters: dict[str, _Letters] = {}

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
        parts: list[_Part] = []
        while (character := self._peek()) and character not in "|)":
            if (character == "^" and all(isinstance(part, _End) for part in parts)) or (
                character == "$" and self._source[self._at + 1 :][:1] in ("", "|", ")")
            ):
                self._at += 1
                parts.append(_End(first=character == "^"))
            else:
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
        if character in "^$*+?":
            self._at = start
            raise self._unread()
        if character == "[":
            among = self._class()
        elif character == ".":
            among = string.ascii_lowercase
        else:
            among = self._escaped() if character == "\\" else character
        source = self._source[start : self._at]
        if source not in self._letters:
            self._letters[source] = _Letters(
                among, re.compile(source).fullmatch if len(source) > 1 or source == "." else source.__eq__
            )
        return self._letters[source]

    def _escaped(self) -> str:
        """The characters that an escape stands for, after its backslash has been read."""
        character = self._next()
        if character in _CLASSES:
            return _CLASSES[character]
        if character.lower() in _CLASSES:
            return "".join(other for other in _PRINTED if other not in _CLASSES[character.lower()])
        if character in _CONTROLS:
            return _CONTROLS[character]
        if character.isalnum():  # a boundary, a backreference, a property
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
            limit = least if not counted[2] else int(counted[3]) if counted[3] else None
            more = _MORE
        elif self._peek() and self._peek() in "?*+":
            sign = self._next()
            least, limit = int(sign == "+"), 1 if sign == "?" else None
            more = _MORE - least
        elif self._source.startswith("{,", self._at):  # `re` reads a count, other engines letters
            raise self._unread()
        else:
            return part
        if least > _LONGEST_COUNT:
            raise InputError(f"The pattern {self._source!r} repeats more than {_LONGEST_COUNT} times.")
        if self._peek() == "?":  # greediness does not affect what is drawn
            self._at += 1
        if limit is not None:
            more = min(limit - least, _LONGEST_COUNT)
        if not part.longest:  # repeating an empty match adds nothing
            return _Repeated(part, min(least, 1), min(least, 1), 1 if limit is None else min(limit, 1))
        more = min(more, _LONGEST_TEXT // part.longest)  # keeps nested repetitions short
        return _Repeated(part, least, least + more, limit)
