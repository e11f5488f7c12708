"""Drives a batch: a bounded number of requests at once, all slowed down together, each retried by itself.

It runs in the calling thread and hears from the workers through a queue, so any executor of
`concurrent.futures` works, and Ctrl-C is seen within a tick.
"""

from __future__ import annotations

import copy
import heapq
import queue
import threading
from collections import deque
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from together_nb.base.cancellation import CancelScope, cancel_with_scope
from together_nb.base.interrupts import STOP_SECONDS, TICK_SECONDS
from together_nb.base.threads import start_thread
from together_nb.batch.concurrency import Concurrency
from together_nb.batch.worker import answer, answer_within
from together_nb.config.keys import without_keys
from together_nb.errors import APIStatusError, AuthenticationError, InputError, RateLimitError, TogetherError
from together_nb.values.completion import Completion
from together_nb.wire.retry import FIRST_SECONDS, HONOURED_SECONDS, Retries

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from together_nb.batch.worker import Outcome, Task
    from together_nb.run.answers import Keeper

_SPENT = 402  # HTTP status: the account's limit is reached


class Threads(Executor):
    """Reusable threads that, unlike a `ThreadPoolExecutor`'s, do not keep the process from ending.

    A thread for each call would be simpler, but starting one blocks until it runs, which is slow while sixty others
    are busy.
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call `fn` in an idle thread, or in a new one."""
        future: Future[Any] = Future()

        def call() -> None:
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001  (raised again in the thread that waits)
                self._idle.release()
                future.set_exception(error)
            else:
                self._idle.release()  # before the result is seen, since the next call may follow
                future.set_result(result)

        future.set_running_or_notify_cancel()
        if not self._idle.acquire(blocking=False):
            thread = start_thread("batch", self._work)
            if thread is None:
                call()
                self._idle.acquire()  # nobody is idle for it
                return future
            self._threads.append(thread)
        self._calls.put(call)  # last, so that a call without a thread does not run later
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002  (none are waiting)
        """End each thread after its current call."""
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads if wait else ():
            thread.join()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
            del call  # or its references would live until the next one


def check_executor(session: Keeper, executor: Executor | None) -> None:
    """Refuse an executor of other processes where they cannot send the requests: they know nothing of a recording.

    Raises
    ------
    InputError
        The executor is one, and a recording is on.
    """
    if not (session.client.transport.portable or executor is None or isinstance(executor, ThreadPoolExecutor)):
        raise InputError(
            "An executor of other processes cannot send these requests: they are recorded, replayed or answered here.",
            "Leave executor out, or end the recording with `%together record off` or `%together replay off`.",
        )


@dataclass(eq=False)
class _Flight:
    """One attempt at one item."""

    number: int
    task: Task
    begun: float
    scope: CancelScope = field(default_factory=CancelScope)
    future: Future[Outcome] | None = None


class Progress(Protocol):
    """What shows how far a batch is."""

    def show(self, done: int, failed: int, waiting: str) -> None:
        """Show how many items are done, how many of them failed, and what all wait for, if anything."""


class Scheduler:
    """One run of a batch.

    Parameters
    ----------
    session
        The session that it belongs to.
    tasks
        The tasks, by item number.
    land
        Called with an item's number and its result, in the calling thread.
    most
        The most requests at once.
    executor
        What calls `answer`; None takes `Threads`.
    progress
        Shows how far it is.

    Attributes
    ----------
    done, failed : int
        How many items have ended, and how many of those with an error.
    """

    def __init__(
        self,
        session: Keeper,
        tasks: Mapping[int, Task],
        land: Callable[[int, Completion | TogetherError], None],
        *,
        most: int,
        executor: Executor | None,
        progress: Progress,
    ) -> None:
        self.done = self.failed = 0
        self._session = session
        self._transport = session.client.transport  # to the end: a replay may be ended meanwhile
        self._tasks = tasks
        self._land = land
        self._ready = deque(tasks)
        self._later: list[tuple[float, int]] = []  # a heap of (time, item number)
        self._flights: set[_Flight] = set()
        self._finished: queue.SimpleQueue[_Flight] = queue.SimpleQueue()
        settings = session.settings
        self._retries = {number: Retries(settings.max_retries, settings.timeout) for number in tasks}
        self._pace = Concurrency(most)
        self._own = executor is None
        self._executor: Executor = Threads() if executor is None else executor
        # A stream in another process cannot be stopped; it is left alone there.
        self._within_reach = isinstance(self._executor, (Threads, ThreadPoolExecutor))
        self._progress = progress
        self._cancelled = False

    def cancel(self) -> None:
        """Stop, from any thread: what is under way is stopped, and the rest does not begin."""
        self._cancelled = True
        for flight in list(self._flights):
            flight.scope.cancel()

    def run(self, interrupts: list[int]) -> None:
        """Run until all items have ended, or it is cancelled, or `interrupts` is not empty."""
        cancel_with_scope(self)
        try:
            while (self._ready or self._later or self._flights) and not interrupts and not self._cancelled:
                self._begin_what_may()
                self._take(TICK_SECONDS)
                self._show()
        finally:
            self._stop()
            if self._own:
                self._executor.shutdown(wait=False)

    def _show(self) -> None:
        seconds = self._pace.closed
        waiting = f"rate limited; all wait {seconds:.0f} s" if seconds >= 1 else ""
        self._progress.show(self.done, self.failed, waiting)

    def _begin_what_may(self) -> None:
        while self._later and self._later[0][0] <= monotonic():
            self._ready.appendleft(heapq.heappop(self._later)[1])
        while self._ready and not self._cancelled and self._pace.has_room(len(self._flights)):
            self._begin(self._ready.popleft())

    def _begin(self, number: int) -> None:
        task = self._tasks[number]
        try:
            if not self._within_reach:  # within, the stream checks it
                self._session.ledger.check(task.marks["price"])
        except InputError as error:
            self._end(number, error)
            return
        flight = _Flight(number, task, self._pace.begun())
        self._flights.add(flight)  # before it is submitted, since without threads it runs there
        try:
            if self._within_reach:
                flight.future = self._executor.submit(
                    copy_context().run, answer_within, flight.scope, task, self._session, self._transport
                )
            else:
                client, root = self._session.client, task.root or ""
                refused, base = client.refused_by(root, task.request.model), client.bases.get((root, True), "")
                sent = replace(task.portable().again(), refused=refused, base=base)
                flight.future = self._executor.submit(answer, sent)
        except Exception as error:  # noqa: BLE001  (an executor may raise anything)
            self._flights.discard(flight)
            self._end(number, _of_the_executor(error))
            return
        flight.future.add_done_callback(lambda _: self._finished.put(flight))

    def _take(self, seconds: float) -> None:
        """Take the attempts that have ended; wait for the first up to `seconds`."""
        try:
            self._take_result(self._finished.get(timeout=seconds))
            while True:
                self._take_result(self._finished.get_nowait())
        except queue.Empty:
            return

    def _take_result(self, flight: _Flight) -> None:
        self._flights.discard(flight)
        future, number, task = flight.future, flight.number, flight.task
        if future is None or future.cancelled():
            return
        failure = future.exception()
        if failure is not None:
            self._end(number, _of_the_executor(failure))
            return
        outcome = future.result()
        completion = replace(outcome.completion, request=task.request)
        self._session.client.call_keys.add(completion, *self._session.client.call_keys.get(outcome.completion))
        if not self._within_reach:
            self._session.client.note_refused(task.root or "", task.request.model, outcome.refused)
            if outcome.base:
                self._session.client.bases[task.root or "", True] = outcome.base
        for call in outcome.calls:
            self._session.ledger.note(*call[:3], whole=call[3])
        if outcome.error is not None:
            outcome.error.completion = completion
            self._went_wrong(flight, outcome.error, begun=outcome.begun)
        elif completion.came_to_nothing:
            self._session.keep(completion)  # it was stopped, and counts as not run
        else:
            if not completion.cancelled:
                self._pace.succeeded(flight.begun)
            self._end(number, completion)

    def _went_wrong(self, flight: _Flight, error: TogetherError, *, begun: bool) -> None:
        wait = None if begun else self._retries[flight.number].after(error)
        limited = isinstance(error, RateLimitError) and not begun
        if limited:
            seconds = error.retry_after or FIRST_SECONDS if wait is None else wait.left
            self._pace.refused(flight.begun, min(seconds, HONOURED_SECONDS))
        if wait is not None:
            heapq.heappush(self._later, (monotonic() + wait.left, flight.number))
            return
        self._end(flight.number, error)
        # The error holds for all: no more requests are sent only to get it again.
        for_long = limited and (error.retry_after or 0.0) > HONOURED_SECONDS
        spent = isinstance(error, APIStatusError) and error.status == _SPENT
        if for_long or spent or isinstance(error, AuthenticationError):
            self._give_up(error)

    def _give_up(self, error: TogetherError) -> None:
        for number in (*self._ready, *(number for _, number in self._later)):
            same = copy.copy(error)
            same.completion = None
            self._end(number, same)
        self._ready.clear()
        self._later.clear()

    def _end(self, number: int, result: Completion | TogetherError) -> None:
        self.done += 1
        self.failed += isinstance(result, TogetherError)
        part = result.completion if isinstance(result, TogetherError) else result
        if isinstance(part, Completion):
            self._session.keep(part)
        self._land(number, result)

    def _stop(self) -> None:
        """Stop what is under way, and take its results."""
        self._ready.clear()
        self._later.clear()
        for flight in self._flights:
            flight.scope.cancel()
            if flight.future is not None:
                flight.future.cancel()
        until = monotonic() + (STOP_SECONDS if self._within_reach else 0.0)
        while True:
            left = until - monotonic()
            self._take(max(left, 0.001) if self._flights else 0.001)
            if not self._flights or left <= 0:
                break
        self._later.clear()


def _of_the_executor(failure: BaseException) -> TogetherError:
    """Return the error for a failure of an executor or of a worker's process."""
    words = without_keys(" ".join(f"{type(failure).__name__}: {failure}".split())).rstrip(".")
    return TogetherError(
        f"What was to run it failed ({words}).", "Look at the executor and its workers; together_nb must be there too."
    )
