"""Text that grows in output widgets, each repaint sending only what is not sealed.

``Output.append_stdout`` would send everything again, and ``with output:`` is not safe with threads
(ipywidgets #2358); assigning ``outputs`` is both cheap and safe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ipywidgets import HTML, Accordion, Output, VBox

from together_nb.formats import FORMATS, Format
from together_nb.views.blocks import Blocks
from together_nb.views.shared import close_all, close_in_time, html_style, snug_layout
from together_nb.views.tokens import GrowingTokens

if TYPE_CHECKING:
    from ipywidgets import Widget

    from together_nb.client import CompletionStream
    from together_nb.completion import Chunk


class GrowingText:
    """Text that grows in outputs, one for each sealed part and one for the tail.

    Parameters
    ----------
    shown
        How to turn it into Markdown.

    Attributes
    ----------
    parts : list of Widget
        What shows it, from top to bottom.
    """

    def __init__(self, shown: Format) -> None:
        self._format = shown
        self._blocks = Blocks(markdown=shown.markdown)
        self.parts: list[Widget] = []

    def add(self, text: str) -> bool:
        """Draw `text` after what is drawn; whether there are more parts now."""
        sealed = self._blocks.add(text)
        texts = [sealed, self._blocks.tail] if sealed else [self._blocks.tail]
        if self.parts:
            self.parts[-1].outputs = self._rendered(texts.pop(0))
        self.parts += [Output(outputs=self._rendered(one), layout=snug_layout()) for one in texts]
        return bool(texts)

    def widgets(self) -> list[Widget]:
        """All widgets of it."""
        return self.parts

    def _rendered(self, text: str) -> tuple[dict[str, Any], ...]:
        if not text:
            return ()
        data = {"text/markdown": self._format.partial(text)}
        return ({"output_type": "display_data", "data": data, "metadata": {}},)


class GrowingAnswers:
    """All answers to one request, in the order of their numbers; each with its thinking, folded, above it.

    Parameters
    ----------
    shown
        How to turn them into Markdown.
    stream
        What they come from; where more than one was asked for, each has a title.
    """

    def __init__(self, shown: Format, stream: CompletionStream) -> None:
        self._format = shown
        self._several = (stream.request.sampling.n or 1) > 1
        self._answers: dict[int, _Answer] = {}
        self._boxes: dict[int, VBox] = {}  # of several answers, one each
        self._box: VBox | None = None

    @property
    def box(self) -> VBox:
        """What they stand in. It is made when it is first asked for, with what has come: each change is a message."""
        if self._box is None:
            self._box = VBox(self._children(), layout=snug_layout())
        return self._box

    def add(self, chunks: list[Chunk]) -> None:
        """Draw `chunks` after what is drawn, all of a repaint at once."""
        answers: dict[int, list[Chunk]] = {}
        for chunk in chunks:
            answers.setdefault(chunk.index, []).append(chunk)
        more = False  # whether the box has other children now
        for index, theirs in answers.items():
            new = index not in self._answers
            if new:
                self._answers[index] = _Answer(self._format, f"Answer {index + 1}" if self._several else "")
            changed = self._answers[index].add(theirs)
            if self._several and changed and not new:
                self._boxes[index].children = self._answers[index].children()
            elif self._several and new:
                self._boxes[index] = VBox(self._answers[index].children(), layout=snug_layout())
            more = more or new or (changed and not self._several)
        if more and self._box is not None:
            self._box.children = self._children()

    def close(self) -> None:
        """Take it from the page and the kernel."""
        close_all((*self._boxes.values(), *([] if self._box is None else [self._box])))
        close_in_time([widget for answer in self._answers.values() for widget in answer.widgets()])

    def _children(self) -> list[Widget]:
        if self._several:
            return [box for _, box in sorted(self._boxes.items())]
        return [child for _, answer in sorted(self._answers.items()) for child in answer.children()]


class _Answer:
    """One answer: its thinking, folded, and its text."""

    def __init__(self, shown: Format, title: str) -> None:
        self._title = [HTML(f"<b>{title}</b>", layout=snug_layout(), style=html_style())] if title else []
        self._thinking: _Thinking | None = None
        self._text = GrowingTokens() if shown.of_tokens else GrowingText(shown)

    def children(self) -> list[Widget]:
        """What stands in its box."""
        return [*self._title, *([] if self._thinking is None else [self._thinking.fold]), *self._text.parts]

    def add(self, chunks: list[Chunk]) -> bool:
        """Draw what has come; whether its children are others now."""
        before = self._thinking, len(self._text.parts)
        text, reasoning = ("".join(parts) for parts in zip(*((one.text, one.reasoning) for one in chunks), strict=True))
        if reasoning and self._thinking is None:
            self._thinking = _Thinking(reasoning)
        elif reasoning and self._thinking is not None:
            self._thinking.add(reasoning)
        if isinstance(self._text, GrowingTokens):
            self._text.add(chunks)
        elif text:
            self._text.add(text)
        return before != (self._thinking, len(self._text.parts))

    def widgets(self) -> list[Widget]:
        thinking = [] if self._thinking is None else self._thinking.widgets()
        return [*self._title, *thinking, *self._text.widgets()]


class _Thinking:
    """A model's thinking, which the reader may unfold."""

    def __init__(self, text: str) -> None:
        self._text = GrowingText(FORMATS["text"])
        self._text.add(text)
        self._box = VBox(self._text.parts, layout=snug_layout())
        self.fold = Accordion(children=[self._box], selected_index=None, layout=snug_layout())
        self.fold.set_title(0, "Thinking")

    def add(self, text: str) -> None:
        if self._text.add(text):
            self._box.children = self._text.parts

    def widgets(self) -> list[Widget]:
        return [self.fold, self._box, *self._text.widgets()]
