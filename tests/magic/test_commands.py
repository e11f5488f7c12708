"""The commands of ``%together``: what follows the name is read, and what does not belong there is refused."""

import pytest

import together_nb
from tests.magic.test_magics import ipython
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
        "record off --force",
        "replay off --speed 2",
        "replay off --speed 0",
        "logout ''",
        'usage ""',
        "save a.jsonl ''",
        "save a.jsonl --",
        "save a.jsonl --force=1",
        "save a.jsonl -f",
        "save a.jsonl --fo",
        "replay off now",
        "continue more",
        "explain this",
        "continue --chat",
        "explain --for x",
    ],
)
def test_what_is_surplus_is_refused_and_nothing_is_done(shell, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    together_nb.settings.api_key = KEY
    together_nb.complete("Once", max_tokens=2, model="local/ngram")
    refused(shell, f"%together {line}")
    assert together_nb.settings.api_key is not None
    assert list(tmp_path.iterdir()) == []
    assert len(together_nb.history) == 1


@pytest.mark.parametrize("line", ["save", "load", "record", "replay", "replay a --speed", "replay a --speed fast"])
def test_what_is_missing_is_told_with_how_it_is_typed(shell, line):
    assert f"%together {COMMANDS[line.split()[0]].typed}" in refused(shell, f"%together {line}")


def test_a_misspelled_option_is_told_the_nearest(shell):
    assert "Did you mean --speed?" in refused(shell, "%together replay x.jsonl --sped 2")


@pytest.mark.parametrize(
    "text", [f" {KEY}", f" -{KEY}", f' "{KEY}', f" --key={KEY}", f"={KEY}", f"\t{KEY}", f"\u00a0{KEY}"]
)
def test_a_key_on_the_line_is_refused_and_not_repeated(shell, text, capsys):
    assert KEY not in refused(shell, f"%together login{text}")
    assert KEY not in refused(shell, f"%together logout {KEY}")
    capsys.readouterr()
    shell.run_cell("%together explain --dry-run")
    assert KEY not in capsys.readouterr().out.replace("\\u00a0", "")


@pytest.mark.parametrize("line", ["save -x.jsonl", "save -h", "load --help", "record -x off"])
def test_what_looks_like_an_option_is_named(shell, line):
    assert line.split()[1] in refused(shell, f"%together {line}")


@pytest.mark.parametrize("option", ["--compare a=b", "--chat", "--for x", "--raw"])
def test_an_option_of_a_cell_that_a_command_lacks_is_not_mistaken_for_another(shell, option):
    said = refused(shell, f"%together continue {option}")
    assert "Did you mean" not in said
    assert "--show, --out" in said


@pytest.mark.parametrize("name", ["O'Brien", "-x", "--please", 'say "hi"', "a  b", "ünï code", "off", "--"])
def test_a_name_is_taken_as_it_stands(shell, name):
    for command in ("history", "reset"):
        together_nb.conversations[name] = Conversation(name)
        shell.run_cell(f"%together {command} {name}").raise_error()
    assert name not in together_nb.conversations


def test_an_empty_name_in_quotes_is_not_that_of_the_conversation_without_a_name(shell):
    together_nb.conversations["chat"] = Conversation("chat")
    for text in ("''", '""', "--"):
        refused(shell, f"%together reset {text}")
    assert "chat" in together_nb.conversations


@pytest.mark.parametrize("typed", ["my lesson", '"my lesson"', "'my lesson'"])
def test_a_name_with_spaces_needs_no_quotes(shell, typed):
    together_nb.conversations["my lesson"] = Conversation("my lesson")
    shell.run_cell(f"%together reset {typed}").raise_error()
    assert "my lesson" not in together_nb.conversations
