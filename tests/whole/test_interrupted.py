"""■ at every stage of an answer, in a real kernel: what came is kept, and nothing is left behind."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import queue
import random
import re
import time
import uuid

import pytest

from tests.kernels import PATIENCE, WIDGET, Kernel
from tests.servers import (
    MODELS,
    ScriptedServer,
    answers,
    authority,
    connecting,
    endless,
    eventually,
    full_listener,
    replies,
    silent,
    silent_after,
)

KEPT = "stopped by you; what came is kept."
NOTHING_CAME = "stopped by you."
UNSENT = "stopped by you; nothing was sent."
BUSY = replies(429, {"error": {"message": "slow down"}}, retry_after=60)

ANSWER = "%%together --api chat\nhello"
LIST = "%%together\nhello"
COMPLETE = "together_nb.complete('hello', api='chat')"

# In the kernel: what is left of an answer's doings; and ways to have it say that a stage is reached.
HELPERS = """
import contextlib, os, signal, sys, threading, time
import IPython.display, together_nb
from ipywidgets.widgets import widget
from together_nb import views
from together_nb.base.interrupts import defer_interrupts
from together_nb.run import driver, reader
from together_nb.views import live, waits
from together_nb.wire import accumulator, http, stream

def left():
    ours = [thread for thread in threading.enumerate() if thread.name.startswith("together_nb")]
    for thread in ours:
        thread.join(20)
    last = together_nb.history[-1] if together_nb.history else None
    return {
        "threads": [thread.name for thread in ours if thread.is_alive()],
        "widgets": len(getattr(widget, "_instances", None) or widget.Widget.widgets),
        "comms": len(get_ipython().kernel.comm_manager.comms),
        "drawn": len(driver.active),
        "Ctrl-C": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
        "history": len(together_nb.history),
        "text": last and last.text,
        "cancelled": last and last.cancelled,
        "bound": globals().get("_together") is last,
    }

def sockets():
    pools = http._session().get_adapter("http://").poolmanager.pools
    for place in pools.keys():
        pools[place].close()  # the connections that wait there to serve again
    pools.clear()
    return sum("socket:" in os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd"))

def reads():
    return sys._current_frames()[threading.main_thread().ident].f_code.co_name == "readinto"

def say_when(true):
    def watch():
        while not true():
            time.sleep(0.001)
        print("reached", flush=True)

    threading.Thread(target=watch).start()

def hold(owner, name, calls, gate, after, deaf):
    usual, left = getattr(owner, name), [calls]

    def reached():
        print("reached", flush=True)
        with defer_interrupts() if deaf else contextlib.nullcontext():
            while gate is not None and not os.path.exists(gate):
                time.sleep(0.001)

    def once(*arguments, **named):
        left[0] -= 1
        if left[0]:
            return usual(*arguments, **named)
        setattr(owner, name, usual)
        if not after:
            reached()
        result = usual(*arguments, **named)
        if after:
            reached()
        return result

    setattr(owner, name, once)
"""
STEADY = ("widgets", "comms", "drawn", "Ctrl-C")


class Desk:
    """A kernel at which cells are run and interrupted."""

    def __init__(self, kernel, folder):
        self.kernel = kernel
        self._gate = folder / "gate"
        kernel.run(HELPERS).wait()
        # No wait ends by itself.
        kernel.run("together_nb.settings.model, together_nb.settings.connect_timeout = 'test/chat', 600").wait()
        kernel.run("from together_nb.views import layouts; layouts.html_style(); layouts.button_style()").wait()
        self.assert_the_next_cell_works()  # the widgets that all share are there now
        self.before = self.left()

    def left(self):
        return ast.literal_eval(self.kernel.value("left()"))

    def ask(self, server, cell=ANSWER, **options):
        """Start a cell that asks a server, or an address."""
        address = getattr(server, "base_url", server)
        self.kernel.run(
            f"together_nb.settings.base_url = {address!r}; import together_nb.session; client = together_nb.session.default.client\n"
            "client.model_lists.clear(); client.list_attempts.clear()"
        ).wait()
        return self.kernel.run(cell, **options)

    def hold(self, name, *, calls=1, gate=True, after=False, deaf=False):
        """Have a function say when it is called, and wait for `release` if there is a gate; `deaf` heeds no Ctrl-C."""
        owner, _, name = name.rpartition(".")
        place = str(self._gate) if gate else None
        self.kernel.run(f"hold({owner}, {name!r}, {calls}, {place!r}, {after}, {deaf})").wait()

    def release(self):
        self._gate.touch()

    def interrupt(self, run, *, release=False):
        self.kernel.interrupt()
        if release:
            self.release()
        return run.wait()

    def assert_the_next_cell_works(self):
        with ScriptedServer(answers(["all", " is", " well"])) as server:
            run = self.ask(server, LIST).wait()
        assert run.status == "ok"
        assert run.display["data"]["text/plain"].startswith("all is well\n\n[test/chat · 3 tokens")

    def assert_nothing_is_left(self, text=None):
        """Of the cell before there is what came, in the history and in its name, and nothing else."""
        after = self.left()
        assert after["threads"] == []
        assert {what: after[what] for what in STEADY} == {what: self.before[what] for what in STEADY}
        assert after["history"] - self.before["history"] == (text is not None)
        if text is not None:
            assert (after["text"], after["bound"]) == (text, True)
        self.assert_the_next_cell_works()

    def assert_stopped(self, run, text=None, words=""):
        """The cell was stopped before the answer was whole, and left as it should be."""
        assert_interrupted(run, words or (KEPT if text else NOTHING_CAME))
        for data in shown(run):
            assert "stopped by you" in data["text/plain"]
            assert data["text/plain"].startswith(text or "[test/chat · ")
        assert text is None or self.kernel.value("_together.cancelled") == "True"
        self.assert_nothing_is_left(text)


def assert_interrupted(run, words):
    assert run.status == "error"
    assert run.reply["content"]["ename"] == "KeyboardInterrupt"
    assert run.error["traceback"] == [f"KeyboardInterrupt: {words}"]
    assert not any(WIDGET in data for data in shown(run))


def shown(run):
    """What a saved notebook would hold, but for text printed and errors."""
    outputs = {}
    for one in run.messages:
        if one["msg_type"] in {"display_data", "update_display_data"}:
            outputs[one["content"]["transient"].get("display_id", len(outputs))] = one["content"]["data"]
        elif one["msg_type"] == "clear_output":
            outputs.clear()
    return list(outputs.values())


def painted(run):
    """The text that stood on the page last while it streamed."""
    last = {}
    for one in run.of("comm_open", "comm_msg"):
        for output in one["content"]["data"].get("state", {}).get("outputs") or ():
            last[one["content"]["comm_id"]] = output["data"]["text/markdown"]
    return "".join(last.values())


def reached(one):
    return one["msg_type"] == "stream" and "reached" in one["content"]["text"]


def waits(one):
    return "trying again" in str(one["content"])


def idle(one):
    return one["msg_type"] == "status" and one["content"]["execution_state"] == "idle"


IN_THE_KERNEL = ""


@pytest.fixture
def desk(kernel, tmp_path):
    return Desk(kernel, tmp_path)


# Before the request is answered

each = pytest.mark.parametrize(
    ("cell", "words", "text"),
    [(ANSWER, NOTHING_CAME, None), (LIST, UNSENT, None), (COMPLETE, NOTHING_CAME, None)],
    ids=["answer", "list", "complete"],
)


@each
def test_while_it_connects(desk, cell, words, text):
    with full_listener() as address:
        before = connecting(address)
        run = desk.ask(address, cell)
        eventually(lambda: connecting(address) == before + 1)
        desk.interrupt(run)
        eventually(lambda: connecting(address) == before)
    desk.assert_stopped(run, text, words)


@each
@pytest.mark.parametrize(
    ("name", "how"),
    [("http.socket.getaddrinfo", {"deaf": True}), ("http._CancellableConnection._tell", {"after": True})],
    ids=["name looked up", "address known"],
)
def test_before_it_connects_nothing_is_waited_for(desk, name, how, cell, words, text):
    desk.hold(name, **how)
    with ScriptedServer(silent(), models=silent()) as server:
        run = desk.ask(server, cell)
        run.until(reached)
        desk.interrupt(run)
        desk.release()
        desk.assert_stopped(run, text, words)
        assert (server.lists, server.requests) == (0, [])


@pytest.mark.parametrize(("cell", "words"), [(ANSWER, NOTHING_CAME), (LIST, UNSENT)], ids=["answer", "list"])
def test_while_tls_is_negotiated(desk, cell, words):
    with ScriptedServer(silent(), tls=authority(), handshake=False) as server:
        desk.kernel.run("import together_nb.wire.http; together_nb.wire.http._HELLO_SECONDS = 600").wait()
        run = desk.ask(server, cell)
        assert server.arrived.wait(PATIENCE)
        desk.interrupt(run)
        assert server.closed.wait(PATIENCE)
    desk.assert_stopped(run, words=words)


@pytest.mark.parametrize(
    ("script", "cell", "words"),
    [
        (silent(), LIST, UNSENT),
        (silent_after(["part"]), LIST, UNSENT),
        (silent(), "%together models", "stopped by you."),
        (silent_after(["part"]), "%together models", "stopped by you."),
        (BUSY, "%together models", "stopped by you."),
    ],
)
def test_while_the_list_of_models_is_awaited(desk, cell, words, script):
    with ScriptedServer(silent(), models=script) as server:
        run = desk.ask(server, cell)
        assert server.listed.wait(PATIENCE)
        if script is BUSY:
            run.until(waits)
        desk.interrupt(run)
        if script is not BUSY:
            eventually(lambda: not server._live)
        assert (shown(run), server.lists, server.requests) == ([], 1, [])
    desk.assert_stopped(run, words=words)


# While it is answered


def part(exchange):
    """Sends two events in one piece: where nobody watches, a later piece may be read and not yet handed on."""
    events = [json.dumps(exchange.payload(text)) for text in ("the", " part")]
    exchange.chunked().send("".join(f"data: {event}\n\n" for event in events).encode())
    exchange.await_close()


@pytest.mark.parametrize(
    ("cell", "watched"), [(ANSWER, True), (ANSWER, False), (COMPLETE, True)], ids=["cell", "unwatched", "complete"]
)
@pytest.mark.parametrize(
    ("script", "name", "text"),
    [
        (silent(), None, ""),
        (silent_after([]), "http.HTTPExchange.pieces", ""),
        (part, "accumulator.Accumulator.add", "the part"),
        (BUSY, None, ""),
    ],
    ids=["headers", "first token", "next token", "second try"],
)
def test_while_something_is_awaited(desk, cell, watched, script, name, text):
    if name is not None:
        desk.hold(name, calls=2 if text else 1, gate=False, after=True)
    with ScriptedServer(script) as server:
        run = desk.ask(server, cell, watched=watched)
        assert server.arrived.wait(PATIENCE)
        if name is not None or (script is BUSY and watched):
            run.until(waits if script is BUSY else reached)
        desk.interrupt(run)
        assert script is BUSY or server.closed.wait(PATIENCE)
        assert len(server.requests) == 1
    assert len(run.of("display_data")) == (cell == ANSWER)
    assert watched or not run.of("update_display_data", "comm_open")
    desk.assert_stopped(run, text or None)


@pytest.mark.parametrize(
    "name", ["views.view_for", "live.LiveView.start", "live.GrowingAnswers.add", "live.LiveView.write"]
)
def test_while_it_is_drawn(desk, name):
    desk.hold(name, after=name == "views.view_for")
    with ScriptedServer(silent_after(["the", " part"])) as server:
        run = desk.ask(server)
        run.until(reached)
        desk.interrupt(run, release=True)
        if name in {"views.view_for", "live.LiveView.start"}:
            assert server.requests == []
        else:
            assert server.closed.wait(PATIENCE)
    (data,) = shown(run)
    text = data["text/plain"].partition("[test/chat")[0].strip()
    assert "the part".startswith(text)
    desk.assert_stopped(run, text or None)


def test_while_hostile_markdown_pours_in(desk):
    hostile = "[*_`<$" * 50 + "\n> - |\n```\n\n"
    with ScriptedServer(endless(hostile, rate=200)) as server:
        run = desk.ask(server, "%%together --api chat --show markdown -o part\nhello")
        run.until(lambda _: len(painted(run)) > 5 * len(hostile))
        desk.interrupt(run)
        assert server.closed.wait(PATIENCE)
    assert_interrupted(run, KEPT)
    assert desk.kernel.value("part is _together") == "True"
    times, rest = ast.literal_eval(desk.kernel.value(f"divmod(len(_together.text), {len(hostile)})"))
    assert (times >= 5, rest) == (True, 0)
    desk.assert_nothing_is_left(hostile * times)


@pytest.mark.parametrize("name", ["live.LiveView.finish", "IPython.display.DisplayHandle.update", "live.close_all"])
def test_during_the_last_repaint_of_an_answer_that_is_whole(desk, name):
    desk.hold(name)
    with ScriptedServer(answers(["the", " whole"])) as server:
        run = desk.ask(server)
        run.until(reached)
        desk.interrupt(run, release=True)
    assert_interrupted(run, KEPT)
    (data,) = shown(run)
    assert data["text/plain"].startswith("the whole\n\n[test/chat · 2 tokens")
    assert "stopped" not in data["text/plain"]
    assert desk.kernel.value("(_together.cancelled, _together.finish_reason)") == "(False, 'stop')"
    desk.assert_nothing_is_left("the whole")


@pytest.mark.parametrize(
    ("name", "cell", "text"),
    [
        ("stream.CompletionStream.cancel", ANSWER, "the part"),
        ("reader.Reader.join", ANSWER, "the part"),
        ("live.LiveView.finish", ANSWER, "the part"),
        ("IPython.display.DisplayHandle.update", ANSWER, "the part"),
        ("http.HTTPExchange.cancel", LIST, None),
    ],
)
def test_many_times_in_a_row(desk, name, cell, text):
    desk.hold(name)
    with ScriptedServer(silent_after(["the", " part"]), models=silent()) as server:
        run = desk.ask(server, cell)
        if text:
            run.until(lambda _: painted(run) == text)
        assert (server.arrived if text else server.listed).wait(PATIENCE)
        desk.kernel.interrupt()
        run.until(reached)  # the first one is being obeyed
        for _ in range(20):
            desk.kernel.interrupt()
        desk.release()
        run.wait()
        eventually(lambda: not server._live)
    desk.assert_stopped(run, text, KEPT if text else UNSENT)


def test_a_background_answer_that_begins_is_ended(desk):
    desk.hold("live.LiveView.start")
    with ScriptedServer(silent()) as server:
        run = desk.ask(server, "%%together --api chat -b\nhello")
        run.until(reached)
        desk.interrupt(run, release=True)
        assert run.error["traceback"] == [f"KeyboardInterrupt: {NOTHING_CAME}"]
        desk.assert_nothing_is_left()


@pytest.mark.parametrize(
    "loop", ["for chunk in chunks: pass", "with chunks:\n    for chunk in chunks: pass"], ids=["bare", "with"]
)
def test_a_loop_over_a_stream_is_stopped(desk, loop):
    def script(exchange):
        exchange.chunked().text_events(["the", " part"])
        while True:  # a signal that comes just before a read is seen when the read returns
            exchange.send(b": ping\n\n")
            exchange.wait(0.02)

    cell = "chunks = together_nb.stream('hello', api='chat')\n"
    cell += "say_when(lambda: chunks.completion.text == 'the part' and reads())\n"
    with ScriptedServer(script) as server:
        run = desk.ask(server, cell + loop)
        run.until(reached)
        desk.interrupt(run)
        assert server.closed.wait(PATIENCE)
    assert_interrupted(run, KEPT)
    assert desk.kernel.value("(chunks.completion.text, chunks.completion.cancelled)") == repr(("the part", True))
    desk.assert_nothing_is_left()


# At random moments

# An interrupt that falls into ipykernel's own last steps ends the kernel (7.4.0: it is not caught there), whatever
# the cell was. So it is deaf from the moment on when the cell has ended.
DEAF = """
kernel = get_ipython().kernel
usual = kernel.shell_handlers["execute_request"]

async def execute_request(*arguments):
    try:
        await usual(*arguments)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)

kernel.shell_handlers["execute_request"] = execute_request
"""
WORD = "word "
WHOLE = answers([WORD] * 9)
SCRIPTS = (silent(), silent_after([]), BUSY, replies(503, {}), endless(WORD, 50), endless(WORD), WHOLE, WHOLE)
LISTS = (silent(), silent_after(["["]), BUSY, replies(200, MODELS))


def strike(desk, server, dice):
    """Interrupt a cell at a random moment, and look what it has left; whether it was ended while it was ours."""
    server.script, server.models = dice.choice(SCRIPTS), dice.choice(LISTS)
    before, serial = desk.before, uuid.uuid4().hex
    run = desk.ask(server, f"{dice.choice((LIST, *[ANSWER] * 4))} {serial}")
    if not ended_within(run, dice.uniform(0, 0.06)):
        desk.kernel.interrupt()
        run.until(idle)
    after = desk.before = desk.left()
    answer = after["text"] if after["history"] > before["history"] else None
    text, whole = answer or "", answer == WORD * 9 and server.script is WHOLE
    print(f"{run.id}: left {after}; {run.of('error')}")  # shown where one of the claims fails
    assert after["threads"] == []
    assert [after[what] for what in STEADY] == [before[what] for what in STEADY]
    assert after["history"] - before["history"] in {0, 1}
    assert after["bound"]
    assert text == WORD * (len(text) // len(WORD))
    assert text.startswith(painted(run).rstrip())
    assert not any(WIDGET in data for data in shown(run))
    assert all(data["text/plain"].startswith(text.rstrip() or "[test/chat") for data in shown(run))
    traceback = "\n".join(line for one in run.of("error") for line in one["content"]["traceback"])
    assert not traceback or run.error["ename"] == "KeyboardInterrupt"
    if traceback == f"KeyboardInterrupt: {UNSENT}":
        # By its words: the server may come late to the request of a cell before, which was stopped.
        assert answer is None
        assert [one for one in server.requests if serial in str(one.json())] == []
        return True
    if traceback in {f"KeyboardInterrupt: {KEPT}", f"KeyboardInterrupt: {NOTHING_CAME}"}:
        assert answer is None or after["cancelled"] or whole
        return True
    # On the way from the kernel to us, or back; `told` is within `run_cell`.
    assert whole or run.of("display_data") == []
    assert set(re.findall(r"together_nb/\S+ in ([\w.]+)", traceback)) <= {"TogetherMagics.run_cell", "told"}
    return False


def ended_within(run, seconds):
    """Whether a cell has ended so many seconds after it has begun."""
    run.until(lambda one: one["msg_type"] == "execute_input")
    deadline = time.monotonic() + seconds
    with contextlib.suppress(queue.Empty):
        while not idle(run.messages[-1]):
            run.messages.append(run.kernel.client.get_iopub_msg(timeout=max(deadline - time.monotonic(), 0)))
        return True
    return False


@pytest.mark.parametrize("most", [6, pytest.param(200, marks=pytest.mark.slow)])
def test_at_random_moments_again_and_again(tmp_path, most):
    seed = int(os.environ.get("TOGETHER_NB_STORM") or random.randrange(10**6))
    print(f"TOGETHER_NB_STORM={seed}")
    kernel = Kernel(tmp_path)
    try:
        desk = Desk(kernel, tmp_path)
        kernel.run(DEAF).wait()
        sockets = kernel.value("sockets()")
        dice, stopped = random.Random(seed), 0
        with ScriptedServer(WHOLE) as server:
            while stopped < most:
                stopped += strike(desk, server, dice)
            desk.assert_the_next_cell_works()
            assert kernel.value("sockets()") == sockets
            eventually(lambda: not server._live)
    finally:
        kernel.stop()
