"""Ctrl-C: deferred in critical sections, and shown in one line.

Raised at an arbitrary point, it would leave a lock held, an orphaned widget or a running thread.
So the code checks for it where it waits.
"""

from __future__ import annotations

import signal
import threading
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar

from together_nb.base.cancellation import CancelScope
from together_nb.base.threads import start_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TICK_SECONDS = 0.05
"""How often whoever waits looks whether Ctrl-C or the end has come."""
STOP_SECONDS = 2.0
"""How long at most to wait for work that was stopped."""

Result = TypeVar("Result")


class _Memory:
    """A signal handler that records signals, and stops what it is told to."""

    def __init__(self) -> None:
        self.came: list[int] = []
        self.stops: list[Callable[[], object]] = []

    def __call__(self, number: int, _: Any) -> None:
        self.came.append(number)
        for stop in reversed(self.stops):
            stop()


@contextmanager
def defer_interrupts(stop: Callable[[], object] = lambda: None) -> Iterator[list[int]]:
    """Defer a Ctrl-C within the block to its end; the yielded list is not empty once one has arrived.

    `stop` is called as soon as it arrives, so that it also ends a read in the main thread; any lock that it takes
    must be reentrant. Ctrl-C interrupts only the main thread. In other threads, and where Ctrl-C is ignored or handled
    outside Python, this does nothing. A nested block sees the outer block's interrupts too.

    Raises
    ------
    KeyboardInterrupt
        At the end of the block, if Ctrl-C came within.
    """
    usual = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(usual):
        yield []
        return
    handler = usual if isinstance(usual, _Memory) else _Memory()
    handler.stops.append(stop)
    signal.signal(signal.SIGINT, handler)
    try:
        yield handler.came
    finally:
        signal.signal(signal.SIGINT, usual)
        handler.stops.remove(stop)
    if handler.came:
        raise KeyboardInterrupt


def call_interruptibly(ask: Callable[[], Result]) -> Result:
    """Return `ask()`. The main thread runs it in another thread, so that Ctrl-C need not wait or break it.

    Raises
    ------
    KeyboardInterrupt
        Ctrl-C; what `ask` began is cancelled.
    """
    if threading.current_thread() is not threading.main_thread():
        return ask()
    future: Future[Result] = Future()
    with CancelScope() as scope, defer_interrupts(scope.cancel) as interrupts:
        context = copy_context()

        def work() -> None:
            try:
                future.set_result(context.run(ask))
            except BaseException as error:  # noqa: BLE001  (raised again in the thread that waits)
                future.set_exception(error)

        thread = start_thread("request", work)
        if thread is None:
            return ask()
        while thread.is_alive() and not interrupts:
            thread.join(TICK_SECONDS)
        if interrupts:
            thread.join(3 * TICK_SECONDS)  # not longer: a DNS look-up cannot be cancelled
    return future.result()


def stopped(*, kept: bool) -> str:
    """Say that the user stopped an answer, and whether any of it is kept."""
    return "stopped by you; what came is kept." if kept else "stopped by you."


@contextmanager
def interrupt_message(words: str | Callable[[], str]) -> Iterator[None]:
    """Show a Ctrl-C in the block as one line without traceback; the innermost block's words win.

    The cell still fails as interrupted, so that Run All stops.
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if not hasattr(interrupt, "_render_traceback_"):
            line = f"KeyboardInterrupt: {words if isinstance(words, str) else words()}"
            interrupt._render_traceback_ = lambda: [line]  # type: ignore[attr-defined]
        raise
