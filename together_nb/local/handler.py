"""The HTTP face: paths, keys, bodies in, JSON or events out."""

from __future__ import annotations

import hmac
import select
import socket
from http.server import BaseHTTPRequestHandler
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import unquote, urlsplit

from together_nb.local import MODEL_ID, asked, bodies
from together_nb.local.asked import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from together_nb.local.asked import Asked
    from together_nb.local.generation import Generated
    from together_nb.local.server import LocalServer

MAX_BODY = 10_000_000
"""The most bytes of a request's body."""

_DIALECTS = {
    "/inference": asked.INFERENCE,
    "/completions": asked.COMPLETIONS,
    "/chat/completions": asked.CHAT,
}
# Tokens between two looks whether the client of a reply that is not streamed is still there.
_LOOK_EVERY = 500
# How long an event of an answer that is not paced may wait for others.
_UNPACED_SECONDS = 0.02


class Handler(BaseHTTPRequestHandler):
    """One connection; `owner` is set on a subclass by the server."""

    protocol_version = "HTTP/1.1"
    server_version = "together_nb"
    disable_nagle_algorithm = True  # TCP_NODELAY: what is flushed leaves at once
    wbufsize = -1  # what is written waits to be flushed
    owner: ClassVar[LocalServer]

    def do_GET(self) -> None:
        """Answer the models."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """Answer a completion."""
        self._answer(self._post)

    def _answer(self, method: Any) -> None:
        # A client that has gone raises ConnectionError out of here; the server then closes in silence.
        try:
            body = self._body()
            self._check_key()
            method(self._path(), body)
        except RequestError as error:
            self._send_json(error.status, bodies.error_body(error))

    def _path(self) -> str:
        path = unquote(urlsplit(self.path).path).rstrip("/")
        return path.removeprefix("/v1")

    def _get(self, path: str, body: bytes) -> None:
        del body
        if path == "/models":
            self._send_json(200, [bodies.model_row()])
        elif path == f"/models/{MODEL_ID}":
            self._send_json(200, bodies.model_row())
        elif path.startswith("/models/"):
            name = path.removeprefix("/models/")
            raise RequestError(404, f"There is no model {name} here, only {MODEL_ID}.", "model", "model_not_available")
        elif path in _DIALECTS:
            raise RequestError(405, f"{self.path} takes POST.")
        else:
            raise self._unknown_path()

    def _post(self, path: str, body: bytes) -> None:
        if path.startswith("/models"):
            raise RequestError(405, f"{self.path} takes GET.")
        if path not in _DIALECTS:
            raise self._unknown_path()
        request = asked.read(_DIALECTS[path], body, any_model=self.owner.any_model)
        answers = request.generate(self.owner.model)
        if request.stream:
            self._send_events(request, answers)
        else:
            self._send_whole(request, answers)

    def _unknown_path(self) -> RequestError:
        paths = ", ".join(f"/v1{path}" for path in _DIALECTS)
        return RequestError(404, f"There is nothing at {self.path}. POST to {paths}, or GET /v1/models.")

    def _check_key(self) -> None:
        expected = self.owner.api_key
        given = self.headers.get("Authorization", "")
        if expected is not None and not hmac.compare_digest(given.encode(), f"Bearer {expected}".encode()):
            raise RequestError(
                401, "Invalid API key provided. It is the one this server was started with.", None, "invalid_api_key"
            )

    def _body(self) -> bytes:
        """The request's body, read whole, so that the next request of the connection is found.

        Raises
        ------
        RequestError
            Its length is not told (411), is no number (400), or is too great (413).
        """
        if self.headers.get("Transfer-Encoding"):
            self.close_connection = True
            raise RequestError(411, "The body must come whole, with a Content-Length.")
        told = self.headers.get("Content-Length", "0")
        if not (told.isascii() and told.isdigit()):
            self.close_connection = True
            raise RequestError(400, f"Content-Length must be a number of bytes, not {told!r}.")
        length = int(told[:20])
        if length > MAX_BODY:
            self.close_connection = True
            self._drain(length)
            raise RequestError(413, f"The body has {length} bytes; the most is {MAX_BODY}.")
        body = self.rfile.read(length)
        if len(body) < length:
            raise ConnectionResetError
        return body

    def _drain(self, length: int) -> None:
        # A client that is cut off while it sends never sees why.
        length = min(length, 10 * MAX_BODY)
        while length > 0 and (read := self.rfile.read(min(length, 65536))):
            length -= len(read)

    def _send_json(self, status: int, value: object) -> None:
        body = bodies.encoded(value)
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _send_whole(self, request: Asked, answers: list[Iterator[Generated]]) -> None:
        pieces: list[list[Generated]] = [[] for _ in answers]
        for number, batch in enumerate(self._paced(request, answers)):
            if number % _LOOK_EVERY == _LOOK_EVERY - 1 and self._client_gone():
                raise ConnectionResetError
            for index, piece in batch:
                pieces[index].append(piece)
        self._send_json(200, bodies.Reply(request).whole(pieces))

    def _send_events(self, request: Asked, answers: list[Iterator[Generated]]) -> None:
        reply = bodies.Reply(request)
        self._chunked = self.request_version >= "HTTP/1.1"  # older clients know no chunks
        self.close_connection = self.close_connection or not self._chunked
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Cache-Control", "no-cache")
        if self._chunked:
            self.send_header("Transfer-Encoding", "chunked")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self._flushed = 0.0
        for chunk in reply.opening():
            self._send_event(bodies.encoded(chunk))
        for batch in self._paced(request, answers):
            for index, piece in batch:
                self._send_event(bodies.encoded(reply.chunk(index, piece)))
        for chunk in reply.closing():
            self._send_event(bodies.encoded(chunk))
        self._send_event(b"[DONE]")
        if self._chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _paced(self, request: Asked, answers: list[Iterator[Generated]]) -> Iterator[list[tuple[int, Generated]]]:
        """The rounds of `answers`, each when it is due; the prompt and the ends do not wait."""
        pace = self.owner.pace()
        for number, batch in enumerate(_rounds(answers)):
            if number >= request.echoed and not all(piece.finish_reason for _, piece in batch):
                pace.wait()
            yield batch

    def _send_event(self, data: bytes) -> None:
        event = b"data: " + data + b"\n\n"
        self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event) if self._chunked else event)
        # Each event leaves when it is due. Where none is, and each would wake the reader, many leave together.
        now = monotonic()
        if self.owner.tokens_per_second or now - self._flushed >= _UNPACED_SECONDS:
            self.wfile.flush()
            self._flushed = now

    def _client_gone(self) -> bool:
        readable, _, _ = select.select([self.connection], [], [], 0)
        return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)

    def flush_headers(self) -> None:
        """Send them at once: a client may wait for ``100 Continue``."""
        super().flush_headers()
        self.wfile.flush()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer http.server's own complaints (a malformed request, an unknown method) in JSON too."""
        self.close_connection = True
        self._send_json(code, bodies.error_body(RequestError(int(code), message or explain or "Bad request.")))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (http.server's names)
        """Write a line to stderr, if the server was asked to."""
        if self.owner.verbose:
            super().log_message(format, *args)


def _rounds(answers: list[Iterator[Generated]]) -> Iterator[list[tuple[int, Generated]]]:
    """One piece of every answer that still runs, round by round."""
    running = list(enumerate(answers))
    while running:
        batch = [(index, next(answer)) for index, answer in running]
        yield batch
        ended = {index for index, piece in batch if piece.finish_reason}
        running = [(index, answer) for index, answer in running if index not in ended]
