"""Continues an answer that was cut off: requests the rest, streams it, and joins both parts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from together_nb.errors import InputError
from together_nb.run import driver, history
from together_nb.run.chats import conversations
from together_nb.run.resolve import open_request
from together_nb.values.chunk import Choice, Chunk, Timings
from together_nb.values.completion import Completion
from together_nb.wire.dialects import dialect_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Unpack

    from together_nb.run.driver import View
    from together_nb.run.stream import CompletionStream
    from together_nb.values.completion import Completion
    from together_nb.values.keywords import Sampling
    from together_nb.values.request import CompletionRequest
    from together_nb.wire.dialects import Dialect


def last_answer() -> Completion:
    """Return the answer to continue: the last one of the history.

    Raises
    ------
    InputError
        There is none, or the last request brought nothing.
    """
    if history.unanswered:
        raise InputError(
            "Nothing came of the last request, so there is nothing to go on from.",
            "Run its cell again; continue_from(history[-1]) goes on from the answer before it.",
        )
    if not history.history:
        raise InputError("There is no answer yet to go on from.", "Ask first, with %%together.")
    return history.history[-1]


def open_continuation(before: Completion, **sampling: Any) -> CompletionStream:
    """Return the stream that continues `before`.

    Parameters
    ----------
    before
        An answer that was cut off: at its limit, stopped, or by a lost connection.
    **sampling
        Sampling parameters that differ from those of the first part; None unsets one.

    Raises
    ------
    InputError
        It ended by itself, it is one of several, or it is empty.
    """
    if not can_continue(before):
        if len(before.choices) > 1:
            why = "There are several answers, and none can be told to be the one that goes on."
        elif not before.text:
            why = "Nothing of the answer came that could be gone on from."
        else:
            why = "The last answer ended by itself: there is nothing to go on from."
        raise InputError(why, "Ask anew with %%together; `--chat` keeps a conversation.")
    request = continuation_request(before, dialect_for(before.api))
    # A parameter that is given now replaces one of that name in the first part's extra_body.
    extra = {name: value for name, value in (request.extra_body or {}).items() if name not in sampling} or None
    request = replace(request, sampling=request.sampling.updated(sampling), extra_body=extra)
    return open_request(request, filled=before.filled)


def replace_answer(before: Completion, whole: Completion) -> None:
    """Replace the first part by `whole`, in the history and in its conversation."""
    history.keep(whole, before)
    for conversation in conversations.values():
        conversation.put_in_place(before, whole)


def run(
    stream: CompletionStream, before: Completion, view: View, keep: Callable[[Completion], None] = lambda _: None
) -> Completion:
    """Stream the rest of `before` into a view that shows both parts as one answer; return the whole.

    Parameters
    ----------
    stream
        What `open_continuation` returned.
    before
        The first part.
    view
        What draws it.
    keep
        Called with the whole, once it has replaced `before`; not if nothing arrived.
    """

    def keep_whole(after: Completion) -> None:
        if not after.came_to_nothing:
            seen.whole = join_parts(before, after)
            replace_answer(before, seen.whole)
            keep(seen.whole)

    seen = _JoinedView(view, before)
    try:
        driver.run(stream, seen, keep_whole)
    finally:
        history.unanswered.clear()  # the first part can still be continued
    return seen.whole


class _JoinedView:
    """A view of both parts: it draws the first at once."""

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
        if self.whole is self._before:  # nothing arrived: the first part, with this ending
            self.whole = join_parts(self._before, completion)
        self._view.finish(self.whole, error)


def continue_from(completion: Completion | None = None, **sampling: Unpack[Sampling]) -> Completion:
    """Continue an answer from its very end; the whole replaces it in the history and in its conversation.

    Parameters
    ----------
    completion : Completion or None
        An answer that was cut off at its limit, stopped or lost; None takes the last of the history.
    **sampling
        Sampling parameters that differ from those of the first part; None unsets one.

        max_tokens : int or None
            The most tokens to generate.
            A whole number of at least 1.
        temperature : float or None
            How freely to choose: 0 always takes the likeliest token, 1 follows the model's odds, more is wilder.
            A number of at least 0.
        top_p : float or None
            Choose among the likeliest tokens that together have this probability.
            A number from 0 to 1.
        top_k : int or None
            Choose among this many likeliest tokens.
            A whole number.
        min_p : float or None
            Drop tokens less likely than this share of the likeliest one's probability.
            A number from 0 to 1.
        repetition_penalty : float or None
            Over 1 makes tokens that already occurred less likely.
            A number over 0.
        presence_penalty : float or None
            Over 0 makes tokens that the answer already used less likely, however often.
            A number.
        frequency_penalty : float or None
            Over 0 makes tokens less likely the more often the answer used them.
            A number.
        stop : list of str or None
            End the answer before this text; may be given several times.
            A text or a list of texts.
        seed : int or None
            The same seed and request give the same answer, as far as the server can.
            A whole number.
        logprobs : int or None
            Return each token's log-probability and this many alternatives.
            A whole number from 0 to 20.
        n : int or None
            How many answers to generate.
            A whole number from 1 to 128.
        echo : bool or None
            Return the prompt too, in front of the answer.
            True or False.
        logit_bias : dict of str to float or None
            Add to the logit of single tokens: a JSON object of token id to bias.
            A JSON object.
        reasoning_effort : str or None
            How long a reasoning model may think.
            One of low, medium, high. For the chat API alone.

    Returns
    -------
    Completion
        Both parts as one answer.

    Raises
    ------
    InputError
        The answer cannot be continued: it ended by itself, there is none, or there are several.
    TogetherError
        The request failed; the first part is kept, with what arrived after it.
    KeyboardInterrupt
        Ctrl-C or the notebook's ■; what has arrived is kept, as part of the whole.

    Examples
    --------
    >>> from together_nb import complete, continue_from
    >>> part = complete("Once upon a time", max_tokens=5, seed=1)
    >>> whole = continue_from(part, max_tokens=5)
    >>> whole.text.startswith(part.text), len(whole.text) > len(part.text)
    (True, True)
    """
    from together_nb.run.driver import SilentView

    before = last_answer() if completion is None else completion
    return run(open_continuation(before, **sampling), before, SilentView())


def can_continue(completion: Completion) -> bool:
    """Whether the answer was cut off (at its limit, stopped, lost), and has a text to continue."""
    cut = completion.truncated or completion.cancelled or bool(completion.error)
    return cut and len(completion.choices) == 1 and bool(_answered(completion))


def continuation_request(completion: Completion, dialect: Dialect) -> CompletionRequest:
    """Return the request for the rest of `completion`.

    A text is continued as a prompt. In a chat the answer so far is sent as the last message, from the
    assistant: servers that support it take it for the beginning of their answer.

    Parameters
    ----------
    completion
        The first part, of one choice (`can_continue`).
    dialect
        The dialect of its request.
    """
    request, text = completion.request, _answered(completion)
    # With several answers it would be open which one continues, and the prompt is not wanted twice. Given a schema,
    # a server would begin another answer that fits it instead of continuing this one.
    sampling = request.sampling.updated({"n": None, "echo": None})
    if not dialect.chat:
        return replace(request, prompt=request.prompt + text, sampling=sampling)
    *turns, last = request.messages or ({"role": "user", "content": request.prompt},)
    if last["role"] == "assistant" and isinstance(last.get("content"), str):  # it was a continuation itself
        said = {**last, "content": last["content"] + text}
    else:
        turns, said = [*turns, last], {"role": "assistant", "content": text}
    return replace(request, prompt="", messages=(*turns, said), sampling=sampling, schema=None)


def _answered(completion: Completion) -> str:
    """Return the text without the prompt, if that is echoed in front of it."""
    text, prompt = completion.text, completion.request.prompt
    if not completion.request.sampling.echo:
        return text
    return "" if prompt.startswith(text) else text.removeprefix(prompt)


def join_parts(before: Completion, after: Completion) -> Completion:
    """Join both parts to one answer to the first part's request.

    Token counts are added, since both parts are billed; the pause between them is not counted.
    """
    one, other = before.choices[0], after.choices[0]
    whole = Choice(
        one.index,
        one.text + other.text,
        one.reasoning + other.reasoning,
        other.finish_reason,
        [*one.tokens, *other.tokens],
    )
    counted = before.usage is not None and after.usage is not None
    first = before.timings.first_token
    return replace(
        after,
        request=before.request,
        choices=[whole],
        model=after.model or before.model,
        id=after.id or before.id,
        usage=before.usage.plus(after.usage) if counted else None,  # type: ignore[union-attr, arg-type]
        timings=Timings(
            first if first is not None else after.timings.first_token, before.timings.total + after.timings.total
        ),
        chunks=before.chunks + after.chunks,
        filled=before.filled,
    )
