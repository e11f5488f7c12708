"""Text that grows in output widgets, each repaint sending only what is not sealed.

``Output.append_stdout`` would send everything again, and ``with output:`` is not safe with threads
(ipywidgets #2358); assigning ``outputs`` is both cheap and safe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ipywidgets import HTML, Accordion, Output, VBox

from together_nb.formats import FORMATS, Format
from together_nb.views.blocks import Blocks
from together_nb.views.shared import close_all, snug_layout
from together_nb.views.tokens import GrowingTokens

if TYPE_CHECKING:
    from ipywidgets import Widget

    from together_nb.client import CompletionStream
    from together_nb.completion import Chunk


class GrowingText:
    """Text that grows in a box of outputs, one for each sealed part and one for the tail.

    Parameters
    ----------
    shown
        How to turn it into Markdown.
    """

    def __init__(self, shown: Format) -> None:
        self._format = shown
        self._blocks = Blocks(markdown=shown.markdown)
        self._tail = self._output("")
        self.box = VBox([self._tail], layout=snug_layout())

    def add(self, text: str) -> None:
        """Draw `text` after what is drawn."""
        sealed = self._blocks.add(text)
        if sealed:
            self._tail.outputs = self._rendered(sealed)
            self._tail = self._output(self._blocks.tail)
            self.box.children = (*self.box.children, self._tail)
        else:
            self._tail.outputs = self._rendered(self._blocks.tail)

    def widgets(self) -> list[Widget]:
        """All widgets of it."""
        return [self.box, *self.box.children]

    def _output(self, text: str) -> Output:
        return Output(outputs=self._rendered(text), layout=snug_layout())

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
        self.box = VBox(layout=snug_layout())

    def add(self, chunks: list[Chunk]) -> None:
        """Draw `chunks` after what is drawn, all of a repaint at once."""
        answers: dict[int, list[Chunk]] = {}
        for chunk in chunks:
            answers.setdefault(chunk.index, []).append(chunk)
        for index, theirs in answers.items():
            self._answer(index).add(theirs)

    def close(self) -> None:
        """Take it from the page and the kernel."""
        close_all((*(widget for answer in self._answers.values() for widget in answer.widgets()), self.box))

    def _answer(self, index: int) -> _Answer:
        if index not in self._answers:
            title = f"Answer {index + 1}" if self._several else ""
            inner = VBox(layout=snug_layout()) if self._several else self.box
            self._answers[index] = _Answer(self._format, inner, title)
            if self._several:
                self.box.children = tuple(self._answers[number].box for number in sorted(self._answers))
        return self._answers[index]


class _Answer:
    """One answer in a box: its thinking, folded, and its text."""

    def __init__(self, shown: Format, box: VBox, title: str) -> None:
        self._text = GrowingTokens() if shown.of_tokens else GrowingText(shown)
        self._thinking: GrowingText | None = None
        self._fold: Accordion | None = None
        self._title = [HTML(f"<b>{title}</b>", layout=snug_layout())] if title else []
        self.box = box
        self.box.children = (*self._title, self._text.box)

    def add(self, chunks: list[Chunk]) -> None:
        text, reasoning = ("".join(parts) for parts in zip(*((one.text, one.reasoning) for one in chunks), strict=True))
        if reasoning:
            if self._thinking is None:
                self._thinking = GrowingText(FORMATS["text"])
                self._fold = Accordion(children=[self._thinking.box], selected_index=None, layout=snug_layout())
                self._fold.set_title(0, "Thinking")
                self.box.children = (*self._title, self._fold, self._text.box)
            self._thinking.add(reasoning)
        if isinstance(self._text, GrowingTokens):
            self._text.add(chunks)
        elif text:
            self._text.add(text)

    def widgets(self) -> list[Widget]:
        folded = [] if self._thinking is None else [self._fold, *self._thinking.widgets()]
        return [self.box, *self._title, *folded, *self._text.widgets()]
