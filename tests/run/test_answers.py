"""What is kept of an answer: the table of `Answers.keep`, through every way to ask."""

from __future__ import annotations

import signal
from contextlib import suppress

import pytest
from IPython.core.interactiveshell import InteractiveShell

import together_nb
from tests.magic.test_magics import ipython
from tests.panel import test_panel as ui
from tests.servers import ScriptedServer, answers, replies
from together_nb.errors import InputError

pytestmark = pytest.mark.timeout(120)

OPTIONS = {"model": "test/chat", "api": "chat"}
LINE = "%%together -m test/chat --api chat"
BEFORE = "an earlier answer"
PRICED = [{"id": "test/chat", "type": "chat", "pricing": {"input": 1.0, "output": 1.0}}]


@pytest.fixture
def shell():
    with ipython() as one:
        yield one


class Door:
    """A way to ask. `one` is False where several answers are bound as one value; `chat` is whether it takes one."""

    one, chat = True, False

    def __init__(self, shell, server, read):
        self.shell, self.server, self.read = shell, server, read

    def stop(self):
        signal.raise_signal(signal.SIGINT)

    def ask(self, script, **options):
        """Ask for one answer by this script, and swallow what it raises."""
        self.server.script = script
        with suppress(together_nb.TogetherError, KeyboardInterrupt):
            self.do(**options)


class Cell(Door):
    chat = True
    flags = ""

    def do(self, *, chat=False, flags=""):
        self.shell.run_cell(f"{LINE} {self.flags} {'--chat' if chat else ''} {flags}\nTell")


class Background(Cell):
    chat = False
    flags = "-b"


class CompareCell(Cell):
    one, chat = False, False
    flags = "--compare seed=1"


class BatchCell(Cell):
    one, chat = False, False
    flags = "--for [1]"


class Python(Door):
    chat = True

    def do(self, *, chat=False):
        together_nb.complete("Tell", chat="chat" if chat else None, **OPTIONS)


class PythonCompare(Door):
    one = False

    def do(self):
        together_nb.compare("Tell", seed=[1], show="none", **OPTIONS)


class PythonBatch(Door):
    one = False

    def do(self):
        together_nb.map_prompts(["Tell"], progress=False, **OPTIONS)


class InPanel(Door):
    def stop(self):
        self.panel.stop()

    def do(self):
        with ui.opened(self.server, api="chat") as self.panel:
            self.panel.generate()
            ui.rest()


DOORS = [Cell, Background, CompareCell, BatchCell, InPanel, Python, PythonCompare, PythonBatch]


def stopped(text):
    """A script that is stopped after `text`, or before it begins to answer."""

    def script(exchange):
        if text:
            exchange.chunked().text_events([text])
            exchange.pause(exchange.server.door.read)
        exchange.server.door.stop()
        exchange.await_close()

    return script


OUTCOMES = {
    "whole": (answers(["part"]), "part", "ended by itself"),
    "cut": (answers(["part"], finish="length"), "part", None),
    "stopped with text": (stopped("part"), "part", None),
    "failed with text": (answers(["part"], finish=None, done=False), "part", None),
    "stopped empty": (stopped(""), None, "Nothing came"),
    "failed empty": (replies(500, {}), None, "Nothing came"),
}


@pytest.fixture
def door(request, shell, part_read):
    with ScriptedServer(answers([BEFORE], finish="length"), models=PRICED) as server:
        together_nb.settings.base_url = server.base_url
        together_nb.complete("First", **OPTIONS)
        server.door = request.param(shell, server, part_read)
        yield server.door


each_door = pytest.mark.parametrize("door", DOORS, indirect=True, ids=lambda door: door.__name__)


@each_door
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_every_way_to_ask_keeps_the_same(door, outcome, session):
    script, text, refusal = OUTCOMES[outcome]
    first = together_nb.history[0]
    door.ask(script)
    kept = together_nb.history[1:]
    assert [one.text for one in kept] == ([] if text is None else [text])
    bound = door.shell.user_ns["_together"]
    if not door.one:
        assert len(bound) == 1
        assert (bound if isinstance(bound, list) else bound.texts) is not None
    else:
        assert bound is (first if text is None else kept[0])
    began, partial = text is not None, text is not None and outcome not in ("whole", "cut")
    total = session.ledger.total()
    assert (total.calls, total.uncounted) == (1 + began, int(partial))
    door.server.script = answers([" and the rest"])
    if refusal is None:
        assert together_nb.continue_from().text == "part and the rest"
        assert [one.text for one in together_nb.history] == [BEFORE, "part and the rest"]
    else:
        with pytest.raises(InputError, match=refusal):
            together_nb.continue_from()


@pytest.mark.parametrize("door", [one for one in DOORS if one.chat], indirect=True, ids=lambda door: door.__name__)
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_turn_is_added_to_a_conversation_exactly_if_the_answer_is_to_the_history(door, outcome):
    script, text, _ = OUTCOMES[outcome]
    door.ask(script, chat=True)
    talks = {name: [turn.completion for turn in talk] for name, talk in together_nb.conversations.items()}
    assert talks == ({} if text is None else {"chat": together_nb.history[1:]})


@each_door
def test_what_the_budget_refuses_changes_nothing(door, session):
    together_nb.settings.budget = 0
    door.ask(answers(["never"]))
    assert len(door.server.requests) == 1
    assert [one.text for one in together_nb.history] == [BEFORE]
    assert session.ledger.total().calls == 1
    together_nb.settings.budget = None
    door.server.script = answers([" goes on"])
    assert together_nb.continue_from().text == f"{BEFORE} goes on"


@pytest.mark.parametrize("door", [Cell, CompareCell, BatchCell], indirect=True, ids=lambda door: door.__name__)
def test_a_dry_run_changes_nothing(door, session, capsys):
    door.ask(answers(["never"]), flags="--dry-run")
    assert "not sent" in capsys.readouterr().out
    assert len(door.server.requests) == 1
    assert [one.text for one in together_nb.history] == [BEFORE]
    assert door.shell.user_ns["_together"] is together_nb.history[0]
    assert session.ledger.total().calls == 1
    assert session.unanswered is None


def test_a_session_beside_the_usual_one_binds_nothing(shell):
    assert InteractiveShell.initialized()
    with ScriptedServer(answers(["Yes"])) as server:
        other = together_nb.Session(base_url=server.base_url)
        other.complete("Tell", **OPTIONS)
        assert "_together" not in shell.user_ns
        together_nb.complete("Tell", base_url=server.base_url, **OPTIONS)
    assert shell.user_ns["_together"] is together_nb.history[0]


def test_what_is_loaded_or_came_beside_an_answer_that_failed_can_be_continued(session, tmp_path):
    by_seed = {1: answers(["part"], finish="length"), 2: replies(500, {})}
    with ScriptedServer(lambda exchange: by_seed[exchange.request.json()["seed"]](exchange)) as server:
        session.settings.base_url = server.base_url
        session.compare("Tell", seed=[1, 2], show="none", at_once=1, **OPTIONS)
        assert session.unanswered is None
        session.save(tmp_path / "a")
        with pytest.raises(together_nb.TogetherError):
            session.complete("Tell", seed=2, **OPTIONS)
        assert session.unanswered is not None
        session.load(tmp_path / "a")
        assert session.continue_from(seed=1).text == "partpart"


def test_a_conversation_of_ones_own_gets_the_whole_too(session):
    mine = together_nb.Conversation("mine")
    with ScriptedServer(answers(["part"], finish="length")) as server:
        session.settings.base_url = server.base_url
        session.complete("Tell", chat=mine, **OPTIONS)
        whole = session.continue_from()
    assert [turn.completion for turn in mine] == [whole]
