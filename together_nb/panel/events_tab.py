"""The Events tab: the stream's lines as they arrived, each with its time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from together_nb.base.wording import count
from together_nb.panel.elements import Page
from together_nb.views.html_rows import HtmlRows
from together_nb.views.parts import DrawnValue, box, escaped, note, row
from together_nb.wire.wiretap import KEPT, WireLine, Wiretap

if TYPE_CHECKING:
    from together_nb.wire.stream import CompletionStream

_EMPTY = "The lines that the server sends appear here as they come: data: …, and at last data: [DONE]."
_PER = 20


class EventsTab(Page):
    """The last lines; drawn while the tab is visible."""

    title = "Events"

    def __init__(self) -> None:
        self._stream: CompletionStream | None = None
        self._wiretap: Wiretap | None = None
        self._drawn = 0
        self._pieces = HtmlRows("lines", _PER, KEPT // _PER + 1)  # the last one is rarely full
        self._head = DrawnValue(note("help", _EMPTY))
        self.box = box("page", self._head.widget, row("end", self._pieces.box))

    def start(self) -> None:
        """Start over."""
        self._stream = self._wiretap = None
        self._drawn = 0
        self._pieces.clear()
        self._head.set(escaped(_EMPTY))

    def follow(self, stream: CompletionStream) -> None:
        """Listen to a stream that has not begun."""
        self.start()
        self._stream, self._wiretap = stream, Wiretap()
        stream.wiretap = self._wiretap

    def write(self) -> None:
        """Draw new lines."""
        if not self.seen or self._wiretap is None or self._stream is None:
            return
        lines = self._wiretap.since(self._drawn)
        if lines:
            self._drawn = lines[-1].number
            self._pieces.add([self._row(line, self._stream) for line in lines])
            self._head.set(escaped(self._words()))

    def catch_up(self) -> None:
        """Draw what arrived meanwhile."""
        self.write()

    def _words(self) -> str:
        shown = self._pieces.count
        last = f", the last {shown} shown" if self._drawn > shown else ""
        return f"{count(self._drawn, 'line')}{last}; seconds since the request was sent. A blank line ends an event."

    def _row(self, line: WireLine, stream: CompletionStream) -> str:
        # A server may echo the key.
        text = stream.endpoint.without_key(line.text)
        field, colon, value = text.partition(":")
        named = f"<b>{escaped(field)}</b>{colon}{escaped(value)}" if colon and field == "data" else escaped(text)
        return f"<p><time>{line.seconds:.3f}</time><code>{named or '&nbsp;'}</code></p>"
