"""Runs requests: streams into views, keeps the history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from together_nb.config import hidden
from together_nb.documented import documented
from together_nb.errors import InputError, TogetherError
from together_nb.fork import after_fork
from together_nb.formats import AUTO
from together_nb.interrupts import interruptible, put_off, told
from together_nb.pump import Pump
from together_nb.resolve import models, open_stream
from together_nb.retry import nobody, told_to
from together_nb.scope import Scope, joins

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from together_nb.client import CompletionStream
    from together_nb.completion import Chunk, Completion
    from together_nb.conversation import Conversation

__all__ = ["View", "complete", "history", "models", "run", "stream"]

REPAINT_SECONDS = 0.07  # 14 a second: each sends a message or three, and a stream may send 25
REPAINTS_IN_ALL = 40  # a second, of all streams that are drawn at once: IOPub is one for all
TICK_SECONDS = 0.05  # a waiting view is told that time passes; also bounds Ctrl-C
_STOP_SECONDS = 2.0
_UNANSWERED_SECONDS = 0.15
LAST = "_together"  # the user's variable that holds the last answer

drawn: set[Pump] = set()  # the streams that are being drawn, by whatever threads
after_fork(drawn.clear)  # those threads are the parent's

history: list[Completion] = []
"""Every answer of this session, oldest first; of one that was stopped or failed, what came."""
unanswered: list[Completion] = []
"""The last request, where nothing came of it: it is not in the history, and what is there is older."""


class View(Protocol):
    """What draws an answer. All calls come from one thread, in this order."""

    def start(self, stream: CompletionStream) -> None:
        """Show that an answer is awaited."""

    def write(self, chunks: list[Chunk]) -> None:
        """Draw what has come since the last call; an empty list says that time has passed."""

    def finish(self, completion: Completion, error: BaseException | None) -> None:
        """Leave what is to be saved. `error` is what it ended with, and is raised by `run` after this."""


@documented()
def stream(
    prompt: str = "",
    *,
    model: str | None = None,
    api: str = AUTO,
    system: str | None = None,
    messages: Iterable[dict[str, Any]] | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
    timeout: float | None = None,
    schema: Any = None,
    **sampling: Any,
) -> CompletionStream:
    """An answer as it arrives: iterate over its chunks; leaving the ``with`` block ends it.

    Parameters
    ----------
    prompt : str
        The text to continue, or the user's turn of a chat; sent as it stands.
    model : str or None
        Model id, as `models` lists it. Without one: `settings.model`, ``TOGETHER_MODEL``, or the default, which is
        ``local/ngram`` where there is no key. A server that has only one model needs none.
    api : str
        How to ask: ``chat``, ``completions``, ``inference``, or ``auto``, which goes by the model's type as told by
        ``GET /v1/models`` (``language`` and ``code`` are asked for completions, all others for a chat).
    system : str or None
        System prompt of a chat.
    messages : iterable of dict or None
        A whole conversation in place of `prompt`, oldest turn first: ``{"role": "user", "content": "Hello"}`` each,
        the role being ``system``, ``user`` or ``assistant``.
    base_url : str or None
        Another server than that of the settings, with ``/v1`` or without; https, or http to this machine.
    api_key : str or None
        Another key than that of the settings. It is shown nowhere.
    timeout : float or None
        Seconds of silence to put up with, before the answer begins and in its middle; without it
        `settings.timeout` and `settings.silence_timeout`.
    schema : dict, type, str or None
        The form that the answer is to have: a JSON Schema (a dict), a pydantic model, or ``"json"`` for any JSON
        object. Sent as ``response_format`` to the chat API; `Completion.parsed` is what the answer came to.
    **sampling
        Sampling parameters. What is not given is taken from `settings`; None unsets it, and unset is not sent.

        {sampling}

    Returns
    -------
    CompletionStream
        An iterator of `Chunk`. Nothing is sent before the first one is asked for. A request that fails is sent again
        up to `settings.max_retries` times, as long as nothing of an answer has come; each wait is logged as a
        warning. `CompletionStream.cancel` ends it from any thread; `CompletionStream.completion` is what has come.

    Raises
    ------
    InputError
        At once: something in the request cannot be sent, there is no key (`MissingKeyError`), or the budget is spent.
    TogetherError
        At once, where the server has to be asked for its models and that fails; else while iterating: what went
        wrong. Its `completion` is what came.

    See Also
    --------
    complete : The same, waited for.

    Examples
    --------
    >>> from together_nb import stream
    >>> with stream("Once upon a time", max_tokens=20, seed=1) as chunks:
    ...     text = "".join(chunk.text for chunk in chunks)
    >>> text == chunks.completion.text
    True
    >>> chunks.completion.usage.completion_tokens
    20
    """
    api_key = hidden(api_key)
    return open_stream(
        prompt, model=model, api=api, system=system, messages=messages, base_url=base_url, api_key=api_key,
        timeout=timeout, schema=schema, **sampling,
    )  # fmt: skip


@documented(stream)
def complete(
    prompt: str = "",
    *,
    model: str | None = None,
    api: str = AUTO,
    system: str | None = None,
    messages: Iterable[dict[str, Any]] | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
    timeout: float | None = None,
    schema: Any = None,
    chat: str | Conversation | None = None,
    **sampling: Any,
) -> Completion:
    """An answer, whole. It is also added to `history`.

    Parameters
    ----------
    prompt, model, api, system, messages, base_url, api_key, timeout, schema
        As for `stream`.
    chat : str or Conversation or None
        A conversation or its name, in place of `messages`: what was said in it is sent along, and the answer is its
        next turn. One of a new name is begun, and stands in `conversations`.
    **sampling
        As for `stream`.

    Returns
    -------
    Completion
        The answer; it shows itself in a notebook. A request that fails is sent again up to `settings.max_retries`
        times, as long as nothing of an answer has come.

    Raises
    ------
    InputError
        Something in the request cannot be sent, there is no key (`MissingKeyError`), or the budget is spent.
    TogetherError
        What went wrong; its `completion` is what came, and that is in `history` too.
    KeyboardInterrupt
        Ctrl-C or the notebook's ■; what came is in `history`.

    See Also
    --------
    stream : The same, as it arrives.

    Examples
    --------
    >>> from together_nb import complete, history
    >>> answer = complete("Alan Turing was", max_tokens=12, temperature=0)
    >>> answer.model, answer.usage.completion_tokens, answer.truncated
    ('local/ngram', 12, True)
    >>> answer is history[-1]
    True
    >>> complete("Write of him.", chat="lesson", max_tokens=12).api
    'chat'
    """
    api_key = hidden(api_key)
    options = {"model": model, "api": api, "base_url": base_url, "timeout": timeout, "schema": schema, **sampling}
    opened, keep_turn = _opened(prompt, messages, system, chat, api_key, options)
    with told("stopped by you; what came is kept."), opened:

        def read() -> None:
            joins(opened)
            for _ in opened:
                pass

        try:
            interruptible(read)
        except BaseException:
            opened.cancel()
            raise
        finally:
            completion = opened.completion
            keep_turn(completion)
            history.append(completion)
    return completion


def _opened(
    prompt: str,
    messages: Iterable[dict[str, Any]] | None,
    system: str | None,
    chat: str | Conversation | None,
    api_key: str | None,
    options: dict[str, Any],
) -> tuple[CompletionStream, Callable[[Completion], object]]:
    """A stream, and what keeps its answer as a turn where it is one of a conversation."""
    if chat is None:
        return open_stream(prompt, messages=messages, system=system, api_key=api_key, **options), lambda _: None
    if messages is not None:
        raise InputError(
            "A conversation and messages were given.", "Leave the messages out: the conversation has them."
        )
    from together_nb.chats import next_turn

    return next_turn(chat, prompt, system=system, api_key=api_key, **options)


def run(opened: CompletionStream, view: View, keep: Callable[[Completion], None] = history.append) -> Completion:
    """Stream into a view until the end, an error or Ctrl-C; what came is drawn and kept in each case.

    Parameters
    ----------
    opened
        The stream; it is read in a thread of its own, so that the view can be drawn when nothing
        comes and Ctrl-C is never waited for.
    view
        What draws it.
    keep
        Called with the completion, whole or not, before this returns or raises.

    Raises
    ------
    TogetherError
        What went wrong; its `completion` is what came.
    KeyboardInterrupt
        Ctrl-C or the notebook's ■.
    """
    # Of a wait the view tells, which sees it at the stream.
    with told("stopped by you; what came is kept."), put_off() as came, Scope() as scope, told_to(nobody):
        pump = Pump(opened)
        drawn.add(pump)
        try:
            view.start(opened)
            if not came:
                pump.start()
            _draw(opened, pump, view, came)
            if came:
                opened.cancel()
                scope.cancel()
        except BaseException:
            opened.cancel()
            scope.cancel()
            raise
        finally:
            drawn.discard(pump)
            completion = brought_to_an_end(opened, pump, view, keep)
    if pump.error is not None:
        if isinstance(pump.error, TogetherError):
            pump.error.completion = completion
        raise pump.error
    return completion


def keep_in_place(completion: Completion, before: Completion | None = None) -> None:
    """Add an answer to `history`, or put it where the part stands that it goes on from."""
    # It is mostly among the last; and where there is none before it, nothing is looked for.
    numbers = range(len(history) - 1, -1, -1) if before is not None else ()
    place = next((number for number in numbers if history[number] is before), None)
    if place is None:
        history.append(completion)
    else:
        history[place] = completion


def _draw(stream: CompletionStream, pump: Pump, view: View, interrupts: list[int]) -> None:
    """Draw what comes, until the end or until it is stopped."""
    while not interrupts:
        pump.wait(TICK_SECONDS)
        ended = pump.ended  # looked at first, so that what came before the end is taken below
        view.write(pump.take())
        if ended or stream.cancelled:
            return
        pump.pause(max(REPAINT_SECONDS, len(drawn) / REPAINTS_IN_ALL))


def brought_to_an_end(
    opened: CompletionStream, pump: Pump, view: View, keep: Callable[[Completion], None]
) -> Completion:
    """What came of a stream that has ended or was cancelled: kept, then drawn to its end."""
    # A look-up of names cannot be ended; then there is nothing to wait for.
    pump.join(_STOP_SECONDS if opened.answered or not opened.cancelled else _UNANSWERED_SECONDS)
    completion = opened.completion
    unanswered[:] = [completion] if completion.came_to_nothing else []
    keep(completion)  # first, so that a view that fails loses nothing
    try:
        view.write(pump.take())
    finally:
        view.finish(completion, pump.error)
    return completion
