"""The Answer tab: the text as it streams, in a box that follows its end, and what went wrong below it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from together_nb.panel.elements import Page
from together_nb.render.formats import format_for
from together_nb.values.parameters import AUTO
from together_nb.views.growing_text import GrowingAnswers
from together_nb.views.parts import DrawnValue, box, escaped, note, sentences

if TYPE_CHECKING:
    from together_nb.run.stream import CompletionStream
    from together_nb.values.chunk import Chunk

EMPTY = "The answer appears here, as it is written."


class AnswerTab(Page):
    """The live answer. It is drawn while it is seen, and caught up with when it is seen again."""

    title = "Answer"

    def __init__(self) -> None:
        self._empty = note("empty", EMPTY)
        self._error = DrawnValue(note("error"))
        self._growing: GrowingAnswers | None = None
        self._behind: list[Chunk] = []
        self.seen = True
        self._inner = box("end-inner", self._empty)
        self.box = box("page", box("end", self._inner), self._error.widget)

    def start(self) -> None:
        """Make room for a new answer."""
        self.clear("")

    def follow(self, stream: CompletionStream) -> None:
        """A stream that was asked for is open; it goes on with what is shown, if anything is."""
        if self._growing is None:
            self._growing = GrowingAnswers(format_for(AUTO, chat=stream.dialect.chat), stream)
            self._inner.children = (self._growing.box,)

    def write(self, chunks: list[Chunk]) -> None:
        """Draw what has come."""
        self._behind += chunks
        if self.seen and self._behind and self._growing is not None:
            self._growing.add(self._behind)
            self._behind = []

    def catch_up(self) -> None:
        """Draw what came meanwhile."""
        self.write([])

    def fail(self, error: BaseException) -> None:
        """Say what went wrong, and what to do."""
        message, hint = sentences(error)
        self._error.set(f"<b>{escaped(message)}</b>{f'<br>{escaped(hint)}' if hint else ''}")

    def forgive(self) -> None:
        """Take the error away."""
        self._error.set("")

    def clear(self, empty: str = EMPTY) -> None:
        """Take the answer away."""
        self.forgive()
        self._behind = []
        self._empty.value = escaped(empty)
        self._inner.children = (self._empty,)
        if self._growing is not None:
            self._growing.close()
            self._growing = None
