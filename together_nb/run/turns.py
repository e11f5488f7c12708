"""Opens the stream of a prompt: filled in, and as a turn of a conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from together_nb.errors import InputError
from together_nb.run.answers import add_turn, conversation_for
from together_nb.run.resolve import open_stream
from together_nb.values.conversation import Turn, messages_with

if TYPE_CHECKING:
    from collections.abc import Callable

    from together_nb.run.answers import Keeper
    from together_nb.run.template import Filler
    from together_nb.values.completion import Completion
    from together_nb.values.conversation import Conversation
    from together_nb.wire.stream import CompletionStream


def open_turn(
    session: Keeper,
    prompt: str = "",
    *,
    chat: str | Conversation | None = None,
    cell: str = "",
    system: str | None = None,
    filler: Filler | None = None,
    **options: Any,
) -> tuple[CompletionStream, Callable[[Completion], object] | None]:
    """Return the stream of a prompt, and for a turn of a conversation the function that adds it.

    Parameters
    ----------
    session
        The session.
    prompt, system
        The texts. A conversation's system prompt holds on if there is none.
    chat
        The conversation, or its name; None is no conversation.
    cell
        Id of the requesting cell. Its earlier turn and all later ones are not sent, and are dropped once there is an
        answer.
    filler
        Fills in the names; None leaves the texts as they are.
    **options
        Those of `resolve.open_stream`.

    Raises
    ------
    InputError
        Something in the request cannot be sent.
    """
    if filler is not None:
        prompt, system, options["filled"] = filler.fill_both(prompt, system)
    if chat is None:
        return open_stream(session, prompt, system=system, **options), None
    if options.pop("messages", None) is not None:
        raise InputError(
            "A conversation and messages were given.", "Leave the messages out: the conversation has them."
        )
    if not isinstance(prompt, str) or not prompt.strip():
        raise InputError("The prompt is empty.", "Write what is said next.")
    before = conversation_for(session, chat).before(cell)
    standing = before.system if system is None else system
    stream = open_stream(session, messages=messages_with(before, prompt), system=standing, **options)
    return stream, lambda completion: add_turn(session, chat, Turn(prompt, completion, system, cell))
