"""Ctrl-C: put off while something is brought to its end, and told in a line."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def put_off() -> Iterator[None]:
    """Let a Ctrl-C that falls into the block be raised at its end.

    Only the main thread is interrupted by Ctrl-C; in another one, and where Ctrl-C is ignored or
    in hands that are not Python's, this does nothing.

    Raises
    ------
    KeyboardInterrupt
        At the end of the block, when there was one within.
    """
    usual = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(usual):
        yield
        return
    came: list[int] = []

    def remember(number: int, _: Any) -> None:
        came.append(number)

    signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
    if came:
        raise KeyboardInterrupt


@contextmanager
def told(words: str) -> Iterator[None]:
    """Have a Ctrl-C in the block shown as one line and no traceback; the innermost block's words count.

    The cell fails as interrupted all the same, so that Run All stops.
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if not hasattr(interrupt, "_render_traceback_"):
            interrupt._render_traceback_ = lambda: [f"KeyboardInterrupt: {words}"]  # type: ignore[attr-defined]
        raise
