"""Background work of which only the newest job matters."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from together_nb.base.cancellation import CancelScope
from together_nb.base.threads import start_thread

if TYPE_CHECKING:
    from collections.abc import Callable


_log = logging.getLogger(__name__)


class LatestJob:
    """Runs the newest job, in a thread that lives as long as there is one.

    Parameters
    ----------
    name
        Name of the thread, after "together_nb".
    threaded
        False runs each job at once, in the calling thread.
    """

    def __init__(self, name: str, *, threaded: bool = True) -> None:
        self._name = name
        self._threaded = threaded
        self._lock = threading.Lock()
        self._scope = CancelScope()
        self._job: Callable[[], None] | None = None
        self._thread: threading.Thread | None = None

    def do(self, job: Callable[[], None]) -> None:
        """Run `job` instead of the current one, unless a newer one comes."""
        if not self._threaded:
            job()
            return
        with self._lock:
            self._job = job
            self._scope.cancel()
            if self._thread is None:
                self._thread = start_thread(self._name, self._run)
                self._threaded = self._thread is not None
        if not self._threaded:
            job()

    def drop(self) -> None:
        """Drop the waiting job and cancel the current one."""
        with self._lock:
            self._job = None
            self._scope.cancel()

    def _run(self) -> None:
        while True:
            with self._lock:
                job, self._job = self._job, None
                scope = self._scope = CancelScope()
                if job is None:
                    self._thread = None
                    return
            try:
                with scope:
                    job()
            except Exception:  # noqa: BLE001  (the next job is done all the same)
                _log.exception("together_nb %s failed", self._name)
