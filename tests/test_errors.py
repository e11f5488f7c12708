"""The errors: what they say, how they are shown, and which `except` catches them."""

from __future__ import annotations

import copy
import difflib
import pickle

import pytest

from together_nb import errors
from together_nb.completion import Completion, CompletionRequest
from together_nb.errors import (
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    ConnectionLostError,
    ContextLengthError,
    InputError,
    MissingKeyError,
    NotFoundError,
    NotRecordedError,
    RateLimitError,
    StreamError,
    TogetherError,
    suggestion,
)

TREE = {
    InputError: TogetherError,
    MissingKeyError: InputError,
    NotRecordedError: InputError,
    APIConnectionError: TogetherError,
    APITimeoutError: APIConnectionError,
    APIStatusError: TogetherError,
    AuthenticationError: APIStatusError,
    ContextLengthError: APIStatusError,
    NotFoundError: APIStatusError,
    RateLimitError: APIStatusError,
    APIResponseError: TogetherError,
    StreamError: TogetherError,
    ConnectionLostError: StreamError,
}


@pytest.mark.parametrize(("error", "base"), TREE.items())
def test_the_tree_is_as_drawn(error, base):
    assert error.__bases__[0] is base
    assert error.__name__ in errors.__doc__


def test_the_tree_is_whole():
    declared = {one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, TogetherError)}
    assert declared == {TogetherError, *TREE}


def test_bad_input_is_a_value_error():
    with pytest.raises(ValueError, match=r"^No\.$"):
        raise InputError("No.")


def test_an_error_is_its_message_and_below_it_the_hint():
    assert str(TogetherError("It broke.", "Mend it.")) == "It broke.\nMend it."
    assert str(TogetherError("It broke.")) == "It broke."


def test_a_notebook_shows_the_lines_and_no_traceback():
    assert InputError("It broke.", "Mend it.")._render_traceback_() == ["InputError: It broke.", "Mend it."]


def test_a_servers_words_cannot_drive_the_terminal():
    shown = StreamError("Said \x1b]52;c;x\x07\r!")._render_traceback_()
    assert shown == [r"StreamError: Said \x1b]52;c;x\x07\x0d!"]


def test_what_had_come_is_at_hand():
    came = Completion(CompletionRequest("Hi"))
    assert ConnectionLostError("Lost.", completion=came).completion is came
    assert ConnectionLostError("Lost.").completion is None


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_an_error_survives_pickling_with_all_it_holds(again):
    came = Completion(CompletionRequest("Hi"), model="m")
    error = again(RateLimitError("Too fast.", "Wait.", status=429, completion=came))
    assert type(error) is RateLimitError
    assert (str(error), error.status, error.completion) == ("Too fast.\nWait.", 429, came)
    assert error.args == ("Too fast.",)


MODELS = ["meta-llama/Llama-3.3-70B-Instruct-Turbo", "openai/gpt-oss-20b", "openai/gpt-oss-120b", "local/ngram"]


@pytest.mark.parametrize(
    ("word", "known", "sentence"),
    [
        ("temprature", ["temperature", "top_p", "literature"], "Did you mean temperature?"),
        ("TEMPERATURE", ["temperature"], "Did you mean temperature?"),
        ("openai/GPT-OSS-20b", MODELS, "Did you mean openai/gpt-oss-20b?"),
        ("openai/gpt-os-20b", MODELS, "Did you mean openai/gpt-oss-20b or openai/gpt-oss-120b?"),
        ("gpt-oss", MODELS, "Did you mean openai/gpt-oss-20b or openai/gpt-oss-120b?"),
        ("meta-llama/Llama-3.3-70B-Instruct", MODELS, "Did you mean meta-llama/Llama-3.3-70B-Instruct-Turbo?"),
        ("--temp", ["--stop", "--temperature", "--system"], "Did you mean --temperature?"),
        ("openai/gpt", MODELS, "Did you mean openai/gpt-oss-20b or openai/gpt-oss-120b?"),
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
    known = ["model-a", "model-b", "model-c"]
    assert suggestion("model", known, count=1) in [f"Did you mean {name}?" for name in known]
    assert suggestion("odel-", ["xxxxxxxxmodel-1", "xxxxxxxxmodel-2"], count=1) == "Did you mean xxxxxxxxmodel-1?"


@pytest.fixture
def compared(monkeypatch):
    """How many names were compared letter by letter."""
    compared = []
    quick = difflib.SequenceMatcher.real_quick_ratio
    monkeypatch.setattr(difflib.SequenceMatcher, "real_quick_ratio", lambda one: compared.append(one) or quick(one))
    return compared


@pytest.mark.parametrize(
    ("word", "sentence"),
    [("org-77/modle-7-instruct", "org-77/model-7-instruct"), ("ORG-5/model-1000x5-instruct", "org-5/model-10005-instruct")],
)  # fmt: skip
def test_of_a_hundred_thousand_names_few_are_compared_and_the_nearest_is_found(word, sentence, compared):
    known = [f"org-{number % 100}/model-{number % 70_001}-instruct" for number in range(100_000)]
    known[7:7] = ["org-77/model-7-instruct"]
    assert sentence in suggestion(word, known)
    assert 0 < len(compared) < 1000


@pytest.mark.parametrize("letters", ["temprature", "x"])
def test_a_name_of_ten_thousand_characters_is_near_none(letters, compared):
    assert suggestion(letters * 10_000, ["temperature", letters * 10_000 + "x"]) == ""
    assert suggestion("temprature", ["temperature", letters * 10_000]) == "Did you mean temperature?"
    assert len(compared) == 1
