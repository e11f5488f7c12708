"""`together_nb.batch.comparison`: several requests at once, what becomes of each, and `compare` in Python."""

from __future__ import annotations

import _thread
import threading

import pytest

import together_nb
from tests.servers import PATIENCE, ScriptedServer, answers, replies, silent_after
from together_nb.errors import APIStatusError, AuthenticationError, ConnectionLostError, InputError
from together_nb.run import driver
from together_nb.run.driver import run_side_by_side as run_columns
from together_nb.views.text import SilentColumns, SilentView


class Columns(SilentColumns):
    """A `ColumnsView` that remembers its calls."""

    def __init__(self):
        self.log = []
        self.ended = {}
        self.begun = set()
        self.most = 0  # that were begun and not ended, at any time
        self.drawn = 0  # the most that shared the repaints

    def begin(self, opened):
        self.log.append(("begin", len(opened)))

    def column(self, number):
        return Column(self, number)

    def end(self):
        self.log.append(("end", len(self.ended)))


class Column(SilentView):
    def __init__(self, columns, number):
        self.columns = columns
        self.number = number
        self.text = ""

    def start(self, stream):
        self.columns.begun.add(self.number)
        self.columns.most = max(self.columns.most, len(self.columns.begun - set(self.columns.ended)))

    def write(self, chunks):
        self.columns.drawn = max(self.columns.drawn, len(driver.active))
        self.text += "".join(chunk.text for chunk in chunks)

    def finish(self, completion, error):
        assert self.text == completion.text
        self.columns.ended[self.number] = (completion, error)


@pytest.fixture
def columns():
    yield Columns()
    assert driver.active == set()


def run_side_by_side(streams, view, **options):
    return run_columns(streams, view, keep=together_nb.session.default.keep, **options)


def streams(server, number):
    together_nb.settings.base_url = server.base_url
    return [together_nb.stream("Hello", seed=seed, model="test/chat", api="chat") for seed in range(number)]


def seeded(exchange):
    answers([f"seed {exchange.request.json()['seed']}"])(exchange)


def by_seed(scripts, other=seeded):
    """For a request with one of these seeds its script, for others `other`."""
    return lambda exchange: scripts.get(exchange.request.json()["seed"], other)(exchange)


@pytest.mark.parametrize(("given", "at_once"), [({"at_once": 1}, 1), ({"at_once": 3}, 3), ({}, 4), ({"at_once": 9}, 7)])
def test_never_more_than_so_many_are_under_way_and_all_are_answered_in_order(columns, given, at_once):
    number, changed = 7, threading.Condition()
    arrived = under_way = most = 0

    def script(exchange):
        nonlocal arrived, under_way, most
        with changed:
            arrived, under_way = arrived + 1, under_way + 1
            most = max(most, under_way)
            group = min(-(-arrived // at_once) * at_once, number)
            changed.notify_all()
            assert changed.wait_for(lambda: arrived >= group, PATIENCE)  # so many do come at once
            under_way -= 1
        seeded(exchange)

    with ScriptedServer(script) as server:
        completions = run_side_by_side(streams(server, number), columns, **given)
    assert [one.text for one in completions] == [f"seed {seed}" for seed in range(number)]
    assert most == columns.most == columns.drawn == at_once
    assert sorted(one.text for one in together_nb.history) == [one.text for one in completions]
    assert columns.log == [("begin", number), ("end", number)]


def test_one_that_fails_leaves_the_others_and_is_kept_as_far_as_it_came(columns, monkeypatch):
    def lost(exchange):
        exchange.chunked().text_events(["half"])
        exchange.cut()

    kept = []
    with ScriptedServer(by_seed({1: lost, 2: replies(422, {"error": {"message": "not 2"}})})) as server:
        opened = streams(server, 5)
        monkeypatch.setattr(opened[4], "_chunks", (1 / zero for zero in (0,)))
        completions = run_side_by_side(opened, columns, keep_all=kept.extend)
    assert [(one.text, one.error) for one in completions] == [
        ("seed 0", ""), ("half", "connection lost"), ("", "error from the server"), ("seed 3", ""), ("", "failed"),
    ]  # fmt: skip
    assert kept == completions
    assert sorted(one.text for one in together_nb.history) == [
        "half",
        "seed 0",
        "seed 3",
    ]  # not that of which nothing came
    errors = [columns.ended[number][1] for number in range(5)]
    kinds = [type(None), ConnectionLostError, APIStatusError, type(None), ZeroDivisionError]
    assert [type(error) for error in errors] == kinds
    assert errors[1].completion is completions[1]


def test_where_all_fail_the_first_error_is_raised_after_the_end_was_shown(columns):
    kept = []
    with ScriptedServer(by_seed({0: replies(401, {})}, replies(500, {}))) as server:
        opened = streams(server, 2)
        with pytest.raises(AuthenticationError) as caught:
            run_side_by_side(opened, columns, keep_all=kept.extend)
    assert columns.log[-1] == ("end", 2)
    assert [one.error for one in kept] == ["error from the server"] * 2
    assert caught.value.completion is kept[0]
    assert together_nb.history == []


def test_ctrl_c_stops_all_keeps_what_came_and_sends_no_more(columns):
    together = threading.Barrier(2, _thread.interrupt_main)

    def script(exchange):
        exchange.chunked().text_events(["part"] if exchange.request.json()["seed"] == 0 else [])
        together.wait(PATIENCE)
        exchange.await_close()

    kept = []
    with ScriptedServer(script) as server:
        opened = streams(server, 5)
        with pytest.raises(KeyboardInterrupt) as caught:
            run_side_by_side(opened, columns, at_once=2, keep_all=kept.extend)
        assert server.closed.wait(PATIENCE)
    assert "stopped by you" in caught.value._render_traceback_()[0]
    assert len(server.requests) == 2
    assert [one.cancelled for one in kept] == [True] * 5
    assert [one.text for one in kept[1:]] == [""] * 4
    assert together_nb.history == [one for one in kept if one.text]
    assert [columns.ended[number][0] for number in range(5)] == kept
    assert columns.log[-1] == ("end", 5)


@pytest.mark.parametrize("where", ["begin", "start", "write", "finish", "end"])
def test_a_view_that_fails_leaves_no_stream_open_and_loses_nothing(columns, monkeypatch, where):
    def fails(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(Columns if where in ("begin", "end") else Column, where, fails)
    kept = []
    with ScriptedServer(answers(["Once"]) if where in ("finish", "end") else silent_after(["Once"])) as server:
        opened = streams(server, 3)
        with pytest.raises(ZeroDivisionError):
            run_side_by_side(opened, columns, at_once=2, keep_all=kept.extend)
    assert all(stream.cancelled or stream.completion.finish_reason for stream in opened)
    assert len(kept) == 3
    for thread in threading.enumerate():
        if thread.name == "together_nb stream":
            thread.join(PATIENCE)
            assert not thread.is_alive()


# Python


def bodies(server, *names):
    return [tuple(request.json().get(name) for name in names) for request in server.requests]


def test_what_is_a_list_differs_and_all_else_is_the_same(capsys):
    key = "sk-secret-0123456789abcdef"
    given = {"model": ["test/chat", "test/base"], "temperature": [0, None], "seed": 3, "api_key": key}
    with ScriptedServer(seeded) as server:
        together_nb.settings.base_url = server.base_url
        completions = together_nb.compare("Hello", at_once=1, **given)
    assert bodies(server, "model", "temperature", "seed") == [
        ("test/chat", 0.0, 3), ("test/chat", None, 3), ("test/base", 0.0, 3), ("test/base", None, 3),
    ]  # fmt: skip
    assert [request.path for request in server.requests] == ["/v1/chat/completions"] * 2 + ["/v1/completions"] * 2
    assert {request.headers["authorization"] for request in server.requests} == {f"Bearer {key}"}
    assert [one.text for one in completions] == ["seed 3"] * 4
    assert together_nb.history == completions
    assert capsys.readouterr() == ("", "")  # there is no IPython


def test_stops_are_lists_of_lists_and_system_api_and_messages_can_be_given_too():
    turn = {"role": "user", "content": "Hi"}
    with ScriptedServer(answers(["Once"])) as server:
        given = {"base_url": server.base_url, "model": "test/chat", "at_once": 1}
        together_nb.compare("Hello", stop=["a", "b"], top_k=(1, 2), api="chat", **given)
        together_nb.compare("Hello", stop=[["a", "b"], ["c"], None], api="chat", **given)
        together_nb.compare("Hello", system=["Be brief.", None], api="chat", **given)
        together_nb.compare(messages=iter([turn]), seed=[1, 2], **given)
        together_nb.compare("Hello", api=["chat", "completions"], **given)
    sent = bodies(server, "messages", "stop")
    assert [stop for _, stop in sent[:6]] == [["a", "b"]] * 3 + [["c"], None, None]
    assert [len(messages or ()) for messages, _ in sent[5:]] == [2, 1, 1, 1, 1, 0]
    assert sent[7] == ([turn], None)


@pytest.mark.parametrize(
    ("given", "telling"),
    [
        ({"temperature": [0, -1]}, "not -1"),
        ({"temperature": [0, 1], "top_p": 2}, "top_p .* not 2"),
        ({"temprature": [0, 1]}, "nothing called 'temprature'"),
        ({"temperature": [0, 1], "temprature": 1}, "no sampling parameter called 'temprature'"),
        ({"temperature": 1}, "nothing to compare"),
        ({"temperature": []}, "no value"),
        ({"model": ["test/chat", 1]}, "model .* int"),
        *(({"temperature": [0, 1], "at_once": number}, "at_once") for number in (0, True, 1.5)),
        ({"temperature": [0, 1], "show": "pretty"}, "'pretty'"),
        ({"seed": list(range(65))}, "65 combinations"),
        ({"api": ["chat", "inference"], "reasoning_effort": "low"}, "reasoning_effort .* inference"),
    ],
)
def test_what_cannot_be_sent_is_an_error_before_anything_is(given, telling):
    with ScriptedServer(answers(["Once"])) as server:
        together_nb.settings.base_url = server.base_url
        with pytest.raises(InputError, match=telling):
            together_nb.compare("Hello", **{"model": "test/chat", "api": "chat", **given})
    assert server.requests == []
    assert together_nb.history == []
