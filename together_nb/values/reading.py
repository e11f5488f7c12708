"""Values of our classes from what JSON holds: each part is checked by the type that its class declares.

Whatever a file holds, what is wrong with it is said here, with its place, and not later where the value is used.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from math import inf
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from together_nb.base.escape import without_surrogates
from together_nb.base.wording import shorten
from together_nb.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")
Reader = Any  # of a value as JSON has it: gives the value, or raises UnfitError

DEEPEST = 100
"""Levels of lists and dicts in a value of any kind; Python's own limit is met by what writes or shows it."""
MOST = 2**63 - 1
"""What counts and numbers things elsewhere; JSON's numbers have no end."""
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
    """A part of a value is missing, or is not what it must be: where, and what it must be."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.message = problem
        self._problem = problem
        self._place = ""

    def at(self, step: str | int) -> UnfitError:
        """The same, told from one step further out."""
        inner = f".{self._place}" if self._place and not self._place.startswith("[") else self._place
        self._place = (f"[{step}]" if isinstance(step, int) else step) + inner
        self.message = f"{self._place} {self._problem}"
        self.args = (self.message,)
        return self


@contextmanager
def as_input_errors() -> Iterator[None]:
    """Make of an `UnfitError` an `InputError`."""
    try:
        yield
    except UnfitError as error:
        raise InputError(error.message) from None


def expect(kind: type[T], value: Any) -> T:
    """`value`, which must be of the type `kind` as JSON has it.

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
    """What reads a value of the type `kind`, as a class declares it for a field."""
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
    """What reads a dataclass, some of its fields by `others`, which may know more names; those in `needed` must be there."""
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
    """One field of an object, which must be there, by its reader."""
    if name not in values:
        raise UnfitError("is missing.").at(name)
    try:
        return read(values[name])
    except UnfitError as error:
        raise error.at(shorten(name, 30)) from None


def unknown(_: Any) -> Any:
    """Reads what must not be there."""
    raise UnfitError("is not known.")


def or_none(read: Reader) -> Reader:
    """What reads null as None, and all else by `read`."""
    return lambda value: None if value is None else read(value)


def each_in(read: Reader, kind: type, *, least: int = 0) -> Reader:
    """What reads a list of at least so many values into one or a tuple, each by `read`."""

    def read_each(values: Any) -> Any:
        if not isinstance(values, (list, tuple)):
            expect(list, values)
        if len(values) < least:
            raise UnfitError(f"must hold {least} or more.")
        out: list[Any] = []
        try:
            out.extend(map(read, values))  # adds those before one that raises
        except UnfitError as error:
            raise error.at(len(out)) from None
        return out if kind is list else kind(out)

    return read_each


def fixed_number(readers: list[Reader]) -> Reader:
    """What reads a list of so many values into a tuple, each by its reader."""

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
    """A text; a lone surrogate, which no file and no page can hold, becomes U+FFFD."""
    return without_surrogates(expect(str, value))


def whole_number(least: int = -MOST, most: int = MOST) -> Reader:
    """What reads a whole number from `least` to `most`."""

    def read(value: Any) -> int:
        if not least <= expect(int, value) <= most:
            raise UnfitError(f"must be a whole number from {least} to {most}.")
        return int(value)

    return read


def number(least: float, most: float = 1e15) -> Reader:
    """What reads a number from `least` to `most`; NaN is none."""

    def read(value: Any) -> float:
        if not isinstance(value, int) or isinstance(value, bool):
            expect(float, value)
        if not least <= value <= most or (isinstance(value, int) and abs(value) > _LARGEST):
            raise UnfitError(f"must be a number from {least:g} to {most:g}.")
        return float(value)

    return read


LOGARITHM = number(-inf, inf)
"""Reads a logarithm, which may be infinite."""
AMOUNT = number(-_LARGEST, _LARGEST)
"""Reads any number."""


def name_in(*names: str) -> Reader:
    """What reads one of these texts."""

    def read(value: Any) -> str:
        if expect(str, value) not in names:
            raise UnfitError(f"must be one of {', '.join(names)}.")
        return str(value)

    return read


def plain(value: Any) -> Any:
    """`value`, which may be anything that JSON has, but no deeper than is fit for use, and without NaN.

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
