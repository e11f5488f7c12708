"""What differs between the columns of a comparison: all combinations of the values of some keys."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass
from typing import Any

from together_nb.base.suggest import suggestion
from together_nb.base.wording import shorten
from together_nb.errors import InputError
from together_nb.values.parameters import PARAMETERS, UNSET

MODEL = "model"
MOST = 64  # columns
TEXTS = (MODEL, "api", "system")  # what may differ besides sampling parameters
KEYS = (*TEXTS, *(name for name, parameter in PARAMETERS.items() if parameter.type is not dict))
_EXAMPLE = "--compare temperature=0,0.7,1.2"
# A value in quotation marks may contain commas; other marks are literal.
_VALUE = re.compile(r"""\s*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<plain>[^"',\s][^,]*)?)\s*(?:,|$)""")
_LONGEST = 40  # characters of a value in a title


@dataclass(frozen=True)
class ComparedValue:
    """One value of a key.

    Parameters
    ----------
    title
        The value in a title.
    value
        What is sent; None is unset.
    """

    title: str
    value: Any


@dataclass(frozen=True)
class Variation:
    """One column.

    Parameters
    ----------
    title
        What differs in it: ``temperature = 0 · model = a``.
    values
        The same as keywords of `stream`.
    """

    title: str
    values: dict[str, Any]


@dataclass(frozen=True)
class VariationGrid:
    """The columns of a comparison, in order: the first key changes slowest.

    Parameters
    ----------
    columns
        All combinations.
    across
        How many values the last key has; they share a row if there are other keys.
    """

    columns: tuple[Variation, ...]
    across: int

    @property
    def titles(self) -> list[str]:
        """The columns' titles."""
        return [column.title for column in self.columns]


def parse(texts: list[str]) -> VariationGrid:
    """Return all combinations of the options ``--compare KEY=VALUE,VALUE``.

    Parameters
    ----------
    texts
        The text after each option.

    Raises
    ------
    InputError
        A key is unknown or given twice, a value is missing or invalid, or there are too many.
    """
    varied: dict[str, list[ComparedValue]] = {}
    for text in texts:
        name, equals, rest = text.partition("=")
        key = check_key(name.strip())
        if not equals:
            raise InputError(f"--compare {text} does not say which values to compare.", f"Put them after a =: {key}=…")
        if key in varied:
            raise InputError(f"{key} is compared twice.", f"Put all its values in one option: {_EXAMPLE}")
        varied[key] = values_of(key, rest)
    return combinations(varied)


def values_of(key: str, text: str) -> list[ComparedValue]:
    """Return the comma-separated values of `text` for `key`, each once; ``unset`` is one too.

    Raises
    ------
    InputError
        There is none, one is invalid, or a quotation mark is not closed.
    """
    found = [(typed, _parsed(key, typed)) for typed in _split(text)]
    return _unique([ComparedValue(_title(typed), value) for typed, value in found])


def values_from_list(key: str, values: list[Any] | tuple[Any, ...]) -> list[ComparedValue]:
    """Return the values of a Python list for `key`, each once.

    Raises
    ------
    InputError
        There is none, or one is invalid.
    """
    parameter = PARAMETERS.get(key)
    if parameter is None:
        return _unique([ComparedValue(_title(value if isinstance(value, str) else UNSET), value) for value in values])
    return _unique(
        [
            ComparedValue(
                _title(str(value) if isinstance(value, (int, float)) else ", ".join(parameter.spell(fit))), fit
            )
            for value, fit in ((value, parameter.validate(value)) for value in map(_plain, values))
        ]
    )


def combinations(varied: dict[str, list[ComparedValue]]) -> VariationGrid:
    """Return all combinations of the values of some keys.

    Raises
    ------
    InputError
        There are none, or more than `MOST`.
    """
    if not varied:
        raise InputError("There is nothing to compare.", f"Say what differs, and over which values: {_EXAMPLE}")
    number = math.prod(map(len, varied.values()))
    if number > MOST:
        raise InputError(f"{number:,} combinations are more than can be compared.", f"Take at most {MOST}.")
    columns = tuple(
        Variation(
            " · ".join(_titled(key, one, alone=len(varied) == 1) for key, one in zip(varied, chosen, strict=True)),
            {key: one.value for key, one in zip(varied, chosen, strict=True)},
        )
        for chosen in itertools.product(*varied.values())
    )
    return VariationGrid(columns, len(list(varied.values())[-1]))


def check_key(name: str) -> str:
    """Return the key called `name`, spelled with hyphens or not.

    Raises
    ------
    InputError
        There is no such key.
    """
    key = name.replace("-", "_")
    if key not in KEYS:
        hint = suggestion(key, KEYS) or f"What can differ: {', '.join(KEYS)}."
        raise InputError(f"There is nothing called {name!r} to compare.", hint)
    return key


def _split(text: str) -> list[str]:
    found, end = [], 0
    while end < len(text):
        match = _VALUE.match(text, end)
        if match is None:
            raise InputError(
                f"A quotation mark is not closed in {text.strip()!r}.",
                "Put marks of the other kind around a value that begins with one.",
            )
        quoted = match["double"] if match["double"] is not None else match["single"]
        if quoted is not None:
            found.append(quoted)
        elif match["plain"]:
            found.append(match["plain"].rstrip())
        end = match.end()
    return found


def _parsed(key: str, text: str) -> Any:
    parameter = PARAMETERS.get(key)
    if parameter is None:
        return None if text == UNSET and key != "api" else text
    return parameter.parse(text)


def _plain(value: Any) -> Any:
    """Convert another kind of number (numpy's) to Python's, so that it is shown as one."""
    return value.item() if hasattr(value, "item") and not isinstance(value, (int, float)) else value


def _unique(values: list[ComparedValue]) -> list[ComparedValue]:
    if not values:
        raise InputError("There is no value to compare.", "Give some, with commas between them.")
    kept: list[ComparedValue] = []
    for one in values:
        if all(one.value != other.value or type(one.value) is not type(other.value) for other in kept):
            kept.append(one)
    return kept


def _titled(key: str, one: ComparedValue, *, alone: bool) -> str:
    # A model id needs no label.
    return one.title if alone and key == MODEL else f"{key} = {one.title}"


def _title(text: str) -> str:
    return shorten(text, _LONGEST) or repr(text)
