"""The embedded engine's HTTP face, spoken to by curl, by the tutorial's script and by the official clients."""

from __future__ import annotations

import http.client
import json
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest
import requests
import sseclient
import together

from together_nb.local import server as server_module
from together_nb.local.handler import MAX_BODY
from together_nb.local.ngram import train
from together_nb.local.server import LocalServer, running_server
from together_nb.params import PARAMETERS

MODEL = "local/ngram"
PATHS = {"inference": "/inference", "completions": "/v1/completions", "chat": "/v1/chat/completions"}
TUTORIAL = "togethercomputer/RedPajama-INCITE-7B-Instruct"


@pytest.fixture(scope="module")
def server():
    with LocalServer() as running:
        yield running


@pytest.fixture(scope="module")
def any_model():
    with LocalServer(any_model=True) as running:
        yield running


@pytest.fixture
def own():
    """Starts servers of a test's own, and stops them."""
    servers = []

    def start(**options):
        servers.append(LocalServer(**options).start())
        return servers[-1]

    yield start
    for running in servers:
        running.stop()


def asked(dialect, **values):
    text = {"messages": [{"role": "user", "content": "Alan Turing was"}]} if dialect == "chat" else {}
    return {"model": MODEL, "seed": 1, "max_tokens": 8, **(text or {"prompt": "Alan Turing was"}), **values}


def post(server, dialect, **values):
    return requests.post(server.base_url + PATHS[dialect], json=asked(dialect, **values), timeout=60)


def events(response):
    """The payloads of a stream, and whether it ended with its terminator."""
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"].startswith("text/event-stream")
    *payloads, last, rest = response.text.split("\n\n")
    assert rest == ""
    assert last == "data: [DONE]"
    return [json.loads(payload.removeprefix("data: ")) for payload in payloads]


def streamed(server, dialect, **values):
    switch = "stream_tokens" if dialect == "inference" else "stream"
    return events(post(server, dialect, **{switch: True}, **values))


def text_of(dialect, body, index=0):
    if dialect == "inference":
        return body["output"]["choices"][index]["text"]
    choice = body["choices"][index]
    return choice["message"]["content"] if dialect == "chat" else choice["text"]


def joined(payloads, index=0):
    choices = [choice for payload in payloads for choice in payload["choices"]]
    return "".join(choice["text"] for choice in choices if choice.get("index", 0) == index)


# The tutorial


def curl(*arguments):
    done = subprocess.run(["curl", "-sS", "-N", *arguments], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    return done.stdout


def test_the_tutorials_curl_command_streams_its_events(any_model):
    body = {
        "model": TUTORIAL, "prompt": "Alan Turing was", "max_tokens": 128, "stop": ["\n\n"], "temperature": 0.7,
        "top_p": 0.7, "top_k": 50, "repetition_penalty": 1, "stream_tokens": True,
    }  # fmt: skip
    out = curl(
        "-X", "POST", any_model.base_url + "/inference",
        "-H", "accept: application/json", "-H", "content-type: application/json", "-d", json.dumps(body),
    )  # fmt: skip
    *lines, done = [line for line in out.split("\n") if line]
    assert done == "data: [DONE]"
    exactly = re.compile(
        r'data: \{"choices":\[\{"text":".+"\}\],"result_type":"language-model-inference","id":"[0-9a-f]{64}"\}'
    )
    assert all(exactly.fullmatch(line) for line in lines[:-1])
    payloads = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert len({payload["id"] for payload in payloads}) == 1
    (end,) = payloads[-1]["choices"]
    assert end["text"] == ""
    assert end["finish_reason"] in {"stop_sequence", "eos_token", "length"}
    assert joined(payloads).startswith(" born")
    assert "\n\n" not in joined(payloads)


def test_the_tutorials_python_script_prints_a_story(any_model):
    response = requests.post(
        any_model.base_url + "/inference",
        json={
            "model": "togethercomputer/RedPajama-INCITE-7B-Chat", "prompt": "Tell me a story\n\n", "max_tokens": 512,
            "temperature": 0.7, "top_p": 0.7, "top_k": 50, "repetition_penalty": 1, "stream_tokens": True,
        },
        headers={"accept": "application/json", "content-type": "application/json"},
        stream=True,
        timeout=60,
    )  # fmt: skip
    response.raise_for_status()
    client = sseclient.SSEClient(response)
    story = ""
    for event in client.events():
        if event.data == "[DONE]":
            break
        story += json.loads(event.data)["choices"][0]["text"]
    else:
        pytest.fail("the stream ended without [DONE]")
    assert len(story) > 20


def test_the_tutorials_models_are_not_this_one(server):
    response = post(server, "inference", model=TUTORIAL)
    assert response.status_code == 404
    assert MODEL in response.json()["error"]["message"]


# The official clients


@pytest.fixture(params=[openai.OpenAI, together.Together], ids=["openai", "together"])
def client(request, server):
    # The together client adds /v1 itself, openai's does not.
    suffix = "/v1" if request.param is openai.OpenAI else ""
    with request.param(base_url=server.base_url + suffix, api_key="any") as made:
        yield made


def test_an_official_client_completes(client):
    made = client.completions.create(model=MODEL, prompt="Alan Turing was", max_tokens=5, seed=1)
    assert made.choices[0].text.startswith(" born")
    assert made.choices[0].finish_reason == "length"
    assert (made.usage.prompt_tokens, made.usage.completion_tokens) == (3, 5)
    assert made.model == MODEL
    stream = client.completions.create(model=MODEL, prompt="Alan Turing was", max_tokens=5, seed=1, stream=True)
    chunks = list(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks) == made.choices[0].text
    assert chunks[-1].usage.completion_tokens == 5


def test_an_official_client_chats(client):
    ask = {"model": MODEL, "messages": [{"role": "user", "content": "Tell me a story"}], "max_tokens": 5, "seed": 1}
    made = client.chat.completions.create(**ask)
    assert made.choices[0].message.role == "assistant"
    assert made.choices[0].message.content
    chunks = list(client.chat.completions.create(**ask, stream=True))
    assert chunks[0].choices[0].delta.content == ""
    deltas = [choice.delta.content for chunk in chunks for choice in chunk.choices]
    assert "".join(deltas) == made.choices[0].message.content
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 5
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices][-1] == "length"


def test_openais_client_reads_the_logprobs_it_asked_for(server):
    with openai.OpenAI(base_url=server.base_url + "/v1", api_key="any") as client:
        made = client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Hi"}], logprobs=True, top_logprobs=3, max_tokens=4
        )
        content = made.choices[0].logprobs.content
        assert "".join(token.token for token in content) == made.choices[0].message.content
        assert [len(token.top_logprobs) for token in content] == [3] * 4
        assert bytes(content[0].bytes).decode() == content[0].token


def test_an_official_client_raises_its_own_errors(client):
    module = openai if isinstance(client, openai.OpenAI) else together
    with pytest.raises(module.NotFoundError, match="Unable to access model"):
        client.completions.create(model="no/such", prompt="Hi")
    with pytest.raises(module.UnprocessableEntityError, match="temperature"):
        client.completions.create(model=MODEL, prompt="Hi", temperature=-1)


def test_openais_client_retrieves_the_model(server):
    with openai.OpenAI(base_url=server.base_url + "/v1", api_key="any") as client:
        assert client.models.retrieve(MODEL).id == MODEL
        # Its models.list() takes {"data": …} only; the bare array is Together's form.
        assert [row["id"] for row in client.get("/models", cast_to=object)] == [MODEL]


# Models


@pytest.mark.parametrize("path", ["/v1/models", "/models", "/v1/models/"])
def test_the_models_are_a_bare_array_of_one(server, path):
    response = requests.get(server.base_url + path, timeout=60)
    (row,) = response.json()
    assert response.headers["Content-Type"].startswith("application/json")
    assert (row["id"], row["type"], row["object"], row["organization"]) == (MODEL, "language", "model", "together_nb")
    assert set(row["pricing"].values()) == {0}
    assert row["context_length"] > 0


@pytest.mark.parametrize("path", ["/v1/models/local/ngram", "/v1/models/local%2Fngram"])
def test_a_model_is_found_by_its_id(server, path):
    assert requests.get(server.base_url + path, timeout=60).json()["id"] == MODEL


# The dialects


@pytest.mark.parametrize("dialect", PATHS)
def test_streaming_and_not_give_the_same_text_and_count(server, dialect):
    whole = post(server, dialect).json()
    payloads = streamed(server, dialect)
    assert joined(payloads) == text_of(dialect, whole) != ""
    usage = whole["output"]["usage"] if dialect == "inference" else whole["usage"]
    assert payloads[-1]["usage"] == usage
    assert usage["completion_tokens"] == 8
    assert usage["total_tokens"] == usage["prompt_tokens"] + 8


@pytest.mark.parametrize("dialect", PATHS)
@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_paths_work_with_v1_and_without(server, dialect, prefix):
    path = prefix + PATHS[dialect].removeprefix("/v1")
    assert requests.post(server.base_url + path, json=asked(dialect), timeout=60).status_code == 200


def test_a_chat_streams_in_togethers_form(server):
    first, *middle, end, usage = streamed(server, "chat", max_tokens=3)
    assert first["choices"][0]["delta"] == {"token_id": None, "role": "assistant", "content": ""}
    assert first["object"] == "chat.completion.chunk"
    assert len(middle) == 3
    for chunk in middle:
        (choice,) = chunk["choices"]
        assert choice["delta"]["content"] == choice["text"] != ""
        assert isinstance(choice["delta"]["token_id"], int)
        assert choice["finish_reason"] is None
        assert chunk["usage"] is None
    assert end["choices"][0]["finish_reason"] == "length"
    assert usage["choices"] == []
    assert {chunk["model"] for chunk in (first, *middle, end, usage)} == {MODEL}


def test_each_event_is_one_token(server):
    payloads = streamed(server, "completions", max_tokens=20, logit_bias={"0": -100})
    assert len([payload for payload in payloads if payload["choices"][0]["text"]]) == 20


@pytest.mark.parametrize("dialect", PATHS)
def test_n_answers_are_interleaved_and_seeded_one_after_another(server, dialect):
    payloads = streamed(server, dialect, n=3, max_tokens=12)
    order = [
        payload["choices"][0]["index"]
        for payload in payloads
        if payload["choices"] and joined([payload], 0) + joined([payload], 1) + joined([payload], 2)
    ]
    assert order[:6] == [0, 1, 2, 0, 1, 2]
    whole = post(server, dialect, n=3, max_tokens=12).json()
    for index in range(3):
        alone = text_of(dialect, post(server, dialect, seed=1 + index, max_tokens=12).json())
        assert text_of(dialect, whole, index) == joined(payloads, index) == alone
    assert payloads[-1]["usage"]["completion_tokens"] == 36


@pytest.mark.parametrize("dialect", PATHS)
def test_logprobs_come_in_togethers_arrays(server, dialect):
    whole = post(server, dialect, logprobs=2).json()
    choice = (whole["output"] if dialect == "inference" else whole)["choices"][0]
    told = choice["logprobs"]
    assert "".join(told["tokens"]) == text_of(dialect, whole)
    assert len(told["token_logprobs"]) == len(told["token_ids"]) == len(told["top_logprobs"]) == 8
    assert all(set(top) == {"token", "logprob"} for alternatives in told["top_logprobs"] for top in alternatives)
    assert {len(alternatives) for alternatives in told["top_logprobs"]} == {2}
    parts = [
        payload["choices"][0]["logprobs"] for payload in streamed(server, dialect, logprobs=2) if payload["choices"]
    ]
    assert [token for part in parts if part for token in part["tokens"]] == told["tokens"]
    assert [value for part in parts if part for value in part["token_logprobs"]] == told["token_logprobs"]


@pytest.mark.parametrize(("given", "told"), [({}, None), ({"logprobs": False}, None), ({"logprobs": 0}, [[]] * 8)])
def test_logprobs_unset_are_null_and_zero_has_no_alternatives(server, given, told):
    logprobs = post(server, "chat", **given).json()["choices"][0]["logprobs"]
    assert (logprobs and logprobs["top_logprobs"]) == told


@pytest.mark.parametrize("dialect", PATHS)
def test_echo_puts_the_prompt_first_and_does_not_count_it_twice(server, dialect):
    plain, echoed = (post(server, dialect, echo=echo).json() for echo in (False, True))
    prompt = "Alan Turing was\n\n" if dialect == "chat" else "Alan Turing was"
    assert text_of(dialect, echoed) == prompt + text_of(dialect, plain)
    assert joined(streamed(server, dialect, echo=True)) == text_of(dialect, echoed)
    usage = (echoed["output"] if dialect == "inference" else echoed)["usage"]
    assert usage["completion_tokens"] == 8


@pytest.mark.parametrize("dialect", PATHS)
def test_a_stop_text_is_told_as_the_reason(server, dialect):
    whole = post(server, dialect, max_tokens=50).json()
    stop = text_of(dialect, whole)[20:30]
    cut = post(server, dialect, max_tokens=50, stop=stop).json()
    choice = (cut["output"] if dialect == "inference" else cut)["choices"][0]
    assert text_of(dialect, cut) == text_of(dialect, whole).split(stop)[0]
    assert choice["finish_reason"] == ("stop_sequence" if dialect == "inference" else "stop")


def test_the_models_own_end_is_told_as_eos(own):
    small = own(model=train(["The cat sat."]))
    assert post(small, "completions", prompt="The", temperature=0).json()["choices"][0]["finish_reason"] == "eos"
    end = streamed(small, "inference", prompt="The", temperature=0)[-1]
    assert end["choices"][0]["finish_reason"] == "eos_token"


def test_without_a_seed_the_reply_tells_the_seed_that_repeats_it(server):
    first = post(server, "completions", seed=None, max_tokens=40).json()["choices"][0]
    again = post(server, "completions", seed=first["seed"], max_tokens=40).json()["choices"][0]
    assert again["text"] == first["text"]


def test_without_a_seed_replies_differ(server):
    assert (
        len({post(server, "completions", seed=None, max_tokens=40).json()["choices"][0]["text"] for _ in range(5)}) > 1
    )


def test_what_is_null_or_empty_is_unset(server):
    unset = dict.fromkeys(set(PARAMETERS) - {"max_tokens", "seed"}) | {"stop": [], "tools": [], "logit_bias": {}}
    assert post(server, "chat", **unset).json()["choices"] == post(server, "chat").json()["choices"]


def test_zero_is_a_value(server):
    texts = {text_of("completions", post(server, "completions", temperature=0, seed=seed).json()) for seed in range(5)}
    assert len(texts) == 1


def test_every_parameter_reaches_the_model(server):
    told = {
        "max_tokens": 3, "temperature": 0, "top_p": 0, "top_k": 1, "min_p": 1, "repetition_penalty": 50,
        "presence_penalty": 50, "frequency_penalty": 50, "stop": ["the", "a", "in"], "seed": 2,
        "logit_bias": {"1": 100}, "echo": True, "n": 2, "logprobs": 3,
    }  # fmt: skip
    assert set(told) == set(PARAMETERS) - {"reasoning_effort"}

    def answer(**values):
        choices = post(server, "completions", **{"max_tokens": 60, **values}).json()["choices"]
        return [(choice["text"], choice["logprobs"]) for choice in choices]

    for name, value in told.items():
        assert answer(**{name: value}) != answer(), name


@pytest.mark.parametrize(
    ("messages", "prompt"),
    [
        ([{"role": "user", "content": "Hi"}], "Hi\n\n"),
        ([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}], "Be brief.\n\nHi\n\n"),
        ([{"role": "user", "content": [{"type": "text", "text": "A "}, {"type": "text", "text": "b"}]}], "A b\n\n"),
        ([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Once upon"}], "Hi\n\nOnce upon"),
        ([{"role": "system", "content": ""}, {"role": "user", "content": "Hi"}], "Hi\n\n"),
    ],
)
def test_a_conversation_becomes_its_contents_and_blank_lines(server, messages, prompt):
    assert text_of("chat", post(server, "chat", messages=messages, echo=True).json()).startswith(prompt)
    asked_so = post(server, "completions", prompt=prompt).json()
    assert text_of("completions", asked_so) == text_of("chat", post(server, "chat", messages=messages).json())


@pytest.mark.parametrize("prompt", ["Zoë 🦊 said", "日本語", "\ud83d half", "\x00\x1b[31m", "  ", "\n"])
def test_any_text_may_be_a_prompt(server, prompt):
    body = json.dumps({"model": MODEL, "prompt": prompt, "echo": True, "max_tokens": 2})
    response = requests.post(server.base_url + "/v1/completions", data=body, timeout=60)
    assert response.json()["choices"][0]["text"].startswith(prompt)


# Errors


def error_of(response, status):
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) == {"id", "error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    return body["error"]


@pytest.mark.parametrize(
    ("values", "param"),
    [
        ({"temperature": -1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": 1.01}, "top_p"),
        ({"top_k": 1.5}, "top_k"),
        ({"min_p": 2}, "min_p"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"n": 129}, "n"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "logprobs"),
        ({"stop": [""]}, "stop"),
        ({"stop": 5}, "stop"),
        ({"seed": "x"}, "seed"),
        ({"echo": 1}, "echo"),
        ({"stream": "yes"}, "stream"),
        ({"logit_bias": [1]}, "logit_bias"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"1": "x"}}, "logit_bias"),
    ],
)
@pytest.mark.parametrize("dialect", PATHS)
def test_a_parameter_of_the_wrong_type_or_out_of_bounds_is_422_and_named(server, dialect, values, param):
    error = error_of(post(server, dialect, **values), 422)
    assert error["param"] == param
    assert param in error["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b'"text"', b"null", b"\xff\xfe", b"[" * 100_000,
        b'{"model": "local/ngram"}',
        b'{"model": "local/ngram", "prompt": ""}',
        b'{"model": "local/ngram", "prompt": 5}',
        b'{"model": "local/ngram", "prompt": ["a", "b"]}',
        b'{"prompt": "Hi"}',
    ],
)  # fmt: skip
def test_a_body_that_asks_nothing_is_400(server, body):
    error_of(requests.post(server.base_url + "/v1/completions", data=body, timeout=60), 400)


@pytest.mark.parametrize(
    "messages",
    [
        None, [], "Hi", {}, [5], [{}], [{"role": "user"}], [{"content": "Hi"}], [{"role": 5, "content": "Hi"}],
        [{"role": "user", "content": 5}], [{"role": "user", "content": [5]}], [{"role": "user", "content": ""}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
        [{"role": "user", "content": [{"type": "text"}]}],
    ],
)  # fmt: skip
def test_malformed_messages_are_400(server, messages):
    assert error_of(post(server, "chat", messages=messages), 400)["param"] == "messages"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("reasoning_effort", "low"),
        ("tools", [{"type": "function"}]),
        ("temprature", 1),
    ],
)
def test_what_it_cannot_honour_is_400_and_not_ignored(server, key, value):
    error = error_of(post(server, "chat", **{key: value}), 400)
    assert error["param"] == key
    assert "Leave it out" in error["message"]


def test_a_plain_response_format_is_honoured(server):
    assert post(server, "chat", response_format={"type": "text"}).status_code == 200


@pytest.mark.parametrize("dialect", PATHS)
def test_another_model_is_404_and_names_this_one(server, any_model, dialect):
    error = error_of(post(server, dialect, model="no/such"), 404)
    assert error["code"] == "model_not_available"
    assert MODEL in error["message"]
    assert MODEL in post(any_model, dialect, model="no/such").text
    assert post(any_model, dialect, model=None).status_code == 200


@pytest.mark.parametrize(("method", "path", "status"), [
    ("GET", "/", 404), ("GET", "/v1/nothing", 404), ("POST", "/v1/nothing", 404), ("GET", "/v1/models/no/such", 404),
    ("GET", "/v1/completions", 405), ("POST", "/v1/models", 405), ("DELETE", "/v1/models", 501),
])  # fmt: skip
def test_an_unknown_address_or_method_is_an_error_in_json(server, method, path, status):
    error_of(requests.request(method, server.base_url + path, timeout=60), status)


def test_a_prompt_and_answer_beyond_the_context_are_403(server):
    assert error_of(post(server, "completions", max_tokens=131_072), 403)["param"] == "max_tokens"
    assert error_of(post(server, "completions", prompt="a " * 140_000), 403)


def test_a_key_is_asked_for_where_one_was_given(own):
    locked = own(api_key="sk-right")
    for headers in ({}, {"Authorization": "Bearer sk-wrong"}, {"Authorization": "sk-right"}):
        for path in ("/v1/models", "/nothing"):
            error = error_of(requests.get(locked.base_url + path, headers=headers, timeout=60), 401)
            assert error["code"] == "invalid_api_key"
            assert "sk-" not in error["message"]
    right = {"Authorization": "Bearer sk-right"}
    assert requests.get(locked.base_url + "/v1/models", headers=right, timeout=60).status_code == 200


# HTTP


def connection_to(server):
    return http.client.HTTPConnection("127.0.0.1", int(server.base_url.rsplit(":", 1)[1]), timeout=60)


def test_a_connection_is_kept_over_requests_streams_and_errors(server):
    connection = connection_to(server)
    body = json.dumps(asked("completions", stream=True))
    connection.request("GET", "/v1/models")
    connection.getresponse().read()
    kept = connection.sock
    for path, status in (("/v1/completions", 200), ("/v1/nothing", 404), ("/v1/completions", 200)):
        connection.request("POST", path, body)
        response = connection.getresponse()
        assert response.status == status
        assert response.read()
        assert connection.sock is kept
    connection.close()


def raw(server, request):
    """What the server sends back to the bytes of `request` until it closes."""
    with socket.create_connection(("127.0.0.1", int(server.base_url.rsplit(":", 1)[1])), timeout=60) as sock:
        sock.sendall(request)
        return b"".join(iter(lambda: sock.recv(65536), b""))


def test_a_body_beyond_the_bound_is_413_and_the_client_sees_it(server):
    connection = connection_to(server)
    connection.request("POST", "/v1/completions", b"x" * 30_000_000)  # raises if it is cut off while it sends
    response = connection.getresponse()
    assert response.status == 413
    assert str(MAX_BODY).encode() in response.read()
    connection.close()


@pytest.mark.parametrize(
    ("header", "status"),
    [(b"Content-Length: x", b"400"), (b"Content-Length: -1", b"400"), (b"Transfer-Encoding: chunked", b"411")],
)
def test_a_body_without_a_usable_length_is_refused_and_the_connection_closed(server, header, status):
    reply = raw(server, b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n" + header + b"\r\n\r\n")
    assert reply.startswith(b"HTTP/1.1 " + status)
    assert b"\r\nConnection: close\r\n" in reply


def test_a_malformed_request_is_an_error_in_json(server):
    assert b'"error":{"message":' in raw(server, b"NONSENSE\r\n\r\n")
    assert b'"error":{"message":' in raw(server, b"GET / HTTP/9\r\n\r\n")


def test_an_old_client_gets_a_stream_without_chunks(server):
    body = json.dumps(asked("completions", stream=True)).encode()
    head = b"POST /v1/completions HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body)
    headers, _, stream = raw(server, head + body).partition(b"\r\n\r\n")
    assert b"chunked" not in headers
    assert stream.startswith(b"data: {")
    assert stream.endswith(b"data: [DONE]\n\n")


def test_nagles_algorithm_is_off(server, monkeypatch):
    seen = []
    real = server_module.Handler.setup

    def setup(handler):
        real(handler)
        seen.append(handler.connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    monkeypatch.setattr(server_module.Handler, "setup", setup)
    requests.get(server.base_url + "/v1/models", timeout=60)
    assert seen[0] != 0


def test_the_server_listens_to_this_machine_only(server):
    assert server._http.socket.getsockname()[0] == "127.0.0.1"


def test_many_clients_are_answered_at_once(server):
    with ThreadPoolExecutor(16) as pool:
        texts = list(pool.map(lambda _: joined(streamed(server, "completions", max_tokens=30)), range(48)))
    assert len(set(texts)) == 1


class Watched:
    """A model that tells how many tokens were taken, and when its text is given up."""

    def __init__(self, model):
        self._model = model
        self.taken = 0
        self.given_up = threading.Event()

    def __getattr__(self, name):
        return getattr(self._model, name)

    def generate(self, prompt, sampling):
        try:
            for piece in self._model.generate(prompt, sampling):
                self.taken += 1
                yield piece
        finally:
            self.given_up.set()


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_ends_its_generation_silently(own, capfd, stream):
    model = Watched(train(["a b c a c b b a"], order=1))
    running = own(model=model)
    body = json.dumps(asked("completions", stream=stream, max_tokens=130_000, logit_bias={"0": -1000})).encode()
    with socket.create_connection(("127.0.0.1", int(running.base_url.rsplit(":", 1)[1]))) as sock:
        sock.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        if stream:
            assert sock.recv(100)
    assert model.given_up.wait(60)
    assert model.taken < 130_000
    assert capfd.readouterr() == ("", "")


def test_a_client_that_resets_the_connection_is_no_traceback(own, capfd):
    running = own()
    sock = socket.create_connection(("127.0.0.1", int(running.base_url.rsplit(":", 1)[1])))
    sock.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    assert requests.get(running.base_url + "/v1/models", timeout=60).status_code == 200
    running.stop()
    assert capfd.readouterr() == ("", "")


def test_requests_are_logged_only_if_asked(own, capfd):
    requests.get(own().base_url + "/v1/models", timeout=60)
    assert capfd.readouterr().err == ""
    requests.get(own(verbose=True).base_url + "/v1/models", timeout=60)
    assert "GET /v1/models" in capfd.readouterr().err


# Pacing


def test_the_first_token_is_at_once_and_the_rate_can_be_changed_while_it_waits(own):
    running = own(tokens_per_second=1e-6)
    waiting, wait = threading.Event(), running.changed.wait
    running.changed.wait = lambda seconds: waiting.set() or wait(seconds)
    url = running.base_url + "/v1/completions"
    with requests.post(url, json=asked("completions", stream=True), stream=True, timeout=60) as response:
        lines = (line for line in response.iter_lines(chunk_size=1) if line)
        assert b'"text":' in next(lines)  # the second would come in eleven days
        assert waiting.wait(60)
        running.tokens_per_second = None
        assert list(lines)[-1] == b"data: [DONE]"


def test_tokens_are_due_by_one_schedule(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(server_module.time, "monotonic", lambda: clock[0])
    paced = LocalServer(tokens_per_second=10)
    pace = paced.pace()
    due = []

    def wait(seconds):
        due.append(clock[0] + seconds)
        clock[0] += seconds + 0.03  # every wait is late

    monkeypatch.setattr(paced.changed, "wait", wait)
    for _ in range(4):
        pace.wait()
    assert due == pytest.approx([100.1, 100.2, 100.3])
    paced.tokens_per_second = None
    for _ in range(1000):
        pace.wait()
    paced.tokens_per_second = 10
    before = clock[0]
    pace.wait()
    assert due[3:] == pytest.approx([before + 0.1])
    paced.stop()


def test_the_prompts_echo_does_not_wait(own):
    running = own(tokens_per_second=1e-6)
    prompt = "Once upon a time there was"
    values = asked("completions", prompt=prompt, echo=True, stream=True, max_tokens=1)
    response = requests.post(running.base_url + "/v1/completions", json=values, timeout=60)
    assert joined(events(response)).startswith(prompt)


# Its life


def test_stopping_ends_the_answers_that_run(own):
    running = own(tokens_per_second=1e-6)
    response = requests.post(
        running.base_url + "/v1/completions", json=asked("completions", stream=True), stream=True, timeout=60
    )
    running.stop()
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        list(response.iter_lines())
    with pytest.raises(requests.exceptions.ConnectionError):
        requests.get(running.base_url + "/v1/models", timeout=60)


def test_stopping_closes_the_connections_that_wait_for_a_request(own):
    running = own()
    connection = connection_to(running)
    connection.request("GET", "/v1/models")
    connection.getresponse().read()
    running.stop()
    assert connection.sock.recv(1) == b""
    connection.close()


def test_starting_and_stopping_twice_does_nothing_more():
    running = LocalServer().start()
    assert running.start() is running
    running.stop()
    running.stop()


def test_a_port_can_be_chosen_and_a_taken_one_is_an_error(own):
    port = int(own().base_url.rsplit(":", 1)[1])
    with pytest.raises(OSError, match="in use"):
        LocalServer(port=port)


def test_the_running_server_is_one_for_the_process_and_comes_back_after_a_stop():
    with ThreadPoolExecutor(8) as pool:
        (first,) = set(pool.map(lambda _: running_server(), range(8)))
    assert models(first).status_code == 200
    first.stop()
    second = running_server()
    assert second is not first
    assert models(second).status_code == 200
    second.stop()


def models(server):
    headers = {"Authorization": f"Bearer {server.api_key}"}
    return requests.get(server.base_url + "/v1/models", headers=headers, timeout=60)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_after_a_fork_the_child_has_a_server_of_its_own():
    script = """
import os, sys, urllib.request
from together_nb.local.server import running_server

def rows(server):
    headers = {"Authorization": f"Bearer {server.api_key}"}
    request = urllib.request.Request(server.base_url + "/v1/models", headers=headers)
    return urllib.request.urlopen(request, timeout=60).read()

parent = running_server()
child = os.fork()
server = running_server()
if child == 0:
    own = server is not parent and server.api_key != parent.api_key and parent.stopped
    os._exit(0 if own and b"local/ngram" in rows(server) else 1)
assert server is parent
assert os.waitpid(child, 0)[1] == 0
assert b"local/ngram" in rows(server)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], cwd=ROOT, timeout=60, check=True)


# From the command line

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def command():
    started = []

    def run(*options):
        process = subprocess.Popen(
            [sys.executable, "-m", "together_nb.local", *options],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        readable, _, _ = select.select([process.stdout], [], [], 60)
        assert readable
        line = process.stdout.readline()
        return process, line

    yield run
    for process in started:
        process.kill()
        process.communicate()


def test_the_command_serves_until_ctrl_c(command):
    process, line = command("--tokens-per-second", "1000", "--any-model")
    url = re.search(r"http://127\.0\.0\.1:\d+", line).group()
    assert "curl" in line
    assert MODEL in line
    response = requests.post(
        url + "/inference", json={"model": TUTORIAL, "prompt": "Once", "max_tokens": 2}, timeout=60
    )
    assert response.json()["model"] == MODEL
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 0


def test_the_curl_line_that_the_command_prints_works(command):
    _, line = command("--api-key", "sk-secret")
    assert "sk-secret" not in line
    shown = line[line.index("curl") :].replace("YOUR_KEY", "sk-secret")
    done = subprocess.run(["sh", "-c", shown], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.endswith("data: [DONE]\n\n")


def test_the_command_says_when_its_port_is_taken(server):
    port = server.base_url.rsplit(":", 1)[1]
    done = subprocess.run(
        [sys.executable, "-m", "together_nb.local", "--port", port],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert port in done.stderr
