"""Real replies of Together's API through a real HTTP server: what was read of each, by its file.

They are not part of the project: ``TOGETHER_NB_RECORDINGS`` names their folder.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.servers import ScriptedServer, silent
from together_nb import complete, models, stream
from together_nb.completion import Usage
from together_nb.config import DEFAULT_MODEL
from together_nb.errors import (
    APIStatusError,
    AuthenticationError,
    NotFoundError,
    RateLimitError,
    StreamError,
)

FOLDER = os.environ.get("TOGETHER_NB_RECORDINGS", "")
pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(not Path(FOLDER or "-").is_dir(), reason="TOGETHER_NB_RECORDINGS names no folder of recordings"),
]

ANSWERS = {
    "chat-stop": ("Canada ", "", "stop", Usage(22, 2, 24), 0),
    "chat-reasoning-length": (
        "",
        "We need to explain theory of relativity in great detail. That",
        "length",
        Usage(77, 16, 93, 0),
        0,
    ),
    "chat-reasoning-text": (
        "Hello",
        (
            'The user says: "Say hello. Use only one word." They want the assistant to respond with one word saying '
            'hello. Probably "Hello" or "Hi". Since "Say hello" can be "Hello" itself. Use only one word. So output '
            '"Hello". Ensure no other words. So final answer: Hello.'
        ),
        "stop",
        Usage(75, 77, 152, 0),
        0,
    ),
    "chat-nonascii": (
        "I'll call the `best_country` tool to find out which country is the best. Let me check for you.\n\n",
        (
            "The user is asking whether Canada is a better country than the USA and wants me to use the best_country "
            "tool to determine which country is the best. Let me call the tool to find out."
        ),
        "tool_calls",
        Usage(422, 159, 581, 41),
        0,
    ),
    "chat-tool-calls": (
        "",
        "The user wants to compute sqrt(132413) using the provided tool. We should call the function.",
        "tool_calls",
        Usage(152, 41, 193, 0),
        0,
    ),
    "chat-warnings": (
        "analysisWe need to call function square_root with number 132413.assistantfinal363.8546911689189",
        "",
        "tool_calls",  # the first word counts: `stop` follows twice
        Usage(152, 55, 207, 0),
        0,
    ),
    "chat-logprobs-arrays": (
        "Hello",
        (
            "We need to output a greeting, using only one word. So must say hello. Use only one word: "
            '"Hello". That satisfies constraints.'
        ),
        "stop",
        Usage(75, 40, 115, 0),
        1,
    ),
    "chat-logprobs-number": (
        (
            '<think>\nOkay, the user said "Say hello. Use only one word." So I need to respond with just one word. The '
            'simplest greeting is "Hello." Let me check if that\'s the only word needed. Yep, "Hello" is one word. No '
            "need for anything else. Just say Hello.\n</think>\n\nHello"
        ),
        "",
        "stop",
        Usage(18, 65, 83, 0),
        66,
    ),
}

ERRORS = {
    "error-400": (
        APIStatusError,
        (
            "The server did not accept the request (HTTP 400). "
            '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
        ),
        "Look at what was sent with --dry-run.",
    ),
    "error-401": (
        AuthenticationError,
        (
            "The server did not accept the key (HTTP 401). Invalid API key provided. You can find your API key at "
            "https://api.together.ai/settings/api-keys."
        ),
        "The key came from the argument api_key, ending in …cdef. Give another one with `%together login`.",
    ),
    "error-404": (
        NotFoundError,
        (
            "The server has no such model or address (HTTP 404). Unable to access model bad model. Please visit "
            "https://api.together.ai/models to view the list of supported models."
        ),
        "`%together models` lists the models; check the base URL too.",
    ),
    "error-429": (
        RateLimitError,
        (
            "Too many requests or tokens (HTTP 429). Request was rejected due to request rate limiting. Your rate limits "
            "are 60 RPM (1 QPS) and 60000 TPM (1000 TPS). See details: https://docs.together.ai/docs/rate-limits"
        ),
        "Wait a little and run it again. Its limits: requests 1 (0 left), tokens 1000 (1000 left).",
    ),
    "error-500": (
        APIStatusError,
        "The server failed (HTTP 500). Internal server error",
        "Wait a little and run it again.",
    ),
    "error-521": (
        APIStatusError,
        "The server failed (HTTP 521). error code: 521",
        "Wait a little and run it again.",
    ),
}


def recorded(name):
    return json.loads((Path(FOLDER) / f"{name}.json").read_text(encoding="utf-8"))


def replayed(name, *, piece=None):
    """A script that replies by the recording's status, headers and body, `piece` bytes at a time."""
    recording = recorded(name)
    body = recording["body"].encode()

    def script(exchange):
        exchange.chunked().headers(recording["status"], **recording["headers"])
        for start in range(0, len(body), piece or len(body)):
            exchange.send(body[start : start + (piece or len(body))])

    return script


def asked(name, server):
    """What the recording's request asked, asked of `server`."""
    request = json.loads(recorded(name)["request"])
    return complete(
        messages=request["messages"],
        model=request["model"],
        base_url=server.base_url,
        api="chat",
        api_key="sk-secret-0123456789abcdef",
        max_tokens=request.get("max_tokens"),
        stop=request.get("stop"),
        logprobs=request.get("logprobs"),
    )


@pytest.mark.parametrize("piece", [None, 1, 100])
@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_read_as_it_was_meant(name, piece):
    text, reasoning, finish_reason, usage, tokens = ANSWERS[name]
    with ScriptedServer(replayed(name, piece=piece)) as server:
        answer = asked(name, server)
        assert len(server.requests) == 1
    assert answer.text == text
    assert answer.reasoning == reasoning
    assert answer.finish_reason == finish_reason
    assert answer.usage == usage
    assert len(answer.tokens) == tokens
    assert answer.model == json.loads(recorded(name)["request"])["model"]
    assert answer.truncated is (finish_reason == "length")
    assert (answer.error, answer.cancelled, len(answer.choices)) == ("", False, 1)


def test_log_probabilities_in_arrays():
    with ScriptedServer(replayed("chat-logprobs-arrays")) as server:
        (token,) = asked("chat-logprobs-arrays", server).tokens
    assert token.text == "Hello"
    assert token.logprob < 0
    assert [text for text, _ in token.top] == ["Hello", "hello"]


def test_log_probabilities_as_numbers_then_in_arrays():
    with ScriptedServer(replayed("chat-logprobs-number")) as server:
        answer = asked("chat-logprobs-number", server)
    first, second, third, fourth = answer.tokens[:4]
    assert (first.text, first.logprob, first.id, first.top) == ("<think>", 0.0, 128798, ())
    assert (second.text, second.logprob, second.id) == ("\n", -0.0000017881393, 201)
    assert (third.text, third.logprob) == ("Okay", -0.0015271039446815848)
    assert third.top == (("Okay", -0.0015271039446815848), ("Hmm", -6.486222743988037))
    assert (fourth.text, fourth.logprob) == (",", -3.576278118089249e-7)
    assert "".join(token.text for token in answer.tokens) == answer.text


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_told_in_the_servers_words(name):
    kind, message, hint = ERRORS[name]
    with ScriptedServer(replayed(name), models=[]) as server:
        with pytest.raises(APIStatusError) as caught:
            asked(name, server)
        assert len(server.requests) == 1
    assert type(caught.value) is kind
    assert caught.value.status == recorded(name)["status"]
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_an_error_in_mid_stream_is_told():
    with ScriptedServer(replayed("chat-error-midstream")) as server:
        with pytest.raises(StreamError) as caught:
            asked("chat-error-midstream", server)
        assert len(server.requests) == 1
    assert caught.value.message == "The server broke the answer off with an error and did not say why."
    assert caught.value.hint == "What came before it is kept."
    assert (caught.value.completion.text, caught.value.completion.finish_reason) == ("", "error")


def test_the_list_of_models():
    with ScriptedServer(silent(), models=replayed("models")) as server:
        rows = {row.id: row for row in models(base_url=server.base_url)}
        stream("Tell", base_url=server.base_url, model="Qwen/Qwen2-7B")
        assert server.lists == 1
    assert len(rows) == 66
    assert sum(row.writes_text for row in rows.values()) == 45
    default = rows[DEFAULT_MODEL]
    assert (default.type, default.price, default.context_length) == ("chat", (1.04, 1.04), 131072)
    assert rows["deepseek-ai/DeepSeek-V4-Flash-0731"].price == (0.14, 0.28)
    assert rows["Prism-ML/Ternary-Bonsai-27B"].price is None
    assert (rows["meta-llama/Meta-Llama-3.1-8B"].api, rows["facebook/cwm"].api) == ("completions", "completions")
    assert rows["cartesia/sonic"].context_length is None


def test_a_model_that_the_list_does_not_have_is_answered_with_its_neighbours():
    with (
        ScriptedServer(replayed("error-404"), models=replayed("models")) as server,
        pytest.raises(NotFoundError) as caught,
    ):
        complete("Hi", base_url=server.base_url, model="openai/gpt-oss-20", api="chat")
    assert caught.value.hint == "Did you mean openai/gpt-oss-20b?"


def test_every_recording_has_a_test():
    names = {path.stem for path in Path(FOLDER).glob("*.json")} - {"cases"}  # situations, which are no recorded replies
    assert names == {*ANSWERS, *ERRORS, "chat-error-midstream", "models"}
