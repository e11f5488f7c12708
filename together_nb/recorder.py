"""Exchanges that are written to a file when they have ended."""

from __future__ import annotations

import codecs
import json
import logging
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from together_nb.completion import count, timestamp
from together_nb.config import is_loopback
from together_nb.errors import APIConnectionError, InputError
from together_nb.keyless import keys_to_hide, without_key
from together_nb.tape import KIND, RECORDING, STOPPED, VERSION, WHOLE, End, Entry
from together_nb.transport import Exchange

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
    written : int
        Exchanges in it.
    replaced : bool
        Another one's file has taken its place, so that nothing may be written any more.
    """

    def __init__(self, path: Path, model: str, *, force: bool = False) -> None:
        self.path = path
        self.written = 0
        self.replaced = False
        self._failed = ""
        self._lock = threading.Lock()
        head = {
            KIND: RECORDING,
            "version": VERSION,
            "recorded": timestamp(),
            "model": model,
        }
        try:
            with path.open("w" if force else "x", encoding="ascii") as file:
                file.write(json.dumps(head) + "\n")
        except FileExistsError:
            raise InputError(
                f"{path} exists already.", "Take another name, or add --force (force=True) to replace it."
            ) from None
        except OSError as error:
            raise InputError(
                f"{path} cannot be written: {error.strerror or error}.", "The folder must exist; check the name."
            ) from None

    def write(self, entry: Entry) -> None:
        """Add one exchange. That it cannot be written costs no answer: it is told, once."""
        line = json.dumps(entry.to_dict()) + "\n"
        with self._lock:
            if self.replaced:
                return
            try:
                with self.path.open("r+", encoding="ascii") as file:  # not made anew, if it was taken away
                    file.seek(0, 2)
                    file.write(line)
            except OSError as error:
                if not self._failed:
                    self._failed = f" {self.path} could not be written: {error.strerror or error}."
                    logging.getLogger("together_nb").warning("The recording lacks an answer.%s", self._failed)
                return
            self.written += 1

    def __str__(self) -> str:
        return f"{self.path} holds {count(self.written, 'recorded exchange')}.{self._failed}"


class Recorded(Exchange):
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

    def __init__(self, recorder: Recorder, asked: tuple[str, str, Any], url: str, **options: Any) -> None:
        super().__init__(asked[0], url, **options)
        self._recorder = recorder
        self._asked = asked
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
        if self._began is None or self._opening:
            return
        with self._lock:
            first, self._written = not self._written, True
        if first:
            self._recorder.write(self._entry(self._how or End(STOPPED if self.cancelled else WHOLE, self._seconds())))

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
        pieces = list(_decoded(self._pieces))
        entry = Entry(
            *self._asked, is_loopback(urlsplit(self.url).hostname or ""), self.status, kept, self._opened, [], end
        )
        for key in keys_to_hide(self._key):
            pieces = without_key(pieces, key)
            entry = Entry.from_dict(key.blanked_within(entry.to_dict()))
        entry.pieces.extend(pieces)
        return entry


def _decoded(pieces: list[tuple[float, bytes]]) -> Iterator[tuple[float, str]]:
    """As text from which the bytes can be had again; a character that was cut comes with its end."""
    decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
    seconds = 0.0
    for seconds, piece in pieces:
        if text := decode(piece):
            yield seconds, text
    if rest := decode(b"", final=True):
        yield seconds, rest
