"""The Answer tab: the streaming text, in a box that follows its end, and any error below it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from together_nb.panel.elements import Page
from together_nb.render.formats import format_for
from together_nb.values.parameters import AUTO
from together_nb.views.growing_text import GrowingAnswers
from together_nb.views.parts import DrawnValue, box, escaped, note, sentences

if TYPE_CHECKING:
    from together_nb.values.chunk import Chunk
    from together_nb.values.completion import Completion
    from together_nb.wire.stream import CompletionStream

EMPTY = "The answer appears here, as it is written."


class AnswerTab(Page):
    """The live answer, drawn while the tab is visible; it catches up when shown again."""

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
        """Follow an open stream, which continues the answer shown, if any."""
        if self._growing is None:
            self._growing = GrowingAnswers(format_for(AUTO, chat=stream.dialect.chat), stream)
            self._inner.children = (self._growing.box,)

    def write(self, chunks: list[Chunk]) -> None:
        """Draw new chunks."""
        self._behind += chunks
        if self.seen and self._behind and self._growing is not None:
            self._growing.add(self._behind)
            self._behind = []

    def catch_up(self) -> None:
        """Draw what arrived meanwhile."""
        self.write([])

    def end(self, completion: Completion) -> None:
        """Draw what is shown only at the end."""
        if self._growing is not None and any(choice.tool_calls for choice in completion.choices):
            self._growing.add(self._behind)
            self._behind = []
            self._growing.end(completion)

    def fail(self, error: BaseException) -> None:
        """Show an error and its hint."""
        message, hint = sentences(error)
        self._error.set(f"<b>{escaped(message)}</b>{f'<br>{escaped(hint)}' if hint else ''}")

    def forgive(self) -> None:
        """Remove the error."""
        self._error.set("")

    def clear(self, empty: str = EMPTY) -> None:
        """Remove the answer."""
        self.forgive()
        self._behind = []
        self._empty.value = escaped(empty)
        self._inner.children = (self._empty,)
        if self._growing is not None:
            self._growing.close()
            self._growing = None
