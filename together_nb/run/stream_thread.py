"""Reads a stream in a thread, so that drawing never blocks."""

from __future__ import annotations

import threading
from collections import deque
from contextvars import copy_context
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from together_nb.run.stream import CompletionStream
    from together_nb.values.chunk import Chunk


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
        )


class StreamThread(threading.Thread):
    """Reads a stream in its own thread; another takes what has arrived.

    Parameters
    ----------
    stream
        The stream.

    Attributes
    ----------
    error : BaseException or None
        The error that ended the reading.
    """

    def __init__(self, stream: CompletionStream) -> None:
        super().__init__(name="together_nb stream", daemon=True)
        self.error: BaseException | None = None
        self._stream = stream
        self._context = copy_context()  # so that its creator's `CancelScope` holds here too
        self._inbox: deque[Chunk] = deque()
        self._arrived = threading.Event()
        self._ended = threading.Event()
        self._taking = threading.Lock()
        self._unmerged = 0

    def run(self) -> None:
        """Read to the end."""
        self._context.run(self._read)

    def _read(self) -> None:
        inbox, arrived = self._inbox, self._arrived
        try:
            for chunk in self._stream:
                if chunk.text or chunk.reasoning:
                    inbox.append(chunk)
                    self._unmerged += 1
                    if self._unmerged >= _UNMERGED:
                        self._merge()
                    if not arrived.is_set():
                        arrived.set()
        except BaseException as error:  # noqa: BLE001  (raised again in the thread that waits)
            self.error = error
        finally:
            self._ended.set()
            arrived.set()

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self._ended.is_set()

    def wait(self, seconds: float) -> None:
        """Wait for a chunk or the end, `seconds` at most."""
        self._arrived.wait(seconds)

    def pause(self, seconds: float) -> None:
        """Wait for `seconds`, or until the end."""
        self._ended.wait(seconds)

    def take(self) -> list[Chunk]:
        """Return what has arrived since the last call."""
        self._arrived.clear()
        if self._ended.is_set():
            self._arrived.set()
        with self._taking:
            return [self._inbox.popleft() for _ in range(len(self._inbox))]

    def _merge(self) -> None:
        """Merge the chunks not yet taken, so that a view that is not drawn costs no more than its text."""
        with self._taking:
            recent = [self._inbox.pop() for _ in range(min(self._unmerged, len(self._inbox)))]
            self._inbox.extend(merge(reversed(recent)))
            self._unmerged = 0

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has ended, if it was started."""
        if self.ident is not None:
            super().join(timeout)
