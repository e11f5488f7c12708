"""Commands about the session: history, conversations, costs, files.

What brings the network along is imported in the functions: Tab and the help need not wait for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from together_nb.base.wording import count, dollars, shorten
from together_nb.config.settings import settings
from together_nb.errors import InputError
from together_nb.render import tables

if TYPE_CHECKING:
    from together_nb.magic.notebook import Notebook
    from together_nb.values.completion import Completion

_LAST = 30  # answers listed
_COLUMNS = "{} | prompt | text | by"
_LONGEST = 70  # characters of a prompt or an answer in a list


def show(notebook: Notebook, name: str) -> None:
    """List the answers and the turns of each conversation; with a name, show all of that conversation."""
    from together_nb.run import chats, history

    if name:
        bundle = chats.find(_unquoted(name)).bundle()
        notebook.display(bundle["text/markdown"], bundle["text/plain"])
        return
    if not history.history and not chats.conversations:
        raise InputError(
            "Nothing has been asked yet.", "Ask with %%together; `%together load FILE` brings an earlier history."
        )
    parts = []
    if history.history:
        left = max(len(history.history) - _LAST, 0)
        numbered = list(enumerate(history.history[left:], left))
        note = f"{left} earlier ones are in together_nb.history" if left else ""
        rows = [(f"history[{number}]", *_cells(answer.asked, answer)) for number, answer in numbered]
        parts.append(tables.table(_COLUMNS.format("answer"), rows, note))
    for talk in chats.conversations.values():
        rows = [(f"{talk.name}[{number}]", *_cells(turn.prompt, turn.completion)) for number, turn in enumerate(talk)]
        note = f"%together history {talk.name} shows it whole"
        parts.append(tables.table(_COLUMNS.format("turn"), rows, note))
    notebook.display("\n\n".join(part[0] for part in parts), "\n\n".join(part[1] for part in parts))


def reset(_: Notebook, name: str) -> None:
    """Forget a conversation."""
    from together_nb.run import chats

    turns = chats.reset(_unquoted(name))
    print(f"Forgotten: {count(turns, 'turn')}. The answers are still in together_nb.history.")  # noqa: T201


def usage(notebook: Notebook) -> None:
    """Show requests, tokens and cost by model."""
    from together_nb.run.ledger import ledger

    rows = [*ledger.rows]
    if len(rows) != 1:
        rows.append(ledger.total())
    lines = [
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
    notebook.display(*tables.table("model | >calls | >tokens in | >tokens out | >cost", lines, " · ".join(notes)))


def _total(known: float) -> str:
    return f"at least {dollars(known)}" if known else "unknown"


def save(_: Notebook, file: str, *, force: bool) -> None:
    """Write the history and the conversations to a file."""
    from together_nb.run import history_file

    answers, talks = history_file.save(file, force=force)
    print(f"Written to {file}: {count(answers, 'answer')}, {count(talks, 'conversation')}. The key is not in it.")  # noqa: T201


def load(_: Notebook, file: str) -> None:
    """Add the history and conversations of a file."""
    from together_nb.run import history_file

    answers, talks = history_file.load(file)
    print(f"Added: {count(answers, 'answer')}, {count(talks, 'conversation')}.")  # noqa: T201


def record(_: Notebook, file: str, *, force: bool) -> None:
    """Record all requests and answers, or end the recording."""
    from together_nb import recording

    if file == "off":
        _refuse_option(given=force)
        print(recording.stop() or "Nothing is being recorded.")  # noqa: T201
    else:
        print(recording.record(file, force=force))  # noqa: T201


def replay(_: Notebook, file: str, *, speed: float | None) -> None:
    """Answer from a recording, or end the replay."""
    from together_nb import recording

    if file == "off":
        _refuse_option(given=speed is not None)
        print(recording.stop() or "Nothing is being replayed.")  # noqa: T201
    else:
        print(recording.replay(file, speed=1.0 if speed is None else speed))  # noqa: T201


def _refuse_option(*, given: bool) -> None:
    if given:
        raise InputError("off takes no option.", "Leave the option out.")


def _unquoted(name: str) -> str:
    """A name that may stand in quotes, as it would have to elsewhere."""
    return name[1:-1] if len(name) > 2 and name[0] == name[-1] and name[0] in "\"'" else name  # noqa: PLR2004


def _cells(prompt: str, answer: Completion) -> tuple[str, ...]:
    by = " · ".join(filter(None, (answer.model or answer.request.model, answer.ending)))
    return shorten(prompt, _LONGEST), shorten(answer.text, _LONGEST), by
