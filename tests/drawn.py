"""What the live views send for a text, counted: each change of a widget, each new widget, each display."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

from ipywidgets import Widget

from tests.servers import PATIENCE
from together_nb.completion import Choice, Chunk, Completion, CompletionRequest, Token
from together_nb.dialects import DIALECTS
from together_nb.formats import format_for
from together_nb.panel.answer import AnswerTab
from together_nb.params import SamplingParams
from together_nb.views import compare, live, shared

PIECE = 400  # characters that come between two repaints


class Sent:
    """Counts the bytes that are sent to the page.

    Attributes
    ----------
    bytes : int
        All of them.
    """

    def __init__(self):
        self.bytes = 0

    def count(self, value):
        """Take down what is sent."""
        self.bytes += len(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))

    def display(self, bundle, **options):
        """As IPython's."""
        self.count([bundle, options.get("metadata", {})])
        return SimpleNamespace(update=self.display)


@contextmanager
def counted(monkeypatch):
    """Count all that is sent within the block; nothing is."""
    sent = Sent()
    tell, begin = Widget.notify_change, Widget.open

    def change(self, change):
        if self.comm is not None and change["name"] in self.keys:
            sent.count(self.get_state(change["name"]))
        return tell(self, change)

    def opened(self):
        if self.comm is None:
            sent.count(self.get_state())
        begin(self)

    with monkeypatch.context() as patch:
        patch.setattr(Widget, "notify_change", change)
        patch.setattr(Widget, "open", opened)
        for module in (live, compare):
            patch.setattr(module, "display", sent.display)
        patch.setattr(shared, "_CLOSING_SECONDS", 0)
        yield sent
        for thread in threading.enumerate():  # what is closed in time is closed before the next test
            if thread.name == "together_nb closing":
                thread.join(PATIENCE)


def stream_of(api="chat", **sampling):
    """As much of a stream as views look at."""
    request = CompletionRequest("x", "test/model", api, sampling=SamplingParams(**sampling))
    return SimpleNamespace(request=request, wait=None, seconds=0.0, chunks=1, dialect=DIALECTS[api])


def ended(stream, chunks):
    """What came of a stream, whole."""
    said, thought = "".join(one.text for one in chunks), "".join(one.reasoning for one in chunks)
    tokens = [token for one in chunks for token in one.tokens]
    return Completion(stream.request, [Choice(0, said, thought, "stop", tokens)], "test/model", chunks=len(chunks))


def chunks_of(text, field="text", **more):
    """`text` in pieces, each with what is made of it."""
    parts = [text[start : start + PIECE] for start in range(0, len(text), PIECE)]
    return [Chunk(**{field: part}, **{name: make(part) for name, make in more.items()}) for part in parts]


def in_tokens(part):
    """`part` in tokens of four characters."""
    return tuple(
        Token(part[at : at + 4], -1.0, None, ((part[at : at + 4], -1.0), ("x", -2.0))) for at in range(0, len(part), 4)
    )


def drawn_by(view, chunks, stream):
    """Have a view draw chunks, each in a repaint of its own."""
    view.start(stream)
    for chunk in chunks:
        view.write([chunk])
    view.finish(ended(stream, chunks), None)


def live_view(show, text, field="text"):
    """The running cell's view of a format."""
    more = {"tokens": in_tokens} if show == "tokens" else {}
    drawn_by(live.LiveView(format_for(show, chat=True)), chunks_of(text, field, **more), stream_of())


def in_background(text):
    drawn_by(live.BackgroundView(format_for("auto", chat=True), lambda: None), chunks_of(text), stream_of())


def side_by_side(text):
    columns = compare.LiveColumns(["one", "two"], 2, "auto")
    columns.begin([])
    for number, part in enumerate((text[: len(text) // 2], text[len(text) // 2 :])):
        drawn_by(columns.column(number), chunks_of(part), stream_of())
    columns.end()


def in_the_panel(text):
    tab, stream = AnswerTab(), stream_of()
    tab.start()
    tab.opened(stream)
    for chunk in chunks_of(text):
        tab.write([chunk])
    tab.clear()


VIEWS = {
    **{f"--show {show}": partial(live_view, show) for show in ("markdown", "text", "code", "json", "tokens")},
    "thinking": partial(live_view, "markdown", field="reasoning"),
    "in the background": in_background,
    "side by side": side_by_side,
    "the panel": in_the_panel,
}
