"""Continues an answer that was cut off: requests the rest, streams it, and joins both parts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from together_nb.errors import InputError
from together_nb.run import driver
from together_nb.run.resolve import endpoint_for, endpoint_of, open_request
from together_nb.values.chunk import Choice, Chunk, Timings
from together_nb.values.completion import may_lack_its_end
from together_nb.wire.dialects import dialect_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from together_nb.config.settings import Settings
    from together_nb.run.driver import View
    from together_nb.run.resolve import Context
    from together_nb.values.completion import Completion
    from together_nb.values.request import CompletionRequest
    from together_nb.wire.dialects import Dialect
    from together_nb.wire.stream import CompletionStream


def open_continuation(
    session: Context,
    before: Completion,
    *,
    base_url: str | None = None,
    api_key: str | None = None,
    default_headers: Mapping[str, str] | None = None,
    chosen: Settings | None = None,
    **sampling: Any,
) -> CompletionStream:
    """Return the stream that continues `before`, on the server that it came from.

    An answer from a file goes to the server in use instead, since whoever wrote the file may have named any.

    Parameters
    ----------
    session
        The session.
    before
        An answer that was cut off: at its limit, stopped, or by a lost connection.
    base_url, api_key, default_headers
        Another server, another key, and further headers.
    chosen
        Other defaults than those of the session.
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
    if before.loaded or not before.server or base_url:
        endpoint = endpoint_for(session, base_url, api_key, default_headers=default_headers, chosen=chosen)
    else:
        endpoint = endpoint_of(session, before, api_key, chosen, default_headers=default_headers)
    named = bool(base_url) or not before.loaded
    stream = open_request(session, request, endpoint, filled=before.filled, chosen=chosen, named=named)
    stream.continue_text()
    return stream


def run(
    stream: CompletionStream,
    before: Completion,
    view: View | None,
    keep: Callable[[Completion], Completion | None],
) -> Completion:
    """Stream the rest of `before` into a view that shows both parts as one answer; return the whole.

    Parameters
    ----------
    stream
        What `open_continuation` returned.
    before
        The first part.
    view
        What draws it, if anything.
    keep
        Called with what came of the rest; returns the whole, or None if nothing came.
    """
    joined = None if view is None else _JoinedView(view, before)
    wholes: list[Completion] = []

    def keep_whole(after: Completion) -> None:
        wholes.append(keep(after) or join_parts(before, after))
        stream.endpoint.client.call_keys.add(wholes[0], stream.endpoint.key, stream.endpoint.headers)
        if joined is not None:
            joined.whole = wholes[0]

    driver.run(stream, joined, keep_whole)
    return wholes[0]


class _JoinedView:
    """A view of both parts: it draws the first at once."""

    def __init__(self, view: View, before: Completion) -> None:
        self._view = view
        self._before = self.whole = before

    def start(self, stream: CompletionStream) -> None:
        self._view.start(stream)
        first = self._before.choices[0]
        self._view.write([Chunk(first.text, first.index, first.reasoning, tuple(first.tokens))])

    def write(self, chunks: list[Chunk]) -> None:
        self._view.write(chunks)

    def finish(self, completion: Completion, error: BaseException | None) -> None:  # noqa: ARG002  (the whole is shown)
        self._view.finish(self.whole, error)


def can_continue(completion: Completion) -> bool:
    """Whether the answer was cut off (at its limit, stopped, lost, for no reason), and has a text to continue."""
    return may_lack_its_end(completion) and len(completion.choices) == 1 and bool(_answered(completion))


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
        one.refusal + other.refusal,
        [*one.tool_calls, *other.tool_calls],
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
