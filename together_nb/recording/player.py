"""Exchanges answered from a recording: no network, the original pace."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from together_nb.config.addresses import is_loopback
from together_nb.errors import InputError, NotRecordedError
from together_nb.recording.differences import differences
from together_nb.recording.entry import KIND, RECORDING, STOPPED, VERSION, WHOLE, End, Entry, request_key
from together_nb.storage.files import JsonLines
from together_nb.storage.redact import without_keys
from together_nb.values.from_json import UnfitError
from together_nb.wire.exchange import Exchange

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from together_nb.config.keys import Key

_NO_LIST = 404
_TICK = 0.1  # seconds; bounds Ctrl-C on Windows
_ANEW = "Record it anew."
_ENDS = "`%together replay off` ends the replay."


@dataclass
class Replay:
    """A recording being replayed.

    Parameters
    ----------
    path
        Its file.
    recorded
        The date, as ``2026-11-26``.
    model
        Of a request that names none; "" if unknown.
    entries
        The exchanges, in the order in which they ended.
    left_out
        What of the file could not be read, in a sentence or two; "" if nothing.
    speed
        Speed factor; 0 does not wait.
    name
        Identifies this replay.
    """

    live = False

    path: Path
    recorded: str
    model: str
    entries: list[Entry]
    left_out: str = ""
    speed: float = 1.0
    name: str = ""
    _played: dict[tuple[Any, ...], int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _by_question: dict[tuple[str, str, str], list[Entry]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for entry in self.entries:
            request = request_key(entry.method, entry.path, entry.payload)
            self._by_question.setdefault(request, []).append(entry)

    @classmethod
    def read(cls, path: Path) -> Replay:
        """Read the recording in a file.

        Raises
        ------
        InputError
            It cannot be read, or is not a recording of a known version.
        """
        lines = JsonLines(path)
        rows = iter(lines)
        _, head = next(rows, (1, None))
        if not isinstance(head, dict) or head.get(KIND) != RECORDING:
            raise InputError(f"{path} is no recording.", "`%together record FILE` makes one.")
        if head.get("version") != VERSION:
            raise InputError(
                f"{path} is a recording of version {repr(head.get('version'))[:20]}; here only {VERSION} is understood.",
                "Install a later together_nb.",
            )
        recorded, chosen = head.get("recorded", ""), head.get("model", "")
        if not isinstance(recorded, str) or not isinstance(chosen, str):
            raise InputError(f"{path} is no recording: in line 1, recorded and model must be texts.", _ANEW)
        entries = [_entry(path, number, row) for number, row in rows]
        if not entries and lines.broken:
            raise InputError(f"Line {lines.broken[0]} of {path} is no recorded exchange: it is broken.", _ANEW)
        if not entries:
            raise InputError(f"{path} holds no exchange: nothing was asked while it was recorded.", _ANEW)
        model = chosen or next((model for one in entries if (model := _model(one.payload))), "")
        return cls(path, recorded[:10], model, entries, lines.left_out)

    def forked(self) -> None:
        """Reset in a forked child: another thread may have held the lock."""
        self._lock = threading.Lock()

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

    def exchange(
        self, method: str, root: str, path: str, payload: Any, *, key: Key | None, **_timeouts: float
    ) -> ReplayedExchange:
        """As `wire.transport.Transport.exchange`."""
        url = root + path
        loopback = is_loopback(urlsplit(url).hostname or "")
        return ReplayedExchange(self, (method, path, without_keys(payload, key)), url, loopback=loopback)

    def take(self, method: str, path: str, payload: Any, *, loopback: bool) -> Entry:
        """Return the exchange that answers a request; several take turns, in order.

        Raises
        ------
        NotRecordedError
            The request is not in the recording.
        """
        request = request_key(method, path, payload)
        found = self._by_question.get(request, [])
        if payload is None:  # the same request lists the embedded engine's models and a service's
            found = [one for one in found if one.loopback == loopback] or found
        if any(one.is_whole for one in found):
            found = [one for one in found if one.end.how != STOPPED]
        if not found:
            if method == "GET":
                return _nothing(method, path)
            raise NotRecordedError(
                f"This request is not in {self.path.name}.",
                f"{differences(self.entries, path, payload)} {_ENDS}".strip(),
            )
        with self._lock:
            number = self._played.get((*request, loopback), 0)
            self._played[(*request, loopback)] = number + 1
        return found[number % len(found)]


def _entry(path: Path, number: int, row: Any) -> Entry:
    try:
        return Entry.from_dict(row)
    except UnfitError as error:
        raise InputError(
            f"Line {number} of {path} is no recorded exchange: {error.message}", "Take the line out, or record anew."
        ) from None


def _model(payload: Any) -> str:
    return str(payload.get("model") or "") if isinstance(payload, dict) else ""


def _nothing(method: str, path: str) -> Entry:
    """The reply of a server without such an address."""
    body = json.dumps({"error": {"message": "It was not asked for while the recording was made."}})
    headers = {"Content-Type": "application/json"}
    return Entry(method, path, None, False, _NO_LIST, headers, 0.0, [(0.0, body)], End(WHOLE, 0.0))


class ReplayedExchange(Exchange):
    """An `Exchange` whose reply comes from a recording.

    Parameters
    ----------
    replay
        The recording.
    request
        Method, path and payload (the key blanked).
    url, loopback
        Where it would have gone.
    """

    def __init__(self, replay: Replay, request: tuple[str, str, Any], url: str, *, loopback: bool) -> None:
        self._ended_by_us = threading.Event()  # before the base, whose scope may cancel it at once
        super().__init__(request[0], url, key=None, body=None, connect_timeout=1, timeout=1)
        self._replay = replay
        self._asked = request
        self._loopback = loopback
        self._entry: Entry | None = None
        self._shown: Entry | None = None  # once the headers are due
        self._began = 0.0
        self._unplayed: Iterator[tuple[float, str]] = iter(())

    @property
    def status(self) -> int:
        """As `Exchange.status`."""
        return 0 if self._shown is None else self._shown.status

    @property
    def headers(self) -> Mapping[str, str]:
        """As `Exchange.headers`, names in title case."""
        return {} if self._shown is None else self._shown.headers

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
        self._entry = entry = self._replay.take(*self._asked, loopback=self._loopback)
        self._unplayed = iter(entry.pieces)
        if entry.status == 0:
            self._end(entry.end)
        elif self._wait(entry.opened):
            self._shown = entry

    def pieces(self) -> Iterator[bytes]:
        """Yield the reply's bytes at their times.

        Raises
        ------
        APIConnectionError
            The connection broke, or the answer was stopped.
        """
        if self._shown is None:
            return
        for seconds, text in self._unplayed:
            if not self._wait(seconds):
                return
            yield text.encode(errors="surrogateescape")
        self._end(self._shown.end)

    def cancel(self) -> None:
        """End every current or future wait of this exchange."""
        self._ended_by_us.set()
        super().cancel()

    def _end(self, end: End) -> None:
        if self._wait(end.seconds) and end.error is not None:
            raise end.error

    def _wait(self, seconds: float) -> bool:
        """Wait until `seconds` of the recording have passed since the start; False if cancelled."""
        speed = self._replay.speed
        until = self._began + (seconds / speed if speed else 0.0)
        while not self._ended_by_us.is_set():
            left = until - monotonic()
            if left <= 0:
                return True
            _sleep(self._ended_by_us, min(left, _TICK))
        return False


def _sleep(until: threading.Event, seconds: float) -> None:
    until.wait(seconds)
