"""The embedded engine's HTTP face, spoken to by curl and by the official clients."""

from __future__ import annotations

import contextlib
import json
import re
import select
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest
import requests
import together

from tests.declared import bad, good
from together_nb.local import server as server_module
from together_nb.local.__main__ import main
from together_nb.local.ngram import train
from together_nb.local.request_body import _HONOURED
from together_nb.local.server import LocalServer, running_server
from together_nb.values.parameters import PARAMETERS

MODEL = "local/ngram"
PATHS = {"inference": "/inference", "completions": "/v1/completions", "chat": "/v1/chat/completions"}
PROMPT = "Alan Turing was"
SLOW = 1e-6  # tokens a second: the second token would come in eleven days

each_dialect = pytest.mark.parametrize("dialect", PATHS)


@pytest.fixture(scope="module")
def server():
    with LocalServer() as running:
        yield running


def body_of(dialect, **values):
    text = {"messages": [{"role": "user", "content": PROMPT}]} if dialect == "chat" else {"prompt": PROMPT}
    return {"model": MODEL, "seed": 1, "max_tokens": 8, **text, **values}


def post(server, dialect, **values):
    return requests.post(server.base_url + PATHS[dialect], json=body_of(dialect, **values), timeout=60)


def get(server, path="/v1/models", key=None):
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return requests.get(server.base_url + path, headers=headers, timeout=60)


def streamed(server, dialect, **values):
    """The payloads of a stream that ends with its terminator."""
    response = post(server, dialect, **{"stream_tokens" if dialect == "inference" else "stream": True}, **values)
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"].startswith("text/event-stream")
    *payloads, last, rest = response.text.split("\n\n")
    assert (last, rest) == ("data: [DONE]", "")
    return [json.loads(payload.removeprefix("data: ")) for payload in payloads]


def whole(server, dialect, **values):
    """The reply that is not streamed, rid of the envelope that `inference` has."""
    reply = post(server, dialect, **values).json()
    return reply["output"] if dialect == "inference" else reply


def text_of(reply, index=0):
    choice = reply["choices"][index]
    return choice["message"]["content"] if "message" in choice else choice["text"]


def joined(payloads, index=0):
    choices = [choice for payload in payloads for choice in payload["choices"]]
    return "".join(choice["text"] for choice in choices if choice.get("index", 0) == index)


def test_the_tutorials_curl_command_streams_its_events(server):
    body = {
        "model": MODEL, "prompt": PROMPT, "max_tokens": 128, "stop": ["\n\n"], "temperature": 0.7,
        "top_p": 0.7, "top_k": 50, "repetition_penalty": 1, "stream_tokens": True,
    }  # fmt: skip
    command = ["curl", "-sS", "-N", server.base_url + "/inference", "-H", "content-type: application/json", "-d"]
    curl = subprocess.run([*command, json.dumps(body)], capture_output=True, text=True, timeout=60, check=True)
    *lines, last = [line for line in curl.stdout.split("\n") if line]
    assert (last, curl.stderr) == ("data: [DONE]", "")
    exactly = r'data: \{"choices":\[\{"text":".+"\}\],"result_type":"language-model-inference","id":"[0-9a-f]{64}"\}'
    assert all(re.fullmatch(exactly, line) for line in lines[:-1])
    payloads = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert len({payload["id"] for payload in payloads}) == 1
    (end,) = payloads[-1]["choices"]
    assert end["text"] == ""
    assert end["finish_reason"] in {"stop_sequence", "eos_token", "length"}
    assert joined(payloads).startswith(" born")
    assert "\n\n" not in joined(payloads)


@pytest.fixture(params=[openai, together], ids=["openai", "together"])
def module(request):
    return request.param


@pytest.fixture
def client(module, server):
    # The together client adds /v1 itself, openai's does not.
    make, suffix = (openai.OpenAI, "/v1") if module is openai else (together.Together, "")
    with make(base_url=server.base_url + suffix, api_key="any") as made:
        yield made


@pytest.mark.parametrize("chat", [False, True])
def test_an_official_client_has_whole_answers_and_streams(client, chat):
    options = {"model": MODEL, "max_tokens": 5, "seed": 1}
    if chat:
        create = client.chat.completions.create
        options["messages"] = [{"role": "user", "content": PROMPT}]
    else:
        create = client.completions.create
        options["prompt"] = PROMPT
    made = create(**options)
    text = made.choices[0].message.content if chat else made.choices[0].text
    assert text
    assert (made.model, made.choices[0].finish_reason, made.usage.completion_tokens) == (MODEL, "length", 5)
    assert not chat or made.choices[0].message.role == "assistant"
    chunks = list(create(**options, stream=True))
    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert "".join(choice.delta.content if chat else choice.text for choice in choices) == text
    assert choices[-1].finish_reason == "length"
    assert chunks[-1].usage.completion_tokens == 5


def test_an_official_client_raises_its_own_errors(client, module):
    with pytest.raises(module.NotFoundError):
        client.completions.create(model="no/such", prompt="Hi")
    with pytest.raises(module.UnprocessableEntityError, match="temperature"):
        client.completions.create(model=MODEL, prompt="Hi", temperature=-1)


def test_openais_client_reads_logprobs_and_the_model(server):
    with openai.OpenAI(base_url=server.base_url + "/v1", api_key="any") as client:
        made = client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Hi"}], logprobs=True, top_logprobs=3, max_tokens=4
        )
        content = made.choices[0].logprobs.content
        assert "".join(token.token for token in content) == made.choices[0].message.content
        assert [len(token.top_logprobs) for token in content] == [3] * 4
        assert bytes(content[0].bytes).decode() == content[0].token
        assert client.models.retrieve(MODEL).id == MODEL


def test_the_usual_loops_of_openais_client_read_every_chunk(server):
    with openai.OpenAI(base_url=server.base_url + "/v1", api_key="any") as client:
        asked = {"model": MODEL, "seed": 1, "max_tokens": 5}
        messages = [{"role": "user", "content": PROMPT}]
        said = client.chat.completions.create(**asked, messages=messages).choices[0].message.content
        text = ""
        for chunk in client.chat.completions.create(**asked, messages=messages, stream=True):
            text += chunk.choices[0].delta.content
        assert text == said
        text = ""
        for chunk in client.completions.create(**asked, prompt=PROMPT, stream=True):
            text += chunk.choices[0].text
        assert text == client.completions.create(**asked, prompt=PROMPT).choices[0].text


USAGE = [  # stream_options, whether the count comes apart
    (None, False), ({}, False), ({"include_usage": False}, False), ({"include_usage": None}, False),
    ({"include_usage": True}, True), ({"include_usage": True, "include_obfuscation": False}, True),
]  # fmt: skip


# https://github.com/datawhalechina/hello-agents/issues/425, https://github.com/chatanywhere/GPT_API_free/issues/238
@each_dialect
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize(("options", "apart"), USAGE)
def test_the_count_comes_with_the_end_unless_it_is_asked_for_apart(server, dialect, n, options, apart):
    *before, last = streamed(server, dialect, stream_options=options, n=n)
    assert last["usage"]["completion_tokens"] == 8 * n
    assert not any(chunk.get("usage") for chunk in before)
    assert all(chunk["choices"] for chunk in before)
    if apart and dialect != "inference":
        assert last["choices"] == []
        assert {name: last[name] for name in ("id", "object", "model")} == {
            name: before[0][name] for name in ("id", "object", "model")
        }
    else:
        assert last["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("options", ["yes", True, ["include_usage"], {"include_usage": "yes"}])
def test_malformed_stream_options_are_422(server, options):
    error_of(post(server, "chat", stream=True, stream_options=options), 422)


def test_only_a_chat_has_a_delta(server):  # https://github.com/simonw/llm/issues/284
    for dialect in PATHS:
        choices = [choice for chunk in streamed(server, dialect, logprobs=1) for choice in chunk["choices"]]
        assert {"delta" in choice for choice in choices} == {dialect == "chat"}


def test_openais_client_lists_the_models_and_sends_an_answer_back(server):
    with openai.OpenAI(base_url=server.base_url + "/v1", api_key="any") as client:
        assert [row.id for row in client.models.list()] == [MODEL]
        messages = [{"role": "user", "content": PROMPT}]
        asked = {"model": MODEL, "max_tokens": 5}
        said = client.chat.completions.create(**asked, messages=messages).choices[0].message
        messages += [said.model_dump(), {"role": "user", "content": "And then?"}]
        assert client.chat.completions.create(**asked, messages=messages).choices[0].message.content


ADDRESSES = {
    "/v1/v1/chat/completions": "https://github.com/rohitg00/agentmemory/issues/628",
    "/v1/v1/v1/chat/completions": "",
    "/v1//chat/completions": "https://github.com/BerriAI/litellm/issues/8350",
    "//v1/chat/completions": "https://github.com/Vivswan/litellm-vscode-chat/issues/54",
    "/v1/chat/completions/chat/completions": "https://github.com/harry0703/MoneyPrinterTurbo/issues/57",
    "/v1/chat/completions/v1/chat/completions": "",
}


@pytest.mark.parametrize("path", ADDRESSES)
def test_an_address_that_is_joined_wrongly_is_served(server, path):
    assert requests.post(server.base_url + path, json=body_of("chat"), timeout=60).status_code == 200


@pytest.mark.parametrize("path", ["/v1x/chat/completions", "/v11/models", "/v1models", "/v2/v1/models"])
def test_an_address_that_is_only_alike_is_404(server, path):
    error_of(get(server, path), 404)


@pytest.mark.parametrize(("path", "status"), [("/v1/v1/models", 200), ("/v1/nothing", 404), ("/v1/completions", 405)])
def test_a_head_is_a_get_without_its_body(server, path, status):
    head = requests.head(server.base_url + path, timeout=60)
    assert (head.status_code, head.content) == (status, b"")
    assert int(head.headers["Content-Length"]) > 0


UNASKED = [  # what clients send that asks this model for nothing, and a report of one that does
    ({"metadata": {"a": "b"}, "store": False}, "https://github.com/livekit/agents/pull/1276"),
    ({"parallel_tool_calls": False}, "https://github.com/ashalliants/ninfer-3090/pull/14"),
    ({"user": "me", "service_tier": "auto", "safety_identifier": "x", "prompt_cache_key": "y"}, ""),
    ({"tool_choice": "auto", "tools": []}, ""),
    ({"tool_choice": "none", "function_call": "none", "functions": []}, ""),
    ({"modalities": ["text"], "best_of": 1, "suffix": ""}, ""),
    ({"n": None, "stop": None, "stream_options": None, "logprobs": None, "seed": 1}, ""),
    ({"response_format": {"type": "text", "schema": None}}, ""),
]


@each_dialect
@pytest.mark.parametrize("values", [values for values, _ in UNASKED], ids=str)
def test_what_asks_for_nothing_changes_nothing(server, dialect, values):
    assert text_of(whole(server, dialect, **values)) == text_of(whole(server, dialect))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tool_choice", "required"), ("tool_choice", {"type": "function", "function": {"name": "f"}}),
        ("modalities", ["text", "audio"]), ("best_of", 2), ("suffix", "the end"),
    ],
)  # fmt: skip
def test_what_asks_for_something_else_is_refused(server, key, value):
    assert error_of(post(server, "chat", **{key: value}), 400)["param"] == key


# https://github.com/josStorer/RWKV-Runner/issues/96, https://github.com/lm-sys/FastChat/issues/1306
@pytest.mark.parametrize("dialect", ["inference", "completions"])
def test_a_list_of_one_text_is_that_text(server, dialect):
    assert whole(server, dialect, prompt=[PROMPT])["choices"] == whole(server, dialect)["choices"]


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        (["a", "b"], "2 texts"), (["", "", ""], "3 texts"), ([1, 2, 3], "Token ids"), ([7], "Token ids"),
        ([[1, 2]], "Token ids"), ([["a"]], "Token ids"), ([""], "not empty"), ([], "not empty"),
    ],
)  # fmt: skip
def test_other_lists_are_refused_for_what_they_are(server, prompt, words):
    error = error_of(post(server, "completions", prompt=prompt), 400)
    assert error["param"] == "prompt"
    assert words in error["message"]


@pytest.mark.parametrize(
    "path", ["/v1/models", "/models", "/v1/models/", "/v1/models/local/ngram", "/models/local%2Fngram"]
)
def test_the_model_is_listed_as_a_bare_array_of_one_and_found_by_its_id(server, path):
    response = get(server, path)
    (row,) = response.json() if "ngram" not in path else [response.json()]
    assert response.headers["Content-Type"].startswith("application/json")
    assert (row["id"], row["type"], row["object"], row["organization"]) == (MODEL, "language", "model", "together_nb")
    assert set(row["pricing"].values()) == {0}
    assert row["context_length"] > 0


def test_a_chat_streams_in_togethers_form_and_max_tokens_has_another_name(server):
    first, *middle, end = chunks = streamed(server, "chat", max_tokens=None, max_completion_tokens=3)
    assert first["choices"][0]["delta"] == {"token_id": None, "role": "assistant", "content": ""}
    assert first["object"] == "chat.completion.chunk"
    assert len(middle) == 3
    for chunk in middle:
        (choice,) = chunk["choices"]
        assert choice["delta"]["content"] == choice["text"] != ""
        assert isinstance(choice["delta"]["token_id"], int)
        assert (choice["finish_reason"], chunk["usage"]) == (None, None)
    assert end["choices"][0]["finish_reason"] == "length"
    assert end["usage"]["completion_tokens"] == 3
    assert {chunk["model"] for chunk in chunks} == {MODEL}


@each_dialect
def test_n_answers_are_interleaved_seeded_one_after_another_counted_and_the_same_when_streamed(server, dialect):
    payloads = streamed(server, dialect, n=3, max_tokens=12)
    choices = [choice for payload in payloads for choice in payload["choices"]]
    assert [choice["index"] for choice in choices if choice["text"]][:6] == [0, 1, 2, 0, 1, 2]
    reply = whole(server, dialect, n=3, max_tokens=12)
    for index in range(3):
        alone = text_of(whole(server, dialect, seed=1 + index, max_tokens=12))
        assert text_of(reply, index) == joined(payloads, index) == alone
    prompt_tokens = 4 if dialect == "chat" else 3
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": 36, "total_tokens": prompt_tokens + 36}
    assert payloads[-1]["usage"] == reply["usage"] == usage


@each_dialect
def test_logprobs_are_togethers_arrays(server, dialect):
    reply = whole(server, dialect, logprobs=2)
    logprobs = reply["choices"][0]["logprobs"]
    assert "".join(logprobs["tokens"]) == text_of(reply)
    assert len(logprobs["token_logprobs"]) == len(logprobs["token_ids"]) == len(logprobs["top_logprobs"]) == 8
    assert all(set(top) == {"token", "logprob"} for tops in logprobs["top_logprobs"] for top in tops)
    assert {len(tops) for tops in logprobs["top_logprobs"]} == {2}
    payloads = streamed(server, dialect, logprobs=2)
    parts = [choice["logprobs"] for payload in payloads for choice in payload["choices"] if choice["logprobs"]]
    for key in ("tokens", "token_logprobs"):
        assert [value for part in parts for value in part[key]] == logprobs[key]


@pytest.mark.parametrize(
    ("values", "tops"),
    [({}, None), ({"logprobs": False}, None), ({"logprobs": 0}, [[]] * 8), ({"logprobs": True}, [[]] * 8)],
)
def test_logprobs_unset_are_null_and_zero_has_no_alternatives(server, values, tops):
    logprobs = whole(server, "chat", **values)["choices"][0]["logprobs"]
    assert (logprobs and logprobs["top_logprobs"]) == tops


@each_dialect
def test_echo_puts_the_prompt_first_and_does_not_count_it_twice(server, dialect):
    plain, echoed = (whole(server, dialect, echo=echo) for echo in (False, True))
    assert text_of(echoed) == PROMPT + ("\n\n" if dialect == "chat" else "") + text_of(plain)
    assert joined(streamed(server, dialect, echo=True)) == text_of(echoed)
    assert echoed["usage"]["completion_tokens"] == 8


@each_dialect
def test_the_reason_says_whether_a_stop_text_or_the_model_ended_it(server, dialect):
    text = text_of(whole(server, dialect, max_tokens=50))
    cut = whole(server, dialect, max_tokens=50, stop=text[20:30])
    assert text_of(cut) == text.split(text[20:30])[0]
    assert cut["choices"][0]["finish_reason"] == ("stop_sequence" if dialect == "inference" else "stop")
    with LocalServer(train(["The cat sat."])) as small:
        end = whole(small, dialect, temperature=0, logit_bias={"0": 100})
        assert end["choices"][0]["finish_reason"] == ("eos_token" if dialect == "inference" else "eos")


def test_without_a_seed_replies_differ_and_tell_the_seed_that_repeats_them(server):
    choices = [whole(server, "completions", seed=None, max_tokens=40)["choices"][0] for _ in range(5)]
    assert len({choice["text"] for choice in choices}) > 1
    again = whole(server, "completions", seed=choices[0]["seed"], max_tokens=40)
    assert text_of(again) == choices[0]["text"]


def test_what_is_null_or_empty_is_unset_and_zero_is_not(server):
    unset = dict.fromkeys(set(PARAMETERS) - {"max_tokens", "seed"}) | {"stop": [], "tools": [], "logit_bias": {}}
    assert whole(server, "chat", **unset)["choices"] == whole(server, "chat")["choices"]
    assert len({text_of(whole(server, "completions", temperature=0, seed=seed)) for seed in range(5)}) == 1


@pytest.mark.parametrize("name", sorted(_HONOURED & set(PARAMETERS)))
def test_a_parameter_that_is_honoured_reaches_the_model(server, name):
    def answer(**values):
        choices = whole(server, "completions", **{"max_tokens": 60, **values})["choices"]
        return [(choice["text"], choice["logprobs"]) for choice in choices]

    telling = {"stop": [["the", "a", "in"]], "logit_bias": [{"1": 100}]}  # not every good value has an effect
    values = telling.get(name) or good(PARAMETERS[name])
    assert any(answer(**{name: value}) != answer() for value in values)


def sendable(value):
    with contextlib.suppress(TypeError, ValueError):
        return bool(json.dumps(value, allow_nan=False))
    return False


def error_of(response, status):
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) == {"id", "error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    return body["error"]


MISFITS = [
    *((name, {name: value}) for name in sorted(_HONOURED & set(PARAMETERS)) for value in bad(PARAMETERS[name])
      if sendable(value) and (name, value) != ("logprobs", True)),
    ("logprobs", {"logprobs": True, "top_logprobs": 21}), ("stop", {"stop": [""]}), ("stop", {"stop": ["x"] * 33}),
    ("stop", {"stop": ["x" * 1001]}), ("stream", {"stream": "yes"}), ("logit_bias", {"logit_bias": {"x": 1}}),
    ("logit_bias", {"logit_bias": {"1": "x"}}),
]  # fmt: skip


@each_dialect
def test_a_parameter_of_the_wrong_type_or_out_of_bounds_is_422_and_named(server, dialect):
    for param, values in MISFITS:
        error = error_of(post(server, dialect, **values), 422)
        assert (error["param"], values) == (param, values)
        assert param in error["message"]


NOT_HONOURED = [(name, good(PARAMETERS[name])[0]) for name in sorted(set(PARAMETERS) - _HONOURED)]


@pytest.mark.parametrize(("key", "value"), [*NOT_HONOURED, ("tools", [{"type": "function"}]), ("temprature", 1)])
def test_what_it_cannot_honour_is_400_and_named(server, key, value):
    error = error_of(post(server, "chat", **{key: value}), 400)
    assert error["param"] == key
    assert key in error["message"]


@each_dialect
def test_a_schema_is_400_and_the_models_that_take_one_are_named(server, dialect):
    assert post(server, dialect, response_format=None).status_code == 200
    assert post(server, dialect, response_format={"type": "text"}).status_code == 200
    for wanted in ({"type": "json_object"}, {"type": "json_schema", "json_schema": {"schema": {}}}, "json", 3):
        error = error_of(post(server, dialect, response_format=wanted), 400)
        assert error["param"] == "response_format"
        assert error["message"] == (
            "local/ngram cannot write JSON by a schema. Use local/smollm2-135m (`%together get` fetches it), or one of "
            "Together's models."
        )


@pytest.mark.parametrize(
    ("messages", "prompt"),
    [
        ([("user", "Hi")], "Hi\n\n"),
        ([("system", "Be brief."), ("user", "Hi")], "Be brief.\n\nHi\n\n"),
        ([("user", [{"type": "text", "text": "A "}, {"type": "text", "text": "b"}])], "A b\n\n"),
        ([("user", "Hi"), ("assistant", "Once upon")], "Hi\n\nOnce upon"),
        ([("system", ""), ("user", "Hi")], "Hi\n\n"),
        # https://github.com/tashfeenahmed/freellmapi/issues/165
        ([("user", "Hi"), ("assistant", None), ("user", "Ho")], "Hi\n\nHo\n\n"),
    ],
)
def test_a_conversation_becomes_its_contents_and_blank_lines(server, messages, prompt):
    messages = [{"role": role, "content": content} for role, content in messages]
    assert text_of(whole(server, "chat", messages=messages, echo=True)).startswith(prompt)
    assert text_of(whole(server, "completions", prompt=prompt)) == text_of(whole(server, "chat", messages=messages))


@pytest.mark.parametrize("prompt", [
    "Zoë 🦊 said", "日本語", "\ud83d half", "\x00\x1b[31m", "  ", "\n",
    '"[{,' * 1000, "\\", '\\"', "\\\\[", "[[" * 400,
])  # fmt: skip
def test_any_text_may_be_a_prompt(server, prompt):
    assert text_of(whole(server, "completions", prompt=prompt, echo=True)).startswith(prompt)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b'"text"', b"null", b"\xff\xfe", b"[" * 100_000,
        b'{"model": "local/ngram"}', b'{"prompt": "Hi"}',
        *(b'{"model": "local/ngram", "prompt": %s}' % prompt for prompt in (b'""', b"5", b'["a", "b"]')),
    ],
)  # fmt: skip
def test_a_body_that_asks_nothing_is_400(server, body):
    error_of(requests.post(server.base_url + "/v1/completions", data=body, timeout=60), 400)


@pytest.mark.parametrize(
    "messages",
    [
        None, [], "Hi", {}, [5], [{}], [{"role": "user"}], [{"content": "Hi"}], [{"role": 5, "content": "Hi"}],
        *([{"role": "user", "content": content}] for content in (5, [5], "", [{"type": "text"}])),
        [{"role": "user", "content": [{"type": "image_url", "text": "x"}]}],
    ],
)  # fmt: skip
def test_malformed_messages_are_400(server, messages):
    assert error_of(post(server, "chat", messages=messages), 400)["param"] == "messages"


@each_dialect
def test_another_model_is_404_and_names_this_one_unless_any_will_do(server, dialect):
    error = error_of(post(server, dialect, model="no/such"), 404)
    assert (error["param"], error["code"]) == ("model", "model_not_available")
    assert MODEL in error["message"]
    with LocalServer(any_model=True) as running:
        assert post(running, dialect, model="no/such").json()["model"] == MODEL
        assert post(running, dialect, model=None).status_code == 200


@pytest.mark.parametrize(("method", "path", "status"), [
    ("GET", "/", 404), ("GET", "/v1/nothing", 404), ("POST", "/v1/nothing", 404), ("GET", "/v1/models/no/such", 404),
    # With /v1 and without it, where a body is all that is missing.
    ("POST", "/v1/inference", 400), ("POST", "/completions", 400), ("POST", "/chat/completions", 400),
    ("GET", "/v1/completions", 405), ("POST", "/v1/models", 405), ("DELETE", "/v1/models", 501),
])  # fmt: skip
def test_an_unknown_address_or_method_is_an_error_in_json(server, method, path, status):
    error_of(requests.request(method, server.base_url + path, timeout=60), status)


def test_a_prompt_and_answer_beyond_the_context_are_403(server):
    assert error_of(post(server, "completions", max_tokens=131_072), 403)["param"] == "max_tokens"
    assert error_of(post(server, "completions", prompt="a " * 140_000), 403)
    assert error_of(post(server, "completions", n=9, max_tokens=131_000), 403)["param"] == "n"


def test_the_echo_and_the_first_token_are_at_once_and_the_rate_can_be_changed_while_it_waits():
    with LocalServer(tokens_per_second=SLOW) as running:
        waiting, wait = threading.Event(), running.changed.wait
        running.changed.wait = lambda seconds: waiting.set() or wait(seconds)
        url, body = running.base_url + "/v1/completions", body_of("completions", stream=True, echo=True)
        with requests.post(url, json=body, stream=True, timeout=60) as response:
            lines = (line for line in response.iter_lines(chunk_size=1) if line)
            assert all(b'"text":' in next(lines) for _ in range(4))  # three tokens are the prompt's
            assert waiting.wait(60)
            running.tokens_per_second = None
            assert list(lines)[-1] == b"data: [DONE]"


def test_tokens_are_due_by_one_schedule(monkeypatch):
    clock, due = [100.0], []
    monkeypatch.setattr(server_module.time, "monotonic", lambda: clock[0])
    server = LocalServer(tokens_per_second=10)
    pace = server.pace()

    def wait(seconds):
        due.append(clock[0] + seconds)
        clock[0] += seconds + 0.03  # every wait is late

    monkeypatch.setattr(server.changed, "wait", wait)
    for _ in range(4):
        pace.wait()
    assert due == pytest.approx([100.1, 100.2, 100.3])
    server.tokens_per_second = None
    for _ in range(1000):
        pace.wait()
    server.tokens_per_second = 10
    before = clock[0]
    pace.wait()
    assert due[3:] == pytest.approx([before + 0.1])
    server.stop()


def test_stopping_ends_the_answers_that_run():
    with LocalServer(tokens_per_second=SLOW) as running:
        url, body = running.base_url + "/v1/completions", body_of("completions", stream=True)
        response = requests.post(url, json=body, stream=True, timeout=60)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        list(response.iter_lines())
    with pytest.raises(requests.exceptions.ConnectionError):
        get(running)


def test_a_session_has_one_server_with_a_key_of_its_own_and_another_after_a_stop():
    with ThreadPoolExecutor(8) as pool:
        (first,) = set(pool.map(lambda _: running_server(), range(8)))
    assert len(first.api_key) >= 32
    assert first.api_key not in repr(first)
    assert first._http.socket.getsockname()[0] == "127.0.0.1"
    assert [get(first, key=key).status_code for key in (None, first.api_key)] == [401, 200]
    first.stop()
    second = running_server()
    assert second is not first
    assert second.api_key != first.api_key
    assert get(second.start(), key=second.api_key).status_code == 200
    second.stop()
    second.stop()


@pytest.mark.parametrize("verbose", [False, True])
def test_requests_are_logged_only_if_asked(capfd, verbose):
    with LocalServer(verbose=verbose) as running:
        get(running)
    assert ("GET /v1/models" in capfd.readouterr().err) is verbose


def test_the_command_prints_a_curl_line_that_works_and_serves_until_ctrl_c():
    options = ("--api-key", "sk-secret", "--tokens-per-second", "1000", "--any-model")
    process = subprocess.Popen(
        [sys.executable, "-m", "together_nb.local", *options],
        cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert select.select([process.stdout], [], [], 60)[0]
        line = process.stdout.readline()
        assert re.search(rf"{MODEL} .*http://127\.0\.0\.1:\d+", line)
        assert "sk-secret" not in line
        shown = line[line.index("curl") :].replace("YOUR_KEY", "sk-secret").replace(f'"{MODEL}"', '"any"')
        curl = subprocess.run(["sh", "-c", shown], capture_output=True, text=True, timeout=60, check=True)
        assert curl.stdout.endswith("data: [DONE]\n\n")
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60) == ("", "")
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()


def test_a_port_that_cannot_be_used_is_an_error(server, capsys):
    port = server.base_url.rsplit(":", 1)[1]
    with pytest.raises(OSError, match="in use"):
        LocalServer(port=int(port))
    for each in (port, "70000"):
        assert main(["--port", each]) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert each in error
