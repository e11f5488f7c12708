"""One client's connection: what comes over it, what goes out, how long each may take, and whether the client is there."""

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
"""How long a connection that has brought a request is kept for the next."""
SEND_SECONDS = 120
"""How long a client may read nothing while something is sent to it."""
STALLED_SECONDS = 5
"""After which it may be cut off for others."""
LINGER_SECONDS = 5
"""How long what a refused client still sends is read, so that it gets to see why."""
LOOK_SECONDS = 0.1
"""Between two looks whether the client is there."""
_PIECE = 65_536


class HeadTooLongError(Exception):
    """A request's line and headers have more than `MAX_HEAD` bytes."""


class Wire(io.RawIOBase):
    """A connection, as the raw stream below a buffered reader and a buffered writer.

    Parameters
    ----------
    connection
        The socket. Whoever made it closes it.

    Attributes
    ----------
    proven
        Whether it has brought a request that was let in.
    answering
        Whether a request is being answered.
    since
        Since when (`monotonic`) its client is waited for; infinite where it is not.
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
        """The head was read, and let in: bound no longer what is read."""
        self.proven = True
        self._left = math.inf

    def answer(self) -> None:
        """The request is whole: it is not the client that is waited for."""
        self.answering, self.since, self._looked = True, math.inf, monotonic()

    @property
    def stalled(self) -> bool:
        """Whether its client has read nothing for long."""
        return self.answering and monotonic() - self.since > STALLED_SECONDS

    def readable(self) -> bool:
        """It is."""
        return True

    def writable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        """Read what has come, or wait for it.

        Raises
        ------
        TimeoutError
            The request has not come in time.
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
        """Look whether the client is there, if the last look was some time ago.

        What it has sent ahead is put by: the end would be behind it.

        Raises
        ------
        ConnectionError
            It has gone.
        """
        now = monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        if len(self._ahead) > MAX_HEAD:  # its end could not be seen
            raise ConnectionAbortedError
        self._socket.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            ahead = self._socket.recv(_PIECE)
            if not ahead:
                raise ConnectionResetError
            self._ahead += ahead

    def linger(self) -> None:
        """Say that nothing more will be sent, and read for a while what still comes."""
        self.answering, self.since = False, monotonic()
        until = self.since + LINGER_SECONDS
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
            while self._within(until, lambda: len(self._socket.recv(_PIECE))):
                pass

    def cut(self) -> None:
        """End it, from whatever thread."""
        with contextlib.suppress(OSError):  # it has ended meanwhile
            self._socket.shutdown(socket.SHUT_RDWR)

    def forget(self) -> None:
        """Close this process's hold on it, and leave the connection itself as it is."""
        with contextlib.suppress(OSError):
            socket.close(self._socket.detach())
