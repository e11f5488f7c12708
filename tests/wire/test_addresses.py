"""Base URLs as people write them: the API is asked for where they wrote, then elsewhere on that server."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from time import perf_counter

import pytest

import together_nb
from tests.magic.test_magics import ipython
from tests.reports import DONE, Report, delta, outcomes
from tests.servers import ScriptedServer, answers, replies, silent
from together_nb.batch.worker import Task, answer
from together_nb.config.addresses import likely_bases, server_root, url_of
from together_nb.errors import APIConnectionError, APIStatusError, AuthenticationError, NotFoundError, RateLimitError
from together_nb.wire import attempts, http

pytestmark = pytest.mark.timeout(60)

KEY = "sk-secret-0123456789abcdef"
HELLO = (delta("Hi"), delta(finish="stop"), DONE)
CHAT = "/chat/completions"
GONE = {"detail": "Not Found"}
GITHUB = "https://github.com"


def written(source, base_path, route, requests=1):
    """A base URL of this path, of a server with its chat there alone, and how many requests that takes."""
    name = f"{base_path or 'a host alone'} → {route}"
    return Report(name, source and GITHUB + source, HELLO, base_path=base_path, route=route, want=requests)


REPORTS = [
    # As it is written
    written("/elepedus/elixir-ai-sdk/issues/6", "/v1beta/openai/", "/v1beta/openai/chat/completions"),
    written("/farion1231/cc-switch/issues/4083", "/api/paas/v4", "/api/paas/v4/chat/completions"),
    written("/farion1231/cc-switch/issues/4083", "/api/coding/paas/v4/", "/api/coding/paas/v4/chat/completions"),
    written("/tonybaloney/llm-github-models/issues/44", "/inference", "/inference/chat/completions"),
    written("/tmc/cgpt/pull/14", "/api/v1/", "/api/v1/chat/completions"),
    written("/anomalyco/models.dev/pull/1719", "/funccall/t/endpoints/e/v1", "/funccall/t/endpoints/e/v1/chat/completions"),
    # The path of a request was pasted with it
    written("/CosmosShadow/gptpdf/issues/39", "/v1/chat/completions", "/v1/chat/completions"),
    written("/CosmosShadow/gptpdf/issues/39", "/api/paas/v4/chat/completions/", "/api/paas/v4/chat/completions"),
    written("/harry0703/MoneyPrinterTurbo/issues/57", "//v1//chat/completions", "/v1/chat/completions"),
    written("/QuantumNous/new-api/issues/1987", "/chat/completions", "/chat/completions"),
    written("", "/v1/completions", "/v1/chat/completions"),
    written("", "/v1/models/", "/v1/chat/completions"),
    # Elsewhere on that server
    written("/QuantumNous/new-api/issues/121", "", "/chat/completions", 2),
    written("/QuantumNous/new-api/issues/121", "/v1", "/chat/completions", 2),
    written("/open-webui/open-webui/issues/8317", "/api/v1", "/api/chat/completions", 2),
    written("/tsundereraws/aisub-translator/issues/2", "/llm", "/llm/v1/chat/completions", 2),
    written("/mhss1/MyBrain/issues/335", "/api/paas/v4/v1", "/api/paas/v4/chat/completions", 2),
    written("", "/v1/v1", "/v1/chat/completions", 2),
    written("", "/models", "/v1/chat/completions", 2),
    written("", "/v1beta/openai/models", "/v1beta/openai/chat/completions", 2),
    written("", "/v1/messages", "/v1/chat/completions", 2),
    written("", "/api/v1/chat", "/api/v1/chat/completions", 2),
    written("", "/api/paas/v4/chat/", "/api/paas/v4/chat/completions", 2),
    written("", "/proxy/v1/messages", "/proxy/v1/chat/completions", 2),
    written("", "/client/v4/accounts/a/ai", "/client/v4/accounts/a/ai/v1/chat/completions", 3),
    written("", "/somewhere/else", "/v1/chat/completions", 3),
    written("", "/somewhere/else", "/chat/completions", 4),
]  # fmt: skip


@pytest.mark.parametrize("report", REPORTS, ids=str)
def test_the_api_is_found_where_it_was_written_or_elsewhere_on_that_server(report):
    for outcome in outcomes(report):
        assert outcome.error is None
        assert (outcome.text, outcome.requests) == ("Hi", report.want), outcome.way


@pytest.mark.parametrize(
    ("base_url", "root", "bases"),
    [
        ("https://api.together.xyz/v1", "https://api.together.xyz", ["/v1"]),
        ("https://api.together.ai/inference", "https://api.together.ai/inference", ["/v1"]),
        ("http://localhost:1", "http://localhost:1", ["/v1", ""]),
        ("http://localhost:1/v1/chat/completions/", "http://localhost:1", ["/v1", ""]),
        ("http://localhost:1/chat/completions", "http://localhost:1/chat/completions", ["", "/v1"]),
        ("http://0.0.0.0:8000/v1/", "http://127.0.0.1:8000", ["/v1", ""]),
        ("http://[::]:8000/a", "http://[::1]:8000/a", ["/a", "/a/v1", "/v1", ""]),
        ("https://a.example/b/v1/models", "https://a.example/b/v1", ["/b/v1", "/b", "/v1", ""]),
        ("https://a.example/b/v1/chat", "https://a.example/b/v1/chat", ["/b/v1/chat", "/b/v1", "/b/v1/chat/v1", "/v1"]),
        ("https://a.example/inference", "https://a.example/inference", ["/inference", "/v1", ""]),
        ("https://a.example/v1/v1", "https://a.example/v1/v1", ["/v1/v1", "/v1", ""]),
        ("https://a.example/to/https://b.example/v1", "https://a.example/to/https://b.example/v1",
         ["/to/https://b.example/v1", "/to/https://b.example", "/v1", ""]),
    ],
)  # fmt: skip
def test_a_base_url_names_a_server_and_where_its_api_may_be(base_url, root, bases):
    assert server_root(base_url) == root
    assert server_root(root) == root
    origin = "/".join(root.split("/")[:3])
    assert [base.removeprefix(origin) for base in likely_bases(root)] == bases
    assert all(base.startswith(origin) for base in likely_bases(root))  # a key goes nowhere else


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("https://a.example/v1", "https://a.example/inference"),
        ("https://a.example/b/v1", "https://a.example/b/inference"),
        ("https://a.example/inference", "https://a.example/inference"),
    ],
)
def test_a_dialect_without_a_version_is_beside_it(base, url):
    assert url_of(base, "/inference") == url


# What the other addresses say


def at(places):
    """A script for each path; others are 404."""
    return lambda exchange: places.get(exchange.request.path, replies(404, GONE))(exchange)


def paths(server):
    return [request.path for request in server.requests]


def ask(server, path="", **options):
    return together_nb.complete("Hi", base_url=server.base_url + path, model="m", **{"api": "chat", **options})


def test_the_address_that_answered_is_remembered_for_all_dialects_and_the_list_and_told(capsys):
    def script(exchange):
        (answers(["Hi"]) if "/v1" not in exchange.request.path else replies(405, GONE))(exchange)

    with ScriptedServer(script, models=at({"/models": replies(200, [{"id": "m"}])})) as server, ipython() as shell:
        together_nb.settings.base_url = server.base_url
        for api in ("chat", "chat", "completions"):
            assert ask(server, api=api).text == "Hi"
        assert paths(server) == ["/v1/chat/completions", CHAT, CHAT, "/completions"]
        assert [row.id for row in together_nb.models()] == ["m"]
        assert [request.path for request in server.list_requests] == ["/models"]
        shell.run_cell("%%together -m m --api chat --dry-run\nHi").raise_error()
        assert capsys.readouterr().out.startswith(f"POST {server.base_url}/chat/completions\n")
        together_nb.settings.base_url = f"{server.base_url}/llm"
        assert ask(server, "/llm").text == "Hi"
        shell.run_cell("%together").raise_error()
        assert f"{server.base_url}/llm\n" in capsys.readouterr().out


LISTED = replies(200, [{"id": "m"}])


PAGE = replies(200, b"<html><title>Chat</title>", content_type="text/html")


@pytest.mark.parametrize("other", [PAGE, *(replies(status, {"error": "no"}) for status in (302, 400, 401, 500))])
@pytest.mark.parametrize(("path", "at_list"), [("", ""), ("/v1", ""), ("/a/v1", "/a"), ("/a", "/a/v1")])
def test_what_the_user_wrote_is_asked_first_wherever_the_list_is(other, path, at_list):
    base = path or "/v1"
    script = at({base + CHAT: answers(["Hi"]), at_list + CHAT: other})
    with ScriptedServer(script, models=at({f"{at_list}/models": LISTED})) as server:
        assert ask(server, path, api="auto").text == "Hi"
        assert paths(server) == [base + CHAT]
        assert [one.path for one in server.list_requests] == [f"{base}/models", f"{at_list}/models"]


def test_where_the_list_was_is_asked_next():
    with ScriptedServer(at({f"/b{CHAT}": answers(["Hi"])}), models=at({"/b/models": LISTED})) as server:
        assert [row.id for row in together_nb.models(base_url=f"{server.base_url}/b/v1")] == ["m"]
        assert ask(server, "/b/v1").text == "Hi"
        assert paths(server) == [f"/b/v1{CHAT}", f"/b{CHAT}"]


def test_a_list_that_was_looked_for_in_the_wrong_place_is_looked_for_again():
    with ScriptedServer(at({f"/v1{CHAT}": answers(["Hi"])}), models=at({"/v1/models": LISTED})) as server:
        assert ask(server, "/a/b", api="auto").text == "Hi"
        assert [row.id for row in together_nb.models(base_url=f"{server.base_url}/a/b")] == ["m"]
        assert [one.path for one in server.list_requests] == ["/a/b/models", "/a/b/v1/models", "/v1/models"]


@pytest.mark.parametrize(
    ("elsewhere", "kind", "words"),
    [
        (replies(404, GONE), NotFoundError, "{server}/v1/chat/completions"),
        (replies(405, GONE), NotFoundError, "{server}/v1/chat/completions"),
        (replies(302, b"", location="/login"), NotFoundError, "{server}/v1/chat/completions"),
        (replies(200, b"<html>", content_type="text/html"), NotFoundError, "{server}/v1/chat/completions"),
        (replies(404, {"error": "There is no model m."}), NotFoundError, "{server}/chat/completions"),
        (replies(401, {"error": "Who is it?"}), AuthenticationError, "Who is it?"),
        (replies(400, {"error": "Too warm."}), APIStatusError, "Too warm."),
        (replies(429, {"error": "Too fast."}), RateLimitError, "Too fast."),
        (replies(403, b"<html><title>Just a moment", content_type="text/html"), NotFoundError, "{server}/v1/chat/completions"),
        (replies(400, b"bad csrf", content_type="text/plain"), NotFoundError, "{server}/v1/chat/completions"),
        (replies(429, b"slow", content_type="text/plain"), NotFoundError, "{server}/v1/chat/completions"),
        (replies(500, {"error": "boom"}), NotFoundError, "{server}/v1/chat/completions"),
        (replies(501, b""), NotFoundError, "{server}/v1/chat/completions"),
        (replies(200, b"OK", content_type="text/plain"), NotFoundError, "{server}/v1/chat/completions"),
        (replies(200, b""), NotFoundError, "{server}/v1/chat/completions"),
        (replies(200, {"hello": "world"}), NotFoundError, "{server}/v1/chat/completions"),
        (silent(), NotFoundError, "{server}/v1/chat/completions"),
        (lambda exchange: exchange.cut(), NotFoundError, "{server}/v1/chat/completions"),
    ],
)  # fmt: skip
def test_an_api_elsewhere_decides_and_anything_else_there_leaves_the_first_error(
    elsewhere, kind, words, monkeypatch, session
):
    session.settings.max_retries = 0
    monkeypatch.setattr(attempts, "_GUESS_SECONDS", 0.3)

    def failure():
        with pytest.raises(kind) as caught:
            ask(server)
        assert type(caught.value) is kind
        assert words.format(server=server.base_url) in caught.value.message
        return caught.value.message

    with ScriptedServer(at({CHAT: elsewhere}), models=None) as server:
        first = failure()
        asked = list(dict.fromkeys(paths(server)))  # the last one is sent again: its connection was a kept one
        assert asked == [f"/v1{CHAT}", CHAT]
        before = len(server.requests)
        assert failure() == first
        assert paths(server)[before] == asked[0]  # what is not the API's is not remembered


def test_a_model_may_think_long_where_nobody_wrote_once_a_reply_has_begun(monkeypatch):
    monkeypatch.setattr(attempts, "_GUESS_SECONDS", 0.2)

    def thinks(exchange):
        exchange.chunked().headers()
        exchange.wait(0.6)
        exchange.text_events(["Hi"])
        exchange.done()

    with ScriptedServer(at({CHAT: thinks})) as server:
        assert ask(server).text == "Hi"


@pytest.mark.parametrize("gone", [replies(404, GONE), replies(405, GONE), PAGE])
@pytest.mark.parametrize("path", ["", "/v1"])
def test_an_address_that_no_longer_answers_is_forgotten(gone, path):
    with ScriptedServer(at({CHAT: answers(["Old"])})) as server:
        assert ask(server).text == "Old"
        server.script = at({CHAT: gone, f"/v1{CHAT}": answers(["New"])})  # another one has taken the port
        assert [ask(server, path).text for _ in "ab"] == ["New", "New"]
        assert paths(server) == [f"/v1{CHAT}", CHAT, CHAT, f"/v1{CHAT}", f"/v1{CHAT}"]


def test_an_error_where_it_has_answered_is_no_reason_to_forget_it(session):
    session.settings.max_retries = 0
    with ScriptedServer(at({CHAT: answers(["Hi"])})) as server:
        assert ask(server).text == "Hi"
        for status, words in ((500, "boom"), (404, "no such model: m"), (401, "no")):
            server.script = at({CHAT: replies(status, {"error": words})})
            with pytest.raises(APIStatusError, match=words):
                ask(server)
        assert paths(server)[1:] == [CHAT] * 4


@pytest.mark.parametrize("status", [400, 401, 403, 422, 500, 503])
def test_no_other_status_leads_elsewhere(status):
    with ScriptedServer(replies(status, {"error": "no"}), models=None) as server:
        with pytest.raises(APIStatusError):
            ask(server)
        assert paths(server) == [f"/v1{CHAT}"]


@pytest.mark.parametrize(
    "words",
    [
        "The model `m` does not exist.",
        "no such model: m",
        "'m' not found",
        "This is a chat model and not supported in the v1/completions endpoint. Did you mean to use v1/chat/completions?",
        "No endpoints found that support tool use.",
        "The API deployment for this resource does not exist.",
    ],
)
def test_a_404_that_names_the_model_or_explains_itself_is_the_apis(words):
    with ScriptedServer(replies(404, {"error": {"message": words}}), models=None) as server:
        with pytest.raises(NotFoundError, match="127"):
            ask(server)
        assert paths(server) == [f"/v1{CHAT}"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"error": {"message": "Invalid URL (POST /v1/chat/completions)", "code": None}},
        {"message": "no Route matched with those values"},
        {"statusCode": 404, "message": "Cannot POST /v1/chat/completions", "error": "Not Found"},
        {"message": "Route POST:/v1/chat/completions not found"},
        {"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}},
        {"error": {"message": "Unknown request URL: POST /v1/chat/completions. Please check the URL for typos."}},
        {"status": 404, "path": "/v1/chat/completions"},
        {"code": "404", "message": "Resource not found"},
        {"detail": "Method Not Allowed"},
        {"msg": "接口不存在"},
        "404 page not found",
        "<html><title>No tool here",
    ],
)
def test_a_404_in_general_words_leads_elsewhere(body):
    with ScriptedServer(at({CHAT: answers(["Hi"]), f"/v1{CHAT}": replies(404, body)})) as server:
        assert ask(server).text == "Hi"


def test_a_404_where_it_has_answered_leads_nowhere():
    with ScriptedServer(at({f"/v1{CHAT}": answers(["Hi"])})) as server:
        assert ask(server).text == "Hi"
        server.script = replies(404, {"error": "no such model"})
        with pytest.raises(NotFoundError):
            ask(server)
        assert paths(server) == [f"/v1{CHAT}"] * 2


def test_it_is_not_remembered_from_a_dialect_without_a_version():
    with ScriptedServer(at({"/inference": answers(["Hi"]), CHAT: answers(["Hi"])})) as server:
        assert [ask(server, api=api).text for api in ("inference", "chat")] == ["Hi", "Hi"]


def test_retries_stay_where_the_api_is(session):
    session.settings.max_retries = 1

    def script(exchange):
        if exchange.request.path.startswith("/v1"):
            exchange.reply(404, GONE)
        else:
            (replies(500, {}) if len(exchange.server.requests) == 2 else answers(["Hi"]))(exchange)

    with ScriptedServer(script) as server:
        assert ask(server).text == "Hi"
        assert paths(server) == [f"/v1{CHAT}", CHAT, CHAT]


def test_a_key_goes_to_other_paths_of_its_server_and_a_replay_needs_none(tmp_path):
    with ScriptedServer(at({CHAT: answers(["Hi"])})) as server:
        with together_nb.record(tmp_path / "lesson.jsonl"):
            assert ask(server, api_key=KEY).text == "Hi"
        assert [one.headers["authorization"] for one in server.requests] == [f"Bearer {KEY}"] * 2
    for base_url in ("https://api.together.xyz", "https://a.example/b/v1", "https://a.example"):
        with together_nb.replay(tmp_path / "lesson.jsonl", speed=0):
            assert [together_nb.complete("Hi", base_url=base_url, model="m", api="chat").text for _ in "ab"] == [
                "Hi"
            ] * 2


def test_a_worker_learns_where_the_api_is_and_tells_it():
    with ScriptedServer(at({CHAT: answers(["Hi"])})) as server:
        stream = together_nb.stream("Hi", base_url=server.base_url, model="m", api="chat")
        told = answer(Task.of(stream, None)).base  # as in another process, which has no session
        assert told == server.base_url
        stream.endpoint.note_base(told)
        assert answer(Task.of(stream, None)).completion.text == "Hi"
        assert paths(server) == [f"/v1{CHAT}", CHAT, CHAT]


def test_0000_is_this_machine():
    with ScriptedServer(answers(["Hi"])) as server:
        assert together_nb.complete("Hi", base_url=f"http://0.0.0.0:{server.port}", model="m", api="chat").text == "Hi"


# https:// to a port that does not speak it


def refuses(connected):
    connected.recv(65536)
    connected.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


@contextmanager
def plain_port(speak):
    """A port that takes connections and has `speak` answer them."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = []

        def serve():
            while True:
                try:
                    connected = listener.accept()[0]
                except OSError:
                    return
                taken.append(connected)
                speak(connected)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1], taken
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connected in taken:
            connected.close()


@pytest.mark.parametrize("api", ["chat", "auto"])
@pytest.mark.parametrize(
    "speak",
    [refuses, lambda connected: None, lambda connected: connected.close(), lambda connected: connected.sendall(b"SSH-2.0-x\r\n")],
    ids=["answers 400", "waits for a line", "closes", "speaks first"],
)  # fmt: skip
def test_https_to_a_plain_port_is_told_at_once_with_the_plain_address(speak, api, session):
    session.settings.max_retries = 4
    with plain_port(speak) as (port, taken):
        began = perf_counter()
        with pytest.raises(APIConnectionError, match="does not speak TLS") as caught:
            together_nb.complete("Hi", base_url=f"https://localhost:{port}/a/v1", model="m", api=api)
        assert perf_counter() - began < 3
        assert f"http://localhost:{port}/a/v1." in caught.value.hint
        assert len(taken) == 1


def test_a_model_of_this_machine_answers_whatever_is_at_the_port():
    with plain_port(refuses) as (port, taken):
        together_nb.settings.base_url = f"https://localhost:{port}"
        assert together_nb.complete("Once", model="local/ngram", max_tokens=1).text
        assert len(taken) == 1


def test_the_limit_of_a_handshake_is_not_that_of_the_request(certificates, monkeypatch, session):
    def request(connection, *arguments, **named):
        limits.append(connection.sock.gettimeout())
        usual(connection, *arguments, **named)

    limits, usual = [], http._CancellableConnection.request
    monkeypatch.setattr(http._CancellableConnection, "request", request)
    with ScriptedServer(answers(["Hi"]), tls=certificates) as server:
        assert ask(server).text == "Hi"
    assert limits == [session.settings.connect_timeout]


@pytest.mark.parametrize(("speak", "plain"), [(refuses, True), (lambda connected: connected.close(), False)])
def test_another_host_is_not_said_to_be_plain_unless_it_answers_so_and_no_plain_address_is_named(
    speak, plain, monkeypatch
):
    monkeypatch.setattr("together_nb.wire.http.is_loopback", lambda _: False)
    with plain_port(speak) as (port, _):
        with pytest.raises(APIConnectionError) as caught:
            together_nb.complete("Hi", base_url=f"https://127.0.0.1:{port}", model="m", api="chat")
        assert ("does not speak TLS" in caught.value.message) == plain
        assert "http://" not in caught.value.hint
