"""A scripted HTTP server over real sockets, plain or TLS: what a test wants a server to do, it does.

::

    with ScriptedServer(answers(["Once", " upon"])) as server:
        complete("Tell", base_url=server.base_url, model="test/chat")
        assert server.requests[0].json()["messages"][0]["content"] == "Tell"

A script is a function of one `Exchange`: the request that came, and what is sent back. It runs in
a thread of the server's, one for each connection. `GET …/models` is answered beside it.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import ssl
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import trustme

Script = Callable[["Exchange"], None]

HOST = "127.0.0.1"
DIALECTS = {"/v1/chat/completions": "chat", "/v1/completions": "completions", "/inference": "inference"}
MODELS = [
    {"id": "test/chat", "type": "chat", "display_name": "Test Chat", "pricing": {"input": 1.0, "output": 2.0}},
    {"id": "test/base", "type": "language", "display_name": "Test Base", "pricing": {"input": 0.5, "output": 0.5}},
]
USAGE = {"stream_options": {"include_usage": True}}  # what is sent to every server that is not Together's
PATIENCE = 20.0  # seconds; only a hang takes that long


class Gone(Exception):  # noqa: N818  (it ends a script, and is no error)
    """The client has closed the connection."""


@dataclass(frozen=True)
class Received:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int  # the number of the one that it came over, from 0

    def json(self) -> Any:
        return json.loads(self.body)


class ScriptedServer:
    """Runs `script` for each request. A script's own failure is raised when the server is left.

    `tls` is the authority whose certificate for `names` it shows; without one it speaks plain http. `models` are the
    rows of `GET …/models`, or a script for it, or None for a server without a list. `handshake=False` accepts
    connections and says nothing at all, not even TLS's hello.
    """

    def __init__(
        self,
        script: Script,
        *,
        tls: trustme.CA | None = None,
        models: list[dict[str, Any]] | Script | None = MODELS,
        handshake: bool = True,
        names: tuple[str, ...] = (HOST, "localhost"),
    ) -> None:
        self.script = script
        self.models = models
        self.requests: list[Received] = []  # all but those for the list
        self.list_requests: list[Received] = []
        self.connections = 0  # accepted so far
        self.sent: list[dict[str, Any]] = []  # the payloads of the events sent so far
        self.arrived = threading.Event()  # a request has come (with `handshake=False`: a connection)
        self.listed = threading.Event()  # the list has been asked for
        self.closed = threading.Event()  # the client has closed a connection on which one of `requests` had come
        self.closed_at: float | None = None  # perf_counter of the moment when `closed` was set
        self._failures: list[BaseException] = []
        self.handshake = handshake
        self._tls: ssl.SSLContext | None = None
        if tls is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.issue_cert(*names).configure_cert(self._tls)
        self._scheme = "http" if tls is None else "https"
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._live: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server((HOST, 0))
        self.port = self._listener.getsockname()[1]

    @property
    def base_url(self) -> str:
        return f"{self._scheme}://{HOST}:{self.port}"

    @property
    def lists(self) -> int:
        return len(self.list_requests)

    def __enter__(self):
        self._start(self._accept)
        return self

    def __exit__(self, kind, error, traceback):
        self.stop()
        if error is None and self._failures:
            raise self._failures[0]

    def stop(self) -> None:
        """Close every connection and wait for the threads. May be called in mid-script, to be a server that dies."""
        with self._lock:
            self._stopping.set()
            for one in (self._listener, *self._live):
                _shut(one)
        if self._threads:
            with contextlib.suppress(OSError):  # wakes accept() where a shutdown does not
                socket.create_connection((HOST, self.port), 1).close()
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a script did not end"
        self._listener.close()

    def _start(self, target: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, name="scripted server", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._stopping.is_set():
                    accepted.close()
                    return
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self._tls is not None and self.handshake:
                    accepted = self._tls.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
                self._live.add(accepted)
                number, self.connections = self.connections, self.connections + 1
                self._start(self._serve, _Connection(self, accepted, number))

    def _serve(self, connection: _Connection) -> None:
        try:
            connection.serve(handshake=self.handshake)
        except (Gone, OSError):
            if connection.carried and not self._stopping.is_set():
                self.closed_at = time.perf_counter()
                self.closed.set()
        except BaseException as error:  # noqa: BLE001  (raised again in the test's thread)
            self._failures.append(error)
        finally:
            with self._lock:
                self._live.discard(connection.socket)
                connection.socket.close()


class _Connection:
    """One connection: reads requests, and has them answered, one after the other."""

    def __init__(self, server: ScriptedServer, connected: socket.socket, number: int) -> None:
        self.server = server
        self.socket = connected
        self.number = number
        self.carried = False  # whether a request other than for the list has come
        self._buffer = b""

    def serve(self, *, handshake: bool) -> None:
        if not handshake:
            self.carried = True
            self.server.arrived.set()
            while True:
                self._read_more()
        if isinstance(self.socket, ssl.SSLSocket):
            self.socket.do_handshake()
        keep = True
        while keep:
            exchange = Exchange(self, self._request())
            self._script_for(exchange.request)(exchange)
            keep = exchange.end()
        with contextlib.suppress(OSError):
            _shut(self.socket)

    def _script_for(self, request: Received) -> Script:
        server = self.server
        if request.method != "GET" or not request.path.endswith("/models"):
            self.carried = True
            server.requests.append(request)
            server.arrived.set()
            return server.script
        server.list_requests.append(request)
        server.listed.set()
        if server.models is None:
            return replies(404, {"error": {"message": "no such address"}})
        return server.models if callable(server.models) else replies(200, server.models)

    def _request(self) -> Received:
        while b"\r\n\r\n" not in self._buffer:
            self._read_more()
            if not self._buffer[:1].isalpha():  # a hello of TLS where plain http is spoken
                self.socket.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                raise OSError
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", 0))
        while len(self._buffer) < length:
            self._read_more()
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return Received(method, path, headers, body, self.number)

    def _read_more(self) -> None:
        piece = self.socket.recv(65536)
        if not piece:
            raise Gone
        self._buffer += piece

    def watch(self, seconds: float) -> None:
        """Wait for `seconds`; raise `Gone` as soon as the client closes."""
        deadline = time.monotonic() + seconds
        while select.select([self.socket], [], [], max(deadline - time.monotonic(), 0))[0]:
            self._read_more()


class Exchange:
    """A request, and the means to answer it.

    Without `chunked` and without a ``content_length`` the body ends with the connection.
    """

    def __init__(self, connection: _Connection, request: Received) -> None:
        self.request = request
        self.server = connection.server
        self._connection = connection
        self._version = "HTTP/1.1"
        self._chunked = False
        self._zip: Any = None
        self._begun = False
        self._keep = False
        self._cut = False
        self._over = False

    @property
    def dialect(self) -> str:
        """The dialect by the request's path; ``chat`` for others."""
        return DIALECTS.get(self.request.path, "chat")

    def chunked(self) -> Exchange:
        """Send the body in chunks (to be said before anything is sent)."""
        self._chunked = True
        return self

    def gzip(self) -> Exchange:
        """Compress the body, flushed after each `send` (to be said before anything is sent)."""
        self._zip = zlib.compressobj(wbits=31)
        return self

    def http10(self) -> Exchange:
        """Answer as a server of 1996 (to be said before anything is sent)."""
        self._version = "HTTP/1.0"
        return self

    def headers(self, status: int = 200, **headers: Any) -> Exchange:
        """Send the status and the headers; ``content_type`` is written ``Content-Type``."""
        lines = {"content-type": "text/event-stream"}
        if self._chunked:
            lines["transfer-encoding"] = "chunked"
        if self._zip is not None:
            lines["content-encoding"] = "gzip"
        lines |= {name.lower().replace("_", "-"): str(value) for name, value in headers.items()}
        self._keep = self._chunked or "content-length" in lines
        if not self._keep:
            lines["connection"] = "close"
        self._begun = True
        head = [f"{self._version} {status} Scripted", *(f"{name.title()}: {value}" for name, value in lines.items())]
        self.raw("\r\n".join([*head, "", ""]).encode("latin-1"))
        return self

    def raw(self, data: bytes) -> None:
        """Send bytes as they are, not even as a chunk."""
        self._connection.socket.sendall(data)

    def send(self, data: bytes) -> None:
        """Send a piece of the body, after the headers."""
        if not self._begun:
            self.headers()
        if self._zip is not None:
            data = self._zip.compress(data) + self._zip.flush(zlib.Z_SYNC_FLUSH)
        self._send(data)

    def _send(self, data: bytes) -> None:
        if data:
            self.raw(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def event(self, payload: Any) -> None:
        """Send ``data: {json}`` and a blank line."""
        self.send(b"data: " + json.dumps(payload).encode() + b"\n\n")
        self.server.sent.append(payload)

    def text_events(self, texts: Iterable[str]) -> None:
        """An event for each text."""
        for text in texts:
            self.event(self.payload(text))

    def payload(self, text: str, *, finish: str | None = None, usage: Any = None, index: int = 0) -> dict[str, Any]:
        """An event's payload with one piece of text."""
        choice: dict[str, Any] = {"text": text}
        body: dict[str, Any] = {"id": "test-1", "choices": [choice]}
        if self.dialect == "inference":
            body["result_type"] = "language-model-inference"
        else:
            choice |= {"index": index, "logprobs": None}
            with contextlib.suppress(ValueError):
                body["model"] = self.request.json().get("model")
        if self.dialect == "chat":
            choice["delta"] = {"role": "assistant", "content": text}
        if finish is not None or self.dialect != "inference":
            choice["finish_reason"] = finish
        if usage is not None:
            body["usage"] = usage
        return body

    def done(self, *, last: bool = False) -> None:
        """Send the terminator; with `last` the end of the body comes in the same packet, so that no pause falls between."""
        terminator = b"data: [DONE]\n\n"
        if last and self._begun and self._chunked and self._zip is None:
            self._over = True
            self.raw(b"%x\r\n%b\r\n0\r\n\r\n" % (len(terminator), terminator))
        else:
            self.send(terminator)

    def reply(self, status: int, body: Any, **headers: Any) -> None:
        """A whole reply with its length: bytes as they are, anything else as JSON."""
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers = {"content_type": "application/json", **headers}
        self.headers(status, content_length=len(body), **headers)
        self.send(body)

    def cut(self, *, reset: bool = False) -> None:
        """End the connection when the script returns, in mid-body; `reset` does so the hard way."""
        self._cut = True
        if reset:
            linger = struct.pack("ii", 1, 0)
            self._connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    def wait(self, seconds: float) -> None:
        """Let time pass, unless the client goes."""
        self._connection.watch(seconds)

    def pause(self, event: threading.Event, timeout: float = PATIENCE) -> None:
        """Until `event` is set; the script ends if the client goes first, and fails after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while not event.is_set():
            self.wait(0.005)
            if time.monotonic() > deadline:
                raise AssertionError("what the script waits for did not happen")

    def await_close(self) -> None:
        """Until the client closes the connection, which ends the script; fails after an hour."""
        self._connection.watch(3600)
        raise AssertionError("the client did not close the connection")

    def end(self) -> bool:
        """End the body; whether the connection can serve again."""
        if self._cut:
            return False
        if not self._begun:
            self.headers()
        if self._zip is not None:
            self._send(self._zip.flush())
            self._zip = None
        if self._chunked and not self._over:
            self.raw(b"0\r\n\r\n")
        return self._keep


def answers(
    texts: Iterable[str], *, finish: str | None = "stop", usage: bool | dict[str, Any] = True, done: bool = True
) -> Script:
    """Streams `texts` and ends as the service does; `usage` True counts 5 tokens in and one for each text."""
    texts = list(texts)
    counted = {"prompt_tokens": 5, "completion_tokens": len(texts), "total_tokens": 5 + len(texts)}

    def script(exchange: Exchange) -> None:
        exchange.chunked().text_events(texts)
        if finish is not None:
            told = counted if usage is True else usage or None
            exchange.event(exchange.payload("", finish=finish, usage=told))
        if done:
            exchange.done(last=True)

    return script


def silent() -> Script:
    """Reads the request and says nothing, until the client goes."""
    return Exchange.await_close


def silent_after(texts: Iterable[str]) -> Script:
    """Sends the headers and `texts`, and then nothing, until the client goes."""
    texts = list(texts)

    def script(exchange: Exchange) -> None:
        exchange.chunked().headers()
        exchange.text_events(texts)
        exchange.await_close()

    return script


def endless(text: str, rate: float | None = None) -> Script:
    """Streams `text` again and again, `rate` times a second (None: as fast as it can), until the client goes."""

    def script(exchange: Exchange) -> None:
        exchange.chunked()
        while True:
            exchange.text_events([text])
            exchange.wait(1 / rate if rate else 0)

    return script


def replies(status: int, body: Any, **headers: Any) -> Script:
    """One whole reply: bytes as they are, anything else as JSON."""
    return lambda exchange: exchange.reply(status, body, **headers)


@contextlib.contextmanager
def full_listener() -> Iterator[str]:
    """The address of a port that takes no more connections, so that connecting waits."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((HOST, 0))
        listener.listen(0)
        for number in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(number == 0)  # the first one is taken
            filler.connect_ex(listener.getsockname())
        yield f"http://{HOST}:{listener.getsockname()[1]}"


def connecting(address: str) -> int:
    """How many connections to an address are being made; the system's table tells, and no event."""
    place = f":{urlsplit(address).port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[2].endswith(place) and row[3] == "02" for row in rows)


def eventually(true: Callable[[], Any]) -> None:
    """Wait until something is true; a minute, for slow machines."""
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


@cache
def authority() -> trustme.CA:
    """The authority of all test certificates."""
    return trustme.CA()


def _shut(connected: socket.socket) -> None:
    # Not SSLSocket's own, which forgets its TLS state under another thread's feet.
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connected, socket.SHUT_RDWR)
