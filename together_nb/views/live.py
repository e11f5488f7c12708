"""The answer as it streams, in output widgets; at the end plain Markdown takes their place.

Each repaint sends only what is not sealed. ``Output.append_stdout`` would send everything again,
and ``with output:`` is not safe with threads (ipywidgets #2358); assigning ``outputs`` is both
cheap and safe.
"""

from __future__ import annotations

import html
import uuid
from typing import TYPE_CHECKING, Any

from IPython.display import display
from ipywidgets import HTML, Accordion, Layout, Output, VBox

from together_nb.completion import count
from together_nb.formats import FORMATS, Format
from together_nb.views.blocks import Blocks

if TYPE_CHECKING:
    from ipywidgets import Widget

    from together_nb.client import CompletionStream
    from together_nb.completion import Chunk, Completion

_WIDGET = "application/vnd.jupyter.widget-view+json"
_STATUS_SECONDS = 0.5


class GrowingText:
    """Text that grows in a box of outputs, one for each sealed part and one for the tail.

    Parameters
    ----------
    shown
        How to turn it into Markdown.
    layout
        Shared by the outputs: each layout of its own would be one more widget.
    """

    def __init__(self, shown: Format, layout: Layout) -> None:
        self._format = shown
        self._layout = layout
        self._blocks = Blocks(markdown=shown.markdown)
        self._tail = self._output("")
        self.box = VBox([self._tail], layout=layout)

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
        return Output(outputs=self._rendered(text), layout=self._layout)

    def _rendered(self, text: str) -> tuple[dict[str, Any], ...]:
        if not text:
            return ()
        data = {"text/markdown": self._format.partial(text)}
        return ({"output_type": "display_data", "data": data, "metadata": {}},)


class _Answer:
    """One choice: its thinking, folded, and its text."""

    def __init__(self, shown: Format, layout: Layout, title: str) -> None:
        self._text = GrowingText(shown, layout)
        self._layout = layout
        self._thinking: GrowingText | None = None
        self._fold: Accordion | None = None
        self._title = [HTML(f"<b>{title}</b>", layout=layout)] if title else []
        self.box = VBox([*self._title, self._text.box], layout=layout)

    def add(self, text: str, reasoning: str) -> None:
        if reasoning:
            if self._thinking is None:
                self._thinking = GrowingText(FORMATS["text"], self._layout)
                self._fold = Accordion(children=[self._thinking.box], selected_index=None, layout=self._layout)
                self._fold.set_title(0, "Thinking")
                self.box.children = (*self._title, self._fold, self._text.box)
            self._thinking.add(reasoning)
        if text:
            self._text.add(text)

    def widgets(self) -> list[Widget]:
        folded = [] if self._thinking is None else [self._fold, *self._thinking.widgets()]
        return [self.box, *self._title, *folded, *self._text.widgets()]


class LiveView:
    """Draws in the running cell.

    Parameters
    ----------
    shown
        The format.
    """

    def __init__(self, shown: Format) -> None:
        self._format = shown
        self._layout = Layout(margin="0", width="auto")
        self._status = HTML(layout=self._layout)
        self._answers: dict[int, _Answer] = {}
        self._root = VBox([self._status], layout=self._layout)
        self._stream: CompletionStream | None = None
        self._told = 0.0
        self._begun = False
        self._handle: Any = None

    def start(self, stream: CompletionStream) -> None:
        """Show that an answer is awaited."""
        self._stream = stream
        self._status.value = self._status_line()
        self._root.add_class("together-nb")
        view = {"version_major": 2, "version_minor": 0, "model_id": self._root.model_id}
        # Not display(widget): ipywidgets 7 displays itself, and gives no handle.
        self._handle = display(
            {_WIDGET: view, "text/plain": "(an answer that is still streaming)"}, raw=True, display_id=uuid.uuid4().hex
        )

    def write(self, chunks: list[Chunk]) -> None:
        """Draw what has come; the status line follows twice a second."""
        for index, text, reasoning in _joined(chunks):
            self._answer(index).add(text, reasoning)
        seconds = 0.0 if self._stream is None else self._stream.seconds
        if seconds - self._told >= _STATUS_SECONDS or (chunks and not self._begun):
            self._told = seconds
            self._begun = self._begun or bool(chunks)
            self._status.value = self._status_line()

    def finish(self, completion: Completion) -> None:
        """Put the plain Markdown in the place of the widgets, and close them."""
        if self._handle is not None:
            bundle = completion.bundle(self._format.name)
            self._handle.update(bundle, raw=True, metadata={"together_nb": completion.metadata()})
        widgets = [widget for answer in self._answers.values() for widget in answer.widgets()]
        for widget in (*widgets, self._status, self._root, self._layout):
            style = getattr(widget, "style", None)  # a widget of its own, in ipywidgets 8
            if style is not None:
                style.close()
            widget.close()

    def _answer(self, index: int) -> _Answer:
        if index not in self._answers:
            asked = 1 if self._stream is None else self._stream.request.sampling.n or 1
            title = f"Answer {index + 1}" if asked > 1 else ""
            self._answers[index] = _Answer(self._format, self._layout, title)
            answers = (self._answers[number].box for number in sorted(self._answers))
            self._root.children = (*answers, self._status)
        return self._answers[index]

    def _status_line(self) -> str:
        stream = self._stream
        if stream is None:
            return ""
        state = count(stream.chunks, "chunk") if stream.chunks else "waiting for the first token"
        line = f"{stream.request.model} · {state} · {stream.seconds:.1f} s"
        return f'<span style="opacity:.7;font-size:smaller">{html.escape(line)}</span>'


def _joined(chunks: list[Chunk]) -> list[tuple[int, str, str]]:
    """(index, text, thinking) of each choice in `chunks`."""
    texts: dict[int, tuple[list[str], list[str]]] = {}
    for chunk in chunks:
        text, reasoning = texts.setdefault(chunk.index, ([], []))
        text.append(chunk.text)
        reasoning.append(chunk.reasoning)
    return [(index, "".join(text), "".join(reasoning)) for index, (text, reasoning) in texts.items()]
