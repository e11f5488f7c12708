"""Completions that continue one another, as rows that hold each message once, and back.

Each turn of a conversation sends all earlier messages. Written with each turn, a conversation of 500 turns took
25 MB: half a million messages instead of a thousand.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from together_nb.values.from_json import UnfitError, expect
from together_nb.values.request import read_messages

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from together_nb.values.completion import Completion

Messages = tuple[dict[str, Any], ...]
MOST_MESSAGES = 10_000_000
"""The most in all rows, restored: 80 MB. A conversation of 3,000 turns has nine million."""


def share_messages(completions: Iterable[Completion]) -> Iterator[dict[str, Any]]:
    """Yield rows of `Completion.to_dict`, with an earlier row's number instead of the messages it already has.

    Parameters
    ----------
    completions
        In the order of writing.

    Yields
    ------
    dict
        Its request has as ``after`` the number, from 0, of the earlier row whose messages precede its own.
    """
    latest: dict[tuple[str, str], tuple[int, tuple[dict[str, Any], ...]]] = {}  # by the first message
    for number, completion in enumerate(completions):
        request = completion.request
        if not request.messages:
            yield completion.to_dict()
            continue
        first = request.messages[0]
        beginning = str(first.get("role")), str(first.get("content"))
        after, before = latest.get(beginning, (0, ()))
        latest[beginning] = number, request.messages
        # Turns share their message objects, so that only different ones are compared in full.
        goes_on = bool(before) and request.messages[: len(before)] == before
        own = request.messages[len(before) :] if goes_on else request.messages
        row = replace(completion, request=replace(request, messages=own)).to_dict()
        if goes_on:
            row["request"]["after"] = after
        yield row


def restore_messages(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the rows of `share_messages` with all messages, for `Completion.from_dict`.

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
    UnfitError
        A row continues one that does not precede it, or the messages are too many.
    """
    all_messages: list[Messages | None] = []
    room = MOST_MESSAGES
    for row in rows:
        request = row.get("request") if isinstance(row, dict) else None
        if not isinstance(request, dict):
            all_messages.append(None)
            yield row  # reported when a completion is made of it
            continue
        request = dict(request)
        own, after = request.get("messages"), request.pop("after", None)
        try:
            messages = None if own is None else read_messages(own)
            if after is not None:
                before = _at(all_messages, after, room)
                room -= len(before)
                messages = before + (messages or ())
        except UnfitError as error:
            raise error.at("messages").at("request") from None
        all_messages.append(messages)
        if messages is not None:
            request["messages"] = messages
        yield {**row, "request": request}


def _at(all_messages: list[Messages | None], number: Any, room: int) -> Messages:
    found: Messages | None = all_messages[number] if 0 <= expect(int, number) < len(all_messages) else None
    if found is None:
        raise UnfitError(f"go on from those of answer {number}, and none comes before.")
    if len(found) > room:
        raise UnfitError(f"are too many: {MOST_MESSAGES:,} are read at most, those of earlier turns with each.")
    return found
