"""A session: what is asked of whom, what is kept, several side by side, and one without sockets or threads."""

from __future__ import annotations

import json
import math
import pickle
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import together_nb.session
from tests.magic.test_magics import ipython
from tests.panel.test_panel import in_turn
from tests.servers import MODELS, ScriptedServer, answers, replies
from together_nb import Completion, Panel, Session, errors
from together_nb.config.settings import DEFAULT_MODEL
from together_nb.errors import BudgetError, InputError, MissingKeyError
from together_nb.local.server import LocalServer, running_server
from together_nb.run.continuation import open_continuation
from together_nb.run.driver import run
from together_nb.run.resolve import TOY_NATURE, described_defaults
from together_nb.values.chunk import Usage
from together_nb.views.text import SilentView
from together_nb.wire import endpoint, retry
from together_nb.wire.exchange import Exchange
from together_nb.wire.retry import ignore_wait, listen_to_waits
from together_nb.wire.transport import Network

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


LISTS = [
    replies(401, {"error": "no"}),
    None,
    replies(429, {}),
    replies(500, b""),
    replies(503, {}, retry_after="1"),
    replies(200, b"<html>"),
    replies(200, b"["),
    lambda exchange: exchange.cut(),
]


@pytest.mark.parametrize("listing", LISTS)
def test_a_list_that_only_helps_is_requested_once_in_a_session_whatever_comes(server, session, listing):
    server.models = listing
    session.settings.max_retries = 4
    for options in ({}, {"logprobs": 1}, {"messages": [{"role": "assistant", "content": "Once"}]}):
        prompt = "" if "messages" in options else "Tell"
        assert ask(server, prompt, model="any", **options).text == "Once upon"
    asked = [one.path for one in server.list_requests]
    assert asked == ["/v1/models"] + ["/models"] * (listing is None)  # a 404 may be for want of the right address
    assert [one.path for one in server.requests] == [CHAT] * 3
    server.models = MODELS
    assert together_nb.models(base_url=server.base_url, fresh=True)  # who asks for the list itself is given it
    assert ask(server, model="test/base").api == "completions"


def test_a_list_that_drips_is_not_waited_for(server, monkeypatch):
    def drip(exchange):
        exchange.chunked().headers(200, content_type="application/json")
        while True:
            exchange.send(b" ")
            exchange.wait(0.01)

    monkeypatch.setattr(endpoint, "_HELPFUL_TIMEOUT", 0.2)
    server.models = drip
    assert ask(server, model="any").text == "Once upon"


def test_threads_that_need_a_list_at_once_request_it_once(server):
    with ThreadPoolExecutor(8) as pool:
        answered = pool.map(lambda _: ask(server, model="test/base").api, range(8))
        assert (set(answered), server.lists) == ({"completions"}, 1)


def test_with_a_budget_the_list_is_needed_for_its_prices_and_requested_again(server, session, monkeypatch):
    monkeypatch.setattr(retry, "FIRST_SECONDS", 0.001)
    session.settings.budget, session.settings.max_retries = 1e-6, 2
    server.models = in_turn(replies(503, {}), replies(429, {}), replies(200, MODELS))
    assert ask(server, model="test/base").cost > 1e-6
    with pytest.raises(BudgetError):
        ask(server, model="test/base")
    assert server.lists == 3


def test_a_server_that_is_not_there_may_be_there_later(session):
    with ScriptedServer(answers(["Once"])) as server:
        pass
    with pytest.raises(errors.APIConnectionError, match="Nothing answers at"):
        ask(server, model="test/base")
    assert session.client.list_attempts == set()


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
    assert answer.api == "completions"
    assert "%together get" in answer.note
    assert together_nb.stream("Once").notes == (TOY_NATURE,)
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
        assert answer.model == "local/ngram"
        assert "toy" in answer.note
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


# Beside the usual one


def needs(key):
    """A script that answers with the key that it was sent, if it is this one."""

    def script(exchange):
        sent = exchange.request.headers.get("authorization")
        answers([f"for {key}"])(exchange) if sent == f"Bearer {key}" else replies(401, {})(exchange)

    return script


def test_two_sessions_have_each_their_key_server_answers_and_costs(session, tmp_path):
    with ScriptedServer(needs("key-one-0123456789")) as first, ScriptedServer(needs("key-two-9876543210")) as second:
        one = Session(api_key="key-one-0123456789", base_url=first.base_url, model="test/chat")
        two = Session(api_key="key-two-9876543210", base_url=second.base_url, model="test/chat", budget=0.5)
        two.settings.temperature = 0
        for _ in range(2):
            assert one.complete("Hi", chat="talk").text == "for key-one-0123456789"
        with two.record(tmp_path / "two.jsonl"):
            assert two.complete("key-one-0123456789").text == "for key-two-9876543210"
            assert one.complete("Hi").text == "for key-one-0123456789"
        assert [row.id for row in one.models()] == ["test/chat", "test/base"]
        assert (first.lists, second.lists) == (1, 1)
        assert second.requests[0].json()["temperature"] == 0
        assert "temperature" not in first.requests[0].json()
    assert (len(one.history), len(two.history), session.history) == (3, 1, [])
    assert (len(one.conversations["talk"]), two.conversations, session.conversations) == (2, {}, {})
    assert (one.ledger.total().calls, two.ledger.total().calls, session.ledger.total().calls) == (3, 1, 0)
    assert (one.settings.budget, two.settings.budget, session.settings.api_key) == (None, 0.5, None)
    recorded = (tmp_path / "two.jsonl").read_text()
    assert recorded.count("POST") == 1
    assert "key-one" not in recorded  # nor any other session's key
    assert "key-two" not in recorded


def test_a_budget_is_of_one_session(session):
    prices = [{"id": "test/chat", "type": "chat", "pricing": {"input": 1e6, "output": 1e6}}]
    with ScriptedServer(answers(["Yes"]), models=prices) as server:
        poor = Session(base_url=server.base_url, model="test/chat", budget=1)
        poor.complete("Hi")
        with pytest.raises(BudgetError):
            poor.complete("Hi")
        session.complete("Hi", base_url=server.base_url, model="test/chat")


def test_the_functions_of_the_package_are_those_of_its_own_session_also_in_another_process(session):
    assert together_nb.history is session.history
    assert pickle.loads(pickle.dumps(together_nb.complete)) == session.complete
    with pytest.raises(TypeError, match="it holds keys"):
        pickle.dumps(Session().complete)


@pytest.mark.parametrize("given", [{"base_url": "nowhere"}, {"api_key": ""}, {"api_key": 3}])
def test_what_a_session_cannot_begin_with_is_refused(given):
    with pytest.raises(InputError):
        Session(**given)


# Without sockets


class Told(Exchange):
    """A reply from this process."""

    def open(self):
        self.status = 200 if self.call.payload else 404  # it has no list of models

    def pieces(self):
        if not self.call.payload:
            return
        prompt = self.call.payload["prompt"]
        for text in ("You said ", prompt, "."):
            yield f"data: {json.dumps({'choices': [{'text': text}]})}\n\n".encode()
        yield b"data: [DONE]\n\n"


class InProcess(Network):
    """An engine in this process."""

    portable = False

    def __init__(self):
        self.calls = []

    def exchange(self, call):
        self.calls.append(call)
        return Told(call)


@pytest.fixture
def engine(monkeypatch):
    """An engine without sockets, and a session that it answers."""
    monkeypatch.setattr("together_nb.wire.transport.HTTPExchange", None)  # nothing else may be asked
    carrier = InProcess()
    session = Session(transport=carrier, base_url="http://localhost:1", model="test/base")
    monkeypatch.setattr(together_nb.session, "default", session)
    monkeypatch.setattr("together_nb.config.settings.settings", session.settings)
    return carrier


def test_an_engine_in_the_same_process_answers_is_recorded_and_played_back(engine, tmp_path):
    options = {"api": "completions"}
    with together_nb.stream("hello", **options) as chunks:
        assert "".join(chunk.text for chunk in chunks) == "You said hello."
    with together_nb.record(tmp_path / "lesson.jsonl"):
        together_nb.complete("hello", **options)
        together_nb.map_prompts(["a", "b"], progress=False, **options)
    asked = len(engine.calls)
    with together_nb.replay(tmp_path / "lesson.jsonl", speed=0):
        assert together_nb.complete("hello", **options).text == "You said hello."
        assert together_nb.map_prompts(["b"], progress=False, **options).texts == ["You said b."]
    assert len(engine.calls) == asked
    assert together_nb.complete("again", **options).text == "You said again."


@pytest.fixture
def no_threads(engine, monkeypatch):
    """As in a browser's kernel: no thread can be started, and no socket be opened."""

    def refuse(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)


@pytest.mark.usefixtures("no_threads")
def test_without_threads_everything_works_one_after_another(capsys):
    options = {"api": "completions"}
    assert together_nb.complete("one", **options).text == "You said one."
    both = together_nb.compare("two", seed=[1, 2], **options)
    assert [one.text for one in both] == ["You said two."] * 2
    assert together_nb.map_prompts(["a", "b"], progress=False, **options).texts == ["You said a.", "You said b."]
    with ipython() as shell:
        for flags in ("", "-b", "--compare seed=1,2", "--for range(2)"):
            assert shell.run_cell(f"%%together --api completions {flags}\nhello").success
        assert capsys.readouterr().out.count("You said hello") >= 5
        panel = Panel(prompt="hello", api="completions")
        panel.generate()
        panel.compare.vary.value, panel.compare.values.value = "seed", "1, 2"
        panel.compare.compare()
        assert panel.completion.text == "You said hello."
        panel.close()


@pytest.mark.usefixtures("no_threads")
def test_without_threads_ctrl_c_ends_a_pulled_answer_and_keeps_what_came(monkeypatch, session):
    def pieces(exchange):
        yield b'data: {"choices": [{"text": "part"}]}\n\n'
        signal.raise_signal(signal.SIGINT)
        while not exchange.cancelled:
            yield b": ping\n\n"

    monkeypatch.setattr(Told, "pieces", pieces)
    with pytest.raises(KeyboardInterrupt):
        together_nb.complete("hello", api="completions")
    (answer,) = together_nb.history
    assert (answer.text, answer.cancelled) == ("part", True)


@pytest.mark.usefixtures("no_threads")
def test_without_threads_ctrl_c_ends_a_batch(monkeypatch):
    calls = []

    def pieces(exchange):
        calls.append(exchange)
        yield b'data: {"choices": [{"text": "part"}]}\n\n'
        signal.raise_signal(signal.SIGINT)
        while not exchange.cancelled:
            yield b": ping\n\n"

    monkeypatch.setattr(Told, "pieces", pieces)
    with pytest.raises(KeyboardInterrupt) as raised:
        together_nb.map_prompts(["a", "b", "c"], progress=False, api="completions")
    assert len(calls) == 1
    assert [one.text for one in together_nb.history] == ["part"]
    assert raised.value.results[0].cancelled


# Recordings as blocks


def test_a_block_ends_its_recording_even_if_it_fails_and_only_its_own(tmp_path, session):
    one = together_nb.record(tmp_path / "a.jsonl")
    assert (one.path, one.on) == (tmp_path / "a.jsonl", True)
    with pytest.raises(ZeroDivisionError), one:
        raise ZeroDivisionError
    assert not one.on
    with together_nb.record(tmp_path / "b.jsonl"):
        other = together_nb.record(tmp_path / "c.jsonl")
    assert other.on  # the block's own had ended before
    assert together_nb.stop() == f"The recording has ended: {tmp_path / 'c.jsonl'} holds 0 recorded exchanges."
    assert together_nb.stop() is None


def test_a_block_within_a_block_leaves_the_outer_one_on(tmp_path, session, server):
    session.settings.base_url, session.settings.model = server.base_url, "test/chat"
    for name in "ab":
        with together_nb.record(tmp_path / name):
            together_nb.complete(name, api="chat")
    sent = len(server.requests)
    with together_nb.replay(tmp_path / "a", speed=0) as outer:
        with together_nb.replay(tmp_path / "b", speed=0):
            together_nb.complete("b", api="chat")
        assert outer.on
        together_nb.complete("a", api="chat")
    assert len(server.requests) == sent
    with pytest.raises(InputError, match="has ended"):
        outer.__enter__()
    together_nb.complete("a", api="chat")
    assert len(server.requests) == sent + 1


def test_an_answer_ends_on_the_transport_on_which_it_began(tmp_path, session):
    script = in_turn(replies(429, {}, retry_after=0), answers(["recorded"]))
    with ScriptedServer(script) as server:
        session.settings.base_url, session.settings.model, session.settings.max_retries = (
            server.base_url,
            "test/chat",
            1,
        )
        with together_nb.record(tmp_path / "a"), listen_to_waits(ignore_wait):
            together_nb.complete("Hi", api="chat")
        sent = len(server.requests)
        replayed = together_nb.replay(tmp_path / "a", speed=0)
        chunks = together_nb.stream("Hi", api="chat")
        with listen_to_waits(lambda _: together_nb.stop()):
            assert "".join(chunk.text for chunk in chunks) == "recorded"
        assert not replayed.on
        assert len(server.requests) == sent


class Mine(InProcess):
    """An engine that costs nothing and has a model of its own."""

    live, model, note = False, "my/model", "mine"


def test_a_recording_is_in_all_else_like_the_transport_that_it_wraps(tmp_path):
    mine = Session(transport=Mine())
    for on in (False, True):
        if on:
            mine.record(tmp_path / "a")
        answer = mine.complete("hello", api="completions")
        assert (answer.request.model, answer.note, answer.text) == ("my/model", "mine", "You said hello.")
    assert mine.ledger.total().calls == 0
    assert json.loads((tmp_path / "a").read_text().splitlines()[0])["model"] == "my/model"


# Where an answer came from


def test_an_answer_is_continued_where_it_came_from_with_the_key_that_was_sent_there(session):
    cut = answers(["Once"], finish="length")
    with ScriptedServer(cut) as here, ScriptedServer(cut) as there:
        session.settings.base_url, session.settings.model = here.base_url, "test/chat"
        part = session.complete("Tell", base_url=there.base_url, api_key="key-there-0123456789")
        assert part.server == there.base_url
        there.script = answers([" upon"])
        whole = session.continue_from(part)
        assert (whole.text, whole.server) == ("Once upon", there.base_url)
        assert there.requests[-1].headers["authorization"] == "Bearer key-there-0123456789"
        assert here.requests == []
        there.script = here.script = cut
        part = session.complete("Tell", base_url=there.base_url)
        assert session.continue_from(part, base_url=here.base_url).server == here.base_url  # named anew
    assert "key-there" not in json.dumps(part.to_dict())


def test_each_answer_is_continued_with_its_own_key_or_the_one_given_now_and_only_at_its_server(session):
    cut = answers(["Once"], finish="length")
    with ScriptedServer(cut) as here, ScriptedServer(cut) as there:
        session.settings.base_url, session.settings.model = here.base_url, "test/chat"
        keys = ["key-a-0123456789abc", "key-b-0123456789abc", None]
        parts = [session.complete("Tell", base_url=there.base_url, api_key=key) for key in keys]
        session.models(base_url=there.base_url, api_key="key-list-0123456789")
        wholes = [session.continue_from(part) for part in parts]
        session.continue_from(parts[0], api_key="key-new-0123456789a")
        session.continue_from(wholes[0])
        sent = [request.headers.get("authorization") for request in there.requests[3:]]
        of_each = [key and f"Bearer {key}" for key in keys]
        assert sent == [*of_each, "Bearer key-new-0123456789a", of_each[0]]
        assert here.requests == []
        session.client.call_keys.clear()  # as `%together logout` does
        session.continue_from(parts[0])
        assert "authorization" not in there.requests[-1].headers


def test_the_embedded_engine_is_remembered_by_name(session):
    part = session.complete("Once upon a time", max_tokens=3, seed=1)
    assert part.server == "embedded"
    with LocalServer() as other:  # it has the same model
        session.settings.base_url = other.base_url
        stream = open_continuation(session, part, max_tokens=2)
        assert stream.endpoint.embedded
        assert stream.endpoint.root != other.base_url


@pytest.mark.parametrize("way", ["load", "from_dict", "Conversation.load"])
def test_an_answer_from_a_file_is_continued_on_the_server_in_use_unless_its_own_is_named(session, tmp_path, way):
    cut = answers(["Once"], finish="length")
    with ScriptedServer(cut) as here, ScriptedServer(cut) as there:
        session.settings.model = "test/chat"
        session.complete("Tell", base_url=there.base_url, chat="talk")
        if way == "load":
            session.save(tmp_path / "a.jsonl")
            session.load(tmp_path / "a.jsonl")
            part = session.history[-1]
        elif way == "from_dict":
            part = Completion.from_dict(session.history[-1].to_dict())
        else:
            session.conversations["talk"].save(tmp_path / "a.jsonl")
            part = together_nb.Conversation.load(tmp_path / "a.jsonl")[0].completion
        assert (part.server, part.loaded) == (there.base_url, True)
        sent = len(there.requests)
        session.settings.base_url = here.base_url
        assert session.continue_from(part).server == here.base_url
        assert len(there.requests) == sent
        assert session.continue_from(part, base_url=there.base_url).server == there.base_url
        session.settings.base_url = there.base_url
        assert session.continue_from(part).server == there.base_url
