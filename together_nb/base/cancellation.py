"""Cancel work begun within a scope from outside, without a reference to it."""

from __future__ import annotations

import threading
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Protocol

from together_nb.base.fork import after_fork

if TYPE_CHECKING:
    from typing import Self

_current: ContextVar[CancelScope | None] = ContextVar("together_nb scope", default=None)
after_fork(lambda: _current.set(None))  # a child neither joins nor cancels its parent's work


class Cancellable(Protocol):
    """Work that any thread can cancel, even before it begins."""

    def cancel(self) -> None:
        """Cancel it."""


class CancelScope:
    """A ``with`` block: `cancel`, from any thread, ends all that `cancel_with_scope` adds to it, at any depth.

    A request may first fetch the list of models, in a function that only returns a list. Scopes nest: cancelling one
    cancels those within.

    Attributes
    ----------
    cancelled : bool
        Whether it was cancelled.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # Ctrl-C may cancel it within
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
        """Cancel all members, and later ones as soon as they join."""
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
    """Add `member` to the current scope; without one, do nothing."""
    scope = _current.get()
    if scope is not None:
        scope._add(member)  # noqa: SLF001  (one module's own)
