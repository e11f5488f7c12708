"""What a server's error replies mean, and which models it has."""

from __future__ import annotations

import pickle

import pytest

from tests.servers import MODELS, ScriptedServer, answers, replies, silent
from together_nb.config import Key
from together_nb.endpoint import Endpoint, catalog, check_status, known_catalog
from together_nb.errors import (
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    NotFoundError,
    RateLimitError,
)

pytestmark = pytest.mark.timeout(40)

KEY = "sk-secret-0123456789abcdef"


def endpoint_of(server, key=KEY, **options):
    return Endpoint(server.base_url, None if key is None else Key(key, "a test"), **options)


def refused(server, model="", key=KEY):
    """The error of one POST to a server that refuses it."""
    endpoint = endpoint_of(server, key)
    exchange = endpoint.exchange("POST", "/v1/chat/completions", {"model": model})
    exchange.open()
    with pytest.raises(APIStatusError) as caught:
        check_status(exchange, endpoint, model)
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
        (403, APIStatusError, "The prompt and max_tokens do not fit the model's context", "lower max_tokens"),
        (404, NotFoundError, "The server has no such model or address", "%together models"),
        (413, APIStatusError, "The request is too large", "Shorten the prompt"),
        (418, APIStatusError, "The server refused the request", "--dry-run"),
        (422, APIStatusError, "The server did not accept a parameter", "--dry-run"),
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
        ({"error": None}, ""),
        ({}, ""),
        (b"error code: 521", " error code: 521"),
        (b"<html><body>Bad gateway</body></html>", ""),
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
        assert refused(server, key=None).hint == "It wants a key: `%together login`."


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


def test_an_unknown_model_is_answered_with_the_nearest_that_can_be_called():
    rows = [*MODELS, {"id": "test/chatty", "type": "chat", "pricing": {"input": 0, "output": 0}}]
    with ScriptedServer(replies(404, {"error": "no model"}), models=rows) as server:
        assert refused(server, "test/chatt").hint == "Did you mean test/chat?"
        assert server.lists == 1


def test_an_unknown_model_near_none_is_answered_with_the_way_to_the_list():
    with ScriptedServer(replies(404, {"error": "no model"})) as server:
        assert "%together models" in refused(server, "zzzzzzzz").hint


def test_an_unknown_model_of_a_server_without_a_list_is_still_a_404():
    with ScriptedServer(replies(404, {"error": "no model"}), models=None) as server:
        error = refused(server, "test/chatt")
        assert (error.status, "%together models" in error.hint) == (404, True)


def test_an_error_whose_body_breaks_off_is_still_told():
    def script(exchange):
        exchange.headers(500, content_length=1000, content_type="text/plain")
        exchange.send(b"the half of")
        exchange.cut()

    with ScriptedServer(script) as server:
        assert refused(server).message == "The server failed (HTTP 500). the half of"


def test_the_list_is_fetched_once_and_afresh_when_asked():
    with ScriptedServer(silent()) as server:
        endpoint = endpoint_of(server)
        assert known_catalog(endpoint) is None
        first = catalog(endpoint)
        assert [(row.id, row.api, row.price) for row in first.models] == [
            ("test/chat", "chat", (1.0, 2.0)),
            ("test/base", "completions", (0.5, 0.5)),
        ]
        assert catalog(endpoint) is first
        assert known_catalog(endpoint) is first
        assert server.lists == 1
        server.models = []
        assert catalog(endpoint, fresh=True).models == ()
        assert server.lists == 2


def test_the_list_is_asked_for_with_the_key_and_kept_for_each_account():
    with ScriptedServer(silent()) as server:
        for key in (KEY, None, "sk-another-9876543210fedcba", KEY):
            catalog(endpoint_of(server, key))
        sent = [request.headers.get("authorization") for request in server.list_requests]
    assert sent == [f"Bearer {KEY}", None, "Bearer sk-another-9876543210fedcba"]


def test_the_list_may_come_in_a_wrapping():
    with ScriptedServer(silent(), models=replies(200, {"object": "list", "data": [{"id": "a"}]})) as server:
        assert [row.id for row in catalog(endpoint_of(server)).models] == ["a"]


def test_a_web_page_is_no_list():
    with ScriptedServer(silent(), models=replies(200, b"<html>", content_type="text/html")) as server:
        with pytest.raises(APIResponseError) as caught:
            catalog(endpoint_of(server))
        assert caught.value.message == (
            f"{server.base_url}/v1/models answered with text/html, not with a list of models."
        )
        assert known_catalog(endpoint_of(server)) is None


def test_a_list_that_wants_a_key_says_so():
    with (
        ScriptedServer(silent(), models=replies(401, {"error": "who are you"})) as server,
        pytest.raises(AuthenticationError, match="who are you"),
    ):
        catalog(endpoint_of(server, None))


def test_a_list_is_not_waited_for_longer_than_the_time_out():
    with (
        ScriptedServer(silent(), models=silent()) as server,
        pytest.raises(APITimeoutError, match=r"silent for 0\.3 s"),
    ):
        catalog(endpoint_of(server, timeout=0.3))


@pytest.mark.parametrize(
    ("root", "is_together"),
    [
        ("https://api.together.xyz", True),
        ("https://API.Together.XYZ", True),
        ("https://api.together.ai:443", True),
        ("https://api.together.xyz/some/path", True),
        ("https://api.together.xyz.example", False),
        ("https://example/api.together.xyz", False),
        ("http://127.0.0.1:8000", False),
        ("http://[::1]:8000", False),
    ],
)
def test_togethers_own_service_is_known_by_its_host(root, is_together):
    assert Endpoint(root).is_together is is_together


def test_an_endpoint_does_not_show_its_key():
    endpoint = Endpoint("https://api.together.xyz", Key(KEY, "a test"))
    assert KEY not in f"{endpoint!r} {endpoint}"
    with pytest.raises(TypeError):
        pickle.dumps(endpoint)
