"""Whom the embedded server lets in, and how much anybody can make it do."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import requests
from hypothesis import example, given
from hypothesis import strategies as st

from tests.servers import eventually
from together_nb.errors import InputError
from together_nb.local import server as server_module
from together_nb.local import wire
from together_nb.local.effort import Effort
from together_nb.local.forms import Grammar
from together_nb.local.ngram import default_model, train
from together_nb.local.patterns import Matcher
from together_nb.local.server import LocalServer, running_server
from together_nb.params import SamplingParams

MODEL = "local/ngram"
ROOT = Path(__file__).resolve().parent.parent
HALF = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(scope="module")
def server():
    with LocalServer() as running:
        yield running


@pytest.fixture
def own():
    """Starts servers of a test's own, and stops them."""
    servers = []

    def start(**options):
        servers.append(LocalServer(**options).start())
        return servers[-1]

    yield start
    for running in servers:
        running.stop()


@contextlib.contextmanager
def connected(server):
    port = int(server.base_url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
        yield sock


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


def chat(schema, **values):
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    messages = [{"role": "user", "content": "Hi"}]
    return {"model": MODEL, "messages": messages, "seed": 1, "response_format": form, **values}


def message(body, *headers):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    path = b"/v1/chat/completions" if b'"messages"' in data else b"/v1/completions"
    lines = [b"POST " + path + b" HTTP/1.1", b"Host: localhost", b"Content-Length: %d" % len(data), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + data


# The key


def test_the_server_of_a_session_asks_for_a_key_of_its_own():
    session, other = running_server(), LocalServer()
    other.stop()
    try:
        assert len(session.api_key) >= 32
        assert session.api_key not in repr(session)
        assert requests.get(session.base_url + "/v1/models", timeout=60).status_code == 401
        right = {"Authorization": f"Bearer {session.api_key}"}
        assert requests.get(session.base_url + "/v1/models", headers=right, timeout=60).status_code == 200
    finally:
        session.stop()
    again = running_server()
    again.stop()
    assert again.api_key != session.api_key
    assert other.api_key is None


# Who may ask


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:80", "LocalHost:8000", "127.0.0.1", "127.0.0.1:1", "127.1.2.3", "[::1]", "[::1]:80"],
)
def test_a_host_of_this_machine_is_served(server, host):
    assert status(raw(server, get(f"Host: {host}"))) == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.com", "localhost.evil.com", "127.0.0.1.evil.com", "evil.com:80", "localhost@evil.com", "evil@localhost",
        "127.0.0.1:80@evil.com", "localhost:80:80", "localhost, evil.com", "localhost evil.com", "localhost#evil.com",
        "localhost/evil", "localhost\\evil", "0.0.0.0", "[::]", "10.0.0.1", "128.0.0.1", "127.1", "0x7f000001", "2130706433",
        "[127.0.0.1]", "::1", "[::1", "[::1]evil", "evil.localhost", "localhost..", "localhost:x", "", "localhost\xa0", "\xb2",
    ],
)  # fmt: skip
def test_another_host_is_refused(server, host):
    reply = raw(server, get(f"Host: {host}"))
    assert status(reply) == 403
    assert "localhost" in error_of(reply)["message"]


def test_a_request_names_one_host(server):
    assert status(raw(server, get("Host: localhost", "Host: localhost"))) == 400
    assert status(raw(server, get("Host: localhost", "Host: evil.com"))) == 400
    assert status(raw(server, get())) == 400
    assert status(raw(server, get(version="HTTP/1.0"))) == 200
    assert status(raw(server, get("Host: evil.com", version="HTTP/1.0"))) == 403


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("http://localhost/v1/models", 200), ("HTTP://127.0.0.1:1/v1/models?x", 200), ("http://evil.com/v1/models", 403),
        ("http://localhost@evil.com/v1/models", 403), ("http://evil.com#localhost/v1/models", 403), ("http://[/v1/models", 403),
        ("http:///v1/models", 403), ("//evil.com/v1/models", 404), ("evil.com:443", 404), ("*", 404), ("/v1/models#x", 200),
        ("/v1/../v1/models", 404), ("/v1/models%00", 404), ("/%", 404),
    ],
)  # fmt: skip
def test_a_target_may_name_a_host_too(server, target, expected):
    assert status(raw(server, get("Host: localhost", target=target))) == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Origin: http://localhost:8888", 200), ("Origin: http://127.0.0.1", 200), ("Origin: https://[::1]:1", 200),
        ("Origin: https://evil.com", 403), ("Origin: null", 403), ("Origin: ", 403), ("Origin: http://localhost.evil.com", 403),
        ("Origin: http://localhost@evil.com", 403), ("Origin: http://localhost/", 403), ("Origin: file://localhost", 403),
        ("Origin: chrome-extension://x", 403), ("Origin: localhost", 403), ("Sec-Fetch-Site: cross-site", 403),
        ("Sec-Fetch-Site: same-origin", 200), ("Sec-Fetch-Site: none", 200), ("Sec-Fetch-Site: Cross-Site", 403),
    ],
)  # fmt: skip
def test_pages_of_other_hosts_are_refused(server, header, expected):
    reply = raw(server, get("Host: localhost", header))
    assert status(reply) == expected
    assert b"access-control" not in reply.lower()


def test_one_near_origin_does_not_cover_for_a_far_one(server):
    assert status(raw(server, get("Host: localhost", "Origin: http://localhost", "Origin: http://evil.com"))) == 403


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (b"application/json", 200), (b"Application/JSON; charset=utf-8", 200), (b"application/x-www-form-urlencoded", 200),
        (None, 200), (b"text/plain", 415), (b"TEXT/PLAIN;charset=UTF-8", 415), (b"multipart/form-data; boundary=x", 415),
        (b"text/plain, application/json", 415), (b"multipart/form-data", 415), (b"text/html", 415),
    ],
)  # fmt: skip
def test_bodies_that_any_page_can_send_are_refused(server, kind, expected):
    headers = [b"Connection: close"] + ([] if kind is None else [b"Content-Type: " + kind])
    assert status(raw(server, message(completion(), *headers))) == expected


def test_no_preflight_is_granted(server):
    ask = b"OPTIONS /v1/completions HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.com\r\nAccess-Control-Request-Method: POST\r\n\r\n"
    reply = raw(server, ask)
    assert status(reply) >= 400
    assert b"access-control" not in reply.lower()
    assert b"\r\nallow" not in reply.lower()


@pytest.mark.parametrize("header", [b"Host: evil.com", b"Host: localhost\r\nOrigin: null", b"Host: localhost"])
def test_who_is_refused_hears_of_it_before_a_body_is_read(own, header):
    locked = own(api_key="sk-right-key-of-some-length")
    head = b"POST /v1/completions HTTP/1.1\r\n" + header + b"\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n"
    reply = raw(locked, head)
    assert status(reply) in (401, 403)


def test_who_is_let_in_is_told_to_go_on(server):
    body = json.dumps(completion()).encode()
    with connected(server) as sock:
        sock.sendall(HALF + b"Connection: close\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(body)
        assert status(until_end(sock)) == 200


# How HTTP can be bent


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (b"GET /v1/models\r\n\r\n", 400), (b"GET\r\n\r\n", 400), (b"POST /v1/completions\r\n\r\n", 400),
        (b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nno colon\r\nOrigin: http://evil.com\r\n\r\n", 400),
        (b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n folded\r\n\r\n", 403),
        (b"GET /v1/models HTTP/1.1\r\nHost : localhost\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (HALF + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", 400), (HALF + b"Content-Length: 5, 5\r\n\r\n", 400),
        (HALF + b"Content-Length: +5\r\n\r\n", 400), (HALF + b"Content-Length: \xb2\r\n\r\n", 400),
        (HALF + b"Content-Length: 1_0\r\n\r\n", 400), (HALF + b"Content-Length: \r\n\r\n", 400),
        (HALF + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", 413), (HALF + b"Transfer-Encoding: \r\n\r\n", 411),
        (HALF + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", 411),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431),
        (HALF + b"".join(b"X-%d: %s\r\n" % (number, b"x" * 9000) for number in range(9)) + b"\r\n", 431),
        (HALF + b"".join(b"X-%d: x\r\n" % number for number in range(200)) + b"\r\n", 431),
    ],
    ids=lambda one: str(one)[:40],
)  # fmt: skip
def test_what_is_malformed_is_an_error_in_json_and_the_end(server, request_, expected):
    reply = raw(server, request_)
    assert status(reply) == expected
    assert reply.count(b"HTTP/1.1 ") == 1
    assert error_of(reply)["message"]
    assert b"\r\nConnection: close\r\n" in reply


def test_zeros_before_a_length_hide_no_second_request(server):
    hidden = get("Host: localhost")
    reply = raw(server, HALF + b"Connection: close\r\nContent-Length: " + b"%030d" % len(hidden) + b"\r\n\r\n" + hidden)
    assert status(reply) == 400  # it is the body, and no JSON
    assert reply.count(b"HTTP/1.1 ") == 1


def test_requests_that_are_sent_ahead_are_answered_in_turn(server):
    asks = [message(completion(max_tokens=3, n=number)) for number in range(1, 6)]
    reply = raw(server, b"".join(asks) + get("Host: localhost"))
    assert reply.count(b"HTTP/1.1 200") == 6


# Bounds of connections


def test_a_thousand_half_requests_neither_lock_anyone_out_nor_are_a_thousand_threads(own):
    running = own()
    before = threading.active_count()
    known = http.client.HTTPConnection("127.0.0.1", int(running.base_url.rsplit(":", 1)[1]), timeout=60)
    known.request("GET", "/v1/models")
    known.getresponse().read()
    kept = known.sock
    with contextlib.ExitStack() as stack:
        for number in range(400):
            sock = stack.enter_context(connected(running))
            with contextlib.suppress(ConnectionError):
                sock.sendall(HALF[: number % len(HALF)])
            if number % 100 == 99:
                eventually(lambda: threading.active_count() - before <= server_module.MOST_CONNECTIONS + 5)
                assert requests.post(running.base_url + "/v1/completions", json=completion(), timeout=60).ok
        known.request("GET", "/v1/models")  # the connection of one who has asked before is not the first to go
        assert known.getresponse().status == 200
        assert known.sock is kept
    known.close()


@pytest.mark.parametrize("begin", [b"", HALF, HALF + b"Content-Length: 100000\r\n\r\n"])
def test_a_request_has_to_arrive_in_time_and_not_only_its_next_byte(own, begin, monkeypatch):
    monkeypatch.setattr(wire, "REQUEST_SECONDS", 0.5)
    with connected(own()) as sock:
        sock.sendall(begin)
        end = time.monotonic() + 60
        with pytest.raises(ConnectionError):  # noqa: PT012
            while time.monotonic() < end:
                sock.sendall(b"x")
                time.sleep(0.02)


def test_a_connection_that_asks_no_more_is_closed(own, monkeypatch):
    monkeypatch.setattr(wire, "IDLE_SECONDS", 0.2)
    with connected(own()) as sock:
        sock.sendall(get("Host: localhost").replace(b"Connection: close\r\n", b""))
        assert status(until_end(sock)) == 200


def test_who_reads_nothing_holds_no_thread(own, monkeypatch):
    monkeypatch.setattr(wire, "SEND_SECONDS", 0.2)
    running = own()
    with connected(running) as sock:
        sock.sendall(message(completion(stream=True, max_tokens=100_000, logprobs=20, logit_bias={"0": -1000})))
        assert sock.recv(10)
        eventually(lambda: not running._http._wires)


def test_who_sends_on_after_a_refusal_holds_no_thread(own, monkeypatch):
    monkeypatch.setattr(wire, "LINGER_SECONDS", 0.2)
    running = own()
    with connected(running) as sock:
        sock.sendall(HALF + b"Content-Length: 99999999999\r\n\r\n")
        assert status(until_end(sock)) == 413
        eventually(lambda: not running._http._wires)


def test_more_requests_than_can_be_answered_at_once_are_503(own, monkeypatch):
    monkeypatch.setattr(server_module, "MOST_ANSWERS", 2)
    running = own(tokens_per_second=1e-6)
    with connected(running) as one, connected(running) as two:
        for sock in (one, two):
            sock.sendall(message(completion(stream=True)))
            assert b"200" in sock.recv(100)
        assert status(raw(running, message(completion(), b"Connection: close"))) == 503
    eventually(lambda: not running._http._wires)
    running.tokens_per_second = None
    assert status(raw(running, message(completion(), b"Connection: close"))) == 200


def test_who_reads_nothing_makes_room_for_others(own, monkeypatch):
    monkeypatch.setattr(server_module, "MOST_ANSWERS", 1)
    monkeypatch.setattr(wire, "STALLED_SECONDS", 1.0)
    running = own()
    with connected(running) as sock:
        sock.sendall(message(completion(stream=True, max_tokens=100_000, logprobs=20, logit_bias={"0": -1000})))
        assert sock.recv(10)
        eventually(lambda: any(each.stalled for each in list(running._http._wires.values())))
        assert status(raw(running, message(completion(), b"Connection: close"))) == 200


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_holds_neither_the_port_nor_the_connections():
    script = """
import os, signal, socket, time
from together_nb.local.server import LocalServer
server = LocalServer().start()
address = ("127.0.0.1", int(server.base_url.rsplit(":", 1)[1]))
open_one = socket.create_connection(address, timeout=30)
while not server._http._wires:
    time.sleep(0.01)
child = os.fork()
if child == 0:
    server.stop()  # which hangs in no child
    time.sleep(300)
try:
    open_one.sendall(b"GET /v1/models HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")  # the child's end is not the parent's
    assert b"200" in open_one.recv(65536)
    server.stop()
    while open_one.recv(65536):  # to the end, though the child lives
        pass
    try:
        socket.create_connection(address, timeout=30)
    except ConnectionRefusedError:
        pass
    else:
        raise AssertionError("the child listens")
finally:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], cwd=ROOT, timeout=120, check=True)


# Bounds of requests


@pytest.mark.parametrize(
    "body",
    [
        completion(logit_bias={"1": 10**4000}), completion(logit_bias={"1": "9" * 5000}), completion(logit_bias={"9" * 5000: 1}),
        completion(logit_bias={str(number): 0 for number in range(1_000_000)}), completion(logit_bias={"1": [[[1]]]}),
        completion(n=10**4000), completion(n=10**9), completion(n=-1), completion(stop=["x"] * 100_000),
        completion(stop=["x" * 100_000]), completion(max_tokens=10**299), completion(max_tokens=10**4000),
        completion(n=128, max_tokens=100_000), completion(n=128, echo=True, prompt="a " * 100_000),
        completion(n=128, echo=True, prompt="a" * 1_000_000), completion(logprobs=10**20), completion(temperature=10**4000),
        completion(seed=10**4000), completion(top_k="9" * 5000), completion(stream="y" * 1_000_000),
        completion(**{"k" * 1_000_000: 1}), completion(model="m" * 1_000_000), completion(user=[1] * 300_000),
        b'{"model": "local/ngram", "prompt": "Hi", "temperature": NaN}', b'{"prompt": "Hi", "top_p": Infinity}',
        b'{"prompt": "Hi", "top_p": 1e999}', b'{"prompt": "Hi", "stop": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"prompt": "Hi", "x": ' + b'{"a":' * 400 + b"1" + b"}" * 400 + b"}", '{"prompt": "Hi"}'.encode("utf-16"),
    ],
    ids=lambda _: "body",
)  # fmt: skip
def test_a_request_beyond_measure_is_an_error_in_json(server, capfd, body):
    reply = raw(server, message(body, b"Connection: close"))
    assert 400 <= status(reply) < 500
    assert len(error_of(reply)["message"]) < 1000
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("text", ['"[{,' * 1000, "\\", '\\"', "\\\\[", "[[" * 400])
def test_brackets_within_a_text_are_letters(server, text):
    reply = requests.post(server.base_url + "/v1/completions", json=completion(prompt=text, echo=True), timeout=60)
    assert reply.json()["choices"][0]["text"].startswith(text)


def test_a_bias_for_every_token_costs_little_for_each(server):
    last = len(default_model().vocabulary) - 2
    every = {str(token): 0 for token in range(last + 1)}
    plain, biased = (
        "".join(piece.text for piece in default_model().generate("Once", SamplingParams(seed=1, top_k=1, **more)))
        for more in ({}, {"logit_bias": every})
    )
    assert biased == plain


class Broken:
    def __getattr__(self, name):
        return getattr(default_model(), name)

    def generate(self, prompt, sampling):
        raise self.failure
        yield


@pytest.mark.parametrize("failure", [KeyError("x"), OSError("x"), MemoryError(), RecursionError("x"), ValueError("x")])
def test_a_fault_of_ours_is_500_in_json_and_no_traceback(own, capfd, failure):
    model = Broken()
    model.failure = failure
    running = own(model=model)
    reply = raw(running, message(completion(), b"Connection: close"))
    assert status(reply) == 500
    assert type(failure).__name__ in error_of(reply)["message"]
    assert b"[DONE]" not in raw(running, message(completion(stream=True), b"Connection: close"))
    assert capfd.readouterr() == ("", "")


# Bounds of schemas


def obj(**properties):
    return {"type": "object", "properties": properties, "required": list(properties)}


def chain(count, link, end):
    parts = {f"a{number}": link({"$ref": f"#/$defs/a{number + 1}"}, number) for number in range(count)}
    return {"$ref": "#/$defs/a0", "$defs": {**parts, f"a{count}": end}}


BOMBS = {
    "items": {"type": "array", "minItems": 800_000_000},
    "items of items": {"type": "array", "minItems": 1000, "items": {"type": "array", "minItems": 1000}},
    "unique items": {"type": "array", "minItems": 10**9, "uniqueItems": True, "items": {"type": "string"}},
    "items beyond any number": {"type": "array", "minItems": 10**299, "items": {"type": "array", "minItems": 10**299}},
    "items or nothing": {"anyOf": [{"type": "null"}, {"type": "array", "minItems": 800_000_000}] * 9},
    "items that may be left out": {"properties": {f"p{number}": {"minItems": 10**299} for number in range(99)}},
    "letters": {"type": "string", "minLength": 800_000_000},
    "letters of a pattern": {"type": "string", "minLength": 800_000_000, "pattern": "a*"},
    "properties": {"type": "object", "minProperties": 10**9},
    "names": obj(**{"a-" * 150_000: {}}),
    "required": {"required": [f"p{number}" for number in range(30_000)]},
    "a constant": {"const": list(range(50_000))},
    "values": {"enum": list(range(100_000))},
    "one of constants": {"oneOf": [{"const": number} for number in range(1500)]},
    "one of objects": {"oneOf": [obj(kind={"const": number}, a={"type": "string"}) for number in range(900)]},
    "any of any of": chain(50, lambda a, n: {"anyOf": [a, {**a, "minimum": n}] * 9}, {"type": "integer"}),
    "any of, multiplied": {"allOf": [{"anyOf": [{"minimum": n}, {"maximum": n + 99}]} for n in range(30)]},
    "all of all of": chain(25, lambda a, n: {"allOf": [a] * 9}, {}),
    "a chain": chain(4000, lambda a, n: {"anyOf": [a, {"const": n}]}, {}),
    "a chain of objects": chain(4000, lambda a, n: obj(a=a), {}),
    "a circle": {"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}},
    "types": {"type": ["string", "null"] * 40_000},
    "a constant for many": {"const": list(range(20_000)), "anyOf": [{"items": {"minimum": -n}} for n in range(300)]},
    "repetition": {"type": "string", "pattern": "(a{1000}){1000}"},
    "much repetition": {"type": "string", "pattern": "((((a{999}){999}){999}){999}){999}"},
    "optional repetition": {"type": "string", "pattern": "^" + "(a?){1000}" * 9 + "$"},
    "backtracking": {"type": "string", "format": "uuid", "pattern": "^([0-9a-f-]+)+z$"},
    "backtracking of a value": {"enum": ["a" * 60 + "!"], "pattern": "^(a+)+$"},
    "backtracking of a draw": {"type": "string", "pattern": "^((a+)+b|a{60})$", "minLength": 60},
    "a long pattern": {"type": "string", "pattern": "[ab]" * 100_000},
    "a multiple": {"allOf": [{"type": "integer", "multipleOf": 10**290 + number} for number in range(200)]},
    "numbers": {"type": "integer", "minimum": 10**4000, "maximum": 10**4001},
    "a long schema": {"description": "x" * 1_000_000},
}
CHILD = """
import json, resource, sys, threading, time
from together_nb.errors import InputError
from together_nb.local.forms import Grammar
from together_nb.local.ngram import default_model
from together_nb.params import SamplingParams

def run(name, schema):
    try:
        form = Grammar(schema)
    except InputError:
        return "refused"
    if form.tokens > 8192:
        return "too long"
    pieces = list(default_model().generate("Hi", SamplingParams(seed=1), form))
    return f"{len(pieces)} tokens"

def peak():
    "Its own peak: on Linux `ru_maxrss` counts that of the process it was forked from."
    try:
        return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

def main():
    for name, schema in json.load(sys.stdin).items():
        began = time.process_time()
        told = run(name, schema)
        seconds, size = time.process_time() - began, peak()
        print(json.dumps([name, told, seconds, size]), flush=True)

default_model()
thread = threading.Thread(target=main)
thread.start()
thread.join()
"""


@pytest.mark.timeout(600)
@pytest.mark.skipif(os.name != "posix", reason="memory is measured as POSIX does")
def test_no_schema_takes_much_time_or_memory():
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=json.dumps(BOMBS), cwd=ROOT, capture_output=True, text=True, timeout=550, check=True,
    )  # fmt: skip
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {row[0] for row in rows} == set(BOMBS)
    assert done.stderr == ""
    unit = 1024 * (1024 if sys.platform == "darwin" else 1)
    for name, told, seconds, size in rows:
        assert seconds < 20, (name, told)
        assert size / unit < 400, (name, told)
    finite = {"backtracking of a draw", "types", "any of any of", "items or nothing", "items that may be left out"}
    assert {row[0] for row in rows if "tokens" in row[1]} <= finite


@pytest.mark.parametrize("name", ["items", "letters", "one of constants", "all of all of", "repetition", "types"])
def test_a_schema_that_cannot_fit_is_400_with_a_reason(server, name):
    reply = raw(server, message(chat(BOMBS[name]), b"Connection: close"))
    assert status(reply) == 400
    assert error_of(reply)["param"] == "response_format"


def test_a_schema_that_is_large_and_sensible_is_answered(server):
    countries = {"oneOf": [{"const": f"country {number}", "title": f"No. {number}"} for number in range(249)]}
    pets = {"oneOf": [obj(kind={"const": f"kind {number}"}, name={"type": "string"}) for number in range(30)]}
    wide = obj(**{f"property {number}": {"type": "integer"} for number in range(500)})
    slug = {"type": "string", "pattern": "^[a-z0-9]+(-[a-z0-9]+)*$"}
    body = chat(obj(country=countries, pet=pets, wide=wide, slug=slug, word={"enum": [str(n) for n in range(1000)]}))
    answer = requests.post(server.base_url + "/v1/chat/completions", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["finish_reason"] == "eos"


def test_a_short_answer_is_the_least_that_is_asked_for():
    assert Grammar({"type": "array", "minItems": 2, "items": {"const": "a"}}).tokens == 9  # [ " a " , " a " ]
    assert Grammar(obj(a={"type": "null"})).tokens == 6  # { " a ": null }
    assert Grammar({"anyOf": [{"type": "string"}, {"type": "null"}]}).tokens == 1


LETTERS = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\d", r"\w", r"\S", r"\.", "1"])
EXPRESSIONS = st.recursive(
    LETTERS,
    lambda part: st.one_of(
        st.lists(part, max_size=3).map("".join),
        st.lists(part, min_size=1, max_size=3).map(lambda parts: "(" + "|".join(parts) + ")"),
        st.builds(
            lambda each, sign: f"(?:{each}){sign}", part, st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "{2,}", "*?"])
        ),
        part.map("^{}".format).filter(lambda each: not each.startswith("^^")),
        part.map("{}$".format),
    ),
    max_leaves=6,
)


@given(EXPRESSIONS, st.text("ab1.\n\xe9", max_size=6))
@example("^a$", "a\n")
@example("a|^b", "xb")
@example("^(a|b)+$", "abab")
def test_a_pattern_is_searched_for_as_by_re(pattern, text):
    try:
        matcher = Matcher(pattern, Effort(100_000))
    except InputError:
        return
    assert matcher.search(text, Effort(100_000)) == bool(re.search(pattern, text))


# Work that nobody waits for


class GoneError(Exception):
    """Who asked has left."""


def leaves_after(count):
    looks = iter(range(count))

    def look():
        if next(looks, None) is None:
            raise GoneError

    return look


@pytest.mark.parametrize("name", ["one of objects", "any of any of", "backtracking", "a constant for many"])
def test_a_schema_is_worked_at_only_while_somebody_waits(name):
    with pytest.raises(GoneError):
        Grammar(BOMBS[name], leaves_after(20))


def test_an_item_is_looked_for_only_while_somebody_waits():
    pairs = obj(a={"type": "boolean"}, b={"type": "array", "minItems": 100, "items": {"const": 1}})
    form = Grammar({"type": "array", "uniqueItems": True, "minItems": 3, "items": pairs})
    form.look = leaves_after(150)
    with pytest.raises(GoneError):
        list(default_model().generate("Hi", SamplingParams(seed=1), form))


class Watched:
    """A model that tells when its text is given up."""

    def __init__(self):
        self._model = train(["a b c a c b b a"], order=1)
        self.begun, self.given_up = threading.Event(), threading.Event()

    def __getattr__(self, name):
        return getattr(self._model, name)

    def generate(self, prompt, sampling):
        try:
            for piece in self._model.generate(prompt, sampling):
                self.begun.set()
                yield piece
        finally:
            self.given_up.set()


@pytest.mark.parametrize("pace", [None, 1e-6])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("ahead", [b"", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_a_client_that_leaves_ends_the_work_whatever_it_has_sent_ahead(own, capfd, pace, stream, ahead):
    model = Watched()
    running = own(model=model, tokens_per_second=pace)
    with connected(running) as sock:
        sock.sendall(message(completion(stream=stream, max_tokens=130_000, logit_bias={"0": -1000})) + ahead)
        assert model.begun.wait(60)
    assert model.given_up.wait(60)
    eventually(lambda: not running._http._wires)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "pattern",
    [
        "(" * 40 + ")*" * 40,
        "(" * 40 + "^" + ")*" * 40,
        "(" * 40 + "){9}" * 40,
        "((((){0,20000}){0,20000}){0,20000}){0,20000}",
        "((()+)+){1000}x",
    ],
)
def test_repetitions_of_nothing_take_no_time(pattern):
    code = f"""
from together_nb import complete, settings
from together_nb.errors import TogetherError
settings.local_tokens_per_second = 0
try:
    complete("hi", model="local/ngram", schema={{"type": "string", "pattern": {pattern!r}}})
except TogetherError:
    pass
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=250)


def test_what_requests_hold_together_is_bounded_and_given_back():
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3900000\r\n\r\n"
    with LocalServer() as server, contextlib.ExitStack() as stack:
        address = ("127.0.0.1", int(server.base_url.rsplit(":", 1)[1]))
        for number in range(1, 11):  # with bodies that are still to come
            stack.enter_context(socket.create_connection(address, timeout=60)).sendall(head)
            eventually(lambda number=number: server._http._reserved == number * 39_000_000)
        one_more = stack.enter_context(socket.create_connection(address, timeout=60))
        one_more.sendall(head)
        assert one_more.recv(12) == b"HTTP/1.1 503"
        stack.close()
        eventually(lambda: server._http._reserved == 0)
        assert status(raw(server, message(completion(), b"Connection: close"))) == 200
