"""Chunks in, a completion out at any moment."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from together_nb.values.chunk import Choice, Chunk, Timings, Token, Usage
from together_nb.values.parameters import SamplingParams
from together_nb.values.request import CompletionRequest
from together_nb.wire.accumulator import Accumulator

NOW = Timings(None, 0.0)


def accumulated(*chunks, n=None):
    accumulator = Accumulator(CompletionRequest("Hi", sampling=SamplingParams(n=n)))
    for chunk in chunks:
        accumulator.add(chunk)
    return accumulator


def completed(*chunks):
    return accumulated(*chunks).completion(NOW)


def test_what_came_so_far_is_there_at_any_moment_and_does_not_grow_afterwards():
    accumulator = accumulated()
    empty = accumulator.completion(NOW)
    accumulator.add(Chunk("Hel", tokens=(Token("Hel", -1.0),)))
    early = accumulator.completion(NOW)
    accumulator.add(Chunk("lo", tokens=(Token("lo", -2.0),)))
    assert (empty.choices, empty.chunks, empty.usage) == ([Choice()], 0, None)
    assert (early.text, early.tokens) == ("Hel", [Token("Hel", -1.0)])
    late = accumulator.completion(NOW)
    assert (late.text, late.tokens) == ("Hello", [Token("Hel", -1.0), Token("lo", -2.0)])


def test_choices_are_told_apart_by_their_index_and_1024_of_them_are_kept():
    answer = completed(Chunk("b", 1), Chunk("a", 0), Chunk("c", 2), Chunk("B", 1, finish_reason="stop"), Chunk("A", 0))
    assert answer.choices == [Choice(0, "aA"), Choice(1, "bB", finish_reason="stop"), Choice(2, "c")]
    many = completed(*(Chunk("a", index) for index in (*range(1100), 1023)))
    assert [choice.text for choice in many.choices] == ["a"] * 1023 + ["aa"]


def test_pieces_with_text_or_thinking_are_counted_and_no_others():
    others = Chunk(), Chunk(finish_reason="stop"), Chunk(usage=Usage(1, 1, 2))
    assert completed(Chunk("a"), Chunk(reasoning="b"), *others).chunks == 2


def test_the_servers_last_words_on_usage_model_and_id_are_kept_and_marks_put_in():
    usage, timings = Usage(1, 2, 3), Timings(0.5, 1.5)
    chunks = Chunk("a", model="m1", id="1"), Chunk("b", usage=Usage(1, 1, 2)), Chunk(usage=usage, model="m2"), Chunk()
    answer = accumulated(*chunks).completion(timings, cancelled=True, note="a note")
    assert (answer.usage, answer.model, answer.id, answer.timings) == (usage, "m2", "1", timings)
    assert (answer.cancelled, answer.note) == (True, "a note")


@pytest.mark.parametrize(
    ("reasons", "kept"),
    [([None, "stop"], "stop"), (["stop", None], "stop"), (["length", "stop"], "length"), (["stop", ""], "stop"), (["", "stop"], "stop"), ([""], "")],
)  # fmt: skip
def test_an_end_that_comes_twice_is_the_first_one(reasons, kept):
    assert completed(*(Chunk("x", finish_reason=reason) for reason in reasons)).finish_reason == kept


@pytest.mark.parametrize(
    ("n", "reasons", "finished"),
    [
        (None, {}, False),
        (None, {0: "stop"}, True),
        (1, {0: "length"}, True),
        (None, {0: ""}, False),  # some servers send it with each chunk: a lost connection would go unseen
        (2, {0: "stop"}, False),
        (2, {0: "stop", 1: "stop"}, True),
    ],
)
def test_it_is_finished_when_each_choice_has_said_why_it_ended(n, reasons, finished):
    chunks = [Chunk("a", index, finish_reason=reason) for index, reason in reasons.items()]
    assert accumulated(*chunks, *chunks, n=n).finished is finished  # twice is no other end


def test_many_pieces_are_joined_on_the_way_and_stay_in_order():
    accumulator = accumulated(*(Chunk(f"{number} ", reasoning="r") for number in range(20_000)))
    answer = accumulator.completion(NOW)
    assert answer.text == "".join(f"{number} " for number in range(20_000))
    assert answer.reasoning == "r" * 20_000
    assert answer.chunks == 20_000


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 3), st.text(max_size=3), st.text(max_size=3))))
def test_nothing_is_lost_or_mixed_up(pieces):
    answer = completed(*(Chunk(text, index, reasoning) for index, text, reasoning in pieces))
    for choice in answer.choices:
        assert choice.text == "".join(text for index, text, _ in pieces if index == choice.index)
        assert choice.reasoning == "".join(reasoning for index, _, reasoning in pieces if index == choice.index)
    assert [choice.index for choice in answer.choices] == sorted({0, *(index for index, _, _ in pieces)})
