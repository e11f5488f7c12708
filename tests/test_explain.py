"""The prompt about the last exception."""

from __future__ import annotations

import sys

import pytest

from tests.test_magic import ipython
from together_nb.config import settings
from together_nb.errors import InputError, RateLimitError
from together_nb.explain import explaining, last_exception, prompt_about

KEY = "key-0123456789-canary"


@pytest.fixture
def shell():
    with ipython() as one:
        yield one


def asked_after(shell, cell):
    assert not shell.run_cell(cell).success
    return prompt_about(last_exception())


def test_it_holds_the_cell_the_traceback_from_the_cell_on_and_the_question(shell):
    prompt = asked_after(shell, "def half(x):\n    return x / 0\n\n\nhalf(3)")
    assert "```python\ndef half(x):\n    return x / 0\n\n\nhalf(3)\n```" in prompt
    assert prompt.index(", line 5, in ") < prompt.index(", line 2, in half")
    assert "ZeroDivisionError: division by zero" in prompt
    assert prompt.endswith("Explain in a few sentences what went wrong, and show how to mend it.")
    assert "interactiveshell" not in prompt


def test_of_a_cell_that_could_not_be_compiled_it_holds_no_frames_of_ipython(shell):
    prompt = asked_after(shell, "x = 1\nif x\n    print(x)")
    assert "```python\nx = 1\nif x\n    print(x)\n```" in prompt
    assert "SyntaxError" in prompt
    assert "interactiveshell" not in prompt
    assert "compilerop" not in prompt


def test_the_frames_of_a_library_that_the_cell_called_are_in_it(shell):
    prompt = asked_after(shell, "import json\njson.loads('{')")
    assert "raw_decode" in prompt
    assert "```python\nimport json\njson.loads('{')\n```" in prompt


def test_the_key_is_not_in_it(shell):
    settings.api_key = KEY
    prompt = asked_after(shell, f"key = {KEY!r}\nraise ValueError(key)")
    assert "ValueError" in prompt
    assert KEY not in prompt


def test_a_long_one_keeps_its_ends(shell):
    prompt = asked_after(shell, "x = 0\n" * 5000 + "1 / x")
    assert len(prompt) < 15_000
    assert "```python\nx = 0" in prompt
    assert "1 / x\n```" in prompt


def test_an_error_of_the_request_is_not_what_is_explained_next(shell, monkeypatch):
    error = ZeroDivisionError()
    failed = RateLimitError("no", status=429)
    with pytest.raises(RateLimitError), explaining(error):
        raise failed
    monkeypatch.setattr(sys, "last_value", failed, raising=False)
    assert last_exception() is error


def test_without_an_exception_it_says_so(monkeypatch):
    monkeypatch.delattr(sys, "last_value", raising=False)
    with pytest.raises(InputError, match="No cell has failed yet"):
        last_exception()
