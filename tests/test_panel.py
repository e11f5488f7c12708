"""The panel's answer, clicked and typed as a person would: begun, stopped, gone on with, closed; and what is left behind."""

from __future__ import annotations

import gc
import html
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import types
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
from IPython.core.interactiveshell import InteractiveShell
from ipywidgets import HTML, Button, Output, Tab, ToggleButton, Widget
from traitlets.config import Config
from traitlets.log import get_logger

from tests.servers import MODELS, PATIENCE, ScriptedServer, answers, replies, silent, silent_after
from together_nb import Panel, complete, history, settings
from together_nb.background import BackgroundRun
from together_nb.panel import panel as panel_module
from together_nb.panel.parts import within
from together_nb.panel.status import State

pytestmark = pytest.mark.timeout(120)

# What the tests of the panel have in common

_drawn = threading.Condition()


class Logged(logging.Handler):
    """Keeps what is logged: there ipywidgets puts what a click raises, and a future what its callback raises."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(self.format(record))


@contextmanager
def watched():
    """Let `until` hear of each change of a widget; gives the threads in which there were any."""
    threads, notify = set(), Widget.notify_change

    def heard(widget, change):
        notify(widget, change)
        threads.add(threading.current_thread())
        with _drawn:
            _drawn.notify_all()

    logged, loggers = Logged(), [get_logger(), logging.getLogger("concurrent.futures")]
    for logger in loggers:
        logger.addHandler(logged)
    try:
        with patch.object(Widget, "notify_change", heard):
            yield threads
    finally:
        for logger in loggers:
            logger.removeHandler(logged)
    assert logged.lines == []


@contextmanager
def opened(server, **given):
    """A panel that asks `server`. It is closed at the end, and no click may have raised anything."""
    settings.base_url = server.base_url
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
    return [thread for thread in threading.enumerate() if thread.name.startswith("together_nb ")]


def rest():
    """Wait until no thread of ours is left."""
    for thread in ours():
        thread.join(PATIENCE)
        assert not thread.is_alive(), thread.name


def one(root, kind, name):
    (found,) = [widget for widget in within(root) if isinstance(widget, kind) and widget.description == name]
    return found


def button(panel, name):
    return one(panel.widget, (Button, ToggleButton), name)


def click(panel, name):
    button(panel, name).click()


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


def state(panel):
    """What the status line shows."""
    (line,) = [widget for widget in within(panel.widget) if "tnb-state" in widget._dom_classes]
    (name,) = [name for name in line._dom_classes if name.startswith("tnb-now-")]
    return State[name.removeprefix("tnb-now-").upper()]


def figures(panel):
    (line,) = [widget for widget in within(panel.widget) if "tnb-figures" in widget._dom_classes]
    return " ".join(words(line).split())


def in_turn(*scripts):
    """The first request gets the first script, and so on."""

    def script(exchange):
        numbers = [number for number, one in enumerate(exchange.server.requests) if one is exchange.request]
        scripts[numbers[0]](exchange)

    return script


def held_until(event, then):
    """Waits for `event`, and goes on as `then`."""

    def script(exchange):
        exchange.pause(event)
        then(exchange)

    return script


def lost_after(*texts):
    """Sends `texts`, and the connection ends."""

    def script(exchange):
        exchange.text_events(texts)
        exchange.cut()

    return script


def living():
    """All widgets there are."""
    try:
        from ipywidgets.widgets.widget import _instances
    except ImportError:  # ipywidgets 7
        return list(Widget.widgets.values())
    return list(_instances.values())


@contextmanager
def no_widget_left(server):
    """After the block there are the widgets that were there before."""
    with opened(server):
        pass  # what panels share is there from the first one on
    before = {id(widget) for widget in living()}
    yield
    assert [widget for widget in living() if id(widget) not in before] == []


# Begun and stopped


def test_a_click_on_generate_streams_the_answer_and_keeps_it():
    with ScriptedServer(answers(["Once", " upon"])) as server, opened(server, system="Be brief", top_k=3) as panel:
        assert enabled(panel) == {"Generate", "Clear"}
        click(panel, "Generate")
        rest()
        assert (state(panel), enabled(panel)) == (State.DONE, {"Generate", "Clear"})
        assert answer(page(panel, "Answer")) == "Once upon"
        assert history == [panel.completion]
        assert panel.completion.text == "Once upon"
    (request,) = server.requests
    assert request.json() == {
        "model": "test/chat",
        "messages": [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Tell me"}],
        "top_k": 3,
        "stream": True,
    }


def test_tokens_are_drawn_while_the_rest_is_awaited():
    more = threading.Event()

    def script(exchange):
        exchange.chunked().text_events(["Once"])
        exchange.pause(more)
        answers([" upon"])(exchange)

    with ScriptedServer(script) as server, opened(server) as panel:
        click(panel, "Generate")
        until(lambda: answer(page(panel, "Answer")) == "Once")
        assert (state(panel), enabled(panel)) == (State.ANSWERING, {"Stop", "Clear"})
        assert panel.completion.text == "Once"
        more.set()
        rest()
        assert answer(page(panel, "Answer")) == "Once upon"


@pytest.mark.parametrize(
    ("script", "text"),
    [(silent(), ""), (silent_after([]), ""), (silent_after(["Once"]), "Once")],
    ids=["before the headers", "before the first token", "in the middle"],
)
def test_stop_ends_it_while_the_server_is_silent(script, text):
    with ScriptedServer(script) as server, opened(server) as panel:
        click(panel, "Generate")
        assert server.arrived.wait(PATIENCE)
        until(lambda: answer(page(panel, "Answer")) == text)
        click(panel, "Stop")
        assert server.closed.wait(PATIENCE)
        rest()
        assert (state(panel), answer(page(panel, "Answer"))) == (State.STOPPED, text)
        assert enabled(panel) == {"Generate", "Clear", *(["Continue"] if text else [])}
        assert [(kept.text, kept.cancelled) for kept in history] == ([("Once", True)] if text else [])


def test_stop_ends_it_while_the_list_of_models_is_awaited_and_nothing_is_asked():
    told = threading.Event()
    models = held_until(told, replies(200, MODELS))
    with ScriptedServer(answers(["Once"]), models=models) as server, opened(server) as panel:
        click(panel, "Generate")
        assert (state(panel), enabled(panel)) == (State.WAITING, {"Stop", "Clear"})
        click(panel, "Stop")
        until(lambda: state(panel) is State.STOPPED)
        assert enabled(panel) == {"Generate", "Clear"}
        told.set()
        rest()
        assert (server.requests, history, answer(page(panel, "Answer"))) == ([], [], "")
        assert state(panel) is State.STOPPED
        click(panel, "Generate")
        rest()
        assert (state(panel), answer(page(panel, "Answer"))) == (State.DONE, "Once")


def test_generate_cannot_be_clicked_while_it_streams_and_called_it_begins_anew():
    script = in_turn(silent_after(["old"]), answers(["new"]))
    with ScriptedServer(script) as server, opened(server) as panel:
        click(panel, "Generate")
        until(lambda: answer(page(panel, "Answer")) == "old")
        assert button(panel, "Generate").disabled
        panel.generate()
        assert server.closed.wait(PATIENCE)
        rest()
        assert (state(panel), answer(page(panel, "Answer"))) == (State.DONE, "new")
        assert sorted(kept.text for kept in history) == ["new", "old"]
        assert panel.completion.text == "new"


def test_a_late_token_of_an_old_run_lands_nowhere(monkeypatch):
    # A stream that does not hear that it is over: its tokens arrive, all of them, while the second one streams.
    monkeypatch.setattr(BackgroundRun, "cancel", lambda run: False)
    second, over = threading.Event(), threading.Event()

    def old(exchange):
        exchange.chunked().text_events(["old"])
        exchange.pause(second)
        answers([" and late"])(exchange)

    def new(exchange):
        exchange.chunked().text_events(["new"])
        exchange.pause(over)
        answers([" and whole"], finish="length")(exchange)

    with ScriptedServer(in_turn(old, new)) as server, opened(server, api="chat", logprobs=1) as panel:
        rest()
        click(panel, "Generate")
        until(lambda: answer(page(panel, "Answer")) == "old")
        before = ours()
        panel.generate()
        until(lambda: answer(page(panel, "Answer")) == "new")
        second.set()
        for thread in before:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        assert [kept.text for kept in history] == ["old and late"]
        assert (state(panel), answer(page(panel, "Answer"))) == (State.ANSWERING, "new")
        assert (panel.completion.text, enabled(panel)) == ("new", {"Stop", "Clear"})
        over.set()
        rest()
        assert (state(panel), answer(page(panel, "Answer"))) == (State.CUT, "new and whole")
        assert [kept.text for kept in history] == ["old and late", "new and whole"]
        assert panel.completion is history[1]
        for title in ("Tokens", "Events"):
            show(panel, title)
            assert "late" not in words(page(panel, title))


@pytest.mark.parametrize("when", ["while it streams", "afterwards"])
def test_clear_takes_the_answer_away_and_keeps_it_in_the_history(when):
    script = silent_after(["Once"]) if when == "while it streams" else answers(["Once"])
    with ScriptedServer(script) as server, opened(server) as panel:
        click(panel, "Generate")
        until(lambda: answer(page(panel, "Answer")) == "Once")
        if when == "afterwards":
            rest()
        click(panel, "Clear")
        assert (state(panel), figures(panel), enabled(panel)) == (State.READY, "", {"Generate", "Clear"})
        rest()
        assert answer(page(panel, "Answer")) == ""
        assert "The answer appears here" in words(page(panel, "Answer"))
        assert panel.completion is None
        assert [kept.text for kept in history] == ["Once"]
        assert state(panel) is State.READY


# Gone on with

ENDINGS = {
    "its length": (answers(["Once"], finish="length"), State.CUT),
    "Stop": (silent_after(["Once"]), State.STOPPED),
    "a lost connection": (lost_after("Once"), State.LOST),
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("api", ["chat", "completions"])
def test_continue_goes_on_from_where_the_answer_ended(ending, api):
    first, left = ENDINGS[ending]
    script = in_turn(first, answers([" upon"]))
    with ScriptedServer(script) as server, opened(server, api=api, seed=1) as panel:
        click(panel, "Generate")
        if ending == "Stop":
            until(lambda: answer(page(panel, "Answer")) == "Once")
            click(panel, "Stop")
        rest()
        assert (state(panel), enabled(panel)) == (left, {"Generate", "Continue", "Clear"})
        (part,) = history
        click(panel, "Continue")
        rest()
        assert (state(panel), enabled(panel)) == (State.DONE, {"Generate", "Clear"})
        assert answer(page(panel, "Answer")) == "Once upon"
        assert "lost" not in words(page(panel, "Answer"))
        (whole,) = history
    assert (part.text, whole.text, whole.finish_reason) == ("Once", "Once upon", "stop")
    assert (whole.request.prompt, whole.chunks, whole.cancelled, whole.error) == ("Tell me", 2, False, "")
    asked, again = (request.json() for request in server.requests)
    if api == "completions":
        assert again == asked | {"prompt": "Tell meOnce"}
    else:
        assert again == asked | {"messages": [*asked["messages"], {"role": "assistant", "content": "Once"}]}


def test_the_whole_stands_in_the_history_where_its_part_stood_though_others_came_after_it():
    script = in_turn(answers(["Once"], finish="length"), answers(["other"]), answers([" upon"]))
    with ScriptedServer(script) as server, opened(server) as panel:
        click(panel, "Generate")
        rest()
        complete("Another")
        click(panel, "Continue")
        rest()
        assert [kept.text for kept in history] == ["Once upon", "other"]


def test_an_answer_goes_on_again_and_again():
    script = in_turn(*(answers([text], finish="length") for text in ("Once", " upon", " a time")))
    with ScriptedServer(script) as server, opened(server) as panel:
        click(panel, "Generate")
        rest()
        for _ in range(2):
            click(panel, "Continue")
            rest()
        assert (state(panel), answer(page(panel, "Answer"))) == (State.CUT, "Once upon a time")
        assert [kept.text for kept in history] == ["Once upon a time"]
        assert "3 tokens" in figures(panel)
    assert server.requests[2].json()["messages"][-1] == {"role": "assistant", "content": "Once upon"}


@pytest.mark.parametrize("how", ["refused", "stopped"])
def test_a_continuation_that_brings_nothing_leaves_the_part_to_go_on_from(how):
    second = replies(500, {"error": {"message": "out of order"}}) if how == "refused" else silent()
    script = in_turn(answers(["Once"], finish="length"), second, answers([" upon"]))
    with ScriptedServer(script) as server, opened(server) as panel:
        click(panel, "Generate")
        rest()
        (part,) = history
        server.arrived.clear()
        click(panel, "Continue")
        if how == "stopped":
            assert server.arrived.wait(PATIENCE)
            click(panel, "Stop")
        rest()
        assert state(panel) is (State.FAILED if how == "refused" else State.STOPPED)
        assert ("out of order" in words(page(panel, "Answer"))) == (how == "refused")
        assert answer(page(panel, "Answer")) == "Once"
        assert history == [part]
        click(panel, "Continue")
        rest()
        assert (state(panel), answer(page(panel, "Answer"))) == (State.DONE, "Once upon")
        assert "out of order" not in words(page(panel, "Answer"))
        assert [kept.text for kept in history] == ["Once upon"]


# What goes wrong is a text


def test_a_refusal_is_shown_with_its_hint():
    script = in_turn(
        replies(401, {"error": {"message": "Invalid <b>API</b> key <img src=x onerror=alert(1)>"}}), answers(["Once"])
    )
    with ScriptedServer(script) as server, opened(server) as panel:
        click(panel, "Generate")
        rest()
        shown = words(page(panel, "Answer"))
        assert (state(panel), enabled(panel)) == (State.FAILED, {"Generate", "Clear"})
        assert "The server wants a key (HTTP 401)." in shown
        assert "Invalid <b>API</b> key <img src=x onerror=alert(1)>" in shown
        assert "`%together login` takes one." in shown
        assert "<img" not in markup(page(panel, "Answer"))
        click(panel, "Generate")
        rest()
        assert (state(panel), answer(page(panel, "Answer"))) == (State.DONE, "Once")
        assert "HTTP 401" not in words(page(panel, "Answer"))


def test_a_server_that_is_not_there_is_told_of():
    with ScriptedServer(silent()) as server:
        pass
    with opened(server, api="chat") as panel:
        click(panel, "Generate")
        rest()
        assert (state(panel), history) == (State.FAILED, [])
        assert f"Nothing answers at {server.base_url}." in words(page(panel, "Answer"))
        assert "Check the base URL, and that the server is running." in words(page(panel, "Answer"))


def test_an_answer_that_breaks_off_stays_and_why_stands_below_it():
    with ScriptedServer(lost_after("Once")) as server, opened(server) as panel:
        click(panel, "Generate")
        rest()
        assert (state(panel), answer(page(panel, "Answer"))) == (State.LOST, "Once")
        assert "The connection was lost before the answer was whole" in words(page(panel, "Answer"))
        assert "What came is kept." in words(page(panel, "Answer"))


@pytest.mark.parametrize(
    ("given", "message", "hint"),
    [
        ({"prompt": " "}, "There is no prompt yet.", "Write one in the box above."),
        ({"api": "completions", "system": "Be brief"}, "The completions API takes one prompt", "Add --api chat."),
        (
            {"api": "inference", "reasoning_effort": "low"},
            "reasoning_effort cannot be sent to the inference API.",
            "Use --api chat",
        ),
    ],
)
def test_what_cannot_be_sent_is_told_in_the_answer_tab_and_nothing_is_sent(given, message, hint):
    with ScriptedServer(answers(["Once"])) as server, opened(server, **given) as panel:
        show(panel, "Events")
        click(panel, "Generate")
        rest()
        assert message in words(page(panel, "Answer"))
        assert hint in words(page(panel, "Answer"))
        assert enabled(panel) == {"Generate", "Clear"}
    assert (server.requests, history) == ([], [])


# The status line


def test_the_status_line_tells_tokens_their_rate_the_first_one_and_the_cost():
    more = threading.Event()

    def script(exchange):
        exchange.chunked().text_events(["Once"])
        exchange.pause(more)
        answers([" upon", " a time"])(exchange)

    with ScriptedServer(script) as server, opened(server) as panel:
        rest()
        click(panel, "Generate")
        until(lambda: re.fullmatch(r"1 chunk so far [\d.]+ s to the first token [\d.]+ s in all", figures(panel)))
        more.set()
        rest()
        cost = re.escape(f"${(5 * 1.0 + 2 * 2.0) / 1e6:.1e}")
        told = rf"2 tokens [\d,]+ tokens/s [\d.]+ s to the first token [\d.]+ s in all {cost}"
        assert re.fullmatch(told, figures(panel))


def test_without_a_count_by_the_server_nothing_is_guessed():
    with ScriptedServer(answers(["Once", " upon"], usage=False)) as server, opened(server) as panel:
        click(panel, "Generate")
        rest()
        assert re.fullmatch(r"2 chunks [\d.]+ s to the first token [\d.]+ s in all", figures(panel))


def test_one_live_region_says_the_states_and_no_token():
    def regions(panel):
        found = [widget for widget in within(panel.widget) if isinstance(widget, HTML) and "aria-live" in widget.value]
        assert len(re.findall('aria-live|role="(?:status|alert|log)"', markup(panel.widget))) == 2  # of one node
        (region,) = found
        assert words(region).split() == " ".join(state.value for state in State).split()
        assert len(re.findall("aria-live", region.value)) == 1
        return region

    with ScriptedServer(in_turn(silent_after(["Zanzibar"]), replies(500, {}))) as server, opened(server) as panel:
        first = regions(panel)
        seen = []
        first.observe(lambda change: seen.append(state(panel)), names="_dom_classes")
        click(panel, "Generate")
        until(lambda: answer(page(panel, "Answer")) == "Zanzibar")
        for title in titles(panel):
            show(panel, title)
            assert regions(panel) is first
        click(panel, "Stop")
        rest()
        click(panel, "Generate")
        rest()
        assert regions(panel) is first
        assert seen == [State.WAITING, State.ANSWERING, State.STOPPED, State.WAITING, State.FAILED]


# What is left behind


def test_closing_ends_the_stream_and_the_threads_and_keeps_what_came():
    with ScriptedServer(silent_after(["Once"])) as server, opened(server) as panel:
        click(panel, "Generate")
        until(lambda: answer(page(panel, "Answer")) == "Once")
        panel.close()
        assert server.closed.wait(PATIENCE)
        rest()
        panel.close()
        assert [(kept.text, kept.cancelled) for kept in history] == [("Once", True)]


@pytest.mark.parametrize("streams", [False, True])
def test_closing_ends_the_threads_that_await_the_list_of_models(monkeypatch, streams):
    monkeypatch.setattr("together_nb.endpoint._CATALOG_TIMEOUT", 3600.0)  # it must not be this that ends them
    asked, over = threading.Semaphore(0), threading.Event()

    def models(exchange):
        asked.release()
        exchange.pause(over, 3600)

    with ScriptedServer(silent(), models=models) as server, opened(server) as panel:
        assert asked.acquire(timeout=PATIENCE)
        if streams:
            click(panel, "Generate")
            assert asked.acquire(timeout=PATIENCE)
        panel.close()
        try:
            for thread in ours():
                thread.join(PATIENCE)
            assert ours() == []
        finally:
            over.set()


def test_after_closing_none_of_its_widgets_is_left():
    script = answers(["Once", "\n\nupon"])
    with ScriptedServer(script) as server, no_widget_left(server), opened(server, logprobs=1) as panel:
        for name in ("Generate", "Compare"):
            click(panel, name)
            rest()
            for title in titles(panel):
                show(panel, title)
            rest()


ANEW = """
from ipywidgets import Widget
from together_nb import Panel
Panel(prompt="Hi").close()
Widget.close_all()
panel = Panel(prompt="Hi")
print(panel.widget.layout.model_id)
panel.close()
"""


def test_a_panel_opens_though_a_cell_has_closed_all_widgets_there_were():
    environment = {**os.environ, "TOGETHER_BASE_URL": "http://127.0.0.1:9"}
    done = subprocess.run([sys.executable, "-c", ANEW], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() not in ("", "None")


def left_behind(server):
    """What there is of threads, connections, descriptors and widgets, once nothing is under way."""
    rest()
    gc.collect()
    descriptors = Path("/proc/self/fd")
    descriptors_open = len(list(descriptors.iterdir())) if descriptors.is_dir() else 0
    return threading.active_count(), len(server._live), descriptors_open, len(living())


@pytest.fixture
def old_objects_left_alone():
    """What is there from the tests before need not be looked through each time: it was most of a minute."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize(("name", "times", "at_once"), [("Generate", 100, 1), ("Compare", 20, 3)])
def test_many_runs_one_after_the_other_leave_no_more_than_one(name, times, at_once, old_objects_left_alone):
    arrived = threading.Barrier(at_once)

    def script(exchange):
        arrived.wait(PATIENCE)
        answers(["Once", " upon", "\n\na time"])(exchange)

    with ScriptedServer(script) as server, opened(server, logprobs=1) as panel:
        rest()

        def run():
            click(panel, name)
            rest()
            for title in reversed(titles(panel)):
                show(panel, title)
            return left_behind(server)

        first = run()
        for _ in range(times - 2):
            run()
        assert run() == first


# Shown in a cell


@pytest.fixture
def shell():
    InteractiveShell.clear_instance()
    config = Config()
    config.HistoryManager.enabled = False
    yield InteractiveShell.instance(config=config)
    InteractiveShell.clear_instance()


def of_cell(shell, cell, execution):
    """What the front end says of the cell that runs now."""
    shell.parent_header = {"header": {"msg_id": execution}, "metadata": {"cellId": cell}, "content": {}}


def test_running_a_cell_again_closes_the_panels_that_it_made_before(shell, capsys):
    with ScriptedServer(silent_after(["Once"])) as server:
        of_cell(shell, "a", "1")
        with opened(server) as first, opened(server) as beside:
            shell.push({"first": first})
            shell.run_cell("first").raise_error()
            click(first, "Generate")
            until(lambda: answer(page(first, "Answer")) == "Once")
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
    assert [panels for _, panels in panel_module._open.values() if panels] == []
    assert "Run this cell again to have it back." in capsys.readouterr().out


def test_the_answer_is_bound_to_the_name_that_cells_use(shell):
    with ScriptedServer(answers(["Once"])) as server, opened(server) as panel:
        click(panel, "Generate")
        rest()
        assert shell.user_ns["_together"] is panel.completion


# Where what a thread draws is not shown


@pytest.fixture
def colab(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))


def test_in_colab_all_is_drawn_in_the_calling_thread(colab):
    running = []

    def script(exchange):
        running.extend(thread.name for thread in ours())
        answers(["Once", " upon"])(exchange)

    with ScriptedServer(script) as server, watched() as threads, opened(server) as panel:
        for title in titles(panel):
            show(panel, title)
        show(panel, "Answer")
        click(panel, "Generate")
        assert ours() == []
        assert (state(panel), enabled(panel)) == (State.DONE, {"Generate", "Clear"})
        assert answer(page(panel, "Answer")) == "Once upon"
        assert running == ["together_nb stream"]
        click(panel, "Compare")
        assert set(running) == {"together_nb stream"}
        assert len(history) == 4
        assert threads == {threading.current_thread()}


def test_in_colab_an_interrupt_stops_it_and_is_no_error(colab):
    def press(_):
        if state(panel) is State.ANSWERING:
            signal.raise_signal(signal.SIGINT)

    with ScriptedServer(silent_after(["Once"])) as server, opened(server) as panel:
        (line,) = [widget for widget in within(panel.widget) if "tnb-state" in widget._dom_classes]
        line.observe(press, names="_dom_classes")
        click(panel, "Generate")
        assert server.closed.wait(PATIENCE)
        assert (state(panel), enabled(panel)) == (State.STOPPED, {"Generate", "Continue", "Clear"})
        assert "KeyboardInterrupt" not in words(page(panel, "Answer"))
        assert [(kept.text, kept.cancelled) for kept in history] == [("Once", True)]
