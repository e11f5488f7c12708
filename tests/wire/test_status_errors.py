"""What a server's error replies mean; tests/faults.py has a row for each status, test_key.py the redirects."""

from __future__ import annotations

import pickle
import re

import pytest

from tests.servers import ScriptedServer, replies
from together_nb.config.keys import Key
from together_nb.errors import APIStatusError, ContextLengthError
from together_nb.wire.endpoint import Client, Endpoint
from together_nb.wire.status_errors import check_status

pytestmark = pytest.mark.timeout(40)

KEY = "sk-secret-0123456789abcdef"


def refusal(script, key=KEY):
    """The error of one POST to a server that refuses it."""
    with ScriptedServer(script) as server:
        endpoint = Endpoint(Client(), server.base_url, None if key is None else Key(key, "a test"))
        exchange = endpoint.exchange("POST", "/v1/chat/completions", {})
        exchange.open()
        with pytest.raises(APIStatusError) as caught:
            check_status(exchange, endpoint)
        assert len(server.requests) == 1
    assert KEY not in f"{caught.value!r} {caught.value}"
    assert KEY.encode() not in pickle.dumps(caught.value)
    return caught.value


@pytest.mark.parametrize("status", [299, 404, 500, 600])
def test_the_error_has_the_status_and_a_line_of_what_happened(status):
    error = refusal(replies(status, {"error": "Its own words."}))
    assert error.status == status
    where = r" at http://127\.0\.0\.1:\d+/v1/chat/completions" if status == 404 else ""
    assert re.search(rf" \(HTTP {status}{where}\)\. Its own words\.$", error.message)
    assert len(str(error).splitlines()) == 1 + bool(error.hint)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"message": "no error around it"}, " no error around it"),
        ({"error": {"message": "two\n\n  lines"}}, " two lines"),
        ({"detail": [{"loc": ["body"], "msg": "of a third house"}]}, " of a third house"),
        ({"detail": [{"loc": ["n"]}]}, " n"),
        ([{"error": {"message": "in a list"}}], " in a list"),
        ({"errors": [{"message": "of many"}]}, " of many"),
        ({"error": {"message": "[object Object]"}}, ""),
        (b"\xef\xbb\xbf" + b'{"error": "after a mark"}', " after a mark"),
        ({"error": {}}, ""),
        (b"null", ""),
        (b"<html><body>Bad gateway</body></html>", ""),
        (b"<!DOCTYPE html><html><title>502  Bad\nGateway &amp; Co</title><body>Oh</body>", " “502 Bad Gateway & Co”."),
        ({"error": {"message": "<!DOCTYPE html><html><body>Oh</body></html>"}}, ""),
        ({"error": {"message": "write <b> for bold"}}, " write <b> for bold"),
        ({"error": {"message": "There is the tag <html> in messages.0"}}, " There is the tag <html> in messages.0"),
        ("Said: <html><head><title>502 Bad</title></head></html>", " Said: “502 Bad”."),
        ({"error": "Said: <!DOCTYPE html><html><body>Oh</body></html>"}, " Said:"),
        (b"<think> is no tag here", " <think> is no tag here"),
        (b"\xff\xfe", ""),
        ({"error": {"message": "x" * 1000}}, " " + "x" * 300),
        (b"[" * 100_000, " " + "[" * 300),
    ],
)
def test_the_servers_words_are_unwrapped(body, words):
    assert refusal(replies(500, body)).message == f"The server failed (HTTP 500).{words}"


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        (KEY, "The key came from a test, ending in …cdef. "),
        ("tooshort", "The key came from a test. "),
        (None, "`%together login` takes one."),
    ],
)
def test_a_refused_key_is_told_by_where_it_came_from_and_its_last_letters(key, hint):
    error = refusal(replies(401, {"error": f"Incorrect API key provided: {KEY}." if key == KEY else "no"}), key)
    assert error.hint.startswith(hint)
    assert error.message.endswith("provided: …." if key == KEY else "no")


def test_an_error_whose_body_breaks_off_is_still_told():
    def script(exchange):
        exchange.headers(500, content_length=1000, content_type="text/plain")
        exchange.send(b"the half of")
        exchange.cut()

    assert refusal(script).message.endswith("(HTTP 500). the half of")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        *((words, ContextLengthError) for words in ("maximum context", "max length", "too many Tokens", "is too long")),
        *((words, APIStatusError) for words in (b"<html>Forbidden</html>", b"<html><title>token</title>", "no", b"")),
    ],
)
def test_a_403_is_about_length_if_it_says_so_and_a_gateways_page_does_not(body, kind):
    error = refusal(replies(403, body))
    assert type(error) is kind
    assert ("lower max_tokens" in error.hint) == (kind is ContextLengthError)


RECORDED = {"x_ratelimit_limit": "1", "x_ratelimit_remaining": "0", "x_ratelimit_limit_tokens": "1" * 50}
IN_ITS_HELP = {"x_ratelimit_limit": "600", "x_tokenlimit_limit": "9", "x_tokenlimit_remaining": "2"}
OPENAIS = {"x_ratelimit_limit_requests": "60", "x_ratelimit_remaining_requests": "0"}
WAIT = "Wait a little and run it again."


@pytest.mark.parametrize(
    ("headers", "hint"),
    [
        (RECORDED, f"{WAIT} Its limits: requests 1 (0 left), tokens {'1' * 20}."),
        (IN_ITS_HELP, f"{WAIT} Its limits: requests 600, tokens 9 (2 left)."),
        (OPENAIS, f"{WAIT} Its limits: requests 60 (0 left)."),
        ({"retry_after": "7200", **OPENAIS}, "The server asks to wait for 2 h. Its limits: requests 60 (0 left)."),
        ({"retry_after": "7199"}, "The server asks to wait for 120 min."),
        ({"retry_after": "61"}, "The server asks to wait for 61 s."),
        ({"retry_after": "60"}, WAIT),
    ],
)
def test_a_rate_limit_is_told_with_the_limits_and_the_wait_of_the_headers(headers, hint):
    assert refusal(replies(429, {"error": "slower"}, **headers)).hint == hint
