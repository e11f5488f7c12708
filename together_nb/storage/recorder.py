"""Exchanges that are written to a file when they end."""

from __future__ import annotations

import codecs
import logging
import math
import os
import threading
from collections import deque
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING

from together_nb.base.fork import reset_after_fork
from together_nb.base.wording import count, timestamp
from together_nb.errors import APIConnectionError
from together_nb.storage import files
from together_nb.storage.entry import KIND, RECORDING, STOPPED, VERSION, WHOLE, End, Entry, Recording
from together_nb.storage.redact import keys_to_hide, without_key, without_logprobs
from together_nb.wire.exchange import Exchange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from together_nb.config.keys import Key
    from together_nb.wire.exchange import Call
    from together_nb.wire.transport import Transport

_KEPT_HEADERS = ("Content-Type", "Retry-After", "Date", "Server", "X-Litellm-Version")
_KEPT_BEGINNINGS = ("X-Ratelimit-", "X-Tokenlimit-")


class Recorder(Recording):
    """Carries requests as another transport does, and writes each exchange to a file when it ends.

    Parameters
    ----------
    path
        The file to create.
    model
        Of a request that names none; "" if the server must be asked.
    carrier
        The transport that carries the requests.
    end
        Called with this object to end it.
    force
        Replace an existing file.

    Raises
    ------
    InputError
        The file exists, or cannot be created.

    Attributes
    ----------
    path : Path
        The file.
    written : int
        Number of its exchanges.
    replaced : bool
        Another recording has replaced the file, so nothing more may be written.
    """

    def __init__(
        self, path: Path, model: str, carrier: Transport, end: Callable[[Recording], object], *, force: bool = False
    ) -> None:
        super().__init__(path, end)
        self.written = 0
        self.replaced = False
        self._carrier = carrier
        self._failed = ""
        self._writing = False
        self.forked()
        head = {KIND: RECORDING, "version": VERSION, "recorded": timestamp(), "model": model}
        self._file = files.write(path, [head], force=force)
        reset_after_fork(self)

    @property
    def live(self) -> bool:
        """As `Transport.live`; like the rest, that of what carries the requests."""
        return self._carrier.live

    @property
    def model(self) -> str:
        """As `Transport.model`."""
        return self._carrier.model

    @property
    def note(self) -> str:
        """As `Transport.note`."""
        return self._carrier.note

    @property
    def source(self) -> str:
        """As `Transport.source`."""
        return self._carrier.source

    def exchange(self, call: Call) -> Exchange:
        """As `Transport.exchange`."""
        return RecordedExchange(self, self._carrier.exchange(call))

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
        if self.on:
            begins = f"What is asked from now on is recorded in {self.path}; `%together record off` ends it."
            return f"{self.replaces} {begins}".lstrip()
        holds = f"{self.path} holds {count(self.written, 'recorded exchange')}."
        return f"The recording has ended: {holds}{self._failed}"


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
    line = files.line_of(replace(entry, pieces=[]).to_dict(), sent, pieces=pieces)
    back = Entry.from_dict(files.parsed(line.encode(), "It"))
    if (back.status, back.pieces) != (entry.status, pieces):
        raise ValueError("it could not be read again")
    return line


class RecordedExchange(Exchange):
    """An exchange of another transport that is written to a recording when it ends.

    Parameters
    ----------
    recorder
        The recording.
    inner
        The exchange.
    """

    def __init__(self, recorder: Recorder, inner: Exchange) -> None:
        self._recorder = recorder
        self._inner = inner
        self._began: float | None = None
        self._opening = False
        self._unwritten = [True]  # popped by the one that writes it: any thread, or the garbage collector
        self._opened = 0.0
        self._pieces: list[tuple[float, bytes]] = []
        self._unread: Iterator[bytes] | None = None
        self._how: End | None = None
        self._process = os.getpid()
        super().__init__(inner.call)

    @property
    def status(self) -> int:  # type: ignore[override]
        """As `Exchange.status`."""
        return self._inner.status

    @property
    def headers(self) -> Mapping[str, str]:  # type: ignore[override]
        """As `Exchange.headers`."""
        return self._inner.headers

    @property
    def cancelled(self) -> bool:
        """As `Exchange.cancelled`."""
        return self._inner.cancelled

    def open(self) -> None:
        """As `Exchange.open`, noting when and how."""
        if self.cancelled:
            return
        self._began = monotonic()
        self._opening = True  # on failure, it closes itself before raising
        try:
            self._inner.open()
        except APIConnectionError as error:
            self._ended(End.of(error, self._seconds()))
            raise
        finally:
            self._opening = False
            self._opened = self._seconds()

    def pieces(self) -> Iterator[bytes]:
        """As `Exchange.pieces`, noting each."""
        self._unread = self._unread or self._inner.pieces()
        try:
            for piece in self._unread:
                self._pieces.append((self._seconds(), piece))
                yield piece
        except APIConnectionError as error:
            self._ended(End.of(error, self._seconds()))
            raise
        if not self.cancelled:
            self._ended(End(WHOLE, self._seconds()))

    def limit(self, silence: float, until: float = math.inf) -> None:
        """As `Exchange.limit`."""
        self._inner.limit(silence, until)

    def finish(self) -> None:
        """As `Exchange.finish`: it is whole, even if the connection does not end in time."""
        self._ended(End(WHOLE, self._seconds()))
        self._drain()

    def cancel(self) -> None:
        """As `Exchange.cancel`."""
        self._inner.cancel()

    def close(self) -> None:
        """As `Exchange.close`, and write it."""
        self._inner.close()
        # The parent writes an exchange that was in progress at a fork.
        if self._began is None or self._opening or self._process != os.getpid():
            return
        try:
            self._unwritten.pop()
        except IndexError:
            return
        end = self._how or End(STOPPED if self.cancelled else WHOLE, self._seconds())
        self._recorder.write(self._entry(end), self.call.key)

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
        call, pieces = self.call, list(_decoded(self._pieces))
        return Entry(call.method, call.path, call.recorded, call.is_local, self.status, kept, self._opened, pieces, end)


def _decoded(pieces: list[tuple[float, bytes]]) -> Iterator[tuple[float, str]]:
    """Decode to text that can be encoded back; a split character goes with its last byte."""
    decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
    seconds = 0.0
    for seconds, piece in pieces:
        if text := decode(piece):
            yield seconds, text
    if rest := decode(b"", final=True):
        yield seconds, rest
