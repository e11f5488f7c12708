"""Whom the embedded server lets in, and how much anybody can make it do."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import requests

from tests.servers import eventually
from together_nb.local import connection as wire
from together_nb.local import server as server_module
from together_nb.local.handler import MAX_BODY
from together_nb.local.ngram import NgramModel
from together_nb.local.server import LocalServer

MODEL = "local/ngram"
ROOT = Path(__file__).parents[2]
HALF = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
LAST = b"Connection: close"
SLOW = 1e-6  # tokens a second
FOREVER = {"max_tokens": 130_000, "logit_bias": {"0": -1000}}


@pytest.fixture(scope="module")
def server():
    with LocalServer() as running:
        yield running


def connection_to(server):
    return http.client.HTTPConnection(server.base_url.removeprefix("http://"), timeout=60)


def connected(server):
    return socket.create_connection(("127.0.0.1", int(server.base_url.rpartition(":")[2])), timeout=60)


def until_end(sock):
    return b"".join(iter(lambda: sock.recv(65536), b""))


def raw(server, request):
    """What comes back until the server closes."""
    with connected(server) as sock:
        sock.sendall(request)
        return until_end(sock)


def get(*headers, target="/v1/models", version="HTTP/1.1"):
    lines = [f"GET {target} {version}", *headers, "Connection: close"]
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1") + b"\r\n"


def status(reply):
    assert reply.startswith(b"HTTP/1.1 "), reply[:200]
    return int(reply[9:12])


def error_of(reply):
    return json.loads(reply.partition(b"\r\n\r\n")[2])["error"]


def completion(**values):
    return {"model": MODEL, "prompt": "Alan Turing was", "seed": 1, "max_tokens": 8, **values}


def message(body, *headers):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    path = b"/v1/chat/completions" if b'"messages"' in data else b"/v1/completions"
    lines = [b"POST " + path + b" HTTP/1.1", b"Host: localhost", b"Content-Length: %d" % len(data), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + data


def is_served(server):
    return status(raw(server, message(completion(), LAST))) == 200


HERE = ["localhost", "localhost:80", "LocalHost:8000", "127.0.0.1", "127.0.0.1:1", "127.1.2.3", "[::1]", "[::1]:80"]
ELSEWHERE = [
    "evil.com", "localhost.evil.com", "127.0.0.1.evil.com", "evil.com:80", "localhost@evil.com", "evil@localhost",
    "127.0.0.1:80@evil.com", "localhost:80:80", "localhost, evil.com", "localhost evil.com", "localhost#evil.com",
    "localhost/evil", "localhost\\evil", "0.0.0.0", "[::]", "10.0.0.1", "128.0.0.1", "127.1", "0x7f000001",
    "2130706433", "[127.0.0.1]", "::1", "[::1", "[::1]evil", "evil.localhost", "localhost..", "localhost:x", "",
    "localhost\xa0", "\xb2",
]  # fmt: skip
TARGETS = {
    "http://localhost/v1/models": 200, "HTTP://127.0.0.1:1/v1/models?x": 200, "/v1/models#x": 200,
    "http://evil.com/v1/models": 403, "http://localhost@evil.com/v1/models": 403, "http:///v1/models": 403,
    "http://evil.com#localhost/v1/models": 403, "http://[/v1/models": 403, "//evil.com/v1/models": 404,
    "evil.com:443": 404, "*": 404, "/v1/../v1/models": 404, "/v1/models%00": 404, "/%": 404,
}  # fmt: skip
ORIGINS = {
    "http://localhost:8888": 200, "http://127.0.0.1": 200, "https://[::1]:1": 200, "https://evil.com": 403,
    "null": 403, "": 403, "http://localhost.evil.com": 403, "http://localhost@evil.com": 403, "localhost": 403,
    "http://localhost/": 403, "file://localhost": 403, "chrome-extension://x": 403,
    "http://localhost\r\nOrigin: http://evil.com": 403,
}  # fmt: skip
SITES = {"cross-site": 403, "same-origin": 200, "same-site": 200, "none": 200, "Cross-Site": 403}
# A page may send bodies of the other types without asking first.
BODY_TYPES = {
    "application/json": 200, "Application/JSON; charset=utf-8": 200, "text/json": 200, "application/x+json": 200,
    "application/x-www-form-urlencoded": 200, "text/plain": 415, "text/html": 415, "TEXT/PLAIN;charset=UTF-8": 415,
    "multipart/form-data; boundary=x": 415, "multipart/form-data": 415, "text/plain, application/json": 415,
}  # fmt: skip
PREFLIGHT = b"OPTIONS /v1/completions HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.com\r\n%s\r\n\r\n"


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        *((get(f"Host: {host}"), 200) for host in HERE), *((get(f"Host: {host}"), 403) for host in ELSEWHERE),
        (get(), 400), (get("Host: localhost", "Host: localhost"), 400), (get("Host: localhost", "Host: evil.com"), 400),
        (get(version="HTTP/1.0"), 200), (get("Host: evil.com", version="HTTP/1.0"), 403),
        *((get("Host: localhost", target=target), expected) for target, expected in TARGETS.items()),
        *((get("Host: localhost", f"Origin: {origin}"), expected) for origin, expected in ORIGINS.items()),
        *((get("Host: localhost", f"Sec-Fetch-Site: {site}"), expected) for site, expected in SITES.items()),
        *((message(completion(), LAST, b"Content-Type: " + kind.encode()), code) for kind, code in BODY_TYPES.items()),
        (message(completion(), LAST), 200), (PREFLIGHT % b"Access-Control-Request-Method: POST", 501),
    ],
    ids=repr,
)  # fmt: skip
def test_only_programs_of_this_machine_and_its_own_pages_are_answered(server, request_, expected):
    reply = raw(server, request_)
    assert status(reply) == expected
    assert b"access-control" not in reply.lower()
    assert b"\r\nallow" not in reply.lower()


def test_a_key_is_needed_where_one_was_given():
    with LocalServer(api_key="sk-right") as locked:
        for authorization in ({}, {"Authorization": "Bearer sk-wrong"}, {"Authorization": "sk-right"}):
            for path in ("/v1/models", "/nothing"):
                reply = requests.get(locked.base_url + path, headers=authorization, timeout=60)
                assert (reply.status_code, reply.json()["error"]["code"]) == (401, "invalid_api_key")
                assert "sk-" not in reply.text
        assert status(raw(locked, get("Host: localhost", "Authorization: Bearer sk-right"))) == 200


@pytest.mark.parametrize("header", [b"Host: evil.com", b"Host: localhost\r\nOrigin: null", b"Host: localhost"])
def test_a_refusal_comes_before_a_body_is_read(header):
    head = b"POST /v1/completions HTTP/1.1\r\n" + header + b"\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n"
    with LocalServer(api_key="sk-right-key-of-some-length") as locked:
        assert status(raw(locked, head)) == (401 if header == b"Host: localhost" else 403)


def test_a_request_that_is_let_in_is_told_to_go_on(server):
    body = json.dumps(completion()).encode()
    with connected(server) as sock:
        sock.sendall(HALF + b"Connection: close\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(body)
        assert status(until_end(sock)) == 200


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (b"GET /v1/models\r\n\r\n", 400), (b"GET\r\n\r\n", 400), (b"POST /v1/completions\r\n\r\n", 400),
        (b"NONSENSE\r\n\r\n", 400), (b"GET / HTTP/9\r\n\r\n", 400), (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nno colon\r\nOrigin: http://evil.com\r\n\r\n", 400),
        (b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n folded\r\n\r\n", 403),
        (b"GET /v1/models HTTP/1.1\r\nHost : localhost\r\n\r\n", 400),
        *((HALF + b"Content-Length: " + length + b"\r\n\r\n", expected) for length, expected in {
            b"5\r\nContent-Length: 6": 400, b"5, 5": 400, b"+5": 400, b"\xb2": 400, b"1_0": 400, b"": 400, b"x": 400,
            b"-1": 400, b"9" * 5000: 413, b"3\r\nTransfer-Encoding: chunked": 411,
            str(MAX_BODY + 1).encode(): 413,
        }.items()),
        # Zeros before a length hide no second request: it is the body, and no JSON.
        (HALF + b"Connection: close\r\nContent-Length: %030d\r\n\r\n" % len(get()) + get(), 400),
        (HALF + b"Transfer-Encoding: \r\n\r\n", 411), (HALF + b"Transfer-Encoding: chunked\r\n\r\n", 411),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431),
        (HALF + b"".join(b"X-%d: %s\r\n" % (number, b"x" * 9000) for number in range(9)) + b"\r\n", 431),
        (HALF + b"".join(b"X-%d: x\r\n" % number for number in range(200)) + b"\r\n", 431),
    ],
    ids=lambda one: str(one)[:60],
)  # fmt: skip
def test_what_is_malformed_is_an_error_in_json_and_the_end(server, request_, expected):
    reply = raw(server, request_)
    assert status(reply) == expected
    assert reply.count(b"HTTP/1.1 ") == 1
    assert error_of(reply)["message"]
    assert b"\r\nConnection: close\r\n" in reply


def test_requests_that_are_sent_ahead_are_answered_in_turn(server):
    bodies = [message(completion(max_tokens=3, n=number)) for number in range(1, 6)]
    assert raw(server, b"".join(bodies) + get("Host: localhost")).count(b"HTTP/1.1 200") == 6


def test_an_old_client_gets_a_stream_without_chunks(server):
    request = message(completion(stream=True)).replace(b"HTTP/1.1", b"HTTP/1.0")
    headers, _, stream = raw(server, request).partition(b"\r\n\r\n")
    assert b"chunked" not in headers
    assert stream.startswith(b"data: {")
    assert stream.endswith(b"data: [DONE]\n\n")


def test_a_connection_is_kept_over_requests_streams_and_errors_and_does_not_delay():
    with LocalServer() as running, contextlib.closing(connection_to(running)) as connection:
        kept = None
        for path, expected in (("/v1/completions", 200), ("/v1/nothing", 404), ("/v1/completions", 200)):
            connection.request("POST", path, json.dumps(completion(stream=True)))
            kept = kept or connection.sock
            response = connection.getresponse()
            assert response.status == expected
            assert response.read()
            assert connection.sock is kept
        (kept_there,) = running._http._wires
        assert kept_there.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_the_client_of_a_body_beyond_the_bound_sees_why_it_is_refused(server):
    with contextlib.closing(connection_to(server)) as connection:
        connection.request("POST", "/v1/completions", b"x" * 30_000_000)  # raises if it is cut off while it sends
        response = connection.getresponse()
        assert response.status == 413
        assert str(MAX_BODY).encode() in response.read()


def test_many_half_requests_neither_lock_anyone_out_nor_are_as_many_threads():
    before = threading.active_count()
    with LocalServer() as running, contextlib.ExitStack() as stack:
        known = stack.enter_context(contextlib.closing(connection_to(running)))
        known.request("GET", "/v1/models")
        kept = known.sock
        known.getresponse().read()
        for number in range(400):
            sock = stack.enter_context(connected(running))
            with contextlib.suppress(ConnectionError):
                sock.sendall(HALF[: number % len(HALF)])
            if number % 100 == 99:
                eventually(lambda: threading.active_count() - before <= server_module.MOST_CONNECTIONS + 5)
                assert is_served(running)
        known.request("GET", "/v1/models")  # the connection of one who has asked before is not the first to go
        assert known.getresponse().status == 200
        assert known.sock is kept


@pytest.mark.parametrize("begin", [b"", HALF, HALF + b"Content-Length: 100000\r\n\r\n"])
def test_a_request_has_to_arrive_in_time_and_not_only_its_next_byte(begin, monkeypatch):
    monkeypatch.setattr(wire, "REQUEST_SECONDS", 0.5)
    with LocalServer() as running, connected(running) as sock:
        sock.sendall(begin)
        end = time.monotonic() + 60
        with pytest.raises(ConnectionError):  # noqa: PT012
            while time.monotonic() < end:
                sock.sendall(b"x")
                time.sleep(0.02)


UNREAD = message(completion(stream=True, logprobs=20, **FOREVER))


@pytest.mark.parametrize(
    ("bound", "request_"),
    [
        ("IDLE_SECONDS", get("Host: localhost").replace(b"Connection: close\r\n", b"")),
        ("SEND_SECONDS", UNREAD),
        ("LINGER_SECONDS", HALF + b"Content-Length: 99999999999\r\n\r\n"),
    ],
)
def test_a_client_that_asks_no_more_reads_nothing_or_sends_on_after_a_refusal_holds_no_thread(
    bound, request_, monkeypatch
):
    monkeypatch.setattr(wire, bound, 0.2)
    with LocalServer() as running, connected(running) as sock:
        sock.sendall(request_)
        assert sock.recv(10)
        eventually(lambda: not running._http._wires)


def test_more_requests_than_can_be_answered_at_once_are_503(monkeypatch):
    monkeypatch.setattr(server_module, "MOST_ANSWERS", 2)
    with LocalServer(tokens_per_second=SLOW) as running:
        with connected(running) as one, connected(running) as other:
            for sock in (one, other):
                sock.sendall(message(completion(stream=True)))
                assert b"200" in sock.recv(100)
            assert status(raw(running, message(completion(), LAST))) == 503
        eventually(lambda: not running._http._wires)
        running.tokens_per_second = None
        assert is_served(running)


def test_a_client_that_reads_nothing_makes_room_for_others(monkeypatch):
    monkeypatch.setattr(server_module, "MOST_ANSWERS", 1)
    monkeypatch.setattr(wire, "STALLED_SECONDS", 1.0)
    with LocalServer() as running, connected(running) as sock:
        sock.sendall(UNREAD)
        assert sock.recv(10)
        eventually(lambda: is_served(running))  # once it has read nothing for long enough
        eventually(lambda: not running._http._wires)


def test_what_requests_hold_together_is_bounded_and_given_back():
    head = HALF + b"Content-Length: 3900000\r\n\r\n"
    with LocalServer() as running:
        with contextlib.ExitStack() as stack:
            for number in range(1, 11):  # with bodies that are still to come
                stack.enter_context(connected(running)).sendall(head)
                eventually(lambda number=number: running._http._reserved == number * 39_000_000)
            one_more = stack.enter_context(connected(running))
            one_more.sendall(head)
            assert one_more.recv(12) == b"HTTP/1.1 503"
        eventually(lambda: running._http._reserved == 0)
        assert is_served(running)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_after_a_fork_the_child_has_a_server_of_its_own_and_holds_nothing_of_the_parents():
    script = """
import errno, os, signal, socket, time
import requests
from together_nb.local.server import running_server

def is_served_by(server):
    headers = {"Authorization": f"Bearer {server.api_key}"}
    return requests.get(server.base_url + "/v1/models", headers=headers, timeout=60).ok

parent = running_server()
address = ("127.0.0.1", int(parent.base_url.rsplit(":", 1)[1]))
sock = socket.create_connection(address, timeout=30)
while not parent._http._wires:
    time.sleep(0.01)
reads, writes = os.pipe()
child = os.fork()
if child == 0:
    own = running_server()
    fine = parent.stopped and own is not parent and own.api_key != parent.api_key and is_served_by(own)
    parent.stop()  # which hangs in no child
    os.write(writes, b"y" if fine else b"n")
    time.sleep(300)
try:
    assert os.read(reads, 1) == b"y"
    assert running_server() is parent
    assert is_served_by(parent)
    key = parent.api_key.encode()
    sock.sendall(b"GET /v1/models HTTP/1.1\\r\\nHost: localhost\\r\\nAuthorization: Bearer " + key + b"\\r\\n\\r\\n")
    assert b"200" in sock.recv(65536)  # the child's end is not the parent's
    parent.stop()
    while sock.recv(65536):  # to the end, though the child lives
        pass
    assert socket.socket().connect_ex(address) == errno.ECONNREFUSED  # the child does not listen
finally:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], cwd=ROOT, timeout=120, check=True)


@pytest.mark.parametrize(
    "body",
    [
        *(completion(**{name: value}) for name, values in {
            "logit_bias": [
                {"1": 10**4000}, {"1": "9" * 5000}, {"9" * 5000: 1}, {"1": [[[1]]]},
                {str(token): 0 for token in range(250_000)},
            ],
            "n": [10**4000, 10**9, -1], "stop": [["x"] * 100_000, ["x" * 100_000]], "max_tokens": [10**299, 10**4000],
            "logprobs": [10**20], "temperature": [10**4000], "seed": [10**4000], "top_k": ["9" * 5000],
            "stream": ["y" * 1_000_000], "k" * 1_000_000: [1], "model": ["m" * 1_000_000], "user": [[1] * 300_000],
        }.items() for value in values),
        completion(n=128, max_tokens=100_000), completion(n=128, echo=True, prompt="a " * 100_000),
        completion(n=128, echo=True, prompt="a" * 1_000_000),
        b'{"model": "local/ngram", "prompt": "Hi", "temperature": NaN}', b'{"prompt": "Hi", "top_p": Infinity}',
        b'{"prompt": "Hi", "top_p": 1e999}', b'{"prompt": "Hi", "stop": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"prompt": "Hi", "x": ' + b'{"a":' * 400 + b"1" + b"}" * 400 + b"}", '{"prompt": "Hi"}'.encode("utf-16"),
    ],
    ids=lambda _: "body",
)  # fmt: skip
def test_a_request_beyond_measure_is_an_error_in_json(server, capfd, body):
    reply = raw(server, message(body, LAST))
    assert 400 <= status(reply) < 500
    assert len(error_of(reply)["message"]) < 1000
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("failure", [KeyError("x"), OSError("x"), MemoryError(), RecursionError("x"), ValueError("x")])
def test_a_fault_of_ours_is_500_in_json_and_no_traceback(server, capfd, monkeypatch, failure):
    def generate(*_):
        raise failure
        yield

    monkeypatch.setattr(NgramModel, "generate", generate)
    reply = raw(server, message(completion(), LAST))
    assert status(reply) == 500
    assert type(failure).__name__ in error_of(reply)["message"]
    assert b"[DONE]" not in raw(server, message(completion(stream=True), LAST))
    assert capfd.readouterr() == ("", "")


class Watched(NgramModel):
    """Knows how many tokens were taken, and when its text was given up."""

    def __init__(self):
        super().__init__(["a b c a c b b a"], order=1)
        self.begun, self.given_up, self.taken = threading.Event(), threading.Event(), 0

    def generate(self, prompt, sampling):
        try:
            for piece in super().generate(prompt, sampling):
                self.taken += 1
                self.begun.set()
                yield piece
        finally:
            self.given_up.set()


@pytest.mark.parametrize("pace", [None, SLOW])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("ahead", [b"", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_a_client_that_leaves_ends_the_work_whatever_it_has_sent_ahead(capfd, pace, stream, ahead):
    model = Watched()
    with LocalServer(model, tokens_per_second=pace) as running:
        with connected(running) as sock:
            sock.sendall(message(completion(stream=stream, **FOREVER)) + ahead)
            assert model.begun.wait(60)
        assert model.given_up.wait(60)
        assert model.taken < FOREVER["max_tokens"]
        eventually(lambda: not running._http._wires)
    assert capfd.readouterr() == ("", "")


def test_a_client_that_resets_the_connection_is_no_traceback(capfd):
    with LocalServer() as running:
        with connected(running) as sock:
            sock.sendall(HALF + b"Content-Length: 100\r\n\r\n{")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert is_served(running)
        eventually(lambda: not running._http._wires)
    assert capfd.readouterr() == ("", "")
