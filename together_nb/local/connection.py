"""One client's connection: reads, writes, their timeouts, and whether the client is still there."""

from __future__ import annotations

import contextlib
import io
import math
import socket
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_HEAD = 65_536
"""The most bytes of a request's line and headers."""

REQUEST_SECONDS = 30
"""How long a request, with its body, may take to arrive."""
IDLE_SECONDS = 300
"""How long a connection that has carried a request is kept for the next."""
SEND_SECONDS = 120
"""How long a client may read nothing while it is being sent data."""
STALLED_SECONDS = 5
"""After this, it may be cut off for others."""
LINGER_SECONDS = 5
"""How long to keep reading from a refused client, so that it sees the error."""
LOOK_SECONDS = 0.1
"""Between two checks that the client is there."""
_PIECE = 65_536


class HeadTooLongError(Exception):
    """A request's line and headers have more than `MAX_HEAD` bytes."""


class Wire(io.RawIOBase):
    """A connection, as the raw stream below a buffered reader and a buffered writer.

    Parameters
    ----------
    connection
        The socket; its creator closes it.

    Attributes
    ----------
    proven
        Whether it has carried an admitted request.
    answering
        Whether a request is being answered.
    since
        When the wait for its client began (`monotonic`); infinite if there is no wait.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._ahead = bytearray()
        self._looked = 0.0
        self.proven = False
        self.begin()

    def begin(self) -> None:
        """Wait for a request."""
        self.answering, self.since = False, monotonic()
        self._idle = self.proven
        self._until = self.since + (IDLE_SECONDS if self._idle else REQUEST_SECONDS)
        self._left: float = MAX_HEAD

    def admit(self) -> None:
        """Lift the limit on what is read, once the head is admitted."""
        self.proven = True
        self._left = math.inf

    def answer(self) -> None:
        """Mark the request as complete: the client is no longer waited for."""
        self.answering, self.since, self._looked = True, math.inf, monotonic()

    @property
    def stalled(self) -> bool:
        """Whether its client has read nothing for `STALLED_SECONDS`."""
        return self.answering and monotonic() - self.since > STALLED_SECONDS

    def readable(self) -> bool:
        """Return True."""
        return True

    def writable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        """Read what has arrived, or wait for it.

        Raises
        ------
        TimeoutError
            The request has not arrived in time.
        HeadTooLongError
            Its head is too long.
        """
        if self._left <= 0:
            raise HeadTooLongError
        size = int(min(len(buffer), self._left))
        if self._ahead:
            piece = self._ahead[:size]
            del self._ahead[:size]
            size = len(piece)
            buffer[:size] = piece
        else:
            size = self._within(self._until, lambda: self._socket.recv_into(buffer, size))
        if self._idle:
            self._idle, self._until = False, monotonic() + REQUEST_SECONDS
        self._left -= size
        return size

    def _within(self, until: float, call: Callable[[], int]) -> int:
        seconds = until - monotonic()
        if seconds <= 0:
            raise TimeoutError
        self._socket.settimeout(seconds)
        return call()

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Send some of `data`.

        Raises
        ------
        ConnectionAbortedError
            The client has read nothing for `SEND_SECONDS`.
        """
        since, self.since = self.since, monotonic()
        try:
            return self._within(self.since + SEND_SECONDS, lambda: self._socket.send(data))
        except TimeoutError:
            self.cut()
            raise ConnectionAbortedError from None
        finally:
            self.since = since

    def look(self) -> None:
        """Check that the client is there, if the last check was some time ago.

        What it has sent ahead is buffered, since an end of the stream comes behind it.

        Raises
        ------
        ConnectionError
            It has gone, or has sent too much ahead.
        """
        now = monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        if len(self._ahead) > MAX_HEAD:  # an end behind that could not be seen
            raise ConnectionAbortedError
        self._socket.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            ahead = self._socket.recv(_PIECE)
            if not ahead:
                raise ConnectionResetError
            self._ahead += ahead

    def linger(self) -> None:
        """Close the sending side, and keep reading for a while."""
        self.answering, self.since = False, monotonic()
        until = self.since + LINGER_SECONDS
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
            while self._within(until, lambda: len(self._socket.recv(_PIECE))):
                pass

    def cut(self) -> None:
        """End the connection, from any thread."""
        with contextlib.suppress(OSError):  # it has already ended
            self._socket.shutdown(socket.SHUT_RDWR)

    def forget(self) -> None:
        """Close this process's descriptor, but not the connection itself."""
        with contextlib.suppress(OSError):
            socket.close(self._socket.detach())
