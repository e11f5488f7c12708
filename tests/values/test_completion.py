"""A request and its answer as values: what they know, how they show themselves, that they round-trip."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from together_nb.base.wording import dollars
from together_nb.errors import InputError
from together_nb.values.chunk import Choice, Timings, Token, Usage
from together_nb.values.completion import Completion
from together_nb.values.parameters import SamplingParams
from together_nb.values.request import CompletionRequest

REQUEST = CompletionRequest("Hi", model="asked/model", api="chat")
LIMITED = replace(REQUEST, sampling=SamplingParams(max_tokens=5))
TURNS = ({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"})
FOOTER = "asked/model · 0 chunks · 0.0 s"


def completion(text="Hello.", finish_reason="stop", reasoning="", **fields):
    return Completion(**{"request": REQUEST, "choices": [Choice(0, text, reasoning, finish_reason)], **fields})


# Round trips

words, numbers, seconds, counts = st.text(max_size=8), st.floats(-50, 0), st.floats(0, 9), st.integers(0, 10**6)
tops = st.lists(st.tuples(words, numbers), max_size=2).map(tuple)
tokens = st.lists(st.builds(Token, words, st.none() | numbers, st.none() | counts, tops), max_size=2)
sampling = st.builds(
    SamplingParams,
    temperature=st.none() | st.floats(0, 2),
    seed=st.none() | st.integers(-(2**64), 2**64),
    stop=st.none() | st.lists(st.text(min_size=1), max_size=2),
    logit_bias=st.none() | st.dictionaries(st.integers(0, 9), numbers, max_size=2),
    echo=st.none() | st.booleans(),
)
messages = st.lists(st.fixed_dictionaries({"role": words, "content": words}), max_size=2).map(tuple)
prompts = st.fixed_dictionaries({"prompt": words}) | st.fixed_dictionaries({"messages": messages})
requests = st.builds(
    lambda asked, **more: CompletionRequest(**asked, **more),
    prompts, model=words, api=words, system=st.none() | words, sampling=sampling,
)  # fmt: skip
completions = st.builds(
    Completion,
    requests,
    st.lists(st.builds(Choice, counts, words, words, st.none() | words, tokens), min_size=1, max_size=2),
    usage=st.none() | st.builds(Usage, counts, counts, counts, st.none() | counts, st.none() | counts),
    timings=st.builds(Timings, st.none() | seconds, seconds),
    chunks=counts,
    cancelled=st.booleans(),
    price=st.none() | st.tuples(seconds, seconds),
    filled=st.lists(words, max_size=2).map(tuple),
    **dict.fromkeys(["model", "id", "error", "note", "created"], words),
)


@settings(max_examples=50)
@given(completions)
def test_a_completion_and_its_request_round_trip_with_json_and_without(original):
    request = original.request
    assert Completion.from_dict(original.to_dict()) == original
    assert Completion.from_dict(json.loads(json.dumps(original.to_dict()))) == original
    assert CompletionRequest.from_dict(json.loads(json.dumps(request.to_dict()))) == request


@pytest.mark.parametrize(
    ("fields", "written"),
    [
        ({"prompt": "a", "sampling": SamplingParams(seed=0)}, {"api": "auto", "prompt": "a", "sampling": {"seed": 0}}),
        ({"system": "", "messages": TURNS}, {"api": "auto", "messages": [*TURNS], "system": "", "sampling": {}}),
    ],
)
def test_a_requests_dict_holds_what_was_set_and_no_more(fields, written):
    assert CompletionRequest(model="m", **fields).to_dict() == {"model": "m", **written}


def test_a_dict_with_a_value_that_does_not_fit_is_refused_and_changing_one_changes_nothing_in_the_completion():
    with pytest.raises(InputError, match="n must be"):
        CompletionRequest.from_dict({"api": "chat", "model": "m", "sampling": {"n": 0}})
    original = completion()
    original.to_dict()["choices"][0]["text"] = "changed"
    assert original.text == "Hello."


# What it knows


def test_the_first_choice_speaks_for_the_answer_and_the_prompt_or_what_was_said_last_for_the_request():
    first = Choice(0, "Hello.", "Hm.", "stop", [Token("Hello.", -0.1)])
    two = completion(choices=[first, Choice(1, "Bye.")])
    assert (two.text, two.reasoning, two.finish_reason, two.tokens) == ("Hello.", "Hm.", "stop", first.tokens)
    assert (two.api, str(two)) == ("chat", "Hello.")
    assert Completion(REQUEST).text == ""
    assert two.asked == "Hi"
    assert completion(request=CompletionRequest(messages=TURNS)).asked == "c"
    assert completion(request=CompletionRequest(messages=TURNS[1:2])).asked == ""


@pytest.mark.parametrize(
    ("reasons", "fields", "words"),
    [
        *(([reason], {}, "") for reason in ("stop", "eos", "eos_token", "stop_sequence", "", None)),
        (["length"], {}, "cut at the model's limit"),
        (["stop", "length"], {"request": LIMITED}, "cut at max_tokens"),
        (["tool_calls"], {}, "ended by tool_calls"),
        (["stop"], {"cancelled": True, "error": "connection lost"}, "stopped by you"),
        (["length"], {"error": "connection lost"}, "connection lost"),
    ],
)
def test_why_it_ended_is_said_if_not_by_itself_and_it_is_cut_if_any_choice_is(reasons, fields, words):
    choices = [Choice(number, finish_reason=reason) for number, reason in enumerate(reasons)]
    answer = completion(choices=choices, **fields)
    assert answer.ending == words
    assert answer.truncated is ("length" in reasons)


COUNTED = {"usage": Usage(10**6, 500_000, 1_500_000), "price": (0.5, 2.0)}


@pytest.mark.parametrize(
    ("fields", "cost", "shown"),
    [
        (COUNTED, 1.5, "$1.50"),
        ({"usage": Usage(10, 0, 10), "price": (1.0, 9.0)}, 0.00001, "$1.0e-05"),
        ({**COUNTED, "cancelled": True}, 1.5, "at least $1.50"),
        ({**COUNTED, "error": "connection lost"}, 1.5, "at least $1.50"),
        ({**COUNTED, "usage": None}, None, "cost unknown"),
        ({**COUNTED, "price": (0.0, 0.0)}, 0.0, ""),
        ({**COUNTED, "price": None}, None, ""),
        ({"price": (1.5, 2.0), "error": "failed", "chunks": 0}, None, ""),
    ],
)
def test_the_cost_is_the_servers_count_times_the_price_a_bound_or_unknown(fields, cost, shown):
    answer = completion(**{"chunks": 1, **fields})
    assert (answer.cost, answer.cost_told) == (cost, shown)
    assert shown in answer.footer()
    assert ("cost" in answer.footer() or "$" in answer.footer()) is bool(shown)


@pytest.mark.parametrize(
    ("usage", "timings", "speed"),
    [
        (Usage(5, 21, 26), Timings(0.5, 2.5), 10.0),  # the first token began the clock
        (Usage(5, 0, 5), Timings(0.5, 2.5), 0.0),
        (Usage(5, 21, 26), Timings(None, 2.5), None),
        (Usage(5, 21, 26), Timings(2.5, 2.5), None),
        (None, Timings(0.5, 2.5), None),
    ],
)
def test_tokens_per_second_count_from_the_first_token_by_the_servers_count(usage, timings, speed):
    assert completion(usage=usage, timings=timings).tokens_per_second == speed


# How it shows itself


def test_the_footer_has_all_that_is_known_in_order_and_a_servers_words_in_it_are_cut():
    known = {"model": "m", "timings": Timings(0.5, 12.5), "price": (1.0, 1.0), "note": "a note", "request": LIMITED}
    whole = completion("Once", "length", usage=Usage(1000, 1201, 2201), filled=("hero", "Out[3]"), **known)
    shown = "m · 1,201 tokens · 12.5 s · 100 tokens/s · $0.0022 · cut at max_tokens · filled in: hero, Out[3] · a note"
    assert whole.footer() == shown
    assert len(completion(model="m" * 100_000, error="e " * 100_000).footer()) < 2100


@pytest.mark.parametrize(
    ("fields", "shown"),
    [({"chunks": 0}, "0 chunks"), ({"chunks": 1}, "1 chunk"), ({"chunks": 2}, "2 chunks"), ({"usage": Usage(1, 1, 2)}, "1 token")],
)  # fmt: skip
def test_without_the_servers_count_the_footer_counts_chunks(fields, shown):
    assert completion(timings=Timings(None, 0.26), **fields).footer() == f"asked/model · {shown} · 0.3 s"


def test_a_cost_is_shown_with_the_digits_that_matter():
    shown = ["$0.00", "$1.00", "$12.00", "$0.012", "$0.0001", "$3.2e-05"]
    assert list(map(dollars, (0, 1, 12, 0.0123, 0.0001, 0.0000321))) == shown


LETTERS = "&#42;&#42;Hi&#42;&#42;"
THINKING = "<details><summary>Thinking</summary>\n\n6 &#60;/details&#62; 7\n\n</details>"
SEVERAL = [Choice(0, "One", "", "length"), Choice(1, "Two")]


@pytest.mark.parametrize(
    ("made", "show", "markdown", "plain"),
    [
        (completion("**Hi**"), "auto", "**Hi**", "**Hi**"),
        (completion("**Hi**", request=replace(REQUEST, api="completions")), "auto", LETTERS, "**Hi**"),
        (completion("**Hi**"), "code", "```\n**Hi**\n```", "**Hi**"),
        (completion("42", "stop", "  6 </details> 7\n"), "auto", f"{THINKING}\n\n42", "42"),
        (completion(choices=SEVERAL), "auto", "**Answer 1**\n\nOne\n\n**Answer 2**\n\nTwo", "Answer 1:\n\nOne\n\nAnswer 2:\n\nTwo"),
    ],
    ids=["chat", "no chat", "code", "thinking", "several"],
)  # fmt: skip
def test_a_notebook_saves_markdown_and_plain_text_and_no_html(made, show, markdown, plain):
    footer = made.footer()
    assert footer.startswith(FOOTER)
    markdown, plain = f"{markdown}\n\n<sub>{footer}</sub>", f"{plain}\n\n[{footer}]"
    assert made.bundle(show) == {"text/markdown": markdown, "text/plain": plain}
    assert made._repr_mimebundle_() == (made.bundle(), {"together_nb": made.metadata()})


def test_an_answer_that_was_cut_says_how_it_goes_on_where_it_stands_alone():
    cut = completion(finish_reason="length")
    assert "limit: %together continue" in cut.bundle()["text/plain"]
    for bundle in (cut.bundle(alone=False), completion().bundle(), completion("", "length").bundle()):
        assert "continue" not in bundle["text/plain"]


def test_the_metadata_tells_what_made_it_and_holds_no_prompt():
    sampling = SamplingParams(temperature=0, stop="x")
    request = CompletionRequest("secret prompt", "m", "chat", "secret system", sampling=sampling)
    known = {"id": "42", "usage": Usage(1, 2, 3), "timings": Timings(0.1, 0.2), "created": "2026-11-26T10:20:30Z"}
    assert completion("secret answer", "stop", "secret thought", request=request, **known).metadata() == {
        "model": "m", "api": "chat", "id": "42", "time": "2026-11-26T10:20:30Z",
        "parameters": {"temperature": 0.0, "stop": ["x"]}, "finish_reason": "stop", "cancelled": False, "error": "",
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}, "cost": None,
        "timings": {"first_token": 0.1, "total": 0.2},
    }  # fmt: skip


def test_its_repr_is_short():
    assert repr(completion("x" * 61)) == f"<Completion {FOOTER}: '{'x' * 60}'…>"
    assert repr(completion("x" * 60)) == f"<Completion {FOOTER}: '{'x' * 60}'>"
