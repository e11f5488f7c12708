"""Drives one stream: reads it in a thread, draws it in a view, and keeps the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from together_nb.base.cancellation import CancelScope
from together_nb.base.fork import after_fork
from together_nb.base.interrupts import defer_interrupts, interrupt_message
from together_nb.errors import TogetherError
from together_nb.run.stream_thread import StreamThread
from together_nb.wire.retry import ignore_wait, listen_to_waits

if TYPE_CHECKING:
    from collections.abc import Callable

    from together_nb.run.stream import CompletionStream
    from together_nb.values.chunk import Chunk
    from together_nb.values.completion import Completion
from together_nb.run.history import history, unanswered

REPAINT_SECONDS = 0.07  # 14 a second: each sends a message or three, and a stream may send 25
REPAINTS_IN_ALL = 40  # a second, of all streams that are drawn at once: IOPub is one for all
TICK_SECONDS = 0.05  # a waiting view is told that time passes; also bounds Ctrl-C
_STOP_SECONDS = 2.0
_UNANSWERED_SECONDS = 0.15
active: set[StreamThread] = set()  # the streams that are being drawn, by whatever threads
after_fork(active.clear)  # those threads are the parent's


class View(Protocol):
    """What draws an answer. All calls come from one thread, in this order."""

    def start(self, stream: CompletionStream) -> None:
        """Show that an answer is awaited."""

    def write(self, chunks: list[Chunk]) -> None:
        """Draw what has come since the last call; an empty list says that time has passed."""

    def finish(self, completion: Completion, error: BaseException | None) -> None:
        """Leave what is to be saved. `error` is what it ended with, and is raised by `run` after this."""


class SilentView:
    """Draws nothing: the answer is in the variable."""

    def start(self, stream: CompletionStream) -> None:
        """Nothing to do."""

    def write(self, chunks: list[Chunk]) -> None:
        """Nothing to do."""

    def finish(self, completion: Completion, error: BaseException | None) -> None:
        """Nothing to do."""


def run(stream: CompletionStream, view: View, keep: Callable[[Completion], None] = history.append) -> Completion:
    """Stream into a view until the end, an error or Ctrl-C; what came is drawn and kept in each case.

    Parameters
    ----------
    stream
        The stream; it is read in a thread of its own, so that the view can be drawn when nothing
        comes and Ctrl-C is never waited for.
    view
        What draws it.
    keep
        Called with the completion, whole or not, before this returns or raises.

    Raises
    ------
    TogetherError
        What went wrong; its `completion` is what came.
    KeyboardInterrupt
        Ctrl-C or the notebook's ■.
    """
    # Of a wait the view tells, which sees it at the stream.
    with (
        interrupt_message("stopped by you; what came is kept."),
        defer_interrupts() as interrupts,
        CancelScope() as scope,
        listen_to_waits(ignore_wait),
    ):
        pump = StreamThread(stream)
        active.add(pump)
        try:
            view.start(stream)
            if not interrupts:
                pump.start()
            _draw(stream, pump, view, interrupts)
            if interrupts:
                stream.cancel()
                scope.cancel()
        except BaseException:
            stream.cancel()
            scope.cancel()
            raise
        finally:
            active.discard(pump)
            completion = finish(stream, pump, view, keep)
    if pump.error is not None:
        if isinstance(pump.error, TogetherError):
            pump.error.completion = completion
        raise pump.error
    return completion


def _draw(stream: CompletionStream, pump: StreamThread, view: View, interrupts: list[int]) -> None:
    """Draw what comes, until the end or until it is stopped."""
    while not interrupts:
        pump.wait(TICK_SECONDS)
        ended = pump.ended  # looked at first, so that what came before the end is taken below
        view.write(pump.take())
        if ended or stream.cancelled:
            return
        pump.pause(max(REPAINT_SECONDS, len(active) / REPAINTS_IN_ALL))


def finish(stream: CompletionStream, pump: StreamThread, view: View, keep: Callable[[Completion], None]) -> Completion:
    """What came of a stream that has ended or was cancelled: kept, then drawn to its end."""
    # A look-up of names cannot be ended; then there is nothing to wait for.
    pump.join(_STOP_SECONDS if stream.answered or not stream.cancelled else _UNANSWERED_SECONDS)
    completion = stream.completion
    unanswered[:] = [completion] if completion.came_to_nothing else []
    keep(completion)  # first, so that a view that fails loses nothing
    try:
        view.write(pump.take())
    finally:
        view.finish(completion, pump.error)
    return completion
