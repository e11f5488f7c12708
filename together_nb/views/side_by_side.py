"""Answers side by side: columns of widgets while they stream, and a table at the end."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from IPython.display import display
from ipywidgets import HTML, Box, VBox

from together_nb.base.escape import visible
from together_nb.views import side_by_side_table
from together_nb.views.column import Column, column_css
from together_nb.views.layouts import close_all, html_style, plain_layout
from together_nb.views.live import WIDGET
from together_nb.views.parts import styled
from together_nb.views.text import SilentColumns, SilentView, wait_line, write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from together_nb.values.chunk import Chunk
    from together_nb.values.completion import Completion
    from together_nb.wire.retry import Wait
    from together_nb.wire.stream import CompletionStream

_QUEUED = "Queued"
_WITHIN = ".together-nb-columns"
_CSS = """
.together-nb-columns { overflow: visible; container-type: inline-size; color: var(--jp-ui-font-color1, #212121); background: var(--jp-layout-color0, #fff); }
.together-nb-columns > .widget-html { display: none; }
.together-nb-columns .jupyter-widgets { margin-left: 0; margin-right: 0; }
.together-nb-columns > .tnb-columns-row { display: grid; gap: 8px; margin: 0 0 8px; overflow: visible; --tnb-across: 1;
  grid-template-columns: repeat(auto-fill, minmax(max(min(220px, 100%), calc(100% / var(--tnb-across) - 8px)), 1fr)); }
.together-nb-columns > .tnb-across-2 { --tnb-across: 2; }
.together-nb-columns > .tnb-across-3 { --tnb-across: 3; }
.together-nb-columns > .tnb-across-4 { --tnb-across: 4; }
.together-nb-columns .tnb-column > .widget-html { height: auto; width: auto; }
.together-nb-columns .widget-html-content { white-space: normal; overflow-wrap: anywhere; align-self: auto; line-height: 1.45; }
.together-nb-columns .tnb-help > .widget-html-content { font-size: 11px; color: var(--jp-ui-font-color2, #616161); }
.together-nb-columns .tnb-end { overflow: hidden; min-height: 3em; }
.together-nb-columns .tnb-end > * { flex: 1 1 auto; min-width: 0; max-width: 100%; }
.together-nb-columns .tnb-end .jp-OutputArea-output { padding: 0; overflow-x: auto; overflow-wrap: anywhere; }
.together-nb-columns .tnb-end .jp-OutputArea-child { padding: 0; }
.together-nb-columns .tnb-end .jp-OutputPrompt, .together-nb-columns .tnb-end .jp-OutputArea-prompt { display: none; }
"""


class OnceColumns(SilentColumns):
    """One display at the end, for notebooks that run unattended."""

    def __init__(self, titles: Sequence[str], across: int, show: str) -> None:
        super().__init__(titles, across, show)
        self._ended: dict[int, tuple[Completion, BaseException | None]] = {}

    def column(self, number: int) -> SilentView:
        """The view of one answer."""
        return _ReportingView(self, number, SilentView())

    def ended(self, number: int, completion: Completion, error: BaseException | None) -> None:
        """Record how an answer ended."""
        self._ended[number] = (completion, error)

    def end(self) -> None:
        """Display the answers as they are saved."""
        if self._ended:
            bundle, metadata = self._saved()
            display(bundle, metadata=metadata, raw=True)

    def _saved(self) -> tuple[dict[str, str], dict[str, Any]]:
        ended = [(self._titles[number], *self._ended[number]) for number in sorted(self._ended)]
        return side_by_side_table.bundle(ended, self._across, self._show), side_by_side_table.metadata(ended)


class _ReportingView(SilentView):
    """A view that also reports how its answer ended."""

    def __init__(self, columns: OnceColumns, number: int, view: SilentView) -> None:
        self._columns = columns
        self._number = number
        self._view = view

    def start(self, stream: CompletionStream) -> None:
        self._view.start(stream)

    def write(self, chunks: list[Chunk]) -> None:
        self._view.write(chunks)

    def finish(self, completion: Completion, error: BaseException | None) -> None:
        self._columns.ended(self._number, completion, error)
        self._view.finish(completion, error)


class LiveColumns(OnceColumns):
    """Draws in the running cell; one table replaces the widgets at the end."""

    def __init__(self, titles: Sequence[str], across: int, show: str) -> None:
        super().__init__(titles, across, show)
        self._columns = [Column(title, _QUEUED, show=show) for title in titles]
        self._style = HTML(f"<style>{_CSS}{column_css(_WITHIN)}</style>", layout=plain_layout(), style=html_style())
        rows = side_by_side_table.in_rows([column.box for column in self._columns], across)
        width = max(map(len, rows), default=1)
        self._rows = [Box(one, **styled("columns-row", f"across-{width}")) for one in rows]
        self._root = VBox([self._style, *self._rows], layout=plain_layout(), _dom_classes=("together-nb-columns",))
        self._handle: Any = None

    def begin(self, streams: Sequence[CompletionStream]) -> None:  # noqa: ARG002  (each column is told of its own)
        """Show the columns."""
        view = {"version_major": 2, "version_minor": 0, "model_id": self._root.model_id}
        self._handle = display(
            {WIDGET: view, "text/plain": "(answers that are still streaming)"}, raw=True, display_id=uuid.uuid4().hex
        )

    def column(self, number: int) -> SilentView:
        """The view of one answer."""
        return _ReportingView(self, number, self._columns[number])

    def end(self) -> None:
        """Replace the widgets by the table, and close them."""
        try:
            if self._handle is not None:
                bundle, metadata = self._saved()
                self._handle.update(bundle, raw=True, metadata=metadata)
        finally:
            for column in self._columns:
                column.close()
            close_all((self._style, *self._rows, self._root))


class TerminalColumns(SilentColumns):
    """Writes each answer below its title, as it ends."""

    def column(self, number: int) -> SilentView:
        """The view of one answer."""
        return _Section(self._titles[number], self._show)


class _Section(SilentView):
    """Writes the waits of one answer, then its title and text."""

    def __init__(self, title: str, show: str) -> None:
        self._title = title
        self._show = show
        self._stream: CompletionStream | None = None
        self._wait: Wait | None = None

    def start(self, stream: CompletionStream) -> None:
        """Report the notes on the request, and keep the stream, to report its waits."""
        self._stream = stream
        for words in stream.notes:
            write(f"{self._title}: ({visible(words)})\n")

    def write(self, chunks: list[Chunk]) -> None:  # noqa: ARG002  (it is written whole, at its end)
        """Report a new wait."""
        wait = None if self._stream is None else self._stream.wait
        if wait is not None and wait is not self._wait:
            write(f"{self._title}: {wait_line(wait)}")
        self._wait = wait or self._wait

    def finish(self, completion: Completion, error: BaseException | None) -> None:
        """Write the answer."""
        write(f"── {self._title} ──\n{side_by_side_table.plain_text(completion, error, self._show)}\n\n")
