"""A server: how to speak to it, and which models it has."""

from __future__ import annotations

import pickle

import pytest

from tests.servers import ScriptedServer, replies, silent
from together_nb.config import Key
from together_nb.endpoint import Endpoint, catalog, known_catalog
from together_nb.errors import APIResponseError, APITimeoutError, AuthenticationError

pytestmark = pytest.mark.timeout(40)

KEY = "sk-secret-0123456789abcdef"


def endpoint_of(server, key=KEY, **options):
    return Endpoint(server.base_url, None if key is None else Key(key, "a test"), **options)


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
        pytest.raises(APITimeoutError, match=r"did not begin to answer within 0\.3 s"),
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
