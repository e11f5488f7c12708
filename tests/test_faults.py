"""Each row of the table of faults, through Python, the cell magic and the panel, in each dialect."""

from __future__ import annotations

import ast
import html
import itertools
import json
import os
import re
from dataclasses import dataclass

import pytest
from ipywidgets import HTML

from tests.faults import CONTRIBUTING, FAULTS, PART, PIECES, REFUSALS, TAKEN, TRIES, Fault, with_table
from tests.kernels import PATIENCE, WIDGET, Kernel
from tests.servers import DIALECTS, MODELS, eventually
from tests.test_magic import ipython
from tests.test_panel import answer, click, opened, page, rest, state
from together_nb import endpoint, history, settings, stream
from together_nb.accumulate import Accumulator
from together_nb.catalog import Catalog
from together_nb.config import MAX_RETRIES
from together_nb.errors import TogetherError
from together_nb.panel.parts import within
from together_nb.panel.status import State
from together_nb.retry import Wait

pytestmark = pytest.mark.timeout(120)

KEY = "sk-secret-0123456789abcdef"
PROMPT = "Tell me"


@dataclass
class Seen:
    """What became of a request: the error as a user reads it, and the text."""

    error: str
    text: str


@pytest.fixture(autouse=True)
def waits(monkeypatch, certificates):
    """What was said of each wait, none of which is sat out; and `TAKEN` is set when the client has the part."""
    told, sit_out, add = [], Wait.sit_out, Accumulator.add

    def hurried(wait):
        told.append(str(wait))
        wait._until = 0
        return sit_out(wait)

    def added(accumulator, chunk):
        add(accumulator, chunk)
        if accumulator.chunks <= len(PIECES) and "".join(accumulator._choices[0].text) == PART:
            TAKEN.set()

    TAKEN.clear()
    monkeypatch.setattr(Wait, "sit_out", hurried)
    monkeypatch.setattr(Accumulator, "add", added)
    settings.max_retries = MAX_RETRIES
    return told


def through_python(place, dialect):
    answer = stream(PROMPT, model="test/chat", api=dialect, base_url=place.base_url)
    came, failed = "", None
    try:
        for chunk in answer:
            came += chunk.text
    except TogetherError as error:
        failed = error
    assert came == answer.completion.text
    assert failed is None or failed.completion.text == came
    return Seen("" if failed is None else f"{type(failed).__name__}: {failed}", came)


def through_the_magic(place, dialect, capsys):
    settings.base_url = place.base_url
    with ipython() as shell:
        result = shell.run_cell(f"%%together -m test/chat --api {dialect} -o told\n{PROMPT}")
        printed = capsys.readouterr().out
        kept = shell.user_ns.get("told")
    error = result.error_in_exec
    assert isinstance(error, TogetherError | None)
    assert "Traceback" not in printed
    if kept is not None:
        assert history == [kept]
        assert kept.text in printed
    shown = "" if error is None else printed[printed.rindex(type(error).__name__) :].rstrip()
    return Seen(shown, "" if kept is None else kept.text)


def through_the_panel(place, dialect):
    # The panel's own look at the list would be asked for, and waited for, too.
    endpoint._catalogs[place.base_url, KEY[-4:]] = Catalog.from_json(MODELS)
    with opened(place, api=dialect) as panel:
        click(panel, "Generate")
        rest()
        kept = panel.completion
        (line,) = [
            one for one in within(page(panel, "Answer")) if isinstance(one, HTML) and "tnb-error" in one._dom_classes
        ]
        words = html.unescape(re.sub("<[^>]*>", " ", line.value))
        if kept is not None:
            assert history == [kept]
            assert answer(page(panel, "Answer"))
        assert (state(panel) is State.DONE) == (not words)
        return Seen(words, "" if kept is None else kept.text)


DOORS = {"Python": through_python, "the magic": through_the_magic, "the panel": through_the_panel}


def pattern(expected, place, dialect):
    """An expected sentence as a pattern."""
    path = {name: path for path, name in DIALECTS.items()}[dialect]
    expected = expected.replace("{url}", place.base_url + path).replace("{server}", place.base_url)
    return ".*".join(re.escape(part) for part in re.sub(r"\s+", " ", expected).split("…"))


def holds(expected, found, place, dialect):
    found = re.sub(r"\s+", " ", found).strip()
    assert re.fullmatch(pattern(expected, place, dialect), found), (expected, found)


def asked(server, expected):
    """How often a server was asked; a client that gave up can be ahead of it."""

    def count():
        return len(server.requests) if server.handshake else server.connections

    eventually(lambda: count() >= expected)
    return count()


def check(fault: Fault, door: str, dialect: str, waits, capsys):
    for name, value in fault.settings.items():
        setattr(settings, name, value)
    with fault.met() as place:
        settings.base_url = place.base_url
        settings.api_key = KEY
        extra = (capsys,) if door == "the magic" else ()
        seen = DOORS[door](place, dialect, *extra)
        if place.server is not None:
            assert asked(place.server, fault.asked) == fault.asked
    # The panel says what happened and what to do, and not what the class is called.
    sees = fault.sees.partition(": ")[2] if door == "the panel" else fault.sees
    holds(sees, seen.error, place, dialect)
    if fault.kept.endswith("…"):
        assert seen.text.startswith(fault.kept[:-1])
        assert len(seen.text) > 100_000
    else:
        assert seen.text == fault.kept
    assert len(waits) == max(fault.asked - 1, 0)
    if waits:
        holds(fault.says, waits[0], place, dialect)
    assert KEY not in seen.error


@pytest.mark.parametrize("dialect", DIALECTS.values())
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_fault_is_told_and_what_came_is_kept(fault, door, dialect, waits, capsys):
    check(fault, door, dialect, waits, capsys)


@pytest.mark.parametrize("dialect", DIALECTS.values())
@pytest.mark.parametrize("fault", REFUSALS, ids=str)
def test_a_refusal_is_told_in_the_servers_words(fault, dialect, waits, capsys):
    check(fault, "Python", dialect, waits, capsys)


# Six bodies and three dialects: each status comes through each door in each dialect.
IN_TURN = list(zip(REFUSALS, itertools.cycle(DIALECTS.values())))


@pytest.mark.parametrize("door", ["the magic", "the panel"])
@pytest.mark.parametrize(("fault", "dialect"), IN_TURN, ids=str)
def test_a_refusal_is_told_through_every_door(fault, door, dialect, waits, capsys):
    check(fault, door, dialect, waits, capsys)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """A kernel in which no wait is sat out, and where `told` is what was said of each."""
    one = Kernel(tmp_path_factory.mktemp("kernel"), TOGETHER_API_KEY=KEY)
    one.run(
        "import os\nfrom together_nb import retry, settings\nfrom together_nb.retry import Wait\n"
        "settings.model, told, sit_out = 'test/chat', [], Wait.sit_out\n"
        "def hurried(wait):\n    told.append(str(wait))\n    wait._until = 0\n    return sit_out(wait)\n"
        "Wait.sit_out = hurried"
    ).wait()
    yield one
    one.stop()


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_fault_in_a_notebook_leaves_what_came_and_no_widget(fault, kernel):
    given = {
        name: getattr(settings, name) for name in ("connect_timeout", "timeout", "silence_timeout")
    } | fault.settings
    with fault.met() as place:
        given["base_url"] = place.base_url
        kernel.run(
            f"told.clear(); told_out = None\nfor name, value in {given!r}.items(): setattr(settings, name, value)\n"
            f"os.environ['REQUESTS_CA_BUNDLE'] = {os.environ['REQUESTS_CA_BUNDLE']!r}"
        ).wait()
        run = kernel.run(f"%%together --api chat -o told_out\n{PROMPT}")

        def ended(message):
            if PIECES[1] in str(message["content"]):
                TAKEN.set()
            return message["content"].get("execution_state") == "idle"

        run.until(ended)
        run.reply = kernel.client.get_shell_msg(timeout=PATIENCE)
        if place.server is not None and place.server.handshake:
            assert asked(place.server, fault.asked) == fault.asked
    assert run.status == ("error" if fault.sees else "ok")
    holds(fault.sees, "\n".join(run.error["traceback"]) if fault.sees else "", place, "chat")
    bundle = run.display["data"]
    assert WIDGET not in bundle
    assert KEY not in str([one["content"] for one in run.messages])
    assert bundle["text/plain"].startswith(fault.kept.removesuffix("…") or "[")
    kept = ast.literal_eval(kernel.value("told_out.text if told_out else ''"))
    assert kept.startswith(fault.kept[:-1]) if fault.kept.endswith("…") else kept == fault.kept
    told = json.loads(ast.literal_eval(kernel.value("__import__('json').dumps(told)")))
    assert len(told) == max(fault.asked - 1, 0)
    if told:
        holds(fault.says, told[0], place, "chat")


def test_the_table_in_contributing_is_that_of_the_tests():
    text = CONTRIBUTING.read_text(encoding="utf-8")
    assert with_table(text) == text
    assert all(f"| {fault.does} |" in text for fault in FAULTS)


def test_the_number_of_tries_is_the_one_the_settings_begin_with():
    assert TRIES == MAX_RETRIES + 1
