"""Answers that go on from one another as rows in which each message is written once, and back.

Each turn of a conversation sends all that was said before. Written out with each, a conversation of 500 turns took
25 MB, which is half a million messages for a thousand.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from together_nb.values.reading import UnfitError, expect
from together_nb.values.request import read_messages

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from together_nb.values.completion import Completion

Messages = tuple[dict[str, Any], ...]
MOST_MESSAGES = 10_000_000
"""In all rows, written out: 80 MB. A conversation of 3,000 turns has nine million."""


def share_messages(completions: Iterable[Completion]) -> Iterator[dict[str, Any]]:
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


def restore_messages(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What `share_messages` gave, with all messages, for `Completion.from_dict`.

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
        A row goes on from one that is not before it, or all of them are too long.
    """
    all_messages: list[Messages | None] = []
    room = MOST_MESSAGES
    for row in rows:
        request = row.get("request") if isinstance(row, dict) else None
        if not isinstance(request, dict):
            all_messages.append(None)
            yield row  # whoever makes a completion of it says what is wrong
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
