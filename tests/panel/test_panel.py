"""The panel's answer, clicked as a person would: begun, stopped, continued, closed; and what is left behind."""

from __future__ import annotations

import gc
import html
import re
import signal
import sys
import threading
import types
from contextlib import contextmanager
from pathlib import Path
from unittest import TestCase
from unittest.mock import patch

import ipywidgets
import pytest
from ipywidgets import HTML, Button, Output, Tab, ToggleButton, Widget
from traitlets.log import get_logger

import together_nb
from tests.magic.test_magics import ipython
from tests.servers import MODELS, PATIENCE, USAGE, ScriptedServer, answers, replies, silent, silent_after
from together_nb import Panel
from together_nb.panel import panel as panel_module
from together_nb.panel.elements import within
from together_nb.panel.status_line import State
from together_nb.run.background import BackgroundRun
from together_nb.run.resolve import TOY_NATURE
from together_nb.values.local_models import NGRAM
from together_nb.views import layouts

pytestmark = pytest.mark.timeout(120)

# What the tests of the panel have in common

_drawn = threading.Condition()


@contextmanager
def watched():
    """Let `until` know of each change of a widget; gives the threads in which there were any.

    Nothing may be logged: ipywidgets logs what a click raises, and a future what its callback raises.
    """
    threads, notify = set(), Widget.notify_change

    def change_seen(widget, change):
        notify(widget, change)
        threads.add(threading.current_thread())
        with _drawn:
            _drawn.notify_all()

    case = TestCase()
    logs = case.assertNoLogs(get_logger(), "WARNING"), case.assertNoLogs("concurrent.futures", "WARNING")
    with logs[0], logs[1], patch.object(Widget, "notify_change", change_seen):
        yield threads


@contextmanager
def opened(server, **given):
    """A panel that asks `server`. It is closed at the end, and no click may have raised anything."""
    together_nb.settings.base_url = server.base_url
    with watched():
        panel = Panel(**{"prompt": "Tell me", "model": "test/chat", **given})
        try:
            yield panel
        finally:
            panel.close()
            rest()


def until(true):
    """Wait until what threads draw makes it so."""
    with _drawn:
        assert _drawn.wait_for(true, PATIENCE), "it did not come to be"


def ours():
    """Our threads, but that which closes the widgets of long answers, of this test or another, a few per second."""
    names = {thread: thread.name for thread in threading.enumerate()}
    return [one for one, name in names.items() if name.startswith("together_nb ") and name != "together_nb closing"]


def rest():
    """Wait until no thread of ours is left."""
    for thread in ours():
        thread.join(PATIENCE)
        assert not thread.is_alive(), thread.name


def one(root, kind, name):
    (found,) = [widget for widget in within(root) if isinstance(widget, kind) and widget.description == name]
    return found


def of_class(root, name):
    return [widget for widget in within(root) if name in widget._dom_classes]


def button(panel, name):
    return one(panel.widget, (Button, ToggleButton), name)


def click(panel, name):
    button(panel, name).click()


def ask(panel, name="Generate"):
    """Click, and wait for the end."""
    click(panel, name)
    rest()


def enabled(panel):
    return {name for name in ("Generate", "Stop", "Continue", "Clear") if not button(panel, name).disabled}


def tab_of(panel):
    (found,) = [widget for widget in within(panel.widget) if isinstance(widget, Tab)]
    return found


def titles(panel):
    tab = tab_of(panel)
    return [tab.get_title(number) for number in range(len(tab.children))]


def page(panel, title):
    return tab_of(panel).children[titles(panel).index(title)]


def show(panel, title):
    tab_of(panel).selected_index = titles(panel).index(title)


def markup(root):
    """All HTML below a widget."""
    return "".join(widget.value for widget in within(root) if isinstance(widget, HTML))


def words(root):
    """The same as it is read."""
    return html.unescape(re.sub("<[^>]*>", " ", markup(root)))


def answer(root):
    """The Markdown of an answer, as far as it is drawn."""
    outputs = [output for widget in within(root) if isinstance(widget, Output) for output in widget.outputs]
    return "".join(output["data"]["text/markdown"] for output in outputs)


def answer_of(panel):
    """The same of the Answer tab."""
    return answer(page(panel, "Answer"))


def state(panel):
    """What the status line shows."""
    (line,) = of_class(panel.widget, "tnb-state")
    (name,) = [name for name in line._dom_classes if name.startswith("tnb-now-")]
    return State[name.removeprefix("tnb-now-").upper()]


def figures(panel):
    (line,) = of_class(panel.widget, "tnb-figures")
    return " ".join(words(line).split())


def kept():
    return [(completion.text, completion.cancelled) for completion in together_nb.history]


def in_turn(*scripts):
    """The first request gets the first script, and so on; there may be no more requests than scripts."""
    left = iter(scripts)

    def script(exchange):
        next(left)(exchange)

    return script


def held_until(event, then, before=()):
    """Sends the texts `before`, waits for `event`, and goes on as `then`."""

    def script(exchange):
        if before:
            exchange.chunked().text_events(before)
        exchange.pause(event)
        then(exchange)

    return script


def living():
    """All widgets there are, of ipywidgets 8 or 7, but those that the widgets of a process share."""
    module = ipywidgets.widgets.widget
    every = module._instances if hasattr(module, "_instances") else Widget.widgets
    return [widget for widget in every.values() if widget not in layouts._kept.values()]


@contextmanager
def no_widget_left():
    """After the block there are the widgets that were there before."""
    before = {id(widget) for widget in living()}
    yield
    assert [widget for widget in living() if id(widget) not in before] == []


# Begun and stopped


def test_generate_streams_the_answer_with_its_figures_and_keeps_it():
    more = threading.Event()
    script = held_until(more, answers([" upon", " a time"]), before=["Once"])
    with ScriptedServer(script) as server, opened(server, system="Be brief", top_k=3) as panel:
        rest()
        assert titles(panel) == ["Answer", "Tokens", "Compare", "Events", "Request", "History"]  # in the order of use
        assert enabled(panel) == {"Generate", "Clear"}
        click(panel, "Generate")
        until(lambda: answer_of(panel) == "Once")
        until(lambda: re.fullmatch(r"1 chunk so far [\d.]+ s to the first token [\d.]+ s in all", figures(panel)))
        assert (state(panel), enabled(panel)) == (State.ANSWERING, {"Stop", "Clear"})
        assert panel.completion.text == "Once"
        more.set()
        rest()
        assert (state(panel), enabled(panel)) == (State.DONE, {"Generate", "Clear"})
        assert answer_of(panel) == panel.completion.text == "Once upon a time"
        assert together_nb.history == [panel.completion]
        cost = re.escape(f"${(5 * 1.0 + 2 * 2.0) / 1e6:.1e}")
        line = rf"2 tokens [\d,]+ tokens/s [\d.]+ s to the first token [\d.]+ s in all {cost}"
        assert re.fullmatch(line, figures(panel))
    (request,) = server.requests
    assert request.json() == {
        "model": "test/chat",
        "messages": [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Tell me"}],
        "top_k": 3,
        "stream": True,
        **USAGE,
    }


@pytest.mark.parametrize(
    ("script", "came"),
    [(silent(), ""), (silent_after(["Once", " upon"]), "Once upon")],
    ids=["before the first token", "in the middle"],
)
def test_stop_ends_it_while_the_server_is_silent(script, came):
    with ScriptedServer(script) as server, opened(server) as panel:
        click(panel, "Generate")
        assert server.arrived.wait(PATIENCE)
        until(lambda: answer_of(panel) == came)
        click(panel, "Stop")
        assert server.closed.wait(PATIENCE)
        rest()
        assert (state(panel), answer_of(panel)) == (State.STOPPED, came)
        assert enabled(panel) == {"Generate", "Clear", *(["Continue"] if came else [])}
        assert kept() == ([(came, True)] if came else [])
        if came:  # the server did not count the tokens
            assert re.fullmatch(r"2 chunks [\d.]+ s to the first token [\d.]+ s in all", figures(panel))


def test_stop_ends_it_while_the_list_of_models_is_awaited_and_nothing_is_asked():
    listed = threading.Event()
    models = held_until(listed, replies(200, MODELS))
    with ScriptedServer(answers(["Once"]), models=models) as server, opened(server) as panel:
        click(panel, "Generate")
        assert (state(panel), enabled(panel)) == (State.WAITING, {"Stop", "Clear"})
        click(panel, "Stop")
        until(lambda: state(panel) is State.STOPPED)
        assert enabled(panel) == {"Generate", "Clear"}
        listed.set()
        rest()
        assert (server.requests, together_nb.history, answer_of(panel)) == ([], [], "")
        assert state(panel) is State.STOPPED
        ask(panel)
        assert (state(panel), answer_of(panel)) == (State.DONE, "Once")


def test_a_late_token_of_an_old_run_lands_nowhere(monkeypatch):
    # A stream that does not hear that it is over: its tokens arrive, all of them, while the second one streams.
    monkeypatch.setattr(BackgroundRun, "cancel", lambda run: False)
    second, over = threading.Event(), threading.Event()
    old = held_until(second, answers([" and late"]), before=["old"])
    new = held_until(over, answers([" and whole"], finish="length"), before=["new"])
    with ScriptedServer(in_turn(old, new)) as server, opened(server, api="chat", logprobs=1) as panel:
        rest()
        click(panel, "Generate")
        until(lambda: answer_of(panel) == "old")
        before = ours()
        panel.generate()
        until(lambda: answer_of(panel) == "new")
        second.set()
        for thread in before:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        assert kept() == [("old and late", False)]
        assert (state(panel), answer_of(panel)) == (State.ANSWERING, "new")
        assert (panel.completion.text, enabled(panel)) == ("new", {"Stop", "Clear"})
        over.set()
        rest()
        assert (state(panel), answer_of(panel)) == (State.CUT, "new and whole")
        assert kept() == [("old and late", False), ("new and whole", False)]
        assert panel.completion is together_nb.history[1]
        for title in ("Tokens", "Events"):
            show(panel, title)
            assert "late" not in words(page(panel, title))


@pytest.mark.parametrize("how", ["Clear", "Generate", "close"])
def test_what_streams_ends_when_it_is_taken_away_or_replaced_and_is_kept(how):
    with ScriptedServer(in_turn(silent_after(["old"]), silent())) as server, opened(server) as panel:
        click(panel, "Generate")
        until(lambda: answer_of(panel) == "old")
        show(panel, "History")
        first = [thread for thread in ours() if thread.name == "together_nb run"]
        {"Clear": button(panel, "Clear").click, "Generate": panel.generate, "close": panel.close}[how]()
        if how == "Clear":
            assert (state(panel), figures(panel), enabled(panel)) == (State.READY, "", {"Generate", "Clear"})
        assert server.closed.wait(PATIENCE)
        for thread in first:
            thread.join(PATIENCE)
        assert kept() == [("old", True)]
        if how != "close":
            assert panel.state is (State.READY if how == "Clear" else State.WAITING)
            assert (answer_of(panel), panel.completion is None) == ("", how == "Clear")
            assert ("The answer appears here" in words(page(panel, "Answer"))) == (how == "Clear")
            assert "<pre>old</pre>" in markup(page(panel, "History"))


# Continued

ENDINGS = {
    "its length": (answers(["Once"], finish="length"), State.CUT),
    "Stop": (silent_after(["Once"]), State.STOPPED),
    "a lost connection": (lambda exchange: (exchange.text_events(["Once"]), exchange.cut()), State.LOST),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_continue_goes_on_from_where_the_answer_ended(ending):
    first, left = ENDINGS[ending]
    script = in_turn(first, answers([" upon"]))
    with ScriptedServer(script) as server, opened(server, seed=1) as panel:
        click(panel, "Generate")
        if ending == "Stop":
            until(lambda: answer_of(panel) == "Once")
            click(panel, "Stop")
        rest()
        assert (state(panel), enabled(panel)) == (left, {"Generate", "Continue", "Clear"})
        assert ("The connection was lost" in words(page(panel, "Answer"))) == (left is State.LOST)
        (part,) = together_nb.history
        ask(panel, "Continue")
        assert (state(panel), enabled(panel)) == (State.DONE, {"Generate", "Clear"})
        assert answer_of(panel) == "Once upon"
        assert "lost" not in words(page(panel, "Answer"))
        (whole,) = together_nb.history
    assert (part.text, whole.text, whole.finish_reason) == ("Once", "Once upon", "stop")
    assert (whole.request.prompt, whole.chunks, whole.cancelled, whole.error) == ("Tell me", 2, False, "")
    body, again = (request.json() for request in server.requests)
    assert again == body | {"messages": [*body["messages"], {"role": "assistant", "content": "Once"}]}


def test_an_answer_goes_on_again_and_again_and_stays_where_it_stands_in_the_history():
    once, upon, a_time = (answers([part], finish="length") for part in ("Once", " upon", " a time"))
    with ScriptedServer(in_turn(once, answers(["other"]), upon, a_time)) as server, opened(server) as panel:
        show(panel, "History")
        ask(panel)
        together_nb.complete("Another")
        for _ in range(2):
            ask(panel, "Continue")
        assert re.findall(r"<b>history\[(\d)", markup(page(panel, "History"))) == ["1", "0"]
        show(panel, "Answer")
        assert (state(panel), answer_of(panel)) == (State.CUT, "Once upon a time")
        assert kept() == [("Once upon a time", False), ("other", False)]
        assert "3 tokens" in figures(panel)
    assert server.requests[3].json()["messages"][-1] == {"role": "assistant", "content": "Once upon"}


@pytest.mark.parametrize("stopped", [True, False])
def test_a_continuation_that_brings_nothing_leaves_the_part_to_go_on_from(stopped):
    second = silent() if stopped else replies(500, {"error": {"message": "<b>out of order</b>"}})
    script = in_turn(answers(["Once"], finish="length"), second, answers([" upon"]))
    with ScriptedServer(script) as server, opened(server) as panel:
        ask(panel)
        (part,) = together_nb.history
        server.arrived.clear()
        click(panel, "Continue")
        if stopped:
            assert server.arrived.wait(PATIENCE)
            click(panel, "Stop")
        rest()
        assert state(panel) is (State.STOPPED if stopped else State.FAILED)
        shown = words(page(panel, "Answer"))
        assert ("HTTP 500" in shown, "<b>out of order</b>" in shown, "Wait a little" in shown) == (not stopped,) * 3
        assert "<b>out" not in markup(page(panel, "Answer"))
        assert (answer_of(panel), together_nb.history) == ("Once", [part])
        ask(panel, "Continue")
        assert (state(panel), answer_of(panel), kept()) == (State.DONE, "Once upon", [("Once upon", False)])
        assert "out of order" not in words(page(panel, "Answer"))


# What goes wrong


@pytest.mark.parametrize(
    ("given", "message", "hint"),
    [
        ({"prompt": " "}, "There is no prompt yet.", "Write one"),
        ({"api": "completions", "system": "Be brief"}, "completions", "--api chat"),
    ],
)
def test_what_cannot_be_sent_is_refused_in_the_answer_tab_and_nothing_is_sent(given, message, hint):
    with ScriptedServer(answers(["Once"])) as server, opened(server, **given) as panel:
        show(panel, "Events")
        ask(panel)
        assert message in words(page(panel, "Answer"))
        assert hint in words(page(panel, "Answer"))
        assert enabled(panel) == {"Generate", "Clear"}
        assert (tab_of(panel).selected_index == 0) == ("prompt" in given)
    assert (server.requests, together_nb.history) == ([], [])


def test_one_live_region_says_the_states_and_no_token():
    def region(panel):
        (found,) = [one for one in within(panel.widget) if isinstance(one, HTML) and "aria-live" in one.value]
        assert len(re.findall('aria-live|role="(?:status|alert|log)"', markup(panel.widget))) == 2  # of one node
        assert words(found).split() == " ".join(state.value for state in State).split()
        return found

    with ScriptedServer(in_turn(silent_after(["Zanzibar"]), replies(500, {}))) as server, opened(server) as panel:
        first = region(panel)
        seen = []
        first.observe(lambda change: seen.append(state(panel)), names="_dom_classes")
        click(panel, "Generate")
        until(lambda: answer_of(panel) == "Zanzibar")
        for title in titles(panel):
            show(panel, title)
            assert region(panel) is first
        click(panel, "Stop")
        rest()
        ask(panel)
        assert region(panel) is first
        assert seen == [State.WAITING, State.ANSWERING, State.STOPPED, State.WAITING, State.FAILED]


# What is left behind


@pytest.mark.parametrize("streams", [False, True])
def test_closing_ends_the_threads_that_await_the_list_of_models(monkeypatch, streams):
    monkeypatch.setattr("together_nb.wire.endpoint._CATALOG_TIMEOUT", 3600.0)  # it must not be this that ends them
    requested, over = threading.Semaphore(0), threading.Event()

    def models(exchange):
        requested.release()
        exchange.pause(over, 3600)

    with ScriptedServer(silent(), models=models) as server, opened(server) as panel:
        assert requested.acquire(timeout=PATIENCE)
        if streams:
            click(panel, "Generate")
            assert requested.acquire(timeout=PATIENCE)
        panel.close()
        try:
            rest()
        finally:
            over.set()


def test_a_panel_opens_though_a_cell_has_closed_all_widgets_there_were(monkeypatch):
    monkeypatch.setattr(layouts, "_kept", {})
    with ScriptedServer(silent()) as server:
        with opened(server):
            pass
        for widget in layouts._kept.values():
            widget.close()
        with opened(server) as panel:
            assert all(widget.layout.model_id for widget in within(panel.widget))


@pytest.mark.parametrize(("name", "at_once"), [("Generate", 1), ("Compare", 3)])
def test_many_runs_leave_no_more_than_one_and_after_closing_none_of_its_widgets_is_left(name, at_once):
    arrived, descriptors = threading.Barrier(at_once), Path("/proc/self/fd")

    def script(exchange):
        arrived.wait(PATIENCE)
        answers(["Once", " upon", "\n\na time"])(exchange)

    with ScriptedServer(script) as server, no_widget_left(), opened(server, logprobs=1) as panel:
        rest()
        left = []
        for number in range(12):
            ask(panel, name)
            for title in reversed(titles(panel)):
                show(panel, title)
            rest()
            if number in (0, 11):
                gc.collect()
                files = len(list(descriptors.iterdir())) if descriptors.is_dir() else 0
                left.append((threading.active_count(), len(server._live), files, len(living())))
        assert left[0] == left[1]


# In a cell


def of_cell(shell, cell, execution):
    """What the front end says of the cell that runs now."""
    shell.parent_header = {"header": {"msg_id": execution}, "metadata": {"cellId": cell}, "content": {}}


def test_running_a_cell_again_closes_the_panels_that_it_made_before(capsys):
    with ipython() as shell, ScriptedServer(silent_after(["Once"])) as server:
        of_cell(shell, "a", "1")
        with opened(server) as first, opened(server) as beside:
            shell.push({"first": first})
            shell.run_cell("first").raise_error()
            click(first, "Generate")
            until(lambda: answer_of(first) == "Once")
            of_cell(shell, "b", "2")
            with opened(server) as other:
                assert not server.closed.is_set()
                left = [list(within(one.widget)) for one in (first, beside)]
                of_cell(shell, "a", "3")
                with opened(server) as second:
                    assert server.closed.wait(PATIENCE)
                    rest()
                    alive = {id(widget) for widget in living()}
                    assert not alive & {id(widget) for widgets in left for widget in widgets}
                    assert {id(widget) for one in (other, second) for widget in within(one.widget)} <= alive
        first.generate()
        assert first.state is not State.WAITING
        assert shell.user_ns["_together"] is together_nb.history[0]  # the name that cells use
    assert [panels for _, panels in panel_module._open.values() if panels] == []
    assert "Run this cell again to have it back." in capsys.readouterr().out


# Where what a thread draws is not shown


@pytest.fixture
def colab(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))


def test_in_colab_all_is_drawn_in_the_calling_thread_and_an_interrupt_stops_it_and_is_no_error(colab):
    running = []

    def script(exchange):
        running.extend(thread.name for thread in ours())
        answers(["Once", " upon"])(exchange)

    def press(_):
        if state(panel) is State.ANSWERING:
            signal.raise_signal(signal.SIGINT)

    with ScriptedServer(script) as server, watched() as threads, opened(server) as panel:
        for title in titles(panel):
            show(panel, title)
        show(panel, "Answer")
        click(panel, "Generate")
        assert ours() == []
        assert (state(panel), enabled(panel)) == (State.DONE, {"Generate", "Clear"})
        assert answer_of(panel) == "Once upon"
        click(panel, "Compare")
        assert set(running) == {"together_nb stream"}
        assert len(together_nb.history) == 4
        server.script = silent_after(["Once"])
        of_class(panel.widget, "tnb-state")[0].observe(press, names="_dom_classes")
        click(panel, "Generate")
        assert server.closed.wait(PATIENCE)
        assert (state(panel), enabled(panel)) == (State.STOPPED, {"Generate", "Continue", "Clear"})
        assert "KeyboardInterrupt" not in words(page(panel, "Answer"))
        assert kept()[4:] == [("Once", True)]
        assert threads == {threading.current_thread()}


def test_the_toy_says_what_it_is_before_its_first_word(session):
    session.settings.local_tokens_per_second = 1e-6  # the second token would come in eleven days
    with watched():
        panel = Panel(prompt="Once upon a time", model=NGRAM)
        drawn = []
        (line,) = of_class(panel.widget, "tnb-figures")
        line.observe(lambda change: drawn.append(change["new"]), "value")
        try:
            click(panel, "Generate")
            until(lambda: drawn)
            assert TOY_NATURE in drawn[0]
            assert "0 chunks" in drawn[0]
        finally:
            click(panel, "Stop")
            rest()
            panel.close()
