"""The list of models, in both of its forms."""

from __future__ import annotations

import difflib
import json
import os
from pathlib import Path

import pytest

from together_nb.catalog import Catalog, Model

RECORDINGS = os.environ.get("TOGETHER_NB_RECORDINGS", "")
ROWS = [
    {"id": "meta/chat", "type": "chat", "display_name": "Chat", "organization": "Meta", "context_length": 8192, "pricing": {"input": 0.13999999999999999, "output": 0.6}},
    {"id": "meta/base", "type": "language", "pricing": {"input": 0.2, "output": 0.2}},
    {"id": "meta/code", "type": "code", "pricing": {"hourly": 0, "input": 0, "output": 0}},
    {"id": "flux", "type": "image", "pricing": {"input": 1, "output": 1}},
]  # fmt: skip


@pytest.mark.parametrize("body", [ROWS, {"object": "list", "data": ROWS}], ids=["bare array", "OpenAI's form"])
def test_both_forms_of_the_list_are_read(body):
    assert [row.id for row in Catalog.from_json(body).models] == ["meta/chat", "meta/base", "meta/code", "flux"]


def test_a_row_is_read_and_the_noise_of_its_price_rounded():
    row = Catalog.from_json(ROWS).get("meta/chat")
    assert row == Model("meta/chat", "chat", "Chat", "Meta", 8192, (0.14, 0.6))


def test_what_a_row_does_not_tell_is_unknown():
    assert Catalog.from_json([{"id": "m", "type": None, "context_length": None}]).models == (Model("m"),)


@pytest.mark.parametrize("body", [None, 1, "text", {}, {"data": None}, {"data": {}}, [], [None, 1, {}, {"id": 3}]])
def test_what_is_no_list_of_models_has_none(body):
    assert Catalog.from_json(body).models == ()


@pytest.mark.parametrize(
    "pricing", [None, 3, [], {"input": "free"}, {"input": {"a": 1}}, {"input": 0, "output": 0}, {}]
)
def test_an_odd_or_empty_price_is_none_and_costs_nothing_else(pricing):
    listed = Catalog.from_json([{"id": "m", "type": "chat", "pricing": pricing}, ROWS[1]])
    assert listed.models == (Model("m", "chat"), Model("meta/base", "language", price=(0.2, 0.2)))


@pytest.mark.parametrize("price", [{"input": 1}, {"input": 1, "output": None}])
def test_a_price_on_one_side_is_a_price(price):
    assert Catalog.from_json([{"id": "m", "pricing": price}]).models[0].price == (1.0, 0.0)


@pytest.mark.parametrize(
    ("kind", "api", "text"),
    [
        ("chat", "chat", True), ("language", "completions", True), ("code", "completions", True), ("", "chat", True),
        ("image", "chat", False), ("embedding", "chat", False), ("audio", "chat", False), ("moderation", "chat", False),
    ],
)  # fmt: skip
def test_the_type_tells_the_dialect_and_whether_it_writes_text(kind, api, text):
    assert (Model("m", kind).api, Model("m", kind).writes_text) == (api, text)


def test_an_unknown_id_has_no_row():
    assert Catalog.from_json(ROWS).get("meta/cha") is None


def test_callable_are_those_that_write_text_and_have_a_price():
    assert [row.id for row in Catalog.from_json(ROWS).callable()] == ["meta/chat", "meta/base"]


def test_where_no_row_has_a_price_all_that_write_text_are_callable():
    unpriced = [{"id": row["id"], "type": row["type"]} for row in ROWS]
    assert [row.id for row in Catalog.from_json(unpriced).callable()] == ["meta/chat", "meta/base", "meta/code"]


def test_the_nearest_callable_id_is_named_and_no_other():
    assert Catalog.from_json(ROWS).nearest("meta/cat") == "Did you mean meta/chat?"
    assert Catalog.from_json(ROWS).nearest("flux") == ""


def test_the_nearest_of_a_hundred_thousand_is_named(monkeypatch):
    compared = []
    ratio = difflib.SequenceMatcher.real_quick_ratio
    monkeypatch.setattr(difflib.SequenceMatcher, "real_quick_ratio", lambda one: compared.append(one) or ratio(one))
    rows = [{"id": f"org-{number}/llama-{number}b"} for number in range(100_000)]
    assert "meta/chat-instruct" in Catalog.from_json([*rows, {"id": "meta/chat-instruct"}]).nearest("meta/chat-instrct")
    assert 0 < len(compared) < 1000


@pytest.mark.skipif(not RECORDINGS, reason="TOGETHER_NB_RECORDINGS names no folder of recorded replies")
def test_the_recorded_list_is_read_and_the_default_model_is_in_it():
    recorded = json.loads((Path(RECORDINGS) / "models.json").read_text())["body"]
    body = json.loads(recorded) if isinstance(recorded, str) else recorded
    listed = Catalog.from_json(body)
    assert len(listed.models) == len(body)
    row = listed.get("meta-llama/Llama-3.3-70B-Instruct-Turbo")
    assert row in listed.callable()
    assert row.api == "chat"
    assert row.price is not None
