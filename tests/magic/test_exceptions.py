"""The prompt about the last exception."""

import sys

import pytest

import together_nb
from tests.magic.test_magics import ipython
from together_nb.errors import InputError
from together_nb.magic.exceptions import last_exception, prompt_about

KEY = "key-0123456789-canary"


@pytest.fixture
def prompt_after():
    """What is asked after a cell has failed."""
    with ipython() as shell:

        def fail(cell):
            assert not shell.run_cell(cell).success
            return prompt_about(last_exception())

        yield fail


CELLS = {
    "def half(x):\n    return x / 0\n\n\nhalf(3)": [", line 5, in ", ", line 2, in half", "ZeroDivisionError: "],
    "x = 1\nif x\n    print(x)": ["SyntaxError"],  # could not even be compiled
    "import json\njson.loads('{')": ["raw_decode", "JSONDecodeError"],  # fails in a library
}


@pytest.mark.parametrize(("cell", "parts"), CELLS.items())
def test_it_holds_the_cell_its_own_frames_and_the_question(prompt_after, cell, parts):
    prompt = prompt_after(cell)
    places = [prompt.index(part) for part in (f"```python\n{cell}\n```", *parts)]
    assert places == sorted(places)
    assert prompt.endswith("show how to mend it.")
    assert "interactiveshell" not in prompt
    assert "compilerop" not in prompt


def test_the_key_is_not_in_it(prompt_after):
    together_nb.settings.api_key = KEY
    prompt = prompt_after(f"key = {KEY!r}\nraise ValueError(key)")
    assert "ValueError" in prompt
    assert KEY not in prompt


def test_a_long_one_keeps_its_ends(prompt_after):
    prompt = prompt_after("x = 0  # and so on, line by line\n" * 600 + "1 / x")
    assert len(prompt) < 15_000
    assert "```python\nx = 0" in prompt
    assert "1 / x\n```" in prompt


def test_without_an_exception_it_says_so(monkeypatch):
    monkeypatch.delattr(sys, "last_value", raising=False)
    with pytest.raises(InputError, match="No cell has failed yet"):
        last_exception()
