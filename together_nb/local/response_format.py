"""The grammar of a `response_format`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from together_nb.errors import InputError
from together_nb.local.grammar import Grammar

if TYPE_CHECKING:
    from collections.abc import Callable

ANY_OBJECT = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "maxLength": 30},
        "text": {"type": "string"},
        "number": {"type": "integer", "minimum": 1, "maximum": 10},
    },
    "required": ["title", "text", "number"],
    "additionalProperties": False,
}
"""The schema used for ``{"type": "json_object"}``, which allows any object: a title, a sentence, a number."""


def form_of(response_format: Any, look: Callable[[], None] = lambda: None) -> Grammar | None:
    """Return the grammar of a ``response_format``; None is plain text.

    Accepts Together's and OpenAI's ``{"type": "json_schema", "json_schema": {"schema": …}}``,
    Together's older ``{"type": …, "schema": …}``, ``{"type": "json_object"}``, which yields an
    `ANY_OBJECT`, and ``{"type": "text"}``.

    Parameters
    ----------
    response_format
        As received.
    look
        As in `Grammar`.

    Raises
    ------
    InputError
        It is none of these, or `Grammar` rejects its schema.
    """
    kind = response_format.get("type") if isinstance(response_format, dict) else None
    if kind == "text":
        return None
    if kind not in ("json_object", "json_schema"):
        raise InputError(
            f"response_format must be an object whose type is text, json_object or json_schema, not {response_format!r:.80}."
        )
    within = response_format.get("json_schema")
    schema = within.get("schema") if isinstance(within, dict) else response_format.get("schema")
    if schema is None:
        if kind == "json_schema":
            raise InputError(
                'response_format lacks its schema: {"type": "json_schema", "json_schema": {"name": …, "schema": …}}.'
            )
        schema = ANY_OBJECT
    return Grammar(schema, look)
