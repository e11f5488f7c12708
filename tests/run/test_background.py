"""An answer that streams on while other cells run: `BackgroundRun`, and ``%%together -b`` in a real kernel."""

from __future__ import annotations

import signal
import threading
from concurrent.futures import TimeoutError as NotYet

import pytest

import together_nb
from tests.kernels import PATIENCE, WIDGET
from tests.magic.test_magics import ipython
from tests.panel.test_panel import held_until, in_turn
from tests.servers import ScriptedServer, answers, eventually, replies, silent, silent_after
from together_nb import BackgroundRun
from together_nb.errors import ConnectionLostError, InputError
from together_nb.views.text import SilentView

pytestmark = pytest.mark.timeout(180)

SOON = 20  # seconds; only a hang takes that long


def cut_short(texts):
    """A script that sends `texts` and loses the connection."""
    return answers(texts, finish=None, done=False)


class Drawn(SilentView):
    """A view that keeps what it was to draw, and calls `check` when there is text."""

    def __init__(self, check=lambda: None):
        self.text, self.calls, self.end = "", [], None
        self.check = check

    def start(self, stream):
        self.calls.append("start")

    def write(self, chunks):
        self.text += "".join(chunk.text for chunk in chunks)
        if chunks:
            self.check()

    def finish(self, completion, error):
        self.calls.append("finish")
        self.end = completion, error


def run_at(server, view=None, **parts):
    """A run that asks `server`, not yet started."""
    return BackgroundRun(
        lambda: together_nb.stream("Tell me", base_url=server.base_url, model="test/chat"),
        view or Drawn(),
        **{"keep": together_nb.session.default.keep, **parts},
    )


# A future of an answer


def test_it_runs_until_the_answer_is_whole_kept_and_drawn_and_says_how_far_it_is():
    opening, held, view, order = threading.Event(), threading.Event(), Drawn(), []

    def open_stream():
        assert opening.wait(SOON)
        return together_nb.stream("Tell me", base_url=server.base_url, model="test/chat")

    with ScriptedServer(held_until(held, answers([" upon"]), before=["Once"])) as server:
        run = BackgroundRun(open_stream, view, lambda _: order.extend((*view.calls, "keep", run.done())))
        run.add_done_callback(lambda _: order.extend((view.calls[-1], run.join())))  # its thread may wait for its end
        run.join()  # it was not started
        run.start()
        assert (run.completion, repr(run)) == (None, "<BackgroundRun: running, nothing yet; result() waits>")
        opening.set()
        eventually(lambda: view.text)
        assert (run.running(), run.done(), run.completion.text) == (True, False, "Once")
        assert repr(run) == "<BackgroundRun: running, 1 chunk; result() waits>"
        for wait in (run.result, run.exception):
            with pytest.raises(NotYet):
                wait(0)
        held.set()
        answer = run.result(SOON)
    assert (run.running(), run.done(), run.cancelled(), run.exception()) == (False, True, False, None)
    assert (answer.text, answer.finish_reason, view.text) == ("Once upon", "stop", "Once upon")
    assert (run.cancel(), run.stopped, answer.cancelled) == (False, False, False)
    assert repr(run) == f"<BackgroundRun: {answer!r}>"
    run.join(SOON)
    assert order == ["start", "keep", False, "finish", None]
    assert (view.end, together_nb.history) == ((answer, None), [])


def test_cancel_ends_it_and_keeps_what_came():
    view = Drawn()
    with ScriptedServer(silent_after(["Once"])) as server:
        run = run_at(server, view).start()
        eventually(lambda: view.text)
        assert run.cancel() is True
        answer = run.result(SOON)
        assert server.closed.wait(SOON)
    assert (answer.text, answer.cancelled, view.text) == ("Once", True, "Once")
    assert (run.done(), run.cancelled(), run.exception(), run.stopped) == (True, False, None, True)
    assert view.end == (answer, None)
    assert together_nb.history == [answer]
    assert "stopped by you" in repr(run)


@pytest.mark.parametrize("started", [False, True], ids=["before the start", "while the stream is opened"])
def test_cancel_before_there_is_a_stream_sends_nothing(started):
    opening, go_on = threading.Event(), threading.Event()

    def open_slowly():
        opening.set()
        assert go_on.wait(SOON)
        return together_nb.stream("Tell me", base_url=server.base_url, model="test/chat", api="chat")

    with ScriptedServer(answers(["Once"])) as server:
        run = BackgroundRun(open_slowly, Drawn(), print)
        if started:
            run.start()
            assert opening.wait(SOON)
        assert (run.cancel(), run.done(), run.completion) == (True, False, None)
        go_on.set()
        answer = run.result(SOON) if started else run.start().result(SOON)
    assert server.connections == 0
    assert (answer.text, answer.cancelled) == ("", True)


def test_an_error_is_raised_to_who_asks_with_what_came():
    view = Drawn()
    with ScriptedServer(cut_short(["Once", " upon"])) as server:
        run = run_at(server, view).start()
        with pytest.raises(ConnectionLostError) as caught:
            run.result(SOON)
    assert run.exception() is caught.value
    assert caught.value.completion.text == "Once upon"
    assert view.end == (caught.value.completion, caught.value)
    assert [(answer.text, answer.error) for answer in together_nb.history] == [("Once upon", "connection lost")]
    assert (run.cancel(), run.completion.cancelled) == (False, False)
    assert repr(run).startswith("<BackgroundRun: failed, The connection was lost")


def test_an_error_of_the_opening_is_raised_to_who_asks_and_nothing_is_drawn():
    def refuse():
        raise InputError("It cannot be sent.")

    view = Drawn()
    run = BackgroundRun(refuse, view, print).start()
    with pytest.raises(InputError, match="It cannot be sent"):
        run.result(SOON)
    assert (view.calls, together_nb.history, run.completion) == ([], [], None)


def test_an_interrupt_of_who_runs_it_himself_is_raised_and_what_came_is_kept():
    with ScriptedServer(silent_after(["Once"])) as server:
        run = run_at(server, Drawn(check=lambda: signal.raise_signal(signal.SIGINT)))
        with pytest.raises(KeyboardInterrupt):
            run.run()
        assert server.closed.wait(SOON)
    assert isinstance(run.exception(), KeyboardInterrupt)
    assert "KeyboardInterrupt" in repr(run)  # an error without words is named
    assert [(answer.text, answer.cancelled) for answer in together_nb.history] == [("Once", True)]


# In a terminal


@pytest.mark.parametrize("script", [answers(["half"]), cut_short(["half"])], ids=["whole", "failed"])
def test_a_terminal_waits_and_prints(capsys, script):
    together_nb.settings.model = "test/chat"
    with ScriptedServer(script) as server, ipython() as shell:
        together_nb.settings.base_url = server.base_url
        error = shell.run_cell("%%together -b -o run\nhello").error_in_exec
        run = shell.user_ns["run"]
        assert (run.done(), run.exception()) == (True, error)
        assert run.completion.text == shell.user_ns["_together"].text == "half"
    out = capsys.readouterr().out
    assert out.startswith("half\n[test/chat · 1 ")
    assert "Traceback" not in out


# In a kernel


class Page:
    """A front end: sends cells and clicks, and takes all that the kernel says, whichever cell it is said of."""

    def __init__(self, kernel):
        self.kernel = kernel
        self.messages = []
        self._replies = {}

    def end(self, cell):
        """Until the kernel is idle after the cell; returns its reply."""
        self.until(lambda: any(one["content"]["execution_state"] == "idle" for one in self.of("status", cell=cell)))
        while cell not in self._replies:
            reply = self.kernel.client.get_shell_msg(timeout=PATIENCE)
            self._replies[reply["parent_header"].get("msg_id")] = reply["content"]
        return self._replies[cell]

    def run(self, code):
        """Run a cell that succeeds; returns the message's id."""
        cell = self.kernel.run(code).id
        assert self.end(cell)["status"] == "ok"
        return cell

    def value(self, expression):
        (shown,) = self.of("execute_result", cell=self.run(expression))
        return shown["content"]["data"]["text/plain"]

    def ask(self, server, code="%%together -b -o run\nhello", **options):
        """Run a cell that asks `server`; returns the message's id."""
        self.run(f"together_nb.settings.base_url = {server.base_url!r}")
        cell = self.kernel.run(code, **options).id
        self.end(cell)
        return cell

    def until(self, true):
        while not true():
            self.messages.append(self.kernel.client.get_iopub_msg(timeout=PATIENCE))

    def of(self, *kinds, cell=None):
        own = (one for one in self.messages if cell in {None, one["parent_header"].get("msg_id")})
        return [one for one in own if one["msg_type"] in kinds]

    def display(self, cell):
        """What the one display of the cell shows now."""
        (first,) = self.of("display_data", cell=cell)
        place = first["content"]["transient"]["display_id"]
        updates = [one["content"] for one in self.of("update_display_data")]
        return [first["content"], *(one for one in updates if one["transient"]["display_id"] == place)][-1]

    def plain(self, cell):
        return self.display(cell)["data"]["text/plain"]

    def until_ended(self, *cells):
        """Until no widget is left in their displays."""
        self.until(lambda: all(WIDGET not in self.display(cell)["data"] for cell in cells))

    def painted(self, text):
        """Whether `text` has been on screen."""
        states = [one["content"]["data"].get("state", {}) for one in self.of("comm_open", "comm_msg")]
        outputs = [output["data"] for state in states for output in state.get("outputs") or ()]
        return any(data.get("text/markdown") == text for data in outputs)

    def buttons(self, cell):
        contents = [one["content"] for one in self.of("comm_open", cell=cell)]
        return [one["comm_id"] for one in contents if one["data"]["state"].get("description") == "Stop"]

    def click_stop(self, cell):
        (button,) = self.buttons(cell)
        click = {"comm_id": button, "data": {"method": "custom", "content": {"event": "click"}}}
        message = self.kernel.client.session.msg("comm_msg", click)
        self.kernel.client.shell_channel.send(message)

    def assert_nothing_is_left(self):
        """Every widget is closed, and the thread of the last run has ended."""
        comms = lambda kind: {one["content"]["comm_id"] for one in self.of(kind)}  # noqa: E731
        assert len(comms("comm_open")) > 2
        self.until(lambda: comms("comm_open") <= comms("comm_close"))
        self.run("run.join()")
        assert self.value("[one for one in threading.enumerate() if one.name.startswith('together_nb')]") == "[]"


IN_THE_KERNEL = """import sys, threading, types, together_nb
from together_nb.views import layouts
together_nb.settings.model = 'test/chat'
layouts.html_style(), layouts.button_style(), layouts.snug_layout()  # never closed: all widgets share them"""


@pytest.fixture
def page(kernel):
    return Page(kernel)


def test_cells_return_at_once_having_displayed_a_place_others_run_and_each_answer_streams_in_its_own(page):
    held, names = threading.Event(), ("apples", "pears", "plums")

    def script(exchange):
        name = exchange.request.json()["messages"][0]["content"]
        held_until(held, answers([" and more"], usage=False), before=[f"about {name}"])(exchange)

    page.run("seen = []; note = lambda message: seen.append(message['msg_type']) or message")
    page.run("get_ipython().display_pub.register_hook(note)")  # sees what the cells' own thread displays
    with ScriptedServer(script) as server:
        cells = [page.ask(server, f"%%together -b\n{name}") for name in names]
        other = page.run("print('meanwhile')")
        page.until(lambda: all(page.painted(f"about {name}") for name in names))
        held.set()
        page.until_ended(*cells)
    page.run("get_ipython().display_pub.unregister_hook(note)")
    assert page.value("seen") == "['display_data', 'display_data', 'display_data']"
    assert [one["content"]["text"] for one in page.of("stream", cell=other)] == ["meanwhile\n"]
    for name, cell in zip(names, cells, strict=True):
        shown = page.display(cell)
        assert set(shown["data"]) == {"text/markdown", "text/plain"}
        assert shown["data"]["text/markdown"].startswith(f"about {name} and more\n\n<sub>test/chat · 2 chunks · ")
        assert shown["metadata"]["together_nb"]["model"] == "test/chat"
    names = "(type(_together).__name__, _together in together_nb.history[-3:])"
    assert page.value(names) == "('Completion', True)"


def test_out_is_the_run_and_a_later_cell_can_wait_for_its_result(page):
    more, held = threading.Event(), threading.Event()
    rest = held_until(held, answers([" a time"]), before=[" upon"])
    with ScriptedServer(held_until(more, rest, before=["Once"])) as server:
        cell = page.ask(server)
        assert page.value("(type(run).__name__, run.done())") == "('BackgroundRun', False)"
        interrupted = page.kernel.run("print('waiting'); run.result()").id
        page.until(lambda: page.of("stream", cell=interrupted))
        page.kernel.interrupt()
        assert page.end(interrupted)["ename"] == "KeyboardInterrupt"  # and the answer streams on
        waiting = page.kernel.run("print('waiting'); run.result().text").id
        page.until(lambda: page.of("stream", cell=waiting) and page.painted("Once"))
        more.set()
        page.until(lambda: page.painted("Once upon"))  # though the kernel's own thread waits
        held.set()
        assert page.end(waiting)["status"] == "ok"
        page.until_ended(cell)
    (result,) = page.of("execute_result", cell=waiting)
    assert result["content"]["data"]["text/plain"] == "'Once upon a time'"
    assert page.value("run.result() is _together is together_nb.history[-1]") == "True"
    page.assert_nothing_is_left()


@pytest.mark.parametrize(
    ("script", "kept"), [(silent(), ""), (silent_after(["the", " part"]), "the part")], ids=["before", "after"]
)
def test_a_click_on_stop_ends_it_and_keeps_what_came(page, script, kept):
    with ScriptedServer(script) as server:
        cell = page.ask(server)
        assert server.arrived.wait(SOON)
        page.until(lambda: not kept or page.painted(kept))
        page.click_stop(cell)
        assert server.closed.wait(SOON)
        page.until_ended(cell)
    assert page.plain(cell).startswith(f"{kept}\n\n[test/chat · " if kept else "[test/chat · ")
    assert page.plain(cell).endswith(" · stopped by you]")
    assert page.value("(run.result().text, run.result().cancelled)") == repr((kept, True))
    page.assert_nothing_is_left()


@pytest.mark.parametrize(
    ("cell", "codes"),
    [
        ("5f2a", ("%%together -b\nfirst", "%%together -b -o run\nsecond")),
        ("5f2b", ("%%together -b\nfirst", "%%together\nsecond")),
        ("", ("%%together -b\nsame", "%%together -b\nsame")),
    ],
    ids=["known by its id", "now without -b", "known by its code"],
)
def test_running_the_cell_again_ends_its_earlier_run(page, cell, codes):
    with ScriptedServer(in_turn(silent_after(["old"]), answers(["new"]))) as server:
        earlier = page.ask(server, codes[0], cell=cell)
        page.until(lambda: page.painted("old"))
        later = page.ask(server, codes[1], cell=cell)
        assert server.closed.wait(SOON)
        page.until_ended(earlier, later)
    assert page.plain(earlier).startswith("old\n\n[")
    assert page.plain(earlier).endswith(" · stopped by you]")
    assert page.plain(later).startswith("new\n\n[")


def test_another_cell_of_the_same_text_leaves_the_first_one_streaming(page):
    held = threading.Event()
    with ScriptedServer(held_until(held, answers([" upon"]), before=["Once"])) as server:
        cells = [page.ask(server, cell=cell) for cell in ("a", "b")]
        held.set()
        page.until_ended(*cells)
    assert all(page.plain(cell).startswith("Once upon\n\n[") for cell in cells)


def test_a_failure_stands_in_the_display_below_what_came(page):
    with ScriptedServer(cut_short(["half"])) as server:
        cell = page.ask(server)
        page.until_ended(cell)
    plain, markdown = page.plain(cell), page.display(cell)["data"]["text/markdown"]
    _, end, lines = plain.partition(" · connection lost]\n\n")
    assert end
    assert lines.startswith("ConnectionLostError: ")
    assert len(lines.splitlines()) == 2
    assert plain.startswith("half\n\n[test/chat · 1 chunk · ")
    assert markdown.startswith("half\n\n<sub>")
    assert markdown.endswith(f"</sub>\n\n```\n{lines}\n```")
    assert page.value("(run.exception().completion.text, _together.text)") == "('half', 'half')"
    assert page.of("error", "stream") == []
    page.assert_nothing_is_left()


def test_a_failure_before_anything_came_is_raised_to_who_asks_and_costs_no_name_its_answer(page):
    page.run("_together = 'as it was'")
    with ScriptedServer(replies(400, {"error": {"message": "no ``` such"}})) as server:
        cell = page.ask(server)
        page.until_ended(cell)
        error = page.end(page.kernel.run("run.result()").id)
    first, _ = error["traceback"]
    assert (error["status"], error["ename"]) == ("error", "APIStatusError")
    assert first.endswith("(HTTP 400). no ``` such")
    assert f"\n\n````\n{first}\n" in page.display(cell)["data"]["text/markdown"]
    assert f"\n\n{first}\n" in page.plain(cell)
    assert page.value("_together") == "'as it was'"


def test_nothing_is_shown_of_what_is_to_be_shown_as_nothing(page):
    with ScriptedServer(answers(["Once"])) as server:
        page.ask(server, "%%together -b --show none -o run\nhello")
        assert page.value("run.result().text") == "'Once'"
    assert page.of("display_data", "update_display_data", "comm_open") == []


@pytest.mark.parametrize(
    ("script", "error"),
    [(answers(["half"]), None), (cut_short(["half"]), "ConnectionLostError")],
    ids=["whole", "failed"],
)
def test_where_nobody_watches_the_cell_waits_holds_the_one_display_and_fails_itself(page, script, error):
    with ScriptedServer(script) as server:
        cell = page.ask(server, watched=False)
    (shown,) = page.of("display_data", "update_display_data")
    assert page.of("comm_open") == []
    assert shown["parent_header"]["msg_id"] == cell
    assert shown["content"]["data"]["text/markdown"].startswith("half\n\n<sub>")
    assert shown["content"]["metadata"]["together_nb"]["model"] == "test/chat"
    assert "ConnectionLostError" not in shown["content"]["data"]["text/plain"]
    assert page.end(cell).get("ename") == error
    assert page.value("run.done() and (run.exception() is None, run.completion.text)") == repr((error is None, "half"))


def test_colab_which_draws_nothing_from_threads_waits(page):
    page.run("sys.modules['google.colab'] = types.ModuleType('google.colab')")
    try:
        with ScriptedServer(answers(["Once"])) as server:
            cell = page.ask(server)
            assert page.plain(cell).startswith("Once\n\n[")
    finally:
        page.run("del sys.modules['google.colab']")
    assert page.value("run.done()") == "True"
    assert page.of("comm_open", cell=cell)
    assert page.buttons(cell) == []
