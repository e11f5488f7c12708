"""Answers in a form, by the embedded engine: valid by every schema it takes, and the others refused."""

from __future__ import annotations

import datetime as dt
import enum
import ipaddress
import json
import math
import random
import re
import uuid
from typing import Any, Literal, Optional, Union

import jsonschema
import openai
import pytest
import requests
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from together_nb.errors import InputError
from together_nb.local.forms import Grammar
from together_nb.local.ngram import default_model, train
from together_nb.local.patterns import FORMATS, Pattern
from together_nb.local.response_format import ANY_OBJECT, form_of
from together_nb.local.server import LocalServer
from together_nb.params import SamplingParams

MODEL = "local/ngram"
PROMPT = "Describe a robot\n\n"


@pytest.fixture(scope="module")
def server():
    with LocalServer() as running:
        yield running


def pieces(schema, model=None, **sampling):
    sampling.setdefault("seed", 1)
    return list((model or default_model()).generate(PROMPT, SamplingParams(**sampling), Grammar(schema)))


def text(schema, model=None, **sampling):
    return "".join(piece.text for piece in pieces(schema, model, **sampling))


def value(schema, model=None, **sampling):
    """The answer, which was seen to be valid by `schema`."""
    found = pieces(schema, model, **sampling)
    assert found[-1].finish_reason == "eos"
    answer = json.loads("".join(piece.text for piece in found))
    jsonschema.Draft202012Validator(schema).validate(answer)
    return answer


def values(schema, seeds=40, **sampling):
    return [value(schema, seed=seed, **sampling) for seed in range(seeds)]


def obj(*required, **properties):
    return {"type": "object", "properties": properties, "required": list(required or properties)}


# Validity


def _bounded(draw, low, high, names):
    """Bounds that something is within, each there or not."""
    least, most = sorted((draw(st.integers(low, high)), draw(st.integers(low, high))))
    return {name: bound for name, bound in zip(names, (least, most), strict=True) if draw(st.booleans())}


@st.composite
def strings(draw):
    kind = draw(st.sampled_from(["words", "words", "format", "pattern"]))
    if kind == "format":
        return {"type": "string", "format": draw(st.sampled_from([*FORMATS, "made-up"]))}
    if kind == "pattern":
        return {
            "type": "string",
            "pattern": draw(st.sampled_from([r"^\d{3}-[A-Z]+$", "^(yes|no)$", r"a.c", r"^\S{2,4}\s?x*$"])),
        }
    return {"type": "string", **_bounded(draw, 0, 40, ("minLength", "maxLength"))}


@st.composite
def numbers(draw):
    kind = draw(st.sampled_from(["integer", "number"]))
    if kind == "number" and draw(st.booleans()):
        bound = st.floats(-1e6, 1e6, allow_nan=False)
        least, most = sorted((draw(bound), draw(bound)))
        assume(most - least > 1e-6 * max(1, abs(least), abs(most)))
        return {"type": kind, draw(st.sampled_from(["minimum", "exclusiveMinimum"])): least, "maximum": most}
    schema = {"type": kind, **_bounded(draw, -50, 50, ("minimum", "maximum"))}
    if draw(st.booleans()) and len(schema) < 3:
        schema["multipleOf"] = draw(st.sampled_from([1, 3, 7, 0.5, 0.25]))
    return schema


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
LEAVES = st.one_of(
    strings(),
    numbers(),
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.just({}),
    st.just(True),
    st.lists(st.sampled_from([["string", "null"], ["integer", "boolean"], "number"]), min_size=1, max_size=1).map(
        lambda found: {"type": found[0]}
    ),
    st.builds(lambda found: {"const": found}, PLAIN),
    st.builds(lambda found: {"enum": found}, st.lists(PLAIN, min_size=1, max_size=4)),
)


@st.composite
def _arrays(draw, inner):
    schema = {"type": "array", "items": draw(inner), **_bounded(draw, 0, 5, ("minItems", "maxItems"))}
    if draw(st.booleans()):
        schema["prefixItems"] = draw(st.lists(inner, min_size=1, max_size=3))
    if draw(st.booleans()):
        schema["uniqueItems"] = True
        if "prefixItems" in schema:
            schema.pop("minItems", None)
        short = {"type": "string", "maxLength": 1, "minLength": draw(st.integers(0, 1))}
        schema["items"] = draw(
            st.sampled_from([{"type": ["integer", "boolean"]}, {"type": "string"}, short, obj(a=short)])
        )
    return schema


@st.composite
def _objects(draw, inner):
    properties = draw(st.dictionaries(st.text(max_size=8), inner, max_size=4))
    required = draw(st.lists(st.sampled_from([*properties, "also"]), unique=True))
    closed = {"additionalProperties": False} if "also" not in required and draw(st.booleans()) else {}
    return {"type": "object", "properties": properties, "required": required, **closed}


SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        _arrays(inner),
        _objects(inner),
        st.builds(lambda parts: {"anyOf": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda part, note: {"allOf": [part], "description": note}, inner, st.text()),
        st.builds(lambda one, other: {"allOf": [obj(a=one), obj(b=other)]}, inner, inner),
        st.builds(lambda part: {"$ref": "#/$defs/x~1y", "$defs": {}, "_part": part}, inner),
    ),
    max_leaves=12,
)


def _defined(schema, definitions):
    """The schema with what its references lead to put into `definitions`."""
    if isinstance(schema, list):
        return [_defined(part, definitions) for part in schema]
    if not isinstance(schema, dict) or "const" in schema or "enum" in schema:
        return schema
    if "_part" in schema:
        name = f"a/b {len(definitions)}"
        definitions[name] = {}
        definitions[name] = _defined(schema["_part"], definitions)
        return {"$ref": "#/$defs/" + name.replace("/", "~1").replace(" ", "%20")}
    return {
        key: {name: _defined(part, definitions) for name, part in each.items()}
        if key == "properties"
        else _defined(each, definitions)
        for key, each in schema.items()
    }


@given(SCHEMAS, st.integers(0, 99), st.sampled_from([0, None, 2]))
# The same each time: what is rare is looked for when the module changes, not by whoever's run it happens to meet.
@settings(
    max_examples=400,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
def test_an_answer_is_valid_by_any_schema_that_is_taken(schema, seed, temperature):
    definitions: dict[str, Any] = {}
    whole = {"allOf": [_defined(schema, definitions)], "$defs": definitions}
    value(whole, seed=seed, temperature=temperature)


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "very bad"


class Address(BaseModel):
    street: str = Field(max_length=20)
    code: str = Field(pattern=r"^[A-Z]{2}-\d{4}$")


class Person(BaseModel):
    name: str = Field(min_length=3, max_length=40, description="The whole name")
    age: int = Field(ge=18, lt=30)
    height: float = Field(gt=1.5, le=1.6)
    mood: Mood
    pet: Literal["cat", "dog"] | None = None
    home: Address
    other: Optional[Address] = None  # noqa: UP045
    tags: set[str] = Field(min_length=2, max_length=4)
    pair: tuple[int, bool]
    either: Union[int, Address, list[str]]  # noqa: UP007
    born: dt.date
    seen: dt.datetime
    at: dt.time
    took: dt.timedelta
    id: uuid.UUID
    scores: dict[str, float]
    anything: Any
    even: int = Field(multiple_of=2)


class Tree(BaseModel):
    word: str
    left: Optional[Tree] = None  # noqa: UP045
    right: Optional[Tree] = None  # noqa: UP045
    leaves: list[Tree] = []


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(ge=1, le=9)


class Dog(BaseModel):
    kind: Literal["dog"]
    good: bool


class Pets(BaseModel):
    pets: list[Cat | Dog] = Field(min_length=3)
    first: Cat | Dog = Field(discriminator="kind")


@pytest.mark.parametrize("model", [Person, Tree, Pets])
@pytest.mark.parametrize("sampling", [{}, {"temperature": 0}, {"temperature": 2, "repetition_penalty": 1.3}])
def test_an_answer_is_an_instance_of_a_pydantic_model(model, sampling):
    for answer in values(model.model_json_schema(), **sampling):
        assert model.model_validate(answer).model_dump()


def test_members_come_in_order_and_those_that_may_be_left_out_too():
    assert list(value({"properties": {"z": {}, "a": {}, "m": {}}, "required": ["a"]})) == ["z", "a", "m"]


def test_a_form_that_holds_itself_comes_to_an_end():
    lists = {"$ref": "#/$defs/n", "$defs": {"n": obj(next={"anyOf": [{"$ref": "#/$defs/n"}, {"type": "null"}]})}}
    nested = [json.dumps(answer).count("{") for answer in values(lists)]
    assert set(nested) == {1, 2, 3}
    tree = {"$ref": "#/$defs/n", "$defs": {"n": {"type": "array", "items": {"$ref": "#/$defs/n"}, "minItems": 0}}}
    assert max(json.dumps(answer).count("[") for answer in values(tree)) < 60


def test_all_values_come_in_time():
    assert {answer["a"] for answer in values(obj(a={"type": "boolean"}), 200, temperature=2)} == {True, False}
    assert set(values({"enum": [1, 1.5, 12, "x"]}, 300, temperature=2)) == {1, 1.5, 12, "x"}
    assert set(values({"type": "integer", "minimum": -1, "exclusiveMaximum": 2}, 100)) == {-1, 0, 1}
    assert {type(found) for found in values({"type": ["null", "integer", "string"]}, 100)} == {type(None), int, str}


def test_the_items_of_a_set_differ():
    assert sorted(value({"type": "array", "uniqueItems": True, "minItems": 3, "items": {"enum": ["a", "b", "c"]}})) == [
        "a",
        "b",
        "c",
    ]
    numbers = {
        "type": "array",
        "uniqueItems": True,
        "minItems": 10,
        "items": {"type": "integer", "minimum": 1, "maximum": 10},
    }
    assert sorted(value(numbers)) == list(range(1, 11))
    words = {"type": "array", "uniqueItems": True, "minItems": 5, "items": {"type": "string"}}
    assert len(set(value(words))) == len(value(words)) >= 5


def test_one_of_takes_only_what_no_other_alternative_takes():
    overlapping = {"oneOf": [{"type": "integer"}, {"type": "number"}, {"type": "string"}]}
    assert {type(found) for found in values(overlapping)} == {str}  # an integer is a number too; a number may be whole


# Words


def test_the_words_are_the_models_and_end_with_their_sentence():
    sentences = set(values({"type": "string"}, 60))
    assert len(sentences) > 20
    assert all(len(sentence.split()) <= 12 for sentence in sentences)
    assert sum(sentence.endswith(".") for sentence in sentences) > 10
    assert not any("." in sentence[:-1] or '"' in sentence or "\n" in sentence for sentence in sentences)


def test_the_words_follow_the_prompt_and_what_was_written():
    model = train(["Red red\n\none two.\n\none two.", "Blue blue\n\nsix ten.\n\nsix ten."], order=4)
    schema = Grammar(obj(a={"type": "string"}, b={"type": "string"}))
    for prompt, answer in (("Red red\n\n", "one two."), ("Blue blue\n\n", "six ten.")):
        found = "".join(piece.text for piece in model.generate(prompt, SamplingParams(temperature=0), schema))
        assert json.loads(found) == {"a": answer, "b": answer}


def test_lengths_are_honoured_letter_by_letter():
    for least, most in ((0, 0), (0, 1), (1, 1), (7, 7), (100, 101), (500, 500)):
        for found in values({"type": "string", "minLength": least, "maxLength": most}, 20):
            assert least <= len(found) <= most


def test_a_value_is_taken_by_its_probability():
    model = train(["Once\n\nred red blue"], order=3)
    schema = {"enum": ["blue", "red"]}
    assert value(schema, model, temperature=0) == "red"
    assert [value(schema, model, seed=seed, temperature=0.01) for seed in range(20)] == ["red"] * 20
    assert {value(schema, model, seed=seed, temperature=2) for seed in range(50)} == {"red", "blue"}


def test_sampling_parameters_count_within_texts():
    plain = [text({"type": "string"}, seed=seed) for seed in range(10)]
    assert plain == [text({"type": "string"}, seed=seed) for seed in range(10)]
    assert len(set(plain)) > 5
    assert len({text({"type": "string"}, seed=seed, top_k=1) for seed in range(10)}) == 1
    assert len({text(Person.model_json_schema(), seed=seed, temperature=0) for seed in range(5)}) == 1
    robot = default_model().token_id(" robot")
    assert value({"type": "string"}, logit_bias={str(robot): 100}).split()[:3] == ["robot"] * 3


def test_what_json_must_escape_is_escaped():
    model = train(["\\ back\\ slash\\ \x7f \\ \\"], order=2)
    assert "\\" in "".join(value({"type": "string", "minLength": 40}, model, seed=seed) for seed in range(5))
    odd = 'a"b\\c\nd\u2028é🦊'
    assert list(value({"properties": {odd: {"const": odd}}}).items()) == [(odd, odd)]


@pytest.mark.parametrize("corpus", [["\n"], ["..."], ["a"], ['""']])
@pytest.mark.parametrize(
    "schema", [{"type": "string"}, {"type": "string", "minLength": 30}, Person.model_json_schema()]
)
def test_a_model_of_hardly_a_word_answers_too(corpus, schema):
    value(schema, train(corpus, order=2))


# Patterns and formats


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_what_it_is_called(name):
    parsers = {
        "date": dt.date.fromisoformat,
        "date-time": lambda found: dt.datetime.fromisoformat(found.replace("Z", "+00:00")),
        "time": lambda found: dt.time.fromisoformat(found.removesuffix("Z")),
        "uuid": uuid.UUID,
        "ipv4": ipaddress.IPv4Address,
        "ipv6": ipaddress.IPv6Address,
        "regex": re.compile,
    }
    for found in values({"type": "string", "format": name}):
        assert parsers.get(name, str)(found)
        assert ("@" in found) == ("email" in name)


@pytest.mark.parametrize(
    "pattern",
    [
        r"^[A-Z]{3}\d{4}$", r"^(?:red|green|blue)+$", r"\w+@\w+\.(com|org)", r"^[^a-z\s]*$", r"^\+?\d{1,3}[- ]?\d{3,}$", "",
        r"^(?P<year>\d{4})-(\d\d)$", r"[\w.-]+", r"^a|b$", r"^[]x-]$", r"^\D\W\S$", r"^x{0}y?$", "^(a|(b|c){2})*?$", r"^\$\{x\}$",
    ],
)  # fmt: skip
def test_a_text_matches_its_pattern(pattern):
    for found in values({"type": "string", "pattern": pattern}):
        assert re.search(pattern, found)


def test_a_pattern_and_lengths_hold_together():
    for found in values({"type": "string", "pattern": "^[a-z]*$", "minLength": 4, "maxLength": 5}):
        assert 4 <= len(found) <= 5
    assert Pattern("^a{3}$", 4).draw(random.Random(0)) is None


# What cannot be honoured


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"not": {"type": "string"}}, "not"),
        (obj(a={"if": {}, "then": {}}), "if"),
        ({"type": "object", "patternProperties": {"x": {}}}, "patternProperties"),
        ({"type": "array", "contains": {}}, "contains"),
        ({"type": "strin"}, "type"),
        ({"type": "string", "minLength": -1}, "minLength"),
        ({"type": "string", "minLength": "1"}, "minLength"),
        ({"minimum": True}, "minimum"),
        ({"exclusiveMinimum": True, "minimum": 1}, "exclusiveMinimum"),
        ({"multipleOf": 0}, "multipleOf"),
        ({"enum": "abc"}, "enum"),
        ({"properties": []}, "properties"),
        ({"properties": {"a": 5}}, "properties"),
        ({"required": "a"}, "required"),
        ({"anyOf": []}, "anyOf"),
        ({"$ref": "#/$defs/none"}, "$ref"),
        ({"$ref": "#anchor"}, "$ref"),
        ({"$ref": "https://example.com/schema"}, "$ref"),
        ({"$ref": "#"}, "itself"),
        ({"allOf": [{"$ref": "#"}]}, "itself"),
        (obj(a={"$ref": "#"}), "No answer"),
        (False, "No answer"),
        ({"enum": []}, "No answer"),
        ({"type": "string", "const": 5}, "No answer"),
        ({"type": "integer", "minimum": 1, "maximum": 0}, "No answer"),
        ({"type": "number", "exclusiveMinimum": 1, "maximum": 1}, "No answer"),
        ({"type": "string", "minLength": 3, "maxLength": 2}, "No answer"),
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "No answer"),
        ({"type": "array", "items": {"type": "boolean"}, "uniqueItems": True, "minItems": 3}, "No answer"),
        ({"type": "array", "items": {"type": ["boolean", "null"]}, "uniqueItems": True, "minItems": 4}, "No answer"),
        ({"type": "array", "items": {"type": "string", "maxLength": 0}, "uniqueItems": True, "minItems": 2}, "No answer"),
        ({"type": "object", "required": ["a"], "additionalProperties": False}, "No answer"),
        ({"prefixItems": [{}, {}], "uniqueItems": True, "minItems": 2}, "uniqueItems"),
        ({"items": {"anyOf": [{"const": 1}, {"enum": [1]}]}, "uniqueItems": True, "minItems": 2}, "No answer"),
        ({"type": "object", "minProperties": 1}, "minProperties"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "oneOf"),
        ({"oneOf": [{}, {}]}, "oneOf"),
        ({"allOf": [{"pattern": "a"}, {"pattern": "b"}]}, "pattern"),
        ({"type": "string", "pattern": "("}, "pattern"),
        ({"type": "string", "pattern": "^(?=a)"}, "pattern"),
        ({"type": "string", "pattern": r"(a)\1"}, "pattern"),
        ({"type": "string", "pattern": r"\bword"}, "pattern"),
        ({"type": "string", "pattern": "a$b"}, "pattern"),
        ({"type": "string", "pattern": "^a$", "minLength": 2}, "pattern"),
        ({"type": "string", "pattern": "a{2000}"}, "pattern"),
        ({"type": "string", "pattern": "(" * 60 + ")" * 60}, "pattern"),
        ({"type": "string", "format": "date", "maxLength": 5}, "date"),
        (5, "object"),
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_said_with_its_keyword(schema, named):
    with pytest.raises(InputError, match=re.escape(named)):
        Grammar(schema)


def test_a_schema_that_nests_too_deep_or_has_too_many_parts_is_refused():
    deep: Any = {"type": "string"}
    for _ in range(150):
        deep = obj(a=deep)
    with pytest.raises(InputError, match="deep"):
        Grammar(deep)
    with pytest.raises(InputError, match="parts"):
        Grammar(obj(**{f"p{number}": {"const": number} for number in range(6000)}))


# Over HTTP


def post(server, path="/v1/chat/completions", **more):
    ask = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Describe a robot"}],
        "seed": 1,
        "prompt": "Hi",
        **more,
    }
    return requests.post(server.base_url + path, json=ask, timeout=60)


def content(response, index=0):
    assert response.status_code == 200, response.text
    return response.json()["choices"][index]["message"]["content"]


def streamed(response):
    events = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert events[-1] == "[DONE]"
    return [json.loads(event) for event in events[:-1]]


PERSON = Person.model_json_schema()
FORMATS_OF_A_SCHEMA = [
    {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}},
    {"type": "json_schema", "schema": PERSON},
    {"type": "json_object", "schema": PERSON},
]


@pytest.mark.parametrize("response_format", FORMATS_OF_A_SCHEMA)
def test_every_way_to_send_a_schema_is_understood(server, response_format):
    assert Person.model_validate_json(content(post(server, response_format=response_format)))


def test_a_json_object_is_one_without_a_schema(server):
    answer = json.loads(content(post(server, response_format={"type": "json_object"})))
    jsonschema.validate(answer, ANY_OBJECT)
    assert set(answer) == {"title", "text", "number"}


def test_streaming_and_not_give_the_same_answer_and_count(server):
    ask = {"response_format": FORMATS_OF_A_SCHEMA[0], "n": 2, "logprobs": 2}
    whole = post(server, **ask).json()
    chunks = streamed(post(server, **ask, stream=True))
    for index in range(2):
        choices = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
        joined = "".join(choice["delta"]["content"] for choice in choices)
        assert joined == whole["choices"][index]["message"]["content"]
        assert Person.model_validate_json(joined)
        logprobs = [choice["logprobs"]["token_logprobs"] for choice in choices if choice["logprobs"]]
        assert [each for part in logprobs for each in part] == whole["choices"][index]["logprobs"]["token_logprobs"]
        assert choices[-1]["finish_reason"] == "eos"
    assert whole["choices"][0]["message"] != whole["choices"][1]["message"]
    assert chunks[-1]["usage"] == whole["usage"]
    assert whole["usage"]["completion_tokens"] == sum(len(choice["logprobs"]["tokens"]) for choice in whole["choices"])


def test_the_syntax_is_certain_and_the_words_have_the_models_probabilities(server):
    schema = obj(word={"enum": ["The", "A"]}, text={"type": "string"})
    ask = {"response_format": {"type": "json_object", "schema": schema}, "logprobs": 3}
    told = post(server, **ask).json()["choices"][0]["logprobs"]
    rows = list(zip(told["tokens"], told["token_logprobs"], told["top_logprobs"], strict=True))
    assert [row[0] for row in rows[:5]] == ["{", '"', "word", '":', ' "']
    assert [row[1:] for row in rows[:5]] == [(0.0, [{"token": row[0], "logprob": 0.0}]) for row in rows[:5]]
    word, logprob, top = rows[5]
    context = "Describe a robot\n\n"
    assert {each["token"]: each["logprob"] for each in top} == {
        each: pytest.approx(math.log(default_model().probability(each, context))) for each in ("The", "A")
    }
    assert logprob == {each["token"]: each["logprob"] for each in top}[word]
    words = rows[rows.index(next(row for row in rows if row[0] == "text")) + 3 :]
    assert all(len(row[2]) == 3 for row in words if row[1])
    assert sum(row[1] < 0 for row in words) > 2


def test_an_answer_cut_by_max_tokens_says_so_and_a_whole_one_of_that_length_does_not(server):
    form = {"type": "json_object"}
    whole = post(server, response_format=form).json()
    length = whole["usage"]["completion_tokens"]
    text_of_it = whole["choices"][0]["message"]["content"]
    cut = post(server, response_format=form, max_tokens=length - 1).json()
    assert cut["choices"][0]["finish_reason"] == "length"
    assert cut["choices"][0]["message"]["content"] + "}" == text_of_it
    same = post(server, response_format=form, max_tokens=length).json()
    assert (same["choices"][0]["finish_reason"], same["choices"][0]["message"]["content"]) == ("eos", text_of_it)


def test_a_long_answer_is_not_cut_where_max_tokens_is_not_given(server):
    schema = {"type": "array", "items": {"type": "string"}, "minItems": 100}
    answer = post(server, response_format={"type": "json_schema", "schema": schema}).json()
    assert len(json.loads(answer["choices"][0]["message"]["content"])) >= 100
    assert answer["usage"]["completion_tokens"] > 600


def test_a_stop_text_ends_it(server):
    answer = post(server, response_format={"type": "json_object"}, stop=['"text'])
    assert answer.json()["choices"][0]["finish_reason"] == "stop"
    assert content(answer).endswith(", ")


def test_openais_client_parses_into_a_pydantic_model(server):
    with openai.OpenAI(base_url=server.base_url + "/v1", api_key="any") as client:
        messages = [{"role": "user", "content": "Describe a robot"}]
        made = client.chat.completions.parse(model=MODEL, messages=messages, response_format=Pets, seed=1)
        assert isinstance(made.choices[0].message.parsed, Pets)
        with client.chat.completions.stream(model=MODEL, messages=messages, response_format=Pets, seed=1) as stream:
            streamed_so = stream.get_final_completion().choices[0].message
        assert streamed_so.parsed == made.choices[0].message.parsed


@pytest.mark.parametrize(
    ("response_format", "named"),
    [
        ("json", "response_format"), (5, "response_format"), ({"type": "grammar"}, "grammar"), ({"schema": {}}, "type"),
        ({"type": "json_schema"}, "schema"), ({"type": "json_schema", "json_schema": {"name": "x"}}, "schema"),
        ({"type": "json_schema", "schema": {"not": {}}}, "not"), ({"type": "json_object", "schema": 5}, "object"),
    ],
)  # fmt: skip
def test_a_form_that_cannot_be_honoured_is_400(server, response_format, named):
    response = post(server, response_format=response_format)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == "response_format"
    assert named in error["message"]


@pytest.mark.parametrize("path", ["/inference", "/v1/completions"])
def test_only_a_chat_knows_forms(server, path):
    assert post(server, path, response_format={"type": "json_object"}).json()["error"]["param"] == "response_format"
    assert post(server, path, response_format={"type": "text"}).status_code == 200


def test_an_answer_that_was_begun_is_not_gone_on_with_in_a_form(server):
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": '{"title": "The'}]
    assert post(server, messages=messages, response_format={"type": "json_object"}).status_code == 400
    assert post(server, messages=messages, response_format={"type": "text"}).status_code == 200


def test_plain_text_has_no_form():
    assert form_of({"type": "text"}) is None
