"""`complete`, `stream`, `models` and `history`: what is asked of whom, and what is kept."""

from __future__ import annotations

import math
import threading

import pytest

import together_nb
from tests.servers import ScriptedServer, answers, replies
from together_nb import errors
from together_nb.config.settings import DEFAULT_MODEL
from together_nb.errors import InputError, MissingKeyError
from together_nb.local.server import LocalServer, running_server
from together_nb.run.driver import run
from together_nb.run.resolve import LOCAL_NOTE, described_defaults
from together_nb.values.chunk import Usage
from together_nb.views.text import SilentView

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
    return together_nb.complete(prompt, **{"base_url": server.base_url, "model": "test/chat", **options})


def test_complete_gives_the_whole_answer_and_keeps_it_in_order(server):
    answer, other = ask(server, "Tell me", max_tokens=2), ask(server, "two", model=" test/chat ", timeout=math.inf)
    assert (answer.text, answer.finish_reason, answer.usage) == ("Once upon", "stop", Usage(5, 2, 7))
    assert (answer.request.prompt, answer.request.sampling.max_tokens) == ("Tell me", 2)
    assert answer.cost == pytest.approx((5 * 1.0 + 2 * 2.0) / 1e6)
    assert together_nb.history == together_nb.history == [answer, other]
    assert other.request.model == "test/chat"


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
        together_nb.stream("Tell", base_url=server.base_url, model="any", api_key=KEY)
    assert server.requests == []
    server.stop()
    with pytest.raises(errors.APIConnectionError, match="Nothing answers at"):
        together_nb.stream("Tell", base_url=server.base_url, model="any")


def test_without_a_key_together_is_not_asked(outside):
    with pytest.raises(MissingKeyError, match=f"{DEFAULT_MODEL} needs an API key") as caught:
        together_nb.stream("Tell", model=DEFAULT_MODEL)
    assert "-m local/ngram" in caught.value.hint
    assert "%together login" in caught.value.hint
    for base_url in ("https://api.together.xyz/v1", "https://API.together.ai"):
        with pytest.raises(MissingKeyError):
            together_nb.complete("Tell", model="any", base_url=base_url)
    with pytest.raises(MissingKeyError, match=r"Did you mean local/ngram\?"):
        together_nb.stream("Tell", model="local/ngarm")
    assert [row.id for row in together_nb.models()] == ["local/ngram"]
    assert outside.connections == 0
    assert together_nb.history == []


def test_the_embedded_engine_answers_without_a_key_and_is_sent_its_own_alone():
    answer = together_nb.complete("Once upon a time", max_tokens=4, temperature=0)
    assert answer.text
    assert answer.usage.completion_tokens == 4
    assert (answer.api, answer.note) == ("completions", LOCAL_NOTE)
    together_nb.settings.api_key = KEY
    endpoint = together_nb.stream("Tell", model="local/ngram").endpoint
    assert endpoint.root.startswith("http://127.0.0.1:")
    assert endpoint.key.reveal() == running_server().api_key != KEY
    chunks = together_nb.stream("Tell", api="chat")
    assert (chunks.request.model, chunks.endpoint.root) == (DEFAULT_MODEL, "https://api.together.xyz")


def test_the_embedded_model_answers_though_another_server_is_in_use_or_is_gone(server):
    server.models = ONE_MODEL
    together_nb.settings.base_url = server.base_url
    for _ in range(2):
        answer = together_nb.complete("Once", model="local/ngram", max_tokens=2)
        assert (answer.model, answer.note) == ("local/ngram", LOCAL_NOTE)
    assert described_defaults(together_nb.session.default)[0] == ONLY_ONE
    together_nb.settings.model = "local/ngram"
    assert described_defaults(together_nb.session.default) == EMBEDDED
    assert (len(server.requests), server.lists) == (0, 1)
    named = together_nb.stream(
        "Once", model="local/ngram", api="chat", base_url=server.base_url
    )  # then that one is meant
    assert named.endpoint.root == server.base_url
    together_nb.settings.base_url = "http://127.0.0.1:9"
    assert together_nb.complete("Once", max_tokens=2).text


def test_a_server_that_has_the_embedded_model_is_asked_for_it():
    with LocalServer() as server:
        assert (
            together_nb.stream("Once", model="local/ngram", base_url=server.base_url).endpoint.root == server.base_url
        )
        together_nb.settings.base_url = server.base_url
        assert together_nb.stream("Once", model="local/ngram").endpoint.root == server.base_url
        together_nb.settings.model = "local/ngram"
        assert described_defaults(together_nb.session.default) == ("local/ngram", server.base_url)


def test_another_server_with_one_model_needs_no_name_and_one_with_more_asks_for_it(server):
    with pytest.raises(InputError, match=r"which model to use\. It has test/chat, test/base\.") as caught:
        together_nb.stream("Tell", base_url=server.base_url)
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
        ({"api_key": ""}, "cannot be an API key"),
        ({"api_key": "two words"}, "cannot be an API key"),
    ],
)
def test_what_cannot_be_sent_is_told_at_once_and_nothing_is_sent(options, words, server, outside):
    for call in (together_nb.complete, together_nb.stream):
        with pytest.raises(InputError, match=words) as caught:
            call(**{"prompt": "Tell", "base_url": server.base_url, "model": "test/chat", "api": "chat", **options})
        assert len(str(caught.value).splitlines()) in (1, 2, 3)
    assert server.connections == outside.connections == 0
    assert together_nb.history == []


def test_models_are_the_servers_that_match_and_it_is_asked_for_them_once(server):
    for text, names in [
        ("", ["test/chat", "test/base"]), ("BASE", ["test/base"]), ("Test Chat", ["test/chat"]), ("no such", []),
    ]:  # fmt: skip
        assert [row.id for row in together_nb.models(text, base_url=server.base_url)] == names
    assert server.lists == 1


def test_standing_tells_where_a_request_would_go_and_asks_nobody(server, environ):
    assert described_defaults(together_nb.session.default) == EMBEDDED
    together_nb.settings.api_key = KEY
    assert described_defaults(together_nb.session.default) == (DEFAULT_MODEL, "https://api.together.xyz")
    environ(TOGETHER_BASE_URL=server.base_url)
    assert described_defaults(together_nb.session.default) == (ONLY_ONE, server.base_url)
    environ(TOGETHER_MODEL="a/model")
    assert described_defaults(together_nb.session.default) == ("a/model", server.base_url)
    assert server.connections == 0


class Failing(SilentView):
    """A view that cannot draw a text."""

    finished = False

    def write(self, chunks):
        assert chunks == []

    def finish(self, completion, error):
        self.finished = True


def test_a_view_that_fails_is_finished_and_loses_nothing(server):
    view, chunks = Failing(), together_nb.stream("hello", base_url=server.base_url, model="test/chat", api="chat")
    with pytest.raises(AssertionError):
        run(chunks, view, together_nb.session.default.keep)
    assert view.finished
    assert [one.text for one in together_nb.history] == [chunks.completion.text]
    assert "together_nb stream" not in [thread.name for thread in threading.enumerate()]
