"""Each row of the table of faults, through Python, the cell magic and the panel, in each dialect."""

from __future__ import annotations

import html
import re

import pytest
from ipywidgets import HTML

import together_nb
from tests.faults import FAULTS, PART, PIECES, TAKEN, Place
from tests.magic.test_magics import ipython
from tests.panel.test_panel import ask, opened
from tests.servers import DIALECTS, MODELS, eventually
from together_nb.config.settings import MAX_RETRIES
from together_nb.errors import TogetherError
from together_nb.panel.elements import within
from together_nb.values.model_list import ModelList
from together_nb.wire.accumulator import Accumulator
from together_nb.wire.retry import Wait

KEY = "sk-secret-0123456789abcdef"
PROMPT = "Tell me"
PATHS = {dialect: path for path, dialect in DIALECTS.items()}


@pytest.fixture(autouse=True)
def waits(monkeypatch, certificates):
    """What was said during each wait, none of which is sat out; and `TAKEN` is set when the client has the part."""
    said, sit_out, add = [], Wait.sit_out, Accumulator.add

    def end_at_once(wait):
        said.append(str(wait))
        wait._until = 0
        return sit_out(wait)

    def add_and_tell(accumulator, chunk):
        added = add(accumulator, chunk)
        if accumulator.chunks <= len(PIECES) and "".join(accumulator._choices[0].text) == PART:
            TAKEN.set()
        return added

    TAKEN.clear()
    monkeypatch.setattr(Wait, "sit_out", end_at_once)
    monkeypatch.setattr(Accumulator, "add", add_and_tell)
    together_nb.settings.max_retries = MAX_RETRIES
    return said


# Each gives the error as a user reads it, and the text that is kept.


def through_python(place, dialect, capsys):
    answer = together_nb.stream(PROMPT, model="test/chat", api=dialect, base_url=place.base_url)
    text, error = "", None
    try:
        for chunk in answer:
            text += chunk.text
    except TogetherError as raised:
        error = raised
    assert text == answer.completion.text
    assert error is None or error.completion.text == text
    return "" if error is None else f"{type(error).__name__}: {error}", text


def through_the_magic(place, dialect, capsys):
    with ipython() as shell:
        result = shell.run_cell(f"%%together -m test/chat --api {dialect} -o answer\n{PROMPT}")
        printed = capsys.readouterr().out
        kept = shell.user_ns.get("answer")
    error = result.error_in_exec
    assert isinstance(error, TogetherError | None)
    assert "Traceback" not in printed
    if kept is not None:
        assert together_nb.history == [kept]
        assert kept.text in printed
    return "" if error is None else printed[printed.rindex(type(error).__name__) :], "" if kept is None else kept.text


def through_the_panel(place, dialect, capsys):
    # The panel's own look at the list would be asked for, and waited for, too.
    together_nb.session.default.client.model_lists[place.base_url, KEY[-4:]] = ModelList.from_json(MODELS)
    with opened(place, api=dialect) as panel:
        ask(panel)
        kept = panel.completion
        (error,) = [
            widget.value
            for widget in within(panel.widget)
            if isinstance(widget, HTML) and "tnb-error" in widget._dom_classes
        ]
    assert kept is None or together_nb.history == [kept]
    return html.unescape(re.sub("<[^>]*>", " ", error)), "" if kept is None else kept.text


def holds(part, text, place: Place, dialect):
    """Whether `part` stands in `text`, as the table of faults means it."""
    part = part.replace("{url}", place.base_url + PATHS[dialect]).replace("{server}", place.base_url)
    parts = (re.escape(one.strip()) for one in part.split("…"))
    return re.search(".*".join(parts), " ".join(text.split())) is not None


def asked(server):
    """How often a server was; one that says nothing at all has connections."""
    return len(server.requests) if server.handshake else server.connections


def slow(door):
    return pytest.param(door, marks=pytest.mark.slow)


@pytest.mark.parametrize("dialect", PATHS)
@pytest.mark.parametrize("door", [through_python, slow(through_the_magic), slow(through_the_panel)])
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_fault_is_told_and_what_came_is_kept(fault, door, dialect, waits, capsys):
    for name, value in fault.settings.items():
        setattr(together_nb.settings, name, value)
    with fault.met() as place:
        together_nb.settings.base_url = place.base_url
        together_nb.settings.api_key = KEY
        error, text = door(place, dialect, capsys)
        if place.server is not None:
            eventually(lambda: asked(place.server) >= fault.asked)  # a client that gave up can be ahead of it
            assert asked(place.server) == fault.asked
    name, _, part = fault.sees.partition(": ")
    assert bool(error) == bool(fault.sees)
    assert door is through_the_panel or error.startswith(name)  # a panel does not say what the class is called
    assert holds(part, error, place, dialect), error
    assert text == fault.kept
    assert len(waits) == max(fault.asked - 1, 0)
    assert not waits or holds(fault.says, waits[0], place, dialect), waits[0]
    assert KEY not in error
