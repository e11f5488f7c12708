"""The Compare tab: one parameter over several values, or several models, side by side."""

from __future__ import annotations

from threading import RLock
from time import monotonic
from typing import TYPE_CHECKING, Any

from ipywidgets import Button, Dropdown, Text

from together_nb.base.interrupts import STOP_SECONDS
from together_nb.errors import InputError
from together_nb.panel.elements import Page, explained, icon_button
from together_nb.panel.status_line import State
from together_nb.run.background import BackgroundRun
from together_nb.values.parameters import PARAMETERS
from together_nb.values.variations import MODEL, combinations, values_of
from together_nb.views import column as columns
from together_nb.views.frontend import draws_from_threads
from together_nb.views.layouts import close_all
from together_nb.views.parts import DrawnValue, box, escaped, note, row
from together_nb.wire.retry import with_listener

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from together_nb.values.completion import Completion
    from together_nb.wire.retry import Wait
    from together_nb.wire.stream import CompletionStream

MOST = 8  # columns; more are too narrow to read
_EMPTY = "Choose what to vary and over which values; the answers to the prompt above stream side by side."


class CompareTab(Page):
    """Columns that stream at once, each with its own Stop button.

    Parameters
    ----------
    opener
        Values → a function that opens the stream of the panel's current request with these values changed.
    keep
        Keeps an answer, in its thread.
    changed
        Called, from any thread, when an answer has been added to the history.
    """

    title = "Compare"

    def __init__(
        self,
        opener: Callable[[dict[str, Any]], Callable[[], CompletionStream]],
        keep: Callable[[Completion], object],
        changed: Callable[[], None],
    ) -> None:
        self._opener = opener
        self._keep = keep
        self._changed = changed
        self.columns: list[StoppableColumn] = []
        self._telling = RLock()
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
        self._wrong = DrawnValue(note("wrong"))
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
        """Send a request for each value."""
        self.clear()
        try:
            wanted = self._wanted()
        except InputError as error:
            self._wrong.set(escaped(f"{error.message} {error.hint}"))
            return
        self.columns = [StoppableColumn(title, open_stream, self._keep, self._ended) for title, open_stream in wanted]
        self._row.children = tuple(column.box for column in self.columns)
        self._tell_buttons()
        begun = list(self.columns)
        for column in begun:
            if not column.begin():
                for other in begun:
                    other.stop()

    def stop(self) -> None:
        """Stop all columns."""
        for column in self.columns:
            column.stop()

    def clear(self) -> None:
        """Stop all columns and remove them."""
        old, self.columns = self.columns, []
        self._wrong.set("")
        self._row.children = (self._empty,)
        for column in old:
            column.close()
        self._tell_buttons()

    def close(self) -> None:
        """Stop all columns and their threads."""
        old = self.columns
        self.clear()
        deadline = monotonic() + STOP_SECONDS
        for column in old:
            column.run.join(max(deadline - monotonic(), 0))

    def _wanted(self) -> list[tuple[str, Callable[[], CompletionStream]]]:
        """The title of each column, and what opens its stream."""
        name = self.vary.value
        found = combinations({name: values_of(name, self.values.value)}).columns
        if len(found) > MOST:
            raise InputError(f"{len(found)} columns are more than fit side by side.", f"Take at most {MOST}.")
        return [(one.title, self._opener(one.values)) for one in found]

    def _suggest(self) -> None:
        """Suggest values to compare."""
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
        with self._telling:  # columns end in threads of their own
            self.stop_all.disabled = not self.running


class StoppableColumn:
    """One answer among several, with its own Stop button.

    Parameters
    ----------
    title
        What differs in this column.
    open_stream
        Opens its stream.
    keep
        Keeps the answer, in its thread.
    ended
        Called in its thread when it has ended, with the completion, if any.
    """

    def __init__(
        self,
        title: str,
        open_stream: Callable[[], CompletionStream],
        keep: Callable[[Completion], object],
        ended: Callable[[Completion | None], None],
    ) -> None:
        self._ended = ended
        self._stop = icon_button("stop-button", f"Stop {title}")
        self._stop.on_click(lambda _: self.stop())
        self._drawn = columns.Column(title, State.WAITING.value, beside=(self._stop,))
        self.box = self._drawn.box
        self.run = BackgroundRun(with_listener(self._waits, open_stream), self._drawn, keep)
        self.run.add_done_callback(self._done)

    def begin(self) -> bool:
        """Stream, in a thread if its drawing is shown, else here; False if the notebook's ■ stopped it."""
        if draws_from_threads():
            self.run.start()
            return True
        try:
            self.run.run()
        except KeyboardInterrupt:
            return False
        return True

    def stop(self) -> None:
        """Stop the stream. What has arrived is kept."""
        self.run.cancel()

    def close(self) -> None:
        """Stop it and remove it from the page."""
        self._drawn.close()  # nothing is drawn after this
        self.run.cancel()
        close_all((self._stop,))

    def _waits(self, wait: Wait) -> None:
        self._drawn.tell(str(wait))

    def _done(self, run: Future[Completion]) -> None:
        error = run.exception()
        if self._drawn.closed:
            return
        self._stop.disabled = True
        if self._drawn.completion is None:  # it ended before there was a stream
            if error is None or self.run.stopped or isinstance(error, KeyboardInterrupt):
                self._drawn.tell(State.STOPPED.value)
            else:
                self._drawn.fail(error)
        self._ended(self._drawn.completion)
