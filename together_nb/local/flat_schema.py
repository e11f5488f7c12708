"""Flattened JSON Schemas: references resolved, `allOf` merged.

A flat schema has no ``$ref``, ``allOf``, ``const`` or annotations. Its ``type`` is a list, a ``const``
becomes an ``enum``, and ``false`` is ``{"enum": []}``. Keywords are those of draft 2020-12, plus ``items``
and ``additionalItems`` of draft 7. An unsupported keyword is an error, never ignored.
"""

from __future__ import annotations

import json
import math
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from together_nb.errors import InputError
from together_nb.local.effort import Effort
from together_nb.local.patterns import Matcher, compiled

if TYPE_CHECKING:
    from collections.abc import Callable

Flat = dict[str, Any]

TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")

# Annotations, which constrain no value. `discriminator` is OpenAPI's, and repeats what `oneOf` says.
_NOTES = frozenset({
    "$schema", "$id", "id", "$comment", "$anchor", "$defs", "definitions", "title", "description", "default", "examples",
    "example", "deprecated", "readOnly", "writeOnly", "contentEncoding", "contentMediaType", "contentSchema", "discriminator",
    "unevaluatedProperties",  # only properties that the schema names are written
})  # fmt: skip
DEEPEST = 60
MOST_VALUES = 1000
"""The most values of an `enum`, and alternatives of an `anyOf`, `oneOf` or `allOf`."""
_MOST_STEPS = 1_000_000  # a second or two
_MOST_CHARACTERS = 500_000
_FEW = 8  # fewer values are compared one by one
_LARGEST = sys.float_info.max


def _is_schema(value: object) -> bool:
    return isinstance(value, (dict, bool))


def _is_schemas(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_schema, value))


def is_number(value: object) -> bool:
    """Whether `value` is a number that JSON can write."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_types(value: object) -> bool:
    return isinstance(value, (str, list)) and all(kind in TYPES for kind in _listed(value))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


# Each supported keyword: a check of its value, and what that must be.
_KEYWORDS: dict[str, tuple[Any, str]] = {
    "type": (_is_types, "one of " + ", ".join(TYPES) + ", or a list of them"),
    "enum": (
        lambda value: isinstance(value, list) and len(value) <= MOST_VALUES,
        f"a list of at most {MOST_VALUES} values",
    ),
    "const": (lambda _: True, "a value"),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), (is_number, "a number")),
    "multipleOf": (lambda value: is_number(value) and value > 0, "a number above 0"),
    **dict.fromkeys(
        ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"),
        (_is_count, "a whole number of at least 0"),
    ),
    **dict.fromkeys(("pattern", "format", "$ref"), (lambda value: isinstance(value, str), "a text")),
    "uniqueItems": (lambda value: isinstance(value, bool), "true or false"),
    "required": (
        lambda value: isinstance(value, list) and all(isinstance(name, str) for name in value),
        "a list of texts",
    ),
    "properties": (lambda value: isinstance(value, dict) and _is_schemas(list(value.values())), "an object of schemas"),
    "items": (lambda value: _is_schema(value) or _is_schemas(value), "a schema"),
    **dict.fromkeys(("additionalProperties", "additionalItems"), (_is_schema, "a schema")),
    "prefixItems": (_is_schemas, "a list of schemas"),
    **dict.fromkeys(
        ("allOf", "anyOf", "oneOf"),
        (lambda value: _is_schemas(value) and 0 < len(value) <= MOST_VALUES, f"a list of 1 to {MOST_VALUES} schemas"),
    ),
}


class SchemaResolver:
    """Resolves and merges the schemas of one document.

    Parameters
    ----------
    document
        The outermost schema, within which references are resolved.
    look
        Called regularly; it may raise to abort the work.

    Attributes
    ----------
    effort
        The budget of steps.

    Raises
    ------
    InputError
        The document is too long.
    """

    def __init__(self, document: Any, look: Callable[[], None] = lambda: None) -> None:
        if len(json.dumps(document)) > _MOST_CHARACTERS:
            raise InputError(f"The schema has more than {_MOST_CHARACTERS} characters.")
        self._document = document
        self.effort = Effort(_MOST_STEPS, look)
        self._shapes: dict[Any, int] = {}
        self._shaped: dict[int, tuple[Any, int]] = {}
        self._enums: dict[int, tuple[Any, frozenset[str]]] = {}
        self._patterns: dict[str, Matcher | None] = {}

    def step(self, count: int = 1) -> None:
        """Spend `count` steps.

        Raises
        ------
        InputError
            The budget is exceeded.
        """
        if not self.effort.spend(count):
            raise InputError("The schema is too much work.", "Ask for less of allOf, anyOf, oneOf, enum and pattern.")

    def flat(self, schema: Any, depth: int = 0) -> Flat:
        """Flatten `schema`, but not the schemas within it.

        Raises
        ------
        InputError
            A keyword is unsupported or has a value of the wrong kind; a reference is dangling or
            circular; the schema takes too much work.
        """
        if isinstance(schema, bool):
            return {} if schema else {"enum": []}
        if not isinstance(schema, dict):
            raise InputError(f"A schema must be an object, not {schema!r:.80}.")
        if depth > DEEPEST:
            raise InputError("The schema refers to itself without an end, or nests too deep.")
        own = {key: value for key, value in schema.items() if key not in _NOTES and not key.startswith("x-")}
        self.step(8 + len(schema) + _extent(own))
        for key, value in own.items():
            _check(key, value)
        if "pattern" in own and own["pattern"] not in self._patterns:
            compiled(own["pattern"])
            self._patterns[own["pattern"]] = None
        parts = [self.flat(part, depth + 1) for part in own.pop("allOf", ())]
        if "$ref" in own:
            parts.insert(0, self.flat(self._referred(own.pop("$ref")), depth + 1))
        own = _normal(own)
        if "const" in own:
            own = self.merged(own, {"enum": [own.pop("const")]})
        for part in parts:
            own = self.merged(own, part)
        return own

    def _referred(self, reference: str) -> Any:
        if not reference.startswith("#"):
            raise InputError(f"$ref leads out of the schema: {reference!r:.80}.", 'Put it under "$defs".')
        found = self._document
        for step in unquote(reference[1:]).split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and key.isascii() and key.isdigit() and int(key[:9]) < len(found):
                found = found[int(key[:9])]
            elif isinstance(found, dict) and key in found:
                found = found[key]
            else:
                raise InputError(f"$ref leads nowhere: {reference!r:.80}.")
        if reference != "#" and not reference.startswith("#/"):
            raise InputError(f"$ref leads nowhere: {reference!r:.80}.", "Anchors cannot be honoured.")
        return found

    def shape(self, value: Any) -> int:
        """Return a number that is the same for values written alike, 1 and 1.0 too.

        Parts that several values share are visited once, since their expansion may be enormous.
        """
        if not isinstance(value, (dict, list)):
            return self._shapes.setdefault((isinstance(value, bool), value), len(self._shapes))
        if id(value) not in self._shaped:
            self.step(2 + len(value))
            key = (
                ("{", *((name, self.shape(each)) for name, each in value.items()))
                if isinstance(value, dict)
                else ("[", *map(self.shape, value))
            )
            # Keep the value, or another could get its id.
            self._shaped[id(value)] = value, self._shapes.setdefault(key, len(self._shapes))
        return self._shaped[id(value)][1]

    def both(self, one: Any, other: Any) -> Any:
        """A schema of the values that both allow."""
        if other is True or one is other:
            return one
        return other if one is True or self.shape(one) == self.shape(other) else {"allOf": [one, other]}

    def merged(self, one: Flat, other: Flat) -> Flat:
        """The flat schema of the values that both allow.

        Raises
        ------
        InputError
            No single keyword expresses the constraints of both.
        """
        self.step(4 + _extent(one) + _extent(other))
        result = {**other, **one}
        of_items = {"items", "prefixItems"}
        if (
            "prefixItems" in result
            and of_items & one.keys()
            and of_items & other.keys()
            and not self._alike(one, other)
        ):
            raise InputError("prefixItems cannot be honoured together with another schema's items.")
        for key in one.keys() & other.keys() - {"properties"}:
            if self._alike(one[key], other[key]):
                continue
            if key not in _MERGING:
                raise InputError(f"Two different {key} of one value cannot both be honoured.")
            result[key] = _MERGING[key](self, one[key], other[key])
        if "properties" in result:
            names = dict.fromkeys([*one.get("properties", {}), *other.get("properties", {})])
            result["properties"] = {name: self.both(property_of(one, name), property_of(other, name)) for name in names}
        if result.get("type") == []:
            result["enum"] = []
        return result

    def _alike(self, one: Any, other: Any) -> bool:
        return one is other or self.shape(one) == self.shape(other)

    def canonical(self, value: Any) -> str:
        """Return the module's `canonical`, counted as work."""
        text = canonical(value)
        self.step(1 + len(text) // 10)
        return text

    def among(self, value: Any, values: list[Any]) -> bool:
        """Whether `value` equals, in JSON Schema, one of `values`, which must not change."""
        if len(values) < _FEW:
            return self.canonical(value) in map(self.canonical, values)
        if id(values) not in self._enums:
            self._enums[id(values)] = values, frozenset(map(self.canonical, values))
        return self.canonical(value) in self._enums[id(values)][1]

    def matches(self, pattern: str, text: str) -> bool:
        """Whether a text matches the pattern of a flat schema."""
        matcher = self._patterns[pattern] = self._patterns.get(pattern) or Matcher(pattern, self.effort)
        found = matcher.search(text, self.effort)
        self.step()  # raises if the search ran out of steps
        return found


def _extent(schema: Flat) -> int:
    """The size of a schema, without its `enum` and the contents of the schemas within it."""
    return sum(len(value) for key, value in schema.items() if key != "enum" and isinstance(value, (dict, list, str)))


def _normal(own: Flat) -> Flat:
    """Rewrite a schema's keywords in their canonical spelling."""
    if "type" in own:
        own["type"] = list(dict.fromkeys(_listed(own["type"])))
    if isinstance(own.get("items"), list):  # draft 7
        own["prefixItems"] = own.pop("items")
        if "additionalItems" in own:
            own["items"] = own["additionalItems"]
    own.pop("additionalItems", None)
    return own


def _check(key: str, value: Any) -> None:
    if key not in _KEYWORDS:
        raise InputError(f"The schema's keyword {key:.80} cannot be honoured.", "Leave it out.")
    fits, expected = _KEYWORDS[key]
    if not fits(value):
        raise InputError(f"The schema's {key} must be {expected}, not {value!r:.80}.")


def property_of(flat: Flat, name: str) -> Any:
    """The schema of an object's property."""
    properties = flat.get("properties", {})
    return properties[name] if name in properties else flat.get("additionalProperties", True)


def canonical(value: Any) -> str:
    """A text that is the same for values that are equal in JSON Schema."""
    return json.dumps(_plain(value), sort_keys=True)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def common(one: list[str], other: list[str]) -> list[str]:
    """The types common to two lists of types; an integer is a number too."""
    found = [kind for kind in one if kind in other or (kind == "integer" and "number" in other)]
    return found + [kind for kind in other if kind == "integer" and "number" in one and kind not in found]


def _pairs(schemas: SchemaResolver, one: list[Any], other: list[Any]) -> list[Any]:
    if len(one) * len(other) > MOST_VALUES:
        raise InputError(f"The alternatives of several anyOf or oneOf come to more than {MOST_VALUES} together.")
    return [schemas.both(a, b) for a in one for b in other]


def _multiple(_: SchemaResolver, one: float, other: float) -> float:
    if isinstance(one, int) and isinstance(other, int) and (least := math.lcm(one, other)) <= _LARGEST:
        return least
    raise InputError("Two multipleOf of one number cannot both be honoured.")


_MERGING: dict[str, Any] = {
    **dict.fromkeys(
        ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"), lambda _, one, other: max(one, other)
    ),
    **dict.fromkeys(
        ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"), lambda _, one, other: min(one, other)
    ),
    "multipleOf": _multiple,
    "type": lambda _, one, other: common(one, other),
    "enum": lambda schemas, one, other: [value for value in one if schemas.among(value, other)],
    "required": lambda _, one, other: list(dict.fromkeys([*one, *other])),
    "uniqueItems": lambda _, one, other: one or other,
    **dict.fromkeys(("items", "additionalProperties"), SchemaResolver.both),
    **dict.fromkeys(("anyOf", "oneOf"), _pairs),
}
