"""Locks on files, which the system releases when their process ends."""

from __future__ import annotations

import contextlib
import math
import os
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_POLL = 0.01  # seconds between two tries
_FAR = 2**28  # bytes; no file here is larger. Windows locks a range, for readers too, and counts with 32 bits


@contextlib.contextmanager
def file_lock(file: int, patience: float = math.inf, on_wait: Callable[[], None] = lambda: None) -> Iterator[bool]:
    """Hold the lock of an open file, and tell whether it is held: some file systems have no locks.

    Parameters
    ----------
    file
        Its descriptor.
    patience
        Seconds to wait while another process, or another thread that opened the file, holds it.
    on_wait
        Called once before the wait, if there is one.

    Raises
    ------
    BlockingIOError, PermissionError
        It was held for all that time.
    """
    lock, unlock = _functions(file)
    until, waits, held = time.monotonic() + patience, False, True
    while True:
        try:
            lock()
            break
        except (BlockingIOError, PermissionError):
            if time.monotonic() > until:
                raise
            if not waits:
                on_wait()
                waits = True
            time.sleep(_POLL)
        except OSError:
            held = False
            break
    try:
        yield held
    finally:
        # Explicitly, since closing is not enough: a child forked meanwhile has the file open too.
        if held:
            unlock()


def _functions(file: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    if fcntl is not None:
        return (lambda: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)), (lambda: fcntl.flock(file, fcntl.LOCK_UN))
    import msvcrt

    def at_the_end(mode: int) -> None:
        os.lseek(file, _FAR, os.SEEK_SET)
        msvcrt.locking(file, mode, 1)

    return (lambda: at_the_end(msvcrt.LK_NBLCK)), (lambda: at_the_end(msvcrt.LK_UNLCK))
