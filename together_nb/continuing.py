"""Going on from the last answer's very end, in its place in the history and in its conversation."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from together_nb import session
from together_nb.chats import conversations
from together_nb.completion import Chunk
from together_nb.continuation import can_go_on, continuation, joined
from together_nb.dialects import dialect_for
from together_nb.documented import documented
from together_nb.errors import InputError
from together_nb.resolve import open_request

if TYPE_CHECKING:
    from collections.abc import Callable

    from together_nb.client import CompletionStream
    from together_nb.completion import Completion
    from together_nb.session import View


def last() -> Completion:
    """The answer that can be gone on from: the last one of the history.

    Raises
    ------
    InputError
        There is none, or it is not cut.
    """
    if session.unanswered:
        raise InputError(
            "Nothing came of the last request, so there is nothing to go on from.",
            "Run its cell again; continue_from(history[-1]) goes on from the answer before it.",
        )
    if not session.history:
        raise InputError("There is no answer yet to go on from.", "Ask first, with %%together.")
    return session.history[-1]


def opened(before: Completion, **sampling: Any) -> CompletionStream:
    """The stream of what comes after `before`.

    Parameters
    ----------
    before
        An answer that was cut: by its limit, stopped, or by a lost connection.
    **sampling
        Sampling parameters that differ from those of the first part; None unsets one.

    Raises
    ------
    InputError
        It ended by itself, it is one of several, or nothing of it came.
    """
    if not can_go_on(before):
        if len(before.choices) > 1:
            why = "There are several answers, and none can be told to be the one that goes on."
        elif not before.text:
            why = "Nothing of the answer came that could be gone on from."
        else:
            why = "The last answer ended by itself: there is nothing to go on from."
        raise InputError(why, "Ask anew with %%together; `--chat` keeps a conversation.")
    request = continuation(before, dialect_for(before.api))
    return open_request(replace(request, sampling=request.sampling.updated(sampling)), filled=before.filled)


def put_in_place(before: Completion, whole: Completion) -> None:
    """Put `whole` where its first part stands, in the history and in its conversation."""
    session.keep_in_place(whole, before)
    for conversation in conversations.values():
        conversation.put_in_place(before, whole)


def run(
    stream: CompletionStream, before: Completion, view: View, keep: Callable[[Completion], None] = lambda _: None
) -> Completion:
    """Stream what comes after `before` into a view, which shows both parts as one answer; returns the whole.

    Parameters
    ----------
    stream
        What `opened` gave.
    before
        The first part.
    view
        What draws it.
    keep
        Called with the whole, once it has its place; not where nothing came.
    """

    def keep_whole(after: Completion) -> None:
        if not after.came_to_nothing:
            seen.whole = joined(before, after)
            put_in_place(before, seen.whole)
            keep(seen.whole)

    seen = _Whole(view, before)
    try:
        session.run(stream, seen, keep_whole)
    finally:
        session.unanswered.clear()  # the first part is still there to go on from
    return seen.whole


class _Whole:
    """A view of both parts: the first is there at once."""

    def __init__(self, view: View, before: Completion) -> None:
        self._view = view
        self.whole = before
        self._before = before

    def start(self, stream: CompletionStream) -> None:
        self._view.start(stream)
        first = self._before.choices[0]
        self._view.write([Chunk(first.text, first.index, first.reasoning, tuple(first.tokens))])

    def write(self, chunks: list[Chunk]) -> None:
        self._view.write(chunks)

    def finish(self, completion: Completion, error: BaseException | None) -> None:
        if self.whole is self._before:  # nothing came: as the first part was, and how this ended
            self.whole = joined(self._before, completion)
        self._view.finish(self.whole, error)


@documented()
def continue_from(completion: Completion | None = None, **sampling: Any) -> Completion:
    """Go on from an answer's very end; the whole takes its place in the history and in its conversation.

    Parameters
    ----------
    completion : Completion or None
        An answer that was cut at its limit, stopped or lost; the last of the history where it is None.
    **sampling
        Sampling parameters that differ from those of the first part; None unsets one.

        {sampling}

    Returns
    -------
    Completion
        Both parts as one answer.

    Raises
    ------
    InputError
        It cannot be gone on from: it ended by itself, there is none, or there are several.
    TogetherError
        What went wrong; the first part is kept, and what came after it.
    KeyboardInterrupt
        Ctrl-C or the notebook's ■; what came is kept, as part of the whole.

    Examples
    --------
    >>> from together_nb import complete, continue_from
    >>> part = complete("Once upon a time", max_tokens=5, seed=1)
    >>> whole = continue_from(part, max_tokens=5)
    >>> whole.text.startswith(part.text), len(whole.text) > len(part.text)
    (True, True)
    """
    from together_nb.views.text import SilentView

    before = last() if completion is None else completion
    return run(opened(before, **sampling), before, SilentView())
