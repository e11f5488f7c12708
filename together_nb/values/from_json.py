"""Read values of our classes from JSON: each part is checked against the type that its class declares.

A fault in a file is reported here, with its place, and not later where the value is used.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from math import inf, nan
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from together_nb.base.escape import without_surrogates
from together_nb.base.wording import shorten
from together_nb.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")
Reader = Any  # a function of a JSON value: returns our value, or raises UnfitError

DEEPEST = 100
"""The most levels of lists and dicts in a value; writing or showing more would hit Python's own limit."""
MOST = 2**63 - 1
"""The largest count or number of a thing; JSON's numbers are unbounded."""
_LARGEST = 1e308
_WORDS = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}


class UnfitError(ValueError):
    """A part of a value is missing or invalid; the message says where, and what it must be."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.message = problem
        self._problem = problem
        self._place = ""

    def at(self, step: str | int) -> UnfitError:
        """Return the same, with the place as seen one step further out."""
        inner = f".{self._place}" if self._place and not self._place.startswith("[") else self._place
        self._place = (f"[{step}]" if isinstance(step, int) else step) + inner
        self.message = f"{self._place} {self._problem}"
        self.args = (self.message,)
        return self


@contextmanager
def as_input_errors() -> Iterator[None]:
    """Turn an `UnfitError` into an `InputError`."""
    try:
        yield
    except UnfitError as error:
        raise InputError(error.message) from None


def expect(kind: type[T], value: Any) -> T:
    """Return `value`, which must be of the JSON type `kind`.

    Raises
    ------
    UnfitError
        It is not.
    """
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise UnfitError(f"must be {_WORDS[kind]}, not {_WORDS.get(type(value), 'null')}.")
    return value


@cache
def reader(kind: Any) -> Reader:
    """Return a reader of the type `kind`, as a class declares it for a field."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        (only,) = (one for one in inner if one is not NoneType)
        return or_none(reader(only))
    if origin is tuple and inner[-1] is not ...:
        return fixed_number([reader(one) for one in inner])
    if origin in (list, tuple):
        return each_in(reader(inner[0]), origin)
    if origin is dict:
        return _by_name(reader(inner[1]))
    if is_dataclass(kind):
        return dataclass_reader(kind)
    return {str: _text, int: whole_number(0), float: number(0), bool: lambda value: expect(bool, value), Any: plain}[
        kind
    ]


def dataclass_reader(kind: Any, needed: Iterable[str] = (), **others: Reader) -> Callable[[Any], Any]:
    """Return a reader of a dataclass: `others` reads some fields and extra names, and `needed` are required."""
    hints = get_type_hints(kind)
    readers: dict[str, Reader] = {
        one.name: others.get(one.name) or reader(hints[one.name]) for one in fields(kind)
    } | others
    required = {one.name for one in fields(kind) if one.default is MISSING and one.default_factory is MISSING}
    required |= set(needed)

    def read(values: Any) -> Any:
        expect(dict, values)
        found = {}
        for name in values:
            found[name] = field_of(values, name, readers.get(name, unknown))
        for name in required - found.keys():
            raise UnfitError("is missing.").at(name)
        return kind(**found)

    return read


def field_of(values: dict[str, Any], name: str, read: Reader) -> Any:
    """Read one required field of an object."""
    if name not in values:
        raise UnfitError("is missing.").at(name)
    try:
        return read(values[name])
    except UnfitError as error:
        raise error.at(shorten(name, 30)) from None


def unknown(_: Any) -> Any:
    """Refuse what must not be there."""
    raise UnfitError("is not known.")


def or_none(read: Reader) -> Reader:
    """Return a reader of null as None, and of all else by `read`."""
    return lambda value: None if value is None else read(value)


def each_in(read: Reader, kind: type, *, least: int = 0) -> Reader:
    """Return a reader of at least `least` values into a list or a tuple, each by `read`."""

    def read_each(values: Any) -> Any:
        if not isinstance(values, (list, tuple)):
            expect(list, values)
        if len(values) < least:
            raise UnfitError(f"must hold {least} or more.")
        out: list[Any] = []
        try:
            out.extend(map(read, values))  # keeps the values before one that raises
        except UnfitError as error:
            raise error.at(len(out)) from None
        return out if kind is list else kind(out)

    return read_each


def fixed_number(readers: list[Reader]) -> Reader:
    """Return a reader of a list into a tuple, each value by its own reader."""

    def read_parts(values: Any) -> Any:
        if not isinstance(values, (list, tuple)):
            expect(list, values)
        if len(values) != len(readers):
            raise UnfitError(f"must have {len(readers)} parts, not {len(values)}.")
        return tuple(read(value) for read, value in zip(readers, values, strict=True))

    return read_parts


def _by_name(read: Reader) -> Reader:
    def entries(values: Any) -> Any:
        expect(dict, values)
        found = ((name, field_of(values, name, read)) for name in values)
        if read is not plain:
            return dict(found)
        for _ in found:
            pass
        return values  # no copy: a conversation's messages are most of a file

    return entries


def _text(value: Any) -> str:
    """Read a text; a lone surrogate, which no file and no page can hold, becomes U+FFFD."""
    return without_surrogates(expect(str, value))


def whole_number(least: int = -MOST, most: int = MOST) -> Reader:
    """Return a reader of whole numbers from `least` to `most`."""

    def read(value: Any) -> int:
        if not least <= expect(int, value) <= most:
            raise UnfitError(f"must be a whole number from {least} to {most}.")
        return int(value)

    return read


def number(least: float, most: float = 1e15) -> Reader:
    """Return a reader of numbers from `least` to `most`, without NaN."""

    def read(value: Any) -> float:
        if not isinstance(value, int) or isinstance(value, bool):
            expect(float, value)
        if not least <= value <= most or (isinstance(value, int) and abs(value) > _LARGEST):
            raise UnfitError(f"must be a number from {least:g} to {most:g}.")
        return float(value)

    return read


_INFINITE = {"Infinity": inf, "-Infinity": -inf, "NaN": nan}
_any_number = number(-inf, inf)


def _logarithm(value: Any) -> float:
    return _INFINITE[value] if isinstance(value, str) and value in _INFINITE else _any_number(value)


LOGARITHM = _logarithm
"""Reads a logarithm, which may be infinite: a text in strict JSON, a bare word in files of earlier versions."""
AMOUNT = number(-_LARGEST, _LARGEST)
"""Reads any finite number."""


def name_in(*names: str) -> Reader:
    """Return a reader of one of these texts."""

    def read(value: Any) -> str:
        if expect(str, value) not in names:
            raise UnfitError(f"must be one of {', '.join(names)}.")
        return str(value)

    return read


def plain(value: Any) -> Any:
    """Return `value`, which may be any JSON value of at most `DEEPEST` levels, without NaN.

    Raises
    ------
    UnfitError
        It is not.
    """
    _check(value, DEEPEST)
    return value


def _check(value: Any, levels: int) -> None:
    if isinstance(value, (int, float)) and not abs(value) <= _LARGEST:
        raise UnfitError("holds a number that is none, or too large.")
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    if inner and not levels:
        raise UnfitError(f"is nested deeper than {DEEPEST} levels.")
    for one in inner:
        if not isinstance(one, str):
            _check(one, levels - 1)
