"""An answer that streams in a thread while other cells run."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING

from together_nb.base.cancellation import CancelScope
from together_nb.base.escape import visible
from together_nb.base.threads import start_thread
from together_nb.base.wording import count
from together_nb.run import driver
from together_nb.values.completion import Completion

if TYPE_CHECKING:
    from collections.abc import Callable

    from together_nb.run.driver import View
    from together_nb.wire.stream import CompletionStream


class BackgroundRun(Future[Completion]):
    """An answer that streams in a thread: a `concurrent.futures.Future` of a `Completion`.

    ``%%together --background --out run`` makes one and calls it ``run``. ``run.done()`` says whether it has ended;
    ``run.result(timeout=None)`` waits for the answer, whole or partial, and raises the `TogetherError` that it
    failed with (whose `completion` is the partial), or `TimeoutError` after that many seconds; ``run.cancel()``
    stops it and keeps what has arrived.

    Parameters
    ----------
    open_stream : callable
        Returns the `CompletionStream`; called in the thread.
    view : View or None
        What draws it, in the thread, if anything.
    keep : callable
        Called with the `Completion` before the view's end.

    Attributes
    ----------
    stream : CompletionStream or None
        The stream; None before it is opened.
    stopped : bool
        Whether it was stopped by `cancel`.
    completion : Completion or None
        The completion so far; None before the request is made.
    """

    def __init__(
        self,
        open_stream: Callable[[], CompletionStream],
        view: View | None,
        keep: Callable[[Completion], object],
    ) -> None:
        super().__init__()
        self.stream: CompletionStream | None = None
        self._open = open_stream
        self._view = view
        self._keep = keep
        self._scope = CancelScope()
        self._thread: threading.Thread | None = None
        self.set_running_or_notify_cancel()

    def start(self) -> BackgroundRun:
        """Begin, and return at once; where there are no threads, run to the end.

        Returns
        -------
        BackgroundRun
            This one.
        """
        self._thread = start_thread("run", self.run)
        if self._thread is None:
            self.run()
        return self

    def run(self) -> None:
        """Run to the end in the calling thread."""
        try:
            with self._scope:
                self.stream = self._open()
                completion = driver.run(self.stream, self._view, self._keep)
        except BaseException as error:
            self.set_exception(error)
            if not isinstance(error, Exception):
                raise
        else:
            self.set_result(completion)

    def cancel(self) -> bool:
        """Stop it, from any thread; what has arrived is kept.

        Returns
        -------
        bool
            False if it had ended.
        """
        if self.done():
            return False
        self._scope.cancel()
        return True

    @property
    def stopped(self) -> bool:
        """Whether it was stopped by `cancel`."""
        return self._scope.cancelled

    def join(self, timeout: float | None = None) -> None:
        """Wait until its thread has ended.

        Parameters
        ----------
        timeout : float or None
            Seconds to wait at most; None waits for as long as it takes.
        """
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    @property
    def completion(self) -> Completion | None:
        """The completion so far; None before the request is made."""
        return None if self.stream is None else self.stream.completion

    def __repr__(self) -> str:
        if not self.done():
            arrived = "nothing yet" if self.stream is None else count(self.stream.chunks, "chunk")
            return f"<BackgroundRun: running, {arrived}; result() waits>"
        error = self.exception()
        if error is None:
            return f"<BackgroundRun: {self.result()!r}>"
        return f"<BackgroundRun: failed, {visible(str(error) or repr(error))}>"
