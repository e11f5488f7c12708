"""One answer at a time: started, stopped, continued, and drawn into the tabs."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from together_nb.base.interrupts import STOP_SECONDS
from together_nb.panel.status_line import State
from together_nb.run.background import BackgroundRun
from together_nb.run.continuation import join_parts
from together_nb.views import frontend
from together_nb.views.text import SilentView
from together_nb.wire.retry import with_listener

if TYPE_CHECKING:
    from collections.abc import Callable

    from together_nb.panel.answer_tab import AnswerTab
    from together_nb.panel.events_tab import EventsTab
    from together_nb.panel.status_line import StatusLine
    from together_nb.panel.tokens_tab import TokensTab
    from together_nb.session import Session
    from together_nb.values.chunk import Chunk
    from together_nb.values.completion import Completion
    from together_nb.wire.retry import Wait
    from together_nb.wire.stream import CompletionStream

_STATUS_SECONDS = 0.25


class Observer(Protocol):
    """Receives the events of an answer."""

    def changed(self) -> None:
        """The state has changed; the lock is held."""

    def kept(self) -> None:
        """The completion, whole or partial, is in the history."""

    def ended(self, completion: Completion | None) -> None:
        """The answer shown has ended, None if nothing arrived; the lock is held."""


class Runs:
    """The answer that is streaming, or the last one.

    Parameters
    ----------
    session
        Keeps the answers.
    status, answer, tokens, events
        Where it is drawn.
    observer
        Receives its events, from any thread.

    Attributes
    ----------
    lock : threading.RLock
        Held while anything is drawn, by a click or by an answer's thread.
    last : Completion or None
        The answer shown, once it has ended.
    """

    def __init__(
        self,
        session: Session,
        status: StatusLine,
        answer: AnswerTab,
        tokens: TokensTab,
        events: EventsTab,
        observer: Observer,
    ) -> None:
        self.session = session
        self.lock = threading.RLock()
        self.last: Completion | None = None
        self.status, self.answer, self.tokens, self.events = status, answer, tokens, events
        self.observer = observer
        self._run: BackgroundRun | None = None
        self._view: _TabsView | None = None

    @property
    def state(self) -> State:
        """The current state."""
        return self.status.state

    @property
    def completion(self) -> Completion | None:
        """The answer shown, as far as it has arrived."""
        run, view = self._run, self._view
        after = None if run is None else run.completion
        if after is None or view is None:
            return self.last
        return after if view.before is None else join_parts(view.before, after)

    def begin(self, open_stream: Callable[[], CompletionStream], before: Completion | None = None) -> None:
        """Stream an answer that replaces the one shown, or continues it (`before`).

        Parameters
        ----------
        open_stream
            Opens the stream; called in the answer's own thread.
        before
            The partial that it continues.
        """
        view = _TabsView(self, before)
        run = BackgroundRun(with_listener(view.waits, open_stream), view, view.keep)
        with self.lock:
            self._abandon()
            if before is None:
                self.last = None
                self.answer.start()
                self.tokens.start()
            self.answer.forgive()
            self._run, self._view = run, view
            self.status.clear()
            self.to(State.WAITING)
        run.add_done_callback(lambda _: self._ended(run, view))
        if frontend.draws_from_threads():
            run.start()
        else:  # only what a click itself draws is shown
            with suppress(KeyboardInterrupt):  # the notebook's ■ stopped it, and the panel says so
                run.run()

    def stop(self) -> None:
        """Stop the answer. What has arrived is kept."""
        run = self._run
        if run is not None and run.cancel() and run.stream is None:
            # A DNS lookup cannot be interrupted, and no completion has been requested yet.
            with self.lock:
                self._abandon()
                self.to(State.STOPPED)

    def clear(self) -> None:
        """Stop the answer and remove it."""
        with self.lock:
            self._abandon()
            self.last = None
            self.answer.clear()
            self.tokens.start()
            self.events.start()
            self.status.clear()
            self.to(State.READY)

    def close(self) -> None:
        """Stop the answer and its thread."""
        with self.lock:
            run = self._abandon()
        if run is not None:
            run.join(STOP_SECONDS)

    def fail(self, error: BaseException) -> None:
        """Show an error in the Answer tab."""
        with self.lock:
            self.answer.fail(error)

    def to(self, state: State) -> None:
        """Change to another state."""
        self.status.to(state)
        self.observer.changed()

    def _abandon(self) -> BackgroundRun | None:
        """Stop the current run and draw nothing more of it."""
        run, self._run, self._view = self._run, None, None
        if run is not None:
            run.cancel()
        return run

    def shows(self, view: _TabsView) -> bool:
        """Whether `view` belongs to the current run: late tokens of older runs are not drawn."""
        return self._view is view

    def _ended(self, run: BackgroundRun, view: _TabsView) -> None:
        error, whole = run.exception(), view.whole
        with self.lock:
            if not self.shows(view):
                return
            self._run = self._view = None
            state = State.FAILED
            if whole is not None:
                self.last = whole
                self.status.ended(whole)
                self.answer.end(whole)
                state = State.after(whole)
                self.observer.ended(whole)
            elif view.before is not None:
                self.status.ended(view.before)
            else:
                self.observer.ended(None)
            if view.completion is not None:
                state = State.after(view.completion)
            if run.stopped or isinstance(error, KeyboardInterrupt):
                state = State.STOPPED  # whatever error reported it
            elif error is not None:
                self.answer.fail(error)
                state = state if state is State.LOST else State.FAILED
            self.to(state)


class _TabsView(SilentView):
    """Draws one run, as long as it is the current one.

    Attributes
    ----------
    completion : Completion or None
        The completion of this run, once it has ended.
    whole : Completion or None
        The same joined to `before`, if anything arrived.
    """

    def __init__(self, runs: Runs, before: Completion | None) -> None:
        self.before = before
        self.completion: Completion | None = None
        self.whole: Completion | None = None
        self._runs = runs
        self._stream: CompletionStream | None = None
        self._told = 0.0

    def start(self, stream: CompletionStream) -> None:
        """Draw an open stream."""
        self._stream = stream
        runs = self._runs
        with runs.lock:
            if runs.shows(self):
                runs.answer.follow(stream)
                runs.events.follow(stream)
                if stream.notes:  # before the first word
                    runs.status.streaming(stream, self.before)

    def write(self, chunks: list[Chunk]) -> None:
        """Draw new chunks."""
        runs, stream = self._runs, self._stream
        with runs.lock:
            if stream is None or not runs.shows(self):
                return
            if chunks and runs.state is not State.ANSWERING:
                runs.to(State.ANSWERING)
            runs.answer.write(chunks)
            runs.tokens.write(chunks)
            runs.events.write()
            if stream.wait is not None:
                self.waits(stream.wait)
            elif runs.state is State.RETRYING:
                runs.to(State.WAITING)
            elif stream.seconds - self._told >= _STATUS_SECONDS:
                self._told = stream.seconds
                runs.status.streaming(stream, self.before)

    def waits(self, wait: Wait) -> None:
        """Show a wait, even before there is a stream."""
        with self._runs.lock:
            if self._runs.shows(self):
                self._runs.status.waiting(wait)
                self._runs.to(State.RETRYING)

    def keep(self, completion: Completion) -> None:
        """Keep the completion in the history; a continuation replaces its partial."""
        self.completion = completion
        session = self._runs.session
        self.whole = session.keep(completion, before=self.before, bind=session.bind)
        if self.whole is not None:
            self._runs.observer.kept()

    def finish(self, completion: Completion, error: BaseException | None) -> None:  # noqa: ARG002  (`Runs` shows it)
        """Draw the last tokens and lines."""
        with self._runs.lock:
            if self._runs.shows(self):
                self._runs.tokens.catch_up()
                self._runs.events.write()
