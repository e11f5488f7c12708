"""Reads a stream, in a thread where there are threads, so that drawing never blocks."""

from __future__ import annotations

import threading
from collections import deque
from contextvars import copy_context
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING

from together_nb.base.threads import start_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from together_nb.values.chunk import Chunk
    from together_nb.wire.stream import CompletionStream


_UNMERGED = 4096  # chunks


def merge(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """Merge the chunks of each answer into one; the thinking comes before the text."""
    answers: dict[int, list[Chunk]] = {}
    for chunk in chunks:
        answers.setdefault(chunk.index, []).append(chunk)
    for theirs in answers.values():
        yield replace(
            theirs[-1],
            text="".join(chunk.text for chunk in theirs),
            reasoning="".join(chunk.reasoning for chunk in theirs),
            tokens=tuple(token for chunk in theirs for token in chunk.tokens),
            refusal="".join(chunk.refusal for chunk in theirs),
            tool_calls=tuple(call for chunk in theirs for call in chunk.tool_calls),
        )


class Bell:
    """Tells the thread that draws that one of several readers has something for it.

    Attributes
    ----------
    arrived : threading.Event
        Set when a chunk arrives or a reader ends.
    ended : threading.Event
        Set when a reader ends.
    """

    def __init__(self) -> None:
        self.arrived = threading.Event()
        self.ended = threading.Event()


class Reader:
    """Reads a stream; another thread takes what has arrived.

    Where no thread can be started, as in a browser's kernel, `pull` reads in the calling thread.

    Parameters
    ----------
    stream
        The stream.
    bell
        Rung when a chunk arrives, and at the end.
    hand_over
        Whether somebody takes the chunks; else they are only read.

    Attributes
    ----------
    error : BaseException or None
        The error that ended the reading.
    pulled : bool
        Whether it reads in the calling thread.
    """

    def __init__(self, stream: CompletionStream, bell: Bell, *, hand_over: bool = True) -> None:
        self.error: BaseException | None = None
        self.pulled = False
        self._stream = stream
        self._hand_over = hand_over
        if not hand_over:
            stream.watched = False
        self._bell = bell
        self._thread: threading.Thread | None = None
        self._inbox: deque[Chunk] = deque()
        self._ended = threading.Event()
        self._taking = threading.Lock()
        self._unmerged = 0

    def start(self) -> None:
        """Begin to read."""
        context = copy_context()  # so that its creator's `CancelScope` holds in the thread too
        self._thread = start_thread("stream", context.run, self._read)
        self.pulled = self._thread is None

    def pull(self, seconds: float) -> None:
        """Read for `seconds`, and at least one event, in the calling thread."""
        until = monotonic() + seconds
        self._read(lambda: (bool(self._inbox) or not self._hand_over) and monotonic() >= until)

    def _read(self, pause: Callable[[], bool] | None = None) -> None:
        inbox, arrived = self._inbox, self._bell.arrived
        try:
            for chunk in self._stream:
                if self._hand_over and (chunk.says_something or chunk.tokens):
                    inbox.append(chunk)
                    self._unmerged += 1
                    if self._unmerged >= _UNMERGED:
                        self._merge()
                    if not arrived.is_set():
                        arrived.set()
                if pause is not None and pause():
                    return
        except BaseException as error:  # noqa: BLE001  (raised again in the thread that waits)
            self.error = error
        self._ended.set()
        self._bell.ended.set()
        arrived.set()

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self._ended.is_set()

    def take(self) -> list[Chunk]:
        """Return what has arrived since the last call."""
        with self._taking:
            return [self._inbox.popleft() for _ in range(len(self._inbox))]

    def _merge(self) -> None:
        """Merge the chunks not yet taken, so that a view that is not drawn costs no more than its text."""
        with self._taking:
            recent = [self._inbox.pop() for _ in range(min(self._unmerged, len(self._inbox)))]
            self._inbox.extend(merge(reversed(recent)))
            self._unmerged = 0

    def join(self, timeout: float) -> None:
        """Wait until it has ended, `timeout` seconds at most."""
        if self._thread is not None:
            self._thread.join(timeout)
