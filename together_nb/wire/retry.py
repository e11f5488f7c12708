"""When a request is retried, after what wait, and who is notified.

A request is retried only before its answer begins: later, it would be billed and shown twice.
Code that creates an error marks it as transient (`TogetherError.passing`).
"""

from __future__ import annotations

import logging
import math
import random
from calendar import timegm
from contextlib import contextmanager
from contextvars import ContextVar
from email.utils import parsedate_to_datetime
from time import monotonic, sleep, time
from typing import TYPE_CHECKING, TypeVar

from together_nb.base.cancellation import cancel_with_scope
from together_nb.base.interrupts import TICK_SECONDS
from together_nb.errors import APIStatusError, TogetherError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# As in the official clients: 0.5 s, doubled up to 8 s, less a random 0-25%.
FIRST_SECONDS = 0.5
MOST_SECONDS = 8.0
_JITTER = 0.25
HONOURED_SECONDS = 60.0  # a server's longer wait is reported, not waited for
_LOADING_SECONDS = 2.0  # the longest wait for a model that is loaded, unless the server asks for a longer one
_BELIEVED_SECONDS = 86400.0  # beyond this, it is ignored
_PASSING = frozenset({408, 409, 429})
_SERVER_ERRORS = range(500, 600)

Result = TypeVar("Result")


def may_pass(status: int) -> bool:
    """Whether a request that failed with this status may succeed when retried."""
    return status in _PASSING or status in _SERVER_ERRORS


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds ``Retry-After`` asks for, as a number or a date; None if missing or implausible."""
    said = headers.get("Retry-After", "").strip()
    try:
        seconds = float(said)
    except ValueError:
        seconds = _until(said, headers.get("Date", ""))
    return seconds if 0 <= seconds <= _BELIEVED_SECONDS else None


def _until(date: str, now: str) -> float:
    """Return the seconds until a date, by the server's clock if known; NaN if it is no date."""
    then, server_time = _timestamp(date), _timestamp(now)
    return max(then - (time() if math.isnan(server_time) else server_time), 0.0) if not math.isnan(then) else then


def _timestamp(date: str) -> float:
    try:
        return float(timegm(parsedate_to_datetime(date).utctimetuple()))
    except (TypeError, ValueError, OverflowError):
        return math.nan


class Wait:
    """A pause before a retry.

    Parameters
    ----------
    reason
        Why, in a few words.
    seconds
        How long.
    """

    def __init__(self, reason: str, seconds: float) -> None:
        self.reason = reason
        self._until = monotonic() + seconds
        self._cancelled = False

    @property
    def left(self) -> float:
        """Seconds left; 0 once it is over."""
        return max(self._until - monotonic(), 0.0)

    def __str__(self) -> str:
        left = math.ceil(self.left)
        return f"{self.reason}; trying again {f'in {left} s' if left > 0 else 'now'}"

    def cancel(self) -> None:
        """End it, from any thread."""
        self._cancelled = True

    def sit_out(self) -> bool:
        """Notify the listener and wait; False if cancelled."""
        cancel_with_scope(self)
        if not self._cancelled:
            _listener.get()(self)
        while not self._cancelled:
            left = self._until - monotonic()
            if left <= 0:
                return True
            sleep(min(left, TICK_SECONDS))  # not an event: Ctrl-C may cancel it in the thread that waits
        return False


NO_WAIT = Wait("", 0.0)
"""For another attempt at once, of which nobody is notified."""


class Retries:
    """The retries of one request.

    Parameters
    ----------
    most
        Maximum number of retries; while a model is loaded, they do not count.
    patience
        Seconds to wait for a model that is loaded.
    """

    def __init__(self, most: int, patience: float = 0.0) -> None:
        self._most = self._left = most
        self._made = 0
        self._patience = patience
        self._loading_since: float | None = None

    def after(self, error: TogetherError) -> Wait | None:
        """Return the wait before the next attempt, or None to give up.

        After retries, the last error says how many attempts were made.
        """
        waits_for_model = self._patience > 0 and isinstance(error, APIStatusError) and error.loading
        seconds = self._while_loading(error) if waits_for_model else self._as_usual(error)
        if seconds is None:
            if self._made:
                stop = "" if error.message.endswith((".", "!", "?", "…")) else "."
                error.reword(f"{error.message}{stop} Tried {self._made + 1} times.")
            return None
        self._left -= not waits_for_model
        self._made += 1
        return Wait(error.passing, seconds)

    def _as_usual(self, error: TogetherError) -> float | None:
        requested = error.retry_after or 0.0
        if not error.passing or not self._left or requested > HONOURED_SECONDS:
            return None
        return max(requested, self._backoff(MOST_SECONDS))

    def _while_loading(self, error: TogetherError) -> float | None:
        self._loading_since = self._loading_since or monotonic()
        left = self._loading_since + self._patience - monotonic()
        requested = error.retry_after or 0.0
        if not self._most or left <= 0 or requested > max(left, HONOURED_SECONDS):
            return None
        return min(max(requested, self._backoff(_LOADING_SECONDS)), left)

    def _backoff(self, longest: float) -> float:
        return min(FIRST_SECONDS * 2.0 ** min(self._made, 10), longest) * (1 - _JITTER * random.random())  # noqa: S311


def call_with_retries(most: int, ask: Callable[[], Result]) -> Result:
    """Call `ask`, retrying up to `most` times while its error is transient.

    Raises
    ------
    TogetherError
        The last error.
    """
    retries = Retries(most)
    while True:
        try:
            return ask()
        except TogetherError as error:
            wait = retries.after(error)
            if wait is None or not wait.sit_out():
                raise


def _log(words: Wait | str) -> None:
    # By default, logging writes warnings to stderr, where a notebook shows them.
    logging.getLogger("together_nb").warning(str(words))


def tell(words: str) -> bool:
    """Log `words`, unless somebody listens to waits, as a view does, which shows them; return whether it did."""
    if _listener.get() is not _log:
        return False
    _log(words)
    return True


_listener: ContextVar[Callable[[Wait], object]] = ContextVar("together_nb who is told of waits", default=_log)


@contextmanager
def listen_to_waits(listener: Callable[[Wait], object]) -> Iterator[None]:
    """Notify `listener` of each wait begun within the block; the innermost block wins."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def ignore_wait(_: Wait) -> None:
    """Ignore a wait: views read it from the stream."""


def with_listener(listener: Callable[[Wait], object], ask: Callable[[], Result]) -> Callable[[], Result]:
    """Wrap `ask` to notify `listener` of its waits."""

    def call() -> Result:
        with listen_to_waits(listener):
            return ask()

    return call
