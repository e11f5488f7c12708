"""`complete`, `stream`, `models` and `history`: what is asked of whom, and what is kept."""

from __future__ import annotations

import os
import signal
import threading

import pytest

import together_nb
from tests.servers import ScriptedServer, answers, replies, silent, silent_after
from together_nb import complete, history, models, stream
from together_nb.accumulate import Accumulator
from together_nb.completion import CompletionRequest, Usage
from together_nb.config import settings
from together_nb.errors import (
    APIConnectionError,
    APIResponseError,
    APITimeoutError,
    AuthenticationError,
    ConnectionLostError,
    InputError,
    MissingKeyError,
    NotFoundError,
)
from together_nb.local.server import LocalServer, running_server
from together_nb.resolve import LOCAL_NOTE, resolved, standing
from together_nb.session import run

pytestmark = pytest.mark.timeout(60)

KEY = "sk-secret-0123456789abcdef"
ONE_MODEL = [{"id": "only/one", "type": "language"}]


@pytest.fixture
def outside(monkeypatch):
    """A proxy for everything but this machine: whatever were sent to another host, would come here."""
    with ScriptedServer(replies(502, b"no way out")) as proxy:
        monkeypatch.setenv("http_proxy", proxy.base_url)
        monkeypatch.setenv("https_proxy", proxy.base_url)
        yield proxy


def test_complete_gives_the_whole_answer_and_keeps_it():
    with ScriptedServer(answers(["Once", " upon"])) as server:
        answer = complete("Tell me", base_url=server.base_url, model="test/chat", max_tokens=2)
    assert (answer.text, answer.finish_reason, answer.usage) == ("Once upon", "stop", Usage(5, 2, 7))
    assert answer.request.prompt == "Tell me"
    assert answer.request.sampling.max_tokens == 2
    assert answer.cost == pytest.approx((5 * 1.0 + 2 * 2.0) / 1e6)
    assert history == [answer]
    assert together_nb.history is history


def test_history_is_in_order():
    with ScriptedServer(answers(["a"])) as server:
        for prompt in ("one", "two", "three"):
            complete(prompt, base_url=server.base_url, model="test/chat")
    assert [answer.request.prompt for answer in history] == ["one", "two", "three"]


def test_stream_gives_chunks_as_they_come():
    had = threading.Event()

    def script(exchange):
        exchange.text_events(["Once"])
        exchange.pause(had)
        exchange.text_events([" upon"])
        exchange.done()

    with ScriptedServer(script) as server, stream("Tell me", base_url=server.base_url, model="test/chat") as chunks:
        got = [next(chunks).text]
        had.set()
        got += [chunk.text for chunk in chunks]
        assert chunks.completion.text == "Once upon"
    assert got == ["Once", " upon"]


def test_the_part_of_a_failed_answer_is_in_the_error_and_in_the_history():
    with ScriptedServer(answers(["Once", " upon"], finish=None, done=False)) as server:
        with pytest.raises(ConnectionLostError) as caught:
            complete("Tell me", base_url=server.base_url, model="test/chat")
        assert len(server.requests) == 1
    assert caught.value.completion.text == "Once upon"
    assert [(answer.text, answer.error) for answer in history] == [("Once upon", "connection lost")]


def test_ctrl_c_keeps_the_part_marks_it_and_closes_the_connection(monkeypatch):
    usual = Accumulator.add

    def add(accumulator, chunk):
        usual(accumulator, chunk)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Accumulator, "add", add)
    with ScriptedServer(silent_after(["Once"])) as server:
        with pytest.raises(KeyboardInterrupt):
            complete("Tell me", base_url=server.base_url, model="test/chat")
        assert server.closed.wait(20)
    assert [(answer.text, answer.cancelled) for answer in history] == [("Once", True)]


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
@pytest.mark.parametrize(
    ("api", "path"), [("chat", "/v1/chat/completions"), ("completions", "/v1/completions"), ("inference", "/inference")]
)
def test_a_base_url_is_taken_with_v1_and_without(suffix, api, path):
    with ScriptedServer(answers(["a"])) as server:
        complete("Tell", base_url=server.base_url + suffix, model="test/chat", api=api)
        assert [request.path for request in server.requests] == [path]


@pytest.mark.parametrize(
    ("model", "options", "path"),
    [
        ("test/chat", {}, "/v1/chat/completions"),
        ("test/base", {}, "/v1/completions"),
        ("test/code", {}, "/v1/completions"),
        ("test/untyped", {}, "/v1/chat/completions"),
        ("test/unlisted", {}, "/v1/chat/completions"),
        ("test/base", {"system": "Be brief"}, "/v1/chat/completions"),
        ("test/base", {"system": ""}, "/v1/chat/completions"),
        ("test/base", {"messages": [{"role": "user", "content": "Hi"}]}, "/v1/chat/completions"),
        ("test/base", {"api": "chat"}, "/v1/chat/completions"),
        ("test/chat", {"api": "completions"}, "/v1/completions"),
        ("test/chat", {"api": "inference"}, "/inference"),
    ],
)
def test_auto_chooses_the_api_by_the_models_type_and_by_what_is_asked(model, options, path):
    rows = [
        {"id": "test/chat", "type": "chat"},
        {"id": "test/base", "type": "language"},
        {"id": "test/code", "type": "code"},
        {"id": "test/untyped"},
    ]
    with ScriptedServer(answers(["a"]), models=rows) as server:
        complete("" if "messages" in options else "Tell", base_url=server.base_url, model=model, **options)
        assert [request.path for request in server.requests] == [path]
        assert server.lists == (0 if options else 1)


@pytest.mark.parametrize("listing", [None, replies(500, b""), replies(200, b"<html>"), replies(200, {"data": None})])
def test_a_server_without_a_list_is_asked_for_a_chat(listing):
    with ScriptedServer(answers(["a"]), models=listing) as server:
        assert complete("Tell", base_url=server.base_url, model="any").text == "a"
        assert [request.path for request in server.requests] == ["/v1/chat/completions"]


def test_a_list_that_refuses_the_key_is_an_error_at_once():
    with ScriptedServer(answers(["a"]), models=replies(401, {"error": "no"})) as server:
        with pytest.raises(AuthenticationError):
            stream("Tell", base_url=server.base_url, model="any", api_key=KEY)
        assert server.requests == []


def test_a_server_that_is_not_there_is_an_error_at_once():
    with ScriptedServer(silent()) as server:
        pass
    with pytest.raises(APIConnectionError, match="Nothing answers at"):
        stream("Tell", base_url=server.base_url, model="any")
    assert history == []


def test_a_system_prompt_comes_first_and_messages_are_sent_as_given():
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Ho"},
        {"role": "user", "content": "?"},
    ]
    with ScriptedServer(answers(["a"])) as server:
        complete(messages=turns, system="Be brief", base_url=server.base_url, model="test/chat")
        complete("Hi", system="Be brief", base_url=server.base_url, model="test/chat")
        sent = [request.json()["messages"] for request in server.requests]
    first = {"role": "system", "content": "Be brief"}
    assert sent == [[first, *turns], [first, {"role": "user", "content": "Hi"}]]


def test_a_prompt_is_sent_as_it_stands():
    prompt = '\n  {"a": [1]} \t€ \u2028 tail  \n\n'
    with ScriptedServer(answers(["a"])) as server:
        complete(prompt, base_url=server.base_url, model="test/base")
        assert server.requests[0].json()["prompt"] == prompt


def test_settings_hold_unless_the_call_says_otherwise():
    settings.temperature, settings.max_tokens, settings.top_k = 0, 10, 5
    with ScriptedServer(answers(["a"])) as server:
        complete("Tell", base_url=server.base_url, model="test/base", max_tokens=3, top_k=None)
        body = server.requests[0].json()
    assert body == {"model": "test/base", "prompt": "Tell", "temperature": 0, "max_tokens": 3, "stream": True}


def test_the_environment_is_weaker_than_settings_and_those_than_the_call(monkeypatch, environ):
    with (
        ScriptedServer(answers(["a"])) as one,
        ScriptedServer(answers(["a"])) as two,
        ScriptedServer(answers(["a"])) as three,
    ):

        def asked():
            got = [
                (server is one, request.json()["model"], request.headers.get("authorization"))
                for server in (one, two, three)
                for request in server.requests
            ]
            counts = [len(server.requests) for server in (one, two, three)]
            for server in (one, two, three):
                server.requests.clear()
            return counts.index(1), got[0][1], got[0][2]

        environ(TOGETHER_BASE_URL=one.base_url + "/v1")
        monkeypatch.setenv("TOGETHER_MODEL", "env")
        environ(TOGETHER_API_KEY="sk-env")
        complete("Tell", api="chat")
        assert asked() == (0, "env", "Bearer sk-env")
        settings.base_url, settings.model, settings.api_key = two.base_url, "set", "sk-set"
        complete("Tell", api="chat")
        assert asked() == (1, "set", "Bearer sk-set")
        complete("Tell", api="chat", base_url=three.base_url, model=" call ", api_key="sk-call")
        assert asked() == (2, "call", "Bearer sk-call")


def test_without_a_key_no_authorization_is_sent():
    with ScriptedServer(answers(["a"])) as server:
        complete("Tell", base_url=server.base_url, model="test/chat")
        assert "authorization" not in server.requests[0].headers


def test_without_a_key_together_is_not_asked(outside):
    with pytest.raises(MissingKeyError) as caught:
        stream("Tell", model="meta-llama/Llama-3.3-70B-Instruct-Turbo")
    assert caught.value.message == "meta-llama/Llama-3.3-70B-Instruct-Turbo needs an API key, and none is set."
    assert caught.value.hint == "Without a key there is -m local/ngram, on this machine. `%together login` takes a key."
    for base_url in ("https://api.together.xyz/v1", "https://API.together.ai"):
        with pytest.raises(MissingKeyError):
            complete("Tell", model="any", base_url=base_url)
    assert outside.connections == 0
    assert history == []


def test_a_mistyped_local_model_is_told_the_right_one(outside):
    with pytest.raises(MissingKeyError, match=r"Did you mean local/ngram\?"):
        stream("Tell", model="local/ngarm")


def test_with_a_key_together_is_asked_over_tls_and_the_proxy_sees_no_key(outside):
    with pytest.raises(APIConnectionError):
        complete("Tell", api="chat", api_key=KEY)
    # For the price of the model, and for the answer.
    assert [(request.method, request.path) for request in outside.requests] == [("CONNECT", "api.together.xyz:443")] * 2
    assert all("authorization" not in request.headers for request in outside.requests)


def test_the_default_model_is_the_embedded_one_without_a_key_and_togethers_with_one():
    request, endpoint = resolved(CompletionRequest("Tell"))
    assert (request.model, request.api) == ("local/ngram", "completions")
    assert endpoint.root.startswith("http://127.0.0.1:")
    request, endpoint = resolved(CompletionRequest("Tell", api="chat"), api_key=KEY)
    assert request.model == "meta-llama/Llama-3.3-70B-Instruct-Turbo"
    assert endpoint.root == "https://api.together.xyz"


def test_the_embedded_engine_answers_without_a_key_and_is_sent_its_own_alone():
    answer = complete("Once upon a time", max_tokens=4, temperature=0)
    assert answer.text
    assert answer.usage.completion_tokens == 4
    assert (answer.api, answer.note) == ("completions", LOCAL_NOTE)
    settings.api_key = KEY
    _, endpoint = resolved(CompletionRequest("Tell", model="local/ngram"))
    assert endpoint.key.reveal() == running_server().api_key != KEY


def test_the_embedded_model_answers_though_another_server_is_in_use():
    with ScriptedServer(answers(["a"]), models=ONE_MODEL) as server:
        settings.base_url = server.base_url
        for _ in range(2):
            answer = complete("Once", model="local/ngram", max_tokens=2)
            assert (answer.model, answer.note) == ("local/ngram", LOCAL_NOTE)
        assert standing(settings)[0] == "the server's only one, or -m MODEL"
        settings.model = "local/ngram"
        assert standing(settings) == ("local/ngram", "the embedded engine, on this machine")
        assert (len(server.requests), server.lists) == (0, 1)


def test_the_embedded_model_answers_though_the_server_in_use_is_not_there():
    settings.base_url = "http://127.0.0.1:9"
    assert complete("Once", model="local/ngram", max_tokens=2).text


@pytest.mark.parametrize("named", [False, True])
def test_a_server_that_has_the_embedded_model_is_asked_for_it(named):
    with LocalServer() as server:
        settings.base_url = None if named else server.base_url
        opened = stream("Once", model="local/ngram", base_url=server.base_url if named else None)
        assert opened.endpoint.root == server.base_url
        if not named:
            settings.model = "local/ngram"
            assert standing(settings) == ("local/ngram", server.base_url)


def test_another_server_with_one_model_needs_no_name():
    with ScriptedServer(answers(["a"]), models=ONE_MODEL) as server:
        assert complete("Tell", base_url=server.base_url).request.model == "only/one"
        assert server.requests[0].path == "/v1/completions"


def test_another_server_with_more_models_asks_for_a_name():
    with ScriptedServer(answers(["a"])) as server:
        with pytest.raises(InputError) as caught:
            stream("Tell", base_url=server.base_url)
        assert caught.value.message == (
            f"{server.base_url} needs to be told which model to use. It has test/chat, test/base."
        )
        assert caught.value.hint == "Add -m MODEL, or set TOGETHER_MODEL."
        assert server.requests == []


def test_a_model_that_is_gone_names_the_nearest():
    with ScriptedServer(replies(404, {"error": {"message": "Unable to access model"}})) as server:
        with pytest.raises(NotFoundError, match=r"Did you mean test/chat\?"):
            complete("Tell", base_url=server.base_url, model="test/chatt")
        assert len(server.requests) == 1


@pytest.mark.parametrize("prompt", ["", " \n\t "])
def test_an_empty_prompt_is_not_sent(prompt, outside):
    with pytest.raises(InputError, match="The prompt is empty"):
        complete(prompt)
    assert history == []


@pytest.mark.parametrize("prompt", [5, None, ["Tell"], b"Tell"])
def test_a_prompt_that_is_no_text_is_not_sent(prompt):
    with pytest.raises(InputError, match="The prompt must be a text"):
        stream(prompt)


@pytest.mark.parametrize("messages", [[], "Tell", ["Tell"], [{"content": "no role"}], {"role": "user", "content": "?"}])
def test_messages_that_are_none_are_not_sent(messages):
    with pytest.raises(InputError, match="messages must be a list"):
        stream(messages=messages)


def test_a_prompt_beside_messages_is_not_dropped_in_silence():
    with pytest.raises(InputError, match="A prompt and messages were given"):
        stream("Tell", messages=[{"role": "user", "content": "Hi"}])


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), "5", True, [1]])
def test_a_time_out_that_is_none_is_refused(timeout):
    with ScriptedServer(answers(["a"])) as server:
        with pytest.raises(InputError, match="timeout must be a number of seconds over 0"):
            stream("Tell", base_url=server.base_url, model="test/chat", timeout=timeout)
        assert server.connections == 0


def test_the_time_out_of_a_call_and_of_the_settings():
    with ScriptedServer(silent()) as server:
        with pytest.raises(APITimeoutError, match=r"did not begin to answer within 0\.3 s"):
            complete("Tell", base_url=server.base_url, model="test/chat", timeout=0.3)
        settings.timeout = 0.25
        with pytest.raises(APITimeoutError, match=r"did not begin to answer within 0\.25 s"):
            complete("Tell", base_url=server.base_url, model="test/chat")
    with ScriptedServer(answers(["a"])) as server:
        assert complete("Tell", base_url=server.base_url, model="test/chat", timeout=float("inf")).text == "a"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"api": "chta"}, "Did you mean chat"),
        ({"temprature": 1}, "temperature"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"n": 0}, "n must"),
        ({"base_url": "no url"}, "is not a base URL"),
        ({"base_url": "http://example.org/v1"}, "plain http to another host"),
        ({"api_key": ""}, "cannot be an API key"),
        ({"api_key": "two words"}, "cannot be an API key"),
    ],
)
def test_what_cannot_be_sent_is_told_at_once_and_nothing_is_sent(wrong, words, outside):
    with ScriptedServer(answers(["a"])) as server:
        options = {"base_url": server.base_url, "model": "test/chat", "api": "chat"} | wrong
        with pytest.raises(InputError, match=words) as caught:
            stream("Tell", **options)
        assert len(str(caught.value).splitlines()) in (1, 2, 3)
        assert server.connections == 0
    assert outside.connections == 0
    assert history == []


def test_models_are_the_servers():
    with ScriptedServer(silent()) as server:
        assert [row.id for row in models(base_url=server.base_url)] == ["test/chat", "test/base"]
        assert [row.id for row in models("BASE", base_url=server.base_url)] == ["test/base"]
        assert [row.id for row in models("Test Chat", base_url=server.base_url)] == ["test/chat"]
        assert models("nothing of the kind", base_url=server.base_url) == []
        assert server.lists == 1
        models(base_url=server.base_url, fresh=True)
        assert server.lists == 2
        models(base_url=server.base_url, api_key=KEY)
        assert server.list_requests[-1].headers["authorization"] == f"Bearer {KEY}"


def test_models_of_a_server_without_a_list_are_an_error():
    with (
        ScriptedServer(silent(), models=replies(200, b"hello", content_type="text/plain")) as server,
        pytest.raises(APIResponseError, match="not with a list of models"),
    ):
        models(base_url=server.base_url)


def test_models_without_a_key_are_the_embedded_engines(outside):
    assert [row.id for row in models()] == ["local/ngram"]
    assert outside.connections == 0


def test_standing_tells_where_a_request_would_go_and_asks_nobody(monkeypatch, environ):
    assert standing() == ("local/ngram", "the embedded engine, on this machine")
    settings.api_key = KEY
    assert standing() == ("meta-llama/Llama-3.3-70B-Instruct-Turbo", "https://api.together.xyz")
    with ScriptedServer(silent()) as server:
        environ(TOGETHER_BASE_URL=server.base_url)
        assert standing() == ("the server's only one, or -m MODEL", server.base_url)
        monkeypatch.setenv("TOGETHER_MODEL", "a/model")
        assert standing() == ("a/model", server.base_url)
        assert server.connections == 0


def test_a_stream_left_half_way_is_kept_nowhere_but_in_the_stream():
    with ScriptedServer(silent_after(["Once"])) as server:
        with stream("Tell", base_url=server.base_url, model="test/chat") as chunks:
            next(chunks)
        assert server.closed.wait(20)
    assert chunks.completion.text == "Once"
    assert history == []


class InterruptedView:
    """A view in whose `at` Ctrl-C is pressed, twice."""

    def __init__(self, at):
        self.at = at
        self.finished = False

    def start(self, stream):
        self._press("start")

    def write(self, chunks):
        if chunks:
            self._press("write")

    def finish(self, completion, error):
        self._press("finish")
        self.finished = True

    def _press(self, where):
        if where == self.at:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("at", ["start", "write", "finish"])
def test_ctrl_c_in_any_part_of_drawing_keeps_what_came_and_finishes_the_view(at):
    view = InterruptedView(at)
    with ScriptedServer(answers(["a", "b"])) as server:
        opened = stream("hello", base_url=server.base_url, model="test/chat", api="chat")
        with pytest.raises(KeyboardInterrupt) as caught:
            run(opened, view)
    assert caught.value._render_traceback_() == ["KeyboardInterrupt: stopped by you; what came is kept."]
    assert view.finished
    assert len(history) == 1
    assert history[0].text == {"start": "", "write": opened.completion.text, "finish": "ab"}[at]
    assert [one.name for one in threading.enumerate() if one.name == "together_nb stream"] == []


class FailingView:
    """A view that cannot draw."""

    finished = False

    def start(self, stream):
        pass

    def write(self, chunks):
        raise ZeroDivisionError

    def finish(self, completion, error):
        self.finished = True


def test_a_view_that_fails_loses_nothing():
    view = FailingView()
    with ScriptedServer(answers(["Once"])) as server, pytest.raises(ZeroDivisionError):
        run(stream("Tell", base_url=server.base_url, model="test/chat", api="chat"), view)
    assert len(history) == 1
    assert view.finished
