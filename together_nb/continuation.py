"""Going on from where an answer ended: the request that asks for it, and the two parts as one answer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from together_nb.completion import Choice, Completion, CompletionRequest, Timings

if TYPE_CHECKING:
    from together_nb.dialects import Dialect


def can_go_on(completion: Completion) -> bool:
    """Whether the answer ended before its end (at its limit, stopped, lost), and there is a text to go on from."""
    cut = completion.truncated or completion.cancelled or bool(completion.error)
    return cut and len(completion.choices) == 1 and bool(_answered(completion))


def continuation(completion: Completion, dialect: Dialect) -> CompletionRequest:
    """The request for what comes after `completion`.

    A text is continued as a prompt. In a chat the answer so far is the last message, the
    assistant's own: servers that know how take it for the beginning of their answer.

    Parameters
    ----------
    completion
        The part that is there, of one choice (`can_go_on`).
    dialect
        The one that its request was spoken in.
    """
    request, text = completion.request, _answered(completion)
    # Of several answers none could be told to be the one that goes on; and the prompt is not wanted twice. Asked for
    # a schema, a server would begin another answer that fits it, where the rest of this one is wanted.
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
    """The text without the prompt, where that is echoed in front of it."""
    text, prompt = completion.text, completion.request.prompt
    if not completion.request.sampling.echo:
        return text
    return "" if prompt.startswith(text) else text.removeprefix(prompt)


def joined(before: Completion, after: Completion) -> Completion:
    """Both parts as the one answer to the first part's request.

    Counts are added, since both parts are billed; the seconds of the pause between are not counted.
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
