"""The answers of this session: `history`, and the last request that brought nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from together_nb.values.completion import Completion

LAST = "_together"  # the user's variable that holds the last answer
history: list[Completion] = []
"""Every answer of this session, oldest first; of one that was stopped or failed, what came."""
unanswered: list[Completion] = []
"""The last request, where nothing came of it: it is not in the history, and what is there is older."""


def keep(completion: Completion, before: Completion | None = None) -> None:
    """Add an answer to `history`, or put it where the part stands that it goes on from."""
    # It is mostly among the last; and where there is none before it, nothing is looked for.
    numbers = range(len(history) - 1, -1, -1) if before is not None else ()
    place = next((number for number in numbers if history[number] is before), None)
    if place is None:
        history.append(completion)
    else:
        history[place] = completion
