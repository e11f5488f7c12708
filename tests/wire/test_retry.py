"""When a request is sent again: the waits, who is told of them where, and how they end."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import together_nb
from tests.magic.test_magics import ipython
from tests.panel.test_panel import click, enabled, figures, in_turn, opened, state, until
from tests.servers import MODELS, PATIENCE, ScriptedServer, answers, replies, silent
from together_nb.errors import NotFoundError, TogetherError
from together_nb.magic.completer import model_names
from together_nb.panel.status_line import State
from together_nb.wire import retry
from together_nb.wire.retry import Retries, Wait, listen_to_waits, may_pass, retry_after
from together_nb.wire.wiretap import Wiretap

# What is left of a wait of a second, and of a minute: a slow machine says it late.
OF_A_SECOND = "(in 1 s|now)"
OF_A_MINUTE = r"in (60|5\d) s"
OPTIONS = {"model": "test/chat", "api": "chat"}
KEY = "sk-secret-0123456789abcdef"

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True)
def _retries():
    together_nb.settings.max_retries = 4


def passing(after=None):
    error = TogetherError("It failed.")
    error.passing, error.retry_after = "rate limited", after
    return error


def limited(seconds="60"):
    """Refuses the first request and wants a pause; answers the next one."""
    return in_turn(replies(429, {"error": "slower"}, retry_after=seconds), answers(["Once", " upon"]))


@pytest.fixture
def waits():
    """What is said of each wait, none of which is sat out."""
    said = []

    def listen(wait):
        said.append(str(wait))
        wait._until = 0

    with listen_to_waits(listen):
        yield said


# How long


def test_the_waits_double_up_to_the_longest_less_a_random_quarter(monkeypatch):
    monkeypatch.setattr(retry, "Wait", lambda reason, seconds: seconds)
    for share, factor in ((0.0, 1.0), (1.0, 0.75)):
        monkeypatch.setattr(retry.random, "random", lambda share=share: share)
        retries = Retries(7)
        seconds = [retries.after(passing()) for _ in range(8)]
        assert seconds == [*(factor * most for most in (0.5, 1, 2, 4, 8, 8, 8)), None]


def test_a_wait_that_the_server_wants_is_honoured_up_to_a_minute_and_says_why_and_how_long_yet(monkeypatch):
    assert str(Wait("rate limited", 2.5)) == "rate limited; trying again in 3 s"
    assert str(Wait("rate limited", 0)) == "rate limited; trying again now"
    monkeypatch.setattr(retry, "Wait", lambda reason, seconds: seconds)
    assert Retries(4).after(passing(after=60.0)) == 60.0
    assert Retries(4).after(passing(after=60.5)) is None
    assert 0.375 <= Retries(4).after(passing(after=0.0)) <= 0.5


@pytest.mark.parametrize("words", ["It failed.", "It failed"])
def test_the_last_error_says_how_often_it_was_tried(words):
    retries, error = Retries(2), passing()
    error.reword(words)
    assert [str(retries.after(error)) for _ in range(2)] == 2 * ["rate limited; trying again in 1 s"]
    assert retries.after(error) is None
    assert error.message == "It failed. Tried 3 times."
    assert Retries(4).after(TogetherError("It will not pass.")) is None


@pytest.mark.parametrize(
    ("after", "date", "seconds"),
    [
        *((text, None, None) for text in ("-1", "nan", "inf", "1e9", "soon", "")),
        *((text, None, float(text)) for text in ("0", "2", " 2.5 ", "86400")),
        ("Sun, 22 Nov 2026 10:00:30 GMT", "Sun, 22 Nov 2026 10:00:00 GMT", 30.0),
        ("Sun, 22 Nov 2026 09:00:00 GMT", "Sun, 22 Nov 2026 10:00:00 GMT", 0.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", None, 0.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", "yesterday", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", None, None),
    ],
)
def test_retry_after_is_read_in_seconds_and_as_a_date(after, date, seconds):
    assert retry_after({"Retry-After": after, **({"Date": date} if date else {})}) == seconds
    assert retry_after({}) is None


def test_the_statuses_that_may_pass():
    assert [status for status in range(400, 600) if may_pass(status)] == [408, 409, 429, *range(500, 600)]


# What is sent, and who is told


def test_each_request_is_the_same_and_what_came_of_one_is_not_mixed_with_the_next(waits):
    def cut(exchange):
        exchange.chunked().event(exchange.payload("") | {"id": "the first"})
        exchange.send(b": cut")
        exchange.cut()

    with ScriptedServer(in_turn(cut, replies(200, b'data: {"choices": [{"text": "Once"}]}\n\n[DONE]'))) as server:
        answer = together_nb.stream("hello", base_url=server.base_url, model="test/chat", api="inference", api_key=KEY)
        answer.wiretap = Wiretap()
        assert [chunk.text for chunk in answer if chunk.text] == ["Once"]
    first, second = server.requests
    assert (first.body, first.headers["authorization"]) == (second.body, second.headers["authorization"])
    assert (answer.completion.id, len(waits)) == ("", 1)
    assert [line.text for line in answer.wiretap.since(2)][:2] == [": cut", 'data: {"choices": [{"text": "Once"}]}']


def test_a_wait_is_logged_unless_somebody_listens_then_the_innermost_is_told(monkeypatch, caplog):
    monkeypatch.setattr(retry, "FIRST_SECONDS", 0.001)
    outer, inner = [], []
    with ScriptedServer(limited("soon")) as server:
        with listen_to_waits(outer.append), listen_to_waits(inner.append):
            together_nb.complete("hello", base_url=server.base_url, **OPTIONS)
        assert (len(outer), len(inner), caplog.records) == (0, 1, [])
        server.script = limited("soon")
        together_nb.complete("hello", base_url=server.base_url, **OPTIONS)
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("together_nb", "WARNING")
    assert re.fullmatch(f"rate limited; trying again {OF_A_SECOND}", record.getMessage())


def test_where_nothing_is_drawn_a_comparison_tells_its_waits_too(monkeypatch, caplog):
    monkeypatch.setattr(retry, "FIRST_SECONDS", 0.001)
    with ScriptedServer(limited("soon")) as server:
        together_nb.compare("hello", seed=[1], show="none", base_url=server.base_url, **OPTIONS)
    assert len(caplog.records) == 1


# The list of models


ONE_MODEL = MODELS[1:]


def test_a_list_that_names_the_only_model_is_wanted_again_and_the_dialect_not_guessed_meanwhile(waits):
    def half(exchange):
        exchange.headers(200, content_length=1000, content_type="application/json")
        exchange.send(b'[{"id": "half')
        exchange.cut()

    listing = in_turn(replies(503, b""), replies(429, b""), half, replies(200, ONE_MODEL))
    with ScriptedServer(answers(["Once"]), models=listing) as server:
        together_nb.complete("hello", base_url=server.base_url)
        assert [row.id for row in together_nb.models(base_url=server.base_url)] == ["test/base"]
        assert server.lists == 4
    assert [request.path for request in server.requests] == ["/v1/completions"]
    assert waits[:2] == ["the server is overloaded; trying again in 1 s", "rate limited; trying again in 1 s"]


def test_tab_wants_the_list_once(waits, environ, session):
    with ScriptedServer(silent(), models=replies(503, b"")) as server:
        environ(TOGETHER_BASE_URL=server.base_url)
        assert model_names(session)
        assert (server.lists, waits) == (1, [])


def test_a_key_that_a_server_of_a_list_repeats_is_not_shown_while_it_is_waited_for(waits):
    def repeat(exchange):
        exchange.raw(f"NOTHTTP {exchange.request.headers['authorization']}\r\n\r\n".encode())
        exchange.cut()

    with ScriptedServer(silent(), models=repeat) as server, pytest.raises(TogetherError) as caught:
        together_nb.models(base_url=server.base_url, api_key=KEY)
    assert len(waits) == 4
    assert "secret" not in f"{waits} {caught.value}"


# How a wait ends


@pytest.mark.parametrize("script", [replies(429, {}), answers([""], finish=None, done=False)])
def test_cancel_ends_a_wait_that_can_be_seen_at_once_and_nothing_more_is_sent(script):
    waiting, seen = threading.Event(), []
    with ScriptedServer(script) as server, ThreadPoolExecutor(1) as pool:
        answer = together_nb.stream("hello", base_url=server.base_url, **OPTIONS)
        pool.submit(lambda: waiting.wait(PATIENCE) and answer.cancel())

        def listen(wait):
            seen.append(answer.wait is wait)
            wait._until += 60
            waiting.set()

        with listen_to_waits(listen):
            assert not any(chunk.text for chunk in answer)
        assert (seen, answer.wait, answer.cancelled) == ([True], None, True)
        assert answer.completion.ending == "stopped by you"
        assert len(server.requests) == 1


def test_cancel_ends_the_look_up_of_a_hint(monkeypatch):
    monkeypatch.setattr("together_nb.wire.endpoint._CATALOG_TIMEOUT", 300)
    with ScriptedServer(replies(404, {"error": "no model"}), models=silent()) as server, ThreadPoolExecutor(1) as pool:
        answer = together_nb.stream("hello", base_url=server.base_url, timeout=300, **OPTIONS)
        pool.submit(lambda: server.listed.wait(PATIENCE) and answer.cancel())
        with pytest.raises(NotFoundError, match="no model"):
            list(answer)
        assert not answer.cancelled


# In a terminal and in a notebook


def busy_list():
    return in_turn(replies(429, b"", retry_after="1"), replies(200, ONE_MODEL))


def test_a_terminal_is_told_in_a_line(capsys):
    with ScriptedServer(limited("1"), models=busy_list()) as server, ipython() as shell:
        together_nb.settings.base_url = server.base_url
        shell.run_cell("%%together\nhello").raise_error()
    *waits, text = capsys.readouterr().out.splitlines()[:3]
    assert text == "Once upon"
    assert all(re.fullmatch(rf"\(rate limited; trying again {OF_A_SECOND} · Ctrl-C stops\)", wait) for wait in waits)


IN_THE_KERNEL = "import together_nb"


def run_in(kernel, server, cell, **options):
    kernel.run(f"together_nb.settings.base_url = {server.base_url!r}").wait()
    return kernel.run(cell, **options)


def status(message):
    """What a message draws in a line of status."""
    data = message["content"].get("data", {})
    return str(data.get("state", {}).get("value", "")) if isinstance(data, dict) else ""


def test_a_cell_says_that_it_waits_for_the_list_and_for_the_answer(kernel):
    with ScriptedServer(limited("1"), models=busy_list()) as server:
        run = run_in(kernel, server, "%%together\nhello")
        run.until(lambda message: re.search(f"rate limited; trying again {OF_A_SECOND} · ■ stops", status(message)))
        run.wait()
    assert (run.status, len(server.requests)) == ("ok", 2)
    shown = run.of("display_data", "clear_output")
    assert [one["msg_type"] for one in shown] == ["display_data", "clear_output", "display_data"]
    notice = shown[0]["content"]["data"]["text/plain"]
    assert re.fullmatch(f"rate limited; trying again {OF_A_SECOND} · ■ stops", notice)
    assert "Once upon" in str(run.of("update_display_data")[-1]["content"]["data"]["text/plain"])


def test_a_command_that_waits_says_so_and_keeps_what_else_is_shown(kernel):
    with ScriptedServer(silent(), models=busy_list()) as server:
        run = run_in(kernel, server, "print('before')\n%together models").wait()
    assert re.fullmatch(rf"before\n\(rate limited; trying again {OF_A_SECOND} · ■ stops\)\n", run.stdout)
    assert "test/base" in run.display["data"]["text/plain"]
    assert run.of("clear_output") == []


def test_where_nobody_watches_a_wait_is_sat_out_in_silence(kernel):
    with ScriptedServer(limited("1"), models=busy_list()) as server:
        run = run_in(kernel, server, "%%together\nhello", watched=False).wait()
    assert run.status == "ok"
    assert [one["msg_type"] for one in run.of("display_data", "stream", "clear_output")] == ["display_data"]


def test_a_cell_in_the_background_says_that_it_waits_and_can_be_stopped(kernel):
    with ScriptedServer(limited()) as server:
        run_in(kernel, server, "%%together -m test/chat --api chat -b -o run\nhello").wait()
        while not re.search(f"trying again {OF_A_MINUTE}", status(message := kernel.client.get_iopub_msg(PATIENCE))):
            pass
        assert "■" not in str(message["content"])
        kernel.run("run.cancel()").wait()
        assert kernel.value("run.result().cancelled") == "True"
        assert len(server.requests) == 1


# In the panel


@pytest.mark.parametrize(("api", "requests"), [("chat", 1), ("auto", 0)], ids=["the answer", "the list"])
def test_the_panel_says_that_it_waits_and_stop_ends_it(api, requests):
    busy = replies(429, b"", retry_after="60")
    together_nb.settings.max_retries = 1
    # The box with the model wants a list too.
    listing, model = in_turn(busy, busy, replies(200, ONE_MODEL)), "test/chat" if requests else None
    with ScriptedServer(limited(), models=listing) as server, opened(server, api=api, model=model) as panel:
        click(panel, "Generate")
        until(lambda: state(panel) is State.RETRYING)
        assert re.fullmatch(f"rate limited; trying again {OF_A_MINUTE}", figures(panel))
        assert enabled(panel) == {"Stop", "Clear"}
        click(panel, "Stop")
        until(lambda: state(panel) is State.STOPPED)
        assert (together_nb.history, len(server.requests)) == ([], requests)
