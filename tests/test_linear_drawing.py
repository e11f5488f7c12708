"""What is sent to the page for any text grows with its length and not with its square."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests import drawn
from together_nb import tables
from together_nb.completion import Choice, Completion, CompletionRequest
from together_nb.formats import FORMATS
from together_nb.views.blocks import LONGEST
from together_nb.views.growing import GrowingText
from together_nb.views.shared import close_all

LENGTH = 16_000  # characters; of one text; another one is longer
MOST = 200  # bytes for each character, where 400 come between two repaints; 24 is what a tab takes, spelled out
# What a text begins with, and what follows over and over.
TEXTS = {
    "backticks": ("", "`"),
    "tildes": ("", "~"),
    "a long name after a fence": ("```", "x"),
    "a long name after a fence, and code": ("```" + "x" * 5000 + "\n", "x = 1\n"),
    "a long fence, and code": ("`" * 5000 + "\n", "x = 1\n"),
    "a formula on one line": ("$$", "x_1 "),
    "a formula below a long line": ("$$" + "x" * 5000 + "\n", "x\n"),
    "a table of 1,000 columns": ("|" + "a|" * 1000 + "\n|" + "-|" * 1000 + "\n", "| 1 "),
    "a table of 100 columns": ("|" + "a|" * 100 + "\n|" + "-|" * 100 + "\n", "| 1 | 2 |\n"),
    "a line of a quotation": ("> ", "word "),
    "a line of a list": ("- ", "word "),
    "a line of HTML": ("<div ", "a=b "),
    "one word": ("", "x"),
    "signs that are spelled out": ("", "$\\<"),
    "controls": ("", "\u202e"),
    "code in a deep list": ("-" + " " * 450 + "```\n", "<b\n"),
    "code of tags": ("```\n", "<b>\n\n"),
    "paragraphs": ("", "Some words.\n\n"),
}  # fmt: skip


def text_of(name, length):
    start, rest = TEXTS[name]
    return (start + rest * length)[:length]


def sent_for(draw, text, monkeypatch):
    with drawn.counted(monkeypatch) as sent:
        draw(text)
    return sent.bytes


def assert_linear(draw, make, monkeypatch):
    once, thrice = (sent_for(draw, make(length), monkeypatch) for length in (LENGTH, 3 * LENGTH))
    assert thrice <= 5 * once  # 9 where each part is sent again with the next; a beginning can cost less than the rest
    assert thrice <= MOST * 3 * LENGTH


@pytest.mark.parametrize("name", TEXTS)
def test_bytes_grow_with_the_length_of_a_text(name, monkeypatch):
    assert_linear(drawn.VIEWS["--show markdown"], lambda length: text_of(name, length), monkeypatch)


@pytest.mark.parametrize("name", ["backticks", "a table of 1,000 columns"])
@pytest.mark.parametrize("view", [view for view in drawn.VIEWS if view not in ("--show markdown", "--show tokens")])
def test_so_it_is_wherever_it_is_drawn(view, name, monkeypatch):
    assert_linear(drawn.VIEWS[view], lambda length: text_of(name, length), monkeypatch)


def test_so_it_is_of_tokens_for_each_of_which_more_is_sent(monkeypatch):
    once, twice = (sent_for(drawn.VIEWS["--show tokens"], "`" * length, monkeypatch) for length in (4000, 8000))
    assert twice <= 2.5 * once


OPENERS = ["`" * 700, "```", "```\n", "~~~x\n", "$$", "$$\n", "> ", "- ", "1. ", "\n\n", "\n", "|a|b|\n|-|-|\n", "x" * 700, " ", "<b ", "    "]  # fmt: skip


@given(
    st.lists(st.sampled_from(OPENERS), min_size=1, max_size=4), st.sampled_from([*OPENERS, "word ", "x\n", "\\", "`"])
)
@example(openers=["`" * 700, "$$\n"], rest="`" * 700)  # the first 8,000 characters cost a third of others
@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_so_it_is_of_any_lines_that_open_something(monkeypatch, openers, rest):
    assert_linear(
        drawn.VIEWS["--show markdown"], lambda length: ("".join(openers) + rest * length)[:length], monkeypatch
    )


def test_the_names_of_what_stands_on_the_page_are_not_sent_again_with_each_part(monkeypatch):
    """With the names of all 800, the last would be as long as 30 parts."""
    monkeypatch.setattr(drawn, "PIECE", 1300)
    text = ("x" * 1298 + "\n\n") * 800
    assert sent_for(drawn.VIEWS["--show code"], text, monkeypatch) <= 8 * len(text)


def test_what_is_too_long_to_be_repeated_goes_on_to_the_letter_up_to_a_blank_line():
    text = "$$" + "x" * LONGEST + "\n" + "a_1 \n" * 2000 + "\n**after** " + "it " * 2000
    growing = GrowingText(FORMATS["markdown"])
    for start in range(0, len(text), 100):
        growing.add(text[start : start + 100])
    made = [one.outputs[0]["data"]["text/markdown"] for one in growing.parts if one.outputs]
    assert "".join(made).count("a&#95;1") == 2000
    assert "**after**" in "".join(made)
    close_all(growing.parts)


# The answer that is left


NESTED = "[" * 400 + "1," * 20_000 + "1" + "]" * 400


@pytest.mark.parametrize("show", ["markdown", "text", "code", "json", "tokens"])
@pytest.mark.parametrize(
    "text", [*(text_of(name, 40_000) for name in TEXTS), NESTED], ids=[*TEXTS, "numbers in a deep list"]
)
def test_what_is_saved_is_a_few_times_the_text(show, text):
    one = Completion(CompletionRequest("x", "m", "chat"), [Choice(0, text, text)], "m")
    for kind, made in one.bundle(show).items():
        assert len(made) <= 50 * len(text), kind


def test_json_that_is_indented_too_far_is_shown_as_it_came():
    assert FORMATS["json"].final(NESTED) == f"```json\n{NESTED}\n```"
    assert FORMATS["json"].final('{"a": [1, 2]}') == '```json\n{\n  "a": [\n    1,\n    2\n  ]\n}\n```'


def test_one_wide_cell_does_not_widen_all_others():
    _, plain = tables.table("a | b", [("x" * 50_000, "1"), *(("y", "2") for _ in range(1000))])
    assert len(plain) < 300_000
    assert plain.split("\n")[2].split() == ["y", "2"]
