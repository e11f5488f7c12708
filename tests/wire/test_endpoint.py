"""A server: how to speak to it, and which models it has."""

from __future__ import annotations

import pytest

import together_nb.session
from tests.servers import ScriptedServer, replies, silent
from together_nb.config.keys import Key
from together_nb.errors import APIResponseError, APITimeoutError, AuthenticationError
from together_nb.values.model_list import Model, ModelList
from together_nb.wire.endpoint import Client, Endpoint

pytestmark = pytest.mark.timeout(40)

KEY = "sk-secret-0123456789abcdef"
ROWS = [
    {"id": "meta/chat", "type": "chat", "display_name": "Chat", "organization": "Meta", "context_length": 8192,
     "pricing": {"input": 0.13999999999999999, "output": 0.6}},
    {"id": "meta/base", "type": "language", "pricing": {"input": 0.2, "output": None}},
    {"id": "meta/code", "type": "code", "pricing": {"hourly": 0, "input": 0, "output": 0}},
    {"id": "flux", "type": "image", "pricing": {"input": 1, "output": 1}},
]  # fmt: skip


def endpoint_of(server, key=KEY, **options):
    return Endpoint(
        together_nb.session.default.client, server.base_url, None if key is None else Key(key, "a test"), **options
    )


def test_the_list_is_fetched_with_the_key_and_once_for_each_account_and_afresh_when_wanted_so():
    with ScriptedServer(silent()) as server:
        for key in (KEY, None, "sk-another-9876543210fedcba", KEY):
            listed = endpoint_of(server, key).models()
        assert [row.id for row in listed.models] == ["test/chat", "test/base"]
        assert endpoint_of(server).known_models is listed
        sent = [request.headers.get("authorization") for request in server.list_requests]
        assert sent == [f"Bearer {KEY}", None, "Bearer sk-another-9876543210fedcba"]
        server.models = []
        assert endpoint_of(server).models(fresh=True).models == ()


@pytest.mark.parametrize(
    ("models", "kind", "words"),
    [
        (replies(200, b"<html>", content_type="text/html"), APIResponseError, "text/html"),
        (replies(401, {"error": "who are you"}), AuthenticationError, "who are you"),
        (silent(), APITimeoutError, r"within 0\.3 s"),
    ],
)
def test_a_list_that_cannot_be_had_is_an_error_and_is_not_kept(models, kind, words):
    with ScriptedServer(silent(), models=models) as server:
        endpoint = endpoint_of(server, timeout=0.3 if kind is APITimeoutError else 30)
        with pytest.raises(kind, match=words):
            endpoint.models()
        assert endpoint.known_models is None


@pytest.mark.parametrize(
    ("host", "is_together"),
    [
        ("api.together.xyz", True), ("API.Together.XYZ", True), ("api.together.ai:443", True),
        ("api.together.xyz/a/path", True), ("api.together.xyz.example", False), ("example/api.together.xyz", False),
        ("127.0.0.1", False), ("[::1]:8000", False),
    ],
)  # fmt: skip
def test_togethers_own_service_is_known_by_its_host(host, is_together):
    assert Endpoint(Client(), f"https://{host}").is_together is is_together


# What a list says


@pytest.mark.parametrize("body", [ROWS, {"object": "list", "data": ROWS}], ids=["bare array", "OpenAI's form"])
def test_both_forms_of_the_list_are_read_and_the_noise_of_prices_rounded(body):
    listed = ModelList.from_json(body)
    assert [row.id for row in listed.models] == ["meta/chat", "meta/base", "meta/code", "flux"]
    assert listed.get("meta/chat") == Model("meta/chat", "chat", "Chat", "Meta", 8192, (0.14, 0.6))
    assert listed.get("meta/cha") is None


@pytest.mark.parametrize("body", [None, 1, "text", {}, {"data": None}, {"data": {}}, [], [None, 1, {}, {"id": 3}]])
def test_what_is_no_list_of_models_has_none(body):
    assert ModelList.from_json(body).models == ()


@pytest.mark.parametrize(
    "row",
    [
        {"type": None, "context_length": None},
        {"type": 3, "display_name": [], "organization": {}, "context_length": 0},
        *({"pricing": odd} for odd in (3, [], {"input": "free"}, {"input": {"a": 1}}, {"input": 0, "output": 0}, {})),
    ],
)  # fmt: skip
def test_what_a_row_does_not_tell_sensibly_is_unknown_and_costs_nothing_else(row):
    listed = ModelList.from_json([{"id": "m"} | row, ROWS[1]])
    assert listed.models == (Model("m"), Model("meta/base", "language", price=(0.2, 0.0)))


@pytest.mark.parametrize(
    ("kind", "api", "text"),
    [
        ("chat", "chat", True), ("language", "completions", True), ("code", "completions", True), ("", "chat", True),
        ("image", "chat", False), ("embedding", "chat", False), ("audio", "chat", False), ("moderation", "chat", False),
    ],
)  # fmt: skip
def test_the_type_tells_the_dialect_and_whether_it_writes_text(kind, api, text):
    assert (Model("m", kind).api, Model("m", kind).writes_text) == (api, text)


def test_callable_are_those_that_write_text_and_have_a_price_where_any_has_and_the_nearest_of_them_is_named():
    assert [row.id for row in ModelList.from_json(ROWS).callable()] == ["meta/chat", "meta/base"]
    unpriced = [{"id": row["id"], "type": row["type"]} for row in ROWS]
    assert [row.id for row in ModelList.from_json(unpriced).callable()] == ["meta/chat", "meta/base", "meta/code"]
    assert ModelList.from_json(ROWS).nearest("meta/cat") == "Did you mean meta/chat?"
    assert ModelList.from_json(ROWS[::3]).nearest("meta/chat") == ModelList.from_json(ROWS).nearest("flux") == ""
