"""Exchanges that are written to a file when they have ended."""

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
    """A file that exchanges are written to, each when it has ended, by any thread.

    Parameters
    ----------
    path
        The file, which is made.
    model
        That of a request which names none; "" where the server has to be asked.
    force
        Put it in the place of one that exists.

    Raises
    ------
    InputError
        It exists, or cannot be made.

    Attributes
    ----------
    name : str
        Tells this recording from others.
    written : int
        Exchanges in it.
    replaced : bool
        Another one's file has taken its place, so that nothing may be written any more.
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
        """Add one exchange, without the key that was sent with it and the one that is set.

        That it cannot be written costs no answer: it is told, once.
        """
        try:
            self._waiting.append(_line(entry, sent))
        except (RecursionError, TypeError, ValueError) as error:
            self._fail(error)
        with self._lock:
            if self._writing:
                return  # the collector closes exchanges wherever it pleases, in the middle of this too
            self._writing = True
            try:
                while self._waiting:
                    self._add(self._waiting.popleft())
            finally:
                self._writing = False

    def forked(self) -> None:
        """Begin anew, as in the child of a fork: another thread may have been writing, and there is none."""
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
    """An exchange as a line of the file: without the key, and read back.

    Raises
    ------
    ValueError
        It could not be read.
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
    """An exchange over the network that is written to a recording when it has ended.

    Parameters
    ----------
    recorder
        Where to.
    asked
        Method, path and payload.
    url, options
        As `transport.Exchange`.
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
        self._opening = True  # a failed one closes itself before it says why
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
        """As `Exchange.finish`: it is whole, though the connection may not end in time."""
        self._ended(End(WHOLE, self._seconds()))
        super().finish()

    def close(self) -> None:
        """As `Exchange.close`, and write it."""
        super().close()
        # Of an exchange that was under way when the process was forked the parent writes.
        if self._began is None or self._opening or self._is_of_another_process:
            return
        with self._lock:
            first, self._written = not self._written, True
        if first:
            end = self._how or End(STOPPED if self.cancelled else WHOLE, self._seconds())
            self._recorder.write(self._entry(end), self._key)

    def _ended(self, end: End) -> None:
        """The first end counts; one that was stopped has no other."""
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
    """As text from which the bytes can be had again; a character that was cut comes with its end."""
    decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
    seconds = 0.0
    for seconds, piece in pieces:
        if text := decode(piece):
            yield seconds, text
    if rest := decode(b"", final=True):
        yield seconds, rest
