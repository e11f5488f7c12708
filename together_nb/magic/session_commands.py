"""Commands about the session: history, conversations, costs, files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from together_nb.base.wording import count, dollars, shorten
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
    from together_nb.run.answers import find_conversation

    session = notebook.session
    if name:
        bundle = find_conversation(session, _unquoted(name)).bundle()
        notebook.display(bundle["text/markdown"], bundle["text/plain"])
        return
    if not session.history and not session.conversations:
        raise InputError(
            "Nothing has been asked yet.", "Ask with %%together; `%together load FILE` brings an earlier history."
        )
    parts = []
    if session.history:
        left = max(len(session.history) - _LAST, 0)
        numbered = list(enumerate(session.history[left:], left))
        note = f"{left} earlier ones are in together_nb.history" if left else ""
        rows = [(f"history[{number}]", *_cells(answer.asked, answer)) for number, answer in numbered]
        parts.append(tables.table(_COLUMNS.format("answer"), rows, note))
    for talk in session.conversations.values():
        rows = [(f"{talk.name}[{number}]", *_cells(turn.prompt, turn.completion)) for number, turn in enumerate(talk)]
        note = f"%together history {talk.name} shows it whole"
        parts.append(tables.table(_COLUMNS.format("turn"), rows, note))
    notebook.display("\n\n".join(part[0] for part in parts), "\n\n".join(part[1] for part in parts))


def reset(notebook: Notebook, name: str) -> None:
    """Forget a conversation."""
    from together_nb.run.answers import find_conversation

    forgotten = find_conversation(notebook.session, _unquoted(name))
    del notebook.session.conversations[forgotten.name]
    print(f"Forgotten: {count(len(forgotten), 'turn')}. The answers are still in together_nb.history.")  # noqa: T201


def usage(notebook: Notebook) -> None:
    """Show requests, tokens and cost by model."""
    ledger, budget = notebook.session.ledger, notebook.session.settings.budget
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
    if budget is not None:
        notes.append(f"the budget is {dollars(budget)}")
    notebook.display(*tables.table("model | >calls | >tokens in | >tokens out | >cost", lines, " · ".join(notes)))


def _total(known: float) -> str:
    return f"at least {dollars(known)}" if known else "unknown"


def save(notebook: Notebook, file: str, *, force: bool) -> None:
    """Write the history and the conversations to a file."""
    answers, talks = notebook.session.save(file, force=force)
    print(f"Written to {file}: {count(answers, 'answer')}, {count(talks, 'conversation')}. The key is not in it.")  # noqa: T201


def load(notebook: Notebook, file: str) -> None:
    """Add the history and conversations of a file."""
    answers, talks = notebook.session.load(file)
    print(f"Added: {count(answers, 'answer')}, {count(talks, 'conversation')}.")  # noqa: T201


def record(notebook: Notebook, file: str, *, force: bool) -> None:
    """Record all requests and answers, or end the recording."""
    if file == "off":
        _refuse_option(given=force)
        print(notebook.session.stop() or "Nothing is being recorded.")  # noqa: T201
    else:
        print(notebook.session.record(file, force=force))  # noqa: T201


def replay(notebook: Notebook, file: str, *, speed: float | None) -> None:
    """Answer from a recording, or end the replay."""
    if file == "off":
        _refuse_option(given=speed is not None)
        print(notebook.session.stop() or "Nothing is being replayed.")  # noqa: T201
    else:
        print(notebook.session.replay(file, speed=1.0 if speed is None else speed))  # noqa: T201


def _refuse_option(*, given: bool) -> None:
    if given:
        raise InputError("off takes no option.", "Leave the option out.")


def _unquoted(name: str) -> str:
    """A name that may stand in quotes, as it would have to elsewhere."""
    return name[1:-1] if len(name) > 2 and name[0] == name[-1] and name[0] in "\"'" else name  # noqa: PLR2004


def _cells(prompt: str, answer: Completion) -> tuple[str, ...]:
    by = " · ".join(filter(None, (answer.model or answer.request.model, answer.ending)))
    return shorten(prompt, _LONGEST), shorten(answer.text or answer.refusal, _LONGEST), by
