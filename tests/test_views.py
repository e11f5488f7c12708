"""`together_nb.views`: where growing text is cut, and what each view leaves."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.servers import PATIENCE
from together_nb.completion import Choice, Chunk, Completion, CompletionRequest
from together_nb.formats import FORMATS
from together_nb.views import shared, view_for
from together_nb.views.blocks import LONGEST, SEAL_AFTER, Blocks
from together_nb.views.live import LiveView
from together_nb.views.shared import close_in_time
from together_nb.views.text import OnceView, SilentView, TerminalView

PARAGRAPH = "A paragraph of some words.\n\n"


def pieces(text, *, markdown=True, size=7):
    """The sealed pieces and the tail of `text` arriving bit by bit."""
    blocks = Blocks(markdown=markdown)
    sealed = [one for start in range(0, len(text), size) if (one := blocks.add(text[start : start + size]))]
    return sealed, blocks.tail


def test_short_text_is_never_cut():
    assert pieces(PARAGRAPH * 10) == ([], PARAGRAPH * 10)


def test_long_text_is_cut_at_blank_lines_and_nothing_is_lost():
    sealed, tail = pieces(PARAGRAPH * 500)
    assert "\n\n".join((*sealed, tail)) == PARAGRAPH * 500
    assert len(sealed) > 5


def test_a_code_block_is_not_cut_at_its_blank_lines():
    code = "```python\n" + "x = 1\n\n" * 300 + "```\n\n"
    sealed, tail = pieces(code[: LONGEST - 10])
    assert sealed == []
    assert tail == code[: LONGEST - 10]


def test_a_list_item_is_not_cut_from_its_indented_paragraph():
    item = "1. " + "word " * 300 + "\n\n   goes on\n\n"
    sealed, tail = pieces(item * 2 + "end")
    assert all(not one.startswith(" ") for one in (*sealed, tail))


def test_a_code_block_that_is_too_long_goes_on_as_code():
    sealed, tail = pieces("```python\n" + "x = 1\n" * 3000)
    assert len(sealed) > 2
    for one in sealed:
        assert one.startswith("```python\n")
        assert one.endswith("\n```")
    assert tail.startswith("```python\n")
    assert sum(one.count("x = 1") for one in (*sealed, tail)) == 3000


def test_a_table_that_is_too_long_goes_on_as_a_table():
    sealed, tail = pieces("| a | b |\n|--|--|\n" + "| 1 | 2 |\n" * 2000)
    for one in (*sealed, tail):
        assert one.startswith("| a | b |\n|--|--|\n")
    assert sum(one.count("| 1 | 2 |") for one in (*sealed, tail)) == 2000


@pytest.mark.parametrize("text", ["word " * 20_000, "x" * 100_000, "```\n" + "y" * 100_000, "a\n" * 50_000])
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
    assert SEAL_AFTER < LONGEST


class Shell:
    """As much of a kernel's shell as choosing a view asks for."""

    kernel = object()

    def __init__(self, **content):
        self.content = content

    def get_parent(self):
        return {"content": self.content}


@pytest.mark.parametrize(
    ("shell", "show", "kind"),
    [
        (None, "auto", TerminalView),
        (Shell(allow_stdin=True), "auto", LiveView),
        (Shell(), "markdown", LiveView),
        (Shell(allow_stdin=False), "auto", OnceView),
        (Shell(allow_stdin=True), "none", SilentView),
        (None, "none", SilentView),
    ],
)
def test_the_view_fits_who_watches(shell, show, kind):
    view = view_for(shell, show, chat=True)
    assert type(view) is kind
    if kind is LiveView:
        view.finish(Completion(CompletionRequest("x")), None)


def test_a_terminal_shows_the_first_answer_as_it_comes_and_the_others_at_the_end(capsys):
    view = TerminalView()
    view.write([Chunk("one", 0), Chunk("two", 1), Chunk(" more", 0)])
    assert capsys.readouterr().out == "one more"
    request = CompletionRequest("x", model="m", api="chat")
    view.finish(Completion(request, choices=[Choice(0, "one more"), Choice(1, "two")], model="m", chunks=3), None)
    assert capsys.readouterr().out == "\n\nAnswer 2:\ntwo\n[m · 3 chunks · 0.0 s]\n"


def test_a_terminal_says_that_the_model_thinks_and_keeps_the_thoughts_to_itself(capsys):
    view = TerminalView()
    view.write([Chunk(reasoning="secret"), Chunk(reasoning=" thoughts")])
    view.write([Chunk("Hello")])
    assert capsys.readouterr().out == "(thinking …)\nHello"


def test_each_format_draws_text_that_grows():
    for row in FORMATS.values():
        assert isinstance(row.partial("# a\n`b"), str)


# How widgets are closed


class Closed:
    """A widget that tells in which thread it was closed."""

    def __init__(self, *, fails=False):
        self.by = ""
        self.fails = fails

    def close(self):
        self.by = threading.current_thread().name
        if self.fails:
            raise RuntimeError("the connection is gone")


def await_closing():
    for thread in threading.enumerate():
        if thread.name == "together_nb closing":
            thread.join(PATIENCE)
            assert not thread.is_alive()


def test_few_widgets_are_closed_at_once():
    widgets = [Closed() for _ in range(2)]
    close_in_time(widgets)
    assert {one.by for one in widgets} == {threading.current_thread().name}


def test_many_widgets_are_closed_in_a_thread_each_though_one_fails(monkeypatch):
    monkeypatch.setattr(shared, "_CLOSING_SECONDS", 0.001)
    for _ in range(3):  # the thread ends, and another begins
        widgets = [Closed(fails=number == 2) for number in range(9)]
        close_in_time(widgets)
        more = [Closed() for _ in range(9)]
        close_in_time(more)
        await_closing()
        assert {one.by for one in (*widgets, *more)} == {"together_nb closing"}
