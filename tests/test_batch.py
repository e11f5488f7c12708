"""`map_prompts`: many prompts, a bounded number at once, over real HTTP; and in a real kernel."""

from __future__ import annotations

import builtins
import copy
import json
import pickle
import re
import signal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell

from tests.kernels import WIDGET, Kernel
from tests.servers import PATIENCE, ScriptedServer, answers, replies
from tests.test_magic import ipython
from together_nb import history
from together_nb.accumulate import Accumulator
from together_nb.background import BackgroundRun
from together_nb.batch import map_prompts
from together_nb.batch_results import NotRunError
from together_nb.batch_run import Threads
from together_nb.completion import Completion
from together_nb.config import settings
from together_nb.errors import (
    APIConnectionError,
    APIStatusError,
    AuthenticationError,
    ConnectionLostError,
    InputError,
    MissingKeyError,
    RateLimitError,
)
from together_nb.pace import Pace
from together_nb.spending import BudgetError, ledger

pytestmark = pytest.mark.timeout(180)

KEY = "tgp_" + "k9" * 16


def asked(exchange):
    """What the user's turn says."""
    return exchange.request.json()["messages"][-1]["content"]


def answer(exchange, text):
    """Answer in two pieces, with usage."""
    answers([text[:2], text[2:]])(exchange)


def echo(exchange):
    answer(exchange, f"<{asked(exchange)}>")


class PerPrompt:
    """A script for each prompt, the n-th try of it by the n-th script; then, and for others, an echo."""

    def __init__(self, **scripts):
        self.scripts = {prompt: list(ones) for prompt, ones in scripts.items()}
        self.tries = Counter()
        self._lock = threading.Lock()

    def __call__(self, exchange):
        prompt = asked(exchange)
        with self._lock:
            self.tries[prompt] += 1
            script = self.scripts[prompt].pop(0) if self.scripts.get(prompt) else echo
        script(exchange)


def busy(seconds=None):
    return replies(429, {"error": {"message": "slow down"}}, **({} if seconds is None else {"retry_after": seconds}))


def asking(server, prompts, **more):
    return map_prompts(
        prompts, **{"base_url": server.base_url, "model": "test/chat", "api": "chat", "progress": False, **more}
    )


def sleepless(monkeypatch):
    """Have waits of our own be short; those that the server asks for count still."""
    monkeypatch.setattr("together_nb.retry.FIRST_SECONDS", 0.01)
    monkeypatch.setattr("together_nb.batch_run.FIRST_SECONDS", 0.01)


# What is asked


def test_the_answers_stand_in_the_order_of_the_items():
    gate = threading.Event()

    def script(exchange):
        if asked(exchange) == "first":
            exchange.pause(gate)
        echo(exchange)
        if asked(exchange) == "last":
            gate.set()

    with ScriptedServer(script) as server:
        results = asking(server, ["first", "second", "last"], max_workers=3)
    assert results.texts == ["<first>", "<second>", "<last>"]
    assert [one.text for one in results] == results.texts
    assert (len(results), results.failed, len(results.completions)) == (3, [], 3)
    assert results[-1].text == "<last>"
    assert [one.text for one in results[:2]] == ["<first>", "<second>"]


def test_no_more_are_under_way_than_max_workers_and_as_many_are():
    now, most, lock, full = 0, 0, threading.Lock(), threading.Event()

    def script(exchange):
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
            if now == 3:
                full.set()
        exchange.pause(full)
        with lock:
            now -= 1
        echo(exchange)

    with ScriptedServer(script) as server:
        results = asking(server, map(str, range(12)), max_workers=3)
    assert results.failed == []
    assert most == 3


def test_threads_go_from_one_call_to_the_next_and_end_when_no_more_come():
    pool, together = Threads(), threading.Barrier(3)
    one = {pool.submit(threading.current_thread).result(PATIENCE) for _ in range(20)}
    assert len(one) == 1
    with pytest.raises(ZeroDivisionError):
        pool.submit(lambda: 1 / 0).result(PATIENCE)

    def meet():
        together.wait(PATIENCE)  # broken, and so a failure, where not all three run at once
        return threading.current_thread()

    three = {future.result(PATIENCE) for future in [pool.submit(meet) for _ in range(3)]}
    assert len(three) == 3
    assert one <= three
    assert all(thread.daemon for thread in three)
    pool.shutdown()
    assert not any(thread.is_alive() for thread in three)


def test_a_batch_leaves_no_thread_behind():
    before = set(threading.enumerate())
    with ScriptedServer(answers(["yes"])) as server:
        asking(server, list("abcdefgh"), max_workers=3)
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_connections_are_used_again():
    with ScriptedServer(echo) as server:
        asking(server, map(str, range(20)), max_workers=2)
        assert server.connections < 10


@pytest.mark.parametrize(
    ("items", "template", "prompts"),
    [
        (["Paris"], "Where is {item}?", ["Where is Paris?"]),
        ([{"city": "Paris", "n": 2}], "{n} facts on {city}", ["2 facts on Paris"]),
        ([("Paris", 2)], "{item[1]} facts on {item[0]}", ["2 facts on Paris"]),
        (pd.DataFrame({"city": ["Paris", "Rome"]}), "Where is {city}?", ["Where is Paris?", "Where is Rome?"]),
        (["{json}"], 'Say {"a": 1} of {item}', ['Say {"a": 1} of {json}']),
    ],
)
def test_a_template_is_filled_in_for_each_item(items, template, prompts):
    with ScriptedServer(echo) as server:
        results = asking(server, items, template=template)
        assert sorted(one.json()["messages"][-1]["content"] for one in server.requests) == sorted(prompts)
    assert results.texts == [f"<{prompt}>" for prompt in prompts]


def test_names_of_the_callers_are_filled_in_too_and_an_items_own_count_more():
    with ScriptedServer(echo) as server:
        results = asking(server, [{"b": "its"}], template="{a} {b}", names={"a": "mine", "b": "mine"})
    assert results.texts == ["<mine its>"]
    assert results[0].filled == ("a", "b")


def test_an_items_names_stand_for_themselves_in_code_and_other_names_do_not():
    template = "```\nf({item}, {n}, {mine})\n```\n`{mine}`"
    with ScriptedServer(echo) as server:
        results = asking(server, [{"n": 1, "item": "x"}], template=template, system="`{n} {mine}`", names={"mine": 2})
        assert server.requests[0].json()["messages"][0]["content"] == "`1 {mine}`"
    assert results.texts == ["<```\nf(x, 1, {mine})\n```\n`2`>"]


def test_an_item_that_is_the_key_or_leads_to_it_is_not_filled_in():
    settings.api_key = KEY
    with ScriptedServer(echo) as server:
        results = asking(server, [{"a": KEY, "b": settings, "c": [KEY], "d": "fine"}], template="{a}{b.api_key}{c}{d}")
    assert results.texts == ["<{a}{b.api_key}{c}fine>"]


def test_an_item_over_the_limit_is_refused_and_the_others_are_asked():
    settings.fill_limit = 10
    with ScriptedServer(echo) as server:
        results = asking(server, ["Paris", "x" * 11], template="{item}")
    assert results[0].text == "<Paris>"
    assert isinstance(results[1], InputError)
    assert "{item} is 11 " in str(results[1])


def test_an_item_may_be_a_conversation():
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "x"},
    ]
    with ScriptedServer(echo) as server:
        results = asking(server, [turns, "y"], system=None)
        sent = {len(one.json()["messages"]) for one in server.requests}
    assert results.texts == ["<x>", "<y>"]
    assert sent == {1, 3}


def test_parameters_and_a_schema_go_along():
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    with ScriptedServer(lambda exchange: answer(exchange, '{"a": 1}')) as server:
        results = asking(server, ["x"], temperature=0, max_tokens=7, schema=schema, system="Be short.")
        sent = server.requests[0].json()
    assert (sent["temperature"], sent["max_tokens"]) == (0, 7)
    assert sent["response_format"]["type"] == "json_schema"
    assert sent["messages"][0] == {"role": "system", "content": "Be short."}
    assert results[0].parsed == {"a": 1}


def test_the_server_is_asked_once_what_the_model_is():
    with ScriptedServer(answers(["a"])) as server:
        results = map_prompts(map(str, range(9)), base_url=server.base_url, model="test/base", progress=False)
        assert server.lists == 1
        assert {one.path for one in server.requests} == {"/v1/completions"}
    assert results.failed == []


def test_a_server_whose_list_fails_is_not_asked_for_it_by_each_item():
    failing = replies(500, {"error": {"message": "no list"}})
    with ScriptedServer(echo, models=failing) as server:
        results = map_prompts(["a", "b", "c"], base_url=server.base_url, model="m", progress=False)
        assert server.lists == 1
    assert results.texts == ["<a>", "<b>", "<c>"]


def test_a_server_that_cannot_say_what_the_model_is_is_an_error_at_once():
    with ScriptedServer(echo) as server:
        gone = server.base_url
    with pytest.raises(APIConnectionError):
        map_prompts(["a", "b"], base_url=gone, model="m", progress=False)


def test_the_embedded_engine_answers_a_batch():
    results = map_prompts(["Once upon", "The sea"], progress=False, max_tokens=5, max_workers=2)
    assert results.failed == []
    assert results.usage.completion_tokens == 10
    assert results.cost == 0


def test_without_items_there_is_nothing_to_do():
    results = map_prompts([])
    assert (len(results), results.texts, results.failed, results.usage) == (0, [], [], None)
    assert results.footer() == "0 answers · 0.0 s"
    assert results.retry_failed() is results


# What is refused at once


@pytest.mark.parametrize(
    ("prompts", "more", "said"),
    [
        ("Paris", {}, "One text was given"),
        (["a"], {"max_workers": 0}, "max_workers must be a whole number over 0, not 0"),
        (["a"], {"max_workers": True}, "max_workers must be"),
        (["a"], {"max_workers": 2.5}, "max_workers must be"),
        (["a"], {"template": 7}, "template must be a text, not int"),
        (["a"], {"executor": object()}, "executor must be one of concurrent.futures', not object"),
        (["a", "b"], {"temperature": -1}, "temperature"),
        (["a", "b"], {"api": "nonesuch"}, "nonesuch"),
        (["", "a", "b"], {"api": "nonesuch"}, "nonesuch"),
        ([{"a": 1}], {}, "neither a text nor a list of messages .* dict"),
        ([7, 8], {}, "neither a text nor a list of messages .* int"),
    ],
)
def test_what_holds_for_all_is_an_error_at_once(prompts, more, said):
    with ScriptedServer(echo) as server:
        with pytest.raises(InputError, match=said) as raised:
            asking(server, prompts, **more)
        assert raised.value.hint
        assert server.requests == []


def test_a_missing_key_is_an_error_at_once_whatever_else_is_wrong():
    with pytest.raises(MissingKeyError):
        map_prompts(["", "a"], model="meta-llama/x")


# What fails


def test_a_failed_item_is_its_error_and_not_the_end_of_the_rest():
    script = PerPrompt(
        b=[replies(400, {"error": {"message": "no such thing"}})], c=[answers(["part"], finish=None, done=False)]
    )
    with ScriptedServer(script) as server:
        results = asking(server, ["a", "b", "c", "", "d"])
    assert results.texts == ["<a>", None, None, None, "<d>"]
    assert results.failed == [1, 2, 3]
    assert [type(results[number]) for number in (1, 2, 3)] == [APIStatusError, ConnectionLostError, InputError]
    assert results[2].completion.text == "part"
    assert len(history) == 3
    assert sorted(one.text for one in history) == ["<a>", "<d>", "part"]


def test_retry_failed_runs_only_those():
    script = PerPrompt(b=[replies(400, {"error": {"message": "no"}})])
    with ScriptedServer(script) as server:
        settings.temperature, settings.model = 0.5, "test/chat"
        results = asking(server, ["a", "b", "c"], model=None)
        settings.temperature = 2.0  # what is changed meanwhile does not count: all are asked alike
        settings.model = "another"
        assert results.failed == [1]
        assert results.retry_failed(progress=False) is results
        assert results.texts == ["<a>", "<b>", "<c>"]
        assert script.tries == {"a": 1, "b": 2, "c": 1}
        bodies = [one.json() for one in server.requests]
        assert {(body["model"], body["temperature"]) for body in bodies} == {("test/chat", 0.5)}
        results.retry_failed()
        assert len(server.requests) == 4


def test_a_retry_takes_the_key_that_is_set_by_then():
    def script(exchange):
        if exchange.request.headers.get("authorization") == f"Bearer {KEY}":
            echo(exchange)
        else:
            exchange.reply(401, {"error": {"message": "bad key"}})

    with ScriptedServer(script) as server:
        settings.base_url = server.base_url
        settings.api_key = "wrong-key-wrong-key"
        results = asking(server, ["a", "b"])
        assert results.failed == [0, 1]
        settings.api_key = KEY
        assert results.retry_failed(progress=False).texts == ["<a>", "<b>"]


def test_a_wrong_key_is_not_tried_for_each_item():
    with ScriptedServer(replies(401, {"error": {"message": "bad key"}})) as server:
        results = asking(server, map(str, range(50)), max_workers=2, api_key=KEY)
        assert len(server.requests) <= 4
    assert {type(one) for one in results} == {AuthenticationError}
    assert len(results.failed) == 50


def test_passing_errors_are_tried_again_each_for_itself(monkeypatch):
    sleepless(monkeypatch)
    settings.max_retries = 2
    failing = replies(503, {"error": {"message": "overloaded"}})
    script = PerPrompt(b=[failing, failing], c=[failing] * 3)
    with ScriptedServer(script) as server:
        results = asking(server, ["a", "b", "c"])
    assert results.texts == ["<a>", "<b>", None]
    assert script.tries == {"a": 1, "b": 3, "c": 3}
    assert "Tried 3 times." in str(results[2])


def test_what_has_begun_is_not_asked_again(monkeypatch):
    sleepless(monkeypatch)
    settings.max_retries = 4
    script = PerPrompt(a=[answers(["part"], finish=None, done=False)])
    with ScriptedServer(script) as server:
        results = asking(server, ["a"])
    assert results.failed == [0]
    assert script.tries == {"a": 1}


def test_a_refusal_slows_all_down_together(monkeypatch):
    """Eight at once are refused: that halves once, and none begins before the wait is over."""
    seen = []

    class Watched(Pace):
        def refused(self, begun, seconds):
            super().refused(begun, seconds)
            seen.append(self.at_once)

        def begun(self):
            seen.append("begun while closed" if self.closed else "begun")
            return super().begun()

    monkeypatch.setattr("together_nb.batch_run.Pace", Watched)
    settings.max_retries = 4
    lock, all_there, came = threading.Lock(), threading.Event(), []

    def script(exchange):
        with lock:
            came.append(asked(exchange))
            first = len(came) <= 8
            if len(came) == 8:
                all_there.set()
        if first:
            exchange.pause(all_there)
            busy(3)(exchange)
        else:
            echo(exchange)

    with ScriptedServer(script) as server:
        results = asking(server, map(str, range(12)), max_workers=8)
        assert len(server.requests) == 12 + 8
    assert results.failed == []
    assert seen == ["begun"] * 8 + [4] * 8 + ["begun"] * 12


def test_a_wait_too_long_to_be_sat_out_ends_the_batch():
    settings.max_retries = 4
    with ScriptedServer(busy(3600)) as server:
        results = asking(server, map(str, range(50)), max_workers=2)
        assert len(server.requests) <= 4
    assert {type(one) for one in results} == {RateLimitError}


def test_an_error_of_no_kind_of_ours_is_an_items_error_too(monkeypatch):
    with ScriptedServer(echo) as server, ThreadPoolExecutor(2) as pool:

        class Odd(ThreadPoolExecutor):
            def submit(self, *_, **__):
                raise RuntimeError("no more threads")

        with Odd() as odd:
            results = asking(server, ["a"], executor=odd)
        assert "RuntimeError: no more threads" in results[0].message
        assert "executor" in results[0].hint
        assert asking(server, ["a"], executor=pool).texts == ["<a>"]


# What it cost


def test_usage_and_cost_are_summed_up_and_counted_once():
    ledger.clear()
    with ScriptedServer(echo) as server:
        results = map_prompts(["a", "b"], base_url=server.base_url, model="test/chat", progress=False)
    assert (results.usage.prompt_tokens, results.usage.completion_tokens) == (10, 4)
    assert results.cost == pytest.approx((10 * 1 + 4 * 2) / 1e6)
    assert results.uncounted == 0
    assert ledger.total().calls == 2
    assert ledger.total().cost == pytest.approx(results.cost)


def test_what_is_not_counted_is_not_nothing():
    with ScriptedServer(answers(["a"], usage=False)) as server:
        results = map_prompts(["a", "b"], base_url=server.base_url, model="test/chat", progress=False)
    assert (results.usage, results.cost, results.uncounted) == (None, None, 2)
    assert "cost unknown" in results.footer()
    assert results.to_frame()["cost"].isna().all()


def test_a_part_that_is_not_counted_makes_it_a_lower_bound():
    script = PerPrompt(b=[answers(["part"], finish=None, done=False)])
    with ScriptedServer(script) as server:
        results = map_prompts(["a", "b"], base_url=server.base_url, model="test/chat", progress=False)
    assert results.uncounted == 1
    assert "at least 2 tokens · at least $" in results.footer()


def test_a_spent_budget_ends_the_batch():
    ledger.clear()
    settings.budget = 1e-5
    with ScriptedServer(echo) as server:
        results = map_prompts(
            map(str, range(9)), base_url=server.base_url, model="test/chat", progress=False, max_workers=1
        )
        assert len(server.requests) == 2
    assert [type(one) for one in results] == [Completion] * 2 + [BudgetError] * 7
    ledger.clear()


# What is shown


def test_the_table_is_the_first_twenty_and_one_line_each():
    hostile = "a | b\n\n# c <img src=x> `"
    with ScriptedServer(lambda exchange: answer(exchange, hostile)) as server:
        results = asking(server, [f"item {number} | x\ny" for number in range(25)])
    bundle = results.bundle()
    rows = bundle["text/markdown"].split("\n\n")[0].split("\n")
    assert len(rows) == 2 + 20 + 1
    assert {len(re.findall(r"\|", row)) for row in rows} == {4}
    assert "<img" not in bundle["text/markdown"]
    assert "5 more" in rows[-1]
    assert bundle["text/plain"].split("\n")[1].split() == ["0", "item", "0", "|", "x", "y", *hostile.split()]
    assert re.search(r"25 answers · 50 tokens · \d+\.\d s", bundle["text/plain"])


def test_a_failed_item_is_marked():
    script = PerPrompt(b=[replies(400, {"error": {"message": "no | such"}})])
    with ScriptedServer(script) as server:
        results = asking(server, ["a", "b"])
    plain = results.bundle()["text/plain"]
    assert "✗ APIStatusError:" in plain
    assert "1 answer · 1 failed ·" in plain
    assert "1 answer · 1 failed" in repr(results)


def test_the_metadata_says_what_made_them_and_not_what_was_said():
    with ScriptedServer(echo) as server:
        results = asking(server, ["secret prompt"] * 3, temperature=0.5, api_key=KEY)
    data, metadata = results._repr_mimebundle_()
    assert set(data) == {"text/markdown", "text/plain"}
    told = metadata["together_nb"]
    assert json.loads(json.dumps(told)) == told
    assert (told["model"], told["parameters"], told["items"]) == ("test/chat", {"temperature": 0.5}, 3)
    assert told["ids"] == ["test-1"] * 3
    assert told["usage"]["completion_tokens"] == 6
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", told["time"])
    assert "secret" not in str(told)


def test_a_frame_has_the_fields_and_what_came_of_them():
    script = PerPrompt(**{"Say 2": [replies(400, {"error": {"message": "no"}})]})
    frame = pd.DataFrame({"n": [1, 2], "text": ["x", "y"]}, index=["one", "two"])
    with ScriptedServer(script) as server:
        results = asking(server, frame, template="Say {n}")
    made = results.to_frame()
    assert list(made.columns) == [
        "n", "item_text", "prompt", "text", "finish_reason", "error", "model", "prompt_tokens", "completion_tokens",
        "cost", "seconds",
    ]  # fmt: skip
    assert list(made.index) == ["one", "two"]
    assert made["prompt"].tolist() == ["Say 1", "Say 2"]
    assert made.loc["one", "text"] == "<Say 1>"
    assert pd.isna(made.loc["two", "text"])
    assert made.loc["two", "error"].startswith("APIStatusError: ")
    assert pd.isna(made.loc["two", "completion_tokens"])
    assert made.loc["one", "completion_tokens"] == 2
    assert str(made["prompt_tokens"].dtype) == "Int64"


def test_texts_have_a_frame_too():
    with ScriptedServer(echo) as server:
        made = asking(server, ["a", "b"]).to_frame()
    assert made["item"].tolist() == ["a", "b"]
    assert made["text"].tolist() == ["<a>", "<b>"]


def test_without_pandas_a_frame_is_an_error_that_says_how_to_have_one(monkeypatch):
    usual = builtins.__import__

    def missing(name, *rest):
        if name == "pandas":
            raise ImportError(name)
        return usual(name, *rest)

    results = map_prompts([])
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(InputError, match="needs pandas") as raised:
        results.to_frame()
    assert "pip install pandas" in raised.value.hint


def test_results_can_be_pickled_without_the_key():
    with ScriptedServer(replies(400, {"error": {"message": "no"}})) as server:
        results = asking(server, ["a"], api_key=KEY)
    data = pickle.dumps(results)
    assert KEY.encode() not in data
    twin = pickle.loads(data)
    assert twin.failed == [0]
    assert repr(twin) == repr(results)
    with pytest.raises(InputError, match="pickled cannot be run again"):
        twin.retry_failed()
    with pytest.raises(InputError):
        copy.copy(results).retry_failed()


# Ended from outside


@pytest.fixture
def part_read(monkeypatch):
    """An event: the client has read ``part``, which a server that has sent it cannot know."""
    read, usual = threading.Event(), Accumulator.add

    def add(accumulator, chunk):
        usual(accumulator, chunk)
        if chunk.text == "part":
            read.set()

    monkeypatch.setattr(Accumulator, "add", add)
    return read


def test_a_scope_ends_it_and_what_came_is_kept(part_read):
    def script(exchange):
        if asked(exchange) == "a":
            echo(exchange)
            return
        exchange.chunked().text_events(["part"])
        exchange.await_close()

    box = []
    with ScriptedServer(script) as server:

        def ask():
            box.append(asking(server, ["a", "b", "c"], max_workers=1))
            raise InputError("enough")

        run = BackgroundRun(ask, view=None)
        run.start()
        assert part_read.wait(PATIENCE)
        assert run.cancel()
        with pytest.raises(InputError, match="enough"):
            run.result(PATIENCE)
    (results,) = box
    assert results[0].text == "<a>"
    assert (results[1].text, results[1].cancelled) == ("part", True)
    assert isinstance(results[2], NotRunError)


@pytest.mark.parametrize("in_ipython", [False, True])
def test_ctrl_c_keeps_what_is_done(in_ipython, part_read):
    """The request that arrives last interrupts, as Ctrl-C does: while another streams, and others have not begun."""
    held = threading.Event()

    def script(exchange):
        if asked(exchange) in ("0", "1"):
            echo(exchange)
        elif not held.is_set():
            exchange.chunked().text_events(["part"])
            exchange.pause(part_read)
            held.set()
            signal.raise_signal(signal.SIGINT)
            exchange.await_close()
        else:
            echo(exchange)

    with ScriptedServer(script) as server:
        with ipython() if in_ipython else nullcontext(InteractiveShell.clear_instance()) as shell:
            with pytest.raises(KeyboardInterrupt) as raised:
                asking(server, map(str, range(6)), max_workers=1)
            results = raised.value.results
            assert shell is None or shell.user_ns["_together"] is results
        where = "`_together`" if in_ipython else "the error's `results`"
        assert str(raised.value) == f"stopped by you; 2 of 6 answers came, and are kept in {where}."
        assert raised.value._render_traceback_() == [f"KeyboardInterrupt: {raised.value}"]
        assert [type(one) for one in results] == [Completion] * 3 + [NotRunError] * 3
        assert (results[2].text, results[2].cancelled) == ("part", True)
        assert [one.text for one in history] == ["<0>", "<1>", "part"]
        assert results.failed == [2, 3, 4, 5]
        assert "2 answers · 1 failed · 3 not run" in results.footer()
        assert server.closed.wait(PATIENCE)
        results.retry_failed(progress=False)
        assert results.texts == [f"<{number}>" for number in range(6)]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_no_thread_is_left():
    with ScriptedServer(echo) as server:
        asking(server, map(str, range(9)))
    for thread in threading.enumerate():
        if thread.name.startswith("together_nb batch"):
            thread.join(PATIENCE)
            assert not thread.is_alive()
    assert not [thread for thread in threading.enumerate() if "tqdm" in type(thread).__module__]


# The bar


def test_in_a_terminal_there_is_the_usual_bar_on_stderr(capsys):
    script = PerPrompt(b=[replies(400, {"error": {"message": "no"}})])
    with ScriptedServer(script) as server:
        asking(server, ["a", "b", "c"], progress=True)
    said = capsys.readouterr()
    assert said.out == ""
    assert "3/3" in said.err
    assert "1 failed" in said.err.split("\r")[-1]


def test_without_progress_nothing_is_said(capsys):
    with ScriptedServer(echo) as server:
        asking(server, ["a"])
    assert capsys.readouterr() == ("", "")


def test_the_bar_tells_what_all_wait_for(capsys):
    settings.max_retries = 1
    script = PerPrompt(a=[busy(2)])
    with ScriptedServer(script) as server:
        assert asking(server, ["a"], progress=True).texts == ["<a>"]
    assert "rate limited; all wait 2 s" in capsys.readouterr().err


ASKING = "from together_nb.batch import map_prompts\nresults = map_prompts({items}, model='test/chat', api='chat', max_workers=2)"


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    one = Kernel(tmp_path_factory.mktemp("kernel"))
    yield one
    one.stop()


def use(kernel, server):
    kernel.run(f"import together_nb; together_nb.settings.base_url = {server.base_url!r}").wait()


# In the kernel: have it say, once, that it has read what the server sent.
TELLING = """
import threading
from together_nb.accumulate import Accumulator
from together_nb.batch_run import Drive
read, usual, show = threading.Event(), Accumulator.add, Drive._show

def add(accumulator, chunk):
    usual(accumulator, chunk)
    if chunk.text == "part":
        Accumulator.add = usual
        read.set()

def then(drive):
    show(drive)
    if read.is_set():
        Drive._show = show
        print("reached", flush=True)

Accumulator.add, Drive._show = add, then
"""

WIDGETS = """
from ipywidgets.widgets import widget
print(len(getattr(widget, "_instances", None) or widget.Widget.widgets))
"""


def test_in_a_notebook_the_bar_becomes_a_plain_line(kernel):
    script = PerPrompt(b=[replies(400, {"error": {"message": "no"}})])
    with ScriptedServer(script) as server:
        use(kernel, server)
        kernel.run(ASKING.format(items=["warm", "up"])).wait()  # styles and layouts that are shared
        before = kernel.run(WIDGETS).wait().stdout
        run = kernel.run(ASKING.format(items=["a", "b", "c"])).wait()
        after = kernel.run(WIDGETS).wait().stdout
    assert run.status == "ok", run.reply
    (began,) = run.of("display_data")
    assert WIDGET in began["content"]["data"]
    assert set(run.display["data"]) == {"text/markdown", "text/plain"}
    assert re.fullmatch(r"\[3 of 3 · \d+\.\d s · \d+\.\d/s · 1 failed\]", run.display["data"]["text/plain"])
    assert run.of("stream") == []
    assert after == before
    assert kernel.value("results is _together") == "True"


def test_results_show_themselves_in_a_notebook(kernel):
    with ScriptedServer(echo) as server:
        use(kernel, server)
        run = kernel.run(ASKING.format(items=["a", "b"]) + "\nresults").wait()
    (shown,) = run.of("execute_result")
    assert set(shown["content"]["data"]) == {"text/markdown", "text/plain"}
    assert (
        "| 1 | b | &lt;b&gt; |".replace("&lt;", "&#60;").replace("&gt;", "&#62;")
        in shown["content"]["data"]["text/markdown"]
    )
    assert shown["content"]["metadata"]["together_nb"]["items"] == 2


def test_where_nobody_watches_there_is_only_the_line(kernel):
    with ScriptedServer(echo) as server:
        use(kernel, server)
        run = kernel.run(ASKING.format(items=["a", "b"]), watched=False).wait()
    (shown,) = run.of("display_data", "update_display_data")
    assert set(shown["content"]["data"]) == {"text/markdown", "text/plain"}
    assert shown["content"]["data"]["text/plain"].startswith("[2 of 2 · ")
    assert run.of("comm_open", "stream") == []


def test_an_interrupted_batch_keeps_what_is_done_and_is_completed(kernel):

    def held(exchange):
        exchange.chunked().text_events(["part"])
        exchange.await_close()

    script = PerPrompt(c=[held])
    with ScriptedServer(script) as server:
        use(kernel, server)
        kernel.run(TELLING).wait()
        run = kernel.run(ASKING.format(items=["a", "b", "c", "d"]).replace("workers=2", "workers=1"))
        run.until(lambda one: one["msg_type"] == "stream" and "reached" in one["content"]["text"])
        kernel.interrupt()
        run.wait()
        assert run.status == "error"
        assert run.error["ename"] == "KeyboardInterrupt"
        assert run.error["traceback"] == [
            "KeyboardInterrupt: stopped by you; 2 of 4 answers came, and are kept in `_together`."
        ]
        assert set(run.display["data"]) == {"text/markdown", "text/plain"}
        assert kernel.value("_together.texts") == "['<a>', '<b>', None, None]"
        assert kernel.value("_together[2].text, _together[2].cancelled") == "('part', True)"
        again = kernel.run("_together.retry_failed().texts").wait()
        assert again.of("execute_result")[0]["content"]["data"]["text/plain"] == "['<a>', '<b>', '<c>', '<d>']"
        assert script.tries == {"a": 1, "b": 1, "c": 2, "d": 1}


def test_what_was_not_run_says_what_runs_it_also_after_a_pickle():
    twin = pickle.loads(pickle.dumps(NotRunError()))
    assert isinstance(twin, NotRunError)
    assert twin.hint == "retry_failed() runs it."
