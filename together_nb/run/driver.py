"""Drives streams, one or several side by side: has them read, draws what arrives, and keeps the answers."""

from __future__ import annotations

from collections import deque
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING, Protocol

from together_nb.base.cancellation import CancelScope, cancel_with_scope
from together_nb.base.fork import after_fork
from together_nb.base.interrupts import STOP_SECONDS, TICK_SECONDS, defer_interrupts, interrupt_message, stopped
from together_nb.errors import TogetherError
from together_nb.run.reader import Bell, Reader
from together_nb.wire.retry import ignore_wait, listen_to_waits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from together_nb.values.chunk import Chunk
    from together_nb.values.completion import Completion
    from together_nb.wire.stream import CompletionStream

AT_ONCE = 4  # requests under way; the others are queued
REPAINT_SECONDS = 0.07  # 14 a second: each sends one to three messages, and a stream may send 25
REPAINTS_IN_ALL = 40  # a second, for all streams drawn at once: they share IOPub
active: set[Reader] = set()  # of the streams being drawn, in all threads
after_fork(active.clear)  # those threads are the parent's


class View(Protocol):
    """Draws an answer. All calls come from one thread, in this order.

    It also shows the waits before retries, `stream.wait`; without a view, whoever listens is told of them.
    """

    def start(self, stream: CompletionStream) -> None:
        """Show that an answer is awaited."""

    def write(self, chunks: list[Chunk]) -> None:
        """Draw what has arrived since the last call; an empty list means that time has passed."""

    def finish(self, completion: Completion, error: BaseException | None) -> None:
        """Leave what the notebook saves. `error` ended the stream; it is raised after this. Maybe without a start."""


class ColumnsView(Protocol):
    """Draws answers side by side. All calls come from one thread, `begin` first and `end` last."""

    def begin(self, streams: Sequence[CompletionStream]) -> None:
        """Show that the answers are awaited, all of them still queued."""

    def column(self, number: int) -> View:
        """Return the view of answer `number`, from 0."""

    def end(self) -> None:
        """Leave what the notebook saves; all columns are finished."""


def run(stream: CompletionStream, view: View | None, keep: Callable[[Completion], object]) -> Completion:
    """Stream into a view until the end, an error or Ctrl-C; what has arrived is always drawn and kept.

    Parameters
    ----------
    stream
        The stream. It is read in its own thread, so that the view is drawn while nothing arrives
        and Ctrl-C takes effect at once.
    view
        What draws it, if anything.
    keep
        Called with the completion, whole or partial, before this returns or raises.

    Raises
    ------
    TogetherError
        The request failed; the error's `completion` is the partial.
    KeyboardInterrupt
        Ctrl-C or the notebook's ■.
    """
    return run_side_by_side([stream], None if view is None else _One(view), keep=keep)[0]


class _One:
    """One view as the only column."""

    def __init__(self, view: View) -> None:
        self._view = view

    def begin(self, streams: Sequence[CompletionStream]) -> None:
        """Nothing to do."""

    def column(self, number: int) -> View:  # noqa: ARG002  (there is only one)
        """The view."""
        return self._view

    def end(self) -> None:
        """Nothing to do."""


def run_side_by_side(
    streams: Sequence[CompletionStream],
    view: ColumnsView | None,
    *,
    keep: Callable[[Completion], object],
    at_once: int = AT_ONCE,
    keep_all: Callable[[list[Completion]], object] | None = None,
) -> list[Completion]:
    """Stream into columns, a few at once, until all have ended or Ctrl-C; a failure leaves the others running.

    Parameters
    ----------
    streams
        The streams, not yet read.
    view
        What draws them, if anything.
    keep
        Called with each completion when it has ended, whole or partial, before the rest of it is drawn.
    at_once
        How many are read at once; the others wait for their turn.
    keep_all
        Called with all of them, in the order of `streams`, before this returns or raises.

    Returns
    -------
    list of Completion
        In the order of `streams`. A failed one is partial, and its `error` says so.

    Raises
    ------
    TogetherError
        All have failed: the first one's error; its `completion` is the partial.
    KeyboardInterrupt
        Ctrl-C or the notebook's ■; what has arrived is kept and shown.
    """
    bell = Bell()
    with (
        interrupt_message(lambda: stopped(kept=any(stream.chunks for stream in streams))),
        CancelScope() as scope,
        defer_interrupts(scope.cancel) as interrupts,
        nullcontext() if view is None else listen_to_waits(ignore_wait),
    ):
        for stream in streams:
            cancel_with_scope(stream)  # they may have been opened outside
        views = [None if view is None else view.column(number) for number in range(len(streams))]
        columns = [_Column(*one, keep, bell) for one in zip(streams, views, strict=True)]
        with ExitStack() as ends:
            if keep_all is not None:
                ends.callback(lambda: keep_all([column.completion for column in columns]))
            if view is not None:
                ends.callback(view.end)
            for column in reversed(columns):
                ends.callback(column.end)
            try:
                if view is not None:
                    view.begin(streams)
                _stream(columns, at_once, bell, interrupts)
            finally:
                scope.cancel()  # the streams that have ended are not affected
    errors = [column.reader.error for column in columns if column.reader.error is not None]
    if errors and len(errors) == len(columns):
        raise errors[0]
    return [column.completion for column in columns]


def _stream(columns: list[_Column], at_once: int, bell: Bell, interrupts: list[int]) -> None:
    """Begin, draw and end the columns, until all have ended or are stopped."""
    queue = deque(columns)
    live: list[_Column] = []
    while queue or live:
        # The first view is started in any case, so that it can show that it was stopped.
        while queue and len(live) < at_once and not (interrupts and live):
            live.append(queue.popleft())
            live[-1].begin(interrupts)
            if live[-1].reader.pulled:  # one after another: there is only this thread
                at_once = 1
        if interrupts:
            return
        pause = max(REPAINT_SECONDS, len(active) / REPAINTS_IN_ALL)
        if live[0].reader.pulled:
            live[0].reader.pull(pause)
        else:
            bell.arrived.wait(TICK_SECONDS)
        bell.arrived.clear()
        bell.ended.clear()  # before looking, so that no end is missed
        live = [column for column in live if not interrupts and column.draw()]
        if live and not live[0].reader.pulled:
            bell.ended.wait(pause)


class _Column:
    """One of the streams, with its reader and its view."""

    def __init__(
        self, stream: CompletionStream, view: View | None, keep: Callable[[Completion], object], bell: Bell
    ) -> None:
        self.stream = stream
        self.reader = Reader(stream, bell, hand_over=view is not None)
        self.completion = stream.completion
        self._view = view
        self._keep = keep
        self._ended = False

    def begin(self, interrupts: list[int]) -> None:
        if self._view is not None:
            active.add(self.reader)
            self._view.start(self.stream)
        if not interrupts:
            self.reader.start()

    def draw(self) -> bool:
        """Draw what has arrived; return False after the end."""
        ended = self.reader.ended or self.stream.cancelled  # read first, so that the last chunks are drawn too
        if ended:
            self.end()
        elif self._view is not None:
            self._view.write(self.reader.take())
        return not ended

    def end(self) -> None:
        """Keep the completion, and draw the rest of it."""
        if self._ended:
            return
        self._ended = True
        # A DNS look-up cannot be cancelled: without an answer, do not wait for it.
        self.reader.join(STOP_SECONDS if self.stream.answered or not self.stream.cancelled else TICK_SECONDS)
        self.completion, error = self.stream.completion, self.reader.error
        if isinstance(error, TogetherError):
            error.completion = self.completion
        elif error is not None and not self.completion.error:
            self.completion.error = "failed"  # not a `TogetherError`, for which the stream sets it
        try:
            self._keep(self.completion)  # first, so that a view that fails loses nothing
        finally:
            if self._view is not None:
                self._show_end(self._view, error)

    def _show_end(self, view: View, error: BaseException | None) -> None:
        try:
            view.write(self.reader.take())
        finally:
            active.discard(self.reader)
            view.finish(self.completion, error)
