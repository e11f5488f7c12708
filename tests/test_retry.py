"""When a request is sent again: the waits, who is told of them where, and how they end."""

from __future__ import annotations

import os
import re
import signal
import threading

import pytest

from tests.kernels import WIDGET, Kernel
from tests.servers import MODELS, PATIENCE, ScriptedServer, answers, replies, silent
from tests.test_magic import ipython
from tests.test_panel import click, enabled, figures, opened, page, rest, show, state, until, words
from together_nb import complete, history, models, retry, settings, stream
from together_nb.completer import model_names
from together_nb.errors import APIStatusError, NotFoundError, TogetherError
from together_nb.panel.status import State
from together_nb.retry import Retries, Wait, asked_for, may_pass, told_to, tried
from together_nb.scope import Scope
from together_nb.wiretap import Wiretap

# What is left of a wait of a second, and of a minute: a slow machine says it late.
OF_A_SECOND = "(in 1 s|now)"
OF_A_MINUTE = r"in (60|5\d) s"

pytestmark = pytest.mark.timeout(60)


def passing(reason="rate limited", after=None):
    error = TogetherError("It failed.")
    error.passing, error.retry_after = reason, after
    return error


def limited(seconds="60", then=("Once", " upon")):
    """Refuses the first request and asks to wait; answers the next one."""

    def script(exchange):
        first = len(exchange.server.requests) == 1
        (replies(429, {"error": "slower"}, retry_after=seconds) if first else answers(then))(exchange)

    return script


def failing_list(*first):
    """A list of models whose first requests are answered by `first`."""

    def script(exchange):
        number = len(exchange.server.list_requests) - 1
        (first[number] if number < len(first) else replies(200, MODELS))(exchange)

    return script


@pytest.fixture
def told():
    """Hears of each wait, and lets it be over at once."""
    heard = []

    def listen(wait):
        heard.append(str(wait))
        wait._until = 0

    settings.max_retries = 4
    with told_to(listen):
        yield heard


def asked(server, **options):
    return {"base_url": server.base_url, "model": "test/chat", "api": "chat"} | options


# How long


def test_the_waits_double_up_to_the_longest_less_a_random_quarter(monkeypatch):
    made = []
    monkeypatch.setattr(retry, "Wait", lambda reason, seconds: made.append(seconds))
    for share, factor in ((0.0, 1.0), (1.0, 0.75)):
        made.clear()
        monkeypatch.setattr(retry.random, "random", lambda share=share: share)
        retries = Retries(7)
        for _ in range(8):
            retries.after(passing())
        assert made == [factor * seconds for seconds in (0.5, 1, 2, 4, 8, 8, 8)]


def test_what_the_server_asks_for_is_waited_for_up_to_a_minute(monkeypatch):
    monkeypatch.setattr(retry, "Wait", lambda reason, seconds: seconds)
    assert Retries(4).after(passing(after=60.0)) == 60.0
    assert Retries(4).after(passing(after=60.5)) is None
    assert 0.375 <= Retries(4).after(passing(after=0.0)) <= 0.5


def test_an_error_that_will_not_pass_is_not_tried_again():
    error = TogetherError("It failed.")
    assert Retries(4).after(error) is None
    assert error.message == "It failed."


@pytest.mark.parametrize("words", ["It failed.", "It failed"])
def test_the_last_error_says_how_often_it_was_tried(words):
    retries = Retries(2)
    for _ in range(2):
        assert retries.after(passing()) is not None
    error = passing()
    error.reword(words)
    assert retries.after(error) is None
    assert error.message == "It failed. Tried 3 times."


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "2"}, 2.0),
        ({"Retry-After": " 2.5 "}, 2.5),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "1e9"}, None),
        ({"Retry-After": "86400"}, 86400.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": ""}, None),
        ({"Retry-After": "Sun, 22 Nov 2026 10:00:30 GMT", "Date": "Sun, 22 Nov 2026 10:00:00 GMT"}, 30.0),
        ({"Retry-After": "Sun, 22 Nov 2026 09:00:00 GMT", "Date": "Sun, 22 Nov 2026 10:00:00 GMT"}, 0.0),
        ({"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"}, 0.0),
        ({"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT", "Date": "yesterday"}, 0.0),
        ({"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"}, None),
    ],
)
def test_retry_after_is_read_in_seconds_and_as_a_date(headers, seconds):
    assert asked_for(headers) == seconds


def test_the_statuses_that_may_pass():
    assert [status for status in range(400, 600) if may_pass(status)] == [408, 409, 429, *range(500, 600)]


def test_a_wait_says_why_and_how_long_yet():
    assert str(Wait("rate limited", 2.5)) == "rate limited; trying again in 3 s"
    assert str(Wait("rate limited", 0)) == "rate limited; trying again now"


# How often, and who is told


@pytest.mark.parametrize("most", [0, 1, 4])
def test_the_settings_say_how_often(most, told):
    settings.max_retries = most
    with ScriptedServer(replies(503, {"error": "busy"})) as server:
        with pytest.raises(APIStatusError):
            complete("hello", **asked(server))
        assert (len(server.requests), len(told)) == (most + 1, most)


def test_each_request_is_the_same_and_only_one_answer_is_kept(told):
    with ScriptedServer(limited("7")) as server:
        assert complete("hello", **asked(server), temperature=0.5, api_key="sk-0123456789abcdef").text == "Once upon"
    first, second = server.requests
    assert (first.body, first.headers["authorization"]) == (second.body, second.headers["authorization"])
    assert told == ["rate limited; trying again in 7 s"]
    assert [kept.text for kept in history] == ["Once upon"]


def test_what_came_without_being_an_answer_is_not_mixed_with_the_answer(told):
    def script(exchange):
        if len(exchange.server.requests) == 1:
            exchange.chunked().event(exchange.payload("") | {"id": "the first"})
            exchange.cut()
        else:
            exchange.chunked().text_events(["Once"], "inference")
            exchange.done()

    with ScriptedServer(script) as server:
        answer = complete("hello", **asked(server, api="inference"))
    assert (answer.text, answer.id, len(told)) == ("Once", "test-1", 1)


def test_in_python_each_wait_is_logged_as_a_warning(monkeypatch, caplog):
    monkeypatch.setattr(retry, "FIRST_SECONDS", 0.001)
    settings.max_retries = 4
    with ScriptedServer(limited("soon")) as server, stream("hello", **asked(server)) as opened_:
        assert "".join(chunk.text for chunk in opened_) == "Once upon"
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("together_nb", "WARNING")
    assert re.fullmatch(f"rate limited; trying again {OF_A_SECOND}", record.getMessage())


def test_whoever_listens_is_told_and_nothing_is_logged(monkeypatch, caplog):
    monkeypatch.setattr(retry, "FIRST_SECONDS", 0.001)
    settings.max_retries = 4
    outer, inner = [], []
    with ScriptedServer(limited("soon")) as server, told_to(outer.append), told_to(inner.append):
        complete("hello", **asked(server))
    assert (len(outer), len(inner), caplog.records) == (0, 1, [])


def test_a_function_is_tried_again_and_its_last_error_raised(told):
    results = [passing(), passing(), "result"]

    def ask():
        result = results.pop(0)
        if isinstance(result, TogetherError):
            raise result
        return result

    assert tried(4, ask) == "result"
    assert len(told) == 2
    results[:] = [passing(), passing(), "never"]
    with pytest.raises(TogetherError, match=r"Tried 2 times\."):
        tried(1, ask)


# The list of models


def test_the_list_of_models_is_asked_for_again(told):
    with ScriptedServer(answers(["Once"]), models=failing_list(replies(503, b""), replies(429, b""))) as server:
        assert [row.id for row in models(base_url=server.base_url)] == ["test/chat", "test/base"]
        assert server.lists == 3
    assert told == ["the server is overloaded; trying again in 1 s", "rate limited; trying again in 1 s"]


def test_the_dialect_is_not_guessed_while_the_list_may_yet_come(told):
    with ScriptedServer(answers(["Once"]), models=failing_list(replies(503, b""))) as server:
        complete("hello", base_url=server.base_url, model="test/base")
    (request,) = server.requests
    assert request.path == "/v1/completions"


def test_tab_asks_for_the_list_once(told, environ):
    with ScriptedServer(silent(), models=replies(503, b"")) as server:
        environ(TOGETHER_BASE_URL=server.base_url)
        assert model_names()
        assert (server.lists, told) == (1, [])


def test_a_key_that_a_server_of_a_list_repeats_is_not_told_while_it_is_waited_for(told):
    def models_(exchange):
        exchange.raw(f"NOTHTTP {exchange.request.headers['authorization']}\r\n\r\n".encode())
        exchange.cut()

    with ScriptedServer(silent(), models=models_) as server, pytest.raises(TogetherError) as caught:
        models(base_url=server.base_url, api_key="sk-secret-0123456789abcdef")
    assert len(told) == 4
    assert "secret" not in f"{told} {caught.value}"


def test_a_list_that_breaks_off_is_asked_for_again(told):
    def half(exchange):
        exchange.headers(200, content_length=1000, content_type="application/json")
        exchange.send(b'[{"id": "half')
        exchange.cut()

    with ScriptedServer(answers(["Once"]), models=failing_list(half)) as server:
        assert [row.id for row in models(base_url=server.base_url)] == ["test/chat", "test/base"]


# How a wait ends


def test_cancel_ends_a_wait_after_a_stream_that_ended_without_an_answer():
    def script(exchange):
        exchange.chunked().event(exchange.payload(""))

    settings.max_retries = 4
    with ScriptedServer(script) as server:
        answer = stream("hello", **asked(server))
        with told_to(lambda wait: answer.cancel()):
            assert all(not chunk.text for chunk in answer)
        assert (answer.cancelled, len(server.requests)) == (True, 1)


def test_the_lines_of_two_tries_are_not_mixed(told):
    def script(exchange):
        if len(exchange.server.requests) == 1:
            exchange.chunked().send(b": first")
            exchange.cut()
        else:
            answers(["Once"])(exchange)

    with ScriptedServer(script) as server:
        answer = stream("hello", **asked(server))
        answer.wiretap = Wiretap()
        list(answer)
    assert answer.wiretap.since(0)[0].text == ": first"
    assert len(told) == 1


def test_cancel_ends_the_look_up_of_a_hint():
    with ScriptedServer(replies(404, {"error": "no model"}), models=silent()) as server:
        answer = stream("hello", **asked(server))
        canceller = threading.Thread(target=lambda: (server.listed.wait(PATIENCE), answer.cancel()))
        canceller.start()
        with pytest.raises(NotFoundError, match="no model"):
            list(answer)
        canceller.join()
        assert not answer.cancelled


def test_cancel_ends_a_wait_at_once_and_nothing_more_is_sent():
    settings.max_retries = 4
    waiting = threading.Event()
    with ScriptedServer(limited()) as server, told_to(lambda wait: waiting.set()):
        answer = stream("hello", **asked(server))
        stopper = threading.Thread(target=lambda: waiting.wait(PATIENCE) and answer.cancel())
        stopper.start()
        assert list(answer) == []
        stopper.join()
        assert (answer.cancelled, answer.completion.ending, answer.wait) == (True, "stopped by you", None)
        assert len(server.requests) == 1


def test_the_wait_can_be_seen_while_it_lasts():
    settings.max_retries = 4
    seen = []
    with ScriptedServer(limited()) as server:
        answer = stream("hello", **asked(server))

        def look(wait):
            seen.append(answer.wait is wait)
            answer.cancel()

        assert answer.wait is None
        with told_to(look):
            assert list(answer) == []
    assert seen == [True]


def test_ctrl_c_ends_a_wait():
    settings.max_retries = 4
    with ScriptedServer(limited()) as server, told_to(lambda wait: os.kill(os.getpid(), signal.SIGINT)):
        with pytest.raises(KeyboardInterrupt):
            complete("hello", **asked(server))
        assert len(server.requests) == 1
    assert [kept.cancelled for kept in history] == [True]


def test_a_scope_ends_the_wait_for_a_list():
    settings.max_retries = 4
    failed = replies(503, b"", retry_after=60)
    with ScriptedServer(silent(), models=failed) as server, Scope() as scope, told_to(lambda wait: scope.cancel()):
        with pytest.raises(APIStatusError):
            models(base_url=server.base_url)
        assert server.lists == 1


# In a terminal


def test_a_terminal_is_told_in_a_line(capsys):
    settings.max_retries = 4
    models = failing_list(replies(503, b""))
    with ScriptedServer(limited("1"), models=models) as server, ipython() as shell:
        settings.base_url = server.base_url
        shell.run_cell("%%together -m test/chat\nhello").raise_error()
    first, second, third = capsys.readouterr().out.splitlines()[:3]
    assert re.fullmatch(rf"\(the server is overloaded; trying again {OF_A_SECOND} · Ctrl-C stops\)", first)
    assert re.fullmatch(rf"\(rate limited; trying again {OF_A_SECOND} · Ctrl-C stops\)", second)
    assert third == "Once upon"


# In a notebook


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    one = Kernel(tmp_path_factory.mktemp("kernel"))
    one.run("import together_nb; together_nb.settings.model = 'test/chat'").wait()
    yield one
    one.stop()


def status_with(pattern):
    """Whether a message draws a status line that matches `pattern`."""

    def seen(message):
        state_ = message["content"].get("data", {})
        drawn = str(state_.get("state", {}).get("value", "") if isinstance(state_, dict) else "")
        return re.search(pattern, drawn) is not None

    return seen


def run_in(kernel, server, cell):
    kernel.run(f"together_nb.settings.base_url = {server.base_url!r}").wait()
    return kernel.run(cell)


def test_a_cell_says_that_it_waits_and_how_to_stop_it_and_then_answers(kernel):
    with ScriptedServer(limited("1")) as server:
        run = run_in(kernel, server, "%%together --api chat\nhello")
        run.until(status_with(f"rate limited; trying again {OF_A_SECOND} · ■ stops"))
        run.wait()
    assert (run.status, len(server.requests)) == ("ok", 2)
    assert run.display["data"]["text/plain"].startswith("Once upon\n")


def test_the_notebooks_stop_ends_a_wait(kernel):
    with ScriptedServer(limited()) as server:
        run = run_in(kernel, server, "%%together --api chat\nhello")
        run.until(status_with(f"trying again {OF_A_MINUTE}"))
        kernel.interrupt()
        run.wait()
        assert len(server.requests) == 1
    assert (run.status, run.error["ename"]) == ("error", "KeyboardInterrupt")
    assert WIDGET not in run.display["data"]


def test_the_stop_button_of_a_cell_in_the_background_ends_a_wait(kernel):
    with ScriptedServer(limited()) as server:
        run_in(kernel, server, "%%together --api chat -b -o run\nhello").wait()
        while not status_with(f"trying again {OF_A_MINUTE}")(message := kernel.client.get_iopub_msg(timeout=PATIENCE)):
            pass
        assert "■" not in str(message["content"])
        kernel.run("run.cancel()").wait()
        assert kernel.value("run.result().cancelled") == "True"
        assert len(server.requests) == 1


def test_a_cell_that_waits_for_the_list_says_so_and_takes_it_away(kernel):
    with ScriptedServer(answers(["Once"]), models=failing_list(replies(429, b"", retry_after="1"))) as server:
        run = run_in(kernel, server, "%%together\nhello").wait()
    kinds = [one["msg_type"] for one in run.of("display_data", "clear_output")]
    assert kinds == ["display_data", "clear_output", "display_data"]
    shown = run.of("display_data")[0]["content"]["data"]["text/plain"]
    assert re.fullmatch(f"rate limited; trying again {OF_A_SECOND} · ■ stops", shown)


def test_a_command_that_waits_says_so_and_keeps_what_else_is_shown(kernel):
    with ScriptedServer(silent(), models=failing_list(replies(429, b"", retry_after="1"))) as server:
        run = run_in(kernel, server, "print('before')\n%together models").wait()
    assert re.fullmatch(rf"before\n\(rate limited; trying again {OF_A_SECOND} · ■ stops\)\n", run.stdout)
    assert "test/chat" in run.display["data"]["text/plain"]
    assert run.of("clear_output") == []


def test_where_nobody_watches_a_wait_is_sat_out_in_silence(kernel):
    with ScriptedServer(limited("1"), models=failing_list(replies(429, b"", retry_after="1"))) as server:
        kernel.run(f"together_nb.settings.base_url = {server.base_url!r}").wait()
        run = kernel.run("%%together\nhello", watched=False).wait()
    assert run.status == "ok"
    assert [one["msg_type"] for one in run.of("display_data", "stream", "clear_output")] == ["display_data"]


# In the panel


def test_the_panel_says_that_it_waits_and_then_answers(monkeypatch):
    waits, sit_out = [], Wait.sit_out
    monkeypatch.setattr(Wait, "sit_out", lambda wait: waits.append(wait) or sit_out(wait))
    settings.max_retries = 4
    with ScriptedServer(limited("60")) as server, opened(server, api="chat") as panel:
        click(panel, "Generate")
        until(lambda: state(panel) is State.RETRYING)
        assert figures(panel).startswith("rate limited; trying again ")
        assert enabled(panel) == {"Stop", "Clear"}
        waits[0]._until = 0  # it is over
        rest()
        assert (state(panel), panel.completion.text) == (State.DONE, "Once upon")


def test_stop_in_the_panel_ends_a_wait():
    settings.max_retries = 4
    with ScriptedServer(limited()) as server, opened(server, api="chat") as panel:
        click(panel, "Generate")
        until(lambda: state(panel) is State.RETRYING)
        click(panel, "Stop")
        rest()
        assert (state(panel), history, len(server.requests)) == (State.STOPPED, [], 1)


def test_the_panel_says_that_it_waits_for_the_list():
    failed = [replies(429, b"", retry_after="60")] * 2  # for the box with the model, and for the answer
    settings.max_retries = 1
    with ScriptedServer(answers(["Once"]), models=failing_list(*failed)) as server, opened(server) as panel:
        click(panel, "Generate")
        until(lambda: state(panel) is State.RETRYING)
        assert re.fullmatch(f"rate limited; trying again {OF_A_MINUTE}", figures(panel))
        click(panel, "Stop")
        until(lambda: state(panel) is State.STOPPED)
        assert server.requests == []


def test_a_column_says_that_it_waits():
    settings.max_retries = 4
    with ScriptedServer(replies(429, b"", retry_after="60")) as server, opened(server, api="chat") as panel:
        show(panel, "Compare")
        click(panel, "Compare")
        until(lambda: re.search(f"rate limited; trying again {OF_A_MINUTE}", words(page(panel, "Compare"))))
        click(panel, "Stop all")
        rest()
        assert "stopped by you" in words(page(panel, "Compare"))
