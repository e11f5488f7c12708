"""The answers of this session: `history`, and the last request if it brought nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from together_nb.values.completion import Completion

LAST = "_together"  # the user's variable that holds the last answer
history: list[Completion] = []
"""Every answer of this session, oldest first; partial if it was stopped or failed."""
unanswered: list[Completion] = []
"""The last request, if it brought nothing: it is not in the history, whose answers are older."""


def keep(completion: Completion, before: Completion | None = None) -> None:
    """Add an answer to `history`, or replace the partial `before` that it continues."""
    # Searched from the end: the partial is usually among the last.
    numbers = range(len(history) - 1, -1, -1) if before is not None else ()
    place = next((number for number in numbers if history[number] is before), None)
    if place is None:
        history.append(completion)
    else:
        history[place] = completion
