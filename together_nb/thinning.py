"""Answers that go on from one another as rows in which each message is written once, and back.

Each turn of a conversation sends all that was said before. Written out with each, a conversation of 500 turns took
25 MB, which is half a million messages for a thousand.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from together_nb.completion import Completion


def thinned(completions: Iterable[Completion]) -> Iterator[dict[str, Any]]:
    """Rows as `Completion.to_dict` gives them, but of messages that an earlier one sent before, only its number.

    Parameters
    ----------
    completions
        In the order in which they are written.

    Yields
    ------
    dict
        With the number, from 0, of the earlier one as ``after`` of its request, whose messages come before its own.
    """
    latest: dict[tuple[str, str], tuple[int, tuple[dict[str, Any], ...]]] = {}  # by how the messages begin
    for number, completion in enumerate(completions):
        request = completion.request
        if not request.messages:
            yield completion.to_dict()
            continue
        first = request.messages[0]
        beginning = str(first.get("role")), str(first.get("content"))
        after, before = latest.get(beginning, (0, ()))
        latest[beginning] = number, request.messages
        # Turns share their messages, so that they are looked at only where they differ.
        goes_on = bool(before) and request.messages[: len(before)] == before
        own = request.messages[len(before) :] if goes_on else request.messages
        row = replace(completion, request=replace(request, messages=own)).to_dict()
        if goes_on:
            row["request"]["after"] = after
        yield row


def whole(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What `thinned` gave, with all messages, for `Completion.from_dict`.

    Parameters
    ----------
    rows
        In the same order.

    Yields
    ------
    dict
        Each row.

    Raises
    ------
    ValueError
        A row goes on from one that is not before it.
    """
    messages: list[Any] = []
    for row in rows:
        request = dict(row["request"])
        after = request.pop("after", None)
        if after is not None:
            request["messages"] = [*_at(messages, after), *request["messages"]]
        messages.append(request.get("messages"))
        yield {**row, "request": request}


def _at(messages: list[Any], number: int) -> Any:
    if not 0 <= number < len(messages):
        raise ValueError(f"no answer {number} comes before")
    return messages[number]
