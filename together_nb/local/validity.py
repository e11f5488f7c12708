"""Which values a schema allows, and which two schemas share no value."""

from __future__ import annotations

import math
from typing import Any

from together_nb.errors import InputError
from together_nb.local.flat_schema import DEEPEST, TYPES, Flat, SchemaResolver, common, is_number, property_of


def holds(schemas: SchemaResolver, value: Any, schema: Any, depth: int = 0) -> bool:
    """Whether `schema`, one of `schemas`, allows `value`; `format` is an annotation."""
    if depth > DEEPEST:
        raise InputError("The schema refers to itself without an end, or nests too deep.")
    flat = schemas.flat(schema)
    if "enum" in flat and not schemas.among(value, flat["enum"]):
        return False
    if "type" in flat and not any(_is_of(value, kind) for kind in flat["type"]):
        return False
    for branch, enough in (("anyOf", any), ("oneOf", _just_one)):
        if branch in flat and not enough([holds(schemas, value, part, depth + 1) for part in flat[branch]]):
            return False
    return _within_bounds(schemas, value, flat) and all(
        holds(schemas, each, part, depth + 1) for each, part in _within(value, flat)
    )


def _just_one(found: list[bool]) -> bool:
    return sum(found) == 1


def _within(value: Any, flat: Flat) -> list[tuple[Any, Any]]:
    """The values within a value, each with its schema."""
    if isinstance(value, dict):
        return [(each, property_of(flat, name)) for name, each in value.items()]
    if isinstance(value, list):
        return list(zip(value, [*flat.get("prefixItems", []), *[flat.get("items", True)] * len(value)], strict=False))
    return []


def _within_bounds(schemas: SchemaResolver, value: Any, flat: Flat) -> bool:
    if isinstance(value, str):
        return _counts(value, flat, "Length") and ("pattern" not in flat or schemas.matches(flat["pattern"], value))
    if is_number(value):
        return _number_holds(value, flat)
    if isinstance(value, dict):
        return _counts(value, flat, "Properties") and set(flat.get("required", ())) <= set(value)
    if isinstance(value, list):
        unique = not flat.get("uniqueItems") or len(set(map(schemas.canonical, value))) == len(value)
        return unique and _counts(value, flat, "Items")
    return True


def _counts(value: Any, flat: Flat, what: str) -> bool:
    least, most = flat.get("min" + what, 0), flat.get("max" + what, math.inf)
    return bool(least <= len(value) <= most)


def _number_holds(value: float, flat: Flat) -> bool:
    return (
        flat.get("minimum", -math.inf) <= value <= flat.get("maximum", math.inf)
        and flat.get("exclusiveMinimum", -math.inf) < value < flat.get("exclusiveMaximum", math.inf)
        and ("multipleOf" not in flat or is_multiple(value, flat["multipleOf"]))
    )


def is_multiple(value: float, of: float) -> bool:
    """Whether `value` is a multiple, as validators compute it: in floating point if either is a float."""
    if isinstance(of, float) or isinstance(value, float):
        try:
            return (value / of).is_integer()
        except OverflowError:
            return False
    return value % of == 0


def excludes(schemas: SchemaResolver, one: Any, other: Any, depth: int = 0) -> bool:
    """Whether clearly no value written for `one` is allowed by `other`."""
    if depth > DEEPEST:
        return False
    a, b = schemas.flat(one), schemas.flat(other)
    if "enum" in a:
        return not any(holds(schemas, value, b) for value in a["enum"] if holds(schemas, value, a))
    kinds = _kinds(b)
    if "type" in a and kinds and not common(a["type"], kinds):
        return True
    return (
        any(all(excludes(schemas, part, b, depth + 1) for part in parts) for parts in _branches(schemas, a))
        or any(all(excludes(schemas, a, part, depth + 1) for part in parts) for parts in _branches(schemas, b))
        or (a.get("type") == ["object"] and _objects_exclude(schemas, a, b, depth))
    )


def _objects_exclude(schemas: SchemaResolver, a: Flat, b: Flat, depth: int) -> bool:
    """Whether `a` lacks a property that `b` requires, or requires one whose values `b` excludes."""
    names = a.get("properties", {})
    return bool(set(b.get("required", ())) - set(names)) or any(
        name in names and excludes(schemas, names[name], property_of(b, name), depth + 1)
        for name in a.get("required", ())
    )


def _branches(schemas: SchemaResolver, flat: Flat) -> list[list[Flat]]:
    """The alternatives of each `anyOf` and `oneOf`, each merged with the keywords beside them."""
    found = []
    for branch in ("anyOf", "oneOf"):
        rest = {key: value for key, value in flat.items() if key != branch}
        if branch in flat:
            found.append([schemas.merged(rest, schemas.flat(part)) for part in flat[branch]])
    return found


def _is_of(value: Any, kind: str) -> bool:
    if kind == "number":
        return is_number(value)
    if kind == "integer":
        return is_number(value) and value == int(value)
    plain = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
    return isinstance(value, plain[kind])


def _kinds(flat: Flat) -> list[str]:
    """The types of the valid values; [] if unrestricted."""
    if "enum" in flat:
        return [kind for kind in TYPES if any(_is_of(value, kind) for value in flat["enum"])]
    kinds: list[str] = flat.get("type", [])
    return kinds
