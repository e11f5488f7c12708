"""The HTTP handler: paths, keys and bodies in, JSON or events out."""

from __future__ import annotations

import hmac
import itertools
import re
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from io import BufferedReader, BufferedWriter
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, Protocol
from urllib.parse import unquote

from together_nb.local import access, responses
from together_nb.local.connection import MAX_HEAD, HeadTooLongError
from together_nb.local.models import INSTALL_ENGINE, model_files, runnable_files, served_models, title
from together_nb.local.request_body import CHAT, COMPLETIONS, INFERENCE, RequestError, body_values, parsed
from together_nb.local.translation import Translation
from together_nb.values.local_models import NGRAM, SMOLLM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from together_nb.local.connection import Wire
    from together_nb.local.llama import LlamaEngine
    from together_nb.local.ngram import NgramModel
    from together_nb.local.request_body import ParsedRequest
    from together_nb.local.vocabulary import Generated

MAX_BODY = 4_000_000
"""The most bytes of a request's body."""

_DIALECTS = {
    "/inference": INFERENCE,
    "/completions": COMPLETIONS,
    "/chat/completions": CHAT,
}
# Clients add the version, or the whole path, to addresses that have it already.
_PREFIXES = re.compile("^(?:/v1(?=/|$)|(?:/chat)?/completions(?=/))+")
# Tokens, alternatives and pieces of long texts of an unstreamed reply: each takes half a kilobyte until it is sent.
_MOST_HELD = 50_000
_BYTES_HELD = 1000  # each, with its JSON
_HELD_AT_ONCE = 100
_COPIES = 10  # bytes of memory per byte of a body: its text, which may take four, the values in it, the prompt
# How long an event of an unpaced answer may wait for others.
_UNPACED_SECONDS = 0.02


class Pacer(Protocol):
    """Paces the tokens of one answer at the server's rate."""

    def wait(self) -> None:
        """Wait until the next token is due."""


class Owner(Protocol):
    """The server whose model answers; `LocalServer` is one."""

    model: NgramModel
    llama: LlamaEngine
    api_key: str | None
    any_model: bool
    verbose: bool

    @property
    def tokens_per_second(self) -> float | None:
        """The rate at which tokens are sent; None is as fast as possible."""

    def pace(self, look: Callable[[], None]) -> Pacer:
        """The throttle of one answer, which calls `look` while it waits."""


class Connections(Protocol):
    """The open connections, limited in number; `ConnectionServer` holds them."""

    def wire_of(self, request: Any) -> Wire:
        """The connection of a socket."""

    def reserve(self, size: int) -> bool:
        """Reserve `size` more bytes for a request, and return whether they fit."""

    def has_room(self, wire: Wire) -> bool:
        """Whether one more answer may be written."""


class Handler(BaseHTTPRequestHandler):
    """One connection. The server sets `owner` on a subclass."""

    protocol_version = "HTTP/1.1"
    default_request_version = "HTTP/1.0"  # a malformed request gets headers too
    server_version = "together_nb"
    disable_nagle_algorithm = True  # TCP_NODELAY: what is flushed leaves at once
    owner: ClassVar[Owner]
    server: Connections  # type: ignore[assignment]

    def setup(self) -> None:
        """Read and write through the connection's `Wire`."""
        super().setup()
        self.wire = self.server.wire_of(self.request)
        self.rfile, self.wfile = BufferedReader(self.wire), BufferedWriter(self.wire)  # type: ignore[type-var]
        self._lingers = False

    def finish(self) -> None:
        """Send what is left; a client that has gone or reads nothing is not an error."""
        with suppress(OSError):
            self.wfile.flush()
            if self._lingers:
                self.wire.linger()
        with suppress(OSError):
            super().finish()

    def handle_one_request(self) -> None:
        """Answer one request, also one whose head is too long."""
        self.wire.begin()
        self.command = self.requestline = ""
        self.request_version = self.default_request_version
        self._expects = self._begun = False
        try:
            super().handle_one_request()
        except HeadTooLongError:
            self.send_error(431, f"The request's line and headers have more than {MAX_HEAD} bytes.")

    def handle_expect_100(self) -> bool:
        """Put off ``100 Continue`` until the request is admitted."""
        self._expects = True
        return True

    def do_GET(self) -> None:
        """Serve the list of models, or one of them."""
        self._answer(self._get)

    def do_HEAD(self) -> None:
        """Serve what GET does, without the body."""
        self.do_GET()

    def do_POST(self) -> None:
        """Serve a completion."""
        self._answer(self._post)

    def _answer(self, method: Callable[[str, bytes], None]) -> None:
        # If the client has gone, ConnectionError is raised from here; the server then closes silently.
        self._held = 0
        try:
            self._answer_within_bounds(method)
        finally:
            self.server.reserve(-self._held)

    def _hold(self, size: int) -> None:
        """Reserve memory for this request until it is answered.

        Raises
        ------
        RequestError
            503: other requests hold too much.
        """
        if not self.server.reserve(size):
            raise RequestError(503, "The server holds as much for other requests as it can. Try again in a moment.")
        self._held += size

    def _answer_within_bounds(self, method: Callable[[str, bytes], None]) -> None:
        try:
            length = self._admitted()
            self._hold(_COPIES * length)
        except RequestError as error:
            self._lingers = self.close_connection = True  # its body is not read
            self._send_json(error.status, responses.error_body(error))
            return
        try:
            method(self._path(), self._body(length))
        except RequestError as error:
            self._send_json(error.status, responses.error_body(error))
        except (ConnectionError, TimeoutError):
            raise
        except Exception as error:  # noqa: BLE001  (its fault is ours, and told to the client)
            self.log_message("%r", error)
            if self._begun:
                raise ConnectionAbortedError from None
            failure = RequestError(500, f"The server failed: {type(error).__name__}. This is a fault in together_nb.")
            self._send_json(500, responses.error_body(failure))

    def _admitted(self) -> int:
        """Admit the request, and return the length of its body.

        Raises
        ------
        RequestError
            As `origin.check` and `_length`; 401: the key is missing or wrong.
        """
        if len(self.requestline.split()) != 3:  # noqa: PLR2004  (method, target, version; HTTP/0.9 has no version)
            raise RequestError(400, "The request's first line must end with HTTP/1.1.")
        access.check(self.path, self.request_version, self.headers)
        self._check_key()
        length = self._length()
        self.wire.admit()
        return length

    def _path(self) -> str:
        path = self.path if self.path.startswith("/") else "/" + self.path.partition("://")[2].partition("/")[2]
        path = re.sub("/+", "/", unquote(re.split("[?#]", path)[0])).rstrip("/")
        return _PREFIXES.sub("", path)

    def _get(self, path: str, body: bytes) -> None:
        del body
        if path == "/models":
            self._send_json(200, responses.model_list(self.headers.get("User-Agent", "")))
        elif path.startswith("/models/"):
            name = path.removeprefix("/models/")
            rows = [row for row in responses.model_rows() if row["id"] == name]
            if not rows:
                raise _unknown_model(name)
            self._send_json(200, rows[0])
        elif path in _DIALECTS:
            raise RequestError(405, f"{self.path:.200} takes POST.")
        else:
            raise self._unknown_path()

    def _post(self, path: str, body: bytes) -> None:
        if path.startswith("/models"):
            raise RequestError(405, f"{self.path:.200} takes GET.")
        if path not in _DIALECTS:
            raise self._unknown_path()
        dialect, values = _DIALECTS[path], body_values(body)
        del body  # frees a long one before the answer is written
        model = values.get("model")
        files = runnable_files()
        if isinstance(model, str) and model in files:
            self._relay(Translation(dialect, model, values), model, files[model])
            return
        if model != NGRAM and not self.owner.any_model:
            raise _unknown_model(model)
        request = parsed(dialect, values)
        answers = request.generate(self.owner.model)
        if request.stream:
            self._send_events(request, answers)
        else:
            self._send_whole(request, answers)

    def _relay(self, translation: Translation, model: str, file: Path) -> None:
        """Have llama.cpp answer."""
        look = self.wire.look
        with self.owner.llama.lease(model, file, look) as process:
            if not translation.stream:
                self._send_json(200, translation.whole(lambda path, body: process.whole(path, body, look)))
                return
            events = translation.events(lambda path, body: process.events(path, body, look))
            first = next(events)  # before the status: it may be refused
            self._begin_events()
            try:
                for event in itertools.chain((first,), events):
                    self._send_event(responses.encoded(event), at_once=True)
            except RequestError as error:
                self._send_event(responses.encoded(responses.error_body(error)))
            self._end_events()

    def _unknown_path(self) -> RequestError:
        paths = ", ".join(f"/v1{path}" for path in _DIALECTS)
        return RequestError(404, f"There is nothing at {self.path:.200}. POST to {paths}, or GET /v1/models.")

    def _check_key(self) -> None:
        expected = self.owner.api_key
        given = self.headers.get("Authorization", "")
        if expected is not None and not hmac.compare_digest(given.encode(), f"Bearer {expected}".encode()):
            raise RequestError(
                401, "Invalid API key provided. It is the one this server was started with.", None, "invalid_api_key"
            )

    def _length(self) -> int:
        """The length of the request's body, in bytes.

        Raises
        ------
        RequestError
            411: it is missing; 400: it is not a number; 413: it is too great.
        """
        if "Transfer-Encoding" in self.headers:
            raise RequestError(411, "The body must come whole, with a Content-Length.")
        text = self.headers.get_all("Content-Length", ["0"])
        if len(text) > 1 or not (text[0].isascii() and text[0].isdigit()):
            raise RequestError(400, f"Content-Length must be one number of bytes, not {', '.join(text)!r:.80}.")
        digits = text[0].lstrip("0") or "0"
        if len(digits) > len(str(MAX_BODY)) or int(digits) > MAX_BODY:
            raise RequestError(413, f"The body has {digits:.80} bytes; the most is {MAX_BODY}.")
        return int(digits)

    def _body(self, length: int) -> bytes:
        """Read the whole body, so that the connection's next request is found.

        Raises
        ------
        RequestError
            503: too many requests are being answered.
        """
        if self._expects:
            super().handle_expect_100()
        body = self.rfile.read(length)
        if len(body) < length:
            raise ConnectionResetError
        if not self.server.has_room(self.wire):
            raise RequestError(503, "The server answers as many requests as it can. Try again in a moment.")
        return body

    def _send_json(self, status: int, value: object) -> None:
        body = responses.encoded(value)
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _send_whole(self, request: ParsedRequest, answers: list[Iterator[Generated]]) -> None:
        pieces: list[list[Generated]] = [[] for _ in answers]
        weight = held = 0
        for batch in self._paced(request, answers):
            for index, piece in batch:
                pieces[index].append(piece)
                weight += 1 + len(piece.top) + len(piece.text) // 20
            if weight > held:
                self._hold(_HELD_AT_ONCE * _BYTES_HELD)
                held += _HELD_AT_ONCE
            if weight > _MOST_HELD:
                raise RequestError(
                    400,
                    "The answer is too long to be sent whole. Ask for a stream, or for less of n, echo and logprobs.",
                )
        self._send_json(200, responses.Reply(request).whole(pieces))

    def _send_events(self, request: ParsedRequest, answers: list[Iterator[Generated]]) -> None:
        reply = responses.Reply(request)
        self._begin_events()
        for chunk in reply.opening():
            self._send_event(responses.encoded(chunk))
        for batch in self._paced(request, answers):
            for index, piece in batch:
                self._send_event(responses.encoded(reply.chunk(index, piece)))
        for chunk in reply.closing():
            self._send_event(responses.encoded(chunk))
        self._end_events()

    def _begin_events(self) -> None:
        self._begun = True
        self._chunked = self.request_version >= "HTTP/1.1"  # HTTP/1.0 has no chunks
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

    def _end_events(self) -> None:
        self._send_event(b"[DONE]")
        if self._chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _paced(
        self, request: ParsedRequest, answers: list[Iterator[Generated]]
    ) -> Iterator[list[tuple[int, Generated]]]:
        """The rounds of `answers`, each when it is due; the echo and the ends do not wait."""
        pace = self.owner.pace(self.wire.look)
        for number, batch in enumerate(_rounds(answers, self.wire.look)):
            if number >= request.echoed and not all(piece.finish_reason for _, piece in batch):
                pace.wait()
            yield batch

    def _send_event(self, data: bytes, *, at_once: bool = False) -> None:
        event = b"data: " + data + b"\n\n"
        self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event) if self._chunked else event)
        # A paced event is sent when it is due. Others are sent together, since each flush would wake the reader.
        now = monotonic()
        if at_once or self.owner.tokens_per_second or now - self._flushed >= _UNPACED_SECONDS:
            self.wfile.flush()
            self._flushed = now

    def flush_headers(self) -> None:
        """Send the headers at once: a client may wait for ``100 Continue``."""
        super().flush_headers()
        self.wfile.flush()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Send http.server's own errors (a malformed request, an unknown method) as JSON too."""
        self._lingers = self.close_connection = True
        self._send_json(code, responses.error_body(RequestError(int(code), message or explain or "Bad request.")))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (http.server's names)
        """Write a line to stderr, if the server is verbose."""
        if self.owner.verbose:
            super().log_message(format, *args)


def _unknown_model(model: object) -> RequestError:
    """The error that says which models there are, and why a known one is not among them."""
    if model is None:
        return RequestError(400, f"model is missing. {_offer()}", "model")
    missing = f"Unable to access model {model!s:.200}. {_offer()}"
    if model in model_files():
        missing = f"{title(str(model))} needs the engine that runs it: {INSTALL_ENGINE}"
    elif model == SMOLLM:
        missing = f"{SMOLLM} is not on this machine. `%together get` fetches it. {_offer()}"
    return RequestError(404, missing, "model", "model_not_available")


def _offer() -> str:
    return f"The models here: {', '.join(served_models())}."


def _rounds(answers: list[Iterator[Generated]], look: Callable[[], None]) -> Iterator[list[tuple[int, Generated]]]:
    """One piece of each running answer per round, with a look after each piece."""
    running = list(enumerate(answers))
    while running:
        batch = []
        for index, answer in running:
            batch.append((index, next(answer)))
            look()
        yield batch
        ended = {index for index, piece in batch if piece.finish_reason}
        running = [(index, answer) for index, answer in running if index not in ended]
