"""A conversation: turns that can be read, cut and saved.

A turn is a prompt and its answer, whole or as far as it came. What is sent with the next prompt is
what stands here; a turn that got no answer is passed over.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, overload

from together_nb.values import hooks
from together_nb.values.completion import Completion, read_completion
from together_nb.values.reading import UnfitError, as_input_errors, dataclass_reader, each_in, expect, field_of, reader
from together_nb.values.shared_messages import restore_messages, share_messages

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEFAULT_NAME = "chat"
_VERSION = 2  # of what `to_dict` gives; in 1 each answer had all its messages
_KIND = "conversation"


@dataclass(frozen=True)
class Turn:
    """A prompt and its answer.

    Parameters
    ----------
    prompt : str
        What was asked, as it was sent.
    completion : Completion
        The answer, whole or as far as it came.
    system : str or None
        The system prompt that was given with it; None where none was, and the one before holds on.
    cell : str
        The id of the cell that asked; "" where there is none (a terminal, Python).

    Attributes
    ----------
    answer : str
        The text of the answer, as far as it came.
    mark : str
        What is to be known of it before one relies on it: ``stopped by you``, ``connection lost``, …; "" if nothing.
    """

    prompt: str
    completion: Completion
    system: str | None = None
    cell: str = ""

    @property
    def answer(self) -> str:
        """The text of the answer, as far as it came."""
        return self.completion.text

    @property
    def mark(self) -> str:
        """What is to be known of it before one relies on it: ``stopped by you``, ``connection lost``, …; "" if nothing."""
        return self.completion.ending

    @cached_property
    def _said(self) -> tuple[dict[str, Any], ...]:
        """As ``messages``, the same objects each time."""
        if not self.answer:
            return ()
        return {"role": "user", "content": self.prompt}, {"role": "assistant", "content": self.answer}

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able form from which `from_dict` makes an equal turn.

        Returns
        -------
        dict
            Its parameters by name, each as JSON can have it.
        """
        return _turn(self, self.completion.to_dict())

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Turn:
        """The turn that `to_dict` wrote.

        Parameters
        ----------
        values : dict
            What `to_dict` gave.

        Returns
        -------
        Turn
            An equal one.

        Raises
        ------
        InputError
            Something in it is missing, unknown, or of another type or size than it has to be; it says where.
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
        What it is called.
    turns : list of Turn
        Its turns.

    Attributes
    ----------
    system : str or None
        The system prompt that holds for the next turn: the last that was given.
    messages : list of dict
        What has been said, as ``messages`` of a request, oldest first; the system prompt is not among them.

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
        """The system prompt that holds for the next turn: the last that was given."""
        return next((turn.system for turn in reversed(self.turns) if turn.system is not None), None)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """What has been said, as ``messages`` of a request, oldest first; the system prompt is not among them."""
        return [dict(message) for turn in self.turns for message in turn._said]  # noqa: SLF001  (a turn's own)

    def asking(self, prompt: str) -> list[dict[str, Any]]:
        """`messages` with `prompt` as the next.

        Parameters
        ----------
        prompt : str
            What is said next.

        Returns
        -------
        list of dict
            ``{"role": …, "content": …}`` each, oldest first.
        """
        return [*self.messages, {"role": "user", "content": prompt}]

    def before(self, cell: str) -> Conversation:
        """What stood before the turn of `cell`: what its next run goes on from.

        Parameters
        ----------
        cell : str
            Id of a cell.

        Returns
        -------
        Conversation
            A copy, cut; all of it where the cell has no turn.
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
            What was dropped.
        """
        dropped = self.turns[start:]
        del self.turns[start:]
        return dropped

    def keep(self, turn: Turn) -> None:
        """Add a turn; one of a cell that has been here takes its earlier place, and what came later is dropped.

        A run that came to nothing takes nobody's place: what is there is worth more.

        Parameters
        ----------
        turn : Turn
            What was said.
        """
        place = self._index_of(turn.cell)
        if place is not None:
            if turn.completion.came_to_nothing:
                return
            self.cut(place)
        self.turns.append(turn)

    def put_in_place(self, before: Completion, after: Completion) -> bool:
        """Put an answer where another one stands.

        Parameters
        ----------
        before : Completion
            The one that stands here; that very object.
        after : Completion
            What takes its place.

        Returns
        -------
        bool
            Whether `before` stood here.
        """
        for number, turn in enumerate(self.turns):
            if turn.completion is before:
                self.turns[number] = replace(turn, completion=after)
                return True
        return False

    def _index_of(self, cell: str) -> int | None:
        return next((number for number, turn in enumerate(self.turns) if cell and turn.cell == cell), None)

    def save(self, path: str | Path) -> None:
        """Write it to a file, as JSON; the key is not in it.

        Parameters
        ----------
        path : str or Path
            Of the file, which must not exist.

        Raises
        ------
        InputError
            There is such a file, or it cannot be written.
        """
        hooks.save(self, path)

    @classmethod
    def load(cls, path: str | Path) -> Conversation:
        """The conversation that `save` wrote.

        Parameters
        ----------
        path : str or Path
            Of the file.

        Returns
        -------
        Conversation
            An equal one; it is not put into `conversations`.

        Raises
        ------
        InputError
            There is no such file, or it holds something else.
        """
        conversation: Conversation = hooks.load(cls, path)
        return conversation

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able form from which `from_dict` makes an equal conversation.

        Returns
        -------
        dict
            Its name and its turns, as JSON can have them.
        """
        answers = share_messages(turn.completion for turn in self.turns)
        turns = [_turn(turn, answer) for turn, answer in zip(self.turns, answers, strict=True)]
        return {_KIND: self.name, "version": _VERSION, "turns": turns}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Conversation:
        """The conversation that `to_dict` wrote.

        Parameters
        ----------
        values : dict
            What `to_dict` gave.

        Returns
        -------
        Conversation
            An equal one.

        Raises
        ------
        InputError
            Something in it is missing, unknown, or of another type or size than it has to be; it says where.
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
    """As `Conversation.asking`, to be sent and not to be changed: all requests of a conversation share its messages."""
    return [*(message for turn in talk.turns for message in turn._said), {"role": "user", "content": prompt}]  # noqa: SLF001


def _turn(turn: Turn, answer: dict[str, Any]) -> dict[str, Any]:
    """A turn as JSON can have it."""
    return {"prompt": turn.prompt, "completion": answer, "system": turn.system, "cell": turn.cell}


@cache
def _read_turn() -> Any:
    return dataclass_reader(Turn, completion=read_completion)


def read_conversation(values: Any) -> Conversation:
    """As `Conversation.from_dict`, with an `UnfitError`."""
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
