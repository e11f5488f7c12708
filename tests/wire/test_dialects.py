"""A request → its payload, a reply's payload → chunks, in each dialect."""

from __future__ import annotations

import functools
import json

import pytest

from together_nb.errors import InputError, StreamError
from together_nb.values.chunk import Chunk, Token, Usage
from together_nb.values.parameters import PARAMETERS, SamplingParams
from together_nb.values.request import CompletionRequest
from together_nb.wire.dialects import DIALECTS, dialect_for

chat, completions, inference = DIALECTS["chat"], DIALECTS["completions"], DIALECTS["inference"]
ONE_PROMPT = [name for name, dialect in DIALECTS.items() if not dialect.chat]
HI = {"role": "user", "content": "Hi"}


def request(prompt="Hi", api="chat", sampling=None, **fields):
    return CompletionRequest(prompt, "m", api, sampling=SamplingParams(**sampling or {}), **fields)


def chunks(dialect, payload):
    """The chunks, and the error's message where one broke them off."""
    found = []
    try:
        found.extend(dialect.chunks(payload))
    except StreamError as error:
        return found, error.message
    return found, ""


def chunk(dialect, **choice):
    (found,), error = chunks(dialect, {"choices": [choice]})
    assert error == ""
    return found


# Payloads


@pytest.mark.parametrize(
    ("api", "path", "payload"),
    [
        ("chat", "/v1/chat/completions", {"model": "m", "messages": [HI], "stream": True}),
        ("completions", "/v1/completions", {"model": "m", "prompt": "Hi", "stream": True}),
        ("inference", "/inference", {"model": "m", "prompt": "Hi", "stream_tokens": True}),
    ],
)
def test_only_what_was_set_is_sent_be_it_zero_and_where_it_belongs(api, path, payload):
    assert dialect_for(api).path == path
    assert dialect_for(api).payload(request(api=api, sampling=dict.fromkeys(PARAMETERS))) == payload
    zeros = {"temperature": 0, "top_k": 0, "stop": [], "echo": False, "logprobs": 0, "logit_bias": {}}
    assert dialect_for(api).payload(request(api=api, sampling=zeros)) == payload | zeros


@pytest.mark.parametrize("system", ["Be brief.", ""])
def test_a_system_prompt_comes_first_and_messages_are_sent_as_they_are_and_not_changed_in_place(system):
    first = {"role": "system", "content": system}
    assert chat.payload(request(system=system))["messages"] == [first, HI]
    messages = (dict(HI), {"role": "assistant", "content": "Hello", "name": "x"})
    sent = chat.payload(request("", messages=messages, system=system))["messages"]
    assert sent == [first, *messages]
    sent[1]["content"] = "changed"
    assert messages[0] == HI


@pytest.mark.parametrize("api", ONE_PROMPT)
def test_a_dialect_of_one_prompt_refuses_a_conversation_and_a_parameter_that_it_does_not_know(api):
    for fields in ({"system": ""}, {"messages": (HI,)}):
        with pytest.raises(InputError, match=rf"The {api} API takes one prompt[^\n]*\nAdd --api chat\."):
            dialect_for(api).payload(request(api=api, **fields))
    with pytest.raises(InputError, match=r"(?s)^reasoning_effort cannot .*Use --api chat, or"):
        dialect_for(api).payload(request(api=api, sampling={"reasoning_effort": "low"}))
    assert PARAMETERS["reasoning_effort"].dialects == ("chat",)
    assert chat.payload(request(sampling={"reasoning_effort": "low"}))["reasoning_effort"] == "low"


def test_an_unknown_api_is_refused_and_the_nearest_named():
    with pytest.raises(InputError, match=r"'complétions'.\nDid you mean completions\?$"):
        dialect_for("complétions")
    with pytest.raises(InputError, match=rf"Use one of: auto, {', '.join(DIALECTS)}\."):
        dialect_for("")


# Text

PARTS = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}, {"type": "image"}]


@pytest.mark.parametrize(
    ("dialect", "choice", "text", "reasoning"),
    [
        (chat, {"delta": {"content": "a"}}, "a", ""),
        (chat, {"text": "a", "delta": {"role": "assistant", "content": "a"}}, "a", ""),  # carried twice, read once
        (completions, {"text": "a", "delta": {"content": "a"}}, "a", ""),
        (completions, {"delta": {"content": "a"}}, "a", ""),
        (inference, {"text": " a"}, " a", ""),
        (chat, {"text": "a"}, "a", ""),
        (chat, {"text": "a", "delta": {}}, "a", ""),
        (chat, {"message": {"role": "assistant", "content": "a"}}, "a", ""),
        (chat, {"delta": {"role": "assistant", "content": None}}, "", ""),
        (chat, {"delta": {}, "finish_reason": "stop"}, "", ""),
        (chat, {"delta": {"content": "a", "new": 1}, "matched_stop": None, "seed": 2**60, "warnings": ["x"]}, "a", ""),
        (chat, {"delta": {"content": None, "reasoning_content": "Hm"}}, "", "Hm"),
        (chat, {"delta": {"content": "", "reasoning": None, "reasoning_content": "Hm"}}, "", "Hm"),
        (chat, {"delta": {"content": "", "reasoning": "Hm", "reasoning_content": "x"}}, "", "Hm"),
        (chat, {"delta": {"content": "a", "reasoning": "Hm"}}, "a", "Hm"),
        (chat, {"message": {"content": "a", "reasoning": "Hm"}}, "a", "Hm"),
        (chat, {"delta": {"content": PARTS}}, "ab", ""),
        (chat, {"delta": {"content": [{"text": PARTS}]}}, "ab", ""),
        (chat, {"delta": {"content": "", "tool_calls": [{"function": {"name": "f"}}]}}, "", ""),
        (chat, {"delta": {"content": "\ud83d", "reasoning": "\ud83d"}}, "\ud83d", "\ud83d"),  # half a character
        (completions, json.loads(r'{"text": "\ud83d\ude00"}'), "😀", ""),
        (completions, json.loads(r'{"text": "\ude00"}'), "\ude00", ""),
    ],
)
def test_text_and_thinking_are_read_once_from_where_they_stand(dialect, choice, text, reasoning):
    found = chunk(dialect, **choice)
    assert (found.text, found.reasoning, found.finish_reason) == (text, reasoning, choice.get("finish_reason"))


def test_the_tutorials_event_and_its_reply_in_one_piece_are_read():
    event = {"choices": [{"text": " a"}], "result_type": "language-model-inference", "id": "e235"}
    assert chunks(inference, event) == ([Chunk(" a", id="e235")], "")
    reply = {"status": "finished", "output": {"choices": [{"text": "a story", "finish_reason": "length"}]}}
    assert chunks(inference, reply) == ([Chunk("a story", finish_reason="length")], "")


# Choices, finish reasons, names


@pytest.mark.parametrize(
    ("indices", "places"), [([1, 0], [1, 0]), ([None, None], [0, 1]), ([-1, 999_999], [0, 999_999]), (["1", 0], [1, 0])]
)
def test_choices_are_told_apart_by_their_index_or_their_place(indices, places):
    found, _ = chunks(completions, {"choices": [{"text": "a", "index": index} for index in indices]})
    assert [one.index for one in found] == places


NESTED = functools.reduce(lambda inner, _: [{"text": inner}], range(5_000), "deep")


@pytest.mark.parametrize(
    "payload",
    [{"choices": []}, {"choices": None}, {}, {"output": {}}, {"output": None}, {"model": NESTED, "id": NESTED}],
)
def test_a_payload_without_choices_is_an_empty_chunk(payload):
    assert chunks(chat, payload) == ([Chunk()], "")


@pytest.mark.parametrize(
    ("payload", "names"),
    [
        ({"model": "m", "id": "1"}, ("m", "1", None)),
        ({"model": None, "id": "", "choices": [{"text": "a", "finish_reason": ""}]}, ("", "", "")),
        ({"model": 5, "id": 7, "choices": [{"text": "a", "finish_reason": 9}]}, ("5", "7", "9")),
    ],
)
def test_model_id_and_finish_reason_are_texts(payload, names):
    (found,), _ = chunks(chat, payload)
    assert (found.model, found.id, found.finish_reason) == names


@pytest.mark.parametrize(
    "choices",
    [["a"], {"text": "a"}, [{"delta": "a"}], [{"text": "a", "index": "x"}], [{"text": "a", "index": 1_000_000}]],
)
def test_another_shape_is_an_error_that_the_client_takes_for_the_servers(choices):
    with pytest.raises((AttributeError, KeyError, TypeError, ValueError)):
        list(chat.chunks({"choices": choices}))


def test_what_a_server_says_beside_its_answer_is_cut():
    words = "w" * 100_000
    choice = {"delta": {"content": words}, "finish_reason": words}
    ((found, *_), _) = chunks(chat, {"id": words, "model": words, "choices": [choice] * 2000})
    assert found.text == words
    assert max(map(len, (found.id, found.model, found.finish_reason))) <= 1000
    assert len(chunks(chat, {"choices": [choice] * 2000})[0]) == 1024
    assert len(chunks(chat, {"error": {"message": words}})[1]) < 1000


# Usage

COUNTED = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}


@pytest.mark.parametrize(
    ("more", "usage"),
    [
        ({"reasoning_tokens": 0, "cached_tokens": 3}, Usage(5, 2, 7, 0, 3)),
        ({"prompt_tokens_details": {"cached_tokens": 3}}, Usage(5, 2, 7, None, 3)),
        ({"completion_tokens_details": {"reasoning_tokens": 1}}, Usage(5, 2, 7, 1, None)),
        ({"cached_tokens": 0, "prompt_tokens_details": {"cached_tokens": 3}}, Usage(5, 2, 7, None, 0)),
        ({"prompt_tokens_details": [], "completion_tokens_details": "x"}, Usage(5, 2, 7)),
        ({"total_tokens": None}, Usage(5, 2, 7)),
        ({"total_tokens": 9}, Usage(5, 2, 9)),
        ({"total_tokens": float("nan"), "reasoning_tokens": [float("nan")]}, Usage(5, 2, 7)),
        ({"prompt_tokens": 0, "total_tokens": 2}, Usage(0, 2, 2)),
        ({"prompt_tokens": 2**63 - 1, "total_tokens": 2**63}, Usage(2**63 - 1, 2, 2**63 + 1)),
    ],
)
def test_usage_is_told_once_and_what_it_tells_beside_is_read(more, usage):
    assert chunks(chat, {"choices": [], "usage": {**COUNTED, **more}}) == ([Chunk(usage=usage)], "")
    found, _ = chunks(completions, {"choices": [{"text": "a"}] * 2, "usage": {**COUNTED, **more}})
    assert [one.usage for one in found] == [usage, None]


@pytest.mark.parametrize(
    "counted",
    [
        *(None, "7", {"prompt_tokens": 5}, {"completion_tokens": 2}, {**COUNTED, "prompt_tokens": -1}),
        *({**COUNTED, "completion_tokens": amiss} for amiss in (2**63, float("inf"), [])),
    ],
)
def test_nothing_is_guessed_from_a_count_that_is_not_whole(counted):
    assert chunks(chat, {"choices": [], "usage": counted}) == ([Chunk()], "")


# Log-probabilities

ARRAYS = {
    "tokens": ["a", "b"],
    "token_logprobs": [None, -1.5],
    "token_ids": [7, None],
    "top_logprobs": [None, [{"token": "c", "logprob": -2}, {"token": "b", "logprob": -1.5}]],
}
ONE = {"tokens": ["a"], "token_logprobs": [-1.0]}
HALF = {**ONE, "tokens": ["\ud83d"], "top_logprobs": [{"\ud83d": -1.0}]}
OPENAI = {"token": "a", "logprob": -1.0, "bytes": [97], "top_logprobs": [{"token": "a", "logprob": -1.0}]}
TWO = (("a", -1.0), ("b", -3.0))


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({"logprobs": None}, ()),
        # A number: that token's.
        ({"logprobs": -0.5, "delta": {"content": "a", "token_id": 7}}, (Token("a", -0.5, 7),)),
        ({"logprobs": 0, "delta": {"content": "a", "token_id": 2**63}}, (Token("a", 0.0),)),
        ({"logprobs": 0, "delta": {"content": "a", "token_id": True}}, (Token("a", 0.0),)),
        ({"logprobs": -1, "top_logprobs": {"b": -3, "a": -1, "c": None}}, (Token("a", -1.0, None, TWO),)),
        # An object of arrays.
        ({"logprobs": ARRAYS}, (Token("a", None, 7), Token("b", -1.5, None, (("b", -1.5), ("c", -2.0))))),
        ({"logprobs": {**ONE, "top_logprobs": [{"a": -1, "b": -3}]}}, (Token("a", -1.0, None, TWO),)),
        ({"logprobs": {**ONE, "top_logprobs": [[{"a": -1, "b": -3}]]}}, (Token("a", -1.0, None, TWO),)),
        ({"logprobs": {**ONE, "tokens": ["a", "b"]}}, (Token("a", -1.0), Token("b", None))),
        ({"logprobs": HALF}, (Token("\ufffd", -1.0, None, (("\ufffd", -1.0),)),)),
        ({"logprobs": {"tokens": None}}, ()),
        # OpenAI's.
        ({"logprobs": {"content": [OPENAI]}}, (Token("a", -1.0, None, (("a", -1.0),)),)),
        ({"logprobs": {"content": []}}, ()),
        # Of none of these shapes: the text counts.
        ({"logprobs": "?"}, ()),
        ({"logprobs": {"tokens": 5}}, ()),
        ({"logprobs": {"content": ["x"]}}, ()),
        ({"logprobs": {**ONE, "top_logprobs": [[{"token": "x", "logprob": None}]]}}, ()),
        ({"logprobs": True}, ()),
        ({"logprobs": float("nan")}, ()),
        ({"logprobs": -(10**400)}, ()),
        ({"logprobs": -1, "top_logprobs": {"a": float("nan")}}, (Token("a", -1.0),)),
        # Of the thinking, and not of the answer.
        ({"delta": {"content": "", "reasoning": "Hm"}, "logprobs": ONE}, ()),
    ],
)
def test_every_shape_of_logprobs_is_read(fields, tokens):
    found = chunk(chat, **{"delta": {"content": "a"}, **fields})
    assert found.tokens == tokens
    assert found.text or found.reasoning


# Errors within a stream


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (" overloaded\n", ": overloaded."),
        ({"message": "overloaded", "type": "server_error"}, ": overloaded."),
        ("[object Object]", "did not say why"),
        (500, ": 500."),
        ({}, "did not say why"),
    ],
)
def test_an_error_in_a_200_stream_is_an_error_in_both_shapes(error, words):
    text_and_error = {"choices": [{"delta": {"content": "a"}, "error": error, "finish_reason": "error"}]}
    found, message = chunks(chat, text_and_error)
    assert found == [Chunk("a", finish_reason="error")]
    assert words in message
    assert not error or chunks(chat, {"error": error}) == ([], message)


@pytest.mark.parametrize("nothing", [None, "", {}, []])
def test_an_error_of_nothing_is_none(nothing):
    payload = {"error": nothing, "choices": [{"delta": {"content": "a"}, "error": nothing}]}
    assert chunks(chat, payload) == ([Chunk("a")], "")
