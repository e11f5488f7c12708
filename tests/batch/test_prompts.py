"""`map_prompts`: many prompts, a bounded number at once, over real HTTP; and in a real kernel."""

from __future__ import annotations

import copy
import json
import pickle
import re
import signal
import sys
import threading
from collections import Counter

import pandas as pd
import pytest

import together_nb
from tests.kernels import WIDGET
from tests.servers import MODELS, PATIENCE, ScriptedServer, answers, eventually, replies, silent
from together_nb import Session
from together_nb.batch.concurrency import Concurrency
from together_nb.batch.scheduler import Threads
from together_nb.errors import (
    APIStatusError,
    AuthenticationError,
    BudgetError,
    ConnectionLostError,
    InputError,
    NotRunError,
    RateLimitError,
)
from together_nb.run.background import BackgroundRun
from together_nb.values.completion import Completion

KEY = "tgp_" + "k9" * 16
REFUSAL = replies(400, {"error": {"message": "no | such"}})
LOST = answers(["part"], finish=None, done=False)
TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}, {"role": "user", "content": "x"}]


def prompt_of(request):
    return request.json()["messages"][-1]["content"]


def echo(exchange):
    prompt = prompt_of(exchange.request)
    answers([f"<{prompt[:1]}", f"{prompt[1:]}>"])(exchange)


def by_prompt(**scripts):
    """The n-th try of a prompt by the n-th of its scripts; then, and other prompts, an echo."""
    left = {prompt: list(ones) for prompt, ones in scripts.items()}

    def script(exchange):
        ones = left.get(prompt_of(exchange.request))
        (ones.pop(0) if ones else echo)(exchange)

    return script


def tries(server):
    return Counter(map(prompt_of, server.requests))


def batch(server, prompts, **more):
    options = {"base_url": server.base_url, "model": "test/chat", "api": "chat", "progress": False, **more}
    return together_nb.map_prompts(prompts, **options)


# What is sent


def test_as_many_as_max_workers_are_under_way_and_answers_stand_in_the_order_of_the_items():
    now, most, lock, full, last = 0, 0, threading.Lock(), threading.Event(), threading.Event()

    def script(exchange):
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
            if now == 3:
                full.set()
        exchange.pause(last if prompt_of(exchange.request) == "0" else full)
        with lock:
            now -= 1
        echo(exchange)
        if prompt_of(exchange.request) == "11":
            last.set()

    before = set(threading.enumerate())
    with ScriptedServer(script) as server:
        results = batch(server, map(str, range(12)), max_workers=3, progress=True)
        assert server.connections < 8  # they are used again
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert most == 3
    assert results.texts == [one.text for one in results] == [f"<{number}>" for number in range(12)]
    assert (len(results), results.failed, len(results.completions)) == (12, [], 12)
    assert [one.text for one in results[10:]] == ["<10>", results[-1].text]


def test_threads_go_from_one_call_to_the_next_and_end_when_no_more_come():
    pool, together = Threads(), threading.Barrier(3)

    def meet():
        together.wait(PATIENCE)  # broken, and so a failure, where not all three run at once
        return threading.current_thread()

    (one,) = {pool.submit(threading.current_thread).result(PATIENCE) for _ in range(20)}
    with pytest.raises(ZeroDivisionError):
        pool.submit(lambda: 1 / 0).result(PATIENCE)
    three = {future.result(PATIENCE) for future in [pool.submit(meet) for _ in range(3)]}
    assert one in three
    assert [thread.daemon for thread in three] == [True] * 3
    pool.shutdown()
    assert not any(thread.is_alive() for thread in three)


@pytest.mark.parametrize(
    ("items", "template", "names", "prompts"),
    [
        (["{json}"], 'Say {"a": 1} of {item}', {}, ['Say {"a": 1} of {json}']),
        (["x"], "`f({item}, {mine})` `{mine}`", {"mine": 2}, ["`f(x, {mine})` `2`"]),
        ([{"b": "its"}], "{a} {b}", {"a": "mine", "b": "mine"}, ["mine its"]),
        (
            [{"a": KEY, "b": Session(api_key=KEY).settings, "c": [KEY], "d": "fine"}],
            "{a}{b.api_key}{c}{d}",
            {},
            ["{a}{b.api_key}{c}fine"],
        ),
    ],
)
def test_a_template_is_filled_in_for_each_item_but_with_no_key(items, template, names, prompts):
    together_nb.settings.api_key = KEY
    with ScriptedServer(echo) as server:
        results = batch(server, items, template=template, names=names)
    assert results.texts == [f"<{prompt}>" for prompt in prompts]


def test_an_item_over_the_limit_is_refused_and_the_others_are_sent():
    together_nb.settings.fill_limit = 10
    with ScriptedServer(echo) as server:
        results = batch(server, ["x" * 10, "x" * 11], template="{item}")
    assert (results[0].text, results[0].filled) == (f"<{'x' * 10}>", ("item",))
    assert isinstance(results[1], InputError)


def test_conversations_parameters_a_schema_and_a_system_prompt_are_sent():
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    more = {"temperature": 0, "max_tokens": 7, "schema": schema, "system": "Be short."}
    with ScriptedServer(answers(['{"a"', ": 1}"])) as server:
        results = batch(server, [TURNS, "y"], max_workers=1, **more)
        bodies = [one.json() for one in server.requests]
    assert [[turn["content"] for turn in body["messages"]] for body in bodies] == [
        ["Be short.", "Hi", "Yes?", "x"], ["Be short.", "y"],
    ]  # fmt: skip
    for body in bodies:
        assert (body["temperature"], body["max_tokens"]) == (0, 7)
        assert body["response_format"]["type"] == "json_schema"
    assert [one.parsed for one in results] == [{"a": 1}] * 2


@pytest.mark.parametrize(
    ("models", "api"), [(MODELS, "completions"), (replies(500, {"error": {"message": "no list"}}), "chat")]
)
def test_the_server_is_asked_once_what_the_model_is_also_where_that_fails(models, api):
    with ScriptedServer(answers(["a"]), models=models) as server:
        results = batch(server, map(str, range(9)), model="test/base", api="auto")
        assert server.lists == 1
    assert {one.api for one in results} == {api}


def test_without_items_there_is_nothing_to_do_and_without_pandas_no_frame(monkeypatch):
    results = together_nb.map_prompts([])
    assert (len(results), results.texts, results.failed, results.usage) == (0, [], [], None)
    assert results.footer() == "0 answers · 0.0 s"
    assert results.retry_failed() is results
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match="pip install pandas"):
        results.to_frame()


@pytest.mark.parametrize(
    ("prompts", "more", "telling"),
    [
        ("Paris", {}, "One text"),
        (["a"], {"max_workers": 0}, "max_workers .* 0"),
        (["a"], {"max_workers": True}, "max_workers"),
        (["a"], {"max_workers": 2.5}, "max_workers"),
        (["a"], {"template": 7}, "template .* int"),
        (["a"], {"executor": object()}, "executor .* object"),
        (["a", "b"], {"temperature": -1}, "temperature"),
        (["", "a", "b"], {"api": "nonesuch"}, "nonesuch"),
        ([7, 8], {}, "without a template: int"),
        (["", "a"], {"base_url": None, "model": "meta-llama/x"}, "API key"),
    ],
)
def test_what_holds_for_all_items_is_an_error_at_once(prompts, more, telling):
    with ScriptedServer(echo) as server:
        with pytest.raises(InputError, match=telling) as raised:
            batch(server, prompts, **more)
        assert raised.value.hint
        assert server.requests == []


# What fails


def test_an_item_fails_with_its_error_or_is_tried_again_and_the_others_go_on(monkeypatch):
    monkeypatch.setattr("together_nb.wire.retry.FIRST_SECONDS", 0.01)
    together_nb.settings.max_retries = 2
    busy = replies(503, {"error": {"message": "overloaded"}})
    with ScriptedServer(by_prompt(b=[REFUSAL], c=[LOST], d=[busy] * 2, e=[busy] * 3)) as server:
        results = batch(server, ["a", "b", "c", "", "d", "e"])
        assert tries(server) == {"a": 1, "b": 1, "c": 1, "d": 3, "e": 3}  # not what has begun
    assert results.texts == ["<a>", None, None, None, "<d>", None]
    assert results.failed == [1, 2, 3, 5]
    kinds = [Completion, APIStatusError, ConnectionLostError, InputError, Completion, APIStatusError]
    assert [type(one) for one in results] == kinds
    assert "Tried 3 times" in str(results[5])
    assert results[2].completion.text == "part"
    assert sorted(one.text for one in together_nb.history) == ["<a>", "<d>", "part"]


def test_retry_failed_sends_those_again_as_they_were_with_the_key_of_now():
    def script(exchange):
        authorized = exchange.request.headers["authorization"] == f"Bearer {KEY}"
        (echo if authorized or prompt_of(exchange.request) != "b" else REFUSAL)(exchange)

    with ScriptedServer(script) as server:
        together_nb.settings.base_url, together_nb.settings.api_key = server.base_url, "wrong-key-wrong-key"
        together_nb.settings.temperature, together_nb.settings.model = 0.5, "test/chat"
        results = batch(server, ["a", "b", "c"], model=None)
        assert results.failed == [1]
        together_nb.settings.temperature, together_nb.settings.model, together_nb.settings.api_key = 2.0, "another", KEY
        assert results.retry_failed(progress=False) is results
        assert results.texts == ["<a>", "<b>", "<c>"]
        results.retry_failed()
        assert tries(server) == {"a": 1, "b": 2, "c": 1}
        bodies = [one.json() for one in server.requests]
        assert {(body["model"], body["temperature"]) for body in bodies} == {("test/chat", 0.5)}


@pytest.mark.parametrize(
    ("status", "headers", "kind"),
    [
        (401, {}, AuthenticationError),
        (402, {}, APIStatusError),  # the account's limit
        (429, {"retry_after": 3600}, RateLimitError),
    ],
)
def test_what_is_said_to_one_and_holds_for_all_ends_the_batch(status, headers, kind):
    together_nb.settings.max_retries = 4
    with ScriptedServer(replies(status, {"error": {"message": "no"}}, **headers)) as server:
        results = batch(server, map(str, range(50)), max_workers=2, api_key=KEY)
        assert len(server.requests) <= 4
    assert {type(one) for one in results} == {kind}
    assert len(results.failed) == 50
    assert results[49].completion is None


def test_a_refusal_slows_all_down_together(monkeypatch):
    """Eight at once are refused: that halves once, and none begins before the wait is over."""
    seen = []

    class Watched(Concurrency):
        def refused(self, begun, seconds):
            super().refused(begun, seconds)
            seen.append(self.at_once)

        def begun(self):
            seen.append("begun while closed" if self.closed else "begun")
            return super().begun()

    monkeypatch.setattr("together_nb.batch.scheduler.Concurrency", Watched)
    together_nb.settings.max_retries = 4
    refusals, together = iter(range(8)), threading.Barrier(8)

    def script(exchange):
        if next(refusals, None) is None:
            echo(exchange)
        else:
            together.wait(PATIENCE)
            exchange.reply(429, {"error": {"message": "slow down"}}, retry_after=2)

    with ScriptedServer(script) as server:
        results = batch(server, map(str, range(12)), max_workers=8)
        assert len(server.requests) == 12 + 8
    assert results.failed == []
    assert seen == ["begun"] * 8 + [4] * 8 + ["begun"] * 12


# What it cost


@pytest.mark.parametrize(
    ("script", "tokens", "cost", "uncounted", "footer"),
    [
        (echo, 4, 18e-6, 0, "2 answers · 4 tokens · $1.8e-05 · "),
        (answers(["a"], usage=False), None, None, 2, "2 answers · cost unknown · "),
        (by_prompt(b=[LOST]), 2, 9e-6, 1, "1 answer · 1 failed · at least 2 tokens · at least $9.0e-06 · "),
    ],
    ids=["counted", "not counted", "in part"],
)
def test_usage_and_cost_are_summed_up_and_what_is_not_counted_is_not_nothing(script, tokens, cost, uncounted, footer):
    with ScriptedServer(script) as server:
        results = batch(server, ["a", "b"], api="auto")
    assert (results.usage and results.usage.completion_tokens) == tokens
    assert (results.cost, results.uncounted) == (cost and pytest.approx(cost), uncounted)
    assert results.footer().startswith(footer)
    assert results.to_frame()["cost"].sum() == pytest.approx(cost or 0)
    assert results.to_frame()["cost"].count() == 2 - uncounted
    assert together_nb.ledger.total().calls == 2
    assert together_nb.ledger.total().cost == pytest.approx(cost or 0)


def test_a_spent_budget_ends_the_batch():
    together_nb.settings.budget = 1e-5
    with ScriptedServer(echo) as server:
        results = batch(server, map(str, range(9)), api="auto", max_workers=1)
        assert len(server.requests) == 2
    assert [type(one) for one in results] == [Completion] * 2 + [BudgetError] * 7


# What is shown


def test_results_are_saved_as_a_table_of_twenty_with_what_made_them_and_without_the_key():
    hostile = "a | b\n\n# c <img src=x> `"
    refused = "item 1 | x\ny"

    def script(exchange):
        (REFUSAL if prompt_of(exchange.request) == refused else answers([hostile[:2], hostile[2:]]))(exchange)

    with ScriptedServer(script) as server:
        results = batch(server, [f"item {number} | x\ny" for number in range(25)], temperature=0.5, api_key=KEY)
    data, metadata = results._repr_mimebundle_()
    assert set(data) == {"text/markdown", "text/plain"}
    rows = data["text/markdown"].split("\n\n")[0].split("\n")
    assert len(rows) == 2 + 20 + 1
    assert {len(re.findall(r"\|", row)) for row in rows} == {4}
    assert "<img" not in data["text/markdown"]
    assert "5 more" in rows[-1]
    plain = data["text/plain"].split("\n")
    assert plain[1].split() == ["0", "item", "0", "|", "x", "y", *hostile.split()]
    assert "✗ APIStatusError:" in plain[2]
    assert re.search(r"24 answers · 1 failed · 48 tokens · \d+\.\d s", plain[-1])
    made = json.loads(json.dumps(metadata["together_nb"]))
    assert (made["model"], made["api"], made["parameters"]) == ("test/chat", "chat", {"temperature": 0.5})
    assert (made["items"], made["failed"], made["uncounted"], made["ids"]) == (25, 1, 0, ["test-1"] * 24)
    assert made["usage"] == {"prompt_tokens": 120, "completion_tokens": 48, "total_tokens": 168}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", made["time"])
    assert "item 0" not in str(made)
    pickled = pickle.dumps(results)
    assert KEY.encode() not in pickled
    for twin in (pickle.loads(pickled), copy.copy(results)):
        assert (twin.failed, repr(twin)) == ([1], repr(results))
        with pytest.raises(InputError, match="pickled"):
            twin.retry_failed()
    assert "24 answers · 1 failed" in repr(results)
    assert "retry_failed()" in pickle.loads(pickle.dumps(NotRunError())).hint


def test_a_frame_has_the_fields_and_what_came_of_them():
    frame = pd.DataFrame({"n": [1, 2], "text": ["x", "y"]}, index=["one", "two"])
    with ScriptedServer(by_prompt(**{"Say 2": [REFUSAL]})) as server:
        made = batch(server, frame, template="Say {n}").to_frame()
        plain = batch(server, ["a", TURNS]).to_frame()
    assert list(made.columns) == [
        "n", "item_text", "prompt", "text", "finish_reason", "error", "model", "prompt_tokens", "completion_tokens",
        "cost", "seconds",
    ]  # fmt: skip
    assert list(made.index) == ["one", "two"]
    assert made["prompt"].tolist() == ["Say 1", "Say 2"]
    assert made["text"].fillna("").tolist() == ["<Say 1>", ""]
    assert made["error"].fillna("").str.split(":").str[0].tolist() == ["", "APIStatusError"]
    assert made["model"].tolist() == ["test/chat"] * 2
    assert made["completion_tokens"].fillna(-1).tolist() == [2, -1]
    assert str(made["prompt_tokens"].dtype) == "Int64"
    assert plain["item"].tolist() == ["a", TURNS]
    assert plain["prompt"].tolist() == ["a", "x"]
    assert plain["text"].tolist() == ["<a>", "<x>"]


# Ended from outside


def test_a_scope_ends_it_and_what_came_is_kept(capsys):
    kept = []
    with ScriptedServer(by_prompt(b=[silent()])) as server:

        def ask():
            kept.extend(batch(server, ["a", "b", "c"], max_workers=1))
            raise InputError("enough")

        run = BackgroundRun(ask, None, print)
        run.start()
        eventually(lambda: len(server.requests) == 2)
        assert run.cancel()
        with pytest.raises(InputError, match="enough"):
            run.result(PATIENCE)
    assert [type(one) for one in kept] == [Completion, NotRunError, NotRunError]
    assert capsys.readouterr() == ("", "")  # no progress was wanted


def test_ctrl_c_keeps_what_is_done(part_read):
    """The third request interrupts, as Ctrl-C does, once the client has read its part; others have not begun."""

    def interrupting(exchange):
        exchange.chunked().text_events(["part"])
        exchange.pause(part_read)
        signal.raise_signal(signal.SIGINT)
        exchange.await_close()

    with ScriptedServer(by_prompt(**{"2": [interrupting]})) as server:
        with pytest.raises(KeyboardInterrupt) as raised:
            batch(server, map(str, range(6)), max_workers=1)
        results = raised.value.results
        assert str(raised.value) == "stopped by you; 2 of 6 answers came, and are kept in the error's `results`."
        assert raised.value._render_traceback_() == [f"KeyboardInterrupt: {raised.value}"]
        assert [type(one) for one in results] == [Completion] * 3 + [NotRunError] * 3
        assert (results[2].text, results[2].cancelled) == ("part", True)
        assert [one.text for one in together_nb.history] == ["<0>", "<1>", "part"]
        assert results.texts == ["<0>", "<1>"] + [None] * 4
        assert list(results.to_frame()["text"].dropna()) == ["<0>", "<1>"]
        assert results.failed == [2, 3, 4, 5]
        assert "2 answers · 1 failed · 3 not run" in results.footer()
        assert server.closed.wait(PATIENCE)
        results.retry_failed(progress=False)
        assert results.texts == [f"<{number}>" for number in range(6)]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# The bar


def test_in_a_terminal_the_usual_bar_is_on_stderr_and_tells_what_all_wait_for(capsys):
    together_nb.settings.max_retries = 1
    # As long as a busy machine may need to say so.
    slow = replies(429, {"error": {"message": "slow down"}}, retry_after=4)
    with ScriptedServer(by_prompt(a=[slow], b=[REFUSAL])) as server:
        assert batch(server, ["a", "b", "c"], progress=True).texts == ["<a>", None, "<c>"]
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.search(r"rate limited; all wait \d s", printed.err)
    last = printed.err.split("\r")[-1]
    assert "3/3" in last
    assert "1 failed" in last
    assert "wait" not in last


IN_THE_KERNEL = "import ipywidgets, together_nb; from together_nb import map_prompts"


def widgets(kernel):
    return kernel.value("len(getattr(ipywidgets.widgets.widget, '_instances', None) or ipywidgets.Widget.widgets)")


def test_in_a_notebook_the_bar_becomes_a_plain_line_also_where_the_stop_button_ends_it(kernel):
    call = "map_prompts({}, model='test/chat', api='chat', max_workers=1)"
    with ScriptedServer(by_prompt(b=[REFUSAL], c=[silent()])) as server:
        kernel.run(f"together_nb.settings.base_url = {server.base_url!r}").wait()
        unwatched = kernel.run(call.format(["warm", "up"]), watched=False).wait()
        kernel.run(call.format(["warm", "up"])).wait()  # styles and layouts that are shared
        before = widgets(kernel)
        stopped = kernel.run(call.format(["a", "b", "c", "d"]))
        eventually(lambda: tries(server)["c"])
        kernel.interrupt()
        stopped.wait()
        again = kernel.run("results = _together.retry_failed()").wait()
        assert widgets(kernel) == before
    (line,) = unwatched.of("display_data", "update_display_data", "comm_open", "stream")
    assert line["content"]["data"]["text/plain"].startswith("[2 of 2 · ")
    words = "stopped by you; 1 of 4 answers came, and are kept in `_together`."
    assert stopped.error["traceback"] == [f"KeyboardInterrupt: {words}"]
    for cell, pattern in ((stopped, r"\[2 of 4 · .* · 1 failed\]"), (again, r"\[3 of 3 · \d+\.\d s · \d+\.\d/s\]")):
        (bar,) = cell.of("display_data")
        assert WIDGET in bar["content"]["data"]
        assert set(cell.display["data"]) == {"text/markdown", "text/plain"}
        assert re.fullmatch(pattern, cell.display["data"]["text/plain"])
        assert cell.of("stream") == []
    assert kernel.value("results is _together") == "True"
    assert kernel.value("results.texts") == "['<a>', '<b>', '<c>', '<d>']"
    shown = kernel.run("results").wait().display
    assert "| 2 | c | &#60;c&#62; |" in shown["data"]["text/markdown"]
    assert shown["metadata"]["together_nb"]["items"] == 4
