"""A limit on work."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Effort:
    """A limited budget of steps.

    Parameters
    ----------
    most
        The number of steps.
    look
        Called on each `spend`; it may raise to abort the work.

    Attributes
    ----------
    left
        How many are left; negative once overspent.
    """

    def __init__(self, most: int, look: Callable[[], None] = lambda: None) -> None:
        self.left = most
        self.look = look

    def spend(self, steps: int = 1) -> bool:
        """Spend steps, and return whether that many were left."""
        self.look()
        self.left -= steps
        return self.left >= 0
