"""What is begun within a scope can be ended from outside, though nobody outside holds it."""

from __future__ import annotations

import threading
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Protocol

from together_nb.base.fork import after_fork

if TYPE_CHECKING:
    from typing import Self

_current: ContextVar[CancelScope | None] = ContextVar("together_nb scope", default=None)
after_fork(lambda: _current.set(None))  # what the parent began, a child neither joins nor ends


class Cancellable(Protocol):
    """What any thread can end, before it has begun too."""

    def cancel(self) -> None:
        """End it."""


class CancelScope:
    """A ``with`` block; what `cancel_with_scope` within it, in whatever depth, `cancel` ends from any thread.

    Asking for an answer may mean to ask for the list of models first, in a function that only
    returns a list. Scopes nest: ending one ends those within.

    Attributes
    ----------
    cancelled : bool
        Whether it was ended so.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._members: list[Cancellable] = []
        self.cancelled = False
        self._token: Token[CancelScope | None] | None = None

    def __enter__(self) -> Self:
        cancel_with_scope(self)
        self._token = _current.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            _current.reset(self._token)

    def cancel(self) -> None:
        """End all that has joined, and at once whatever joins from now on."""
        with self._lock:
            self.cancelled = True
            members = list(self._members)
        for member in members:
            member.cancel()

    def _add(self, member: Cancellable) -> None:
        with self._lock:
            self._members.append(member)
            cancelled = self.cancelled
        if cancelled:
            member.cancel()


def cancel_with_scope(member: Cancellable) -> None:
    """Let the scope in which this is called end `member`; without one, nothing."""
    scope = _current.get()
    if scope is not None:
        scope._add(member)  # noqa: SLF001  (one module's own)
