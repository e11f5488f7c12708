"""The commands of ``%together``: what follows the name is read, and what does not belong there is refused."""

import pytest

from tests.magic.test_magics import ipython
from together_nb import complete, conversations, history, settings
from together_nb.errors import InputError
from together_nb.magic.commands import COMMANDS
from together_nb.values.conversation import Conversation

KEY = "tgp_v1_Qm7xZw3KpL9vRt2yHs8dJf4gBn6cVa1eUo5iXz0T"


@pytest.fixture
def shell():
    with ipython() as one:
        yield one


def refused(shell, line):
    result = shell.run_cell(line)
    assert isinstance(result.error_in_exec, InputError), line
    return str(result.error_in_exec)


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if name and not command.verbatim])
def test_an_unknown_option_is_refused_and_named(shell, name):
    first = "x.jsonl " * bool(COMMANDS[name].arguments)
    assert "--please" in refused(shell, f"%together {name} {first}--please")


@pytest.mark.parametrize(
    "line",
    [
        "logout please",
        "usage all",
        "panel wide",
        "save a.jsonl b.jsonl",
        "load a.jsonl b.jsonl",
        "record a.jsonl b.jsonl",
        "record off now",
        "replay off now",
        "continue more",
        "explain this",
        "continue --chat",
        "explain --for x",
    ],
)
def test_what_is_surplus_is_refused_and_nothing_is_done(shell, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings.api_key = KEY
    complete("Once", max_tokens=2, model="local/ngram")
    refused(shell, f"%together {line}")
    assert settings.api_key is not None
    assert list(tmp_path.iterdir()) == []
    assert len(history) == 1


@pytest.mark.parametrize("line", ["save", "load", "record", "replay", "replay a --speed", "replay a --speed fast"])
def test_what_is_missing_is_told_with_how_it_is_typed(shell, line):
    assert f"%together {COMMANDS[line.split()[0]].typed}" in refused(shell, f"%together {line}")


def test_a_misspelled_option_is_told_the_nearest(shell):
    assert "Did you mean --speed?" in refused(shell, "%together replay x.jsonl --sped 2")


@pytest.mark.parametrize("text", [KEY, f"-{KEY}", f'"{KEY}', f"--key={KEY}"])
def test_a_key_on_the_line_is_refused_and_not_repeated(shell, text):
    assert KEY not in refused(shell, f"%together login {text}")


@pytest.mark.parametrize("typed", ["my lesson", '"my lesson"', "  my   lesson "])
def test_a_name_with_spaces_needs_no_quotes(shell, typed):
    conversations["my lesson"] = Conversation("my lesson")
    shell.run_cell(f"%together reset {typed}").raise_error()
    assert "my lesson" not in conversations
