"""How much work something may be."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Effort:
    """A count of steps that comes to an end.

    Parameters
    ----------
    most
        How many there are.
    look
        Called with each: it may end the work by an exception.

    Attributes
    ----------
    left
        How many are left; fewer than none after one too many.
    """

    def __init__(self, most: int, look: Callable[[], None] = lambda: None) -> None:
        self.left = most
        self.look = look

    def spend(self, steps: int = 1) -> bool:
        """Take some; whether there were so many left."""
        self.look()
        self.left -= steps
        return self.left >= 0
