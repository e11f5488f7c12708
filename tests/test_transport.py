"""The exchange of bytes: delivered at once, ended from any thread, told to nobody else."""

from __future__ import annotations

import contextlib
import pickle
import threading
from functools import partial

import pytest

from tests.servers import (
    HOST,
    ScriptedServer,
    answers,
    connecting,
    eventually,
    full_listener,
    replies,
    silent,
    silent_after,
)
from together_nb import complete
from together_nb.config import Key
from together_nb.errors import APIConnectionError, APITimeoutError, TogetherError
from together_nb.transport import Exchange

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


def exchange_with(server, path="/v1/chat/completions", *, method="POST", key=KEY, timeout=30.0, connect_timeout=10.0):
    url = (server if isinstance(server, str) else server.base_url) + path
    return Exchange(
        method,
        url,
        key=None if key is None else Key(key, "a test"),
        body=b"{}" if method == "POST" else None,
        connect_timeout=connect_timeout,
        timeout=timeout,
    )


def whole(exchange):
    exchange.open()
    try:
        return b"".join(exchange.pieces())
    finally:
        exchange.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_piece_is_delivered_before_the_next_is_sent(kind, tls):
    had = [threading.Event() for _ in PIECES]

    def script(exchange):
        KINDS[kind](exchange).headers()
        for piece, event in zip(PIECES, had, strict=True):
            exchange.send(piece)
            exchange.pause(event)

    with ScriptedServer(script, tls=tls) as server:
        exchange = exchange_with(server)
        exchange.open()
        got = []
        for piece in exchange.pieces():
            got.append(piece)
            had[len(got) - 1].set()
        exchange.close()
    assert got == PIECES


def test_the_headers_are_delivered_before_the_body_begins():
    opened = threading.Event()

    def script(exchange):
        exchange.headers(x_first="yes")
        exchange.pause(opened)
        exchange.send(b"later")

    with ScriptedServer(script) as server:
        exchange = exchange_with(server)
        exchange.open()
        opened.set()
        assert (exchange.status, exchange.headers["X-First"]) == (200, "yes")
        assert b"".join(exchange.pieces()) == b"later"
        exchange.close()


def test_what_is_sent_is_the_body_the_key_and_no_wish_for_compression():
    with ScriptedServer(replies(200, b"ok")) as server:
        assert whole(exchange_with(server)) == b"ok"
    (request,) = server.requests
    assert (request.method, request.path, request.body) == ("POST", "/v1/chat/completions", b"{}")
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"].startswith("together_nb/")


CANCELLED_WHILE = {
    "it waits for the headers": (silent(), 0),
    "it waits for the first piece": (silent_after([]), 0),
    "it waits in mid-stream": (silent_after(["Once", " upon"]), 2),
}


@pytest.mark.parametrize("state", CANCELLED_WHILE)
def test_cancel_from_another_thread_ends_the_wait_and_the_connection(state, tls):
    script, events = CANCELLED_WHILE[state]
    with ScriptedServer(script, tls=tls) as server:
        exchange = exchange_with(server, timeout=300)
        waiting = threading.Event()

        def stop():
            server.arrived.wait(20)
            waiting.wait(20)
            exchange.cancel()

        if not events:
            waiting.set()
        stopper = threading.Thread(target=stop)
        stopper.start()
        body = b""
        with contextlib.suppress(APIConnectionError):
            exchange.open()
            for piece in exchange.pieces():
                body += piece
                if body.count(b"\n\n") == events:
                    waiting.set()
        exchange.close()
        stopper.join()
        assert exchange.cancelled
        assert body.count(b"\n\n") == events
        assert server.closed.wait(20)


def test_cancel_ends_the_tls_handshake(certificates):
    with ScriptedServer(silent(), tls=certificates, handshake=False) as server:
        exchange = exchange_with(server, connect_timeout=300, timeout=300)
        stopper = threading.Thread(target=lambda: server.arrived.wait(20) and exchange.cancel())
        stopper.start()
        with pytest.raises(APIConnectionError):
            exchange.open()
        stopper.join()
        assert server.closed.wait(20)


def test_cancel_ends_the_wait_for_a_connection():
    with full_listener() as address:
        exchange = exchange_with(address, connect_timeout=300)
        before = connecting(address)

        def stop():
            eventually(lambda: connecting(address) == before + 1)
            exchange.cancel()

        stopper = threading.Thread(target=stop)
        stopper.start()
        with pytest.raises(APIConnectionError):
            exchange.open()
        stopper.join()


def test_cancel_before_it_is_opened_means_that_nothing_is_sent():
    with ScriptedServer(answers(["a"])) as server:
        exchange = exchange_with(server)
        exchange.cancel()
        exchange.open()
        assert list(exchange.pieces()) == []
        assert server.connections == 0


def test_a_drained_exchange_leaves_its_connection_to_the_next(tls):
    with ScriptedServer(answers(["a"]), tls=tls) as server:
        for _ in range(3):
            assert whole(exchange_with(server)).endswith(b"[DONE]\n\n")
        assert (server.connections, len(server.requests)) == (1, 3)


def test_cancelling_an_exchange_that_is_over_leaves_the_connection_to_the_next(tls):
    began, cancelled = threading.Event(), threading.Event()

    def script(exchange):
        if exchange.request.path == "/first":
            exchange.reply(200, b"all of it")
        else:
            exchange.chunked().send(b"half ")
            began.set()
            exchange.pause(cancelled)
            exchange.send(b"whole")

    with ScriptedServer(script, tls=tls) as server:
        first, second = exchange_with(server, "/first"), exchange_with(server, "/second")
        first.open()
        assert b"".join(first.pieces()) == b"all of it"  # urllib3 gives the connection back here
        second.open()
        assert began.wait(20)
        first.cancel()
        first.close()
        cancelled.set()
        assert b"".join(second.pieces()) == b"half whole"
        second.close()
        assert server.connections == 1  # or nothing was shown


def test_an_exchange_closed_half_way_ends_its_connection(tls):
    with ScriptedServer(silent_after(["a", "b"]), tls=tls) as server:
        exchange = exchange_with(server)
        exchange.open()
        next(exchange.pieces())
        exchange.close()
        assert server.closed.wait(20)


def test_finish_takes_what_follows_the_terminator_and_keeps_the_connection():
    with ScriptedServer(answers(["a"])) as server:
        for _ in range(2):
            exchange = exchange_with(server)
            exchange.open()
            body = b""
            for piece in exchange.pieces():
                body += piece
                if b"[DONE]" in body:
                    break
            exchange.finish()
        assert server.connections == 1


def test_finish_does_not_wait_for_a_server_that_holds_on():
    finished = threading.Event()

    def script(exchange):
        exchange.chunked().done()
        exchange.pause(finished)

    with ScriptedServer(script) as server:
        exchange = exchange_with(server, timeout=300)
        exchange.open()
        next(exchange.pieces())
        exchange.finish()
        finished.set()
        assert server.closed.wait(20)


def test_the_wait_after_the_terminator_does_not_shorten_the_next_answers():
    """`finish` sets a time-out of its own on a socket that then serves again."""
    asked = threading.Event()

    def script(exchange):
        if len(exchange.server.requests) == 1:
            exchange.chunked().done()
            return
        asked.set()
        exchange.wait(0.3)  # longer than `finish` waits
        exchange.reply(200, b"slow")

    with ScriptedServer(script) as server:
        first = exchange_with(server)
        first.open()
        next(first.pieces())
        first.finish()
        assert whole(exchange_with(server)) == b"slow"
        assert server.connections == 1


def failure(exchange):
    with pytest.raises(APIConnectionError) as caught:
        whole(exchange)
    assert KEY not in f"{caught.value!r} {caught.value} {caught.value._render_traceback_()}"
    return caught.value


def test_silence_has_its_own_message():
    with ScriptedServer(silent()) as server:
        error = failure(exchange_with(server, timeout=0.3))
        assert isinstance(error, APITimeoutError)
        assert error.message == f"{server.base_url} did not begin to answer within 0.3 s."
        assert "settings.timeout" in error.hint
        assert server.arrived.wait(20)
        assert len(server.requests) == 1


def test_silence_in_mid_stream_is_a_time_out_too():
    with ScriptedServer(silent_after(["a"])) as server:
        error = failure(exchange_with(server, timeout=0.3))
        assert isinstance(error, APITimeoutError)
        assert server.arrived.wait(20)
        assert len(server.requests) == 1


def test_a_connection_not_taken_has_its_own_message():
    with full_listener() as address:
        error = failure(exchange_with(address, connect_timeout=0.3, timeout=30))
    assert isinstance(error, APITimeoutError)
    assert error.message == f"{address} did not take the connection within 0.3 s."
    assert "settings.connect_timeout" in error.hint


def test_a_handshake_not_answered_is_a_connection_not_taken(certificates):
    with ScriptedServer(silent(), tls=certificates, handshake=False) as server:
        error = failure(exchange_with(server, connect_timeout=0.3, timeout=30))
    assert error.message == f"{server.base_url} did not take the connection within 0.3 s."


def test_a_time_out_may_be_endless():
    with ScriptedServer(replies(200, b"ok")) as server:
        assert whole(exchange_with(server, timeout=float("inf"), connect_timeout=float("inf"))) == b"ok"


def test_nothing_there():
    with ScriptedServer(silent()) as server:
        address = server.base_url
    error = failure(exchange_with(address))
    assert error.message == f"Nothing answers at {address}."
    assert not isinstance(error, APITimeoutError)


def test_an_unknown_name():
    error = failure(exchange_with("https://nonexistent.invalid"))
    assert error.message == "No server is known by the name nonexistent.invalid."


def test_a_name_that_is_none():
    error = failure(exchange_with("https://" + "a" * 70 + ".example"))
    assert error.message.startswith("No server is known by the name aaa")


def test_a_certificate_that_nobody_vouches_for():
    from tests.servers import authority

    with ScriptedServer(silent(), tls=authority()) as server:
        error = failure(exchange_with(server))
        assert server.requests == []
    assert error.message.startswith(f"The secure connection to {server.base_url} failed: ")
    assert "REQUESTS_CA_BUNDLE" in error.hint


def test_https_to_a_server_of_plain_http():
    with ScriptedServer(silent()) as server:
        address = server.base_url.replace("http:", "https:")
        error = failure(exchange_with(address))
    assert error.message.startswith(f"The secure connection to {address} failed: ")


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("events", [0, 2])
def test_a_connection_that_breaks_is_told_and_what_came_before_is_delivered(events, reset, tls):
    had = threading.Event()

    def script(exchange):
        if events:
            exchange.chunked().text_events(["a"] * events)
            exchange.pause(had)
        exchange.cut(reset=reset)

    with ScriptedServer(script, tls=tls) as server:
        exchange = exchange_with(server)
        body = b""

        def read():
            nonlocal body
            exchange.open()
            for piece in exchange.pieces():
                body += piece
                if body.count(b"\n\n") == events:
                    had.set()

        with pytest.raises(APIConnectionError) as caught:
            read()
        exchange.close()
        assert body.count(b"\n\n") == events
        assert caught.value.message.startswith(f"The connection to {server.base_url} broke: ")
        assert len(server.requests) == 1


def test_a_redirect_is_not_followed_and_nothing_reaches_where_it_points():
    with ScriptedServer(answers(["a"])) as elsewhere:
        there = elsewhere.base_url + "/v1/chat/completions"
        with ScriptedServer(replies(307, b"", location=there)) as server:
            exchange = exchange_with(server)
            exchange.open()
            assert (exchange.status, exchange.headers["Location"]) == (307, there)
            exchange.close()
            assert len(server.requests) == 1
        assert elsewhere.connections == 0


@pytest.mark.parametrize("key", [KEY, None])
def test_netrc_does_not_replace_the_key(key, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text(f"machine {HOST}\nlogin somebody\npassword else\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with ScriptedServer(replies(200, b"ok")) as server:
        whole(exchange_with(server, key=key))
    assert server.requests[0].headers.get("authorization") == (None if key is None else f"Bearer {KEY}")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_this_machine_is_spoken_to_past_the_proxy(host, monkeypatch):
    with ScriptedServer(silent()) as proxy, ScriptedServer(replies(200, b"ok")) as server:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.base_url)
        assert whole(exchange_with(server.base_url.replace(HOST, host))) == b"ok"
        assert proxy.connections == 0


def test_other_hosts_are_spoken_to_through_the_proxy_which_does_not_see_the_key(monkeypatch):
    with ScriptedServer(replies(403, b"no")) as proxy:
        monkeypatch.setenv("https_proxy", proxy.base_url)
        failure(exchange_with("https://somewhere.example"))
    (request,) = proxy.requests
    assert (request.method, request.path) == ("CONNECT", "somewhere.example:443")
    assert "authorization" not in request.headers


def test_cancel_ends_the_wait_for_a_proxy(monkeypatch):
    with ScriptedServer(silent()) as proxy:
        monkeypatch.setenv("https_proxy", proxy.base_url)
        exchange = exchange_with("https://somewhere.example", connect_timeout=300, timeout=300)
        stopper = threading.Thread(target=lambda: proxy.arrived.wait(20) and exchange.cancel())
        stopper.start()
        with pytest.raises(APIConnectionError):
            exchange.open()
        stopper.join()
        assert proxy.closed.wait(20)


def test_cookies_are_not_carried_from_one_request_to_the_next():
    with ScriptedServer(replies(200, b"ok", set_cookie="who=me; Path=/")) as server:
        whole(exchange_with(server))
        whole(exchange_with(server))
    assert [request.headers.get("cookie") for request in server.requests] == [None, None]


def test_read_takes_about_as_much_as_it_is_allowed_to():
    def script(exchange):
        exchange.headers()
        while True:
            exchange.send(b"x" * 10_000)

    with ScriptedServer(script) as server:
        exchange = exchange_with(server)
        exchange.open()
        assert 50_000 <= len(exchange.read(50_000)) < 50_000 + 65_537
        exchange.close()
        assert server.closed.wait(20)


def test_read_gives_what_came_before_the_connection_broke():
    def script(exchange):
        exchange.headers(content_length=100)
        exchange.send(b"the half")
        exchange.cut()

    with ScriptedServer(script) as server:
        exchange = exchange_with(server)
        exchange.open()
        assert exchange.read(1000) == b"the half"
        exchange.close()


def test_an_exchange_does_not_show_its_key():
    with ScriptedServer(replies(200, b"ok")) as server:
        exchange = exchange_with(server)
        exchange.open()
        assert KEY not in f"{exchange!r} {exchange}"
        with pytest.raises(TypeError):
            pickle.dumps(exchange)
        exchange.close()


def test_many_threads_share_the_connections_and_mix_nothing_up():
    def script(exchange):
        exchange.chunked().send(exchange.request.path.encode())

    with ScriptedServer(script) as server:
        got = {}

        def ask(number):
            for turn in range(10):
                path = f"/{number}/{turn}"
                got[path] = whole(exchange_with(server, path))

        threads = [threading.Thread(target=partial(ask, number)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert got == {f"/{number}/{turn}": f"/{number}/{turn}".encode() for number in range(8) for turn in range(10)}
        assert server.connections <= 8


def echo_and_stay(exchange):
    """A reply over a connection that stays open."""
    exchange.chunked().send(exchange.request.body)


def test_an_exchange_lets_go_of_its_connection_with_the_last_bytes(tls):
    with ScriptedServer(echo_and_stay, tls=tls) as server:
        first = exchange_with(server)
        first.open()
        assert b"".join(first.pieces()) == b"{}"
        first.expect_end(0.001)
        first.cancel()
        first.close()
        assert whole(exchange_with(server)) == b"{}"
        assert server.connections == 1


def test_leaving_early_never_ends_the_request_of_another_thread():
    # Threads that leave as soon as they have read all, while others take the connection that they have just put back.
    failed = []

    def leave(server):
        for _ in range(60):
            exchange = exchange_with(server)
            exchange.open()
            pieces = b"".join(exchange.pieces())
            threads = [threading.Thread(target=one) for one in (exchange.cancel, exchange.close)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert pieces == b"{}"

    def stay(server):
        try:
            for _ in range(120):
                assert whole(exchange_with(server)) == b"{}"
        except BaseException as error:  # noqa: BLE001  (told to the test's thread)
            failed.append(error)

    with ScriptedServer(echo_and_stay) as server:
        threads = [threading.Thread(target=work, args=(server,)) for work in (leave, leave, leave, stay, stay, stay)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failed == []


def test_a_socket_that_another_thread_has_closed_raises_nothing_raw():
    with ScriptedServer(silent_after(["one"])) as server:
        exchange = exchange_with(server)
        exchange.open()
        next(exchange.pieces())
        exchange._connection.sock.close()
        exchange.begun(5)
        exchange.expect_end(5)
        exchange._response.raw._fp.fp.close()
        with pytest.raises(APIConnectionError):
            list(exchange.pieces())
        exchange.finish()


@pytest.mark.parametrize(
    "odd",
    [OSError(9, "Bad file descriptor"), AttributeError("sock"), ValueError("closed"), TypeError("NoneType")],
    ids=repr,
)
@pytest.mark.parametrize("where", ["open", "pieces"])
def test_what_the_libraries_raise_is_told_as_an_error_of_ours(monkeypatch, odd, where):
    def fail(*_, **__):
        raise odd

    with ScriptedServer(silent_after(["one"])) as server:
        exchange = exchange_with(server)
        if where == "open":
            monkeypatch.setattr("together_nb.transport._Telling.getresponse", fail)
            with pytest.raises(APIConnectionError):
                exchange.open()
        else:
            exchange.open()
            monkeypatch.setattr(exchange._response.raw, "read1", fail)
            with pytest.raises(APIConnectionError) as told:
                next(exchange.pieces())
            assert told.value.passing
        exchange.close()


@pytest.mark.parametrize(
    "address",
    [
        "http://user:pa55word@",
        "http://user:pa55word@:3128",
        "user:pa55word@",
        "http://user:pa55word@host:notaport",
        "http://user:pa55word@host:99999",
        "http://user:pa55word@[::1",
        "http://user:pa55word/x@host:1",
        "http://user:pa55word#x@host:1",
        "http://user:pa55word\\x@host:1",
        "http://user:pa55word?x@host:1",
        "http://us er:pa55word@host:1",
        "http://user:x@pa55word@host:1",
        "http://user:pa55word@127.0.0.1:1",
        "http://user:pa55word@no.such.host.invalid:80",
        "ftp://user:pa55word@host",
        "socks5://user:pa55word@127.0.0.1:1",
        "https://user:pa55word@127.0.0.1:1",
        "http://pa55word@127.0.0.1:1",
        "http://u:p@",
    ],
)
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "all_proxy"])
def test_a_proxys_name_and_password_are_in_no_error(monkeypatch, variable, address):
    monkeypatch.setenv(variable, address)
    with pytest.raises(APIConnectionError) as told:
        exchange_with("https://api.example.invalid").open()
    shown = f"{told.value.message} {told.value.hint} {told.value.passing} {told.value!r}"
    assert "pa55word" not in shown
    assert "u:p@" not in shown
    assert "user" not in shown


def test_a_redirect_is_told_without_the_name_and_the_password_in_its_address():
    script = replies(302, b"", location="https://user:pa55word@elsewhere.example/v1")
    with ScriptedServer(script) as server, pytest.raises(TogetherError) as told:
        complete("Tell", base_url=server.base_url, model="m", api="chat")
    assert "elsewhere.example" in str(told.value)
    assert "pa55word" not in str(told.value)
