"""What an answer holds beside its text and its thinking, in lines: a refusal, and tool calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from together_nb.base.wording import shorten

if TYPE_CHECKING:
    from together_nb.values.chunk import Choice

REFUSAL = "Refusal: "
_LONGEST_CALL = 500  # characters of a tool call's arguments


def remarks(choice: Choice) -> list[str]:
    """Lines on the refusal and on each tool call of an answer."""
    return [*([REFUSAL + choice.refusal.strip()] if choice.refusal else []), *call_lines(choice)]


def call_lines(choice: Choice) -> list[str]:
    """A line on each tool call."""
    functions = [call.get("function") or {} for call in choice.tool_calls]
    return [
        f"Tool call: {one.get('name', '')}({shorten(str(one.get('arguments', '')), _LONGEST_CALL)})"
        for one in functions
    ]
