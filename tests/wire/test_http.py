"""The exchange of bytes: delivered at once, ended from any thread, known to nobody else."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import together_nb
from tests.servers import PATIENCE, ScriptedServer, replies, silent, silent_after
from together_nb.config.keys import Key
from together_nb.errors import APIConnectionError, APIStatusError
from together_nb.wire import http
from together_nb.wire.exchange import Call
from together_nb.wire.http import HTTPExchange

pytestmark = pytest.mark.timeout(40)

KEY = "sk-secret-0123456789abcdef"
PIECES = [b"data: 1\n\n", b"data: 22\n\n", b"data: \xe2\x82\xac\n\n"]
KINDS = {
    "chunked": lambda exchange: exchange.chunked(),
    "unchunked": lambda exchange: exchange,
    "gzip, chunked": lambda exchange: exchange.chunked().gzip(),
    "gzip, unchunked": lambda exchange: exchange.gzip(),
    "HTTP/1.0": lambda exchange: exchange.http10(),
}


def exchange_with(server, path="/v1/chat/completions", *, key=KEY, timeout=30.0, connect_timeout=10.0):
    root = server if isinstance(server, str) else server.base_url
    given = None if key is None else Key(key, "a test")
    return HTTPExchange(Call("POST", root, path, {}, given, connect_timeout, timeout))


def whole(exchange):
    exchange.open()
    try:
        return b"".join(exchange.pieces())
    finally:
        exchange.close()


def error_of(exchange):
    with pytest.raises(APIConnectionError) as caught:
        whole(exchange)
    assert KEY not in f"{caught.value!r} {caught.value} {caught.value._render_traceback_()}"
    return caught.value


@pytest.mark.parametrize("kind", KINDS)
def test_a_piece_is_delivered_before_the_next_is_sent(kind, tls):
    delivered = [threading.Event() for _ in PIECES]

    def script(exchange):
        KINDS[kind](exchange).headers()
        for piece, event in zip(PIECES, delivered, strict=True):
            exchange.send(piece)
            exchange.pause(event)

    with ScriptedServer(script, tls=tls) as server:
        exchange, pieces = exchange_with(server), []
        exchange.open()
        for piece in exchange.pieces():
            pieces.append(piece)
            delivered[len(pieces) - 1].set()
        exchange.close()
    assert pieces == PIECES


# Ended; tests/wire/test_stream.py ends it while the reply is awaited, tests/whole/test_interrupted.py while it connects


def test_cancel_ends_the_wait_for_a_proxy(monkeypatch):
    with ScriptedServer(silent()) as server, ThreadPoolExecutor(1) as pool:
        monkeypatch.setenv("https_proxy", server.base_url)
        exchange = exchange_with("https://a.example", connect_timeout=300, timeout=300)
        pool.submit(lambda: server.arrived.wait(PATIENCE) and exchange.cancel())
        error_of(exchange)
        assert server.closed.wait(PATIENCE)


# Connections that serve again


def test_finish_waits_for_the_end_only_briefly_and_does_not_shorten_the_next_answers_wait():
    """It sets a time-out of its own on a socket that then serves again."""

    def script(exchange):
        number = len(exchange.server.requests)
        if number == 2:
            exchange.wait(0.3)  # longer than `finish` waits
            exchange.reply(200, b"slow")
        else:
            exchange.chunked().done()
        if number == 3:
            exchange.await_close()

    def finish_one():
        exchange = exchange_with(server, timeout=300)
        exchange.open()
        next(exchange.pieces())
        exchange.finish()

    with ScriptedServer(script) as server:
        finish_one()
        assert whole(exchange_with(server)) == b"slow"
        assert server.connections == 1
        finish_one()
        assert server.closed.wait(PATIENCE)


def test_an_exchange_that_is_over_leaves_the_connection_of_the_next_alone(tls):
    began, cancelled = threading.Event(), threading.Event()

    def script(exchange):
        if exchange.request.path == "/first":
            exchange.reply(200, b"all of it")
        else:
            exchange.chunked().send(b"half ")
            began.set()
            exchange.pause(cancelled)
            exchange.wait(0.05)
            exchange.send(b"whole")

    with ScriptedServer(script, tls=tls) as server:
        first, second = exchange_with(server, "/first"), exchange_with(server, "/second")
        first.open()
        assert b"".join(first.pieces()) == b"all of it"  # urllib3 gives the connection back here
        second.open()
        assert began.wait(PATIENCE)
        first.limit(0.001)
        first.cancel()
        first.close()
        cancelled.set()
        assert b"".join(second.pieces()) == b"half whole"
        second.close()
        assert server.connections == 1  # or nothing was shown


def test_leaving_early_never_ends_the_request_of_another_thread():
    # Threads that leave as soon as they have read all, while others take the connection that they have just put back.
    def leave():
        for _ in range(60):
            exchange = exchange_with(server)
            exchange.open()
            assert b"".join(exchange.pieces()) == b"/v1/chat/completions"
            with ThreadPoolExecutor(2) as leaving:
                leaving.submit(exchange.cancel)
                leaving.submit(exchange.close)

    def stay():
        for turn in range(120):
            path = f"/{threading.get_ident()}/{turn}"
            assert whole(exchange_with(server, path)) == path.encode()

    def echo(exchange):
        exchange.chunked().send(exchange.request.path.encode())

    with ScriptedServer(echo) as server, ThreadPoolExecutor(6) as pool:
        for future in [pool.submit(work) for work in 3 * (leave, stay)]:
            future.result()


# What fails; tests/faults.py has more of it


@pytest.mark.parametrize("name", ["nonexistent.invalid", "a" * 70 + ".example"])
def test_an_unknown_name_and_one_that_is_none_are_named(name):
    assert error_of(exchange_with(f"https://{name}")).message == f"No server is known by the name {name}."


def test_read_takes_about_as_much_as_it_is_allowed_to_and_what_there_is():
    def script(exchange):
        exchange.headers(content_length=200_000)
        exchange.send(b"x" * 150_000)
        exchange.cut()

    with ScriptedServer(script) as server:
        exchange = exchange_with(server)
        exchange.open()
        body = exchange.read(50_000)
        assert 50_000 <= len(body) < 50_000 + 65_537
        assert len(body + exchange.read(150_000)) == 150_000
        exchange.close()


def test_a_socket_that_another_thread_has_closed_raises_nothing_raw():
    with ScriptedServer(silent_after(["one"])) as server:
        exchange = exchange_with(server)
        exchange.open()
        next(exchange.pieces())
        exchange._connected.close()
        exchange.limit(5)
        exchange._response.raw._fp.fp.close()
        with pytest.raises(APIConnectionError):
            list(exchange.pieces())
        exchange.finish()


@pytest.mark.parametrize("odd", [OSError(9, "closed"), AttributeError("sock"), ValueError("closed"), TypeError("None")])
def test_what_the_libraries_raise_is_an_error_of_ours(monkeypatch, odd):
    def fail(*_, **__):
        raise odd

    with ScriptedServer(silent_after(["one"])) as server:
        exchange = exchange_with(server)
        exchange.open()
        monkeypatch.setattr(exchange._response.raw, "read1", fail)
        with pytest.raises(APIConnectionError) as caught:
            next(exchange.pieces())
        assert caught.value.passing
        exchange.close()
        monkeypatch.setattr("together_nb.wire.http._CancellableConnection.getresponse", fail)
        error_of(exchange_with(server))


# The key and the proxy; tests/whole/test_key.py has more of it


@pytest.mark.parametrize("key", [KEY, None])
def test_a_request_is_the_body_and_the_key_and_no_cookies(key):
    with ScriptedServer(replies(200, b"ok", set_cookie="who=me; Path=/")) as server:
        for _ in range(2):
            endless = float("inf")
            assert whole(exchange_with(server, key=key, timeout=endless, connect_timeout=endless)) == b"ok"
    for request in server.requests:
        assert (request.method, request.path, request.body) == ("POST", "/v1/chat/completions", b"{}")
        assert request.headers.get("authorization") == (None if key is None else f"Bearer {KEY}")
        assert request.headers["accept-encoding"] == "identity"  # compression would hold tokens back
        assert request.headers["content-type"] == "application/json"
        assert request.headers["user-agent"].startswith("together_nb/")
        assert "cookie" not in request.headers


def test_a_redirect_is_shown_without_the_name_and_the_password_in_its_address():
    script = replies(302, b"", location="https://user:pa55word@elsewhere.example/v1")
    with ScriptedServer(script) as server, pytest.raises(APIStatusError, match=r"elsewhere\.example") as caught:
        together_nb.complete("Tell", base_url=server.base_url, model="m", api="chat")
    assert "pa55word" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "http://user:pa55word@", "http://user:pa55word@:3128", "user:pa55word@",
        "http://user:pa55word@host:notaport", "http://user:pa55word@host:99999", "http://user:pa55word@[::1",
        "http://user:pa55word/x@host:1", "http://user:pa55word#x@host:1", "http://user:pa55word\\x@host:1",
        "http://user:pa55word?x@host:1", "http://us er:pa55word@host:1", "http://user:x@pa55word@host:1",
        "http://user:pa55word@127.0.0.1:1", "http://user:pa55word@no.such.host.invalid:80",
        "ftp://user:pa55word@host", "socks5://user:pa55word@127.0.0.1:1", "https://user:pa55word@127.0.0.1:1",
        "http://pa55word@127.0.0.1:1", "http://u:p@",
    ],
)  # fmt: skip
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "all_proxy"])
def test_a_proxys_name_and_password_are_in_no_error(monkeypatch, variable, address):
    monkeypatch.setenv(variable, address)
    error = error_of(exchange_with("https://api.example.invalid"))
    assert not any(secret in f"{error} {error.passing} {error!r}" for secret in ("pa55word", "u:p@", "user"))


def test_a_request_that_comes_too_late_for_a_kept_connection_goes_over_another_at_once(tls, monkeypatch):
    def script(exchange):
        if exchange.request.connection in served:
            exchange.cut()
        else:
            served.append(exchange.request.connection)
            exchange.chunked().send(b"whole")

    served = []
    monkeypatch.setattr(http, "_IDLE_END_SECONDS", PATIENCE)
    with ScriptedServer(script, tls=tls) as server:
        assert [whole(exchange_with(server)) for _ in range(3)] == [b"whole"] * 3
        assert [request.connection for request in server.requests] == [0, 0, 1, 1, 2]
        monkeypatch.setattr(http, "_IDLE_END_SECONDS", 0.0)  # later, the server may have read the request
        assert "closed connection without response" in error_of(exchange_with(server)).message
        assert len(server.requests) == 6


def test_a_new_connection_that_is_closed_is_an_error(tls):
    with ScriptedServer(lambda exchange: exchange.cut(), tls=tls) as server:
        error_of(exchange_with(server))
        assert len(server.requests) == 1
