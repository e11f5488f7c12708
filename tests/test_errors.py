"""The errors: how they are shown, and which `except` catches them; and the names nearest to a wrong one."""

from __future__ import annotations

import copy
import difflib
import pickle

import pytest

from together_nb import errors
from together_nb.base.suggest import suggestion
from together_nb.errors import ConnectionLostError, InputError, RateLimitError, StreamError, TogetherError
from together_nb.values.completion import Completion
from together_nb.values.request import CompletionRequest


@pytest.mark.parametrize(
    ("base", "names"),
    [
        (TogetherError, "InputError APIConnectionError APIStatusError APIResponseError StreamError"),
        (ValueError, "InputError"),
        (InputError, "MissingKeyError NotRecordedError"),
        (errors.APIConnectionError, "APITimeoutError"),
        (errors.APIStatusError, "AuthenticationError ContextLengthError NotFoundError RateLimitError"),
        (StreamError, "ConnectionLostError"),
    ],
)
def test_an_error_is_caught_as_its_base(base, names):
    assert [name for name in names.split() if base not in getattr(errors, name).__bases__] == []


def test_an_error_is_its_message_and_below_it_the_hint_without_a_traceback_or_what_drives_a_terminal():
    assert str(TogetherError("It broke.", "Mend it.")) == "It broke.\nMend it."
    assert str(TogetherError("It broke.")) == "It broke."
    assert InputError("It broke.", "Mend it.")._render_traceback_() == ["InputError: It broke.", "Mend it."]
    assert StreamError("Said \x1b\r!")._render_traceback_() == [r"StreamError: Said \x1b\x0d!"]


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_an_error_survives_copying_with_all_it_holds(copied):
    completion = Completion(CompletionRequest("Hi"), model="m")
    error = copied(RateLimitError("Too fast.", "Wait.", status=429, completion=completion))
    assert type(error) is RateLimitError
    assert (str(error), error.status, error.completion) == ("Too fast.\nWait.", 429, completion)
    assert error.args == ("Too fast.",)
    assert copied(ConnectionLostError("Lost.")).completion is None


MODELS = ["meta-llama/Llama-3.3-70B-Instruct-Turbo", "openai/gpt-oss-20b", "openai/gpt-oss-120b", "local/ngram"]
BOTH = "Did you mean openai/gpt-oss-20b or openai/gpt-oss-120b?"


@pytest.mark.parametrize(
    ("word", "known", "sentence"),
    [
        ("temprature", ["temperature", "top_p", "literature"], "Did you mean temperature?"),
        ("TEMPERATURE", ["temperature"], "Did you mean temperature?"),
        ("openai/GPT-OSS-20b", MODELS, "Did you mean openai/gpt-oss-20b?"),
        ("openai/gpt-os-20b", MODELS, BOTH),
        ("gpt-oss", MODELS, BOTH),
        ("openai/gpt", MODELS, BOTH),
        ("meta-llama/Llama-3.3-70B-Instruct", MODELS, "Did you mean meta-llama/Llama-3.3-70B-Instruct-Turbo?"),
        ("--temp", ["--stop", "--temperature", "--system"], "Did you mean --temperature?"),
        ("-t", ["--max-tokens", "--temperature"], ""),
        ("ngram", MODELS, "Did you mean local/ngram?"),
        ("zzz", MODELS, ""),
        ("", MODELS, ""),
        ("x", [], ""),
    ],
)
def test_the_nearest_names_are_suggested(word, known, sentence):
    assert suggestion(word, known) == sentence


def test_no_more_names_are_suggested_than_asked_for():
    assert suggestion("model", ["model-a", "model-b", "model-c"], count=1) == "Did you mean model-a?"
    assert suggestion("odel-", ["xxxxxxxxmodel-1", "xxxxxxxxmodel-2"], count=1) == "Did you mean xxxxxxxxmodel-1?"


@pytest.fixture
def compared(monkeypatch):
    """The comparisons of names letter by letter."""
    compared, quick = [], difflib.SequenceMatcher.real_quick_ratio
    monkeypatch.setattr(difflib.SequenceMatcher, "real_quick_ratio", lambda one: compared.append(one) or quick(one))
    return compared


@pytest.mark.parametrize(
    ("word", "nearest"),
    [
        ("org-77/modle-7-instruct", "org-77/model-7-instruct"),
        ("ORG-5/model-1000x5-instruct", "org-5/model-10005-instruct"),
    ],
)
def test_of_many_names_few_are_compared_and_the_nearest_is_found(word, nearest, compared):
    known = [f"org-{number % 100}/model-{number % 14_001}-instruct" for number in range(20_000)]
    known[7:7] = ["org-77/model-7-instruct"]
    assert nearest in suggestion(word, known)
    assert 0 < len(compared) < 1000


@pytest.mark.parametrize("letters", ["temprature", "x"])
def test_a_name_of_ten_thousand_characters_is_near_none(letters, compared):
    assert suggestion(letters * 10_000, ["temperature", letters * 10_000 + "x"]) == ""
    assert suggestion("temprature", ["temperature", letters * 10_000]) == "Did you mean temperature?"
    assert len(compared) == 1
