"""An answer that streams on while other cells run: `BackgroundRun`, and ``%%together -b`` in a real kernel."""

from __future__ import annotations

import threading
from concurrent.futures import TimeoutError as NotYet
from concurrent.futures import as_completed

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from tests.kernels import PATIENCE, WIDGET, Kernel
from tests.servers import ScriptedServer, answers, replies, silent, silent_after
from together_nb import BackgroundRun, history, stream
from together_nb.config import settings
from together_nb.errors import ConnectionLostError, InputError
from together_nb.views.text import SilentView

pytestmark = pytest.mark.timeout(180)

SOON = 20  # seconds; only a hang takes that long


def held_back(event, before=(), after=()):
    """A script that sends `before`, waits for `event`, and sends `after`."""

    def script(exchange):
        exchange.chunked().text_events(before)
        exchange.pause(event)
        exchange.text_events(after)
        exchange.event(exchange.payload("", finish="stop"))
        exchange.done()

    return script


def cut_short(texts):
    """A script that sends `texts` and loses the connection."""
    return answers(texts, finish=None, done=False)


class Drawn(SilentView):
    """A view that tells what it was asked to draw."""

    def __init__(self):
        self.text = ""
        self.came = threading.Event()
        self.calls = []
        self.end = None

    def start(self, stream):
        self.calls.append("start")

    def write(self, chunks):
        self.text += "".join(chunk.text for chunk in chunks)
        if chunks:
            self.came.set()

    def finish(self, completion, error):
        self.calls.append("finish")
        self.end = completion, error


def asking(server, view=None, prompt="Tell me", **parts):
    """A run that asks `server`, not yet started."""
    return BackgroundRun(
        lambda: stream(prompt, base_url=server.base_url, model="test/chat"), view or Drawn(), **parts
    )  # fmt: skip


# A future of an answer


def test_it_runs_until_the_answer_is_whole():
    held, view = threading.Event(), Drawn()
    with ScriptedServer(held_back(held, ["Once"], [" upon"])) as server:
        run = asking(server, view).start()
        assert view.came.wait(SOON)
        assert (run.running(), run.done(), run.completion.text) == (True, False, "Once")
        held.set()
        answer = run.result(SOON)
    assert (run.running(), run.done(), run.cancelled(), run.exception()) == (False, True, False, None)
    assert (answer.text, answer.finish_reason, view.text) == ("Once upon", "stop", "Once upon")
    assert view.end == (answer, None)
    assert history == [answer]


def test_who_waits_no_longer_is_told_so_and_it_runs_on():
    held = threading.Event()
    with ScriptedServer(held_back(held, after=["Once"])) as server:
        run = asking(server).start()
        for wait in (run.result, run.exception):
            with pytest.raises(NotYet):
                wait(0)
        assert not run.done()
        held.set()
        assert run.result(SOON).text == "Once"


def test_several_are_told_as_they_end():
    held = {name: threading.Event() for name in ("apples", "pears", "plums")}

    def script(exchange):
        name = exchange.request.json()["messages"][0]["content"]
        held_back(held[name], after=[f"about {name}"])(exchange)

    with ScriptedServer(script) as server:
        runs = {asking(server, prompt=name).start(): name for name in held}
        ending = as_completed(runs, SOON)
        for name in ("pears", "plums", "apples"):
            held[name].set()
            run = next(ending)
            assert (runs[run], run.result().text) == (name, f"about {name}")


def test_the_answer_is_kept_then_drawn_to_its_end_and_then_it_is_done():
    held, view, order = threading.Event(), Drawn(), []
    with ScriptedServer(held_back(held, after=["Once"])) as server:
        run = asking(server, view, keep=lambda _: order.extend((*view.calls, "keep", run.done())))
        run.add_done_callback(lambda _: order.append(view.calls[-1]))
        run.start()
        held.set()
        run.join(SOON)
    assert order == ["start", "keep", False, "finish"]
    assert history == []


# Its end before the end


@pytest.mark.parametrize(
    ("script", "kept"),
    [(silent(), ""), (silent_after([]), ""), (silent_after(["Once"]), "Once")],
    ids=["silent", "before the first token", "in the middle"],
)
def test_cancel_ends_it_and_keeps_what_came(script, kept):
    view = Drawn()
    with ScriptedServer(script) as server:
        run = asking(server, view).start()
        assert server.arrived.wait(SOON)
        assert not kept or view.came.wait(SOON)
        assert run.cancel() is True
        answer = run.result(SOON)
        assert server.closed.wait(SOON)
    assert (answer.text, answer.cancelled, view.text) == (kept, True, kept)
    assert (run.done(), run.cancelled(), run.exception()) == (True, False, None)
    assert view.end == (answer, None)
    assert history == [answer]


def test_cancel_while_the_stream_is_being_opened_sends_nothing():
    opening, go_on = threading.Event(), threading.Event()

    def slowly():
        opening.set()
        assert go_on.wait(SOON)
        return stream("Tell me", base_url=server.base_url, model="test/chat", api="chat")

    with ScriptedServer(answers(["Once"])) as server:
        run = BackgroundRun(slowly, Drawn()).start()
        assert opening.wait(SOON)
        assert (run.cancel(), run.done(), run.completion) == (True, False, None)
        go_on.set()
        answer = run.result(SOON)
    assert server.connections == 0
    assert (answer.text, answer.cancelled) == ("", True)


def test_cancel_before_the_start_counts():
    with ScriptedServer(answers(["Once"])) as server:
        run = asking(server)
        assert run.cancel() is True
        assert run.start().result(SOON).cancelled is True
    assert server.requests == []


@pytest.mark.parametrize("script", [answers(["Once"]), cut_short(["Once"])], ids=["whole", "failed"])
def test_what_has_ended_cannot_be_cancelled(script):
    with ScriptedServer(script) as server:
        run = asking(server).start()
        run.exception(SOON)
        assert run.cancel() is False
    assert run.completion.cancelled is False


def test_an_error_is_raised_to_who_asks_with_what_came():
    view = Drawn()
    with ScriptedServer(cut_short(["Once", " upon"])) as server:
        run = asking(server, view).start()
        with pytest.raises(ConnectionLostError) as caught:
            run.result(SOON)
    assert run.exception() is caught.value
    assert caught.value.completion.text == "Once upon"
    assert view.end == (caught.value.completion, caught.value)
    assert [(answer.text, answer.error) for answer in history] == [("Once upon", "connection lost")]


def test_an_error_of_the_opening_is_raised_to_who_asks_and_nothing_is_drawn():
    view = Drawn()

    def refused():
        raise InputError("It cannot be sent.")

    run = BackgroundRun(refused, view).start()
    with pytest.raises(InputError, match="It cannot be sent"):
        run.result(SOON)
    assert (view.calls, history, run.completion) == ([], [], None)


class Interrupted(Drawn):
    """A view that is drawing when Ctrl-C comes."""

    def write(self, chunks):
        super().write(chunks)
        if chunks:
            raise KeyboardInterrupt


def test_an_interrupt_of_who_runs_it_himself_is_raised_and_what_came_is_kept():
    with ScriptedServer(silent_after(["Once"])) as server:
        run = asking(server, Interrupted())
        with pytest.raises(KeyboardInterrupt):
            run.run()
        assert server.closed.wait(SOON)
    assert isinstance(run.exception(), KeyboardInterrupt)
    assert [(answer.text, answer.cancelled) for answer in history] == [("Once", True)]


# What it leaves, and how it shows itself


@pytest.mark.parametrize("end", ["whole", "cancelled", "failed"])
def test_no_thread_is_left(end):
    before = set(threading.enumerate())

    def ours():
        return sorted(
            one.name for one in set(threading.enumerate()) - before if one.name.startswith("together_nb")
        )  # fmt: skip

    held, view = threading.Event(), Drawn()
    script = held_back(held, ["Once"])
    with ScriptedServer(script) as server:
        run = asking(server, view).start()
        assert view.came.wait(SOON)
        assert ours() == ["together_nb run", "together_nb stream"]
        if end == "cancelled":
            run.cancel()
        elif end == "failed":
            server.stop()
        held.set()
        run.join(SOON)
        assert ours() == []
    assert (run.exception() is not None, run.completion.cancelled) == (end == "failed", end == "cancelled")


def test_its_thread_may_wait_for_its_own_end_and_anyone_for_one_that_was_never_started():
    held, waited = threading.Event(), []
    with ScriptedServer(held_back(held, after=["Once"])) as server:
        run = asking(server)
        run.join()
        run.add_done_callback(lambda one: waited.append(one.join()))
        run.start()
        held.set()
        run.join(SOON)
    assert waited == [None]


def test_it_says_how_far_it_is():
    opening, held, view = threading.Event(), threading.Event(), Drawn()

    def opened():
        assert opening.wait(SOON)
        return stream("Tell me", base_url=server.base_url, model="test/chat")

    with ScriptedServer(held_back(held, ["Once"])) as server:
        run = BackgroundRun(opened, view).start()
        assert repr(run) == "<BackgroundRun: running, nothing yet; result() waits>"
        opening.set()
        assert view.came.wait(SOON)
        assert repr(run) == "<BackgroundRun: running, 1 chunk; result() waits>"
        held.set()
        answer = run.result(SOON)
    assert repr(run) == f"<BackgroundRun: {answer!r}>"


def test_it_says_how_it_was_stopped_or_failed():
    with ScriptedServer(silent_after(["Once"])) as server:
        stopped = asking(server).start()
        assert server.arrived.wait(SOON)
        stopped.cancel()
        stopped.join(SOON)
    with ScriptedServer(cut_short(["Once"])) as server:
        failed = asking(server).start()
        failed.join(SOON)
    assert "stopped by you" in repr(stopped)
    assert repr(failed).startswith("<BackgroundRun: failed, ")
    assert "The connection was lost before the answer was whole" in repr(failed)


def test_an_error_without_words_is_named():
    def interrupted():
        raise KeyboardInterrupt

    run = BackgroundRun(interrupted, Drawn())
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert "KeyboardInterrupt" in repr(run)


def test_a_servers_words_in_it_do_nothing_to_a_terminal():
    with ScriptedServer(replies(400, {"error": {"message": "no \x1b]52;c;aGk=\x07"}})) as server:
        run = asking(server).start()
        run.join(SOON)
    assert "\x1b" not in repr(run)
    assert r"\x1b]52;c;aGk=\x07" in repr(run)


# In a terminal


@pytest.fixture
def terminal():
    """A real IPython without a kernel, with the extension loaded."""
    config = Config()
    config.HistoryManager.enabled = False
    InteractiveShell.clear_instance()
    one = InteractiveShell.instance(config=config)
    one.run_line_magic("load_ext", "together_nb")
    settings.model = "test/chat"
    yield one
    one.run_line_magic("unload_ext", "together_nb")
    InteractiveShell.clear_instance()


def test_a_terminal_waits_and_prints(terminal, capsys):
    with ScriptedServer(answers(["The", " answer"])) as server:
        settings.base_url = server.base_url
        terminal.run_cell("%%together -b -o run\nhello").raise_error()
    assert capsys.readouterr().out.startswith("The answer\n[test/chat · 2 tokens · ")
    run = terminal.user_ns["run"]
    assert run.done()
    assert run.result() is terminal.user_ns["_together"]


def test_a_terminal_is_told_of_an_error_by_the_cell(terminal, capsys):
    with ScriptedServer(cut_short(["half"])) as server:
        settings.base_url = server.base_url
        result = terminal.run_cell("%%together -b -o run\nhello")
    assert isinstance(result.error_in_exec, ConnectionLostError)
    assert terminal.user_ns["run"].exception() is result.error_in_exec
    assert terminal.user_ns["_together"].text == "half"
    shown = capsys.readouterr().out
    assert shown.startswith("half\n[test/chat · 1 chunk · ")
    assert "Traceback" not in shown


# In a kernel


class Page:
    """A front end: sends cells and clicks, and takes all that the kernel says, whichever cell it is said of."""

    def __init__(self, kernel):
        self.kernel = kernel
        self.client = kernel.client
        self.messages = []
        self._replies = {}

    def start(self, code, *, cell="", watched=True):
        """Send a cell, as one whose id is `cell` or as one without; returns the message's id."""
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}}
        content |= {"allow_stdin": watched, "stop_on_error": True}
        return self._send("execute_request", content, {"cellId": cell} if cell else {})

    def end(self, sent):
        """Until the kernel is idle after the cell; returns its reply."""
        self.until(lambda: any(one["content"]["execution_state"] == "idle" for one in self.of("status", sent=sent)))
        while sent not in self._replies:
            reply = self.client.get_shell_msg(timeout=PATIENCE)
            self._replies[reply["parent_header"].get("msg_id")] = reply["content"]
        return self._replies[sent]

    def run(self, code, **options):
        """Send a cell that succeeds and wait for its end; returns the message's id."""
        sent = self.start(code, **options)
        assert self.end(sent)["status"] == "ok"
        return sent

    def value(self, expression):
        """The repr of an expression."""
        (shown,) = self.of("execute_result", sent=self.run(expression))
        return shown["content"]["data"]["text/plain"]

    def point_at(self, server):
        self.run(f"together_nb.settings.base_url = {server.base_url!r}")

    def ask(self, server, code="%%together -b\nhello", **options):
        """Run a cell that asks `server`."""
        self.point_at(server)
        return self.run(code, **options)

    def until(self, seen):
        while not seen():
            self.messages.append(self.client.get_iopub_msg(timeout=PATIENCE))

    def of(self, *kinds, sent=None):
        return [
            one
            for one in self.messages
            if one["msg_type"] in kinds and sent in {None, one["parent_header"].get("msg_id")}
        ]

    def display(self, sent):
        """What the one display of the cell shows now."""
        (first,) = self.of("display_data", sent=sent)
        place = first["content"]["transient"]["display_id"]
        updates = [one["content"] for one in self.of("update_display_data")]
        return [first["content"], *(one for one in updates if one["transient"]["display_id"] == place)][-1]

    def ended(self, *cells):
        """Whether no widget is left in their displays."""
        return all(WIDGET not in self.display(sent)["data"] for sent in cells)

    def painted(self, text):
        """Whether `text` has been on screen."""
        states = [one["content"]["data"].get("state", {}) for one in self.of("comm_open", "comm_msg")]
        outputs = [output["data"] for state in states for output in state.get("outputs") or ()]
        return any(data.get("text/markdown") == text for data in outputs)

    def click_stop(self, sent):
        """Click the button below the cell."""
        (button,) = (
            one["content"]["comm_id"]
            for one in self.of("comm_open", sent=sent)
            if one["content"]["data"]["state"]["_model_name"] == "ButtonModel"
        )
        data = {"method": "custom", "content": {"event": "click"}}
        self._send("comm_msg", {"comm_id": button, "data": data})

    def widgets(self, kind):
        return {one["content"]["comm_id"] for one in self.of(kind)}

    def _send(self, kind, content, metadata=None):
        message = self.client.session.msg(kind, content, metadata=metadata)
        self.client.shell_channel.send(message)
        return message["header"]["msg_id"]


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    one = Kernel(tmp_path_factory.mktemp("kernel"))
    one.run("import sys, threading, types, together_nb; together_nb.settings.model = 'test/chat'").wait()
    yield one
    one.stop()


@pytest.fixture
def page(kernel):
    return Page(kernel)


def test_the_cell_returns_at_once_and_others_run_while_the_answer_streams(page):
    held = threading.Event()
    with ScriptedServer(held_back(held, ["Once"], [" upon"])) as server:
        cell = page.ask(server)
        other = page.run("print('meanwhile')")
        page.until(lambda: page.painted("Once"))
        held.set()
        page.until(lambda: page.ended(cell))
    assert [one["content"]["text"] for one in page.of("stream", sent=other)] == ["meanwhile\n"]
    shown = page.display(cell)
    assert set(shown["data"]) == {"text/markdown", "text/plain"}
    assert shown["data"]["text/markdown"].startswith("Once upon\n\n<sub>test/chat · 2 chunks · ")
    assert shown["metadata"]["together_nb"]["model"] == "test/chat"
    told = "(_together.text, type(_together).__name__, _together is together_nb.history[-1])"
    assert page.value(told) == "('Once upon', 'Completion', True)"


def test_the_place_of_the_answer_is_displayed_by_the_cells_own_thread(page):
    page.run("seen = []; note = lambda message: seen.append(message['msg_type']) or message")
    page.run("get_ipython().display_pub.register_hook(note)")  # sees what this thread displays
    with ScriptedServer(answers(["Once"])) as server:
        cell = page.ask(server)
        page.until(lambda: page.ended(cell))
    page.run("get_ipython().display_pub.unregister_hook(note)")
    assert page.value("seen") == "['display_data']"


def test_several_stream_at_once_and_each_ends_in_its_own_place(page):
    held, names = threading.Event(), ("apples", "pears", "plums")

    def script(exchange):
        name = exchange.request.json()["messages"][0]["content"]
        held_back(held, [f"about {name}"])(exchange)

    with ScriptedServer(script) as server:
        cells = [page.ask(server, f"%%together -b\n{name}") for name in names]
        page.until(lambda: all(page.painted(f"about {name}") for name in names))
        held.set()
        page.until(lambda: page.ended(*cells))
    shown = [page.display(cell)["data"] for cell in cells]
    assert [set(data) for data in shown] == [{"text/markdown", "text/plain"}] * 3
    assert [data["text/markdown"].split("\n")[0] for data in shown] == [f"about {name}" for name in names]


def test_out_is_the_run_and_a_later_cell_can_wait_for_its_result(page):
    more, held = threading.Event(), threading.Event()

    def script(exchange):
        exchange.chunked().text_events(["Once"])
        exchange.pause(more)
        held_back(held, [" upon"], [" a time"])(exchange)

    with ScriptedServer(script) as server:
        cell = page.ask(server, "%%together -b -o run\nhello")
        assert page.value("(type(run).__name__, run.done())") == "('BackgroundRun', False)"
        waiting = page.start("print('waiting'); run.result().text")
        page.until(lambda: page.of("stream", sent=waiting) and page.painted("Once"))
        more.set()
        page.until(lambda: page.painted("Once upon"))  # though the kernel's own thread waits
        held.set()
        assert page.end(waiting)["status"] == "ok"
        page.until(lambda: page.ended(cell))
    (result,) = page.of("execute_result", sent=waiting)
    assert result["content"]["data"]["text/plain"] == "'Once upon a time'"
    assert page.value("run.result() is _together") == "True"


def test_an_interrupt_of_a_cell_that_waits_leaves_the_answer_streaming(page):
    held = threading.Event()
    with ScriptedServer(held_back(held, ["Once"], [" upon"])) as server:
        cell = page.ask(server, "%%together -b -o run\nhello")
        waiting = page.start("print('waiting'); run.result()")
        page.until(lambda: page.of("stream", sent=waiting))
        page.kernel.interrupt()
        assert page.end(waiting)["ename"] == "KeyboardInterrupt"
        held.set()
        page.until(lambda: page.ended(cell))
    assert page.display(cell)["data"]["text/plain"].startswith("Once upon\n\n[")


@pytest.mark.parametrize(
    ("script", "kept"), [(silent(), ""), (silent_after(["the", " part"]), "the part")], ids=["before", "after"]
)
def test_a_click_on_stop_ends_it_and_keeps_what_came(page, script, kept):
    with ScriptedServer(script) as server:
        cell = page.ask(server, "%%together -b -o run\nhello")
        assert server.arrived.wait(SOON)
        page.until(lambda: not kept or page.painted(kept))
        page.click_stop(cell)
        assert server.closed.wait(SOON)
        page.until(lambda: page.ended(cell))
    shown = page.display(cell)["data"]["text/plain"]
    assert shown.startswith(f"{kept}\n\n[test/chat · " if kept else "[test/chat · ")
    assert shown.endswith(" · stopped by you]")
    assert page.value("(run.result().text, run.result().cancelled)") == repr((kept, True))


def test_stop_ends_its_own_answer_alone(page):
    with ScriptedServer(silent_after(["Once"])) as server:
        first, second = (page.ask(server, f"%%together -b -o {name}\n{name}") for name in ("one", "two"))
        page.until(lambda: page.painted("Once"))
        page.click_stop(first)
        page.until(lambda: page.ended(first))
        assert page.value("two.done()") == "False"
        page.click_stop(second)
        page.until(lambda: page.ended(second))


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
    scripts = iter([silent_after(["old"]), answers(["new"])])

    def script(exchange):
        next(scripts)(exchange)

    with ScriptedServer(script) as server:
        earlier = page.ask(server, codes[0], cell=cell)
        page.until(lambda: page.painted("old"))
        later = page.ask(server, codes[1], cell=cell)
        assert server.closed.wait(SOON)
        page.until(lambda: page.ended(earlier, later))
    shown = page.display(earlier)["data"]["text/plain"]
    assert shown.startswith("old\n\n[")
    assert shown.endswith(" · stopped by you]")
    assert page.display(later)["data"]["text/plain"].startswith("new\n\n[")


def test_another_cell_of_the_same_text_leaves_the_first_one_streaming(page):
    held = threading.Event()
    with ScriptedServer(held_back(held, ["Once"], [" upon"])) as server:
        cells = [page.ask(server, cell=cell) for cell in ("a", "b")]
        held.set()
        page.until(lambda: page.ended(*cells))
    assert all(page.display(cell)["data"]["text/plain"].startswith("Once upon\n\n[") for cell in cells)


def test_a_failure_is_told_in_the_display_below_what_came(page):
    with ScriptedServer(cut_short(["half"])) as server:
        cell = page.ask(server, "%%together -b -o run\nhello")
        page.until(lambda: page.ended(cell))
    shown = page.display(cell)["data"]
    lines = (
        "ConnectionLostError: The connection was lost before the answer was whole: "
        "the stream ended without its last message.\nWhat came is kept."
    )
    assert shown["text/plain"].startswith("half\n\n[test/chat · 1 chunk · ")
    assert shown["text/plain"].endswith(f" · connection lost]\n\n{lines}")
    assert shown["text/markdown"].startswith("half\n\n<sub>")
    assert shown["text/markdown"].endswith(f"</sub>\n\n```\n{lines}\n```")
    assert page.value("(run.exception().completion.text, _together.text)") == "('half', 'half')"
    assert page.of("error", "stream") == []


def test_a_failure_before_anything_came_is_raised_to_who_asks_and_costs_no_name_its_answer(page):
    hostile = "no ``` \x1b]52;c;aGk=\x07 <b>"
    page.run("_together = 'as it was'")
    with ScriptedServer(replies(400, {"error": {"message": hostile}})) as server:
        cell = page.ask(server, "%%together -b -o run\nhello")
        page.until(lambda: page.ended(cell))
        error = page.end(page.start("run.result()"))
    told = r"APIStatusError: The server did not accept the request (HTTP 400). no ``` \x1b]52;c;aGk=\x07 <b>"
    assert f"\n\n````\n{told}\n" in page.display(cell)["data"]["text/markdown"]
    assert f"\n\n{told}\n" in page.display(cell)["data"]["text/plain"]
    assert (error["status"], error["ename"], error["traceback"][0]) == ("error", "APIStatusError", told)
    assert len(error["traceback"]) == 2
    assert page.value("_together") == "'as it was'"


def test_what_cannot_be_sent_fails_the_cell_itself(page):
    page.run("run = 'as it was'")
    sent = page.start("%%together -b -o run\n ")
    assert page.end(sent)["ename"] == "InputError"
    assert page.of("display_data", "comm_open") == []
    assert page.value("run") == "'as it was'"


def several_with_thinking(exchange):
    exchange.chunked().headers()
    exchange.event({"choices": [{"index": 0, "delta": {"reasoning": "Hm."}}]})
    exchange.text_events(["A paragraph of some words.\n\n"] * 500)
    exchange.event(exchange.payload("two", index=1))
    for index in (0, 1):
        exchange.event(exchange.payload("", index=index, finish="stop"))
    exchange.done()


@pytest.mark.parametrize(
    ("script", "stop_at"),
    [
        (several_with_thinking, None),
        (cut_short(["half"]), None),
        (silent(), ""),
        (silent_after(["part"]), "part"),
    ],
    ids=["whole", "failed", "stopped before", "stopped after"],
)
def test_no_widget_and_no_thread_is_left(page, script, stop_at):
    with ScriptedServer(script) as server:
        cell = page.ask(server, "%%together -b --n 2 -o run\nhello")
        if stop_at is not None:
            page.until(lambda: not stop_at or page.painted(stop_at))
            page.click_stop(cell)
        page.until(lambda: page.ended(cell))
    assert len(page.widgets("comm_open")) > 5
    page.until(lambda: page.widgets("comm_open") <= page.widgets("comm_close"))
    page.run("run.join()")
    assert page.value("[one.name for one in threading.enumerate() if one.name.startswith('together_nb')]") == "[]"


def test_nothing_is_shown_of_what_is_to_be_shown_as_nothing(page):
    with ScriptedServer(answers(["Once"])) as server:
        page.ask(server, "%%together -b --show none -o run\nhello")
        assert page.value("run.result().text") == "'Once'"
    assert page.of("display_data", "update_display_data", "comm_open") == []


def test_where_nobody_watches_the_cell_waits_and_holds_the_one_display(page):
    with ScriptedServer(answers(["one", " two"])) as server:
        cell = page.ask(server, "%%together -b -o run\nhello", watched=False)
    (shown,) = page.of("display_data", "update_display_data")
    assert page.of("comm_open") == []
    assert shown["parent_header"]["msg_id"] == cell
    assert shown["content"]["data"]["text/markdown"].startswith("one two\n\n<sub>")
    assert page.value("(run.done(), run.result() is _together)") == "(True, True)"


def test_where_nobody_watches_a_failure_fails_the_cell(page):
    with ScriptedServer(cut_short(["half"])) as server:
        page.point_at(server)
        error = page.end(page.start("%%together -b\nhello", watched=False))
    (shown,) = page.of("display_data")
    assert (error["ename"], len(error["traceback"])) == ("ConnectionLostError", 2)
    assert shown["content"]["data"]["text/plain"].startswith("half\n\n[")
    assert "ConnectionLostError" not in shown["content"]["data"]["text/plain"]


def test_colab_which_draws_nothing_from_threads_waits(page):
    page.run("sys.modules['google.colab'] = types.ModuleType('google.colab')")
    try:
        with ScriptedServer(answers(["Once"])) as server:
            cell = page.ask(server, "%%together -b -o run\nhello")
            assert page.ended(cell)
    finally:
        page.run("del sys.modules['google.colab']")
    assert page.display(cell)["data"]["text/plain"].startswith("Once\n\n[")
    assert page.value("run.done()") == "True"
    models = [one["content"]["data"]["state"]["_model_name"] for one in page.of("comm_open")]
    assert models
    assert "ButtonModel" not in models
