"""What a forked process must reset."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

if TYPE_CHECKING:
    from collections.abc import Callable


def after_fork(reset: Callable[[], object]) -> None:
    """Call `reset` in each child that this process forks, before anything else runs there.

    Locks that another thread held at the fork stay locked in the child for ever, and sockets are shared with the
    parent. Systems without fork never call it.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=reset)


class Resettable(Protocol):
    """An object that a forked child must reset."""

    def forked(self) -> None:
        """Reset it, in the child."""


_objects: WeakSet[Resettable] = WeakSet()


def reset_after_fork(one: Resettable) -> None:
    """Call `one.forked` in each child, as long as `one` exists."""
    _objects.add(one)


def _reset_objects() -> None:
    for one in list(_objects):
        one.forked()


after_fork(_reset_objects)
