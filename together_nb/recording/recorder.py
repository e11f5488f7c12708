"""Exchanges that are written to a file when they end."""

from __future__ import annotations

import codecs
import json
import logging
import threading
from collections import deque
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from weakref import WeakSet

from together_nb.base.fork import after_fork
from together_nb.base.wording import count, timestamp
from together_nb.config.addresses import is_loopback
from together_nb.errors import APIConnectionError
from together_nb.recording.entry import KIND, RECORDING, STOPPED, VERSION, WHOLE, End, Entry
from together_nb.storage import files
from together_nb.storage.redact import keys_to_hide, without_key, without_keys, without_logprobs
from together_nb.wire.exchange import Exchange
from together_nb.wire.transport import encoded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from together_nb.config.keys import Key

_KEPT_HEADERS = ("Content-Type", "Retry-After", "Date")
_KEPT_BEGINNINGS = ("X-Ratelimit-", "X-Tokenlimit-")


class Recorder:
    """A file to which each exchange is written when it ends, from any thread.

    Parameters
    ----------
    path
        The file to create.
    model
        Of a request that names none; "" if the server must be asked.
    force
        Replace an existing file.

    Raises
    ------
    InputError
        It exists, or cannot be created.

    Attributes
    ----------
    name : str
        Identifies this recording.
    written : int
        Number of its exchanges.
    replaced : bool
        Another recording has replaced the file, so nothing more may be written.
    """

    live = True
    model = note = source = ""

    def __init__(self, path: Path, model: str, *, force: bool = False) -> None:
        self.path = path
        self.name = ""
        self.written = 0
        self.replaced = False
        self._failed = ""
        self._writing = False
        self.forked()
        head = {
            KIND: RECORDING,
            "version": VERSION,
            "recorded": timestamp(),
            "model": without_keys(model),
        }
        hint = "Take another name, or add --force (force=True) to replace it."
        self._file = files.write(path, [json.dumps(head) + "\n"], force=force, hint=hint)
        _recorders.add(self)

    def exchange(
        self, method: str, root: str, path: str, payload: Any, *, key: Key | None, **timeouts: float
    ) -> RecordedExchange:
        """As `wire.transport.Transport.exchange`."""
        return RecordedExchange(self, (method, path, payload), root + path, key=key, body=encoded(payload), **timeouts)

    def write(self, entry: Entry, sent: Key | None) -> None:
        """Add one exchange, without the key sent with it and all known keys.

        A failure to write affects no answer; it is logged, once.
        """
        try:
            self._waiting.append(_line(entry, sent))
        except (RecursionError, TypeError, ValueError) as error:
            self._fail(error)
        with self._lock:
            if self._writing:
                return  # the garbage collector may close an exchange in the middle of this
            self._writing = True
            try:
                while self._waiting:
                    self._add(self._waiting.popleft())
            finally:
                self._writing = False

    def forked(self) -> None:
        """Reset in a forked child: a thread that may have been writing is gone."""
        self._lock = threading.RLock()
        self._waiting: deque[str] = deque()
        self._writing = False

    def _add(self, line: str) -> None:
        if self.replaced:
            return
        try:
            files.append(self.path, line, self._file)
        except OSError as error:
            self._fail(error)
        else:
            self.written += 1

    def _fail(self, error: Exception) -> None:
        if not self._failed:
            self._failed = f" {self.path} could not be written: {getattr(error, 'strerror', '') or error}."
            logging.getLogger("together_nb").warning("The recording lacks an answer.%s", self._failed)

    def __str__(self) -> str:
        return f"{self.path} holds {count(self.written, 'recorded exchange')}.{self._failed}"


_recorders: WeakSet[Recorder] = WeakSet()


def _forked() -> None:
    for recorder in _recorders:
        recorder.forked()


after_fork(_forked)


def _line(entry: Entry, sent: Key | None) -> str:
    """Serialize an exchange without the key, and read it back as a check.

    Raises
    ------
    ValueError
        It cannot be read.
    """
    pieces = entry.pieces
    for key in keys_to_hide(sent):
        pieces = without_key(pieces, key)
    if pieces != entry.pieces:
        pieces = without_logprobs(pieces)
    values = {**without_keys(replace(entry, pieces=[]).to_dict(), sent), "pieces": pieces}
    line = json.dumps(values)
    back = Entry.from_dict(files.parsed(line.encode(), "It"))
    if (back.status, back.pieces) != (entry.status, pieces):
        raise ValueError("it could not be read again")
    return line


class RecordedExchange(Exchange):
    """A network exchange that is written to a recording when it ends.

    Parameters
    ----------
    recorder
        The recording.
    request
        Method, path and payload.
    url, options
        As for `Exchange`.
    """

    def __init__(self, recorder: Recorder, request: tuple[str, str, Any], url: str, **options: Any) -> None:
        super().__init__(request[0], url, **options)
        self._recorder = recorder
        self._asked = request
        self._began: float | None = None
        self._opening = False
        self._finishing = False
        self._written = False
        self._opened = 0.0
        self._pieces: list[tuple[float, bytes]] = []
        self._how: End | None = None

    def open(self) -> None:
        """As `Exchange.open`, noting when and how."""
        if self.cancelled:
            return
        self._began = monotonic()
        self._opening = True  # on failure, it closes itself before raising
        try:
            super().open()
        except APIConnectionError as error:
            self._ended(End.of(error, self._seconds()))
            raise
        finally:
            self._opening = False
            self._opened = self._seconds()

    def pieces(self) -> Iterator[bytes]:
        """As `Exchange.pieces`, noting each."""
        try:
            for piece in super().pieces():
                self._pieces.append((self._seconds(), piece))
                yield piece
        except APIConnectionError as error:
            self._ended(End.of(error, self._seconds()))
            raise
        if not self.cancelled:
            self._ended(End(WHOLE, self._seconds()))

    def finish(self) -> None:
        """As `Exchange.finish`: it is whole, even if the connection does not end in time."""
        self._ended(End(WHOLE, self._seconds()))
        super().finish()

    def close(self) -> None:
        """As `Exchange.close`, and write it."""
        super().close()
        # The parent writes an exchange that was in progress at a fork.
        if self._began is None or self._opening or self._is_of_another_process:
            return
        with self._lock:
            first, self._written = not self._written, True
        if first:
            end = self._how or End(STOPPED if self.cancelled else WHOLE, self._seconds())
            self._recorder.write(self._entry(end), self._key)

    def _ended(self, end: End) -> None:
        """Keep the first end; a cancelled exchange is stopped."""
        if self._how is None:
            self._how = End(STOPPED, end.seconds) if self.cancelled else end

    def _seconds(self) -> float:
        return 0.0 if self._began is None else round(monotonic() - self._began, 6)

    def _entry(self, end: End) -> Entry:
        headers = {name.title(): value for name, value in self.headers.items()}
        kept = {
            name: value for name, value in headers.items() if name in _KEPT_HEADERS or name.startswith(_KEPT_BEGINNINGS)
        }
        loopback = is_loopback(urlsplit(self.url).hostname or "")
        pieces = list(_decoded(self._pieces))
        return Entry(*self._asked, loopback, self.status, kept, self._opened, pieces, end)


def _decoded(pieces: list[tuple[float, bytes]]) -> Iterator[tuple[float, str]]:
    """Decode to text that can be encoded back; a split character goes with its last byte."""
    decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
    seconds = 0.0
    for seconds, piece in pieces:
        if text := decode(piece):
            yield seconds, text
    if rest := decode(b"", final=True):
        yield seconds, rest
