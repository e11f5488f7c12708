"""Real replies of Together's API through a real HTTP server: what was read of each, by its file.

They are not part of the project: ``TOGETHER_NB_RECORDINGS`` names their folder.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import together_nb
from tests.servers import ScriptedServer, silent
from together_nb.config.settings import DEFAULT_MODEL
from together_nb.errors import APIStatusError, AuthenticationError, NotFoundError, RateLimitError, StreamError
from together_nb.values.chunk import Usage
from together_nb.wire.dialects import DIALECTS

FOLDER = os.environ.get("TOGETHER_NB_RECORDINGS", "")
pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(not Path(FOLDER or "-").is_dir(), reason="TOGETHER_NB_RECORDINGS names no folder of recordings"),
]


def recording(name):
    return json.loads((Path(FOLDER) / f"{name}.json").read_text(encoding="utf-8"))


def replays(name, piece=None):
    """A script that replies by the recording's status, headers and body, `piece` bytes at a time."""
    recorded = recording(name)
    body = recorded["body"].encode()
    piece = piece or len(body)

    def script(exchange):
        exchange.chunked().headers(recorded["status"], **recorded["headers"])
        for start in range(0, len(body), piece):
            exchange.send(body[start : start + piece])

    return script


def complete_as_recorded(name, piece=None):
    """What comes of the recording's request at a server that replies with the recording."""
    request = json.loads(recording(name)["request"])
    names = {"messages", "model", "max_tokens", "stop", "logprobs"} & set(request)
    options = {"api": "chat", "api_key": "sk-secret-0123456789abcdef", **{name: request[name] for name in names}}
    with ScriptedServer(replays(name, piece), models=[]) as server:
        try:
            return together_nb.complete(base_url=server.base_url, **options)
        finally:
            assert len(server.requests) == 1


def deltas(name, key):
    """The text under `key` in the recorded events, put together."""
    lines = [line.removeprefix("data: ") for line in recording(name)["body"].split("\n")]
    choices = [choice for line in lines if line.startswith("{") for choice in json.loads(line)["choices"]]
    return "".join(choice["delta"].get(key) or "" for choice in choices)


def between_tags(text):
    """The text after a `<think>` block, and what is in the block."""
    thought, _, said = text.removeprefix("<think>").partition("</think>")
    return said.strip(), thought.strip()


@pytest.mark.parametrize("piece", [None, 1, 100])
@pytest.mark.parametrize(
    ("name", "text", "reasoning", "finish_reason", "usage", "tokens"),
    [
        ("chat-stop", "Canada ", "", "stop", Usage(22, 2, 24), 0),
        ("chat-reasoning-length", "", "in great detail. That", "length", Usage(77, 16, 93, 0), 0),
        ("chat-reasoning-text", "Hello", "So final answer: Hello.", "stop", Usage(75, 77, 152, 0), 0),
        ("chat-nonascii", "check for you.\n\n", "tool to find out.", "tool_calls", Usage(422, 159, 581, 41), 0),
        ("chat-tool-calls", "", "We should call the function.", "tool_calls", Usage(152, 41, 193, 0), 0),
        # The first word counts: `stop` follows twice.
        ("chat-warnings", "assistantfinal363.8546911689189", "", "tool_calls", Usage(152, 55, 207, 0), 0),
        ("chat-logprobs-arrays", "Hello", "That satisfies constraints.", "stop", Usage(75, 40, 115, 0), 1),
        ("chat-logprobs-number", "Hello", "Just say Hello.", "stop", Usage(18, 65, 83, 0), 1),
    ],
)
def test_an_answer_is_read_as_it_was_meant(name, text, reasoning, finish_reason, usage, tokens, piece):
    answer = complete_as_recorded(name, piece)
    sent = (deltas(name, "content"), deltas(name, "reasoning"))
    assert (answer.text, answer.reasoning) == (sent if sent[0][:7] != "<think>" else between_tags(sent[0]))
    assert answer.text.endswith(text)
    assert answer.reasoning.endswith(reasoning)
    assert (answer.text == "", answer.reasoning == "") == (text == "", reasoning == "")
    assert (answer.finish_reason, answer.truncated) == (finish_reason, finish_reason == "length")
    assert answer.usage == usage
    assert answer.model == json.loads(recording(name)["request"])["model"]
    assert (answer.error, answer.cancelled, len(answer.choices)) == ("", False, 1)
    assert len(answer.tokens) == tokens
    assert "".join(token.text for token in answer.tokens) == (answer.text if tokens else "")
    for token in answer.tokens:
        assert token.logprob <= 0
        assert list(token.top) == sorted(token.top, key=lambda pair: -pair[1])


def test_log_probabilities_in_arrays_and_as_numbers_then_in_arrays():
    (token,) = complete_as_recorded("chat-logprobs-arrays").tokens
    assert [text for text, _ in token.top] == ["Hello", "hello"]
    events = [
        json.loads(line[6:]) for line in recording("chat-logprobs-number")["body"].split("\n") if '"delta"' in line
    ]
    read = [chunk for payload in events for chunk in DIALECTS["chat"].chunks(payload)]
    first, second, third, fourth = [token for chunk in read for token in chunk.tokens][:4]
    assert (first.text, first.logprob, first.id, first.top) == ("<think>", 0.0, 128798, ())
    assert (second.text, second.logprob, second.id) == ("\n", -0.0000017881393, 201)
    assert (third.text, third.logprob) == ("Okay", -0.0015271039446815848)
    assert third.top == (("Okay", -0.0015271039446815848), ("Hmm", -6.486222743988037))
    assert (fourth.text, fourth.logprob) == (",", -3.576278118089249e-7)


@pytest.mark.parametrize(
    ("name", "kind", "words", "hint"),
    [
        ("error-400", APIStatusError, '"auto" tool choice requires --enable-auto-tool-choice', "--dry-run"),
        ("error-401", AuthenticationError, "Invalid API key provided", "the argument api_key, ending in …cdef"),
        ("error-404", NotFoundError, "Unable to access model bad model.", "`%together models`"),
        ("error-429", RateLimitError, "60 RPM (1 QPS)", "limits: requests 1 (0 left), tokens 1000 (1000 left)."),
        ("error-500", APIStatusError, "Internal server error", "Wait a little"),
        ("error-521", APIStatusError, "error code: 521", "Wait a little"),
    ],
)
def test_an_error_is_told_in_the_servers_words(name, kind, words, hint):
    with pytest.raises(APIStatusError) as caught:
        complete_as_recorded(name)
    assert type(caught.value) is kind
    assert caught.value.status == recording(name)["status"]
    assert words in caught.value.message
    assert hint in caught.value.hint


def test_an_error_in_mid_stream_is_told():
    with pytest.raises(StreamError, match="did not say why") as caught:
        complete_as_recorded("chat-error-midstream")
    assert (caught.value.completion.text, caught.value.completion.finish_reason) == ("", "error")


def test_the_list_of_models():
    with ScriptedServer(silent(), models=replays("models")) as server:
        rows = {row.id: row for row in together_nb.models(base_url=server.base_url)}
        together_nb.stream("Tell", base_url=server.base_url, model="Qwen/Qwen2-7B")
        assert server.lists == 1
    assert len(rows) == 66
    assert sum(row.writes_text for row in rows.values()) == 45
    default = rows[DEFAULT_MODEL]
    assert default.writes_text
    assert (default.type, default.price, default.context_length) == ("chat", (1.04, 1.04), 131072)
    assert rows["deepseek-ai/DeepSeek-V4-Flash-0731"].price == (0.14, 0.28)
    assert rows["Prism-ML/Ternary-Bonsai-27B"].price is None
    assert (rows["meta-llama/Meta-Llama-3.1-8B"].api, rows["facebook/cwm"].api) == ("completions", "completions")
    assert rows["cartesia/sonic"].context_length is None


def test_a_model_that_the_list_does_not_have_is_answered_with_its_neighbours():
    with ScriptedServer(replays("error-404"), models=replays("models")) as server:
        with pytest.raises(NotFoundError) as caught:
            together_nb.complete("Hi", base_url=server.base_url, model="openai/gpt-oss-20", api="chat")
        assert caught.value.hint == "Did you mean openai/gpt-oss-20b?"
