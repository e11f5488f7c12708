"""Drives several streams side by side, a few at once."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import ExitStack
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from together_nb.base.cancellation import CancelScope
from together_nb.base.interrupts import defer_interrupts, interrupt_message
from together_nb.errors import TogetherError
from together_nb.run import driver, history
from together_nb.run.stream_thread import StreamThread
from together_nb.wire.retry import ignore_wait, listen_to_waits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from together_nb.run.driver import View
    from together_nb.run.stream import CompletionStream
    from together_nb.values.completion import Completion

AT_ONCE = 4  # requests under way; the others are queued
_TICK = 0.02  # seconds; how soon an end or Ctrl-C is seen


class ColumnsView(Protocol):
    """Draws answers side by side. All calls come from one thread, `begin` first and `end` last."""

    def begin(self, streams: Sequence[CompletionStream]) -> None:
        """Show that the answers are awaited, all of them still queued."""

    def column(self, number: int) -> View:
        """Return the view of answer `number`, from 0, or of its failure. It may finish without a start."""

    def end(self) -> None:
        """Leave what the notebook saves; all columns are finished."""


def keep_partial(completion: Completion) -> None:
    """Add an answer to `history`, unless nothing of it arrived."""
    if not completion.came_to_nothing:
        history.history.append(completion)


def run_side_by_side(
    streams: Sequence[CompletionStream],
    view: ColumnsView,
    *,
    at_once: int = AT_ONCE,
    keep: Callable[[Completion], object] = keep_partial,
    keep_all: Callable[[list[Completion]], object] | None = None,
) -> list[Completion]:
    """Stream into columns, a few at once, until all have ended or Ctrl-C; a failure leaves the others running.

    Parameters
    ----------
    streams
        The streams, not yet read.
    view
        What draws them.
    at_once
        How many are read at once; the others wait for their turn.
    keep
        Called with each completion when it has ended, whole or partial, before the rest of it is drawn.
    keep_all
        Called with all of them, in the order of `streams`, before this returns or raises.

    Returns
    -------
    list of Completion
        In the order of `streams`. A failed one is partial, and its `error` says so.

    Raises
    ------
    TogetherError
        All have failed: the first one's error.
    KeyboardInterrupt
        Ctrl-C or the notebook's ■; what has arrived is kept and shown.
    """
    with (
        interrupt_message("stopped by you; what came is kept."),
        defer_interrupts() as interrupts,
        CancelScope() as scope,
        listen_to_waits(ignore_wait),
    ):
        lanes = [_Lane(stream, view.column(number), keep) for number, stream in enumerate(streams)]
        with ExitStack() as ends:
            if keep_all is not None:
                ends.callback(lambda: keep_all([lane.completion for lane in lanes]))
            ends.callback(view.end)
            for lane in reversed(lanes):
                ends.callback(lane.end)
            try:
                view.begin(streams)
                _stream(lanes, at_once, interrupts)
            finally:
                # Those that have ended are not affected.
                for lane in lanes:
                    lane.stream.cancel()
                if interrupts:
                    scope.cancel()
    errors = [lane.thread.error for lane in lanes if lane.thread.error is not None]
    if errors and len(errors) == len(lanes):
        raise errors[0]
    return [lane.completion for lane in lanes]


def _stream(lanes: list[_Lane], at_once: int, interrupts: list[int]) -> None:
    """Begin, draw and end the lanes, until all have ended or are stopped."""
    queue = deque(lanes)
    live: list[_Lane] = []
    tick = threading.Event()  # never set
    while (queue or live) and not interrupts:
        while queue and len(live) < at_once:
            live.append(queue.popleft())
            live[-1].begin()
        live = [lane for lane in live if lane.drawn()]
        if live:
            tick.wait(_TICK)


class _Lane:
    """One of the streams, with its thread and its view."""

    def __init__(self, stream: CompletionStream, view: View, keep: Callable[[Completion], object]) -> None:
        self.stream = stream
        self.thread = StreamThread(stream)
        self.completion = stream.completion
        self._view = view
        self._keep = keep
        self._due = 0.0
        self._ended = False

    def begin(self) -> None:
        driver.active.add(self.thread)
        self._view.start(self.stream)
        self.thread.start()

    def drawn(self) -> bool:
        """Draw what has arrived, if it is time to; return False after the end."""
        ended = self.thread.ended or self.stream.cancelled  # read first, so that the last chunks are drawn too
        if ended:
            self.end()
        elif monotonic() >= self._due:
            self._view.write(self.thread.take())
            self._due = monotonic() + max(driver.REPAINT_SECONDS, len(driver.active) / driver.REPAINTS_IN_ALL)
        return not ended

    def end(self) -> None:
        """Keep the completion, and draw the rest of it."""
        if not self._ended:
            self._ended = True
            driver.active.discard(self.thread)
            driver.finish(self.stream, self.thread, self._view, self._kept)

    def _kept(self, completion: Completion) -> None:
        self.completion = completion
        error = self.thread.error
        if isinstance(error, TogetherError):
            error.completion = completion
        elif error is not None and not completion.error:
            completion.error = "failed"  # not a `TogetherError`, for which the stream sets it
        self._keep(completion)
