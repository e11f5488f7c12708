"""Answers in a form, by the embedded engine: valid by every schema it takes, and the others refused."""

from __future__ import annotations

import datetime as dt
import functools
import ipaddress
import json
import math
import re
import uuid
from typing import Any, Literal

import jsonschema
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from together_nb.config.settings import LOCAL_MODEL
from together_nb.errors import InputError
from together_nb.local.grammar import Grammar
from together_nb.local.ngram import default_model, train
from together_nb.local.patterns import FORMATS
from together_nb.local.response_format import ANY_OBJECT
from together_nb.local.server import LocalServer
from together_nb.values.parameters import SamplingParams

PROMPT = "Describe a robot\n\n"


@pytest.fixture(scope="module")
def server():
    with LocalServer() as running:
        yield running


def text(schema, model=None, prompt=PROMPT, **sampling):
    made = (model or default_model()).generate(prompt, SamplingParams(**{"seed": 1, **sampling}), Grammar(schema))
    *tokens, end = made
    assert end.finish_reason == "eos"
    return "".join(piece.text for piece in tokens)


def value(schema, model=None, **sampling):
    """The answer, which was seen to be valid by `schema`."""
    answer = json.loads(text(schema, model, **sampling))
    jsonschema.Draft202012Validator(schema).validate(answer)
    return answer


def values(schema, seeds=40, **sampling):
    return [value(schema, seed=seed, **sampling) for seed in range(seeds)]


def obj(*required, **properties):
    return {"type": "object", "properties": properties, "required": list(required or properties)}


def array(items, **keywords):
    return {"type": "array", "items": items, **keywords}


def bounded(kind, low, high, *names):
    """Schemas of something within bounds, each there or not."""
    return st.builds(
        lambda bounds, absent: {"type": kind, **{name: bounds[name] for name in names if name not in absent}},
        st.tuples(*[st.integers(low, high)] * 2).map(lambda ends: dict(zip(names, sorted(ends), strict=True))),
        st.sets(st.sampled_from(names)),
    )


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FLOATS = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=2).map(sorted)
LEAVES = st.one_of(
    bounded("string", 0, 40, "minLength", "maxLength"),
    st.sampled_from([{"type": "string", "format": name} for name in (*FORMATS, "made-up")]),
    st.sampled_from([{"type": "string", "pattern": each} for each in (r"^\d{3}-[A-Z]+$", "a.c", r"^\S{2,4}\s?x*$")]),
    st.builds(
        lambda schema, more: schema if len(schema) == 3 else {**schema, **more},
        bounded("integer", -50, 50, "minimum", "maximum") | bounded("number", -50, 50, "minimum", "maximum"),
        st.fixed_dictionaries({}, optional={"multipleOf": st.sampled_from([1, 3, 7, 0.5, 0.25])}),
    ),
    st.builds(
        lambda bounds, least: {"type": "number", least: bounds[0], "maximum": bounds[1]},
        FLOATS.filter(lambda bounds: bounds[1] - bounds[0] > 1e-6 * max(1, *map(abs, bounds))),
        st.sampled_from(["minimum", "exclusiveMinimum"]),
    ),
    st.sampled_from([{}, True, *({"type": kind} for kind in ("boolean", "null", ["string", "null"], "number"))]),
    st.builds(lambda found: {"const": found}, PLAIN),
    st.builds(lambda found: {"enum": found}, st.lists(PLAIN, min_size=1, max_size=4)),
)


def branches(inner):
    short = [{"type": "string", "maxLength": 1, "minLength": least} for least in (0, 1)]
    various = st.sampled_from([{"type": ["integer", "boolean"]}, {"type": "string"}, *short, obj(a=short[1])])
    length = bounded("array", 0, 5, "minItems", "maxItems")
    several = st.lists(inner, min_size=1, max_size=3)
    properties = st.dictionaries(st.text(max_size=8), inner, max_size=4)
    first = st.fixed_dictionaries({}, optional={"prefixItems": several})
    return st.one_of(
        st.builds(lambda more, items, first: {**more, "items": items, **first}, length, inner, first),
        st.builds(lambda more, items: {**more, "items": items, "uniqueItems": True}, length, various),
        st.builds(lambda items, first: {"items": items, "prefixItems": first, "uniqueItems": True}, various, several),
        properties.map(lambda found: obj(*list(found)[::2], "also", **found)),
        properties.map(lambda found: {**obj(*list(found)[::2], **found), "additionalProperties": False}),
        several.map(lambda parts: {"anyOf": parts}),
        st.builds(lambda part, note: {"allOf": [part], "description": note}, inner, st.text()),
        st.builds(lambda one, other: {"allOf": [obj(a=one), obj(b=other)]}, inner, inner),
    )


REFERENCES = st.sampled_from([{"$ref": f"#/$defs/a~1b%20{number}"} for number in range(3)])
DEFINED = st.recursive(LEAVES, branches, max_leaves=4)
SCHEMAS = st.recursive(LEAVES | REFERENCES, branches, max_leaves=8)


@given(SCHEMAS, st.tuples(DEFINED, DEFINED, DEFINED), st.integers(0, 99), st.sampled_from([0, None, 2]))
@settings(max_examples=100, suppress_health_check=list(HealthCheck))
def test_an_answer_is_valid_by_any_schema_that_is_taken(schema, defined, seed, temperature):
    definitions = {f"a/b {number}": part for number, part in enumerate(defined)}
    value({"allOf": [schema], "$defs": definitions}, seed=seed, temperature=temperature)


class Address(BaseModel):
    street: str = Field(max_length=20)
    code: str = Field(pattern=r"^[A-Z]{2}-\d{4}$")


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(ge=1, le=9)


class Dog(BaseModel):
    kind: Literal["dog"]
    good: bool


class Person(BaseModel):
    name: str = Field(min_length=3, max_length=40, description="The whole name")
    age: int = Field(ge=18, lt=30)
    height: float = Field(gt=1.5, le=1.6)
    mood: Literal["good", "very bad"] | None = None
    pets: list[Cat | Dog] = Field(min_length=3)
    first: Cat | Dog = Field(discriminator="kind")
    home: Address
    other: Address | None = None
    tags: set[str] = Field(min_length=2, max_length=4)
    pair: tuple[int, bool]
    either: int | Address | list[str]
    seen: dt.datetime
    took: dt.timedelta
    scores: dict[str, float]
    anything: Any
    even: int = Field(multiple_of=2)


class Tree(BaseModel):
    word: str
    left: Tree | None = None
    right: Tree | None = None
    leaves: list[Tree] = []


PERSON = Person.model_json_schema()


@pytest.mark.parametrize("model", [Person, Tree])
@pytest.mark.parametrize("sampling", [{}, {"temperature": 0}, {"temperature": 2, "repetition_penalty": 1.3}])
def test_an_answer_is_an_instance_of_a_pydantic_model(model, sampling):
    for answer in values(model.model_json_schema(), 10, **sampling):
        assert model.model_validate(answer).model_dump()


PATTERNS = [
    r"^[A-Z]{3}\d{4}$", r"^(?:red|green|blue)+$", r"\w+@\w+\.(com|org)", r"^[^a-z\s]*$", r"^\+?\d{1,3}[- ]?\d{3,}$",
    r"^(?P<year>\d{4})-(\d\d)$", r"[\w.-]+", r"^a|b$", r"^[]x-]$", r"^\D\W\S$", r"^x{0}y?$", "^(a|(b|c){2})*?$",
    r"^\$\{x\}$", "",
]  # fmt: skip
LENGTHS = [(0, 0), (0, 1), (1, 1), (7, 7), (100, 101), (500, 500)]
NEXT = {"anyOf": [{"$ref": "#/$defs/n"}, {"type": "null"}]}
HOT = {"temperature": 2}


@pytest.mark.parametrize(
    ("schema", "seeds", "sampling", "are_right"),
    [
        ({"properties": {"z": {}, "a": {}, "m": {}}, "required": ["a"]}, 1, {}, lambda found: "".join(*found) == "zam"),
        # Forms that hold themselves come to an end.
        ({"$ref": "#/$defs/n", "$defs": {"n": obj(next=NEXT)}}, 40, {},
         lambda found: {json.dumps(answer).count("{") for answer in found} == {1, 2, 3}),
        ({"$ref": "#/$defs/n", "$defs": {"n": array({"$ref": "#/$defs/n"}, minItems=0)}}, 40, {},
         lambda found: max(json.dumps(answer).count("[") for answer in found) < 60),
        # All values come in time.
        (obj(a={"type": "boolean"}), 100, HOT, lambda found: {each["a"] for each in found} == {True, False}),
        ({"enum": [1, 1.5, 12, "x"]}, 100, HOT, lambda found: set(found) == {1, 1.5, 12, "x"}),
        ({"type": "integer", "minimum": -1, "exclusiveMaximum": 2}, 100, {}, lambda found: set(found) == {-1, 0, 1}),
        ({"type": ["null", "integer", "string"]}, 100, {}, lambda found: len(set(map(type, found))) == 3),
        # An integer is a number too, and a number may be whole.
        ({"oneOf": [{"type": "integer"}, {"type": "number"}, {"type": "string"}]}, 40, {}, "".join),
        ({"oneOf": [{"enum": [1, 2]}, {"enum": [2, 3]}, {"const": 4}]}, 40, HOT, lambda found: set(found) == {4}),
        ({"enum": [1, 2], "oneOf": [{"type": "integer"}, {"minimum": 2}]}, 9, HOT, lambda found: set(found) == {1}),
        # The items of a set differ.
        ({"allOf": [array({"enum": ["a", "b"]}, uniqueItems=True, minItems=2), {"uniqueItems": False}]}, 9, {},
         lambda found: {len(set(each)) for each in found} == {2}),
        (array({"enum": ["a", "b"]}, uniqueItems=True, minItems=2), 1, {}, lambda found: sorted(*found) == ["a", "b"]),
        (array({"type": "integer", "minimum": 1, "maximum": 10}, uniqueItems=True, minItems=10), 1, {},
         lambda found: sorted(*found) == list(range(1, 11))),
        (array({"type": "string"}, uniqueItems=True, minItems=5), 1, {}, lambda found: len(set(*found)) >= 5),
        # Patterns and lengths, letter by letter.
        *(({"type": "string", "pattern": pattern}, 40, {}, len) for pattern in PATTERNS),
        *(({"type": "string", "minLength": least, "maxLength": most}, 20, {}, len) for least, most in LENGTHS),
        # Sampling parameters count within texts.
        ({"type": "string"}, 10, {}, lambda found: len(set(found)) > 5),
        ({"type": "string"}, 10, {"top_k": 1}, lambda found: len(set(found)) == 1),
        ({"type": "string", "pattern": "^[a-z]*$", "minLength": 4, "maxLength": 5}, 40, {},
         lambda found: {len(each) for each in found} == {4, 5}),
    ],
)  # fmt: skip
def test_the_answers_of_many_seeds_are_valid_and_as_various_as_they_may_be(schema, seeds, sampling, are_right):
    assert are_right(values(schema, seeds, **sampling))


def test_the_words_are_the_models_and_end_with_their_sentence():
    sentences = set(values({"type": "string"}, 60))
    assert len(sentences) > 20
    assert all(len(sentence.split()) <= 12 for sentence in sentences)
    assert sum(sentence.endswith(".") for sentence in sentences) > 10
    assert not any("." in sentence[:-1] or '"' in sentence or "\n" in sentence for sentence in sentences)


@pytest.mark.parametrize(("prompt", "answer"), [("Red red\n\n", "one two."), ("Blue blue\n\n", "six ten.")])
def test_the_words_follow_the_prompt_and_what_was_written(prompt, answer):
    model = train(["Red red\n\none two.\n\none two.", "Blue blue\n\nsix ten.\n\nsix ten."], order=4)
    schema = obj(a={"type": "string"}, b={"type": "string"})
    assert value(schema, model, prompt=prompt, temperature=0) == {"a": answer, "b": answer}


def test_a_value_is_taken_by_its_probability():
    model = train(["Once\n\nred red blue"], order=3)
    schema = {"enum": ["blue", "red"]}
    assert value(schema, model, temperature=0) == "red"
    assert {value(schema, model, seed=seed, temperature=0.01) for seed in range(20)} == {"red"}
    assert {value(schema, model, seed=seed, temperature=2) for seed in range(50)} == {"red", "blue"}


def test_a_seed_gives_the_same_answer_greedy_ones_are_alike_for_every_seed_and_a_bias_counts_within_texts():
    assert text(PERSON) == text(PERSON) != text(PERSON, seed=2)
    assert len({text(PERSON, seed=seed, temperature=0) for seed in range(5)}) == 1
    robot = default_model().token_id(" robot")
    assert value({"type": "string"}, logit_bias={str(robot): 100}).split()[:3] == ["robot"] * 3


def test_what_json_must_escape_is_escaped():
    model = train(["\\ back\\ slash\\ \x7f \\ \\"], order=2)
    assert "\\" in "".join(value({"type": "string", "minLength": 40}, model, seed=seed) for seed in range(5))
    odd = 'a"b\\c\nd\u2028é🦊'
    assert list(value({"properties": {odd: {"const": odd}}}).items()) == [(odd, odd)]


@pytest.mark.parametrize("corpus", ["\n", "...", "a", '""'])
@pytest.mark.parametrize("schema", [{"type": "string"}, {"type": "string", "minLength": 30}, PERSON])
def test_a_model_of_hardly_a_word_answers_too(corpus, schema):
    value(schema, train([corpus], order=2))


PARSERS = {
    "date": dt.date.fromisoformat,
    "date-time": dt.datetime.fromisoformat,
    "time": dt.time.fromisoformat,
    "uuid": uuid.UUID,
    "ipv4": ipaddress.IPv4Address,
    "ipv6": ipaddress.IPv6Address,
    "regex": re.compile,
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_what_it_is_called(name):
    for found in values({"type": "string", "format": name}):
        assert PARSERS.get(name, str)(found)
        assert ("@" in found) == ("email" in name)


DEEP = functools.reduce(lambda inner, _: obj(a=inner), range(150), {"type": "string"})


@pytest.mark.parametrize(
    ("named", "schemas"),
    {
        "not": [{"not": {"type": "string"}}], "if": [obj(a={"if": {}, "then": {}})], "object": [5],
        "patternProperties": [{"type": "object", "patternProperties": {"x": {}}}],
        "contains": [{"type": "array", "contains": {}}], "type": [{"type": "strin"}],
        "minLength": [{"type": "string", "minLength": -1}, {"type": "string", "minLength": "1"}],
        "minimum": [{"minimum": True}], "exclusiveMinimum": [{"exclusiveMinimum": True, "minimum": 1}],
        "multipleOf": [{"multipleOf": 0}], "enum": [{"enum": "abc"}], "required": [{"required": "a"}],
        "properties": [{"properties": []}, {"properties": {"a": 5}}], "anyOf": [{"anyOf": []}],
        "$ref": [{"$ref": "#/$defs/none"}, {"$ref": "#anchor"}, {"$ref": "https://example.com/schema"}],
        "itself": [{"$ref": "#"}, {"allOf": [{"$ref": "#"}]}],
        "minProperties": [{"type": "object", "minProperties": 1}],
        "No answer": [
            obj(a={"$ref": "#"}), False, {"enum": []}, {"type": "string", "const": 5},
            {"type": "integer", "minimum": 1, "maximum": 0}, {"type": "number", "exclusiveMinimum": 1, "maximum": 1},
            {"type": "string", "minLength": 3, "maxLength": 2}, {"allOf": [{"type": "string"}, {"type": "integer"}]},
            array({"type": "boolean"}, uniqueItems=True, minItems=3),
            array({"type": ["boolean", "null"]}, uniqueItems=True, minItems=4),
            array({"type": "string", "maxLength": 0}, uniqueItems=True, minItems=2),
            array({"anyOf": [{"const": 1}, {"enum": [1]}]}, uniqueItems=True, minItems=2),
            {"type": "object", "required": ["a"], "additionalProperties": False},
        ],
        "uniqueItems": [{"prefixItems": [{}, {}], "uniqueItems": True, "minItems": 2}],
        "oneOf": [{"oneOf": [{"type": "integer"}, {"type": "number"}]}, {"oneOf": [{}, {}]}],
        "pattern": [
            {"allOf": [{"pattern": "a"}, {"pattern": "b"}]}, {"type": "string", "pattern": "^a$", "minLength": 2},
            *({"type": "string", "pattern": pattern} for pattern in (
                "(", "^(?=a)", r"(a)\1", r"\bword", "a$b", "a{2000}", "(" * 60 + ")" * 60,
            )),
        ],
        "date": [{"type": "string", "format": "date", "maxLength": 5}],
        "deep": [DEEP], "parts": [obj(**{f"p{number}": {"const": number} for number in range(6000)})],
    }.items(),
    ids=lambda one: one if isinstance(one, str) else "schemas",
)  # fmt: skip
def test_what_cannot_be_honoured_is_said_with_its_keyword(named, schemas):
    for schema in schemas:
        with pytest.raises(InputError, match=re.escape(named)):
            Grammar(schema)


def post(server, form, path="/v1/chat/completions", **more):
    messages = [{"role": "user", "content": "Describe a robot"}]
    body = {"model": LOCAL_MODEL, "messages": messages, "seed": 1, "prompt": "Hi", "response_format": form, **more}
    return requests.post(server.base_url + path, json=body, timeout=60)


def content(reply, index=0):
    assert reply.status_code == 200, reply.text
    return reply.json()["choices"][index]["message"]["content"]


PERSON_FORM = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}}
ANY_FORM = {"type": "json_object"}


@pytest.mark.parametrize(
    "form", [PERSON_FORM, {"type": "json_schema", "schema": PERSON}, {**ANY_FORM, "schema": PERSON}]
)
def test_every_way_to_send_a_schema_is_understood_and_without_one_it_is_any_object(server, form):
    assert Person.model_validate_json(content(post(server, form)))
    answer = json.loads(content(post(server, ANY_FORM)))
    jsonschema.validate(answer, ANY_OBJECT)
    assert set(answer) == {"title", "text", "number"}


def test_each_of_several_answers_has_the_form_streamed_or_not(server):
    whole = post(server, PERSON_FORM, n=2)
    *events, _, _ = post(server, PERSON_FORM, n=2, stream=True).text.split("\n\n")
    choices = [choice for event in events for choice in json.loads(event.removeprefix("data: "))["choices"]]
    for index in range(2):
        streamed = "".join(choice["delta"]["content"] for choice in choices if choice["index"] == index)
        assert Person.model_validate_json(streamed)
        assert streamed == content(whole, index)
    assert content(whole, 0) != content(whole, 1)


def test_the_syntax_is_certain_and_the_words_have_the_models_probabilities(server):
    schema = obj(word={"enum": ["The", "A"]}, text={"type": "string"})
    logprobs = post(server, {**ANY_FORM, "schema": schema}, logprobs=3).json()["choices"][0]["logprobs"]
    rows = list(zip(logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"], strict=True))
    syntax = ["{", '"', "word", '":', ' "']
    assert rows[:5] == [(token, 0.0, [{"token": token, "logprob": 0.0}]) for token in syntax]
    word, logprob, top = rows[5]
    assert {each["token"]: each["logprob"] for each in top} == {
        each: pytest.approx(math.log(default_model().probability(each, PROMPT))) for each in ("The", "A")
    }
    assert logprob == {each["token"]: each["logprob"] for each in top}[word]
    words = rows[logprobs["tokens"].index("text") + 3 :]
    assert all(len(row[2]) == 3 for row in words if row[1])
    assert sum(row[1] < 0 for row in words) > 2


def test_an_answer_is_cut_by_max_tokens_and_says_so_by_nothing_where_it_is_not_given_and_by_a_stop_text(server):
    whole = post(server, ANY_FORM)
    length = whole.json()["usage"]["completion_tokens"]
    cut, same = (post(server, ANY_FORM, max_tokens=most) for most in (length - 1, length))
    assert cut.json()["choices"][0]["finish_reason"] == "length"
    assert content(cut) + "}" == content(same) == content(whole)
    assert same.json()["choices"][0]["finish_reason"] == "eos"
    long = post(server, {"type": "json_schema", "schema": array({"type": "string"}, minItems=100)})
    assert len(json.loads(content(long))) >= 100
    assert long.json()["usage"]["completion_tokens"] > 600
    stopped = post(server, ANY_FORM, stop=['"text'])
    assert stopped.json()["choices"][0]["finish_reason"] == "stop"
    assert content(stopped).endswith(", ")


BEGUN = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": '{"title": "The'}]


@pytest.mark.parametrize(
    ("form", "where", "named"),
    [
        ("json", {}, "response_format"), ({"type": "grammar"}, {}, "grammar"), ({"schema": {}}, {}, "type"),
        *(({"type": "json_schema", **form}, {}, "schema") for form in ({}, {"json_schema": {"name": "x"}})),
        ({"type": "json_schema", "schema": {"not": {}}}, {}, "not"), ({**ANY_FORM, "schema": 5}, {}, "object"),
        *((ANY_FORM, {"path": path}, "") for path in ("/inference", "/v1/completions")),
        (ANY_FORM, {"messages": BEGUN}, ""),
    ],
)  # fmt: skip
def test_a_form_that_cannot_be_honoured_or_is_of_no_new_answer_of_a_chat_is_400(server, form, where, named):
    reply = post(server, form, **where)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "response_format")
    assert named in reply.json()["error"]["message"]
    assert post(server, {"type": "text"}, **where).status_code == 200
