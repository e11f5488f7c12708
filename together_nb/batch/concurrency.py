"""How many requests of a batch may be under way at once, as the server puts up with it.

More by one after as many successes as are at once, half as many after a refusal for being too many:
what TCP does, and for the same reason. While a refusal's wait lasts, none begins.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Concurrency:
    """One for a batch, asked and told by the thread that drives it.

    Parameters
    ----------
    most
        The most requests at once, which it also begins with.
    clock
        Seconds, ever more.

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
        self._slowed: float | None = None  # when `at_once` was halved last
        self._successes = 0

    @property
    def closed(self) -> float:
        """Seconds until the next request may begin; 0 where it may now."""
        return 0.0 if self._opens is None else max(self._opens - self._clock(), 0.0)

    def has_room(self, under_way: int) -> bool:
        """Whether one more may begin beside those `under_way`."""
        return under_way < self.at_once and not self.closed

    def begun(self) -> float:
        """The time, to be handed back with what becomes of the request that begins now."""
        return self._clock()

    def refused(self, begun: float, seconds: float) -> None:
        """A request was one too many: none begins for `seconds`.

        Of those that were under way together many may be refused, and that is one refusal: it halves once.
        """
        now = self._clock()
        opens = now + seconds
        self._opens = opens if self._opens is None else max(opens, self._opens)
        if self._since(begun):
            self._slowed = now
            self._successes = 0
            self.at_once = max(self.at_once // 2, 1)

    def succeeded(self, begun: float) -> None:
        """A request was answered. What began before it was slowed down proves nothing."""
        if not self._since(begun):
            return
        self._successes += 1
        if self._successes >= self.at_once:
            self._successes = 0
            self.at_once = min(self.at_once + 1, self._most)

    def _since(self, begun: float) -> bool:
        """Whether it began at the pace that holds now."""
        return self._slowed is None or begun > self._slowed
