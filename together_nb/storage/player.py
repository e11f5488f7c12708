"""Exchanges answered from a recording: no network, the original pace."""

from __future__ import annotations

import json
import threading
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from together_nb.base.fork import reset_after_fork
from together_nb.base.interrupts import TICK_SECONDS
from together_nb.base.wording import count
from together_nb.errors import InputError, NotRecordedError
from together_nb.storage.differences import differences
from together_nb.storage.entry import KIND, RECORDING, STOPPED, VERSION, WHOLE, End, Entry, Recording, request_key
from together_nb.storage.files import JsonLines
from together_nb.storage.redact import without_keys
from together_nb.values.from_json import UnfitError
from together_nb.wire.exchange import Exchange
from together_nb.wire.status_errors import NOWHERE, REFUSED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from together_nb.wire.exchange import Call

_NO_LIST = 404
_ANEW = "Record it anew."
_ENDS = "`%together replay off` ends the replay."


class Replay(Recording):
    """Answers requests from the recording in a file.

    Parameters
    ----------
    path
        The file.
    speed
        Speed factor; 0 does not wait.
    end
        Called with this object to end it.

    Raises
    ------
    InputError
        The file cannot be read, or is not a recording of a known version.

    Attributes
    ----------
    path : Path
        The file.
    recorded : str
        The date, as ``2026-11-26``.
    model : str
        Of a request that names none; "" if unknown.
    entries : list of Entry
        The exchanges, in the order in which they ended.
    left_out : str
        What of the file could not be read, in a sentence or two; "" if nothing.
    speed : float
        Speed factor; 0 does not wait.
    """

    live = False

    def __init__(self, path: Path, speed: float = 1.0, end: Callable[[Recording], object] = lambda _: None) -> None:
        super().__init__(path, end)
        lines = JsonLines(path)
        rows = iter(lines)
        recorded, chosen = _head(path, next(rows, (1, None))[1])
        self.entries = [_entry(path, number, row) for number, row in rows]
        if not self.entries and lines.broken:
            raise InputError(f"Line {lines.broken[0]} of {path} is no recorded exchange: it is broken.", _ANEW)
        if not self.entries:
            raise InputError(f"{path} holds no exchange: nothing was asked while it was recorded.", _ANEW)
        self.recorded = recorded[:10]
        self.model = chosen or next((model for one in self.entries if (model := _model(one.payload))), "")
        self.left_out = lines.left_out
        self.speed = speed
        self._played: dict[tuple[Any, ...], int] = {}
        self._by_request: dict[tuple[str, str, str], list[Entry]] = {}
        for entry in self.entries:
            self._by_request.setdefault(request_key(entry.method, entry.path, entry.payload), []).append(entry)
        self.forked()
        reset_after_fork(self)

    def forked(self) -> None:
        """Reset in a forked child: another thread may have held the lock."""
        self._lock = threading.Lock()

    def __str__(self) -> str:
        if not self.on:
            return f"The replay of {self.path} has ended."
        played = f"{self.path} is played back{self.pace}: {count(len(self.entries), 'exchange')} of {self.recorded}."
        return " ".join(filter(None, (self.replaces, played, self.left_out, "`%together replay off` ends it.")))

    @property
    def pace(self) -> str:
        """The speed in words; "" if original."""
        return (
            "" if self.speed == 1 else f" at {self.speed:g}\N{MULTIPLICATION SIGN}" if self.speed else " at full speed"
        )

    @property
    def note(self) -> str:
        """Note in the footer."""
        return f"a replay of {self.recorded}{self.pace}"

    @property
    def source(self) -> str:
        """Where answers come from, in words."""
        return f"{self.note}, {self.path}"

    def exchange(self, call: Call) -> Exchange:
        """As `Transport.exchange`; no time-out counts, since the reply is there."""
        return ReplayedExchange(self, call)

    def take(self, call: Call) -> Entry:
        """Return the exchange that answers a request; several take turns, in order.

        Raises
        ------
        NotRecordedError
            The request is not in the recording.
        """
        payload, loopback = without_keys(call.recorded, call.key), call.is_local
        request = request_key(call.method, call.path, payload)
        found = self._by_request.get(request, [])
        if payload is None:  # the same request lists the embedded engine's models and a service's
            found = [one for one in found if one.loopback == loopback] or found
        if any(one.is_whole for one in found):
            # A refusal beside a whole answer was of a field that the user had not set, or of another address.
            found = [one for one in found if one.end.how != STOPPED and one.status not in (*REFUSED, *NOWHERE)]
        if not found:
            if call.method == "GET":
                return _nothing(call)
            raise NotRecordedError(
                f"This request is not in {self.path.name}.",
                f"{differences(self.entries, call.path, payload)} {_ENDS}".strip(),
            )
        with self._lock:
            number = self._played.get((*request, loopback), 0)
            self._played[(*request, loopback)] = number + 1
        return found[number % len(found)]


def _head(path: Path, head: Any) -> tuple[str, str]:
    """The date and the model in the first line of a recording."""
    if not isinstance(head, dict) or head.get(KIND) != RECORDING:
        raise InputError(f"{path} is no recording.", "`%together record FILE` makes one.")
    if head.get("version") != VERSION:
        raise InputError(
            f"{path} is a recording of version {repr(head.get('version'))[:20]}; here only {VERSION} is understood.",
            "Install a later together_nb.",
        )
    recorded, model = head.get("recorded", ""), head.get("model", "")
    if not isinstance(recorded, str) or not isinstance(model, str):
        raise InputError(f"{path} is no recording: in line 1, recorded and model must be texts.", _ANEW)
    return recorded, model


def _entry(path: Path, number: int, row: Any) -> Entry:
    try:
        return Entry.from_dict(row)
    except UnfitError as error:
        raise InputError(
            f"Line {number} of {path} is no recorded exchange: {error.message}", "Take the line out, or record anew."
        ) from None


def _model(payload: Any) -> str:
    return str(payload.get("model") or "") if isinstance(payload, dict) else ""


def _nothing(call: Call) -> Entry:
    """The reply of a server without such an address."""
    body = json.dumps({"error": {"message": "It was not asked for while the recording was made."}})
    headers = {"Content-Type": "application/json"}
    return Entry(call.method, call.path, None, False, _NO_LIST, headers, 0.0, [(0.0, body)], End(WHOLE, 0.0))


class ReplayedExchange(Exchange):
    """An exchange whose reply comes from a recording.

    Parameters
    ----------
    replay
        The recording.
    call
        The request.
    """

    def __init__(self, replay: Replay, call: Call) -> None:
        super().__init__(call)
        self._replay = replay
        self._began = 0.0
        self._end = End(WHOLE, 0.0)
        self._unplayed: Iterator[tuple[float, str]] = iter(())

    def open(self) -> None:
        """Look the request up, and wait as long as the headers took.

        Raises
        ------
        NotRecordedError
            It is not in the recording.
        APIConnectionError
            There was no reply.
        """
        if self.cancelled:
            return
        self._began = monotonic()
        entry = self._replay.take(self.call)
        if entry.status == 0:
            self._finish(entry.end)
        elif self._wait(entry.opened):
            self.status, self.headers = entry.status, entry.headers
            self._unplayed, self._end = iter(entry.pieces), entry.end

    def pieces(self) -> Iterator[bytes]:
        """Yield the reply's bytes at their times.

        Raises
        ------
        APIConnectionError
            The connection broke, or the answer was stopped.
        """
        for seconds, text in self._unplayed:
            if not self._wait(seconds):
                return
            yield text.encode(errors="surrogateescape")
        self._finish(self._end)

    def _finish(self, end: End) -> None:
        if self._wait(end.seconds) and end.error is not None:
            raise end.error

    def _wait(self, seconds: float) -> bool:
        """Wait until `seconds` of the recording have passed since the start; False if cancelled."""
        speed = self._replay.speed
        until = self._began + (seconds / speed if speed else 0.0)
        while not self.cancelled:
            left = until - monotonic()
            if left <= 0:
                return True
            sleep(min(left, TICK_SECONDS))
        return False
