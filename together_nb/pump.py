"""A stream read in a thread, so that whoever draws it waits for nothing."""

from __future__ import annotations

import threading
from collections import deque
from contextvars import copy_context
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from together_nb.client import CompletionStream
    from together_nb.completion import Chunk


class Pump(threading.Thread):
    """Reads a stream in a thread of its own; another takes what has come.

    Parameters
    ----------
    opened
        The stream.

    Attributes
    ----------
    error : BaseException or None
        What the reading ended with.
    """

    def __init__(self, opened: CompletionStream) -> None:
        super().__init__(name="together_nb stream", daemon=True)
        self.error: BaseException | None = None
        self._stream = opened
        self._context = copy_context()  # so that whoever can end its maker's doings can end its own
        self._inbox: deque[Chunk] = deque()
        self._arrived = threading.Event()
        self._ended = threading.Event()

    def run(self) -> None:
        """Read to the end."""
        self._context.run(self._read)

    def _read(self) -> None:
        inbox, arrived = self._inbox, self._arrived
        try:
            for chunk in self._stream:
                if chunk.text or chunk.reasoning:
                    inbox.append(chunk)
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
        """Until something has come, or the end, or `seconds` have passed."""
        self._arrived.wait(seconds)

    def pause(self, seconds: float) -> None:
        """For `seconds`, or until the end."""
        self._ended.wait(seconds)

    def take(self) -> list[Chunk]:
        """What has come since it was last taken."""
        self._arrived.clear()
        if self._ended.is_set():
            self._arrived.set()
        chunks = []
        while self._inbox:
            chunks.append(self._inbox.popleft())
        return chunks

    def join(self, timeout: float | None = None) -> None:
        """Until it has ended, if it was started."""
        if self.ident is not None:
            super().join(timeout)
