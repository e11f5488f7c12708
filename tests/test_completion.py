"""A request and its answer as values: what they tell, how they show themselves, that they round-trip."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from together_nb.completion import Choice, Completion, CompletionRequest, Timings, Token, Usage, dollars, thinking
from together_nb.errors import InputError
from together_nb.params import SamplingParams

REQUEST = CompletionRequest("Hi", model="asked/model", api="chat")


def completion(**fields):
    return Completion(**{"request": REQUEST, "choices": [Choice(0, "Hello.", finish_reason="stop")], **fields})


# Round trips

words = st.text(max_size=8)
numbers = st.floats(-50, 0)
tokens = st.builds(
    Token, words, st.none() | numbers, st.none() | st.integers(0, 10**6), st.lists(st.tuples(words, numbers), max_size=2).map(tuple)
)  # fmt: skip
sampling = st.builds(
    SamplingParams,
    temperature=st.none() | st.floats(0, 2),
    seed=st.none() | st.integers(-(2**64), 2**64),
    stop=st.none() | st.lists(st.text(min_size=1), max_size=2),
    logit_bias=st.none() | st.dictionaries(st.integers(0, 9), numbers, max_size=2),
    echo=st.none() | st.booleans(),
)
messages = st.lists(st.fixed_dictionaries({"role": words, "content": words}), max_size=2).map(tuple)
requests = st.builds(
    CompletionRequest, words, words, words, st.none() | words, sampling=sampling
) | st.builds(CompletionRequest, model=words, api=words, messages=messages, sampling=sampling)  # fmt: skip
choices = st.builds(Choice, st.integers(0, 3), words, words, st.none() | words, st.lists(tokens, max_size=2))
counts = st.integers(0, 10**6)
completions = st.builds(
    Completion,
    requests,
    st.lists(choices, min_size=1, max_size=2),
    words,
    words,
    st.none() | st.builds(Usage, counts, counts, counts, st.none() | counts, st.none() | counts),
    st.builds(Timings, st.none() | st.floats(0, 9), st.floats(0, 9)),
    counts,
    st.booleans(),
    words,
    st.none() | st.tuples(st.floats(0, 9), st.floats(0, 9)),
    words,
    st.lists(words, max_size=2).map(tuple),
    words,
)


@given(completions)
def test_a_completion_round_trips_through_json(original):
    assert Completion.from_dict(json.loads(json.dumps(original.to_dict()))) == original


@given(completions)
def test_a_completion_round_trips_without_json(original):
    assert Completion.from_dict(original.to_dict()) == original


@given(requests)
def test_a_request_round_trips_through_json(original):
    assert CompletionRequest.from_dict(json.loads(json.dumps(original.to_dict()))) == original


def test_a_requests_dict_holds_what_was_set_and_no_more():
    assert CompletionRequest("Hi", "m", sampling=SamplingParams(seed=0)).to_dict() == {
        "api": "auto", "model": "m", "prompt": "Hi", "sampling": {"seed": 0},
    }  # fmt: skip
    assert CompletionRequest(model="m", api="chat", system="", messages=({"role": "user", "content": "Hi"},)).to_dict() == {
        "api": "chat", "model": "m", "messages": [{"role": "user", "content": "Hi"}], "system": "", "sampling": {},
    }  # fmt: skip


def test_a_request_that_was_tampered_with_is_refused():
    with pytest.raises(InputError, match="n must be"):
        CompletionRequest.from_dict({"api": "chat", "model": "m", "sampling": {"n": 0}})


def test_changing_the_dict_changes_nothing_in_the_completion():
    original = completion()
    original.to_dict()["choices"][0]["text"] = "changed"
    assert original.text == "Hello."


# What it tells


def test_the_first_choice_speaks_for_the_answer():
    token = Token("Hello.", -0.1)
    two = completion(choices=[Choice(0, "Hello.", "Hm.", "stop", [token]), Choice(1, "Bye.")])
    assert (two.text, two.reasoning, two.finish_reason, two.tokens, two.api, str(two)) == (
        "Hello.", "Hm.", "stop", [token], "chat", "Hello.",
    )  # fmt: skip


def test_a_completion_without_choices_given_has_an_empty_one():
    assert Completion(REQUEST).text == ""


@pytest.mark.parametrize(
    ("reasons", "cut"), [(["stop"], False), (["length"], True), (["stop", "length"], True), ([None], False)]
)
def test_it_is_truncated_if_any_choice_ran_into_its_limit(reasons, cut):
    assert completion(choices=[Choice(n, finish_reason=reason) for n, reason in enumerate(reasons)]).truncated is cut


LIMITED = CompletionRequest("Hi", sampling=SamplingParams(max_tokens=5))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, ""),
        *[
            ({"choices": [Choice(finish_reason=reason)]}, "")
            for reason in ("stop", "eos", "eos_token", "stop_sequence", "", None)
        ],
        ({"choices": [Choice(finish_reason="length")]}, "cut at the model's limit"),
        ({"choices": [Choice(finish_reason="length")], "request": LIMITED}, "cut at max_tokens"),
        ({"choices": [Choice(finish_reason="tool_calls")]}, "ended by tool_calls"),
        ({"cancelled": True, "error": "connection lost"}, "stopped by you"),
        ({"error": "connection lost", "choices": [Choice(finish_reason="length")]}, "connection lost"),
    ],
)
def test_why_it_ended_is_said_if_not_by_itself(fields, words):
    assert completion(**fields).ending == words


@pytest.mark.parametrize(
    ("usage", "price", "cost"),
    [
        (Usage(1_000_000, 500_000, 1_500_000), (0.5, 2.0), 1.5),
        (Usage(10, 0, 10), (1.0, 9.0), 0.00001),
        (Usage(0, 0, 0), (1.0, 1.0), 0.0),
        (None, (1.0, 1.0), None),
        (Usage(1, 1, 2), None, None),
    ],
)
def test_the_cost_is_the_servers_count_times_the_price_or_unknown(usage, price, cost):
    assert completion(usage=usage, price=price).cost == cost


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


def test_the_footer_has_all_that_is_known_in_order():
    whole = completion(
        model="m", usage=Usage(1000, 1201, 2201), timings=Timings(0.5, 12.5), price=(1.0, 1.0), filled=("hero", "Out[3]"), note="a note",
        request=LIMITED, choices=[Choice(0, "Hello.", finish_reason="length")],
    )  # fmt: skip
    assert (
        whole.footer()
        == "m · 1,201 tokens · 12.5 s · 100 tokens/s · $0.0022 · cut at max_tokens · filled in: hero, Out[3] · a note"
    )


@pytest.mark.parametrize(("chunks", "count"), [(0, "0 chunks"), (1, "1 chunk"), (2, "2 chunks")])
def test_without_the_servers_count_the_footer_counts_chunks_and_calls_them_so(chunks, count):
    assert completion(chunks=chunks, timings=Timings(None, 0.25)).footer() == f"asked/model · {count} · 0.2 s"


def test_one_token_is_no_tokens():
    assert completion(usage=Usage(1, 1, 2)).footer() == "asked/model · 1 token · 0.0 s"


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (0, "$0.00"),
        (1.5, "$1.50"),
        (12, "$12.00"),
        (0.0123, "$0.012"),
        (0.0001, "$0.0001"),
        (0.0000321, "$3.2e-05"),
        (0.5, "$0.5"),
    ],
)
def test_a_cost_is_shown_with_the_digits_that_matter(amount, shown):
    assert dollars(amount) == shown


def test_a_notebook_saves_markdown_and_plain_text_and_no_html():
    bundle, metadata = completion(choices=[Choice(0, "**Hi**", finish_reason="stop")])._repr_mimebundle_()
    assert bundle == {
        "text/markdown": "**Hi**\n\n<sub>asked/model · 0 chunks · 0.0 s</sub>",
        "text/plain": "**Hi**\n\n[asked/model · 0 chunks · 0.0 s]",
    }
    assert list(metadata) == ["together_nb"]


def test_a_completion_that_is_no_chat_is_shown_letter_by_letter():
    plain = completion(request=CompletionRequest("Hi", "m", "completions"), choices=[Choice(0, "**Hi**")])
    assert plain.bundle()["text/markdown"].startswith("&#42;&#42;Hi&#42;&#42;\n\n")
    assert plain.bundle("code")["text/markdown"].startswith("```\n**Hi**\n```\n\n")


def test_thinking_is_folded_and_no_part_of_the_answer():
    bundle = completion(choices=[Choice(0, "42", "  6 <b>times</b> 7\n")]).bundle()
    assert bundle["text/markdown"].startswith(
        "<details><summary>Thinking</summary>\n\n6 &#60;b&#62;times&#60;/b&#62; 7\n\n</details>\n\n42\n\n"
    )
    assert bundle["text/plain"] == "42\n\n[asked/model · 0 chunks · 0.0 s]"
    assert thinking("</details><script>") == (
        "<details><summary>Thinking</summary>\n\n&#60;/details&#62;&#60;script&#62;\n\n</details>"
    )


def test_several_answers_are_numbered():
    bundle = completion(choices=[Choice(0, "One"), Choice(1, "Two")]).bundle()
    assert bundle["text/plain"] == "Answer 1:\n\nOne\n\nAnswer 2:\n\nTwo\n\n[asked/model · 0 chunks · 0.0 s]"
    assert bundle["text/markdown"].startswith("**Answer 1**\n\nOne\n\n**Answer 2**\n\nTwo\n\n<sub>")


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"usage": Usage(10**6, 0, 10**6), "price": (1.5, 2.0)}, "$1.50"),
        ({"usage": Usage(10**6, 0, 10**6), "price": (1.5, 2.0), "cancelled": True}, "at least $1.50"),
        ({"usage": Usage(10**6, 0, 10**6), "price": (1.5, 2.0), "error": "connection lost"}, "at least $1.50"),
        ({"price": (1.5, 2.0)}, "cost unknown"),
        ({"usage": Usage(1, 1, 2), "price": (0.0, 0.0)}, ""),
        ({"usage": Usage(1, 1, 2)}, ""),
        ({"price": (1.5, 2.0), "error": "failed"}, ""),
    ],
)
def test_the_footer_tells_the_cost_and_a_bound_or_nothing_known_as_such(facts, told):
    answer = completion(chunks=0 if facts.get("error") == "failed" else 1, **facts)
    assert answer.cost_told == told
    assert told in answer.footer()
    assert ("cost" in answer.footer() or "$" in answer.footer()) is bool(told)


def test_the_footer_of_an_answer_that_was_cut_says_how_it_goes_on_where_it_stands_alone():
    cut = completion(choices=[Choice(0, "Once", finish_reason="length")])
    assert "cut at the model's limit: %together continue" in cut.bundle()["text/plain"]
    assert "continue" not in cut.bundle(alone=False)["text/plain"]
    several = completion(choices=[Choice(n, "Once", finish_reason="length") for n in range(2)])
    assert "continue" not in several.bundle()["text/plain"]
    assert "continue" not in completion().bundle()["text/plain"]


def test_what_was_asked_is_the_prompt_or_what_was_said_last():
    assert completion().asked == "Hi"
    turns = ({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"})
    assert completion(request=CompletionRequest(messages=turns, model="m")).asked == "c"
    assert completion(request=CompletionRequest(messages=turns[1:2], model="m")).asked == ""


def test_a_servers_model_name_is_not_obeyed():
    bundle = completion(model="<img src=x onerror=alert(1)>\x1b[2J").bundle()
    assert "<img" not in bundle["text/markdown"]
    assert "\x1b" not in bundle["text/plain"] + bundle["text/markdown"]


def test_the_metadata_tells_what_made_it_and_holds_no_prompt():
    made = completion(
        request=CompletionRequest("secret prompt", "m", "chat", "secret system", sampling=SamplingParams(temperature=0, stop="x")),
        choices=[Choice(0, "secret answer", "secret thought", "stop")], id="42", usage=Usage(1, 2, 3), timings=Timings(0.1, 0.2),
        created="2026-11-26T10:20:30Z",
    ).metadata()  # fmt: skip
    assert made == {
        "model": "m", "api": "chat", "id": "42", "time": "2026-11-26T10:20:30Z", "parameters": {"temperature": 0.0, "stop": ["x"]}, "finish_reason": "stop",
        "cancelled": False, "error": "", "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}, "cost": None,
        "timings": {"first_token": 0.1, "total": 0.2},
    }  # fmt: skip
    assert "secret" not in json.dumps(made)


def test_its_repr_is_short():
    assert (
        repr(completion(choices=[Choice(0, "x" * 100)]))
        == f"<Completion asked/model · 0 chunks · 0.0 s: '{'x' * 60}'…>"
    )
    assert repr(completion()) == "<Completion asked/model · 0 chunks · 0.0 s: 'Hello.'>"


def test_a_servers_words_in_the_footer_are_cut():
    long = completion(model="m" * 100_000, error="e " * 100_000)
    assert len(long.footer()) < 5000
    assert long.footer().startswith("mmm")
