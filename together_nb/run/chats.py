"""The conversations of this session, by name: what ``--chat`` continues."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from together_nb.base.suggest import suggestion
from together_nb.errors import InputError
from together_nb.run.resolve import open_stream
from together_nb.values.conversation import DEFAULT_NAME, Conversation, Turn, messages_with

if TYPE_CHECKING:
    from collections.abc import Callable

    from together_nb.run.stream import CompletionStream
    from together_nb.values.completion import Completion

conversations: dict[str, Conversation] = {}
"""The session's conversations by name; ``conversations["chat"]`` is the one that ``--chat`` without a name keeps."""


def get_or_create(chat: str | Conversation) -> Conversation:
    """Return the conversation of that name, begun if needed; a `Conversation` is returned as is."""
    if isinstance(chat, Conversation):
        return chat
    if not isinstance(chat, str):
        raise InputError(
            f"chat must be a conversation's name, not {type(chat).__name__}.", f"The first one is {DEFAULT_NAME!r}."
        )
    return conversations.setdefault(chat or DEFAULT_NAME, Conversation(chat or DEFAULT_NAME))


def find_or_new(chat: str | Conversation) -> Conversation:
    """Return the conversation of that name, or a new one that is not registered."""
    return conversations.get(chat or DEFAULT_NAME) or Conversation() if isinstance(chat, str) else chat


def find(name: str) -> Conversation:
    """Return the conversation of that name.

    Raises
    ------
    InputError
        There is no conversation of that name.
    """
    name = name or DEFAULT_NAME
    if name not in conversations:
        near = suggestion(name, conversations) or (
            f"There are: {', '.join(conversations)}." if conversations else "`%%together --chat` begins one."
        )
        raise InputError(f"There is no conversation called {name!r}.", near)
    return conversations[name]


def next_turn(
    chat: str | Conversation, prompt: str, *, system: str | None = None, cell: str = "", **options: Any
) -> tuple[CompletionStream, Callable[[Completion], None]]:
    """Return the stream that answers `prompt` in a conversation, and the function that keeps its answer as a turn.

    Parameters
    ----------
    chat
        The conversation, or its name.
    prompt
        The user's next message.
    system
        System prompt from here on; None keeps the current one.
    cell
        Id of the requesting cell. Its earlier turn and all later ones are not sent, and are dropped once
        there is an answer.
    **options
        As for `resolve.open_stream`.

    Raises
    ------
    InputError
        The prompt is empty, or something in the request cannot be sent.
    """
    if not isinstance(prompt, str) or not prompt.strip():
        raise InputError("The prompt is empty.", "Write what is said next.")
    kept = find_or_new(chat) if options.get("offline") else get_or_create(chat)
    before = kept.before(cell)
    standing = before.system if system is None else system
    stream = open_stream(messages=messages_with(before, prompt), system=standing, **options)

    def keep(completion: Completion) -> None:
        kept.keep(Turn(prompt, completion, system, cell))

    return stream, keep


def reset(name: str = "") -> int:
    """Forget a conversation; return how many turns it had. Its answers stay in the history.

    Raises
    ------
    InputError
        There is none of that name.
    """
    return len(conversations.pop(find(name).name))
