"""Commands about what has been asked: history, conversations, costs, files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from together_nb import chats, options, recording, session, store, tables
from together_nb.completion import count, dollars
from together_nb.config import settings
from together_nb.errors import InputError
from together_nb.spending import ledger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from together_nb.completion import Completion
    from together_nb.magic.cell import Cells

_LAST = 30  # answers that are listed
_COLUMNS = "{} | prompt | text | by"
_LONGEST = 70  # characters of a prompt or an answer in a list


def show(cells: Cells, rest: str) -> None:
    """List the answers so far and the turns of each conversation; with a name, one conversation whole."""
    if rest:
        bundle = chats.known(rest).bundle()
        cells.display(bundle["text/markdown"], bundle["text/plain"])
        return
    if not session.history and not chats.conversations:
        raise InputError(
            "Nothing has been asked yet.", "Ask with %%together; `%together load FILE` brings an earlier history."
        )
    parts = []
    if session.history:
        left = max(len(session.history) - _LAST, 0)
        numbered = list(enumerate(session.history[left:], left))
        note = f"{left} earlier ones are in together_nb.history" if left else ""
        rows = [(f"history[{number}]", *_told(answer.asked, answer)) for number, answer in numbered]
        parts.append(tables.table(_COLUMNS.format("answer"), rows, note))
    for talk in chats.conversations.values():
        rows = [(f"{talk.name}[{number}]", *_told(turn.prompt, turn.completion)) for number, turn in enumerate(talk)]
        note = f"%together history {talk.name} shows it whole"
        parts.append(tables.table(_COLUMNS.format("turn"), rows, note))
    cells.display("\n\n".join(part[0] for part in parts), "\n\n".join(part[1] for part in parts))


def reset(_: Cells, rest: str) -> None:
    """Forget a conversation."""
    turns = chats.reset(rest)
    print(f"Forgotten: {count(turns, 'turn')}. The answers are still in together_nb.history.")  # noqa: T201


def usage(cells: Cells, rest: str) -> None:
    """What was asked for and what it cost, by model."""
    _nothing_more(rest, "usage")
    rows = [*ledger.rows]
    if len(rows) != 1:
        rows.append(ledger.total())
    told = [
        (
            row.model or "all",
            f"{row.calls:,}",
            f"{row.prompt_tokens:,}",
            f"{row.completion_tokens:,}",
            row.cost_told if row.model or ledger.complete else _total(row.cost or 0.0),
        )
        for row in rows
    ]
    uncounted = ledger.total().uncounted
    notes = []
    if uncounted:
        notes.append(f"the server did not count {count(uncounted, 'call')} to the end, which may have cost more")
    if settings.budget is not None:
        notes.append(f"the budget is {dollars(settings.budget)}")
    cells.display(*tables.table("model | >calls | >tokens in | >tokens out | >cost", told, " · ".join(notes)))


def _total(known: float) -> str:
    return f"at least {dollars(known)}" if known else "unknown"


def save(_: Cells, rest: str) -> None:
    """Write the history and the conversations to a file."""
    path, force = _file(rest, "save lesson.jsonl", force=True)
    answers, talks = store.save(path, force=force)
    print(f"Written to {path}: {count(answers, 'answer')}, {count(talks, 'conversation')}. The key is not in it.")  # noqa: T201


def load(_: Cells, rest: str) -> None:
    """Add those of a file."""
    path, _force = _file(rest, "load lesson.jsonl")
    answers, talks = store.load(path)
    print(f"Added: {count(answers, 'answer')}, {count(talks, 'conversation')}.")  # noqa: T201


def record(_: Cells, rest: str) -> None:
    """Take down all that is asked and answered, or end that."""
    if rest == "off":
        print(recording.stop() or "Nothing is being recorded.")  # noqa: T201
        return
    path, force = _file(rest, "record lesson.jsonl", force=True)
    print(recording.record(path, force=force))  # noqa: T201


def replay(_: Cells, rest: str) -> None:
    """Answer from a recording, or end that."""
    if rest == "off":
        print(recording.stop() or "Nothing is being replayed.")  # noqa: T201
        return
    words = [part for word in options.split(rest) for part in word.split("=", word.startswith("--speed="))]
    speed = 1.0
    if "--speed" in words:
        place = words.index("--speed")
        speed = _speed(words[place + 1 : place + 2])
        del words[place : place + 2]
    print(recording.replay(_one(words, "replay lesson.jsonl"), speed=speed))  # noqa: T201


def _speed(words: list[str]) -> float:
    try:
        return float(words[0])
    except (IndexError, ValueError):
        raise InputError(
            "--speed needs a number.", "1 is the original timing, 2 twice as fast, 0 as fast as it can."
        ) from None


def _told(prompt: str, answer: Completion) -> tuple[str, ...]:
    by = " · ".join(filter(None, (answer.model or answer.request.model, answer.ending)))
    return _cut(prompt), _cut(answer.text), by


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _file(rest: str, example: str, *, force: bool = False) -> tuple[str, bool]:
    """The file that is named, and whether it may be replaced."""
    words = list(options.split(rest))
    forced = force and "--force" in words
    return _one([word for word in words if not (force and word == "--force")], example), forced


def _one(words: Iterable[str], example: str) -> str:
    found = list(words)
    unknown = [word for word in found if word.startswith("--")]
    if unknown:
        raise InputError(f"There is no option {unknown[0]} here.", f"For example: %together {example}")
    if len(found) != 1:
        what = "A file's name is missing." if not found else f"One file is enough, and not {' and '.join(found)}."
        raise InputError(what, f"For example: %together {example} (a name with spaces goes in quotes)")
    return found[0]


def _nothing_more(rest: str, command: str) -> None:
    if rest:
        raise InputError(f"`%together {command}` takes nothing more.", f"Run `%together {command}` alone.")
