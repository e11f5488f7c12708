"""A recording: what ends it, and the lines of its file.

JSON Lines. The first line says what the file is; each further one is a finished exchange.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from together_nb.errors import APIConnectionError, APITimeoutError, InputError
from together_nb.values.from_json import (
    UnfitError,
    dataclass_reader,
    each_in,
    expect,
    fixed_number,
    name_in,
    number,
    whole_number,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Self

KIND = "together_nb"
RECORDING = "recording"
VERSION = 1
WHOLE, STOPPED, BROKEN = "whole", "stopped", "broken"
LONGEST = 86_400.0
"""Seconds that an exchange may take; a replay would wait as long."""
_OK, _LAST_STATUS = 200, 599


class Recording:
    """A transport that a session uses until it is ended; a context manager that ends it. Its `str` says what it does.

    Parameters
    ----------
    path
        The file.
    end
        Called with this object to end it.

    Attributes
    ----------
    on : bool
        Whether it is in use.
    name : str
        Identifies it in this process.
    replaces : str
        What ended as it began, in words; "" if nothing.
    entered : bool
        Whether it is that of a ``with`` block.
    outer : Recording or None
        That of the block in which it began, which goes on after it.
    """

    portable = False
    _numbers = itertools.count(1)

    def __init__(self, path: Path, end: Callable[[Recording], object]) -> None:
        self.path = path
        self.on = True
        self.replaces = ""
        self.entered = False
        self.outer: Recording | None = None
        self.name = f"{RECORDING} {next(self._numbers)} "
        self._end = end

    def __enter__(self) -> Self:
        if not self.on:
            raise InputError("This recording or replay has ended.", "Begin another one.")
        self.entered = True
        return self

    def __exit__(self, *_: object) -> None:
        self._end(self)

    def __repr__(self) -> str:
        return str(self)


@dataclass(frozen=True)
class End:
    """How an exchange ended.

    Parameters
    ----------
    how
        ``whole``, ``stopped`` (by the user) or ``broken``.
    seconds
        Since the request was sent.
    message, hint, passing
        Of the error, if it broke.
    timeout
        Whether that was an `APITimeoutError`.
    """

    how: str
    seconds: float
    message: str = ""
    hint: str = ""
    passing: str = ""
    timeout: bool = False

    @classmethod
    def of(cls, error: APIConnectionError, seconds: float) -> End:
        """The end due to `error`."""
        return cls(BROKEN, seconds, error.message, error.hint, error.passing, isinstance(error, APITimeoutError))

    @property
    def error(self) -> APIConnectionError | None:
        """The error to raise at the end, or None if it was whole."""
        if self.how == WHOLE:
            return None
        if self.how == STOPPED:
            return APIConnectionError(
                "The recording of this answer ends here: it was stopped.", "It has no more of it; record it anew."
            )
        error = (APITimeoutError if self.timeout else APIConnectionError)(self.message, self.hint)
        error.passing = self.passing
        return error


@dataclass(frozen=True)
class Entry:
    """One exchange: a line of the file.

    Parameters
    ----------
    method, path, payload
        The request; no host.
    loopback
        Whether the server was local.
    status
        HTTP status; 0 if there was no reply.
    headers
        Those that matter, in title case.
    opened
        Seconds until the headers.
    pieces
        Seconds since the request was sent, and the bytes as UTF-8 text (invalid ones escaped as surrogates).
    end
        How it ended.
    """

    method: str
    path: str
    payload: Any
    loopback: bool
    status: int
    headers: dict[str, str]
    opened: float
    pieces: list[tuple[float, str]]
    end: End

    def to_dict(self) -> dict[str, Any]:
        """The entry as JSON-able values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Entry:
        """Read what `to_dict` returned.

        Raises
        ------
        UnfitError
            It is not an entry; the message says where.
        """
        entry: Entry = _reader()(values)
        # Times must not decrease; a replay does not wait for a time that has passed.
        latest = entry.opened
        for place, (seconds, text) in enumerate(entry.pieces):
            latest = max(latest, seconds)
            entry.pieces[place] = latest, text
        return replace(entry, end=replace(entry.end, seconds=max(latest, entry.end.seconds)))

    @property
    def is_whole(self) -> bool:
        """Whether it is a complete answer."""
        return self.status == _OK and self.end.how == WHOLE


@cache
def _reader() -> Any:
    """The reader of an entry's JSON values."""
    seconds = number(0, LONGEST)
    return dataclass_reader(
        Entry,
        status=whole_number(0, _LAST_STATUS),
        opened=seconds,
        pieces=each_in(fixed_number([seconds, _text]), list),
        end=dataclass_reader(End, how=name_in(WHOLE, STOPPED, BROKEN), seconds=seconds),
    )


def _text(value: Any) -> str:
    try:
        expect(str, value).encode(errors="surrogateescape")
    except UnicodeEncodeError:
        raise UnfitError("holds half a character, which stands for no byte.") from None
    return str(value)


def request_key(method: str, path: str, payload: Any) -> tuple[str, str, str]:
    """A request as a lookup key, in which 1 equals 1.0."""
    same = json.loads(json.dumps(payload), parse_float=_number)
    return method, path, json.dumps(same, sort_keys=True)


def _number(digits: str) -> float:
    number = float(digits)
    return int(number) if number.is_integer() else number
