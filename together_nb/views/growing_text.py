"""Growing text in output widgets; each repaint sends only the unsealed tail.

``Output.append_stdout`` would resend everything, and ``with output:`` is not thread-safe
(ipywidgets #2358); assigning ``outputs`` is both cheap and safe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ipywidgets import HTML, Accordion, Output, VBox

from together_nb.base.escape import literal
from together_nb.render.formats import FORMATS, Format
from together_nb.render.remarks import REFUSAL, call_lines
from together_nb.values.chunk import Chunk
from together_nb.views.blocks import Blocks, Plain
from together_nb.views.layouts import close_all, close_in_time, html_style, snug_layout
from together_nb.views.shaded_tokens import GrowingTokens

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipywidgets import Widget

    from together_nb.values.chunk import Choice
    from together_nb.values.completion import Completion
    from together_nb.wire.stream import CompletionStream

_GAP = "\n\n"
_BESIDE = 32  # widgets in a box: adding one sends the ids of all in it


class Tall:
    """A box for a growing number of children: the first in the box itself, later ones in ever deeper nested boxes.

    Parameters
    ----------
    children
        The first children.

    Attributes
    ----------
    box : Widget
        The box.
    within : list of Widget
        The nested boxes.
    """

    def __init__(self, children: Iterable[Widget]) -> None:
        self.box = VBox(tuple(children), layout=snug_layout())
        self._path = [self.box]  # to the box that takes the next child
        self.within: list[Widget] = []

    def add(self, children: Iterable[Widget]) -> None:
        """Append `children`; the existing ones do not move."""
        added, path = tuple(children), self._path
        depths = [depth for depth, box in enumerate(path) if len(box.children) < _BESIDE]
        depth, height = (depths[-1], len(path) - depths[-1] - 1) if depths else (0, len(path))
        boxes: list[VBox] = []
        for _ in range(height):
            boxes.insert(0, VBox(added, layout=snug_layout()))
            added = (boxes[0],)
        path[depth].children = (*path[depth].children, *added)
        path[depth + 1 :] = boxes
        self.within += boxes

    def insert(self, place: int, child: Widget) -> None:
        """Insert `child` among the first."""
        self.box.children = (*self.box.children[:place], child, *self.box.children[place:])


class GrowingText:
    """Growing text in outputs, one for each sealed part and one for the tail.

    Parameters
    ----------
    shown
        How to turn the text into Markdown.

    Attributes
    ----------
    parts : list of Widget
        Its widgets, from top to bottom.
    """

    def __init__(self, shown: Format) -> None:
        self._format = shown
        self._blocks = Blocks(markdown=shown.markdown)
        self.parts: list[Widget] = []

    def add(self, text: str) -> list[Widget]:
        """Append `text`; return the new parts."""
        sealed = self._blocks.add(text)
        texts = [sealed, self._blocks.tail] if sealed else [self._blocks.tail]
        if self.parts:
            self.parts[-1].outputs = self._rendered(texts.pop(0))
        added: list[Widget] = [Output(outputs=self._rendered(one), layout=snug_layout()) for one in texts]
        self.parts += added
        return added

    def widgets(self) -> list[Widget]:
        """All its widgets."""
        return self.parts

    def _rendered(self, text: str) -> tuple[dict[str, Any], ...]:
        if not text:
            return ()
        data = {"text/markdown": literal(text) if isinstance(text, Plain) else self._format.partial(text)}
        return ({"output_type": "display_data", "data": data, "metadata": {}},)


class GrowingAnswers:
    """All answers to one request, ordered by index; each below its folded thinking.

    Parameters
    ----------
    shown
        How to turn the answers into Markdown.
    stream
        Their stream. If several answers are requested, each has a title; any beyond that number are not drawn.
    """

    def __init__(self, shown: Format, stream: CompletionStream) -> None:
        self._format = shown
        self._most = stream.request.sampling.n or 1
        self._answers: dict[int, _Answer] = {}
        self._box: VBox | None = None

    @property
    def box(self) -> VBox:
        """The box of all answers, made on first use from what has arrived: each change is a message."""
        if self._box is None:
            self._box = VBox(self._children(), layout=snug_layout())
        return self._box

    def add(self, chunks: list[Chunk]) -> None:
        """Append `chunks`, all those of a repaint at once."""
        answers: dict[int, list[Chunk]] = {}
        for chunk in chunks:
            answers.setdefault(chunk.index, []).append(chunk)
        before = len(self._answers)
        for index, theirs in answers.items():
            if index in self._answers:
                self._answers[index].add(theirs)
            elif len(self._answers) < self._most:
                title = f"Answer {index + 1}" if self._most > 1 else ""
                self._answers[index] = _Answer(self._format, title, theirs)
        if len(self._answers) > before and self._box is not None:
            self._box.children = self._children()

    def end(self, completion: Completion) -> None:
        """Draw what is shown only at the end."""
        for choice in completion.choices:
            if choice.tool_calls:
                self.add([Chunk(index=choice.index)])
                if choice.index in self._answers:
                    self._answers[choice.index].end(choice)

    def close(self) -> None:
        """Remove it from the page and the kernel."""
        close_all((*self._children(), *(() if self._box is None else (self._box,))))
        close_in_time([widget for answer in self._answers.values() for widget in answer.widgets()])

    def _children(self) -> list[Widget]:
        return [answer.box for _, answer in sorted(self._answers.items())]


class _Answer:
    """One answer: its folded thinking and its text."""

    def __init__(self, shown: Format, title: str, chunks: list[Chunk]) -> None:
        self._title = [HTML(f"<b>{title}</b>", layout=snug_layout(), style=html_style())] if title else []
        self._thinking: _Thinking | None = None
        self._refused = False
        self._calls: list[Widget] = []
        self._text = GrowingTokens() if shown.of_tokens else GrowingText(shown)
        fold, _ = self._drawn(chunks)
        self._parts = Tall((*self._title, *fold, *self._text.parts))
        self.box = self._parts.box

    def add(self, chunks: list[Chunk]) -> None:
        """Draw new chunks."""
        fold, added = self._drawn(chunks)
        for one in fold:
            self._parts.insert(len(self._title), one)
        if added:
            self._parts.add(added)

    def end(self, choice: Choice) -> None:
        """Draw the tool calls, which are whole now."""
        text = "\n".join(call_lines(choice))
        if text and not self._calls:
            self._calls = GrowingText(FORMATS["text"]).add(text)
            self._parts.add(self._calls)

    def widgets(self) -> list[Widget]:
        """All its widgets except its box."""
        thinking = [] if self._thinking is None else self._thinking.widgets()
        return [*self._title, *thinking, *self._text.widgets(), *self._calls, *self._parts.within]

    def _drawn(self, chunks: list[Chunk]) -> tuple[list[Widget], list[Widget]]:
        """Draw new chunks; return the new widgets above the text, and those below it."""
        text, reasoning, refusal = (
            "".join(getattr(one, name) for one in chunks) for name in ("text", "reasoning", "refusal")
        )
        if refusal:
            text += refusal if self._refused else f"{_GAP * bool(text or self._text.parts)}{REFUSAL}{refusal}"
            self._refused = True
        fold: list[Widget] = []
        if reasoning and self._thinking is None:
            self._thinking = _Thinking(reasoning)
            fold = [self._thinking.fold]
        elif reasoning and self._thinking is not None:
            self._thinking.add(reasoning)
        if isinstance(self._text, GrowingTokens):
            self._text.add(chunks)
            return fold, []
        return fold, self._text.add(text) if text else []


class _Thinking:
    """The folded thinking of an answer."""

    def __init__(self, text: str) -> None:
        self._text = GrowingText(FORMATS["text"])
        self._parts = Tall(self._text.add(text))
        self.fold = Accordion(children=[self._parts.box], selected_index=None, layout=snug_layout())
        self.fold.set_title(0, "Thinking")

    def add(self, text: str) -> None:
        added = self._text.add(text)
        if added:
            self._parts.add(added)

    def widgets(self) -> list[Widget]:
        return [self.fold, self._parts.box, *self._parts.within, *self._text.widgets()]
