"""JSON Schemas made flat: references followed, `allOf` merged.

A flat schema has no ``$ref``, ``allOf``, ``const`` or annotations, ``type`` is a list, and ``enum`` the
values of a ``const``; ``false`` is ``{"enum": []}``. Keywords are those of draft 2020-12, and ``items``
and ``additionalItems`` of draft 7 as well. One that cannot be honoured is an error, never ignored.
"""

from __future__ import annotations

import json
import math
from typing import Any
from urllib.parse import unquote

from together_nb.errors import InputError
from together_nb.local.patterns import compiled

Flat = dict[str, Any]

TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")

# Said about a schema, not asked of a value. `discriminator` is OpenAPI's, and repeats what `oneOf` says.
_NOTES = frozenset({
    "$schema", "$id", "id", "$comment", "$anchor", "$defs", "definitions", "title", "description", "default", "examples",
    "example", "deprecated", "readOnly", "writeOnly", "contentEncoding", "contentMediaType", "contentSchema", "discriminator",
    "unevaluatedProperties",  # no property is written that the schema does not name
})  # fmt: skip
DEEPEST = 60


def _is_schema(value: object) -> bool:
    return isinstance(value, (dict, bool))


def _is_schemas(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_schema, value))


def is_number(value: object) -> bool:
    """Whether `value` is a number that JSON can write."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_types(value: object) -> bool:
    return isinstance(value, (str, list)) and all(kind in TYPES for kind in _listed(value))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


# Each keyword that is honoured: whether its value is one, and what it must be.
_KEYWORDS: dict[str, tuple[Any, str]] = {
    "type": (_is_types, "one of " + ", ".join(TYPES) + ", or a list of them"),
    "enum": (lambda value: isinstance(value, list), "a list of values"),
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
        ("allOf", "anyOf", "oneOf"), (lambda value: _is_schemas(value) and value, "a list of at least one schema")
    ),
}


class Schemas:
    """The schemas within one document.

    Parameters
    ----------
    document
        The outermost schema; references are followed within it.
    """

    def __init__(self, document: Any) -> None:
        self._document = document

    def flat(self, schema: Any, depth: int = 0) -> Flat:
        """`schema` made flat; those within it are as they were.

        Raises
        ------
        InputError
            A keyword that cannot be honoured, or whose value is of the wrong kind; a reference
            that leads nowhere, or round in a circle.
        """
        if isinstance(schema, bool):
            return {} if schema else {"enum": []}
        if not isinstance(schema, dict):
            raise InputError(f"A schema must be an object, not {schema!r:.80}.")
        if depth > DEEPEST:
            raise InputError("The schema refers to itself without an end, or nests too deep.")
        own = {key: value for key, value in schema.items() if key not in _NOTES and not key.startswith("x-")}
        for key, value in own.items():
            _check(key, value)
        parts = [self.flat(part, depth + 1) for part in own.pop("allOf", ())]
        if "$ref" in own:
            parts.insert(0, self.flat(self._referred(own.pop("$ref")), depth + 1))
        own = _normal(own)
        for part in parts:
            own = merged(own, part)
        return own

    def _referred(self, reference: str) -> Any:
        if not reference.startswith("#"):
            raise InputError(f"$ref leads out of the schema: {reference!r}.", 'Put it under "$defs".')
        found = self._document
        for step in unquote(reference[1:]).split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and key.isascii() and key.isdigit() and int(key[:9]) < len(found):
                found = found[int(key)]
            elif isinstance(found, dict) and key in found:
                found = found[key]
            else:
                raise InputError(f"$ref leads nowhere: {reference!r}.")
        if reference != "#" and not reference.startswith("#/"):
            raise InputError(f"$ref leads nowhere: {reference!r}.", "Anchors cannot be honoured.")
        return found


def _normal(own: Flat) -> Flat:
    """A schema's keywords, each in its one spelling."""
    if "type" in own:
        own["type"] = _listed(own["type"])
    if isinstance(own.get("items"), list):  # draft 7
        own["prefixItems"] = own.pop("items")
        if "additionalItems" in own:
            own["items"] = own["additionalItems"]
    own.pop("additionalItems", None)
    return merged(own, {"enum": [own.pop("const")]}) if "const" in own else own


def _check(key: str, value: Any) -> None:
    if key not in _KEYWORDS:
        raise InputError(f"The schema's keyword {key} cannot be honoured.", "Leave it out.")
    fits, expected = _KEYWORDS[key]
    if key == "pattern" and isinstance(value, str):
        compiled(value)
    if not fits(value):
        raise InputError(f"The schema's {key} must be {expected}, not {value!r:.80}.")


def property_of(flat: Flat, name: str) -> Any:
    """The schema of an object's property."""
    properties = flat.get("properties", {})
    return properties[name] if name in properties else flat.get("additionalProperties", True)


def canonical(value: Any) -> str:
    """A text that two values share if JSON Schema has them equal."""
    return json.dumps(_plain(value), sort_keys=True)


def same(one: Any, other: Any) -> bool:
    """Whether JSON Schema has two values equal: 1 and 1.0 are, 1 and true are not."""
    return canonical(one) == canonical(other)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def common(one: list[str], other: list[str]) -> list[str]:
    """The types that two lists of types share: an integer is a number too."""
    found = [kind for kind in one if kind in other or (kind == "integer" and "number" in other)]
    return found + [kind for kind in other if kind == "integer" and "number" in one and kind not in found]


def both(one: Any, other: Any) -> Any:
    """The schema of what is valid by both."""
    return one if one == other or other is True else other if one is True else {"allOf": [one, other]}


def _multiple(one: float, other: float) -> float:
    if isinstance(one, int) and isinstance(other, int):
        return math.lcm(one, other)
    raise InputError("Two multipleOf of one number cannot both be honoured.")


_MERGING: dict[str, Any] = {
    **dict.fromkeys(("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"), max),
    **dict.fromkeys(("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"), min),
    "multipleOf": _multiple,
    "type": common,
    "enum": lambda one, other: [value for value in one if any(same(value, each) for each in other)],
    "required": lambda one, other: [*one, *(name for name in other if name not in one)],
    "uniqueItems": lambda one, other: one or other,
    "items": both,
    "additionalProperties": both,
    "anyOf": lambda one, other: [both(a, b) for a in one for b in other],
    "oneOf": lambda one, other: [both(a, b) for a in one for b in other],
}


def merged(one: Flat, other: Flat) -> Flat:
    """The flat schema of what is valid by both.

    Raises
    ------
    InputError
        They ask something of which there is no one keyword for both.
    """
    result = {**other, **one}
    of_items = {"items", "prefixItems"}
    if "prefixItems" in result and one != other and of_items & one.keys() and of_items & other.keys():
        raise InputError("prefixItems cannot be honoured together with another schema's items.")
    for key in one.keys() & other.keys() - {"properties"}:
        if one[key] == other[key]:
            continue
        if key not in _MERGING:
            raise InputError(f"Two different {key} of one value cannot both be honoured.")
        result[key] = _MERGING[key](one[key], other[key])
    if "properties" in result:
        names = [*one.get("properties", {}), *other.get("properties", {})]
        result["properties"] = {name: both(property_of(one, name), property_of(other, name)) for name in names}
    if result.get("type") == []:
        result["enum"] = []
    return result
