"""The line of a cell: what is read from it, and what is said of a line that cannot be read."""

import contextlib
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.declared import good
from together_nb.errors import InputError
from together_nb.run.options import Options, help_text, parse, parser, split
from together_nb.values.parameters import PARAMETERS


def typed(parameter, value):
    """`value` as it is typed on a cell's line, with its option."""
    return " ".join(f"{parameter.option} '{text}'" for text in parameter.spell(value))


def test_an_empty_line_sets_nothing_and_every_option_of_its_own_is_read():
    assert parse("") == parse("  ") == Options(None, "auto", None, None, "auto", False, False, False, {})
    line = '-m meta/llama --api chat --system "Be brief." -o answer --show code --raw --dry-run'
    assert parse(line) == Options("meta/llama", "chat", "Be brief.", "answer", "code", raw=True, dry_run=True)
    assert parse("--model x --out y") == parse("--model=x --out=y") == parse("-mx -oy") == Options("x", out="y")


@pytest.mark.parametrize("parameter", PARAMETERS.values(), ids=PARAMETERS)
def test_every_sampling_parameter_is_an_option_whose_value_unset_takes_back(parameter):
    for value in good(parameter):
        read = parse(typed(parameter, value)).sampling
        assert (read, type(read[parameter.name])) == ({parameter.name: value}, parameter.type)
    assert parse(f"{parameter.option} unset").sampling == {parameter.name: None}
    assert parse(f"{typed(parameter, good(parameter)[0])} {parameter.option} unset").sampling == {parameter.name: None}


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("--min-p 1e-1", {"min_p": 0.1}),
        ("--seed 9007199254740993", {"seed": 9007199254740993}),
        ("--echo", {"echo": True}),
        ("--echo=True --n 2", {"echo": True, "n": 2}),
        ("--temperature 1 --temperature 0", {"temperature": 0.0}),
        ("--stop a --stop b", {"stop": ["a", "b"]}),
        ("--max_tokens 5 --top_p=0.5 --stop=__x__", {"max_tokens": 5, "top_p": 0.5, "stop": ["__x__"]}),
        (r"--stop \n", {"stop": ["\n"]}),
        (r'--stop "\n User:"', {"stop": ["\n User:"]}),
        (r"--stop \\n", {"stop": [r"\n"]}),
        (r"--stop \t --stop C:\new", {"stop": ["\t", "C:\new"]}),
        ("--stop '#' --stop ### --stop ' '", {"stop": ["#", "###", " "]}),
        ("--stop=---", {"stop": ["---"]}),
        ("--stop 'it''s' --stop \"it's\"", {"stop": ["its", "it's"]}),
    ],
)
def test_a_value_is_read_with_its_signs_quotes_and_backslashes(line, values):
    assert parse(line).sampling == values


@pytest.mark.parametrize(
    ("line", "word", "hint"),
    [
        ("--temprature 1", "--temprature", "Did you mean --temperature?"),
        ("--max_token 1", "--max-token", "Did you mean --max-tokens?"),
        ("--temp 1", "--temp", "Did you mean --temperature?"),  # never abbreviated: a later option may share it
        ("--zzz=1", "--zzz", "`%%together?`"),
        ("-t 1", "-t", "`%%together?`"),
        ("hello", "'hello'", "below the line"),
        ("--system be brief", "'brief'", "below the line"),
        ("--temperature", "--temperature", "`%%together?`"),
        ("--temperature --raw", "--temperature", "`%%together?`"),
        ("--raw=yes", "'yes'", "`%%together?`"),
        ("--temperature hot", "temperature must be", PARAMETERS["temperature"].help),
        ("--n ''", "n must be", PARAMETERS["n"].help),
        ("--min-p .5e-1", "min_p must be", PARAMETERS["min_p"].help),  # no JSON number, as in the payload
        ("--api chatt", "'chatt'", "Did you mean chat?"),
        ("--api zzzz", "'zzzz'", "Use one of: auto, chat"),
        ("--show jsn", "'jsn'", "Did you mean json?"),
        *((f"-o {name}", f"'{name}'", "--out answer") for name in ("1x", "class", "a.b", "In", "__name__", "print")),
        ("--system 'open", "quote", "--system 'open"),
        ("--system don't", "quote", "--system don't"),
        *((line, "-- is no value", "after the =") for line in ("--n=--", "--system=--", "-m=--")),
    ],
)  # fmt: skip
def test_a_line_that_cannot_be_read_says_why_and_what_to_do(line, word, hint):
    with pytest.raises(InputError) as refused:
        parse(line)
    assert word in refused.value.message
    assert hint in refused.value.hint


def test_a_variables_name_and_an_option_are_taken_as_python_spells_them():
    assert parse("--dry_run --out my_name").out == "my_name"
    assert parse("--out \ufb01").out == "fi"


@pytest.mark.parametrize("line", ["-h", "--help", "--temperature 1 --help", "--help --zzz"])
def test_help_can_be_asked_for_on_the_line(line):
    assert parse(line) is None


def test_the_help_names_every_option_with_what_it_does_and_its_bounds():
    text = " ".join(help_text().split())
    assert text.startswith("usage: %%together [options] ")
    for parameter in PARAMETERS.values():
        assert f"{parameter.option} " in text
        assert f"{parameter.help} ({parameter.expected})" in text.replace("- ", "-")
    for option in ("-m ID, --model ID", "--api API", "--system TEXT", "-o NAME, --out NAME", "--show HOW"):
        assert option in text


def test_every_option_ends_up_in_the_options_that_were_read():
    read = {one.name for one in fields(Options)} | set(PARAMETERS) | {"help"}
    assert {action.dest for action in parser()._actions} == read - {"sampling"}


def test_the_spellings_are_all_long_options():
    own = "model|api|system|chat|schema|compare|for|extra|show|out|background|raw|dry-run|help"
    sampling = [parameter.option for parameter in PARAMETERS.values()]
    assert sorted(parser().spellings()) == sorted([f"--{name}" for name in own.split("|")] + sampling)


@given(st.lists(st.text(alphabet=st.characters(exclude_characters="'"), max_size=6), max_size=5))
def test_words_in_quotes_are_read_letter_by_letter(words):
    assert list(split(" ".join(f"'{word}'" for word in words))) == words


@given(st.text(alphabet=" \t-=\\'\"{}[]ntopsem018"))
def test_no_line_makes_another_error_than_ours(line):
    with contextlib.suppress(InputError):
        parse(line)
