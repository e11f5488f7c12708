"""Ctrl-C: put off while something must not be torn, and told in a line.

Raised wherever the program happens to be, it would leave a lock held, a widget that nobody knows
of, or a thread that goes on. So what is begun looks for it where it waits.
"""

from __future__ import annotations

import signal
import threading
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar

from together_nb.base.cancellation import CancelScope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_TICK = 0.05  # seconds; how soon Ctrl-C is seen
_STOP_SECONDS = 0.15  # a look-up of names cannot be ended, and is not waited for

Result = TypeVar("Result")


class _Memory:
    """A handler of signals that only remembers them."""

    def __init__(self) -> None:
        self.came: list[int] = []

    def __call__(self, number: int, _: Any) -> None:
        self.came.append(number)


@contextmanager
def defer_interrupts() -> Iterator[list[int]]:
    """Let a Ctrl-C that falls into the block be raised at its end; what it gives is not empty once there was one.

    Only the main thread is interrupted by Ctrl-C; in another one, and where Ctrl-C is ignored or
    in hands that are not Python's, this does nothing. A block within another sees what came in
    that one too.

    Raises
    ------
    KeyboardInterrupt
        At the end of the block, when there was one within.
    """
    usual = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(usual):
        yield []
        return
    handler = usual if isinstance(usual, _Memory) else _Memory()
    signal.signal(signal.SIGINT, handler)
    try:
        yield handler.came
    finally:
        signal.signal(signal.SIGINT, usual)
    if handler.came:
        raise KeyboardInterrupt


def call_interruptibly(ask: Callable[[], Result]) -> Result:
    """What `ask` returns. In the main thread another one asks, so that Ctrl-C need not wait for it, nor tear it.

    Raises
    ------
    KeyboardInterrupt
        Ctrl-C; what `ask` has begun has been ended.
    """
    if threading.current_thread() is not threading.main_thread():
        return ask()
    future: Future[Result] = Future()
    with defer_interrupts() as interrupts, CancelScope() as scope:
        context = copy_context()

        def work() -> None:
            try:
                future.set_result(context.run(ask))
            except BaseException as error:  # noqa: BLE001  (raised again in the thread that waits)
                future.set_exception(error)

        thread = threading.Thread(target=work, name="together_nb request", daemon=True)
        thread.start()
        while thread.is_alive() and not interrupts:
            thread.join(_TICK)
        if interrupts:
            scope.cancel()
            thread.join(_STOP_SECONDS)
    return future.result()


@contextmanager
def interrupt_message(words: str) -> Iterator[None]:
    """Have a Ctrl-C in the block shown as one line and no traceback; the innermost block's words count.

    The cell fails as interrupted all the same, so that Run All stops.
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if not hasattr(interrupt, "_render_traceback_"):
            interrupt._render_traceback_ = lambda: [f"KeyboardInterrupt: {words}"]  # type: ignore[attr-defined]
        raise
