"""A request → its payload, a reply's payload → chunks, in each of the three dialects."""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import re
from pathlib import Path

import pytest

from together_nb.accumulate import Accumulator
from together_nb.completion import Chunk, CompletionRequest, Timings, Token, Usage
from together_nb.dialects import DIALECTS, dialect_for, error_message
from together_nb.errors import InputError, StreamError
from together_nb.params import PARAMETERS, SamplingParams
from together_nb.sse import Payloads

RECORDINGS = os.environ.get("TOGETHER_NB_RECORDINGS", "")
chat, completions, inference = DIALECTS["chat"], DIALECTS["completions"], DIALECTS["inference"]


def request(prompt="Hi", api="chat", **fields):
    sampling = SamplingParams(**fields.pop("sampling", {}))
    return CompletionRequest(prompt, "m", api, sampling=sampling, **fields)


def chunks(dialect, payload):
    """The chunks, and the error's message where one broke them off."""
    got = []
    try:
        got.extend(dialect.chunks(payload))
    except StreamError as error:
        return got, error.message
    return got, ""


def choice(dialect, **fields):
    (chunk,), error = chunks(dialect, {"choices": [fields]})
    assert error == ""
    return chunk


# Payloads


@pytest.mark.parametrize(
    ("api", "path", "payload"),
    [
        (
            "chat",
            "/v1/chat/completions",
            {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True},
        ),
        ("completions", "/v1/completions", {"model": "m", "prompt": "Hi", "stream": True}),
        ("inference", "/inference", {"model": "m", "prompt": "Hi", "stream_tokens": True}),
    ],
)
def test_only_what_was_set_is_sent_and_where_it_belongs(api, path, payload):
    assert dialect_for(api).path == path
    assert dialect_for(api).payload(request(api=api)) == payload


def test_the_tutorials_request_is_written_as_in_the_tutorial():
    sampling = SamplingParams(max_tokens=512, temperature=0.7, top_p=0.7, top_k=50, repetition_penalty=1)
    asked = CompletionRequest(
        "Tell me a story\n\n", "togethercomputer/RedPajama-INCITE-7B-Chat", "inference", sampling=sampling
    )
    assert inference.payload(asked) == {
        "model": "togethercomputer/RedPajama-INCITE-7B-Chat",
        "prompt": "Tell me a story\n\n",
        "max_tokens": 512,
        "temperature": 0.7,
        "top_p": 0.7,
        "top_k": 50,
        "repetition_penalty": 1,
        "stream_tokens": True,
    }


@pytest.mark.parametrize("api", DIALECTS)
def test_zero_is_sent_and_unset_is_not(api):
    sent = dialect_for(api).payload(
        request(api=api, sampling={"temperature": 0, "echo": False, "logprobs": 0, "top_p": None})
    )
    assert (sent["temperature"], sent["echo"], sent["logprobs"]) == (0.0, False, 0)
    assert not sent.keys() & (set(PARAMETERS) - {"temperature", "echo", "logprobs"})


def test_a_system_prompt_comes_first():
    assert chat.payload(request(system="Be brief."))["messages"] == [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"},
    ]  # fmt: skip


def test_an_empty_system_prompt_is_a_system_prompt():
    assert chat.payload(request(system=""))["messages"][0] == {"role": "system", "content": ""}


def test_messages_are_sent_as_they_are_and_not_changed_in_place():
    talk = ({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello", "name": "x"})
    sent = chat.payload(request("", messages=talk, system="S"))["messages"]
    assert sent == [{"role": "system", "content": "S"}, *talk]
    sent[1]["content"] = "changed"
    assert talk[0]["content"] == "Hi"


@pytest.mark.parametrize("api", ["completions", "inference"])
@pytest.mark.parametrize("fields", [{"system": ""}, {"messages": ({"role": "user", "content": "Hi"},)}])
def test_a_dialect_of_one_prompt_refuses_a_conversation(api, fields):
    with pytest.raises(InputError) as refused:
        dialect_for(api).payload(request(api=api, **fields))
    assert str(refused.value) == f"The {api} API takes one prompt: no system prompt and no messages.\nAdd --api chat."


@pytest.mark.parametrize("api", ["completions", "inference"])
def test_a_parameter_that_a_dialect_does_not_know_is_refused(api):
    with pytest.raises(InputError) as refused:
        dialect_for(api).payload(request(api=api, sampling={"reasoning_effort": "low"}))
    assert str(refused.value) == (
        f"reasoning_effort cannot be sent to the {api} API.\nUse --api chat, or leave reasoning_effort out."
    )


def test_chat_knows_every_parameter():
    every = {"temperature": 1, "reasoning_effort": "low"}
    assert chat.payload(request(sampling=every)).items() >= every.items()


def test_an_unknown_api_is_refused_and_the_nearest_named():
    with pytest.raises(InputError) as refused:
        dialect_for("complétions")
    assert str(refused.value) == "There is no API called 'complétions'.\nDid you mean completions?"
    with pytest.raises(InputError, match=r"Use one of: auto, chat, completions, inference\."):
        dialect_for("")


# Text


@pytest.mark.parametrize(
    ("dialect", "fields", "text", "reasoning"),
    [
        (chat, {"delta": {"content": "a"}}, "a", ""),
        (chat, {"text": "a", "delta": {"role": "assistant", "content": "a"}}, "a", ""),  # carried twice, read once
        (completions, {"text": "a", "delta": {"content": "a"}}, "a", ""),
        (completions, {"text": "a"}, "a", ""),
        (completions, {"delta": {"content": "a"}}, "a", ""),
        (inference, {"text": " a"}, " a", ""),
        (chat, {"text": "a"}, "a", ""),
        (chat, {"text": "a", "delta": {}}, "a", ""),
        (chat, {"message": {"role": "assistant", "content": "a"}}, "a", ""),
        (chat, {"text": "", "delta": {"role": "assistant", "content": ""}}, "", ""),
        (chat, {"delta": {"role": "assistant", "content": None}}, "", ""),
        (chat, {"delta": {}, "finish_reason": "stop"}, "", ""),
        (chat, {"delta": {"content": "", "reasoning": "Hm"}}, "", "Hm"),
        (chat, {"delta": {"content": None, "reasoning_content": "Hm"}}, "", "Hm"),
        (chat, {"delta": {"content": "", "reasoning": None, "reasoning_content": "Hm"}}, "", "Hm"),
        (chat, {"delta": {"content": "", "reasoning": "", "reasoning_content": "Hm"}}, "", "Hm"),
        (chat, {"delta": {"content": "", "reasoning": "Hm", "reasoning_content": "Hm"}}, "", "Hm"),
        (chat, {"delta": {"content": "a", "reasoning": "Hm"}}, "a", "Hm"),
        (chat, {"message": {"content": "a", "reasoning": "Hm"}}, "a", "Hm"),
        (
            chat,
            {"delta": {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}, {"type": "image"}]}},
            "ab",
            "",
        ),
        (chat, {"delta": {"content": "", "tool_calls": [{"function": {"name": "f"}}]}}, "", ""),
        (completions, {"text": "0"}, "0", ""),
    ],
)
def test_text_and_thinking_are_read_once_from_where_they_stand(dialect, fields, text, reasoning):
    chunk = choice(dialect, **fields)
    assert (chunk.text, chunk.reasoning) == (text, reasoning)


def test_the_tutorials_event_is_read():
    event = '{"choices":[{"text":" a"}],"result_type":"language-model-inference","id":"e235a724408a86a5f408f437ca26239ddadf509e9dfdf359a645db08ee9a8682"}'
    assert chunks(inference, json.loads(event)) == (
        [Chunk(" a", id="e235a724408a86a5f408f437ca26239ddadf509e9dfdf359a645db08ee9a8682")],
        "",
    )


def test_the_tutorials_reply_in_one_piece_is_read():
    reply = {
        "status": "finished",
        "output": {
            "choices": [{"text": "a story", "finish_reason": "length"}],
            "result_type": "language-model-inference",
        },
    }
    assert chunks(inference, reply) == ([Chunk("a story", finish_reason="length")], "")


@pytest.mark.parametrize("where", [{"delta": {"content": "\ud83d"}}, {"delta": {"reasoning": "\ud83d"}}])
def test_half_a_character_is_replaced(where):
    chunk = choice(chat, **where)
    assert chunk.text + chunk.reasoning == "\ufffd"


def test_both_halves_in_one_piece_are_one_character_and_in_two_pieces_are_none():
    def texts(*escaped):
        return [choice(completions, **json.loads(f'{{"text": "{text}"}}')).text for text in escaped]

    assert texts(r"\ud83d\ude00") == ["😀"]
    assert texts(r"\ud83d", r"\ude00") == ["\ufffd", "\ufffd"]


# Choices, finish reasons, names


def test_several_choices_are_told_apart_by_their_index():
    got, _ = chunks(completions, {"choices": [{"index": 1, "text": "b"}, {"index": 0, "text": "a"}]})
    assert [(chunk.index, chunk.text) for chunk in got] == [(1, "b"), (0, "a")]


def test_choices_without_an_index_are_told_apart_by_their_place():
    got, _ = chunks(completions, {"choices": [{"text": "a"}, {"text": "b", "index": None}]})
    assert [(chunk.index, chunk.text) for chunk in got] == [(0, "a"), (1, "b")]


@pytest.mark.parametrize("payload", [{"choices": []}, {"choices": None}, {}, {"output": {}}, {"output": None}])
def test_a_payload_without_choices_is_an_empty_chunk(payload):
    assert chunks(chat, payload) == ([Chunk()], "")


@pytest.mark.parametrize(
    "reason", ["stop", "eos", "length", "tool_calls", "function_call", "", "eos_token", "stop_sequence", None]
)
def test_the_finish_reason_is_passed_on(reason):
    assert choice(chat, delta={"content": "a"}, finish_reason=reason).finish_reason == reason


@pytest.mark.parametrize(
    ("payload", "names"),
    [
        ({"model": "m", "id": "1"}, ("m", "1")),
        ({"model": None, "id": ""}, ("", "")),
        ({}, ("", "")),
        ({"model": 5, "id": 7}, ("5", "7")),
    ],
)
def test_model_and_id_are_texts(payload, names):
    (chunk,), _ = chunks(chat, payload)
    assert (chunk.model, chunk.id) == names


def test_unknown_keys_are_passed_over():
    assert choice(chat, delta={"content": "a", "new": 1}, matched_stop=None, seed=2**60, warnings=["x"]) == Chunk("a")


@pytest.mark.parametrize(
    "odd",
    [
        {"choices": ["a"]},
        {"choices": {"text": "a"}},
        {"choices": [{"delta": "a"}]},
        {"choices": [{"text": "a", "index": "x"}]},
    ],
)
def test_another_shape_is_an_error_that_the_client_takes_for_the_servers(odd):
    with pytest.raises((AttributeError, KeyError, TypeError, ValueError)):
        list(chat.chunks(odd))


# Usage

COUNTED = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}


def test_usage_on_the_chunk_with_the_finish_reason():
    payload = {"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}], "usage": COUNTED}
    assert chunks(chat, payload) == ([Chunk("a", finish_reason="stop", usage=Usage(5, 2, 7))], "")


def test_usage_on_an_extra_last_chunk_without_choices():
    assert chunks(chat, {"choices": [], "usage": COUNTED}) == ([Chunk(usage=Usage(5, 2, 7))], "")


@pytest.mark.parametrize(
    "payload", [{"choices": [{"delta": {"content": "a"}}]}, {"choices": [{"delta": {"content": "a"}}], "usage": None}]
)
def test_usage_that_is_never_told_is_none(payload):
    assert chunks(chat, payload) == ([Chunk("a")], "")


def test_usage_of_several_choices_is_told_once():
    got, _ = chunks(completions, {"choices": [{"text": "a"}, {"text": "b"}], "usage": COUNTED})
    assert [chunk.usage for chunk in got] == [Usage(5, 2, 7), None]


@pytest.mark.parametrize(
    ("more", "usage"),
    [
        ({"reasoning_tokens": 0, "cached_tokens": 3}, Usage(5, 2, 7, 0, 3)),
        ({"prompt_tokens_details": None}, Usage(5, 2, 7)),
        (
            {"prompt_tokens_details": {"cached_tokens": 3}, "completion_tokens_details": {"reasoning_tokens": 1}},
            Usage(5, 2, 7, 1, 3),
        ),
        ({"cached_tokens": 0, "prompt_tokens_details": {"cached_tokens": 3}}, Usage(5, 2, 7, None, 0)),
        ({"prompt_tokens_details": [], "completion_tokens_details": "x"}, Usage(5, 2, 7)),
        ({"total_tokens": None}, Usage(5, 2, 7)),
        ({"prompt_tokens": 0, "total_tokens": 2}, Usage(0, 2, 2)),
    ],
)
def test_what_usage_tells_beside_is_read(more, usage):
    (chunk,), _ = chunks(chat, {"choices": [], "usage": {**COUNTED, **more}})
    assert chunk.usage == usage


@pytest.mark.parametrize(
    "counted", [{}, "7", 7, {"prompt_tokens": 5}, {"prompt_tokens": None, "completion_tokens": 2}, {"total_tokens": 7}]
)
def test_nothing_is_guessed_from_a_count_that_is_not_whole(counted):
    assert chunks(chat, {"choices": [], "usage": counted}) == ([Chunk()], "")


# Log-probabilities


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({"logprobs": None}, ()),
        ({}, ()),
        # A number: that token's.
        ({"logprobs": -0.5, "delta": {"content": "a", "token_id": 7}}, (Token("a", -0.5, 7),)),
        ({"logprobs": 0, "delta": {"content": "a", "token_id": None}}, (Token("a", 0.0),)),
        (
            {"logprobs": -0.5, "top_logprobs": {"b": -2, "a": -0.5, "c": None}},
            (Token("a", -0.5, None, (("a", -0.5), ("b", -2.0))),),
        ),
        # An object of arrays.
        (
            {"logprobs": {
                "tokens": ["a", "b"], "token_logprobs": [None, -1.5], "token_ids": [7, None],
                "top_logprobs": [None, [{"token": "c", "logprob": -2}, {"token": "b", "logprob": -1.5}]],
            }},
            (Token("a", None, 7), Token("b", -1.5, None, (("b", -1.5), ("c", -2.0)))),
        ),
        ({"logprobs": {"tokens": ["a"], "token_logprobs": [-1.0], "top_logprobs": [{"a": -1, "b": -3}]}}, (Token("a", -1.0, None, (("a", -1.0), ("b", -3.0))),)),
        ({"logprobs": {"tokens": ["a"], "token_logprobs": [-1.0], "top_logprobs": [[{"a": -1, "b": -3}]]}}, (Token("a", -1.0, None, (("a", -1.0), ("b", -3.0))),)),
        ({"logprobs": {"tokens": ["a", "b"], "token_logprobs": [-1.0]}}, (Token("a", -1.0), Token("b", None))),
        ({"logprobs": {"tokens": None}}, ()),
        # OpenAI's.
        (
            {"logprobs": {"content": [{"token": "a", "logprob": -1.0, "bytes": [97], "top_logprobs": [{"token": "a", "logprob": -1.0}]}]}},
            (Token("a", -1.0, None, (("a", -1.0),)),),
        ),
        ({"logprobs": {"content": []}}, ()),
        ({"logprobs": "?"}, ()),
    ],
)  # fmt: skip
def test_every_shape_of_logprobs_is_read(fields, tokens):
    assert choice(chat, **{"delta": {"content": "a"}, **fields}).tokens == tokens


def test_tokens_are_those_of_the_answer_not_of_the_thinking():
    fields = {"delta": {"content": "", "reasoning": "Hm"}, "logprobs": {"tokens": ["Hm"], "token_logprobs": [-1.0]}}
    assert choice(chat, **fields).tokens == ()


def test_half_a_character_in_a_token_is_replaced():
    logprobs = {"tokens": ["\ud83d"], "token_logprobs": [-1.0], "top_logprobs": [{"\ud83d": -1.0}]}
    assert choice(completions, text="\ud83d", logprobs=logprobs).tokens == (
        Token("\ufffd", -1.0, None, (("\ufffd", -1.0),)),
    )


# Errors within a stream


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("overloaded", "The server broke the answer off with an error: overloaded."),
        (
            {"message": "overloaded", "type": "server_error"},
            "The server broke the answer off with an error: overloaded.",
        ),
        ({"message": {"message": "deep"}}, "The server broke the answer off with an error: deep."),
        ("[object Object]", "The server broke the answer off with an error and did not say why."),
        ({"code": 500}, "The server broke the answer off with an error and did not say why."),
        (500, "The server broke the answer off with an error: 500."),
    ],
)
def test_an_error_in_a_200_stream_is_an_error_in_both_shapes(error, message):
    assert chunks(chat, {"error": error}) == ([], message)
    text_and_error = {"choices": [{"delta": {"content": "a"}, "error": error, "finish_reason": "error"}]}
    assert chunks(chat, text_and_error) == ([Chunk("a", finish_reason="error")], message)


def test_what_a_server_says_beside_its_answer_is_cut():
    words = "w" * 100_000
    choice = {"delta": {"content": words}, "finish_reason": words}
    (chunk,) = DIALECTS["chat"].chunks({"id": words, "model": words, "choices": [choice]})
    assert chunk.text == words
    assert max(map(len, (chunk.id, chunk.model, chunk.finish_reason))) <= 1000
    with pytest.raises(StreamError) as raised:
        list(DIALECTS["chat"].chunks({"error": {"message": words}}))
    assert len(raised.value.message) < 1000


def test_a_finish_reason_that_is_an_error_is_one_without_words_too():
    got, message = chunks(chat, {"choices": [{"delta": {"content": "a"}, "finish_reason": "error"}]})
    assert got == [Chunk("a", finish_reason="error")]
    assert message == "The server broke the answer off with an error and did not say why."


def test_an_error_says_that_what_came_is_kept():
    with pytest.raises(StreamError) as broken:
        list(chat.chunks({"error": "x"}))
    assert broken.value.hint == "What came before it is kept."


@pytest.mark.parametrize("nothing", [None, "", {}, []])
def test_an_error_of_nothing_is_none(nothing):
    payload = {"error": nothing, "choices": [{"delta": {"content": "a"}, "error": nothing}]}
    assert chunks(chat, payload) == ([Chunk("a")], "")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"id": "x", "error": {"message": "no", "type": "t"}}, "no"),
        ({"error": {"message": {"message": "no", "code": 400}}}, "no"),
        ({"error": "no"}, "no"),
        ({"detail": "no"}, "no"),
        ({"message": " no \n"}, "no"),
        ({"detail": [{"loc": ["n"]}]}, "[{'loc': ['n']}]"),
        ("no", "no"), (None, ""), ({}, ""), ({"error": {}}, ""), ({"error": None}, ""),
    ],
)  # fmt: skip
def test_the_servers_words_are_found_in_whatever_wrapping(body, words):
    assert error_message(body) == words


# What was recorded

recorded = pytest.mark.skipif(not RECORDINGS, reason="TOGETHER_NB_RECORDINGS names no folder of recorded replies")


def played(name, seed=None):
    """The recorded stream as a completion; cut into pieces by `seed`, or whole."""
    body = json.loads((Path(RECORDINGS) / f"{name}.json").read_text())["body"].encode()
    pieces, dice = [body], random.Random(seed)
    if seed is not None:
        edges = [0, *sorted(dice.sample(range(len(body)), 200)), len(body)]
        pieces = [body[start:end] for start, end in itertools.pairwise(edges)]
    payloads, accumulator, message = Payloads(pieces), Accumulator(CompletionRequest("", "m", "chat")), ""
    try:
        for payload in payloads:
            for chunk in chat.chunks(payload):
                accumulator.add(chunk)
    except StreamError as error:
        message = error.message
    return accumulator.completion(Timings(None, 0.0)), payloads.terminated, message


def matches(expected, text):
    """Whether `text` is what is expected, "…" standing for anything."""
    return re.fullmatch(".*".join(map(re.escape, expected.split("…"))), text, re.DOTALL) is not None


@recorded
@pytest.mark.parametrize(
    ("name", "text", "reasoning", "reason", "usage"),
    [
        ("chat-stop", "Canada ", "", "stop", Usage(22, 2, 24)),
        ("chat-reasoning-text", "Hello", 'The user says: "Say hello. Use only one word." They want … So final answer: Hello.', "stop", Usage(75, 77, 152, 0)),
        ("chat-reasoning-length", "", "We need to explain theory of relativity in great detail. That", "length", Usage(77, 16, 93, 0)),
        ("chat-logprobs-arrays", "Hello", "We need to output a greeting, … That satisfies constraints.", "stop", Usage(75, 40, 115, 0)),
        ("chat-logprobs-number", '<think>\nOkay, the user said "Say hello. … Just say Hello.\n</think>\n\nHello', "", "stop", Usage(18, 65, 83, 0)),
        ("chat-nonascii", "I'll call the `best_country` tool … Let me check for you.\n\n", "The user is asking … to find out.", "tool_calls", Usage(422, 159, 581, 41)),
        ("chat-tool-calls", "", "The user wants to compute sqrt(132413) using the provided tool. We should call the function.", "tool_calls", Usage(152, 41, 193, 0)),
        ("chat-warnings", "analysisWe need to call function …assistantfinal363.8546911689189", "", "tool_calls", Usage(152, 55, 207, 0)),
    ],
)  # fmt: skip
def test_recorded_streams_are_read_whole(name, text, reasoning, reason, usage):
    answer, terminated, message = played(name)
    assert (terminated, message, answer.finish_reason, answer.usage) == (True, "", reason, usage)
    assert matches(text, answer.text)
    assert matches(reasoning, answer.reasoning)


@recorded
@pytest.mark.parametrize("seed", range(5))
def test_a_recorded_stream_in_pieces_is_the_same(seed):
    for path in sorted(Path(RECORDINGS).glob("chat-*.json")):
        assert played(path.stem, seed) == played(path.stem)


@recorded
@pytest.mark.parametrize("name", ["chat-logprobs-arrays", "chat-logprobs-number"])
def test_recorded_tokens_are_the_text_and_their_probabilities_are_some(name):
    answer, _, _ = played(name)
    assert answer.text != ""
    assert "".join(token.text for token in answer.tokens) == answer.text
    for token in answer.tokens:
        assert 0 < math.exp(token.logprob) <= 1
        assert list(token.top) == sorted(token.top, key=lambda pair: -pair[1])


@recorded
def test_a_recorded_error_in_mid_stream_is_one():
    answer, terminated, message = played("chat-error-midstream")
    assert message == "The server broke the answer off with an error and did not say why."
    assert (answer.text, answer.finish_reason, terminated) == ("", "error", False)


@pytest.mark.parametrize(
    "logprobs",
    [{"tokens": 5}, {"tokens": ["x"], "top_logprobs": [[{"token": "x", "logprob": None}]]}, {"content": ["x"]}],
)
def test_log_probabilities_in_a_way_of_their_own_do_not_cost_the_text(logprobs):
    payload = {"choices": [{"index": 0, "delta": {"content": "abc"}, "logprobs": logprobs}]}
    (chunk,) = DIALECTS["chat"].chunks(payload)
    assert (chunk.text, chunk.tokens) == ("abc", ())
