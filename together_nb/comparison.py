"""Requests that differ in a value or two, answered side by side."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import ExitStack
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from together_nb import session
from together_nb.config import hidden
from together_nb.documented import documented
from together_nb.errors import InputError, TogetherError
from together_nb.formats import AUTO, format_for
from together_nb.interrupts import put_off, told
from together_nb.pump import Pump
from together_nb.resolve import open_stream
from together_nb.retry import nobody, told_to
from together_nb.scope import Scope
from together_nb.variations import combined, known, listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from together_nb.client import CompletionStream
    from together_nb.completion import Completion
    from together_nb.session import View

AT_ONCE = 4  # requests under way; the others are queued
_TICK = 0.02  # seconds; how soon an end or Ctrl-C is seen


class SideBySide(Protocol):
    """What draws answers side by side. All calls come from one thread, `begin` first and `end` last."""

    def begin(self, opened: Sequence[CompletionStream]) -> None:
        """Show that the answers are awaited, all of them still queued."""

    def column(self, number: int) -> View:
        """What draws the answer of that number, from 0; that it failed too. It may be finished without a start."""

    def end(self) -> None:
        """Leave what is to be saved; all columns are finished."""


def keep_what_came(completion: Completion) -> None:
    """Add an answer to `session.history`, unless nothing of it came."""
    if not completion.came_to_nothing:
        session.history.append(completion)


def run_side_by_side(
    opened: Sequence[CompletionStream],
    view: SideBySide,
    *,
    at_once: int = AT_ONCE,
    keep: Callable[[Completion], object] = keep_what_came,
    keep_all: Callable[[list[Completion]], object] | None = None,
) -> list[Completion]:
    """Stream into columns, a few at once, until all have ended or Ctrl-C; one that fails leaves the others.

    Parameters
    ----------
    opened
        The streams, not yet read.
    view
        What draws them.
    at_once
        How many are read at once; the others wait for their turn.
    keep
        Called with each completion when it has ended, whole or not, before it is drawn to its end.
    keep_all
        Called with all of them, in the order of `opened`, before this returns or raises.

    Returns
    -------
    list of Completion
        In the order of `opened`. One that failed is there as far as it came, and its `error` says so.

    Raises
    ------
    TogetherError
        None has succeeded: the first one's error.
    KeyboardInterrupt
        Ctrl-C or the notebook's ■; what came is kept and shown.
    """
    with told("stopped by you; what came is kept."), put_off() as came, Scope() as scope, told_to(nobody):
        lanes = [_Lane(stream, view.column(number), keep) for number, stream in enumerate(opened)]
        with ExitStack() as ends:
            if keep_all is not None:
                ends.callback(lambda: keep_all([lane.completion for lane in lanes]))
            ends.callback(view.end)
            for lane in reversed(lanes):
                ends.callback(lane.end)
            try:
                view.begin(opened)
                _stream(lanes, at_once, came)
            finally:
                # Those that have ended are not touched by it.
                for lane in lanes:
                    lane.opened.cancel()
                if came:
                    scope.cancel()
    errors = [lane.pump.error for lane in lanes if lane.pump.error is not None]
    if errors and len(errors) == len(lanes):
        raise errors[0]
    return [lane.completion for lane in lanes]


def _stream(lanes: list[_Lane], at_once: int, interrupts: list[int]) -> None:
    """Begin, draw and end them until all have ended or they are stopped."""
    queue = deque(lanes)
    live: list[_Lane] = []
    tick = threading.Event()  # which nobody sets
    while (queue or live) and not interrupts:
        while queue and len(live) < at_once:
            live.append(queue.popleft())
            live[-1].begin()
        live = [lane for lane in live if lane.drawn()]
        if live:
            tick.wait(_TICK)


class _Lane:
    """One of the streams, its reading and its drawing."""

    def __init__(self, opened: CompletionStream, view: View, keep: Callable[[Completion], object]) -> None:
        self.opened = opened
        self.pump = Pump(opened)
        self.completion = opened.completion
        self._view = view
        self._keep = keep
        self._due = 0.0
        self._ended = False

    def begin(self) -> None:
        session.drawn.add(self.pump)
        self._view.start(self.opened)
        self.pump.start()

    def drawn(self) -> bool:
        """Draw what has come, if it is time to; False where nothing more will."""
        ended = self.pump.ended or self.opened.cancelled  # looked at first: what came before the end is drawn with it
        if ended:
            self.end()
        elif monotonic() >= self._due:
            self._view.write(self.pump.take())
            self._due = monotonic() + max(session.REPAINT_SECONDS, len(session.drawn) / session.REPAINTS_IN_ALL)
        return not ended

    def end(self) -> None:
        """Keep what came, and draw it to its end."""
        if not self._ended:
            self._ended = True
            session.drawn.discard(self.pump)
            session.brought_to_an_end(self.opened, self.pump, self._view, self._kept)

    def _kept(self, completion: Completion) -> None:
        self.completion = completion
        error = self.pump.error
        if isinstance(error, TogetherError):
            error.completion = completion
        elif error is not None and not completion.error:
            completion.error = "failed"  # nothing of the stream's own, which says how it ended
        self._keep(completion)


@documented(session.stream)
def compare(
    prompt: str = "",
    *,
    model: str | list[str] | None = None,
    api: str | list[str] = AUTO,
    system: str | list[str] | None = None,
    messages: Iterable[dict[str, Any]] | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
    timeout: float | None = None,
    show: str = AUTO,
    at_once: int = AT_ONCE,
    **sampling: Any,
) -> list[Completion]:
    """Answers to one prompt, side by side: whatever is given as a list differs between them.

    In IPython they are drawn as they stream, and elsewhere nothing is. They are also added to `history`.

    Of several lists, all combinations are asked for, 64 at most, the first list changing slowest.

    Parameters
    ----------
    prompt
        As for `stream`.
    model : str or list of str or None
        As for `stream`.
    api : str or list of str
        As for `stream`.
    system : str or list of str or None
        As for `stream`.
    messages, base_url, api_key, timeout
        As for `stream`.
    show : str
        How they are drawn: ``auto``, ``markdown``, ``text``, ``code``, ``json`` or ``none``.
    at_once : int
        How many requests are under way at once.
    **sampling
        As for `stream`.

        Of each of these, `logit_bias` left aside, a list of values may be given (of `stop` a list of lists).

    Returns
    -------
    list of Completion
        In the order of the values. One that failed is there as far as it came, and its `error` says so.

    Raises
    ------
    InputError
        At once: something cannot be sent, there is nothing to compare, or too much. Nothing was sent.
    TogetherError
        None has succeeded: the first one's error.
    KeyboardInterrupt
        Ctrl-C or the notebook's ■; what came is in `history`.

    Examples
    --------
    >>> from together_nb import compare
    >>> cold, warm = compare("Once upon a time", temperature=[0, 1], max_tokens=12)
    >>> cold.request.sampling.temperature, warm.request.sampling.temperature
    (0.0, 1.0)
    """
    api_key = hidden(api_key)
    from IPython import get_ipython

    from together_nb.views import side_by_side_view_for
    from together_nb.views.notice import waits_written

    if isinstance(at_once, bool) or not isinstance(at_once, int) or at_once < 1:
        raise InputError(f"at_once must be a whole number of at least 1, not {at_once!r}.", "Leave it out for four.")
    given = {"model": model, "api": api, "system": system, **sampling}
    varied = {name: listed(known(name), value) for name, value in given.items() if _is_list(name, value)}
    columns = combined(varied)
    fixed = {name: value for name, value in given.items() if name not in varied}
    turns = None if messages is None else list(messages)
    format_for(show, chat=True)  # a name that is none is told before anything is asked
    shell = get_ipython()
    with told("stopped by you; nothing was sent."), put_off(), ExitStack() as waits:
        if shell is not None:
            waits.enter_context(waits_written(shell))
        opened = [
            open_stream(
                prompt, messages=turns, base_url=base_url, api_key=api_key, timeout=timeout, **fixed, **one.values
            )
            for one in columns.columns
        ]
    with put_off():  # from before there are widgets until there are none
        view = side_by_side_view_for(shell, "none" if shell is None else show, columns.titles, columns.across)
        return run_side_by_side(opened, view, at_once=at_once)


def _is_list(name: str, value: Any) -> bool:
    """Whether it holds a value for each column."""
    if not isinstance(value, (list, tuple)):
        return False
    # A stop is a list itself.
    return name != "stop" or not value or not all(isinstance(text, str) for text in value)
