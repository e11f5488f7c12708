"""Exchanges over the network, whose every wait another thread can end; the only import of requests.

Closing the response does not wake a thread that is blocked in a read (measured: 19.5 s, the whole
read time-out). Shutting the socket down wakes it in under a millisecond. So each exchange keeps a
duplicate of its socket's descriptor from before it connects. This works for plain and TLS
connections alike, during the handshake, the headers and the body.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import socket
import ssl
import threading
import weakref
from functools import cache
from http.client import HTTPException, HTTPResponse, IncompleteRead, parse_headers
from http.cookiejar import DefaultCookiePolicy
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from requests.exceptions import InvalidSchema
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ProtocolError

from together_nb.base.fork import after_fork
from together_nb.config.addresses import is_loopback, without_userinfo
from together_nb.config.keys import Hidden
from together_nb.errors import APIConnectionError, APITimeoutError
from together_nb.version import __version__
from together_nb.wire.chunked import Dechunker
from together_nb.wire.exchange import LAST_BYTES_TIMEOUT, LAST_PIECES, Call, Exchange

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from together_nb.config.keys import Headers, Key

_READ_SIZE = 65536
_IDLE_END_SECONDS = 0.25  # in which a request is too late for a connection that its server has closed
_LONGEST = 1e6  # seconds; sockets reject infinity
# As registered with IANA; urllib3 reads some of them, more if other packages are installed.
_COMPRESSIONS = frozenset({"br", "zstd", "compress", "x-compress", "dcb", "dcz", "exi", "gzip", "x-gzip", "deflate"})
_HELLO_SECONDS = 2.0  # in which a server on this machine answers a TLS handshake: a plain one may wait for a line
_SIGNS_OF_LIFE = 3  # times the time-out: how long comments may come in place of an answer
_BEFORE_THE_ANSWER = range(102, 200)  # statuses
_OF_THE_NETWORK = (ProtocolError, NewConnectionError, HTTPException, ConnectionError, ssl.SSLError)
# TypeError, AttributeError: from odd proxies, or a connection closed during a read.
_OF_THE_LIBRARIES = (
    requests.RequestException,
    HTTPError,
    HTTPException,
    OSError,
    ValueError,
    TypeError,
    AttributeError,
)
# What OpenSSL says of a reply that is no TLS.
_PLAIN_REPLY = re.compile(
    r"WRONG_VERSION_NUMBER|HTTP_REQUEST|UNKNOWN_PROTOCOL|RECORD_LAYER_FAILURE|PACKET_LENGTH_TOO_LONG"
)
_this_thread = threading.local()


class HTTPExchange(Exchange):
    """A request over HTTP, and its reply.

    Parameters
    ----------
    call
        The request; its payload is sent as JSON, its key as ``Authorization: Bearer``. Its headers replace ours.
    """

    def __init__(self, call: Call) -> None:
        self._body = None if call.payload is None else json.dumps(call.payload).encode()
        self._timeouts = (min(call.connect_timeout, _LONGEST), min(call.timeout, _LONGEST))
        self._silence = self._timeouts[1]
        self._until = math.inf  # of `monotonic`: no waiting beyond, whatever comes
        self._patience = _SIGNS_OF_LIFE * self._timeouts[1]  # seconds from the last limit to `_until`
        self._begun = False  # whether the answer has begun
        self._overdue = 0  # pieces read after `_until`
        self._lock = threading.RLock()  # Ctrl-C may cancel it within
        self._socket: socket.socket | None = None
        self._response: requests.Response | None = None
        self._connected: socket.socket | None = None
        self._drained = False
        self._readable = False  # whether any of the reply could be read
        self._reused = False  # whether the connection has carried another exchange
        self._process: int | None = None  # the sender
        super().__init__(call)  # last: a cancelled scope cancels it at once

    @property
    def status(self) -> int:  # type: ignore[override]
        """As `Exchange.status`."""
        return 0 if self._response is None else self._response.status_code

    @property
    def headers(self) -> Mapping[str, str]:  # type: ignore[override]
        """As `Exchange.headers`; names in any case."""
        return {} if self._response is None else self._response.headers

    def open(self) -> None:
        """As `Exchange.open`."""
        if self.cancelled:
            return
        headers = {
            "Accept": "text/event-stream, application/json",
            # With compression, servers and proxies may hold tokens back.
            "Accept-Encoding": "identity",
            "User-Agent": f"together_nb/{__version__}",
        }
        if self._body is not None:
            headers["Content-Type"] = "application/json"
        host = urlsplit(self.url).hostname or ""
        self._process = os.getpid()
        self._until = monotonic() + self._patience
        _this_thread.exchange = self
        try:
            while self._response is None:  # again only where a kept connection had been closed
                self._send(headers, host)
        except BaseException:
            self.close()
            raise
        finally:
            _this_thread.exchange = None
        if self.cancelled:
            self.close()

    def _send(self, headers: dict[str, str], host: str) -> None:
        """Send the request; there is no response after it if the server had closed the kept connection."""
        began = monotonic()
        try:
            self._response = _session().request(
                self.call.method,
                self.url,
                data=self._body,
                headers=headers,
                auth=_Bearer(self.call.key, self.call.headers),
                timeout=self._timeouts,
                stream=True,
                # A redirect could carry the key and the prompt to another host.
                allow_redirects=False,
                proxies={"no_proxy": host} if is_loopback(host) else None,
            )
        except _OF_THE_LIBRARIES as error:
            self.close()
            if monotonic() - began > _IDLE_END_SECONDS or not self._was_closed_meanwhile(error):
                if not self.cancelled and any(isinstance(cause, _NoTLSError) for cause in _causes(error)):
                    raise _no_tls(self.call.root) from None
                raise self._explained(error) from None

    def pieces(self) -> Iterator[bytes]:
        """As `Exchange.pieces`; decompressed."""
        if self._response is None:
            return
        raw = self._response.raw
        if _compressions(self._encoding).difference(raw.CONTENT_DECODERS):
            raise self._unreadable()
        while not self.cancelled:
            if self._is_of_another_process:
                raise APIConnectionError(
                    "This answer is read by the process that asked for it; the child of a fork cannot go on with it.",
                    "Ask again in the child.",
                )
            self._set_timeout()
            try:
                piece = raw.read1(_READ_SIZE, decode_content=True)
            except _OF_THE_LIBRARIES as error:
                raise self._explained(error) from None
            if not piece:
                self._drained = not self.cancelled
                if self._drained and not self._readable and _compressions(self._encoding):
                    raise self._unreadable()  # urllib3 leaves out what is cut
                return
            self._readable = True
            yield piece

    def limit(self, silence: float, until: float = math.inf) -> None:
        """As `Exchange.limit`."""
        self._begun = True
        self._silence = min(silence, _LONGEST)
        self._until, self._patience = until, until - monotonic()

    def _set_timeout(self) -> None:
        """Set the time-out of the next read. What has arrived by then can still be read, as its reader may be slow."""
        left = self._until - monotonic()
        self._overdue = self._overdue + 1 if left <= 0 else 0
        if self._overdue > LAST_PIECES:
            raise self._silent()
        with self._lock:
            connected = self._connected
        if connected is not None:
            with contextlib.suppress(OSError, ValueError):  # it was closed meanwhile
                connected.settimeout(min(self._silence, max(left, LAST_BYTES_TIMEOUT)))

    def finish(self) -> None:
        """As `Exchange.finish`; reads the reply to its end, so that the connection can be reused."""
        self._drain()

    def cancel(self) -> None:
        """As `Exchange.cancel`; closes the connection."""
        super().cancel()
        if not self._is_of_another_process:
            with self._lock:
                self._shut()

    def close(self) -> None:
        """Release the connection, and end it unless the reply was read to its end."""
        if self._is_of_another_process:
            return
        with self._lock:
            if not self._drained:
                self._shut()
            self._forget()
        if self._response is not None:
            # Not the response itself: it would return a dead connection to the pool, whose lock may be
            # held by the code that the garbage collector interrupts.
            with contextlib.suppress(Exception):
                self._response.raw.close()

    def adopt(self, connected: socket.socket, *, reused: bool) -> None:
        """Hold on to the connection of this exchange until `let_go`."""
        with self._lock:
            self._forget()
            self._reused = reused
            # Not `connected` itself: TLS detaches it when wrapping it, before the handshake.
            self._socket = socket.fromfd(connected.fileno(), connected.family, connected.type)
            if self.cancelled:
                self._shut()

    def read_from(self, connected: socket.socket) -> None:
        """Set the time-outs on this socket: the connection forgets it where it ends with the reply."""
        with self._lock:
            self._connected = connected

    def let_go(self) -> None:
        """Forget the connection: another exchange may now use it, which `cancel` and `close` must not end."""
        with self._lock:
            self._forget()

    def _was_closed_meanwhile(self, error: Exception) -> bool:
        """Whether the server closed a kept connection as the request was sent, so that another one is to be used.

        Servers do so after some seconds or requests (llama.cpp: 5 and 100). One that closes it later may have read the
        request.
        """
        closed = any(isinstance(cause, (ConnectionResetError, BrokenPipeError)) for cause in _causes(error))
        return closed and self._reused and not self.cancelled

    @property
    def _is_of_another_process(self) -> bool:
        """Whether this is a copy in a forked child, which shares the socket with the parent."""
        return self._process not in (None, os.getpid())

    def _forget(self) -> None:
        self._connected = None
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None

    def _shut(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def _explained(self, error: Exception) -> APIConnectionError:
        """Return an error that explains `error` to the user."""
        parts = urlsplit(self.url)
        server = f"{parts.scheme}://{parts.netloc}"
        causes = list(_causes(error))
        words = " ".join(f"{type(cause).__name__} {cause}" for cause in causes)
        if "ConnectTimeout" in words or "handshake operation timed out" in words:
            late = APITimeoutError(
                f"{server} did not take the connection within {self._timeouts[0]:g} s.",
                "Check the network, or set settings.connect_timeout higher.",
            )
            late.reached = False
            return _passing(late)
        if any(isinstance(cause, TimeoutError) for cause in causes) or "ReadTimeout" in words:
            return self._silent()
        if "DecodeError" in words:  # not retried: an unreadable reply may be a whole answer
            return self._unreadable()
        unreached = _unreached(server, parts.hostname or "", causes, words)
        if unreached is not None:
            unreached.reached = False
            return unreached
        if self._response is None and not any(map(_is_of_the_network, causes)):
            return _unsent(server, parts.hostname or "", causes)
        return _passing(
            APIConnectionError(
                f"The connection to {server} broke: {_last_words(causes)}.", "Check the network and try again."
            )
        )

    @property
    def _encoding(self) -> str:
        """The encoding of the reply, as its headers say."""
        return self.headers.get("Content-Encoding", "")[:100]

    def _unreadable(self) -> APIConnectionError:
        parts = urlsplit(self.url)
        return APIConnectionError(
            f"{parts.scheme}://{parts.netloc} sent what cannot be read (Content-Encoding: {self._encoding}), "
            "though together_nb asks for no encoding.",
            "Turn the compression off in the server, or in what is on the way: a proxy, a gateway, a virus scanner.",
        )

    def _silent(self) -> APITimeoutError:
        """The time-out error; not retried, since the server may be at work."""
        parts = urlsplit(self.url)
        server = f"{parts.scheme}://{parts.netloc}"
        if monotonic() >= self._until:
            what = "nothing more of the answer" if self._begun else "no answer"
            return APITimeoutError(
                f"{server} sent {what} within {self._patience:.3g} s, only signs of life.",
                "Try again, or set settings.timeout higher if it needs such pauses.",
            )
        if self._begun:
            return APITimeoutError(
                f"{server} was silent for {self._silence:g} s in mid-answer.",
                "Set settings.silence_timeout higher if it needs such pauses.",
            )
        return APITimeoutError(
            f"{server} did not begin to answer within {self._timeouts[1]:g} s.",
            "Try again, or set settings.timeout higher: some models think long before they answer.",
        )


def _compressions(encoding: str) -> frozenset[str]:
    """Return the compressions in a ``Content-Encoding``; servers write other words there too, such as utf-8."""
    return _COMPRESSIONS.intersection(part.strip().lower() for part in encoding.split(","))


def _no_tls(root: str) -> APIConnectionError:
    """The error of a port that does not speak TLS; not retried, since it never will."""
    parts = urlsplit(root)
    plain = APIConnectionError(
        f"What is at {parts.netloc} does not speak TLS, which https:// needs.",
        f"If it speaks plain http, set the base URL to {parts._replace(scheme='http').geturl()}."
        if is_loopback(parts.hostname or "")
        else "Check the port. Plain http goes only to this machine, for instance into a tunnel to that server.",
    )
    plain.reached, plain.lasting = False, True
    return plain


def _unreached(server: str, host: str, causes: list[BaseException], words: str) -> APIConnectionError | None:
    """The error of a server that was not reached, or None."""
    if "ProxyError" in words:
        proxy = APIConnectionError(
            f"The proxy made no connection to {server}: {_last_words(causes)}.",
            "Check HTTPS_PROXY; NO_PROXY names hosts that need none.",
        )
        return proxy if "Tunnel connection failed: 4" in words else _passing(proxy)
    if "CERTIFICATE_VERIFY_FAILED" in words or ("SSL" in words and "EOF" not in words):
        return APIConnectionError(
            f"The secure connection to {server} failed: {_last_words(causes)}.",
            "Check the address; for a certificate of your own set REQUESTS_CA_BUNDLE to its file.",
        )
    if "NameResolution" in words or "gaierror" in words:
        unknown = APIConnectionError(
            f"No server is known by the name {host}.",
            "Check the base URL for a typing error, and the network.",
        )
        # A retry helps if the name server was not reached, but not if it knows no such name.
        unsure = any(isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_AGAIN for cause in causes)
        return _passing(unknown) if unsure else unknown
    if "Connection refused" in words or "ConnectionRefused" in words:
        return _passing(
            APIConnectionError(f"Nothing answers at {server}.", "Check the base URL, and that the server is running.")
        )
    return None


def _unsent(server: str, host: str, causes: list[BaseException]) -> APIConnectionError:
    """The error of a request that failed on this machine."""
    odd_proxy = "" if is_loopback(host) else _odd_proxy()
    if odd_proxy:
        return APIConnectionError(
            f"{odd_proxy} is not the address of a proxy.",
            "One looks like http://host:port. In a password write @ as %40, / as %2F and # as %23.",
        )
    return APIConnectionError(
        f"Nothing could be sent to {server}: {_last_words(causes)}.",
        "Check REQUESTS_CA_BUNDLE and HTTPS_PROXY, where they are set.",
    )


def _is_of_the_network(cause: BaseException) -> bool:
    # An OSError with an errno and no file is a socket's; missing certificates have a file or no errno.
    of_a_socket = isinstance(cause, OSError) and cause.errno is not None and cause.filename is None
    return isinstance(cause, _OF_THE_NETWORK) or of_a_socket


def _passing(error: APIConnectionError) -> APIConnectionError:
    error.passing = error.message.rstrip(".")
    return error


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield `error` and its causes, outermost first."""
    seen: set[int] = set()
    queue: list[Any] = [error]
    while queue:
        current = queue.pop(0)
        if not isinstance(current, BaseException) or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        queue += [current.__cause__, current.__context__, getattr(current, "reason", None), *current.args]


def _last_words(causes: list[BaseException]) -> str:
    if any(isinstance(cause, IncompleteRead) for cause in causes):
        return "the reply ended too early"
    words = next((str(cause) for cause in reversed(causes) if str(cause)), type(causes[-1]).__name__)
    return without_userinfo(" ".join(words.split())).rstrip(".")[:200]


def _odd_proxy() -> str:
    """Return the variable with an invalid proxy address, or ""; its value may hold a password."""
    for name, address in getproxies().items():
        try:
            parts = urlsplit(address if "://" in address else f"http://{address}")
            fit = bool(parts.hostname) and parts.port != 0 and address.isprintable() and " " not in address
            fit = fit and "\\" not in address and "@" not in parts.path + parts.query + parts.fragment
        except ValueError:
            fit = False
        if not fit and name != "no":
            return f"{name.upper()}_PROXY"
    return ""


class _Bearer(AuthBase):
    """The key and the further headers. An auth object, since requests lets ``~/.netrc`` replace a plain header."""

    def __init__(self, key: Key | None, headers: Headers) -> None:
        self._key = key
        self._headers = headers

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key is not None:
            request.headers["Authorization"] = Hidden(f"Bearer {self._key.reveal()}")
        request.headers.update(self._headers.reveal())  # names are in any case
        return request


class _Response(HTTPResponse):
    """Skips interim responses: http.client knows only 100, and takes 102 and 103 for the answer."""

    def _read_status(self) -> tuple[str, int, str]:
        while True:
            text: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
            if text[1] not in _BEFORE_THE_ANSWER:
                return text
            parse_headers(self.fp)

    def begin(self) -> None:
        super().begin()
        # Malformed header lines: urllib3 would log them, and a server may repeat the key in one.
        self.headers.set_payload("")
        self.headers.defects = []
        self._chunks = Dechunker()

    def read1(self, n: int = -1) -> bytes:
        """Return all available bytes, waiting only if there are none; http.client would return a single chunk."""
        if not self.chunked:
            return super().read1(n)
        body = b""
        while not body and self.fp is not None:
            body = self._chunks.add(b"" if self._chunks.broken else self.fp.read1(n))
            if self._chunks.ended:
                self._close_conn()  # type: ignore[attr-defined]
        return body


class _CancellableConnection(HTTPConnection):
    """A connection that passes its socket to the exchange of its thread."""

    response_class = _Response
    _served: weakref.ref[HTTPExchange] | None = None
    kept = False  # whether it has carried an exchange before

    def _new_conn(self) -> socket.socket:
        """Like urllib3's, but the exchange gets the socket before it connects, so that it can end that wait too."""
        try:
            places = socket.getaddrinfo(self._dns_host.strip("[]"), self.port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise NewConnectionError(self, f"NameResolution: {error}") from error
        failed: OSError | None = None
        for family, kind, protocol, _, address in places:
            connecting = socket.socket(family, kind, protocol)
            try:
                for option in self.socket_options or ():
                    connecting.setsockopt(*option)
                connecting.settimeout(self.timeout)
                if self._tell(connecting):
                    connecting.connect(address)
                    return connecting
            except OSError as error:
                failed = error
            connecting.close()
        if isinstance(failed, TimeoutError):
            raise ConnectTimeoutError(self, str(failed)) from failed
        raise NewConnectionError(self, str(failed)) from failed

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None:  # a reused connection, with the time-out of its last read
            self.sock.settimeout(self.timeout)
            self._tell(self.sock)
        try:
            super().request(*args, **kwargs)
            _this_thread.exchange.read_from(self.sock)
        except BaseException as error:  # noqa: BLE001  (raised again)
            # Inner frames hold the key as bytes, which a traceback with variables would show.
            raise error.with_traceback(None)  # noqa: B904  (it is the same one)

    def _tell(self, connected: socket.socket) -> bool:
        """Pass the socket to the exchange; False if it is cancelled."""
        exchange: HTTPExchange = _this_thread.exchange
        self._served = weakref.ref(exchange)
        exchange.adopt(connected, reused=self.kept)
        return not exchange.cancelled

    def release(self) -> None:
        """Detach the exchange before another one uses this connection."""
        served = None if self._served is None else self._served()
        self._served = None
        self.kept = True
        if served is not None:
            served.let_go()
            if served.cancelled:
                self.close()


class _NoTLSError(ssl.SSLError):
    """What answered does not speak TLS."""


class _CancellableSecureConnection(_CancellableConnection, HTTPSConnection):
    _seconds = 0.0  # that connecting may take, once only the handshake with this machine is left

    def _new_conn(self) -> socket.socket:
        connected = super()._new_conn()
        if self._is_to_this_machine:
            self._seconds = connected.gettimeout() or _LONGEST
            connected.settimeout(min(self._seconds, _HELLO_SECONDS))
        return connected

    def connect(self) -> None:
        """As urllib3's, but tell a port that does not speak TLS from all else."""
        try:
            super().connect()
        except OSError as error:
            if self._speaks_no_tls(error):
                raise _NoTLSError from error
            raise
        if self._seconds:
            self.sock.settimeout(self._seconds)

    @property
    def _is_to_this_machine(self) -> bool:
        return self.proxy is None and is_loopback(self.host.strip("[]"))

    def _speaks_no_tls(self, error: OSError) -> bool:
        if not self._seconds:
            return isinstance(error, ssl.SSLError) and _PLAIN_REPLY.search(str(error)) is not None
        if isinstance(error, TimeoutError):
            return self._seconds > _HELLO_SECONDS
        if isinstance(error, ssl.SSLError):
            return not isinstance(error, ssl.SSLCertVerificationError) and "ALERT" not in str(error)
        return isinstance(error, ConnectionError)


class _Pool(HTTPConnectionPool):
    """Takes a connection back once no exchange holds it: urllib3 returns it while reading a reply's last bytes."""

    ConnectionCls = _CancellableConnection

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.release()
        super()._put_conn(conn)


class _SecurePool(_Pool, HTTPSConnectionPool):
    ConnectionCls = _CancellableSecureConnection


class _Adapter(HTTPAdapter):
    """Makes connections that pass on their socket."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}

    def proxy_manager_for(self, proxy: Any, **kwargs: Any) -> Any:
        if urlsplit(proxy).scheme.lower().startswith("socks"):
            raise InvalidSchema("a SOCKS proxy is set, and only HTTP proxies can be used")
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
        return manager


class _Session(requests.Session):
    """Ignores redirects: requests would read their body, however long, and their address."""

    def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002
        return None


@cache
def _session() -> requests.Session:
    """The session of this process. It keeps no cookies, since threads share it."""
    session = _Session()
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    adapter = _Adapter(pool_connections=16, pool_maxsize=64)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


# A child shares its parent's connections: each would read the other's replies.
after_fork(_session.cache_clear)
