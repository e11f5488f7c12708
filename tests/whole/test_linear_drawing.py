"""What is sent to the page for any text grows with its length and not with its square."""

import json
import threading
from functools import partial
from itertools import product
from types import SimpleNamespace

import pytest
from ipywidgets import Widget

from tests.servers import PATIENCE
from together_nb.panel.answer_tab import AnswerTab
from together_nb.render import tables
from together_nb.render.formats import FORMATS, format_for
from together_nb.values.chunk import Choice, Chunk, Token
from together_nb.values.completion import Completion
from together_nb.values.request import CompletionRequest
from together_nb.views import layouts, live
from together_nb.views import side_by_side as compare
from together_nb.views.blocks import LONGEST
from together_nb.views.growing_text import GrowingText
from together_nb.views.layouts import close_all
from together_nb.wire.dialects import DIALECTS

LENGTH = 16_000  # characters; of one text; another one is longer
PIECE = 400  # characters that come between two repaints
MOST = 200  # bytes for each character, where 400 come between two repaints; 24 is what a tab takes, spelled out

# Views, each of which draws a text in pieces


def stream_of_a_chat():
    """As much of a stream as views look at."""
    request = CompletionRequest("x", "test/model", "chat")
    return SimpleNamespace(request=request, wait=None, notes=(), seconds=0.0, chunks=1, dialect=DIALECTS["chat"])


def pieces_of(text, field="text", piece=PIECE, tokens=lambda part: ()):
    parts = [text[start : start + piece] for start in range(0, len(text), piece)]
    return [Chunk(**{field: part}, tokens=tokens(part)) for part in parts]


def tokens_of(part):
    """Tokens of four characters."""
    texts = [part[at : at + 4] for at in range(0, len(part), 4)]
    return tuple(Token(text, -1.0, None, ((text, -1.0), ("x", -2.0))) for text in texts)


def draw(view, chunks):
    """Have a view draw chunks, each in a repaint of its own."""
    stream = stream_of_a_chat()
    view.start(stream)
    for chunk in chunks:
        view.write([chunk])
    text, reasoning = "".join(one.text for one in chunks), "".join(one.reasoning for one in chunks)
    choice = Choice(0, text, reasoning, "stop", [token for one in chunks for token in one.tokens])
    view.finish(Completion(stream.request, [choice], "test/model", chunks=len(chunks)), None)


def in_a_cell(show, text, **pieces):
    draw(live.LiveView(format_for(show, chat=True)), pieces_of(text, **pieces))


def in_background(text):
    draw(live.BackgroundView(format_for("auto", chat=True), lambda: None), pieces_of(text))


def side_by_side(text):
    columns = compare.LiveColumns(["one", "two"], 2, "auto")
    columns.begin([])
    for number, part in enumerate((text[: len(text) // 2], text[len(text) // 2 :])):
        draw(columns.column(number), pieces_of(part))
    columns.end()


def in_the_panel(text):
    tab = AnswerTab()
    tab.start()
    tab.follow(stream_of_a_chat())
    for chunk in pieces_of(text):
        tab.write([chunk])
    tab.clear()


VIEWS = {
    **{show: partial(in_a_cell, show) for show in ("markdown", "text", "code", "json")},
    "tokens": partial(in_a_cell, "tokens", tokens=tokens_of),
    "thinking": partial(in_a_cell, "markdown", field="reasoning"),
    "in the background": in_background,
    "side by side": side_by_side,
    "the panel": in_the_panel,
}
OTHERS = [view for view in VIEWS if view not in ("markdown", "tokens")]


def sent_for(draw, text, monkeypatch):
    """The bytes that are sent to the page while a text is drawn: changed and new widgets, displays."""
    sent = []
    notify, begin = Widget.notify_change, Widget.open

    def count(value):
        sent.append(len(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")))

    def change(self, change):
        if self.comm is not None and change["name"] in self.keys:
            count(self.get_state(change["name"]))
        return notify(self, change)

    def start(self):
        if self.comm is None:
            count(self.get_state())
        begin(self)

    def display(bundle, **options):
        count([bundle, options.get("metadata", {})])
        return SimpleNamespace(update=display)

    with monkeypatch.context() as patch:
        patch.setattr(Widget, "notify_change", change)
        patch.setattr(Widget, "open", start)
        for module in (live, compare):
            patch.setattr(module, "display", display)
        patch.setattr(layouts, "_CLOSING_SECONDS", 0)
        draw(text)
        for thread in threading.enumerate():  # what is closed in time is closed before the next test
            if thread.name == "together_nb closing":
                thread.join(PATIENCE)
    return sum(sent)


WIDE = "a table of 1,000 columns"
# What a text begins with, and what follows over and over.
TEXTS = {
    "backticks": ("", "`"), "tildes": ("", "~"), "one word": ("", "x"), "signs that are spelled out": ("", "$\\<"),
    "controls": ("", "\u202e"), "paragraphs": ("", "Some words.\n\n"), "a line of HTML": ("<div ", "a=b "),
    "a line of a quotation": ("> ", "word "), "a line of a list": ("- ", "word "),
    "a long name after a fence": ("```", "x"),
    "a long name after a fence, and code": ("```" + "x" * 5000 + "\n", "x = 1\n"), "code of tags": ("```\n", "<b>\n\n"),
    "a long fence, and code": ("`" * 5000 + "\n", "x = 1\n"),
    "code in a deep list": ("-" + " " * 450 + "```\n", "<b\n"),
    "a formula on one line": ("$$", "x_1 "), "a formula below a long line": ("$$" + "x" * 5000 + "\n", "x\n"),
    WIDE: ("|" + "a|" * 1000 + "\n|" + "-|" * 1000 + "\n", "| 1 "),
    "a table of 100 columns": ("|" + "a|" * 100 + "\n|" + "-|" * 100 + "\n", "| 1 | 2 |\n"),
    # The first 8,000 characters cost a third of others.
    "a formula under a long fence": ("`" * 700 + "$$\n", "`" * 700), "formulas in code": ("```\n<b $$ ", "$$\n"),
    "a formula in code in a list": ("1.     $$\n", "    "), "a formula in a quotation": ("> 1. $$\n$$", " "),
    "lists after a formula": (" $$", "- "),
}  # fmt: skip


def text_of(start, rest, length):
    return (start + rest * length)[:length]


@pytest.mark.parametrize(("view", "name"), [*product(["markdown"], TEXTS), *product(OTHERS, ["backticks", WIDE])])
def test_bytes_grow_with_the_length_of_a_text_wherever_it_is_drawn(view, name, monkeypatch):
    once, thrice = (sent_for(VIEWS[view], text_of(*TEXTS[name], size), monkeypatch) for size in (LENGTH, 3 * LENGTH))
    assert thrice <= 5 * once  # 9 where each part is sent again with the next; a beginning can cost less than the rest
    assert thrice <= MOST * 3 * LENGTH


def test_so_it_is_of_tokens_for_each_of_which_more_is_sent(monkeypatch):
    once, twice = (sent_for(VIEWS["tokens"], "`" * length, monkeypatch) for length in (4000, 8000))
    assert twice <= 2.5 * once


def test_the_names_of_what_stands_on_the_page_are_not_sent_again_with_each_part(monkeypatch):
    """With the names of all 800, the last would be as long as 30 parts."""
    text = ("x" * 1298 + "\n\n") * 800
    assert sent_for(partial(in_a_cell, "code", piece=1300), text, monkeypatch) <= 8 * len(text)


def test_what_is_too_long_to_be_repeated_goes_on_to_the_letter_up_to_a_blank_line():
    text = "$$" + "x" * LONGEST + "\n" + "a_1 \n" * 2000 + "\n**after** " + "it " * 2000
    growing = GrowingText(FORMATS["markdown"])
    for start in range(0, len(text), 100):
        growing.add(text[start : start + 100])
    drawn = "".join(one.outputs[0]["data"]["text/markdown"] for one in growing.parts if one.outputs)
    assert drawn.count("a&#95;1") == 2000
    assert "**after**" in drawn
    close_all(growing.parts)


# The answer that is left

NESTED = "[" * 400 + "1," * 20_000 + "1" + "]" * 400


@pytest.mark.parametrize("name", [*TEXTS, "numbers in a deep list"])
def test_what_is_saved_is_a_few_times_the_text(name):
    text = text_of(*TEXTS[name], 20_000) if name in TEXTS else NESTED
    completion = Completion(CompletionRequest("x", "m", "chat"), [Choice(0, text, text)], "m")
    for show in ("markdown", "text", "code", "json", "tokens"):
        for kind, made in completion.bundle(show).items():
            assert len(made) <= 50 * len(text), (show, kind)


def test_json_that_is_indented_too_far_is_shown_as_it_came():
    assert FORMATS["json"].final(NESTED) == f"```json\n{NESTED}\n```"


def test_one_wide_cell_does_not_widen_all_others():
    _, plain = tables.table("a | b", [("x" * 50_000, "1"), *(("y", "2") for _ in range(1000))])
    assert len(plain) < 300_000
    assert plain.split("\n")[2].split() == ["y", "2"]
