"""A JSON Schema as a grammar: what may stand at each place of an answer.

A `Grammar` is a table of forms that refer to each other by number, so that a schema may refer to
itself. Each has a height, its least nesting depth, by which a writer finds an end.
"""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from together_nb.errors import InputError
from together_nb.local.flat_schema import Flat, SchemaResolver, canonical
from together_nb.local.patterns import FORMATS, Pattern
from together_nb.local.ranges import Numbers, numbers_of
from together_nb.local.validity import excludes, holds
from together_nb.local.vocabulary import tokens_of

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST_FORMS = 5000
_DEEPEST = 100
_LONGEST_TOKEN = 20  # characters, for the least number of tokens of a text
_LARGEST = 10**9
_MOST_TOKENS = 131_072  # of the context
# The type of a schema without ``type``, implied by another keyword.
_IMPLIED = {
    "properties": "object", "required": "object", "additionalProperties": "object", "items": "array",
    "prefixItems": "array", "minItems": "array", "maxItems": "array", "minimum": "number", "maximum": "number",
    "exclusiveMinimum": "number", "exclusiveMaximum": "number", "multipleOf": "number",
}  # fmt: skip


@dataclass(frozen=True)
class FixedValues:
    """One of several values, each as JSON; none if nothing is valid."""

    texts: tuple[str, ...]


@dataclass(frozen=True)
class Words:
    """A string of `least` to `most` characters; `most` None is no limit."""

    least: int
    most: int | None


@dataclass(frozen=True)
class Drawn:
    """A string drawn for a pattern; `sample` is an example."""

    pattern: Pattern
    sample: str


@dataclass(frozen=True)
class List:
    """An array: the first items have forms of their own, any others the form `rest`."""

    first: tuple[int, ...]
    rest: int | None
    least: int
    most: float
    unique: bool


@dataclass(frozen=True)
class Record:
    """An object: its members in order, and the names of the required ones."""

    members: tuple[tuple[str, int], ...]
    required: frozenset[str]


@dataclass(frozen=True)
class Alternatives:
    """One of several forms."""

    alternatives: tuple[int, ...]


Form = FixedValues | Numbers | Words | Drawn | List | Record | Alternatives


class Grammar:
    """The answers that a schema allows.

    Parameters
    ----------
    schema
        A JSON Schema.
    look
        Called regularly, also while answers are written; it may raise to abort the work.

    Attributes
    ----------
    forms
        The forms; the first is the whole answer's.
    heights
        The least nesting depth of each: 0 for a leaf, infinite for what cannot be written.
    tokens
        A lower bound on the tokens of an answer.
    look
        As given.

    Raises
    ------
    InputError
        The schema is malformed or unsupported, allows no value, or takes too much work.
    """

    def __init__(self, schema: Any, look: Callable[[], None] = lambda: None) -> None:
        self.look = look
        self._schemas = SchemaResolver(schema, look)
        self._varieties: dict[int, float] = {}
        self._numbers: dict[int, int] = {}
        self._waiting: list[Any] = []
        self.forms: list[Form] = []
        self._number(schema)
        for waiting in self._waiting:  # grows during the loop
            self.forms.append(self._form(waiting))
        self.heights = [math.inf] * len(self.forms)
        self._lower(self.heights, self._height)
        if self.heights[0] == math.inf:
            raise InputError("No answer of finite length can be valid by the schema.")
        if max(height for height in self.heights if height != math.inf) > _DEEPEST:
            raise InputError(f"The schema nests more than {_DEEPEST} deep.")
        self._tokens = cache(_tokens)
        self._lengths = [math.inf] * len(self.forms)
        self._lower(self._lengths, self._length)
        self.tokens = self._lengths[0]
        if self.tokens > _MOST_TOKENS:
            raise InputError(f"The shortest answer that fits the schema has more than {_MOST_TOKENS} tokens.")
        # Alternatives and optional items that are as long are not written either.
        self.heights = [
            math.inf if length > _MOST_TOKENS else height
            for height, length in zip(self.heights, self._lengths, strict=True)
        ]

    def _number(self, schema: Any) -> int:
        shape = self._schemas.shape(schema)
        if shape not in self._numbers:
            if len(self._waiting) == _MOST_FORMS:
                raise InputError(f"The schema has more than {_MOST_FORMS} parts.")
            self._numbers[shape] = len(self._waiting)
            self._waiting.append(schema)
        return self._numbers[shape]

    def _lower(self, values: list[float], least: Callable[[Form], float]) -> None:
        """Lower each form's value to its least, computed from the forms within it, until none changes."""
        changed = True
        while changed:
            changed = False
            for number in reversed(range(len(values))):  # forms mostly precede those within them
                form = self.forms[number]
                self._schemas.step(1 + _parts(form))
                lower = least(form)
                if lower < values[number]:
                    values[number], changed = lower, True

    def _height(self, form: Form) -> float:
        if isinstance(form, FixedValues):
            return 0 if form.texts else math.inf
        if isinstance(form, Alternatives):
            return 1 + min(self.heights[part] for part in form.alternatives)
        if isinstance(form, List):
            if form.unique and form.rest is not None and not form.first and form.least > self.variety(form.rest):
                return math.inf
            needed = [*form.first[: form.least]]
            if form.rest is not None and form.least > len(form.first):
                needed.append(form.rest)
        elif isinstance(form, Record):
            needed = [part for name, part in form.members if name in form.required]
        else:
            return 0
        return 1 + max((self.heights[part] for part in needed), default=-1)

    def _length(self, form: Form) -> float:
        """A lower bound on the tokens of a form."""
        lengths = self._lengths
        if isinstance(form, FixedValues):
            return min((self._tokens(text) for text in form.texts), default=math.inf)
        if isinstance(form, Words):
            return 2 + min(form.least, _LARGEST) / _LONGEST_TOKEN
        if isinstance(form, Alternatives):
            return min(lengths[part] for part in form.alternatives)
        if isinstance(form, List):
            first = form.first[: form.least]
            others = min(form.least, _LARGEST) - len(first)
            more = others * (1 + lengths[form.rest]) if form.rest is not None and others else 0
            return 1 + sum(1 + lengths[part] for part in first) + more
        if isinstance(form, Record):
            return 1 + sum(
                3 + self._tokens(name) + lengths[part] for name, part in form.members if name in form.required
            )
        return 1

    def variety(self, number: int) -> float:
        """A lower bound on the distinct values of a form; infinite if they are not counted."""
        if number not in self._varieties:
            self._varieties[number] = self._variety(number)
        return self._varieties[number]

    def _variety(self, number: int) -> float:
        leaves, seen = [number], {number}
        values: set[str] = set()
        most: float = 0
        for leaf in leaves:  # grows during the loop
            form = self.forms[leaf]
            self._schemas.step(1 + _parts(form))
            if isinstance(form, FixedValues):
                values |= {canonical(json.loads(text)) for text in form.texts}
            elif isinstance(form, Alternatives):
                leaves += set(form.alternatives) - seen
                seen |= set(form.alternatives)
            elif isinstance(form, Numbers):
                most = max(most, form.high - form.low + 1)
            else:
                most = max(most, 1 if isinstance(form, Words) and form.most == 0 else math.inf)
        return max(most, len(values))

    def _form(self, schema: Any) -> Form:
        flat = self._schemas.flat(schema)
        if "enum" in flat:
            texts = (_written(value) for value in flat["enum"] if holds(self._schemas, value, flat))
            return FixedValues(tuple(dict.fromkeys(texts)))
        if "anyOf" in flat:
            parts = flat.pop("anyOf")
            return Alternatives(tuple(self._number(self._schemas.both(flat, part) if flat else part) for part in parts))
        if "oneOf" in flat:
            return Alternatives(tuple(map(self._number, self._exclusive(flat))))
        kinds = flat.get("type") or [_implied(flat)]
        if len(kinds) > 1:
            return Alternatives(tuple(self._number({**flat, "type": kind}) for kind in kinds))
        return self._of_kind(kinds[0], flat)

    def _exclusive(self, flat: Flat) -> list[Any]:
        """The alternatives of `oneOf` whose values no other alternative allows."""
        parts = flat.pop("oneOf")
        whole = [self._schemas.both(flat, part) if flat else part for part in parts]
        values = {place: self._constants(part) for place, part in enumerate(whole)}
        # Constants are counted, since comparing each pair would take very long.
        counts = Counter(value for constants in values.values() for value in constants or ())
        others = [place for place, constants in values.items() if constants is None]
        found = [
            part
            for place, part in enumerate(whole)
            if all(counts[value] == 1 for value in values[place] or ())
            and all(
                excludes(self._schemas, part, whole[other])
                for other in (values if values[place] is None else others)
                if other != place
            )
        ]
        if not found:
            raise InputError(
                "The alternatives of oneOf overlap, or may.", "Use anyOf, or give them different types or constants."
            )
        return found

    def _constants(self, schema: Any) -> set[str] | None:
        """The values that a schema enumerates; None if it has no `enum`."""
        flat = self._schemas.flat(schema)
        if "enum" not in flat:
            return None
        return {self._schemas.canonical(value) for value in flat["enum"] if holds(self._schemas, value, flat)}

    def _of_kind(self, kind: str, flat: Flat) -> Form:
        if kind == "object":
            return self._object(flat)
        if kind == "array":
            return self._array(flat)
        if kind == "string":
            return self._string(flat)
        if kind in ("number", "integer"):
            return numbers_of(flat, whole=kind == "integer") or FixedValues(())
        return FixedValues(("null",) if kind == "null" else ("true", "false"))

    def _array(self, flat: Flat) -> Form:
        first, rest = flat.get("prefixItems", []), flat.get("items", True)
        least, most, unique = flat.get("minItems", 0), flat.get("maxItems", math.inf), flat.get("uniqueItems", False)
        if unique and first and least > 1:
            raise InputError("uniqueItems cannot be honoured together with prefixItems and a minItems above 1.")
        if rest is False:
            most = min(most, len(first))
        if least > most:
            return FixedValues(())
        numbers = tuple(map(self._number, first))
        return List(numbers, None if rest is False else self._number(rest), least, most, unique)

    def _object(self, flat: Flat) -> Form:
        properties = {name: part for name, part in flat.get("properties", {}).items() if part is not False}
        required = list(dict.fromkeys(flat.get("required", ())))
        for name in required:
            properties.setdefault(name, flat.get("properties", {}).get(name, flat.get("additionalProperties", True)))
        needed = set(required)
        optional = [name for name in properties if name not in needed]
        missing = flat.get("minProperties", 0) - len(required)
        if missing > len(optional):
            raise InputError(
                "minProperties asks for more properties than the schema names.", "Name them in properties."
            )
        required += optional[: max(missing, 0)]
        most = flat.get("maxProperties", math.inf)
        if len(required) > most:
            return FixedValues(())
        kept = {*required, *optional[max(missing, 0) :][: int(min(most, len(properties))) - len(required)]}
        members = tuple((name, self._number(part)) for name, part in properties.items() if name in kept)
        return Record(members, frozenset(required))

    def _string(self, flat: Flat) -> Form:
        least, most = flat.get("minLength", 0), flat.get("maxLength")
        if most is not None and least > most:
            return FixedValues(())
        pattern, form = flat.get("pattern"), FORMATS.get(flat.get("format", ""))
        source = form or pattern
        if source is None:
            return Words(least, most)
        drawn = Pattern(source, least, most, also=pattern or "", effort=self._schemas.effort)
        sample = drawn.draw(random.Random(0), self._schemas.effort)
        if sample is None:
            keyword = f"format {flat['format']!r}" if form else f"pattern {pattern!r}"
            raise InputError(f"The schema's {keyword} cannot be honoured: no text was found that fits it and the rest.")
        return Drawn(drawn, sample)


def _written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _implied(flat: Flat) -> str:
    return next((kind for keyword, kind in _IMPLIED.items() if keyword in flat), "string")


def _parts(form: Form) -> int:
    """The size of a form, without the forms within it."""
    parts: tuple[Any, ...] = ()
    if isinstance(form, FixedValues):
        parts = form.texts
    elif isinstance(form, Alternatives):
        parts = form.alternatives
    elif isinstance(form, List):
        parts = form.first
    elif isinstance(form, Record):
        parts = form.members
    return len(parts)


def _tokens(text: str) -> int:
    return sum(1 for _ in tokens_of(text))
