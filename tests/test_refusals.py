"""What a server's error replies mean."""

from __future__ import annotations

import pickle

import pytest

from tests.servers import ScriptedServer, answers, replies
from together_nb.config import Key
from together_nb.endpoint import Endpoint
from together_nb.errors import (
    APIStatusError,
    AuthenticationError,
    ContextLengthError,
    NotFoundError,
    RateLimitError,
)
from together_nb.refusals import check_status

pytestmark = pytest.mark.timeout(40)

KEY = "sk-secret-0123456789abcdef"


def refused(server, key=KEY):
    """The error of one POST to a server that refuses it."""
    endpoint = Endpoint(server.base_url, None if key is None else Key(key, "a test"))
    exchange = endpoint.exchange("POST", "/v1/chat/completions", {})
    exchange.open()
    with pytest.raises(APIStatusError) as caught:
        check_status(exchange, endpoint)
    assert len(server.requests) == 1
    assert KEY not in f"{caught.value!r} {caught.value}"
    assert KEY.encode() not in pickle.dumps(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("status", "kind", "title", "hint"),
    [
        (400, APIStatusError, "The server did not accept the request", "--dry-run"),
        (401, AuthenticationError, "The server did not accept the key", "%together login"),
        (402, APIStatusError, "The account's spending limit is reached", "billing"),
        (403, APIStatusError, "The server refused the request", "--dry-run"),
        (404, NotFoundError, "The server has no such model or address", "%together models"),
        (413, ContextLengthError, "The request is too large", "Shorten the prompt"),
        (418, APIStatusError, "The server refused the request", "--dry-run"),
        (422, APIStatusError, "The server did not accept a parameter", "--dry-run"),
        (408, APIStatusError, "The server took too long", "fewer tokens"),
        (409, APIStatusError, "The request is in conflict with another", "Wait a little"),
        (429, RateLimitError, "Too many requests or tokens", "Wait a little"),
        (500, APIStatusError, "The server failed", "Wait a little"),
        (503, APIStatusError, "The server is overloaded", "another model"),
        (504, APIStatusError, "The server took too long", "fewer tokens"),
        (521, APIStatusError, "The server failed", "Wait a little"),
        (524, APIStatusError, "The server took too long", "fewer tokens"),
        (529, APIStatusError, "The server is overloaded", "another model"),
    ],
)
def test_a_status_says_what_happened_and_what_to_do(status, kind, title, hint):
    with ScriptedServer(replies(status, {"error": {"message": "Its own words."}})) as server:
        error = refused(server)
    assert type(error) is kind
    assert error.status == status
    assert error.message == f"{title} (HTTP {status}). Its own words."
    assert hint in error.hint
    assert len(str(error).splitlines()) == 2


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"id": "x", "error": {"message": "plain", "type": "t", "param": None, "code": None}}, " plain"),
        ({"error": {"message": {"message": "wrapped twice", "code": 400}}}, " wrapped twice"),
        ({"error": "a text"}, " a text"),
        ({"message": "no error around it"}, " no error around it"),
        ({"detail": "of another house"}, " of another house"),
        ({"error": {"message": "two\n\n  lines"}}, " two lines"),
        ({"detail": [{"loc": ["body"], "msg": "of a third house"}]}, " of a third house"),
        ([{"error": {"message": "in a list"}}], " in a list"),
        ({"errors": [{"message": "of many"}]}, " of many"),
        ({"error": {"message": "[object Object]"}}, ""),
        (b"\xef\xbb\xbf" + b'{"error": "after a mark"}', " after a mark"),
        ({"error": []}, ""),
        ({"error": None}, ""),
        ({}, ""),
        (b"error code: 521", " error code: 521"),
        (b"<html><body>Bad gateway</body></html>", ""),
        (
            b"<!DOCTYPE html><html><title>502  Bad\nGateway &amp; Co</title><body>Oh</body></html>",
            " “502 Bad Gateway & Co”.",
        ),
        ({"error": {"message": "<!DOCTYPE html><html><body>Oh</body></html>"}}, ""),
        ({"error": {"message": "write <b> for bold"}}, " write <b> for bold"),
        (b"", ""),
        (b"\xff\xfe", " \ufffd\ufffd"),
        ({"error": {"message": "x" * 1000}}, " " + "x" * 300),
        (b"[" * 100_000, " " + "[" * 300),
    ],
)
def test_the_servers_words_are_unwrapped(body, words):
    with ScriptedServer(replies(500, body)) as server:
        assert refused(server).message == f"The server failed (HTTP 500).{words}"


def test_a_refused_key_is_told_by_where_it_came_from_and_its_last_letters():
    with ScriptedServer(replies(401, {"error": "no"})) as server:
        assert refused(server).hint == (
            "The key came from a test, ending in …cdef. Give another one with `%together login`."
        )
    with ScriptedServer(replies(401, {"error": "no"})) as server:
        hint = refused(server, key="tooshort").hint
        assert hint == "The key came from a test. Give another one with `%together login`."
    with ScriptedServer(replies(401, {"error": "no"})) as server:
        assert refused(server, key=None).hint == "`%together login` takes one."


def test_a_server_that_repeats_the_key_does_not_make_the_error_show_it():
    with ScriptedServer(replies(401, {"error": f"Incorrect API key provided: {KEY}."})) as server:
        assert refused(server).message.endswith("Incorrect API key provided: ….")


def test_a_redirect_says_where_to_and_is_not_followed():
    with ScriptedServer(answers([])) as elsewhere:
        with ScriptedServer(replies(308, b"", location=elsewhere.base_url)) as server:
            error = refused(server)
            assert error.message == (
                f"{server.base_url}/v1/chat/completions sends on to {elsewhere.base_url}, and a key is not carried there."
            )
            assert error.hint == "Set the base URL to the final address."
            assert error.status == 308
        assert elsewhere.connections == 0


def test_an_error_whose_body_breaks_off_is_still_told():
    def script(exchange):
        exchange.headers(500, content_length=1000, content_type="text/plain")
        exchange.send(b"the half of")
        exchange.cut()

    with ScriptedServer(script) as server:
        assert refused(server).message == "The server failed (HTTP 500). the half of"


@pytest.mark.parametrize("words", ["maximum context length is 8192", "too many Tokens", "the prompt is too long"])
def test_a_403_that_speaks_of_length_is_about_length(words):
    with ScriptedServer(replies(403, {"error": words})) as server:
        error = refused(server)
    assert type(error) is ContextLengthError
    assert error.message == f"The prompt and max_tokens do not fit the model's context (HTTP 403). {words}"
    assert "lower max_tokens" in error.hint


@pytest.mark.parametrize(
    "body", [b"<html>Forbidden</html>", b"<html><title>token</title></html>", {"error": "no"}, b""]
)
def test_a_gateway_that_forbids_has_not_read_the_prompt(body):
    with ScriptedServer(replies(403, body)) as server:
        error = refused(server)
    assert type(error) is APIStatusError
    assert error.message.startswith("The server refused the request (HTTP 403).")


LIMITED = {
    "as recorded": (
        {"x_ratelimit_limit": "1", "x_ratelimit_remaining": "0", "x_ratelimit_limit_tokens": "1000"},
        "Its limits: requests 1 (0 left), tokens 1000.",
    ),
    "as in its help": (
        {"x_ratelimit_limit": "600", "x_tokenlimit_limit": "9", "x_tokenlimit_remaining": "2"},
        "Its limits: requests 600, tokens 9 (2 left).",
    ),
    "as OpenAI's": (
        {"x_ratelimit_limit_requests": "60", "x_ratelimit_remaining_requests": "0"},
        "Its limits: requests 60 (0 left).",
    ),
}


@pytest.mark.parametrize("kind", LIMITED)
def test_a_rate_limit_is_told_with_the_limits_of_the_headers(kind):
    headers, told = LIMITED[kind]
    with ScriptedServer(replies(429, {"error": "slower"}, **headers)) as server:
        assert refused(server).hint == f"Wait a little and run it again. {told}"


def test_a_long_wait_that_the_server_asks_for_is_told():
    with ScriptedServer(replies(429, {"error": "slower"}, retry_after="7200", x_ratelimit_limit="60")) as server:
        error = refused(server)
    assert error.hint == "The server asks to wait for 2 h. Its limits: requests 60."
