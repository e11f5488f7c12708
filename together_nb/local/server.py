"""The server of the models on this machine, on a loopback port.

::

    with LocalServer(tokens_per_second=20) as server:
        requests.post(server.base_url + "/v1/completions", json={"model": "local/ngram", "prompt": "Once"})

`handler` is its HTTP. For the n-gram model, `request_body` reads requests and `responses` writes replies; requests for
model files go to `llama`, through `translation`.
"""

from __future__ import annotations

import os
import secrets
import socketserver
import sys
import threading
import time
import weakref
from http.server import ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from together_nb.base.fork import after_fork
from together_nb.local.connection import Wire
from together_nb.local.handler import Handler
from together_nb.local.llama import LlamaEngine
from together_nb.local.ngram import NgramModel, default_model

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

HOST = "127.0.0.1"

MOST_BYTES = 400_000_000  # of memory for requests and unstreamed answers together
MOST_ANSWERS = 128
"""The most requests answered at once."""
MOST_CONNECTIONS = MOST_ANSWERS + 32
"""The most connections. One more closes the one waited for longest, if possible one without a request."""
_PAUSE = 0.05  # seconds
_LOOK_SECONDS = 0.25  # between two checks that the client is there, before a token is due


class LocalServer:
    """Serves the models of this machine over HTTP in Together's three dialects, to this machine only.

    Parameters
    ----------
    model : NgramModel or None
        The n-gram model; None is `default_model`, trained at the first request.
    port : int
        TCP port; 0 takes a free one.
    tokens_per_second : float or None
        Tokens per second of each answer of the n-gram model; None or 0 is as fast as possible. May be changed while
        answers run.
    api_key : str or None
        The key to require; None requires none.
    any_model : bool
        Whether the n-gram model answers requests for unknown models. Replies still name the model that answered.
    verbose : bool
        Whether to write a line to stderr for each request.

    Attributes
    ----------
    api_key : str or None
        The required key.
    any_model : bool
        Whether any model name is accepted.
    verbose : bool
        Whether a line is written to stderr for each request.
    stopped : bool
        Whether `stop` was called.
    llama : LlamaEngine
        What runs model files.
    model : NgramModel
        The n-gram model.
    base_url : str
        The server's address, ``http://127.0.0.1:PORT``, without ``/v1``.
    tokens_per_second : float or None
        Tokens per second of each answer; None or 0 is as fast as possible.

    Raises
    ------
    OSError
        The port is taken.

    Examples
    --------
    >>> from together_nb import complete
    >>> from together_nb.local.server import LocalServer
    >>> with LocalServer() as server:
    ...     complete("Once upon a time", base_url=server.base_url, max_tokens=5).usage.completion_tokens
    5
    """

    def __init__(
        self,
        model: NgramModel | None = None,
        *,
        port: int = 0,
        tokens_per_second: float | None = None,
        api_key: str | None = None,
        any_model: bool = False,
        verbose: bool = False,
    ) -> None:
        self._model = model
        self.api_key = api_key
        self.any_model = any_model
        self.verbose = verbose
        self._rate = tokens_per_second
        self.changed = threading.Condition()
        self.stopped = False
        self.llama = LlamaEngine()
        self._http = ConnectionServer((HOST, port), type("Handler", (Handler,), {"owner": self}))
        self._thread: threading.Thread | None = None
        _servers.add(self)

    @property
    def model(self) -> NgramModel:
        """The n-gram model."""
        return self._model or default_model()

    @property
    def base_url(self) -> str:
        """The server's address, ``http://127.0.0.1:PORT``, without ``/v1``."""
        return f"http://{HOST}:{self._http.server_address[1]}"

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens per second of each answer; None or 0 is as fast as possible."""
        return self._rate

    @tokens_per_second.setter
    def tokens_per_second(self, rate: float | None) -> None:
        with self.changed:
            self._rate = rate
            self.changed.notify_all()

    def start(self) -> Self:
        """Serve from a daemon thread.

        Returns
        -------
        LocalServer
            This server.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self.serve_forever, name="together_nb.local", daemon=True)
            self._thread.start()
        return self

    def serve_forever(self) -> None:
        """Serve from this thread, until `stop` or an exception (Ctrl-C)."""
        self._http.serve_forever(poll_interval=0.05)

    def stop(self) -> None:
        """End all running answers, and close all connections and the port."""
        with self.changed:
            self.stopped = True
            self.changed.notify_all()
        if self._thread is not None:
            self._http.shutdown()
            self._thread.join()
        self._http.server_close()
        self._http.close_connections()
        self.llama.stop()

    def abandon(self) -> None:
        """Stop in the child of a fork, which has none of the parent's threads and must leave its connections open."""
        self.changed = threading.Condition()
        self.stopped = True
        self._thread = None
        self._http.forget()
        self.llama.abandon()

    def pace(self, look: Callable[[], None] = lambda: None) -> Throttle:
        """Return a throttle for the tokens of one answer.

        Parameters
        ----------
        look : callable
            Called regularly during a wait; it may raise to end it.

        Returns
        -------
        Throttle
            A new one at each call.
        """
        return Throttle(self, look)

    def __enter__(self) -> Self:
        """Start the server and return it."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the server."""
        self.stop()


class Throttle:
    """Paces the tokens of one answer at the server's rate.

    Due times are counted from one start, so that delays do not add up; a change of the rate makes
    a new start.
    """

    def __init__(self, server: LocalServer, look: Callable[[], None]) -> None:
        self._server = server
        self._look = look
        self._rate: float | None = None
        self._start = 0.0
        self._count = 0

    def wait(self) -> None:
        """Wait until the next token is due; the first one is due at once.

        Raises
        ------
        ConnectionAbortedError
            The server was stopped.
        """
        server = self._server
        if not server.tokens_per_second:
            self._rate = None
        else:
            while not server.stopped:
                with server.changed:
                    seconds = self._seconds_left()
                    if seconds <= 0:
                        break
                    if not server.stopped:
                        server.changed.wait(min(seconds, _LOOK_SECONDS))
                self._look()
        if server.stopped:
            raise ConnectionAbortedError
        self._count += 1

    def _seconds_left(self) -> float:
        rate = self._server.tokens_per_second
        now = time.monotonic()
        if rate != self._rate:
            # The token before this one was the last of the old schedule; count from it.
            elapsed = 1 if self._count else 0
            self._rate, self._start, self._count = rate, now, elapsed
        return self._start + self._count / rate - now if rate else 0.0


class ConnectionServer(ThreadingHTTPServer):
    """Limits and closes its connections; silent about clients that leave."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    # Outside Unix, this option would let two servers share the port.
    allow_reuse_address = os.name == "posix"

    def __init__(self, address: tuple[str, int], handler: type[Handler]) -> None:
        self._verbose = handler.owner.verbose
        self._wires: dict[socket.socket, Wire] = {}
        self._left = threading.Condition()
        self._reserved = 0
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Take the port."""
        # Not HTTPServer's, which looks up this machine's name: that can take seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    def get_request(self) -> Any:
        """Accept a connection."""
        try:
            return super().get_request()
        except OSError:
            time.sleep(_PAUSE)  # if descriptors have run out, the next try would fail at once
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread, cutting off another if there are too many."""
        with self._left:
            if len(self._wires) >= MOST_CONNECTIONS:
                waiting = [wire for wire in self._wires.values() if not wire.answering or wire.stalled]
                if waiting:
                    min(waiting, key=lambda wire: (wire.proven, wire.since)).cut()
                self._left.wait_for(lambda: len(self._wires) < MOST_CONNECTIONS, timeout=1)
            room = len(self._wires) < MOST_CONNECTIONS
            if room:
                self._wires[request] = Wire(request)
        if room:
            super().process_request(request, client_address)
        else:
            super().shutdown_request(request)

    def wire_of(self, request: Any) -> Wire:
        """The wire of a connection."""
        return self._wires[request]

    def reserve(self, size: int) -> bool:
        """Reserve `size` more bytes, and return whether they fit; a negative `size` releases them."""
        with self._left:
            fits = self._reserved + size <= MOST_BYTES
            self._reserved += size if fits else 0
        return fits

    def has_room(self, wire: Wire) -> bool:
        """Begin to answer the request of `wire`, and return whether there is room for it."""
        with self._left:
            answering = [other for other in self._wires.values() if other.answering]
            stalled = [other for other in answering if other.stalled]
            if len(answering) < MOST_ANSWERS or stalled:
                if len(answering) >= MOST_ANSWERS:
                    min(stalled, key=lambda other: other.since).cut()
                wire.answer()
        return wire.answering

    def shutdown_request(self, request: Any) -> None:
        """End a connection."""
        with self._left:
            self._wires.pop(request, None)
            self._left.notify_all()
        super().shutdown_request(request)

    def close_connections(self) -> None:
        """Cut off every connection."""
        with self._left:
            wires = list(self._wires.values())
        for wire in wires:
            wire.cut()

    def forget(self) -> None:
        """Close this process's descriptors of the port and the connections, in the child of a fork."""
        self._left = threading.Condition()
        for wire in self._wires.values():
            wire.forget()
        self._wires.clear()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print the error, if verbose."""
        if self._verbose and not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


_starting = threading.Lock()
_running: LocalServer | None = None
_servers: weakref.WeakSet[LocalServer] = weakref.WeakSet()


def running_server() -> LocalServer:
    """Return this process's server, started at the first call, and anew after a fork or `LocalServer.stop`.

    Its `api_key` is random, and known only in this process.
    """
    global _running  # noqa: PLW0603  (one for the process)
    with _starting:
        if _running is None or _running.stopped:
            _running = LocalServer(api_key=secrets.token_urlsafe(32)).start()
        return _running


def _after_fork() -> None:
    global _starting  # noqa: PLW0603
    _starting = threading.Lock()  # another thread may have held it at the fork
    for server in list(_servers):
        server.abandon()


after_fork(_after_fork)
