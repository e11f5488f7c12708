"""One request and its reply, whatever carries them."""

from __future__ import annotations

import contextlib
import itertools
from types import MappingProxyType
from typing import TYPE_CHECKING

from together_nb.base.cancellation import cancel_with_scope
from together_nb.errors import APIConnectionError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_LAST_BYTES_TIMEOUT = 0.05  # seconds: bytes after the terminator are mostly in the same packet
_LAST_PIECES = 8


class Exchange:
    """One request and its reply. One thread calls `open` and reads `pieces`; any other may `cancel` it.

    A `Transport` returns one for each request. It needs no socket: an engine in this process has only to set `status`
    in `open` and to yield the bytes of its reply in `pieces`.

    Parameters
    ----------
    method, url
        As in HTTP; the URL is only shown.

    Attributes
    ----------
    status : int
        HTTP status of the reply; 0 before there is one.
    headers : Mapping
        Headers of the reply, names in title case.
    """

    status: int = 0
    headers: Mapping[str, str] = MappingProxyType({})

    def __init__(self, method: str, url: str) -> None:
        self.method = method
        self.url = url
        self._cancelled = False
        cancel_with_scope(self)

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

    def begun(self, seconds: float) -> None:
        """Allow `seconds` of silence from now on, since the answer has begun."""

    def expect_end(self, seconds: float) -> None:
        """Allow `seconds` of silence from now on, since nothing more is needed."""

    def finish(self) -> None:
        """Close it after the terminator; what may follow is not needed."""
        self.close()

    def _drain(self) -> None:
        """Close it after reading the few bytes that may follow the terminator."""
        self.expect_end(_LAST_BYTES_TIMEOUT)
        with contextlib.suppress(APIConnectionError):
            for _ in itertools.islice(self.pieces(), _LAST_PIECES):
                pass
        self.close()

    def whole(self, limit: int) -> bytes:
        """Return the reply, or about `limit` bytes of it.

        Raises
        ------
        APIConnectionError
            The connection broke before its end.
        """
        return b"".join(self._up_to(limit))

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
