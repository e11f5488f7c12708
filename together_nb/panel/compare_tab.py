"""The Compare tab: one parameter over several values, or several models, side by side."""

from __future__ import annotations

import threading
from time import monotonic
from typing import TYPE_CHECKING, Any

from ipywidgets import Button, Dropdown, Text

from together_nb import session
from together_nb.background import BackgroundRun
from together_nb.errors import InputError
from together_nb.formats import AUTO, format_for
from together_nb.frontend import draws_from_threads
from together_nb.panel.parts import Page, Shown, box, close_tree, explained, icon_button, note, row, said, sentences
from together_nb.panel.status import State
from together_nb.params import PARAMETERS
from together_nb.retry import telling
from together_nb.views.growing import GrowingAnswers

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from together_nb.client import CompletionStream
    from together_nb.completion import Chunk, Completion
    from together_nb.retry import Wait

MODEL = "model"
MOST = 8  # columns; more are too narrow to be read
_EMPTY = "Choose what to vary and over which values; the answers to the prompt above stream side by side."
_STATUS_SECONDS = 0.5
_STOP_SECONDS = 2.0


class CompareTab(Page):
    """Columns that stream at once, each with a Stop of its own.

    Parameters
    ----------
    opener
        Some values → what gives the stream of the panel's request as it stands now, with these changed.
    changed
        Called, from any thread, when an answer has been added to the history.
    """

    title = "Compare"

    def __init__(
        self, opener: Callable[[dict[str, Any]], Callable[[], CompletionStream]], changed: Callable[[], None]
    ) -> None:
        self._opener = opener
        self._changed = changed
        self.columns: list[Column] = []
        names = [name for name, parameter in PARAMETERS.items() if parameter.type is not dict]
        self.vary = explained(
            Dropdown(description="vary", options=[*names, MODEL], value="temperature"),
            "What differs between the columns",
        )
        self.values = explained(
            Text(description="over", continuous_update=False, placeholder="values with commas between them"),
            f"Values with commas between them, at most {MOST}; unset is one too",
        )
        self.go = Button(description="Compare", icon="columns", tooltip="Ask once for each value")
        self.stop_all = Button(description="Stop all", icon="stop", disabled=True, tooltip="End all; what came is kept")
        self._wrong = Shown(note("wrong"))
        self._empty = note("empty", _EMPTY)
        self._row = row("columns-scroll", self._empty)
        self.box = box(
            "page", row("compare-head", self.vary, self.values, self.go, self.stop_all), self._wrong.widget, self._row
        )
        self.vary.observe(lambda _: self._suggest(), names="value")
        self.go.on_click(lambda _: self.compare())
        self.stop_all.on_click(lambda _: self.stop())
        self._suggest()

    @property
    def running(self) -> bool:
        """Whether any column streams."""
        return any(not column.run.done() for column in self.columns)

    def compare(self) -> None:
        """Ask once for each value."""
        self.clear()
        try:
            wanted = self._wanted()
        except InputError as error:
            self._wrong.set(said(f"{error.message} {error.hint}"))
            return
        self.columns = [Column(title, opened, self._ended) for title, opened in wanted]
        self._row.children = tuple(column.box for column in self.columns)
        self._tell_buttons()
        columns = list(self.columns)
        for column in columns:
            if not column.begin():
                for other in columns:
                    other.stop()

    def stop(self) -> None:
        """End all columns."""
        for column in self.columns:
            column.stop()

    def clear(self) -> None:
        """End all columns and take them away."""
        old, self.columns = self.columns, []
        self._wrong.set("")
        self._row.children = (self._empty,)
        for column in old:
            column.close()
        self._tell_buttons()

    def close(self) -> None:
        """End all columns, their threads too."""
        old = self.columns
        self.clear()
        deadline = monotonic() + _STOP_SECONDS
        for column in old:
            column.run.join(max(deadline - monotonic(), 0))

    def _wanted(self) -> list[tuple[str, Callable[[], CompletionStream]]]:
        """The title of each column, and what gives its stream."""
        name = self.vary.value
        typed = list(dict.fromkeys(text.strip() for text in self.values.value.split(",") if text.strip()))
        if not typed:
            raise InputError("There is no value to compare.", "Type some, with commas between them.")
        if len(typed) > MOST:
            raise InputError(f"{len(typed)} columns are more than fit side by side.", f"Take at most {MOST}.")
        values = typed if name == MODEL else [PARAMETERS[name].parse(text) for text in typed]
        titles = typed if name == MODEL else [f"{name} = {text}" for text in typed]
        return [(title, self._opener({name: value})) for title, value in zip(titles, values, strict=True)]

    def _suggest(self) -> None:
        """Values worth a look."""
        name = self.vary.value
        parameter = PARAMETERS.get(name)
        if parameter is None:
            self.values.value = ""
            self.values.placeholder = "ids of models, with commas between them"
            return
        values: list[Any] = list(parameter.choices) or ([False, True] if parameter.type is bool else [])
        if parameter.slider is not None:
            low, high, _ = parameter.slider
            values = [low, (low + high) / 2, high]
            values = [int(value) for value in values] if parameter.type is int else values
        self.values.value = ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)

    def _ended(self, completion: Completion | None) -> None:
        if completion is not None:
            self._changed()
        self._tell_buttons()

    def _tell_buttons(self) -> None:
        running = self.running
        if self.stop_all.disabled == running:
            self.stop_all.disabled = not running


class Column:
    """One answer among several: a `View` of its own.

    Parameters
    ----------
    title
        What is different here.
    opened
        Gives its stream.
    ended
        Called, in its thread, when it has ended, with the completion if one came.
    """

    def __init__(
        self, title: str, opened: Callable[[], CompletionStream], ended: Callable[[Completion | None], None]
    ) -> None:
        self.completion: Completion | None = None
        self._lock = threading.Lock()  # between what its thread draws and its being closed
        self._closed = False
        self._told = 0.0
        self._ended = ended
        self._stream: CompletionStream | None = None
        self._growing: GrowingAnswers | None = None
        self._foot = Shown(note("help", State.WAITING.value))
        self._stop = icon_button("stop-button", f"Stop {title}")
        self._stop.on_click(lambda _: self.stop())
        self._end = row("end")
        self.box = box("column", note("column-title", title), self._stop, self._end, self._foot.widget)
        self.run = BackgroundRun(telling(self._waits, opened), self, self._keep)
        self.run.add_done_callback(self._done)

    def begin(self) -> bool:
        """Stream, in a thread where what it draws is shown, else here; False where the notebook's ■ ended it."""
        if draws_from_threads():
            self.run.start()
            return True
        try:
            self.run.run()
        except KeyboardInterrupt:
            return False
        return True

    def stop(self) -> None:
        """End it; what came is kept."""
        self.run.cancel()

    def close(self) -> None:
        """End it and take it from the page."""
        with self._lock:  # nothing is drawn from now on
            self._closed = True
            growing = self._growing
        self.run.cancel()
        if growing is not None:
            growing.close()
        self._end.children = ()
        close_tree(self.box)

    def start(self, stream: CompletionStream) -> None:
        """It is asked for."""
        self._stream = stream
        with self._lock:
            if not self._closed:
                self._growing = GrowingAnswers(format_for(AUTO, chat=stream.dialect.chat), stream)
                self._end.children = (self._growing.box,)

    def write(self, chunks: list[Chunk]) -> None:
        """Draw what has come; the line below follows twice a second."""
        stream = self._stream
        with self._lock:
            if self._closed or stream is None or self._growing is None:
                return
            if chunks:
                self._growing.add(chunks)
            if stream.wait is not None:
                self._foot.set(said(str(stream.wait)))
            elif not stream.chunks:
                self._foot.set(State.WAITING.value)
            elif not self._told or stream.seconds - self._told >= _STATUS_SECONDS:
                self._told = stream.seconds
                self._foot.set(f"{stream.chunks:,} chunks · {stream.seconds:.1f} s")

    def _waits(self, wait: Wait) -> None:
        with self._lock:
            if not self._closed:
                self._foot.set(said(str(wait)))

    def finish(self, completion: Completion, error: BaseException | None) -> None:  # noqa: ARG002  (`_done` tells it)
        """Show how it ended."""
        self.completion = completion
        with self._lock:
            if not self._closed:
                self._foot.set(said(completion.footer()))

    def _keep(self, completion: Completion) -> None:
        if not completion.came_to_nothing:
            session.history.append(completion)

    def _done(self, run: Future[Completion]) -> None:
        error = run.exception()
        with self._lock:
            if self._closed:
                return
            self._stop.disabled = True
            if error is not None and not self.run.stopped and not isinstance(error, KeyboardInterrupt):
                words = " ".join(sentences(error))
                came = "" if self.completion is None else f"<br>{said(self.completion.footer())}"
                self._foot.set(f'<span class="tnb-failed">{said(words)}</span>{came}')
            elif self.completion is None:
                self._foot.set(State.STOPPED.value)
        self._ended(self.completion)
