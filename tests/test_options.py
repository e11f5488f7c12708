"""The line of a cell: what is read from it, and what is said of a line that cannot be read."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from together_nb.errors import InputError
from together_nb.options import Options, help_text, parse, spellings, split
from together_nb.params import PARAMETERS


def sampling(line):
    return parse(line).sampling


def test_an_empty_line_sets_nothing():
    assert parse("") == Options()
    assert parse("  ") == Options(None, "auto", None, None, "auto", False, False, False, {})


def test_every_option_of_its_own_is_read():
    line = '-m meta/llama --api chat --system "Be brief." -o answer --show code --raw --dry-run'
    assert parse(line) == Options("meta/llama", "chat", "Be brief.", "answer", "code", raw=True, dry_run=True)
    assert parse("--model x --out y") == parse("--model=x --out=y") == parse("-mx -oy") == Options("x", out="y")


NAMES = "Use letters, digits and _, and no name that Python or IPython needs: --out answer"


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("--max-tokens 200", {"max_tokens": 200}),
        ("--temperature 0", {"temperature": 0.0}),
        ("--top-p 0.7", {"top_p": 0.7}),
        ("--top-k 0", {"top_k": 0}),
        ("--min-p .5e-1", None),
        ("--min-p 0.05", {"min_p": 0.05}),
        ("--repetition-penalty 1", {"repetition_penalty": 1.0}),
        ("--presence-penalty -1.5", {"presence_penalty": -1.5}),
        ("--frequency-penalty=-2", {"frequency_penalty": -2.0}),
        ("--stop END", {"stop": ["END"]}),
        ("--seed 9007199254740993", {"seed": 9007199254740993}),
        ("--seed -1", {"seed": -1}),
        ("--logprobs 0", {"logprobs": 0}),
        ("--n 2", {"n": 2}),
        ("--echo", {"echo": True}),
        ("--echo false", {"echo": False}),
        ("--echo=True --n 2", {"echo": True, "n": 2}),
        ("--logit-bias '{\"50256\": -100}'", {"logit_bias": {"50256": -100}}),
        ("--reasoning-effort low", {"reasoning_effort": "low"}),
    ],
)
def test_every_sampling_parameter_is_an_option(line, values):
    if values is None:  # ".5" is no JSON number, as in the payload
        with pytest.raises(InputError, match="min_p must be a number from 0 to 1"):
            parse(line)
    else:
        assert sampling(line) == values


def test_pythons_spelling_is_an_option_too_and_its_value_is_left_alone():
    assert sampling("--max_tokens 5 --top_p=0.5 --stop=__x__") == {"max_tokens": 5, "top_p": 0.5, "stop": ["__x__"]}
    assert parse("--dry_run --out my_name").out == "my_name"


def test_what_is_given_twice_is_the_last_but_stops_add_up():
    assert sampling("--temperature 1 --temperature 0") == {"temperature": 0.0}
    assert sampling("--stop a --stop b") == {"stop": ["a", "b"]}


@pytest.mark.parametrize(
    ("line", "stop"),
    [
        (r"--stop \n", ["\n"]),
        (r"--stop '\n\n'", ["\n\n"]),
        (r'--stop "\n User:"', ["\n User:"]),
        (r"--stop \\n", [r"\n"]),
        (r"--stop \t --stop C:\new", ["\t", "C:\new"]),
        ("--stop '#'", ["#"]),
        ("--stop ###", ["###"]),
        ("--stop ' '", [" "]),
        ("--stop=---", ["---"]),
        ("--stop 'it''s'", ["its"]),
        ('--stop "it\'s"', ["it's"]),
    ],
)
def test_stop_is_read_with_its_backslashes_quotes_and_signs(line, stop):
    assert sampling(line) == {"stop": stop}


@pytest.mark.parametrize("parameter", PARAMETERS.values(), ids=PARAMETERS)
def test_unset_takes_a_default_back(parameter):
    assert sampling(f"{parameter.option} unset") == {parameter.name: None}


def test_unset_among_stops_takes_all_back():
    assert sampling("--stop a --stop unset") == {"stop": None}


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("--temprature 1", "There is no option --temprature.", "Did you mean --temperature?"),
        ("--max_token 1", "There is no option --max-token.", "Did you mean --max-tokens?"),
        ("--temp 1", "There is no option --temp.", "Did you mean --temperature?"),  # never abbreviated: a later option may share it
        ("--zzz=1", "There is no option --zzz.", "`%%together?` shows the options."),
        ("-t 1", "There is no option -t.", "`%%together?` shows the options."),
        ("hello", "'hello' stands on the line and belongs to no option.", "The prompt goes below the line; a value with spaces goes in quotes."),
        ("--system be brief", "'brief' stands on the line and belongs to no option.", "The prompt goes below the line; a value with spaces goes in quotes."),
        ("--temperature", "Argument --temperature: expected one argument.", "`%%together?` shows the options."),
        ("--temperature --raw", "Argument --temperature: expected one argument.", "`%%together?` shows the options."),
        ("--raw=yes", "Argument --raw: ignored explicit argument 'yes'.", "`%%together?` shows the options."),
        ("--temperature hot", "temperature must be a number of at least 0, not 'hot'.", PARAMETERS["temperature"].help),
        ("--top-p 1.5", "top_p must be a number from 0 to 1, not 1.5.", PARAMETERS["top_p"].help),
        ("--n 0", "n must be a whole number from 1 to 128, not 0.", PARAMETERS["n"].help),
        ("--n ''", "n must be a whole number from 1 to 128, not ''.", PARAMETERS["n"].help),
        ("--n 1.5", "n must be a whole number from 1 to 128, not 1.5.", PARAMETERS["n"].help),
        ("--echo maybe", "echo must be True or False, not 'maybe'.", PARAMETERS["echo"].help),
        ("--stop ''", "stop must be a text or a list of texts, not ''.", PARAMETERS["stop"].help),
        ("--logit-bias {", "logit_bias must be a JSON object, not '{'.", PARAMETERS["logit_bias"].help),
        ("--reasoning-effort max", "reasoning_effort must be one of low, medium, high, not 'max'.", PARAMETERS["reasoning_effort"].help),
        ("--api chatt", "There is no API called 'chatt'.", "Did you mean chat?"),
        ("--api x", "There is no API called 'x'.", "Use one of: auto, chat, completions, inference."),
        ("--show jsn", "There is no way to show an answer called 'jsn'.", "Did you mean json?"),
        ("--out 1x", "'1x' cannot be a variable's name here.", NAMES),
        ("--out class", "'class' cannot be a variable's name here.", NAMES),
        ("-o a.b", "'a.b' cannot be a variable's name here.", NAMES),
        ("--system 'open", "A quote on the line is not closed.", "The line was: --system 'open"),
        ("--system don't", "A quote on the line is not closed.", "The line was: --system don't"),
    ],
)  # fmt: skip
def test_a_line_that_cannot_be_read_says_why_and_what_to_do(line, message, hint):
    with pytest.raises(InputError) as refused:
        parse(line)
    assert refused.value.message == message
    assert refused.value.hint == hint


@pytest.mark.parametrize("line", ["-h", "--help", "--temperature 1 --help", "--help --zzz"])
def test_help_can_be_asked_for_on_the_line(line):
    assert parse(line) is None


def test_the_help_names_every_option_with_what_it_does_and_its_bounds():
    text = " ".join(help_text().split())
    for parameter in PARAMETERS.values():
        assert f"{parameter.option} " in text
        assert f"{parameter.help} ({parameter.expected})" in text.replace("- ", "-")
    for option in (
        "-m ID, --model ID",
        "--api API",
        "--system TEXT",
        "-o NAME, --out NAME",
        "--show HOW",
        "--raw",
        "--dry-run",
    ):
        assert option in text
    assert text.startswith("usage: %%together [options] ")


def test_the_spellings_are_all_long_options():
    assert spellings() == [
        "--model", "--api", "--system", "--chat", "--schema", "--compare", "--for", "--show", "--out", "--background", "--raw", "--dry-run", "--help", "--max-tokens", "--temperature", "--top-p",
        "--top-k", "--min-p", "--repetition-penalty", "--presence-penalty", "--frequency-penalty", "--stop", "--seed", "--logprobs", "--n",
        "--echo", "--logit-bias", "--reasoning-effort",
    ]  # fmt: skip


@given(st.lists(st.text(alphabet=st.characters(exclude_characters="'"), max_size=6), max_size=5))
def test_words_in_quotes_are_read_letter_by_letter(words):
    assert list(split(" ".join(f"'{word}'" for word in words))) == words


@given(st.text(alphabet=" \t-=\\'\"{}[]ntopsem018"))
def test_no_line_makes_another_error_than_ours(line):
    with contextlib.suppress(InputError):
        parse(line)


@pytest.mark.parametrize("line", ["--n=--", "--system=--", "-m=--"])
def test_two_hyphens_are_no_value(line):
    with pytest.raises(InputError, match="-- is no value"):
        parse(line)
