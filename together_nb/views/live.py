"""The streaming answer, in output widgets; plain Markdown replaces them at the end."""

from __future__ import annotations

import html
import uuid
from typing import TYPE_CHECKING, Any

from IPython.display import display
from ipywidgets import HTML, Button, HBox, Layout, VBox

from together_nb.base.escape import visible
from together_nb.base.fences import fenced
from together_nb.base.wording import count
from together_nb.errors import TogetherError
from together_nb.render.token_html import literal_html
from together_nb.views.growing_text import GrowingAnswers
from together_nb.views.layouts import button_style, close_all, html_style, snug_layout
from together_nb.views.text import SilentView

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipywidgets import Widget

    from together_nb.render.formats import Format
    from together_nb.values.chunk import Chunk
    from together_nb.values.completion import Completion
    from together_nb.wire.retry import Wait
    from together_nb.wire.stream import CompletionStream

WIDGET = "application/vnd.jupyter.widget-view+json"
_STATUS_SECONDS = 0.5
# Without a kernel, Stop does nothing: hide it.
_GONE = """<style>.together-nb.jupyter-widgets-disconnected .jupyter-button,
.together-nb.jupyter-widgets-disconnected .jupyter-widgets-disconnected::before { display: none; }
.together-nb.jupyter-widgets-disconnected::after { opacity: .7; font-size: smaller;
  content: "The kernel ended before the answer did. Run this cell again."; }</style>"""


class LiveView(SilentView):
    """Draws in the running cell.

    Parameters
    ----------
    shown
        The format.
    """

    _way_out = " · ■ stops"  # added to a wait; the cell has no button of its own

    def __init__(self, shown: Format) -> None:
        self._format = shown
        self._status: HTML | None = None
        self._foot: Widget | None = None
        self._root: VBox | None = None
        self._answers: GrowingAnswers | None = None
        self._stream: CompletionStream | None = None
        self._told = 0.0
        self._wait: Wait | None = None
        self._handle: Any = None

    def start(self, stream: CompletionStream) -> None:
        """Show that an answer is awaited."""
        self._stream = stream
        # Made with their content: each change would be a message.
        self._status = HTML(self._status_line(), layout=snug_layout(), style=html_style())
        self._foot = self._below(self._status)
        self._root = VBox([self._foot], layout=snug_layout(), _dom_classes=("together-nb",))
        view = {"version_major": 2, "version_minor": 0, "model_id": self._root.model_id}
        # Not display(widget): in ipywidgets 7 it returns no handle.
        self._handle = display(
            {WIDGET: view, "text/plain": "(an answer that is still streaming)"}, raw=True, display_id=uuid.uuid4().hex
        )

    def write(self, chunks: list[Chunk]) -> None:
        """Draw new chunks; update the status line twice a second."""
        stream, root, status = self._stream, self._root, self._status
        if stream is None or root is None or status is None:
            return
        first = bool(chunks) and self._answers is None
        if first:
            self._answers = GrowingAnswers(self._format, stream)
        if self._answers is not None:
            self._answers.add(chunks)
            if first:
                root.children = (self._answers.box, self._foot)
        wait, seconds = stream.wait, stream.seconds
        if first or wait is not self._wait or seconds - self._told >= _STATUS_SECONDS:
            self._told, self._wait = seconds, wait
            status.value = self._status_line()

    def finish(self, completion: Completion, error: BaseException | None) -> None:
        """Replace the widgets by plain Markdown, and close them."""
        if self._handle is not None:
            bundle = self._bundle(completion, error)
            self._handle.update(bundle, raw=True, metadata={"together_nb": completion.metadata()})
        if self._answers is not None:
            self._answers.close()
        close_all(widget for widget in (self._status, self._foot, self._root) if widget is not None)

    def _below(self, status: HTML) -> Widget:
        """The widget below the answer."""
        return status

    def _bundle(self, completion: Completion, error: BaseException | None) -> dict[str, str]:  # noqa: ARG002
        """The saved output; IPython shows an error, which ends the cell."""
        return completion.bundle(self._format.name)

    def _status_line(self) -> str:
        stream = self._stream
        if stream is None:
            return ""
        if stream.wait is not None:
            state = f"{stream.wait}{self._way_out}"
        else:
            state = count(stream.chunks, "chunk") if stream.chunks else "waiting for the first token"
        line = " · ".join((stream.request.model, state, f"{stream.seconds:.1f} s", *stream.notes))
        return f'<span style="opacity:.7;font-size:smaller">{html.escape(visible(line))}</span>'


class BackgroundView(LiveView):
    """Draws below a cell that has returned, with a Stop button; shows the error itself.

    Parameters
    ----------
    shown
        The format.
    stop
        Called by the button.
    """

    _way_out = ""

    def __init__(self, shown: Format, stop: Callable[[], Any]) -> None:
        self._button = Button(
            description="Stop",
            icon="stop",
            tooltip="End this answer; what came is kept",
            layout=Layout(width="auto"),
            style=button_style(),
        )
        self._button.on_click(lambda _: stop())
        super().__init__(shown)

    def start(self, stream: CompletionStream) -> None:
        """Show that an answer is awaited; only the first call, in the cell's thread, displays anything."""
        if self._handle is None:
            super().start(stream)

    def finish(self, completion: Completion, error: BaseException | None) -> None:
        """Replace the widgets by plain Markdown, and close them."""
        super().finish(completion, error)
        close_all((self._button,))

    def _below(self, status: HTML) -> Widget:
        return HBox([self._button, status], layout=Layout(align_items="center", width="auto"))

    def _status_line(self) -> str:
        return _GONE + super()._status_line()

    def _bundle(self, completion: Completion, error: BaseException | None) -> dict[str, str]:
        bundle = super()._bundle(completion, error)
        if error is None:
            return bundle
        words = visible(f"{type(error).__name__}: {error}" if isinstance(error, TogetherError) else repr(error))
        added = {"text/markdown": fenced(words), "text/plain": words, "text/html": f"<pre>{literal_html(words)}</pre>"}
        return {kind: f"{text}\n\n{added[kind]}" for kind, text in bundle.items()}
