"""`together_nb.views`: where growing text is cut, which view is chosen, and what each leaves."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import together_nb
from tests.servers import PATIENCE
from together_nb.errors import InputError
from together_nb.run.resolve import TOY_NATURE
from together_nb.values.chunk import Choice, Chunk
from together_nb.values.completion import Completion
from together_nb.values.local_models import NGRAM
from together_nb.values.request import CompletionRequest
from together_nb.views import layouts, side_by_side_view_for, view_for
from together_nb.views.blocks import LONGEST, SEAL_AFTER, Blocks
from together_nb.views.layouts import close_in_time
from together_nb.views.live import LiveView
from together_nb.views.side_by_side import LiveColumns, OnceColumns, TerminalColumns
from together_nb.views.text import OnceView, TerminalView

PARAGRAPH = "A paragraph of some words.\n\n"


def pieces(text, size=7):
    """The sealed pieces and the tail of Markdown arriving bit by bit."""
    blocks = Blocks(markdown=True)
    sealed = [one for start in range(0, len(text), size) if (one := blocks.add(text[start : start + size]))]
    return sealed, blocks.tail


CODE = "```python\n" + "x = 1\n\n" * 300 + "```\n\n"


@pytest.mark.parametrize("text", [PARAGRAPH * 10, CODE[: LONGEST - 10]], ids=["short", "code with blank lines"])
def test_what_is_short_or_code_is_not_cut(text):
    assert pieces(text) == ([], text)


def test_long_text_is_cut_at_blank_lines_and_nothing_is_lost():
    sealed, tail = pieces(PARAGRAPH * 500)
    assert "\n\n".join((*sealed, tail)) == PARAGRAPH * 500
    assert len(sealed) > 5
    assert min(map(len, sealed)) > SEAL_AFTER - 2 * len(PARAGRAPH)


def test_a_list_item_is_not_cut_from_its_indented_paragraph():
    sealed, tail = pieces(("1. " + "word " * 300 + "\n\n   goes on\n\n") * 2 + "end")
    assert all(not one.startswith(" ") for one in (*sealed, tail))


@pytest.mark.parametrize(
    ("head", "line", "foot"), [("```python\n", "x = 1\n", "\n```"), ("| a | b |\n|--|--|\n", "| 1 | 2 |\n", "|")]
)
def test_code_and_tables_that_are_too_long_go_on_as_such(head, line, foot):
    sealed, tail = pieces(head + line * 2000, 50)
    assert len(sealed) > 2
    assert all(one.startswith(head) for one in (*sealed, tail))
    assert all(one.endswith(foot) for one in sealed)
    assert sum(one.count(line.strip()) for one in (*sealed, tail)) == 2000


@pytest.mark.parametrize("text", ["word " * 4000, "x" * 20_000, "```\n" + "y" * 20_000, "a\n" * 10_000])
@pytest.mark.parametrize("markdown", [True, False])
def test_the_tail_stays_short_whatever_comes(text, markdown):
    blocks = Blocks(markdown=markdown)
    for start in range(0, len(text), 100):
        blocks.add(text[start : start + 100])
        assert len(blocks.tail) <= LONGEST + 100


@given(st.lists(st.sampled_from([PARAGRAPH, "word ", "\n", "\n\n", "    indented", "x" * 500]), max_size=60))
def test_plain_text_is_cut_without_losing_a_character_but_the_line_ends_at_cuts(parts):
    blocks = Blocks(markdown=False)
    sealed = [one for part in parts if (one := blocks.add(part))]
    assert "".join((*sealed, blocks.tail)).replace("\n", "") == "".join(parts).replace("\n", "")


def kernel(**content):
    """As much of a kernel's shell as choosing a view asks for."""
    return SimpleNamespace(kernel=object(), get_parent=lambda: {"content": content})


@pytest.mark.parametrize(
    ("shell", "show", "kind", "of_columns"),
    [
        (None, "auto", TerminalView, TerminalColumns),
        (kernel(allow_stdin=True), "auto", LiveView, LiveColumns),
        (kernel(), "markdown", LiveView, LiveColumns),
        (kernel(allow_stdin=False), "auto", OnceView, OnceColumns),
        (kernel(allow_stdin=True), "none", None, None),
        (None, "none", None, None),
    ],
)
def test_the_view_fits_who_watches(shell, show, kind, of_columns):
    view, columns = view_for(shell, show, chat=True), side_by_side_view_for(shell, show, ["a", "b"], 2)
    assert (view and type(view), columns and type(columns)) == (kind, of_columns)
    if columns is not None:
        columns.end()
    if kind is LiveView:
        view.finish(Completion(CompletionRequest("x")), None)
    with pytest.raises(InputError, match="'pretty'"):
        side_by_side_view_for(shell, "pretty", ["a"], 1)


def test_a_terminal_shows_the_first_answer_as_it_comes_and_the_others_at_the_end(capsys):
    view = TerminalView()
    view.write([Chunk("one", 0), Chunk("two", 1), Chunk(" more", 0)])
    assert capsys.readouterr().out == "one more"
    request = CompletionRequest("x", model="m", api="chat")
    view.finish(Completion(request, choices=[Choice(0, "one more"), Choice(1, "two")], model="m", chunks=3), None)
    assert capsys.readouterr().out == "\n\nAnswer 2:\ntwo\n[m · 3 chunks · 0.0 s]\n"


def test_a_terminal_says_once_that_the_model_thinks_and_keeps_the_thoughts_to_itself(capsys):
    view = TerminalView()
    view.write([Chunk(reasoning="secret"), Chunk(reasoning=" thoughts")])
    view.write([Chunk("Hello")])
    assert capsys.readouterr().out == "(thinking …)\nHello"


# How widgets are closed


class Widget:
    """Knows in which thread it was closed."""

    def __init__(self, *, fails=False):
        self.closed_in = ""
        self.fails = fails

    def close(self):
        self.closed_in = threading.current_thread().name
        if self.fails:
            raise RuntimeError("the connection is gone")


def test_few_widgets_are_closed_at_once_and_many_in_a_thread_though_one_fails(monkeypatch):
    monkeypatch.setattr(layouts, "_CLOSING_SECONDS", 0.001)
    few = [Widget(), Widget()]
    close_in_time(few)
    assert {one.closed_in for one in few} == {threading.current_thread().name}
    for _ in range(3):  # the thread ends, and another begins
        widgets = [Widget(fails=number == 2) for number in range(9)]
        more = [Widget() for _ in range(9)]
        close_in_time(widgets)
        close_in_time(more)
        for thread in threading.enumerate():
            if thread.name == "together_nb closing":
                thread.join(PATIENCE)
        assert {one.closed_in for one in (*widgets, *more)} == {"together_nb closing"}


@pytest.mark.parametrize("columns", [False, True])
def test_the_toy_says_what_it_is_before_its_first_word_in_a_terminal(capsys, columns):
    toy = together_nb.stream("Once upon a time", model=NGRAM, max_tokens=3)
    view = TerminalColumns(["toy"], 1, "auto").column(0) if columns else TerminalView()
    view.start(toy)
    assert TOY_NATURE in capsys.readouterr().out
    assert toy.chunks == 0
