"""A schema: what is asked for, and what an answer comes to."""

from __future__ import annotations

import json
import pickle
import sys

import pydantic
import pytest

import together_nb
from tests.servers import ScriptedServer, answers
from together_nb import Completion
from together_nb.errors import InputError
from together_nb.values.chunk import Choice
from together_nb.values.request import CompletionRequest
from together_nb.values.schema import ANY_JSON, Schema, schema_of

PROPERTIES = {"name": {"type": "string"}, "age": {"type": "integer"}}
PERSON = {"type": "object", "properties": PROPERTIES, "required": ["name"]}
TITLED = {**PERSON, "title": "A person!"}


class Person(pydantic.BaseModel):
    name: str
    age: int = 0


def answer_and_request(schema, text):
    with ScriptedServer(answers([text])) as server:
        answer = together_nb.complete("Who?", base_url=server.base_url, model="test/chat", schema=schema)
        return answer, server.requests[0]


def of_schema(name, schema):
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema}}


@pytest.mark.parametrize(
    ("schema", "sent"),
    [
        ("json", {"type": "json_object"}), (PERSON, of_schema("answer", PERSON)), (None, None),
        (TITLED, of_schema("A_person_", TITLED)), (Person, of_schema("Person", Person.model_json_schema())),
        (schema_of(PERSON, "n" * 65), of_schema("n" * 64, PERSON)),
    ],
    ids=["json", "dict", "none", "titled dict", "pydantic", "long name"],
)  # fmt: skip
def test_a_schema_is_sent_as_the_response_format_of_a_chat(schema, sent):
    _, request = answer_and_request(schema, "{}")
    assert request.path == "/v1/chat/completions"
    assert request.json().get("response_format") == sent


@pytest.mark.parametrize("text", ['{"name": "Ada"}', ' \n{"name": "Ada"}\n', '```json\n{"name": "Ada"}\n```'])
@pytest.mark.parametrize("schema", [PERSON, Person, "json"], ids=["dict", "pydantic", "json"])
def test_an_answer_that_fits_is_parsed(schema, text):
    expected = Person(name="Ada") if schema is Person else {"name": "Ada"}
    assert answer_and_request(schema, text)[0].parsed == expected


@pytest.mark.parametrize(
    ("schema", "text", "reason"),
    [
        (PERSON, '{"name": 3}', "It does not fit the schema: at name: 3 is not of type"),
        (PERSON, "{}", "It does not fit the schema: 'name' is"),
        (Person, '{"name": "Ada", "age": "old"}', "It does not fit Person: at age:"),
        ({"uniqueItems": True}, "[1, 1.0]", "It does not fit the schema: it has items"),
        ("json", "Sorry.", "It is not valid JSON"),
        ("json", "[" * 100_000, "It is nested too deep"),
    ],
)
def test_an_answer_that_does_not_fit_has_its_reason_where_it_is_shown(schema, text, reason):
    answer, _ = answer_and_request(schema, text)
    assert answer.parsed is None
    assert answer.unparsed.startswith(reason)
    assert answer.text == text
    assert reason[:20] in answer.bundle("json")["text/plain"]
    assert f"*{reason[:20]}" in answer.bundle("json")["text/markdown"]


def test_an_answer_that_was_cut_says_so():
    cut = Completion(CompletionRequest("?", "m", "chat", schema=ANY_JSON), [Choice(0, '{"a"', finish_reason="length")])
    assert cut.unparsed.endswith("The answer was cut.")


def test_where_nothing_can_check_it_is_json_and_that_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    answer, _ = answer_and_request(PERSON, '{"name": 3}')
    assert answer.parsed == {"name": 3}
    assert "was not checked" in answer.bundle("json")["text/plain"]


@pytest.mark.parametrize(
    ("value", "word", "api"),
    [
        (3, "of type int", None), (int, "of type type", None), ({"type": "objekt"}, "at type: 'objekt'", None),
        ({"a": {1, 2}}, "cannot be written as JSON", None), (PERSON, "to the completions API", "completions"),
    ],
)  # fmt: skip
def test_what_is_no_schema_or_for_no_chat_is_refused_before_it_is_sent(value, word, api):
    with pytest.raises(InputError, match=word) as refused:
        together_nb.complete("Who?", model="local/ngram", schema=value, **({"api": api} if api else {}))
    assert refused.value.hint


def test_it_survives_json_and_pickle():
    schema = schema_of(PERSON, "person")
    assert Schema(**json.loads(json.dumps(schema.to_dict()))) == schema
    schema.parse("{}")
    assert pickle.loads(pickle.dumps(schema)) == schema
    request = CompletionRequest("?", "m", "chat", schema=schema)
    assert CompletionRequest.from_dict(json.loads(json.dumps(request.to_dict()))) == request
