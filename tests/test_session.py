"""`complete`, `stream`, `models` and `history`: what is asked of whom, and what is kept."""

from __future__ import annotations

import math
import signal
import threading
from types import SimpleNamespace

import pytest

import together_nb
from tests.servers import ScriptedServer, answers, replies, silent
from together_nb import complete, errors, history, models, stream
from together_nb.completion import CompletionRequest, Usage
from together_nb.config import DEFAULT_MODEL, settings
from together_nb.errors import InputError, MissingKeyError
from together_nb.local.server import LocalServer, running_server
from together_nb.resolve import LOCAL_NOTE, resolved, standing
from together_nb.session import run

pytestmark = pytest.mark.timeout(60)

KEY = "sk-secret-0123456789abcdef"
ONE_MODEL = [{"id": "only/one", "type": "language"}]
CHAT = "/v1/chat/completions"
EMBEDDED = ("local/ngram", "the embedded engine, on this machine")
ONLY_ONE = "the server's only one, or -m MODEL"


@pytest.fixture
def outside(monkeypatch):
    """A proxy for everything but this machine: whatever were sent to another host, would come here."""
    with ScriptedServer(replies(502, b"no way out")) as proxy:
        monkeypatch.setenv("http_proxy", proxy.base_url)
        monkeypatch.setenv("https_proxy", proxy.base_url)
        yield proxy


@pytest.fixture
def server():
    with ScriptedServer(answers(["Once", " upon"])) as server:
        yield server


def ask(server, prompt="Tell", **options):
    return complete(prompt, **{"base_url": server.base_url, "model": "test/chat", **options})


def test_complete_gives_the_whole_answer_and_keeps_it_in_order(server):
    answer, other = ask(server, "Tell me", max_tokens=2), ask(server, "two")
    assert (answer.text, answer.finish_reason, answer.usage) == ("Once upon", "stop", Usage(5, 2, 7))
    assert (answer.request.prompt, answer.request.sampling.max_tokens) == ("Tell me", 2)
    assert answer.cost == pytest.approx((5 * 1.0 + 2 * 2.0) / 1e6)
    assert together_nb.history == history == [answer, other]


def test_stream_gives_chunks_as_they_come_and_is_kept_nowhere_else(server):
    gate = threading.Event()

    def script(exchange):
        exchange.text_events(["Once"])
        exchange.pause(gate)
        exchange.text_events([" upon"])
        exchange.await_close()

    server.script = script
    with stream("Tell me", base_url=server.base_url, model="test/chat") as chunks:
        texts = [next(chunks).text]
        gate.set()
        texts.append(next(chunks).text)
    assert server.closed.wait(20)
    assert texts == ["Once", " upon"]
    assert chunks.completion.text == "Once upon"
    assert history == []


@pytest.mark.parametrize(
    ("model", "options", "path"),
    [
        ("test/chat", {}, CHAT),
        ("test/base", {}, "/v1/completions"),
        ("test/unlisted", {}, CHAT),
        ("test/base", {"system": "Be brief"}, CHAT),
        ("test/base", {"system": ""}, CHAT),
        ("test/base", {"prompt": "", "messages": [{"role": "user", "content": "Hi"}]}, CHAT),
        ("test/base", {"api": "chat"}, CHAT),
        ("test/chat", {"api": "completions"}, "/v1/completions"),
        ("test/chat", {"api": "inference"}, "/inference"),
    ],
)
def test_auto_chooses_the_api_by_the_models_type_and_by_what_is_asked(server, model, options, path):
    ask(server, model=model, **options)
    assert server.requests[0].path == path
    assert server.lists == (0 if options else 1)


@pytest.mark.parametrize("listing", [None, replies(500, b""), replies(200, b"<html>"), replies(200, {"data": None})])
def test_a_server_without_a_list_is_asked_for_a_chat(server, listing):
    server.models = listing
    ask(server, model="any")
    assert server.requests[0].path == CHAT


def test_a_list_that_refuses_the_key_and_a_server_that_is_not_there_are_errors_at_once(server):
    server.models = replies(401, {"error": "no"})
    with pytest.raises(errors.AuthenticationError):
        stream("Tell", base_url=server.base_url, model="any", api_key=KEY)
    assert server.requests == []
    server.stop()
    with pytest.raises(errors.APIConnectionError, match="Nothing answers at"):
        stream("Tell", base_url=server.base_url, model="any")


def test_a_system_prompt_comes_first_and_a_prompt_and_messages_are_sent_as_given(server):
    turns = [{"role": role, "content": text} for role, text in (("user", "Hi"), ("assistant", "Ho"), ("user", "?"))]
    prompt = '\n  {"a": [1]} \t€ \u2028 tail  \n\n'
    ask(server, "", messages=turns, system="Be brief")
    ask(server, prompt, system="Be brief")
    ask(server, prompt, model="test/base")
    first = {"role": "system", "content": "Be brief"}
    with_messages, with_prompt, completion = (request.json() for request in server.requests)
    assert with_messages["messages"] == [first, *turns]
    assert with_prompt["messages"] == [first, {"role": "user", "content": prompt}]
    assert completion["prompt"] == prompt
    assert "authorization" not in server.requests[0].headers


def test_settings_hold_unless_the_call_says_otherwise(server):
    settings.temperature, settings.max_tokens, settings.top_k = 0, 10, 5
    ask(server, model="test/base", max_tokens=3, top_k=None)
    body = server.requests[0].json()
    assert body == {"model": "test/base", "prompt": "Tell", "temperature": 0, "max_tokens": 3, "stream": True}


def test_the_environment_is_weaker_than_settings_and_those_than_the_call(server, environ):
    with ScriptedServer(answers(["a"])) as second, ScriptedServer(answers(["a"])) as third:
        environ(TOGETHER_BASE_URL=server.base_url + "/v1", TOGETHER_API_KEY="sk-env", TOGETHER_MODEL="env")
        complete("Tell", api="chat")
        settings.base_url, settings.model, settings.api_key = second.base_url, "set", "sk-set"
        complete("Tell", api="chat")
        complete("Tell", api="chat", base_url=third.base_url, model=" call ", api_key="sk-call")
    for one, name in ((server, "env"), (second, "set"), (third, "call")):
        (request,) = one.requests
        assert (request.json()["model"], request.headers["authorization"]) == (name, f"Bearer sk-{name}")


def test_without_a_key_together_is_not_asked(outside):
    with pytest.raises(MissingKeyError, match=f"{DEFAULT_MODEL} needs an API key") as caught:
        stream("Tell", model=DEFAULT_MODEL)
    assert "-m local/ngram" in caught.value.hint
    assert "%together login" in caught.value.hint
    for base_url in ("https://api.together.xyz/v1", "https://API.together.ai"):
        with pytest.raises(MissingKeyError):
            complete("Tell", model="any", base_url=base_url)
    with pytest.raises(MissingKeyError, match=r"Did you mean local/ngram\?"):
        stream("Tell", model="local/ngarm")
    assert [row.id for row in models()] == ["local/ngram"]
    assert outside.connections == 0
    assert history == []


def test_with_a_key_together_is_asked_over_tls_and_the_proxy_sees_no_key(outside):
    with pytest.raises(errors.APIConnectionError):
        complete("Tell", api="chat", api_key=KEY)
    # For the price of the model, and for the answer.
    sent = [(one.method, one.path, one.headers.get("authorization")) for one in outside.requests]
    assert sent == [("CONNECT", "api.together.xyz:443", None)] * 2


def test_the_embedded_engine_answers_without_a_key_and_is_sent_its_own_alone():
    answer = complete("Once upon a time", max_tokens=4, temperature=0)
    assert answer.text
    assert answer.usage.completion_tokens == 4
    assert (answer.api, answer.note) == ("completions", LOCAL_NOTE)
    settings.api_key = KEY
    _, endpoint = resolved(CompletionRequest("Tell", model="local/ngram"))
    assert endpoint.root.startswith("http://127.0.0.1:")
    assert endpoint.key.reveal() == running_server().api_key != KEY
    request, endpoint = resolved(CompletionRequest("Tell", api="chat"))
    assert (request.model, endpoint.root) == (DEFAULT_MODEL, "https://api.together.xyz")


def test_the_embedded_model_answers_though_another_server_is_in_use_or_is_gone(server):
    server.models = ONE_MODEL
    settings.base_url = server.base_url
    for _ in range(2):
        answer = complete("Once", model="local/ngram", max_tokens=2)
        assert (answer.model, answer.note) == ("local/ngram", LOCAL_NOTE)
    assert standing(settings)[0] == ONLY_ONE
    settings.model = "local/ngram"
    assert standing(settings) == EMBEDDED
    assert (len(server.requests), server.lists) == (0, 1)
    named = stream("Once", model="local/ngram", api="chat", base_url=server.base_url)  # then that one is meant
    assert named.endpoint.root == server.base_url
    settings.base_url = "http://127.0.0.1:9"
    assert complete("Once", max_tokens=2).text


def test_a_server_that_has_the_embedded_model_is_asked_for_it():
    with LocalServer() as server:
        assert stream("Once", model="local/ngram", base_url=server.base_url).endpoint.root == server.base_url
        settings.base_url = server.base_url
        assert stream("Once", model="local/ngram").endpoint.root == server.base_url
        settings.model = "local/ngram"
        assert standing(settings) == ("local/ngram", server.base_url)


def test_another_server_with_one_model_needs_no_name_and_one_with_more_asks_for_it(server):
    with pytest.raises(InputError, match=r"which model to use\. It has test/chat, test/base\.") as caught:
        stream("Tell", base_url=server.base_url)
    assert "-m MODEL" in caught.value.hint
    assert server.requests == []
    with ScriptedServer(answers(["a"]), models=ONE_MODEL) as other:
        request = ask(other, model=None).request
        assert (request.model, request.api) == ("only/one", "completions")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        *(({"prompt": prompt}, "The prompt is empty") for prompt in ("", " \n\t ")),
        *(({"prompt": prompt}, "The prompt must be a text") for prompt in (5, None, ["Tell"], b"Tell")),
        *(({"prompt": "", "messages": each}, "messages must be a list") for each in ([], "Tell", ["Tell"], [{}], {})),
        ({"messages": [{"role": "user", "content": "Hi"}]}, "A prompt and messages were given"),
        *(({"timeout": timeout}, "timeout must be a number of seconds over 0") for timeout in (0, math.nan, "5", True)),
        ({"api": "chta"}, "Did you mean chat"),
        ({"temprature": 1}, "temperature"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"base_url": "no url"}, "is not a base URL"),
        ({"base_url": "http://example.org/v1"}, "plain http to another host"),
        ({"api_key": ""}, "cannot be an API key"),
        ({"api_key": "two words"}, "cannot be an API key"),
    ],
)
def test_what_cannot_be_sent_is_told_at_once_and_nothing_is_sent(options, words, server, outside):
    for call in (complete, stream):
        with pytest.raises(InputError, match=words) as caught:
            call(**{"prompt": "Tell", "base_url": server.base_url, "model": "test/chat", "api": "chat", **options})
        assert len(str(caught.value).splitlines()) in (1, 2, 3)
    assert server.connections == outside.connections == 0
    assert history == []


def test_the_time_out_of_a_call_and_of_the_settings(server):
    assert ask(server, timeout=float("inf")).text == "Once upon"
    server.script = silent()
    settings.timeout = 0.25
    for options, seconds in (({"timeout": 0.3}, r"0\.3"), ({}, r"0\.25")):
        with pytest.raises(errors.APITimeoutError, match=rf"did not begin to answer within {seconds} s"):
            ask(server, **options)


def test_models_are_the_servers(server):
    for text, names in [
        ("", ["test/chat", "test/base"]), ("BASE", ["test/base"]), ("Test Chat", ["test/chat"]), ("no such", []),
    ]:  # fmt: skip
        assert [row.id for row in models(text, base_url=server.base_url)] == names
    assert server.lists == 1
    models(base_url=server.base_url, fresh=True)
    assert server.lists == 2
    models(base_url=server.base_url, api_key=KEY)
    assert server.list_requests[-1].headers["authorization"] == f"Bearer {KEY}"
    server.models = replies(200, b"hello", content_type="text/plain")
    with pytest.raises(errors.APIResponseError, match="not with a list of models"):
        models(base_url=server.base_url, fresh=True)


def test_standing_tells_where_a_request_would_go_and_asks_nobody(server, environ):
    assert standing() == EMBEDDED
    settings.api_key = KEY
    assert standing() == (DEFAULT_MODEL, "https://api.together.xyz")
    environ(TOGETHER_BASE_URL=server.base_url)
    assert standing() == (ONLY_ONE, server.base_url)
    environ(TOGETHER_MODEL="a/model")
    assert standing() == ("a/model", server.base_url)
    assert server.connections == 0


def press_ctrl_c_twice():
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(
    ("place", "act", "error"),
    [
        *((place, press_ctrl_c_twice, KeyboardInterrupt) for place in ("start", "write", "finish")),
        ("write", lambda: 1 / 0, ZeroDivisionError),
    ],
)
def test_ctrl_c_in_any_part_of_drawing_or_a_view_that_fails_loses_nothing(server, place, act, error):
    passed = []

    def reach(part):
        if part == place:
            act()
        passed.append(part)

    view = SimpleNamespace(
        start=lambda _: reach("start"),
        write=lambda drawn: reach("write" if drawn else ""),
        finish=lambda *_: reach("finish"),
    )
    chunks = stream("hello", base_url=server.base_url, model="test/chat", api="chat")
    with pytest.raises(error) as caught:
        run(chunks, view)
    if error is KeyboardInterrupt:
        assert caught.value._render_traceback_() == ["KeyboardInterrupt: stopped by you; what came is kept."]
    assert "finish" in passed
    assert [one.text for one in history] == [{"start": "", "finish": "Once upon"}.get(place, chunks.completion.text)]
    assert "together_nb stream" not in [thread.name for thread in threading.enumerate()]
