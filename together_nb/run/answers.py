"""What a session keeps of its answers, and where: the history, the conversations, the user's names."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Protocol

from together_nb.base.suggest import suggestion
from together_nb.errors import InputError
from together_nb.run.continuation import join_parts
from together_nb.run.resolve import Context
from together_nb.values.conversation import DEFAULT_NAME, Conversation, Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from together_nb.values.completion import Completion

LAST = "_together"  # the user's variable that holds the last answer


class Keeper(Context, Protocol):
    """A session that keeps answers, as `Answers` does."""

    history: list[Completion]
    conversations: dict[str, Conversation]
    unanswered: Completion | None
    talks_beside: list[weakref.ref[Conversation]]

    def settle(self, completions: Sequence[Completion]) -> None:
        """End a call for several answers."""

    def keep(self, completion: Completion) -> object:
        """Keep an answer."""

    def bind(self, answer: object) -> None:
        """Bind the last answers to the user's name for them."""


class Answers:
    """The answers of one session.

    Attributes
    ----------
    history : list of Completion
        Every answer, oldest first; partial if it was stopped or failed.
    conversations : dict of str to Conversation
        The conversations by name; ``conversations["chat"]`` is the one that ``--chat`` without a name keeps.
    unanswered : Completion or None
        The last request if nothing came of it: the history's last answer is then older.
    """

    def __init__(self) -> None:
        self.history: list[Completion] = []
        self.conversations: dict[str, Conversation] = {}
        self.unanswered: Completion | None = None
        self.talks_beside: list[weakref.ref[Conversation]] = []  # conversations without a name here

    def settle(self, completions: Sequence[Completion]) -> None:
        """End a call for several answers: if any came, the last one kept can be continued.

        Parameters
        ----------
        completions : sequence of Completion
            What came of the call.
        """
        if not all(one.came_to_nothing for one in completions):
            self.unanswered = None

    def keep(
        self,
        completion: Completion,
        *,
        before: Completion | None = None,
        turn: Callable[[Completion], object] | None = None,
        bind: Callable[[Completion], object] | None = None,
    ) -> Completion | None:
        """Keep what came of a request. Every way to ask but `stream` ends here, so that all keep the same.

        ==========================  =========  ============  ======  ===================  ======================
        what came of it             history    conversation  names   ledger               ``%together continue``
        ==========================  =========  ============  ======  ===================  ======================
        whole                       added      a turn        bound   counted              refuses: it has ended
        cut at a limit              added      a turn        bound   counted              continues it
        stopped, with text          added      a turn        bound   counted as partial   continues it
        failed, with text           added      a turn        bound   counted as partial   continues it
        ended without a reason      added      a turn        bound   counted              continues it
        stopped or failed, empty    --         --            --      if an answer began   refuses: nothing came
        refused by the budget       --         --            --      --                   as before
        dry run                     --         --            --      --                   as before
        ==========================  =========  ============  ======  ===================  ======================

        The names are ``_together`` and that of ``--out``. Several answers of one call are bound as a list, or as a
        `BatchResults`, whatever came of them.

        Parameters
        ----------
        completion : Completion
            What came.
        before : Completion or None
            The answer that it continues. The whole replaces it everywhere; if nothing came, it stays, and can be
            continued again.
        turn : callable or None
            Adds the answer to a conversation.
        bind : callable or None
            Binds the user's names to the answer.

        Returns
        -------
        Completion or None
            The answer that was kept; None if none was.
        """
        if completion.came_to_nothing:
            if completion.created and before is None:
                self.unanswered = completion
            return None
        self.unanswered = None
        kept = completion
        if before is None:
            self.history.append(kept)
        else:
            kept = join_parts(before, completion)
            self._replace(before, kept)
        if turn is not None:
            turn(kept)
        if bind is not None:
            bind(kept)
        return kept

    def _replace(self, before: Completion, whole: Completion) -> None:
        """Put the whole where its first part was, in the history and in the conversations."""
        # Searched from the end: the part is usually among the last.
        place = next((one for one in reversed(range(len(self.history))) if self.history[one] is before), None)
        if place is None:
            self.history.append(whole)
        else:
            self.history[place] = whole
        beside = [talk for reference in self.talks_beside if (talk := reference()) is not None]
        for conversation in [*self.conversations.values(), *beside]:
            conversation.put_in_place(before, whole)


def last_answer(session: Keeper) -> Completion:
    """Return the answer to continue: the last one of the history.

    Raises
    ------
    InputError
        There is none, or the last request brought nothing.
    """
    if session.unanswered is not None:
        before = " continue_from(history[-1]) goes on from the answer before it." if session.history else ""
        raise InputError(
            "Nothing came of the last request, so there is nothing to go on from.", f"Run its cell again.{before}"
        )
    if not session.history:
        raise InputError("There is no answer yet to go on from.", "Ask first, with %%together.")
    return session.history[-1]


def conversation_for(session: Keeper, chat: str | Conversation) -> Conversation:
    """Return the conversation of that name, or a new one that is not yet among the session's.

    Raises
    ------
    InputError
        It is neither a name nor a conversation.
    """
    if isinstance(chat, Conversation):
        return chat
    if not isinstance(chat, str):
        raise InputError(
            f"chat must be a conversation's name, not {type(chat).__name__}.", f"The first one is {DEFAULT_NAME!r}."
        )
    name = chat or DEFAULT_NAME
    return session.conversations.get(name) or Conversation(name)


def add_turn(session: Keeper, chat: str | Conversation, turn: Turn) -> None:
    """Add a turn to a conversation, which begins with it if there is none of that name."""
    if isinstance(chat, str):
        chat = session.conversations.setdefault(chat or DEFAULT_NAME, Conversation(chat or DEFAULT_NAME))
    elif all(reference() is not chat for reference in session.talks_beside):
        session.talks_beside = [one for one in session.talks_beside if one() is not None] + [weakref.ref(chat)]
    chat.keep(turn)


def find_conversation(session: Keeper, name: str) -> Conversation:
    """Return the conversation of that name.

    Raises
    ------
    InputError
        There is no conversation of that name.
    """
    name, known = name or DEFAULT_NAME, session.conversations
    if name not in known:
        near = suggestion(name, known) or (
            f"There are: {', '.join(known)}." if known else "`%%together --chat` begins one."
        )
        raise InputError(f"There is no conversation called {name!r}.", near)
    return known[name]


def add_loaded(session: Keeper, history: list[Completion], talks: list[Conversation]) -> None:
    """Add the answers and the conversations of a file; a conversation whose name is taken gets another."""
    session.history.extend(history)
    session.unanswered = None
    known = session.conversations
    tried: dict[str, int] = {}  # the last number by name, since a file may hold thousands of one name
    for talk in talks:
        name = free = talk.name
        while free in known and known[free].turns:
            tried[name] = tried.get(name, 1) + 1
            free = f"{name}-{tried[name]}"
        talk.name = free
        known[free] = talk
