"""When a request is sent again, after what wait, and who is told of it.

Only before anything of an answer has come: after that it would be billed and shown twice. Which
errors may pass is said where they are made (`TogetherError.passing`).
"""

from __future__ import annotations

import logging
import math
import random
import threading
from calendar import timegm
from contextlib import contextmanager
from contextvars import ContextVar
from email.utils import parsedate_to_datetime
from time import monotonic, time
from typing import TYPE_CHECKING, TypeVar

from together_nb.base.cancellation import cancel_with_scope
from together_nb.errors import TogetherError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# As the official clients have it: 0.5 s, doubled to 8 s, less a random quarter.
FIRST_SECONDS = 0.5
MOST_SECONDS = 8.0
_JITTER = 0.25
HONOURED_SECONDS = 60.0  # what a server asks for beyond this is told, and not waited for
_BELIEVED_SECONDS = 86400.0  # and beyond this it is taken for noise
_PASSING = frozenset({408, 409, 429})
_SERVER_ERRORS = range(500, 600)
_TICK = 0.1  # seconds; bounds Ctrl-C on Windows

Result = TypeVar("Result")


def may_pass(status: int) -> bool:
    """Whether an error status may be another one when the request is sent again."""
    return status in _PASSING or status in _SERVER_ERRORS


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that ``Retry-After`` asks for, given in seconds or as a date; None where it says nothing sensible."""
    said = headers.get("Retry-After", "").strip()
    try:
        seconds = float(said)
    except ValueError:
        seconds = _until(said, headers.get("Date", ""))
    return seconds if 0 <= seconds <= _BELIEVED_SECONDS else None


def _until(date: str, now: str) -> float:
    """Seconds until a date, by the server's clock where it tells its time; NaN where it is none."""
    then, server_time = _timestamp(date), _timestamp(now)
    return max(then - (time() if math.isnan(server_time) else server_time), 0.0) if not math.isnan(then) else then


def _timestamp(date: str) -> float:
    try:
        return float(timegm(parsedate_to_datetime(date).utctimetuple()))
    except (TypeError, ValueError, OverflowError):
        return math.nan


class Wait:
    """A pause before a request is sent again.

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
        self._cancelled = threading.Event()

    @property
    def left(self) -> float:
        """Seconds until its end; 0 after it."""
        return max(self._until - monotonic(), 0.0)

    def __str__(self) -> str:
        left = math.ceil(self.left)
        return f"{self.reason}; trying again {f'in {left} s' if left > 0 else 'now'}"

    def cancel(self) -> None:
        """End it, from any thread."""
        self._cancelled.set()

    def sit_out(self) -> bool:
        """Tell of it, and wait; False where it was cancelled."""
        cancel_with_scope(self)
        if not self._cancelled.is_set():
            _listener.get()(self)
        while not self._cancelled.is_set():
            left = self._until - monotonic()
            if left <= 0:
                return True
            self._cancelled.wait(min(left, _TICK))
        return False


class Retries:
    """How often one request is sent again.

    Parameters
    ----------
    most
        The most times.
    """

    def __init__(self, most: int) -> None:
        self._left = most
        self._made = 0

    def after(self, error: TogetherError) -> Wait | None:
        """The wait before the request is sent again, or None where it is not.

        An error that is the last of several says how often it was tried.
        """
        requested = error.retry_after or 0.0
        if not error.passing or not self._left or requested > HONOURED_SECONDS:
            if self._made:
                stop = "" if error.message.endswith((".", "!", "?", "…")) else "."
                error.reword(f"{error.message}{stop} Tried {self._made + 1} times.")
            return None
        backoff = min(FIRST_SECONDS * 2**self._made, MOST_SECONDS) * (1 - _JITTER * random.random())  # noqa: S311
        self._left -= 1
        self._made += 1
        return Wait(error.passing, max(requested, backoff))


def call_with_retries(most: int, ask: Callable[[], Result]) -> Result:
    """What `ask` returns, asked again up to `most` times while its error may pass.

    Raises
    ------
    TogetherError
        The last one.
    """
    retries = Retries(most)
    while True:
        try:
            return ask()
        except TogetherError as error:
            wait = retries.after(error)
            if wait is None or not wait.sit_out():
                raise


def _log(wait: Wait) -> None:
    # Unless it is configured otherwise, logging writes a warning to stderr, where a notebook shows it.
    logging.getLogger("together_nb").warning(str(wait))


_listener: ContextVar[Callable[[Wait], object]] = ContextVar("together_nb who is told of waits", default=_log)


@contextmanager
def listen_to_waits(listener: Callable[[Wait], object]) -> Iterator[None]:
    """Have `listener` told of each wait that is begun within the block; the innermost block's is."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def ignore_wait(_: Wait) -> None:
    """Hear of a wait and do nothing: what draws an answer sees it at the stream."""


def with_listener(listener: Callable[[Wait], object], ask: Callable[[], Result]) -> Callable[[], Result]:
    """`ask`, such that `listener` is told of its waits."""

    def call() -> Result:
        with listen_to_waits(listener):
            return ask()

    return call
