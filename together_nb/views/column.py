"""One answer among several side by side: a column with a title above and its state below."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from together_nb.base.wording import count
from together_nb.render.formats import format_for
from together_nb.values.parameters import AUTO
from together_nb.views.growing_text import GrowingAnswers
from together_nb.views.layouts import close_all
from together_nb.views.parts import DrawnValue, box, escaped, note, row, sentences
from together_nb.views.text import SilentView

if TYPE_CHECKING:
    from ipywidgets import Widget

    from together_nb.values.chunk import Chunk
    from together_nb.values.completion import Completion
    from together_nb.wire.stream import CompletionStream

WAITING = "Waiting for the first token"
_STATUS_SECONDS = 0.5

_CSS = """
WITHIN .tnb-column { min-width: 170px; overflow: hidden; border: 1px solid var(--jp-border-color2, #e0e0e0); border-radius: 3px;
  padding: 4px 8px; display: grid; grid-template: auto minmax(0, 1fr) auto / minmax(0, 1fr) auto; }
WITHIN .tnb-column > .tnb-end, WITHIN .tnb-column > .tnb-help { grid-column: 1 / -1; }
WITHIN .tnb-column-title { min-width: 0; height: auto; }
WITHIN .tnb-column-title > .widget-html-content { font-weight: 600; font-family: var(--jp-code-font-family, monospace); font-size: 12px; }
WITHIN .tnb-failed { color: var(--jp-error-color0, #b71c1c); }
"""


def column_css(within: str) -> str:
    """Return the style sheet of columns inside the selector `within`."""
    return _CSS.replace("WITHIN", within)


class Column(SilentView):
    """Draws one answer in a column. One thread draws; any other may close it.

    Parameters
    ----------
    title
        What differs in this column.
    state
        The first text below the answer.
    show
        Name of a format.
    beside
        Widgets beside the title.

    Attributes
    ----------
    box : Widget
        The column.
    completion : Completion or None
        The answer, once it has ended.
    closed : bool
        Whether it has been removed from the page.
    """

    def __init__(self, title: str, state: str, *, show: str = AUTO, beside: tuple[Widget, ...] = ()) -> None:
        self.completion: Completion | None = None
        self.closed = False
        self._show = show
        self._lock = threading.Lock()  # keeps drawing and closing apart
        self._told = 0.0
        self._stream: CompletionStream | None = None
        self._growing: GrowingAnswers | None = None
        self._title = note("column-title", title)
        self._end = row("end")
        self._foot = DrawnValue(note("help", state))
        self.box = box("column", self._title, *beside, self._end, self._foot.widget)

    def start(self, stream: CompletionStream) -> None:
        """Show that the answer is awaited."""
        self._stream = stream
        with self._lock:
            if not self.closed:
                self._growing = GrowingAnswers(format_for(self._show, chat=stream.dialect.chat), stream)
                self._end.children = (self._growing.box,)
                self._foot.set(_waiting(stream))

    def write(self, chunks: list[Chunk]) -> None:
        """Draw new chunks; update the line below twice a second."""
        stream = self._stream
        with self._lock:
            if self.closed or stream is None or self._growing is None:
                return
            if chunks:
                self._growing.add(chunks)
            if stream.wait is not None:
                self._foot.set(escaped(str(stream.wait)))
            elif not stream.chunks:
                self._foot.set(_waiting(stream))
            elif not self._told or stream.seconds - self._told >= _STATUS_SECONDS:
                self._told = stream.seconds
                self._foot.set(f"{count(stream.chunks, 'chunk')} · {stream.seconds:.1f} s")

    def finish(self, completion: Completion, error: BaseException | None) -> None:
        """Show how the answer ended."""
        self.completion = completion
        with self._lock:
            if self._growing is not None and not self.closed:
                self._growing.end(completion)
        if error is not None and not completion.cancelled:
            self.fail(error)
        else:
            self.tell(completion.footer())

    def fail(self, error: BaseException) -> None:
        """Show the error below the answer."""
        words = escaped(" ".join(sentences(error)).strip())
        footer = "" if self.completion is None else f"<br>{escaped(self.completion.footer())}"
        self._set(f'<span class="tnb-failed">{words}</span>{footer}')

    def tell(self, words: str) -> None:
        """Show `words` below the answer."""
        self._set(escaped(words))

    def close(self) -> None:
        """Remove it from the page; nothing is drawn afterwards."""
        with self._lock:
            self.closed = True
            growing = self._growing
        if growing is not None:
            growing.close()
        self._end.children = ()
        close_all((self._title, self._end, self._foot.widget, self.box))

    def _set(self, markup: str) -> None:
        with self._lock:
            if not self.closed:
                self._foot.set(markup)


def _waiting(stream: CompletionStream) -> str:
    return escaped(" · ".join((WAITING, *stream.notes)))
