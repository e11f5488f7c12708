"""Tab completion on the lines of the magics: options, values, commands, model names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from together_nb.config.settings import DEFAULT_MODEL
from together_nb.errors import TogetherError
from together_nb.local.models import served_models
from together_nb.render.formats import FORMATS
from together_nb.run.options import parser as cell_parser
from together_nb.values.parameters import AUTO, PARAMETERS
from together_nb.wire.dialects import DIALECTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from together_nb.run.options import Parser
    from together_nb.session import Session


def options(line: str, typed: str, session: Callable[[], Session], parser: Parser | None = None) -> list[str]:
    """Complete `typed` at the end of the line of a cell.

    Parameters
    ----------
    line
        The line up to the cursor, ``%%together --te``.
    typed
        The word being typed, as the completer split it.
    session
        Returns the session, whose models are offered; called only if they are wanted.
    parser
        The parser of the line; that of a cell by default.
    """
    parser = parser or cell_parser()
    before = _words_before(line)
    option = before[-1] if before and any(before[-1] in one.option_strings for one in parser._actions) else ""  # noqa: SLF001
    choices: dict[str, Iterable[str]] = {
        "-m": [],
        "--model": [],
        "--api": (AUTO, *DIALECTS),
        "--show": (AUTO, *FORMATS),
        **{parameter.option: parameter.choices for parameter in PARAMETERS.values() if parameter.choices},
    }
    if option in ("-m", "--model"):
        return _starting(model_names(session()), line, typed)
    return _starting(choices.get(option) or parser.spellings(), line, typed)


def words(line: str, typed: str, session: Callable[[], Session]) -> list[str]:
    """Complete the end of a ``%together`` line: a command, or an option of the command."""
    from together_nb.magic.commands import COMMANDS

    before = _words_before(line)
    if len(before) <= 1:
        return _starting(filter(None, COMMANDS), line, typed)
    command = COMMANDS.get(before[1])
    # A file's name is offered by IPython, unless something is offered here.
    if command is None or not (command.cell_options or line.rpartition(" ")[2].startswith("-")):
        return []
    return options(line, typed, session, command.parser)


def _words_before(line: str) -> list[str]:
    """The words of a line before the one being typed."""
    return line.split()[: None if line[-1:].isspace() else -1]


def model_names(session: Session) -> list[str]:
    """Ids to offer: the local model, and the server's or the default model."""
    from together_nb.run import resolve  # imports requests, so only when needed

    try:
        rows = [row.id for row in resolve.models_for_tab(session) if row.writes_text]
    except TogetherError:
        rows = []
    return list(dict.fromkeys((*served_models(), *(rows or [DEFAULT_MODEL]))))


def _starting(candidates: Iterable[str], line: str, typed: str) -> list[str]:
    """Candidates that continue the word being typed, without what the completer counts as earlier words."""
    word = "" if line[-1:].isspace() else line.rsplit(maxsplit=1)[-1]
    cut = len(word) - len(typed) if word.endswith(typed) else 0
    return [candidate[cut:] for candidate in candidates if candidate.startswith(word)]
