"""The items of a batch, and the names that each provides for a template.

An item is a text, a mapping, a tuple, a row of a DataFrame, a list of messages, or any other object.
pandas is not imported: a DataFrame is recognized by its attributes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from together_nb.errors import InputError

ITEM = "item"  # the name of the whole item in a template
_LOOKS = 'Pass a list of texts, dicts or tuples, or a DataFrame: ["Paris", "Rome"].'


@dataclass(frozen=True)
class Items:
    """The items of a batch.

    Parameters
    ----------
    rows
        The items, in order; each row of a DataFrame as a dict.
    index
        The DataFrame's index, or None.
    """

    rows: tuple[Any, ...]
    index: Any = None


def items_of(given: Any) -> Items:
    """Return the items in `given`, which is iterated once.

    Raises
    ------
    InputError
        It is one text, one dict, or not iterable.
    """
    if isinstance(given, (str, bytes)):
        raise InputError("One text was given, where many items are asked for.", f"For one, put it in a list. {_LOOKS}")
    if isinstance(given, Mapping):
        raise InputError("One dict was given, where many items are asked for.", f"For one, put it in a list. {_LOOKS}")
    if not isinstance(given, type) and all(hasattr(given, name) for name in ("itertuples", "to_dict", "columns")):
        return _rows(given)
    if not isinstance(given, Iterable):
        raise InputError(f"The items of a batch cannot be had from {type(given).__name__}.", _LOOKS)
    return Items(tuple(given))


def _rows(frame: Any) -> Items:
    """Return the rows of a DataFrame."""
    columns = list(frame.columns)
    twice = sorted({str(column) for column in columns if columns.count(column) > 1})
    if twice:  # a dict could hold only one of them
        raise InputError(
            f"The DataFrame has several columns called {', '.join(twice)}.", "Rename them, so that each can be told."
        )
    return Items(tuple(frame.to_dict("records")), frame.index)


def names_of(item: Any) -> dict[str, Any]:
    """Return the names for a template: ``item``, and the keys of a mapping or the fields of a named tuple.

    A key called ``item`` takes precedence. The environment's keys are left out.
    """
    return {ITEM: item, **({} if isinstance(item, type(os.environ)) else fields_of(item))}


def fields_of(item: Any) -> dict[str, Any]:
    """Return a mapping's entries whose keys are texts, or a named tuple's fields; else nothing."""
    if isinstance(item, Mapping):
        return {key: value for key, value in item.items() if isinstance(key, str)}
    fields = getattr(item, "_fields", None) if isinstance(item, tuple) else None
    return dict(zip(fields, item, strict=True)) if isinstance(item, tuple) and fields else {}


def is_conversation(item: Any) -> bool:
    """Whether it is a list of messages, ``{"role": …, "content": …}`` each."""
    turns = isinstance(item, Sequence) and not isinstance(item, (str, bytes)) and len(item) > 0
    return turns and all(isinstance(turn, Mapping) and isinstance(turn.get("role"), str) for turn in item)


def shown(item: Any) -> str:
    """Return an item in a line, for a table: a mapping's keys and values, the last of messages."""
    try:
        return _shown(item)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001  (a __str__ of the user's may raise anything)
        return f"<{type(item).__name__}>"


def _shown(item: Any) -> str:
    if isinstance(item, str):
        return item
    if is_conversation(item):
        return str(item[-1].get("content") or "")
    fields = fields_of(item)
    if fields:
        return ", ".join(f"{name}={value}" for name, value in fields.items())
    if isinstance(item, (tuple, list)):
        return ", ".join(map(str, item))
    return str(item)
