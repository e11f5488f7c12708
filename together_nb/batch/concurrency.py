"""How many requests of a batch may be under way at once, as far as the server permits.

One more after as many successes as are allowed at once, half as many after a refusal for too many:
as in TCP, and for the same reason. While a refusal's wait lasts, none begins.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Concurrency:
    """The limit of one batch, used only by the thread that drives it.

    Parameters
    ----------
    most
        The most requests at once; also the initial limit.
    clock
        A monotonic clock, in seconds.

    Attributes
    ----------
    at_once : int
        How many may be under way now: from 1 to `most`.
    """

    def __init__(self, most: int, clock: Callable[[], float] = monotonic) -> None:
        self.at_once = most
        self._most = most
        self._clock = clock
        self._opens: float | None = None  # when the gate opens
        self._slowed: float | None = None  # when `at_once` was last halved
        self._successes = 0

    @property
    def closed(self) -> float:
        """Seconds until the next request may begin; 0 if it may now."""
        return 0.0 if self._opens is None else max(self._opens - self._clock(), 0.0)

    def has_room(self, under_way: int) -> bool:
        """Whether one more request may begin besides those `under_way`."""
        return under_way < self.at_once and not self.closed

    def begun(self) -> float:
        """Return the time, to be passed to `refused` or `succeeded` for a request that begins now."""
        return self._clock()

    def refused(self, begun: float, seconds: float) -> None:
        """Record that a request was one too many: none begins for `seconds`.

        Several requests under way together may be refused; they count as one refusal, which halves once.
        """
        now = self._clock()
        opens = now + seconds
        self._opens = opens if self._opens is None else max(opens, self._opens)
        if self._since(begun):
            self._slowed = now
            self._successes = 0
            self.at_once = max(self.at_once // 2, 1)

    def succeeded(self, begun: float) -> None:
        """Record an answered request. One that began before the last slow-down does not count."""
        if not self._since(begun):
            return
        self._successes += 1
        if self._successes >= self.at_once:
            self._successes = 0
            self.at_once = min(self.at_once + 1, self._most)

    def _since(self, begun: float) -> bool:
        """Whether a request began at the current pace."""
        return self._slowed is None or begun > self._slowed
