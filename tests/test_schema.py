"""A schema: what is asked for, and what an answer comes to."""

from __future__ import annotations

import json
import pickle
import sys

import pydantic
import pytest

from tests.servers import ScriptedServer, answers
from together_nb import Completion, complete
from together_nb.completion import Choice, CompletionRequest
from together_nb.errors import InputError
from together_nb.schema import ANY_JSON, Schema, schema_of

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name"],
}


class Person(pydantic.BaseModel):
    name: str
    age: int = 0


def asked(server, schema, text, **options):
    with ScriptedServer(answers([text])) as one:
        answer = complete("Who?", base_url=one.base_url, model="test/chat", schema=schema, **options)
        return answer, one.requests[0]


@pytest.mark.parametrize(
    ("schema", "sent"),
    [
        ("json", {"type": "json_object"}),
        (PERSON, {"type": "json_schema", "json_schema": {"name": "answer", "schema": PERSON}}),
        (
            {**PERSON, "title": "A person!"},
            {"type": "json_schema", "json_schema": {"name": "A_person_", "schema": {**PERSON, "title": "A person!"}}},
        ),
        (Person, {"type": "json_schema", "json_schema": {"name": "Person", "schema": Person.model_json_schema()}}),
    ],
    ids=["json", "dict", "named dict", "pydantic"],
)
def test_a_schema_is_sent_as_the_response_format_of_a_chat(schema, sent):
    _, request = asked(None, schema, "{}")
    assert request.path == "/v1/chat/completions"
    assert request.json()["response_format"] == sent


def test_without_a_schema_no_response_format_is_sent():
    _, request = asked(None, None, "{}")
    assert "response_format" not in request.json()


@pytest.mark.parametrize("text", ['{"name": "Ada"}', ' \n{"name": "Ada"}\n', '```json\n{"name": "Ada"}\n```'])
def test_an_answer_that_fits_is_parsed(text):
    assert asked(None, PERSON, text)[0].parsed == {"name": "Ada"}
    assert asked(None, Person, text)[0].parsed == Person(name="Ada")
    assert asked(None, "json", text)[0].parsed == {"name": "Ada"}


@pytest.mark.parametrize(
    ("schema", "text", "reason"),
    [
        (PERSON, '{"name": 3}', "It does not fit the schema: at name: 3 is not of type 'string'."),
        (PERSON, "{}", "It does not fit the schema: 'name' is a required property."),
        (Person, '{"name": "Ada", "age": "old"}', "It does not fit Person: at age: Input should be a valid integer"),
        ("json", "Sorry.", "It is not valid JSON: Expecting value"),
        ("json", "[" * 100_000, "It is nested too deep to be read."),
    ],
)
def test_an_answer_that_does_not_fit_has_its_reason_where_it_is_shown(schema, text, reason):
    answer, _ = asked(None, schema, text)
    assert answer.parsed is None
    assert answer.unparsed.startswith(reason)
    assert answer.text == text
    assert reason[:20] in answer.bundle("json")["text/plain"]
    assert f"*{reason[:20]}" in answer.bundle("json")["text/markdown"]


def test_an_answer_that_was_cut_says_so():
    request = CompletionRequest("?", "m", "chat", schema=ANY_JSON)
    cut = Completion(request, [Choice(0, '{"a"', finish_reason="length")])
    assert cut.unparsed.endswith("The answer was cut.")


def test_where_nothing_can_check_it_is_json_and_that_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    answer, _ = asked(None, PERSON, '{"name": 3}')
    assert answer.parsed == {"name": 3}
    assert "was not checked" in answer.bundle("json")["text/plain"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, "A schema was given that is no schema, but of type int."),
        (
            {"type": "objekt"},
            "The schema is no JSON Schema: at type: 'objekt' is not valid under any of the given schemas.",
        ),
        ({"a": {1, 2}}, "The schema cannot be written as JSON: Object of type set is not JSON serializable."),
        (int, "A schema was given that is no schema, but of type type."),
    ],
)
def test_what_is_no_schema_is_refused_before_it_is_sent(value, message):
    with pytest.raises(InputError) as refused:
        complete("Who?", model="local/ngram", schema=value)
    assert refused.value.message == message
    assert refused.value.hint


def test_only_a_chat_takes_a_schema():
    with pytest.raises(InputError, match="cannot be sent to the completions API"):
        complete("Who?", model="local/ngram", api="completions", schema=PERSON)


def test_it_survives_json_and_pickle():
    schema = schema_of(PERSON, "person")
    assert Schema(**json.loads(json.dumps(schema.to_dict()))) == schema
    schema.parse("{}")
    assert pickle.loads(pickle.dumps(schema)) == schema
    request = CompletionRequest("?", "m", "chat", schema=schema)
    assert CompletionRequest.from_dict(json.loads(json.dumps(request.to_dict()))) == request


def test_the_embedded_engine_answers_in_the_form_that_is_asked():
    answer = complete("Alan Turing was", model="local/ngram", schema=Person, seed=1)
    assert isinstance(answer.parsed, Person), answer.unparsed
