"""A conversation: turns that can be read, cut and saved.

A turn is a prompt and its answer, complete or partial. The next prompt is sent with these turns,
except those without an answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, overload

from together_nb.values import hooks
from together_nb.values.completion import Completion, read_completion
from together_nb.values.from_json import (
    UnfitError,
    as_input_errors,
    dataclass_reader,
    each_in,
    expect,
    field_of,
    reader,
)
from together_nb.values.shared_messages import restore_messages, share_messages

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEFAULT_NAME = "chat"
_VERSION = 6  # of the `to_dict` format; 5 had no refusals and no tool calls, 4 had no bytes of tokens and no abrupt, 3 no server, 2 no extra_body, in 1 each answer had all its messages
_KIND = "conversation"


@dataclass(frozen=True)
class Turn:
    """A prompt and its answer.

    Parameters
    ----------
    prompt : str
        The prompt, as sent.
    completion : Completion
        The answer, complete or partial.
    system : str or None
        The system prompt given with it; None if the one before still holds.
    cell : str
        The id of the cell that sent it; "" if there is none (a terminal, Python).

    Attributes
    ----------
    answer : str
        The text of the answer and of the model's refusal, as far as it arrived.
    mark : str
        A warning about the answer: ``stopped by you``, ``connection lost``, …; "" if there is none.
    """

    prompt: str
    completion: Completion
    system: str | None = None
    cell: str = ""

    @property
    def answer(self) -> str:
        """The text of the answer and of the model's refusal, as far as it arrived."""
        return "\n\n".join(filter(None, (self.completion.text, self.completion.refusal)))

    @property
    def mark(self) -> str:
        """A warning about the answer: ``stopped by you``, ``connection lost``, …; "" if there is none."""
        return self.completion.ending

    @cached_property
    def _said(self) -> tuple[dict[str, Any], ...]:
        """The turn as ``messages``, the same objects each time."""
        if not self.answer:
            return ()
        return {"role": "user", "content": self.prompt}, {"role": "assistant", "content": self.answer}

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-serializable dict that `from_dict` reads back.

        Returns
        -------
        dict
            Its parameters by name, as JSON values.
        """
        return _turn(self, self.completion.to_dict())

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Turn:
        """Return the turn that `to_dict` wrote.

        Parameters
        ----------
        values : dict
            The result of `to_dict`.

        Returns
        -------
        Turn
            An equal turn.

        Raises
        ------
        InputError
            A part is missing, unknown, or of the wrong type or size; the message says where.
        """
        with as_input_errors():
            turn: Turn = _read_turn()(values)
            return turn


@dataclass
class Conversation:
    """Turns, oldest first. ``conversation[2]`` is one, ``conversation[:2]`` a conversation of the first two.

    Parameters
    ----------
    name : str
        Its name.
    turns : list of Turn
        The turns.

    Attributes
    ----------
    system : str or None
        The system prompt for the next turn: the last one given.
    messages : list of dict
        The turns as ``messages`` of a request, oldest first, without the system prompt.

    Examples
    --------
    >>> from together_nb import complete, conversations
    >>> answer = complete("Who was Alan Turing?", chat="lesson", system="Be brief.", max_tokens=8)
    >>> answer = complete("And then?", chat="lesson", max_tokens=8)
    >>> talk = conversations["lesson"]
    >>> len(talk), talk.system, [said["role"] for said in talk.messages]
    (2, 'Be brief.', ['user', 'assistant', 'user', 'assistant'])
    >>> [turn.prompt for turn in talk.cut(-1)]
    ['And then?']
    """

    name: str = DEFAULT_NAME
    turns: list[Turn] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.turns)

    def __iter__(self) -> Iterator[Turn]:
        return iter(self.turns)

    @overload
    def __getitem__(self, place: int) -> Turn: ...

    @overload
    def __getitem__(self, place: slice) -> Conversation: ...

    def __getitem__(self, place: int | slice) -> Turn | Conversation:
        if isinstance(place, slice):
            return Conversation(self.name, self.turns[place])
        return self.turns[place]

    @property
    def system(self) -> str | None:
        """The system prompt for the next turn: the last one given."""
        return next((turn.system for turn in reversed(self.turns) if turn.system is not None), None)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The turns as ``messages`` of a request, oldest first, without the system prompt."""
        return [dict(message) for turn in self.turns for message in turn._said]  # noqa: SLF001  (a turn's own)

    def asking(self, prompt: str) -> list[dict[str, Any]]:
        """Return `messages` with `prompt` appended.

        Parameters
        ----------
        prompt : str
            The next prompt.

        Returns
        -------
        list of dict
            ``{"role": …, "content": …}`` each, oldest first.
        """
        return [*self.messages, {"role": "user", "content": prompt}]

    def before(self, cell: str) -> Conversation:
        """Return the turns before that of `cell`, which its next run continues.

        Parameters
        ----------
        cell : str
            Id of a cell.

        Returns
        -------
        Conversation
            A copy, cut; all of it if the cell has no turn.
        """
        place = self._index_of(cell)
        return Conversation(self.name, list(self.turns if place is None else self.turns[:place]))

    def cut(self, start: int) -> list[Turn]:
        """Drop the turns from number `start` on.

        Parameters
        ----------
        start : int
            Counted from 0 or, negative, from the end.

        Returns
        -------
        list of Turn
            The dropped turns.
        """
        dropped = self.turns[start:]
        del self.turns[start:]
        return dropped

    def keep(self, turn: Turn) -> None:
        """Add a turn; if its cell already has one, it replaces that one, and later turns are dropped.

        A run that came to nothing does not replace a turn.

        Parameters
        ----------
        turn : Turn
            The turn.
        """
        place = self._index_of(turn.cell)
        if place is not None:
            if turn.completion.came_to_nothing:
                return
            self.cut(place)
        self.turns.append(turn)

    def put_in_place(self, before: Completion, after: Completion) -> bool:
        """Replace an answer with another one.

        Parameters
        ----------
        before : Completion
            The answer to replace; this very object.
        after : Completion
            The new answer.

        Returns
        -------
        bool
            Whether `before` was found.
        """
        for number, turn in enumerate(self.turns):
            if turn.completion is before:
                self.turns[number] = replace(turn, completion=after)
                return True
        return False

    def _index_of(self, cell: str) -> int | None:
        return next((number for number, turn in enumerate(self.turns) if cell and turn.cell == cell), None)

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write it to a file, as JSON Lines, without any key.

        Parameters
        ----------
        path : str or Path
            The file, which must not exist.
        force : bool
            Replace an existing file.

        Raises
        ------
        InputError
            The file exists, or cannot be written.
        """
        hooks.save(self, path, force=force)

    @classmethod
    def load(cls, path: str | Path) -> Conversation:
        """Return the conversation that `save` wrote.

        Parameters
        ----------
        path : str or Path
            The file.

        Returns
        -------
        Conversation
            An equal one; it is not added to `conversations`.

        Raises
        ------
        InputError
            There is no such file, or it holds something else.
        """
        conversation: Conversation = hooks.load(cls, path)
        return conversation

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-serializable dict that `from_dict` reads back.

        Returns
        -------
        dict
            Its name and its turns, as JSON values.
        """
        answers = share_messages(turn.completion for turn in self.turns)
        turns = [_turn(turn, answer) for turn, answer in zip(self.turns, answers, strict=True)]
        return {_KIND: self.name, "version": _VERSION, "turns": turns}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Conversation:
        """Return the conversation that `to_dict` wrote.

        Parameters
        ----------
        values : dict
            The result of `to_dict`.

        Returns
        -------
        Conversation
            An equal conversation.

        Raises
        ------
        InputError
            A part is missing, unknown, or of the wrong type or size; the message says where.
        """
        with as_input_errors():
            return read_conversation(values)

    def bundle(self) -> dict[str, str]:
        """Its turns, as a notebook shows them.

        Returns
        -------
        dict of str to str
            ``text/markdown`` and ``text/plain``.
        """
        content: dict[str, str] = hooks.bundle(self)
        return content

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return self.bundle()

    def __repr__(self) -> str:
        return f"<Conversation {self.name}: {len(self.turns)} turn{'' if len(self.turns) == 1 else 's'}>"


def messages_with(talk: Conversation, prompt: str) -> list[dict[str, Any]]:
    """As `Conversation.asking`, but read-only: all requests of a conversation share its messages."""
    return [*(message for turn in talk.turns for message in turn._said), {"role": "user", "content": prompt}]  # noqa: SLF001


def _turn(turn: Turn, answer: dict[str, Any]) -> dict[str, Any]:
    """A turn as a JSON value."""
    return {"prompt": turn.prompt, "completion": answer, "system": turn.system, "cell": turn.cell}


@cache
def _read_turn() -> Any:
    return dataclass_reader(Turn, completion=read_completion)


def read_conversation(values: Any) -> Conversation:
    """As `Conversation.from_dict`, but raise `UnfitError`."""
    if expect(dict, values).get("version", 1) not in range(1, _VERSION + 1):
        raise UnfitError("is of a later version of together_nb.").at("version")
    name = field_of(values, _KIND, reader(str))
    rows = field_of(values, "turns", each_in(lambda turn: expect(dict, turn), list))
    answers = restore_messages(row.get("completion") for row in rows)
    turns: list[Turn] = []
    try:
        for row, answer in zip(rows, answers, strict=True):
            turns.append(_read_turn()({**row, "completion": answer}))
    except UnfitError as error:
        raise error.at(len(turns)).at("turns") from None
    return Conversation(name, turns)
