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
    """What draws answers side by side. All calls come from one thread, `begin` first and `end` last."""

    def begin(self, streams: Sequence[CompletionStream]) -> None:
        """Show that the answers are awaited, all of them still queued."""

    def column(self, number: int) -> View:
        """What draws the answer of that number, from 0; that it failed too. It may be finished without a start."""

    def end(self) -> None:
        """Leave what is to be saved; all columns are finished."""


def keep_partial(completion: Completion) -> None:
    """Add an answer to `session.history`, unless nothing of it came."""
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
    """Stream into columns, a few at once, until all have ended or Ctrl-C; one that fails leaves the others.

    Parameters
    ----------
    streams
        The streams, not yet read.
    view
        What draws them.
    at_once
        How many are read at once; the others wait for their turn.
    keep
        Called with each completion when it has ended, whole or not, before it is drawn to its end.
    keep_all
        Called with all of them, in the order of `streams`, before this returns or raises.

    Returns
    -------
    list of Completion
        In the order of `streams`. One that failed is there as far as it came, and its `error` says so.

    Raises
    ------
    TogetherError
        None has succeeded: the first one's error.
    KeyboardInterrupt
        Ctrl-C or the notebook's ■; what came is kept and shown.
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
                # Those that have ended are not touched by it.
                for lane in lanes:
                    lane.opened.cancel()
                if interrupts:
                    scope.cancel()
    errors = [lane.pump.error for lane in lanes if lane.pump.error is not None]
    if errors and len(errors) == len(lanes):
        raise errors[0]
    return [lane.completion for lane in lanes]


def _stream(lanes: list[_Lane], at_once: int, interrupts: list[int]) -> None:
    """Begin, draw and end them until all have ended or they are stopped."""
    queue = deque(lanes)
    live: list[_Lane] = []
    tick = threading.Event()  # which nobody sets
    while (queue or live) and not interrupts:
        while queue and len(live) < at_once:
            live.append(queue.popleft())
            live[-1].begin()
        live = [lane for lane in live if lane.drawn()]
        if live:
            tick.wait(_TICK)


class _Lane:
    """One of the streams, its reading and its drawing."""

    def __init__(self, stream: CompletionStream, view: View, keep: Callable[[Completion], object]) -> None:
        self.opened = stream
        self.pump = StreamThread(stream)
        self.completion = stream.completion
        self._view = view
        self._keep = keep
        self._due = 0.0
        self._ended = False

    def begin(self) -> None:
        driver.active.add(self.pump)
        self._view.start(self.opened)
        self.pump.start()

    def drawn(self) -> bool:
        """Draw what has come, if it is time to; False where nothing more will."""
        ended = self.pump.ended or self.opened.cancelled  # looked at first: what came before the end is drawn with it
        if ended:
            self.end()
        elif monotonic() >= self._due:
            self._view.write(self.pump.take())
            self._due = monotonic() + max(driver.REPAINT_SECONDS, len(driver.active) / driver.REPAINTS_IN_ALL)
        return not ended

    def end(self) -> None:
        """Keep what came, and draw it to its end."""
        if not self._ended:
            self._ended = True
            driver.active.discard(self.pump)
            driver.finish(self.opened, self.pump, self._view, self._kept)

    def _kept(self, completion: Completion) -> None:
        self.completion = completion
        error = self.pump.error
        if isinstance(error, TogetherError):
            error.completion = completion
        elif error is not None and not completion.error:
            completion.error = "failed"  # nothing of the stream's own, which says how it ended
        self._keep(completion)
