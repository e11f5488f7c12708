"""Answers and conversations in files: those of a session, or one conversation.

JSON Lines: a header, a line per answer, a line per conversation, whose turns refer to answers by number.
"""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any

from together_nb.base.wording import count, timestamp
from together_nb.errors import InputError
from together_nb.storage import files
from together_nb.values import hooks
from together_nb.values.completion import Completion, read_completion
from together_nb.values.conversation import Conversation, Turn, read_conversation
from together_nb.values.from_json import UnfitError, dataclass_reader, each_in, expect, field_of, reader, whole_number
from together_nb.values.shared_messages import restore_messages, share_messages

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_KIND = "together_nb"
_HISTORY, _CONVERSATION = "history", "conversation"
# 5 had no refusals and no tool calls, 4 no bytes of tokens and no abrupt, 3 no server, 2 no extra_body; in 1 each answer
# held all its messages.
_VERSION = 6
_WRITES_ONE = {_HISTORY: "`%together save FILE` writes one.", _CONVERSATION: "`Conversation.save` writes one."}
_EXAMPLE = {_HISTORY: "%together save lesson.jsonl", _CONVERSATION: "conversation.save('lesson.jsonl')"}


def save(
    path: str | Path,
    answers: Sequence[Completion],
    talks: Sequence[Conversation],
    *,
    kind: str = _HISTORY,
    force: bool = False,
) -> tuple[int, int]:
    """Write the answers of a history, and conversations with theirs, and return how many of each.

    Raises
    ------
    InputError
        The file exists, or cannot be written.
    """
    file = files.checked_path(path, _EXAMPLE[kind])
    answers = list(answers)
    # Copies, since an answer in the background may add a turn meanwhile.
    talks = [Conversation(talk.name, list(talk)) for talk in talks]
    kept = set(map(id, answers))
    beside = [turn.completion for talk in talks for turn in talk if id(turn.completion) not in kept]
    counts = len(answers), len(talks)

    def check(written: Path) -> None:
        found = Saved(written, kind)
        if found.counts != counts or found.left_out:
            raise InputError(f"{written} lacks something.", "Try again.")

    head = {_KIND: kind, "version": _VERSION, "saved": timestamp()}
    files.write(file, _rows(head, answers, beside, talks), force=force, check=check)
    return counts


@hooks.save.register(Conversation)
def _save_conversation(conversation: Conversation, path: str | Path, *, force: bool = False) -> None:
    save(path, [], [conversation], kind=_CONVERSATION, force=force)


@hooks.load.register(Conversation)
def _load_conversation(_: type[Conversation], path: str | Path) -> Conversation:
    file = files.checked_path(path, _EXAMPLE[_CONVERSATION])
    try:
        head = files.first_value(file)
        if not isinstance(head, dict) or _KIND not in head:  # up to version 3 it was one JSON document
            return read_conversation(files.document(file))
    except (UnfitError, files.BrokenError) as error:
        reason = f": {error.message}" if isinstance(error, UnfitError) else "."
        raise InputError(f"{file} holds no conversation{reason}", _WRITES_ONE[_CONVERSATION]) from None
    found = Saved(file, _CONVERSATION)
    if len(found.talks) != 1 or found.left_out:
        raise InputError(f"{file} holds no whole conversation. {found.left_out}".strip(), _WRITES_ONE[_CONVERSATION])
    return found.talks[0]


class Saved:
    """The history and the conversations in a file, except for its broken lines.

    Parameters
    ----------
    path
        The file.
    kind
        What the file must be.

    Raises
    ------
    InputError
        It holds something else.
    """

    def __init__(self, path: Path, kind: str = _HISTORY) -> None:
        self._lines = files.JsonLines(path)
        self._number = 1  # of the line being read
        self._in_history: list[bool] = []
        self._lost: set[int] = set()  # numbers of answers
        self._besides = [0, 0]  # answers and turns lost because they depend on a lost answer
        talks: list[tuple[int, Any]] = []
        rows = iter(self._lines)
        _check_head(path, kind, next(rows, (1, None))[1])
        try:
            # Row by row: all at once would double the work of the garbage collector.
            self._answers = [None if row is None else _answer(row) for row in restore_messages(self._rows(rows, talks))]
            self.talks = [self._talk(number, row) for number, row in talks]
        except UnfitError as error:
            raise InputError(
                f"Line {self._number} of {path} holds no {kind} of together_nb: {error.message}", _WRITES_ONE[kind]
            ) from None
        if self._lines.broken and not (self._answers or self.talks):
            raise InputError(
                f"{path} holds no {kind} of together_nb: line {self._lines.broken[0]} is broken.", _WRITES_ONE[kind]
            )

    @property
    def history(self) -> list[Completion]:
        """The answers that were in the history."""
        return [one for one, kept in zip(self._answers, self._in_history, strict=True) if kept and one is not None]

    @property
    def counts(self) -> tuple[int, int]:
        """How many answers of the history and how many conversations there are."""
        return len(self.history), len(self.talks)

    @property
    def left_out(self) -> str:
        """A sentence on what could not be read; "" if all could."""
        answers, turns = self._besides
        besides = [count(answers, "answer")] * bool(answers) + [count(turns, "turn")] * bool(turns)
        more = f" So is what goes on from there: {', '.join(besides)}." if besides else ""
        return f"{self._lines.left_out}{more}"

    def _rows(self, rows: Iterator[tuple[int, Any]], talks: list[tuple[int, Any]]) -> Iterator[Any]:
        """Yield the row of each answer, or None if it is lost."""
        passed = 0  # broken lines
        for self._number, row in rows:
            if "conversation" in expect(dict, row):
                talks.append((self._number, row))
                continue
            for _ in self._lines.broken[passed:]:  # answers come first, so each of these was one
                self._lose()
                yield None
            passed = len(self._lines.broken)
            answer = field_of(row, "answer", partial(expect, dict))
            kept = field_of(row, _HISTORY, partial(expect, bool))
            request = answer.get("request")
            after = request.get("after") if isinstance(request, dict) else None
            if isinstance(after, int) and after in self._lost:
                self._besides[0] += 1
                self._lose()
                yield None
            else:
                self._in_history.append(kept)
                yield answer

    def _lose(self) -> None:
        self._lost.add(len(self._in_history))
        self._in_history.append(False)

    def _talk(self, number: int, row: dict[str, Any]) -> Conversation:
        self._number = number
        name = field_of(row, "conversation", reader(str))
        turns = field_of(row, "turns", each_in(self._turn, list))
        return Conversation(name, [turn for turn in turns if turn is not None])

    def _turn(self, values: Any) -> Turn | None:
        values = dict(expect(dict, values))
        number = field_of(values, "answer", whole_number(0))
        del values["answer"]
        if number in self._lost or (number >= len(self._answers) and self._lines.broken):
            self._besides[1] += 1
            return None
        if number >= len(self._answers):
            raise UnfitError("is the number of no answer.").at("answer")
        turn: Turn = _read_turn()({**values, "completion": self._answers[number]})
        return turn


@cache
def _read_turn() -> Any:
    return dataclass_reader(Turn, completion=lambda completion: completion)


def _answer(row: dict[str, Any]) -> Completion:
    try:
        return read_completion(row)
    except UnfitError as error:
        raise error.at("answer") from None


def _check_head(path: Path, wanted: str, head: Any) -> None:
    """Raise an `InputError` unless the first line of a file says that it is of the `wanted` kind."""
    kind = head.get(_KIND) if isinstance(head, dict) else None
    if isinstance(kind, str) and kind != wanted:
        raise InputError(f"{path} is a {kind[:30]}, not a {wanted}.", _WRITES_ONE[wanted])
    version = head.get("version") if isinstance(head, dict) else None
    if kind != wanted or not isinstance(version, int):
        raise InputError(f"{path} holds no {wanted} of together_nb.", _WRITES_ONE[wanted])
    if version > _VERSION:
        raise InputError(
            f"{path} is of a later version of together_nb.", "Install that one: pip install -U together_nb"
        )


def _rows(
    head: dict[str, Any], answers: list[Completion], beside: list[Completion], talks: list[Conversation]
) -> Iterator[dict[str, Any]]:
    yield head
    numbers: dict[int, int] = {}
    written = (*answers, *beside)
    for number, (completion, row) in enumerate(zip(written, share_messages(written), strict=True)):
        numbers[id(completion)] = number
        yield {"answer": row, _HISTORY: number < len(answers)}
    for talk in talks:
        turns = [
            {"prompt": turn.prompt, "answer": numbers[id(turn.completion)], "system": turn.system, "cell": turn.cell}
            for turn in talk
        ]
        yield {"conversation": talk.name, "turns": turns}
