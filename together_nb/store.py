"""A history that outlives the kernel: the session's answers and conversations in a file, and back.

JSON Lines: a header, a line an answer, a line a conversation, whose turns name their answers by number.
The key is not in it, not even where somebody typed it into a prompt.
"""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from together_nb import session
from together_nb.chats import conversations
from together_nb.completion import Completion, timestamp
from together_nb.config import settings
from together_nb.conversation import Conversation, Turn
from together_nb.errors import InputError
from together_nb.thinning import thinned, whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_KIND = "together_nb"
_HISTORY = "history"
_VERSION = 2  # in 1 each answer had all its messages


def save(path: str | Path, *, force: bool = False) -> tuple[int, int]:
    """Write the history and the conversations to a file.

    Parameters
    ----------
    path : str or Path
        Of the file, which must not exist; it is JSON Lines, and the key is not in it.
    force : bool
        Replace it where it does.

    Returns
    -------
    tuple of (int, int)
        How many answers and how many conversations are in it.

    Raises
    ------
    InputError
        The file exists, or cannot be written.

    Examples
    --------
    >>> from together_nb import complete, history, load, save
    >>> answer = complete("Alan Turing was", max_tokens=5)
    >>> save("lesson.jsonl")
    (1, 0)
    >>> history.clear()
    >>> load("lesson.jsonl")
    (1, 0)
    >>> history[0] == answer
    True
    """
    path = _path(path)
    if path.exists() and not force:
        raise InputError(f"{path} exists already.", "`--force` replaces it; or take another name.")
    answers = list(session.history)
    talks = list(conversations.values())
    kept = set(map(id, answers))
    beside = [turn.completion for talk in talks for turn in talk if id(turn.completion) not in kept]
    lines = "".join(f"{json.dumps(line)}\n" for line in _without_key(_lines(answers, beside, talks)))
    # Beside it first, so that a full disk does not cost the file that was there.
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(lines, encoding="utf-8")
        os.replace(partial, path)  # noqa: PTH105  (replaces on Windows too, as Path.replace does)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}.", "Check the folder.") from None
    return len(answers), len(talks)


def load(path: str | Path) -> tuple[int, int]:
    """Add what `save` wrote to the history and the conversations of this session.

    A conversation whose name is taken gets another one.

    Parameters
    ----------
    path : str or Path
        Of the file.

    Returns
    -------
    tuple of (int, int)
        How many answers and how many conversations were in it.

    Raises
    ------
    InputError
        There is no such file, or it holds something else; nothing is added then.

    Examples
    --------
    >>> from together_nb import load, save
    >>> save("lesson.jsonl")
    (0, 0)
    >>> load("lesson.jsonl")
    (0, 0)
    """
    path = _path(path)
    try:
        rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
        header = next(rows, None) or {}
        if header[_KIND] != _HISTORY:
            raise InputError(f"{path} is a {header[_KIND]}, not a history.", "`%together save FILE` writes one.")
        if header["version"] > _VERSION:
            raise InputError(
                f"{path} is of a later version of together_nb.", "Install that one: pip install -U together_nb"
            )
        told, talks = _read(rows)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", "Check the name.") from None
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} holds no history of together_nb.", "`%together save FILE` writes one.") from None
    session.history.extend(told)
    for talk in talks:
        talk.name = _free(talk.name)
        conversations[talk.name] = talk
    return len(told), len(talks)


def _read(rows: Iterable[dict[str, Any]]) -> tuple[list[Completion], list[Conversation]]:
    """The history and the conversations. Row by row: all at once would be twice as much for the garbage collector."""
    in_history: list[bool] = []
    rest: list[dict[str, Any]] = []

    def answers_only() -> Iterator[dict[str, Any]]:
        for row in rows:
            if "answer" in row:
                in_history.append(row[_HISTORY])
                yield row["answer"]
            else:
                rest.append(row)

    answers = [Completion.from_dict(row) for row in whole(answers_only())]
    talks = [_conversation(row, answers) for row in rest if "conversation" in row]
    return list(itertools.compress(answers, in_history)), talks


def _lines(answers: list[Completion], beside: list[Completion], talks: list[Conversation]) -> Iterator[dict[str, Any]]:
    yield {_KIND: _HISTORY, "version": _VERSION, "saved": timestamp()}
    numbers: dict[int, int] = {}
    written = (*answers, *beside)
    for number, (completion, row) in enumerate(zip(written, thinned(written), strict=True)):
        numbers[id(completion)] = number
        yield {"answer": row, _HISTORY: number < len(answers)}
    for talk in talks:
        turns = [
            {"prompt": turn.prompt, "answer": numbers[id(turn.completion)], "system": turn.system, "cell": turn.cell}
            for turn in talk
        ]
        yield {"conversation": talk.name, "turns": turns}


def _conversation(row: dict[str, Any], answers: list[Completion]) -> Conversation:
    turns = [Turn(turn["prompt"], answers[turn["answer"]], turn["system"], turn["cell"]) for turn in row["turns"]]
    return Conversation(row["conversation"], turns)


def _free(name: str) -> str:
    """`name`, or the first of ``name-2``, ``name-3`` … that is not taken by a conversation."""
    number, free = 1, name
    while free in conversations and conversations[free].turns:
        number += 1
        free = f"{name}-{number}"
    return free


def _without_key(lines: Iterable[dict[str, Any]]) -> Iterator[Any]:
    key = settings.api_key
    return (line if key is None else key.blanked_within(line) for line in lines)


def _path(path: str | Path) -> Path:
    if not str(path).strip():
        raise InputError("A file's name is missing.", "For example: %together save lesson.jsonl")
    return Path(path).expanduser()
