"""Drives one stream: reads it in a thread, draws it in a view, and keeps the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from together_nb.base.cancellation import CancelScope
from together_nb.base.fork import after_fork
from together_nb.base.interrupts import defer_interrupts, interrupt_message
from together_nb.errors import TogetherError
from together_nb.run.history import history, unanswered
from together_nb.run.stream_thread import StreamThread
from together_nb.wire.retry import ignore_wait, listen_to_waits

if TYPE_CHECKING:
    from collections.abc import Callable

    from together_nb.run.stream import CompletionStream
    from together_nb.values.chunk import Chunk
    from together_nb.values.completion import Completion

REPAINT_SECONDS = 0.07  # 14 a second: each sends one to three messages, and a stream may send 25
REPAINTS_IN_ALL = 40  # a second, for all streams drawn at once: they share IOPub
TICK_SECONDS = 0.05  # how often a waiting view is updated; also bounds Ctrl-C
_STOP_SECONDS = 2.0
_UNANSWERED_SECONDS = 0.15
active: set[StreamThread] = set()  # the streams being drawn, in all threads
after_fork(active.clear)  # those threads are the parent's


class View(Protocol):
    """Draws an answer. All calls come from one thread, in this order."""

    def start(self, stream: CompletionStream) -> None:
        """Show that an answer is awaited."""

    def write(self, chunks: list[Chunk]) -> None:
        """Draw what has arrived since the last call; an empty list means that time has passed."""

    def finish(self, completion: Completion, error: BaseException | None) -> None:
        """Leave what the notebook saves. `error` ended the stream; `run` raises it after this."""


class SilentView:
    """Draws nothing: the answer is in the variable."""

    def start(self, stream: CompletionStream) -> None:
        """Nothing to do."""

    def write(self, chunks: list[Chunk]) -> None:
        """Nothing to do."""

    def finish(self, completion: Completion, error: BaseException | None) -> None:
        """Nothing to do."""


def run(stream: CompletionStream, view: View, keep: Callable[[Completion], None] = history.append) -> Completion:
    """Stream into a view until the end, an error or Ctrl-C; what has arrived is always drawn and kept.

    Parameters
    ----------
    stream
        The stream. It is read in its own thread, so that the view is drawn while nothing arrives
        and Ctrl-C takes effect at once.
    view
        What draws it.
    keep
        Called with the completion, whole or partial, before this returns or raises.

    Raises
    ------
    TogetherError
        The request failed; the error's `completion` is the partial.
    KeyboardInterrupt
        Ctrl-C or the notebook's ■.
    """
    # The view itself shows waits: it reads `stream.wait`.
    with (
        interrupt_message("stopped by you; what came is kept."),
        defer_interrupts() as interrupts,
        CancelScope() as scope,
        listen_to_waits(ignore_wait),
    ):
        thread = StreamThread(stream)
        active.add(thread)
        try:
            view.start(stream)
            if not interrupts:
                thread.start()
            _draw(stream, thread, view, interrupts)
            if interrupts:
                stream.cancel()
                scope.cancel()
        except BaseException:
            stream.cancel()
            scope.cancel()
            raise
        finally:
            active.discard(thread)
            completion = finish(stream, thread, view, keep)
    if thread.error is not None:
        if isinstance(thread.error, TogetherError):
            thread.error.completion = completion
        raise thread.error
    return completion


def _draw(stream: CompletionStream, thread: StreamThread, view: View, interrupts: list[int]) -> None:
    """Draw what arrives, until the stream ends or is stopped."""
    while not interrupts:
        thread.wait(TICK_SECONDS)
        ended = thread.ended  # read first, so that the last chunks are taken below
        view.write(thread.take())
        if ended or stream.cancelled:
            return
        thread.pause(max(REPAINT_SECONDS, len(active) / REPAINTS_IN_ALL))


def finish(
    stream: CompletionStream, thread: StreamThread, view: View, keep: Callable[[Completion], None]
) -> Completion:
    """Return the completion of a stream that has ended or was cancelled: first keep it, then draw the rest."""
    # A DNS look-up cannot be cancelled; do not wait for it.
    thread.join(_STOP_SECONDS if stream.answered or not stream.cancelled else _UNANSWERED_SECONDS)
    completion = stream.completion
    unanswered[:] = [completion] if completion.came_to_nothing else []
    keep(completion)  # first, so that a view that fails loses nothing
    try:
        view.write(thread.take())
    finally:
        view.finish(completion, thread.error)
    return completion
