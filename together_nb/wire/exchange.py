"""One request and its reply, whatever carries them."""

from __future__ import annotations

import contextlib
import itertools
import math
from dataclasses import dataclass, field
from time import monotonic
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from together_nb.base.cancellation import cancel_with_scope
from together_nb.config.addresses import is_loopback
from together_nb.config.keys import Headers
from together_nb.errors import APIConnectionError, APITimeoutError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from together_nb.config.keys import Key

LAST_BYTES_TIMEOUT = 0.05  # seconds: bytes after the terminator are mostly in the same packet
LAST_PIECES = 8


@dataclass(frozen=True)
class Call:
    """A request to a server, as a `Transport` carries it.

    Parameters
    ----------
    method, path
        As in HTTP, in the words of the dialect; a recording holds this path.
    root
        The server's base URL, without a trailing slash.
    payload
        The body, to be sent as JSON, or None.
    key
        Sent with the request, or None.
    connect_timeout, timeout
        Seconds: for the connection, and for the answer to begin.
    plain_payload
        What of the payload the user set, in the words of the dialect: a recording holds this, so that it answers
        whatever the family of the server. None is all of the payload.
    address
        The whole address, unless it is `root` and `path`: not every server has ``/v1``.
    headers
        Further headers, sent with the request; they replace others of the same name.
    """

    method: str
    root: str
    path: str
    payload: Any = None
    key: Key | None = None
    connect_timeout: float = 10.0
    timeout: float = 300.0
    plain_payload: Any = None
    address: str = ""
    headers: Headers = field(default_factory=Headers)

    @property
    def recorded(self) -> Any:
        """The payload that a recording holds."""
        return self.payload if self.plain_payload is None else self.plain_payload

    @property
    def url(self) -> str:
        """The whole address."""
        return self.address or self.root + self.path

    @property
    def is_local(self) -> bool:
        """Whether it goes to this machine."""
        return is_loopback(urlsplit(self.root).hostname or "")


class Exchange:
    """One request and its reply. One thread calls `open` and reads `pieces`; any other may `cancel` it.

    A `Transport` returns one for each request. It needs no socket: an engine in this process has only to set `status`
    in `open` and to yield the bytes of its reply in `pieces`.

    Parameters
    ----------
    call
        The request.

    Attributes
    ----------
    status : int
        HTTP status of the reply; 0 before there is one.
    headers : Mapping
        Headers of the reply, names in title case.
    """

    status: int = 0
    headers: Mapping[str, str] = MappingProxyType({})

    def __init__(self, call: Call) -> None:
        self.call = call
        self._cancelled = False
        cancel_with_scope(self)

    @property
    def url(self) -> str:
        """The address, for messages."""
        return self.call.url

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled

    def open(self) -> None:
        """Send the request, and wait for the status and the headers; do nothing if it is cancelled.

        Raises
        ------
        APIConnectionError
            No reply; `APITimeoutError` when it took too long.
        """
        raise NotImplementedError

    def pieces(self) -> Iterator[bytes]:
        """Yield the reply's bytes as they arrive, until its end or `cancel`.

        Raises
        ------
        APIConnectionError
            The connection broke; `APITimeoutError` when the server was silent too long.
        """
        raise NotImplementedError

    def cancel(self) -> None:
        """End every current or future wait of this exchange, from any thread."""
        self._cancelled = True

    def close(self) -> None:
        """Release what it holds."""

    def limit(self, silence: float, until: float = math.inf) -> None:
        """Allow `silence` seconds without a byte from now on, and no waiting beyond `until` (of `monotonic`)."""

    def finish(self) -> None:
        """Close it after the terminator; what may follow is not needed."""
        self.close()

    def _drain(self) -> None:
        """Close it after reading the few bytes that may follow the terminator."""
        self.limit(LAST_BYTES_TIMEOUT)
        with contextlib.suppress(APIConnectionError):
            for _ in itertools.islice(self.pieces(), LAST_PIECES):
                pass
        self.close()

    def whole(self, limit: int, seconds: float = math.inf) -> bytes:
        """Return the reply, or about `limit` bytes of it.

        Raises
        ------
        APIConnectionError
            The connection broke before its end; `APITimeoutError` when that took longer than about `seconds`.
        """
        until = monotonic() + seconds
        body = []
        for piece in self._up_to(limit):
            body.append(piece)
            if monotonic() > until:
                raise APITimeoutError(f"{self.url} had not sent all of its reply after {seconds:g} s.")
        return b"".join(body)

    def read(self, limit: int) -> bytes:
        """Like `whole`, but return what has arrived if the connection breaks."""
        body: list[bytes] = []
        with contextlib.suppress(APIConnectionError):
            body.extend(self._up_to(limit))
        return b"".join(body)

    def _up_to(self, limit: int) -> Iterator[bytes]:
        for piece in self.pieces():
            yield piece
            limit -= len(piece)
            if limit <= 0:
                return
