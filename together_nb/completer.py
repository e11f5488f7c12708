"""Tab completion on the lines of the magics: options, values, commands, model names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from together_nb.config import DEFAULT_MODEL, LOCAL_MODEL
from together_nb.dialects import DIALECTS
from together_nb.errors import TogetherError
from together_nb.formats import AUTO, FORMATS
from together_nb.options import spellings
from together_nb.params import PARAMETERS

if TYPE_CHECKING:
    from collections.abc import Iterable


def options(line: str, typed: str) -> list[str]:
    """What may stand where `typed` stands at the end of the line of a cell.

    Parameters
    ----------
    line
        The line up to the cursor, ``%%together --te``.
    typed
        The word that is being typed, as the completer cut it.
    """
    before = line.split()[: None if line[-1:].isspace() else -1]
    option = before[-1] if before else ""
    choices: dict[str, Iterable[str]] = {
        "-m": [],
        "--model": [],
        "--api": (AUTO, *DIALECTS),
        "--show": (AUTO, *FORMATS),
        **{parameter.option: parameter.choices for parameter in PARAMETERS.values() if parameter.choices},
    }
    if option in ("-m", "--model"):
        return _starting(model_names(), line, typed)
    return _starting(choices.get(option) or spellings(), line, typed)


def words(line: str, typed: str, commands: Iterable[str]) -> list[str]:
    """What may stand at the end of the line of ``%together``."""
    before = line.split()[: None if line[-1:].isspace() else -1]
    return _starting(commands, line, typed) if len(before) <= 1 else []


def model_names() -> list[str]:
    """Ids to offer: the server's callable ones, or the two that are known without asking."""
    from together_nb import resolve  # brings requests along, so not before it is needed

    try:
        rows = [row.id for row in resolve.models_for_tab() if row.writes_text]
    except TogetherError:
        rows = []
    return list(dict.fromkeys((LOCAL_MODEL, *(rows or [DEFAULT_MODEL]))))


def _starting(candidates: Iterable[str], line: str, typed: str) -> list[str]:
    """Candidates that go on what is being typed, without what the completer takes for earlier words."""
    word = "" if line[-1:].isspace() else line.rsplit(maxsplit=1)[-1]
    cut = len(word) - len(typed) if word.endswith(typed) else 0
    return [candidate[cut:] for candidate in candidates if candidate.startswith(word)]
