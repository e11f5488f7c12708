"""`together_nb.comparison`: several requests at once, what becomes of each, and the Python door."""

from __future__ import annotations

import _thread
import threading

import pytest

from tests.servers import PATIENCE, ScriptedServer, answers, replies, silent, silent_after
from together_nb import comparison, history, session, settings
from together_nb.comparison import compare, run_side_by_side
from together_nb.errors import AuthenticationError, InputError, TogetherError
from together_nb.resolve import open_stream
from together_nb.views.text import SilentView


class Columns:
    """A `SideBySide` that remembers what it was told."""

    def __init__(self):
        self.log = []
        self.ended = {}
        self.begun = set()
        self.most = 0  # that were begun and not ended, at any time

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
        self.text += "".join(chunk.text for chunk in chunks)

    def finish(self, completion, error):
        assert self.text == completion.text
        self.columns.ended[self.number] = (completion, error)


@pytest.fixture
def columns():
    return Columns()


def streams(server, number, **given):
    settings.base_url = server.base_url
    given = {"model": "test/chat", "api": "chat", **given}
    return [open_stream("Hello", seed=seed, **given) for seed in range(number)]


def seeded(exchange):
    answers([f"seed {exchange.request.json()['seed']}"])(exchange)


def only(seeds, script, other=seeded):
    """`script` for requests with one of these seeds, `other` for the others."""
    return lambda exchange: (script if exchange.request.json()["seed"] in seeds else other)(exchange)


@pytest.mark.parametrize("at_once", [1, 3, 7, 10])
def test_never_more_than_so_many_are_under_way_and_all_are_answered_in_order(columns, at_once):
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
        got = run_side_by_side(streams(server, number), columns, at_once=at_once)
    assert [one.text for one in got] == [f"seed {seed}" for seed in range(number)]
    assert most == columns.most == min(at_once, number)
    assert sorted(one.text for one in history) == sorted(one.text for one in got)
    assert columns.log[0] == ("begin", number)
    assert columns.log[-1] == ("end", number)
    assert session.drawn == set()


def test_one_that_fails_leaves_the_others_and_is_there_as_far_as_it_came(columns):
    def lost(exchange):
        exchange.chunked().text_events(["half"])
        exchange.cut()

    kept = []
    with ScriptedServer(only({1}, lost, only({2}, replies(422, {"error": {"message": "not 2"}})))) as server:
        got = run_side_by_side(streams(server, 4), columns, keep_all=kept.extend)
    assert [(one.text, one.error) for one in got] == [
        ("seed 0", ""),
        ("half", "connection lost"),
        ("", "error from the server"),
        ("seed 3", ""),
    ]
    assert kept == got
    assert sorted(one.text for one in history) == ["half", "seed 0", "seed 3"]  # what came, and not what did not
    assert [columns.ended[number][1] is not None for number in range(4)] == [False, True, True, False]
    assert columns.ended[1][1].completion is got[1]
    assert "not 2" in columns.ended[2][1].message


def test_where_all_fail_the_first_error_is_raised_after_the_end_was_shown(columns):
    kept = []
    with ScriptedServer(only({0}, replies(401, {}), replies(500, {}))) as server:
        opened = streams(server, 2)
        with pytest.raises(AuthenticationError) as caught:
            run_side_by_side(opened, columns, keep_all=kept.extend)
    assert columns.log[-1] == ("end", 2)
    assert [one.error for one in kept] == ["error from the server"] * 2
    assert caught.value.completion is kept[0]
    assert history == []


def test_ctrl_c_stops_all_keeps_what_came_and_asks_for_no_more(columns):
    came = threading.Barrier(2, _thread.interrupt_main)

    def script(exchange):
        exchange.chunked().headers()
        exchange.text_events(["part"])
        came.wait(PATIENCE)
        exchange.await_close()

    kept = []
    with ScriptedServer(script) as server:
        opened = streams(server, 5)
        with pytest.raises(KeyboardInterrupt) as caught:
            run_side_by_side(opened, columns, at_once=2, keep_all=kept.extend)
        assert server.closed.wait(PATIENCE)
    assert caught.value._render_traceback_() == ["KeyboardInterrupt: stopped by you; what came is kept."]
    assert len(server.requests) == 2
    assert [one.cancelled for one in kept] == [True] * 5
    assert [one.text for one in kept[2:]] == [""] * 3
    assert history == [one for one in kept if one.text]
    assert [columns.ended[number][0] for number in range(5)] == kept
    assert columns.log[-1] == ("end", 5)
    assert session.drawn == set()


def test_ctrl_c_before_anything_was_answered_is_heard_at_once(columns):
    def script(exchange):
        _thread.interrupt_main()
        silent()(exchange)

    with ScriptedServer(script) as server:
        opened = streams(server, 2)
        with pytest.raises(KeyboardInterrupt):
            run_side_by_side(opened, columns, at_once=1)
    assert [completion.ending for completion, _ in columns.ended.values()] == ["stopped by you"] * 2
    assert history == []


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
    assert session.drawn == set()
    for thread in threading.enumerate():
        if thread.name == "together_nb stream":
            thread.join(PATIENCE)
            assert not thread.is_alive()


def test_an_error_that_is_no_error_of_ours_is_one_columns_failure_too(columns, monkeypatch):
    with ScriptedServer(seeded) as server:
        opened = streams(server, 2)
        monkeypatch.setattr(opened[1], "_chunks", (1 / zero for zero in (0,)))
        got = run_side_by_side(opened, columns)
    assert [(one.text, one.error) for one in got] == [("seed 0", ""), ("", "failed")]
    assert isinstance(columns.ended[1][1], ZeroDivisionError)


def test_what_streams_elsewhere_shares_the_repaints(columns, monkeypatch):
    """Each stream that is drawn counts, also those side by side."""
    seen = []

    class Watching(Column):
        def write(self, chunks):
            seen.append(len(session.drawn))
            super().write(chunks)

    monkeypatch.setattr(Columns, "column", lambda self, number: Watching(self, number))  # noqa: PLW0108  (a class is no method)
    together = threading.Barrier(3)

    def script(exchange):
        together.wait(PATIENCE)
        seeded(exchange)

    with ScriptedServer(script) as server:
        run_side_by_side(streams(server, 3), columns)
    assert max(seen) == 3


# Python


def bodies(server, *names):
    return [tuple(request.json().get(name) for name in names) for request in server.requests]


def test_what_is_a_list_differs_and_all_else_is_the_same():
    with ScriptedServer(seeded) as server:
        settings.base_url = server.base_url
        got = compare("Hello", model=["test/chat", "test/base"], temperature=[0, None], seed=3, at_once=1)
    assert bodies(server, "model", "temperature", "seed") == [
        ("test/chat", 0.0, 3), ("test/chat", None, 3), ("test/base", 0.0, 3), ("test/base", None, 3),
    ]  # fmt: skip
    assert [request.path for request in server.requests] == ["/v1/chat/completions"] * 2 + ["/v1/completions"] * 2
    assert [one.text for one in got] == ["seed 3"] * 4
    assert history == got


def test_a_list_of_texts_is_one_stop_and_a_list_of_lists_is_several():
    with ScriptedServer(answers(["Once"])) as server:
        settings.base_url = server.base_url
        given = {"model": "test/chat", "api": "chat", "at_once": 1}
        compare("Hello", stop=["a", "b"], top_k=(1, 2), **given)
        compare("Hello", stop=[["a", "b"], ["c"], None], **given)
    assert bodies(server, "stop") == [(["a", "b"],), (["a", "b"],), (["a", "b"],), (["c"],), (None,)]


def test_system_api_and_messages_can_be_given_too():
    with ScriptedServer(answers(["Once"])) as server:
        settings.base_url = server.base_url
        compare("Hello", model="test/chat", system=["Be brief.", None], api="chat", at_once=1)
        compare(model="test/chat", messages=iter([{"role": "user", "content": "Hi"}]), seed=[1, 2], at_once=1)
        compare("Hello", model="test/chat", api=["chat", "completions"], at_once=1)
    sent = [request.json() for request in server.requests]
    assert [len(one["messages"]) for one in sent[:4]] == [2, 1, 1, 1]
    assert [request.path for request in server.requests[4:]] == ["/v1/chat/completions", "/v1/completions"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"temperature": [0, -1]}, "temperature must be a number of at least 0, not -1."),
        ({"temperature": [0, 1], "top_p": 2}, "top_p must be a number from 0 to 1, not 2."),
        ({"temprature": [0, 1]}, "There is nothing called 'temprature' to compare."),
        ({"temperature": [0, 1], "temprature": 1}, "There is no sampling parameter called 'temprature'."),
        ({"temperature": 1}, "There is nothing to compare."),
        ({"temperature": []}, "There is no value to compare."),
        ({"model": ["test/chat", 1]}, "model must be a text, not int."),
        ({"temperature": [0, 1], "at_once": 0}, "at_once must be a whole number of at least 1, not 0."),
        ({"temperature": [0, 1], "show": "pretty"}, "There is no way to show an answer called 'pretty'."),
        ({"seed": list(range(65))}, "65 combinations are more than can be compared."),
        ({"api": ["chat", "inference"], "reasoning_effort": "low"}, "reasoning_effort cannot be sent to the inference API."),
    ],
)  # fmt: skip
def test_what_cannot_be_sent_is_told_before_anything_is(given, message):
    with ScriptedServer(answers(["Once"])) as server:
        settings.base_url = server.base_url
        with pytest.raises(InputError) as caught:
            compare("Hello", **{"model": "test/chat", "api": "chat", **given})
    assert caught.value.message == message
    assert server.requests == []
    assert history == []


def test_nothing_is_drawn_where_there_is_no_ipython(capsys):
    with ScriptedServer(answers(["Once"])) as server:
        settings.base_url = server.base_url
        assert [one.text for one in compare("Hello", model="test/chat", seed=[1, 2])] == ["Once"] * 2
    assert capsys.readouterr() == ("", "")


def test_the_key_that_is_given_is_sent_and_stands_in_no_error():
    key = "sk-secret-0123456789abcdef"
    with ScriptedServer(replies(401, {"error": {"message": f"bad key {key}"}})) as server:
        settings.base_url = server.base_url
        with pytest.raises(TogetherError) as caught:
            compare("Hello", model="test/chat", api="chat", seed=[1, 2], api_key=key)
    assert all(request.headers["authorization"] == f"Bearer {key}" for request in server.requests)
    assert key not in str(caught.value)
    assert comparison.AT_ONCE == 4
