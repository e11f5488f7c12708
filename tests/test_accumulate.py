"""Chunks in, a completion out at any moment."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from together_nb.accumulate import Accumulator
from together_nb.completion import Choice, Chunk, CompletionRequest, Timings, Token, Usage
from together_nb.params import SamplingParams

NOW = Timings(None, 0.0)


def accumulated(*chunks, n=None):
    accumulator = Accumulator(CompletionRequest("Hi", sampling=SamplingParams(n=n)))
    for chunk in chunks:
        accumulator.add(chunk)
    return accumulator


def completed(*chunks, n=None):
    return accumulated(*chunks, n=n).completion(NOW)


def test_before_anything_came_there_is_an_empty_answer():
    empty = completed()
    assert (empty.choices, empty.chunks, empty.usage, empty.finish_reason) == ([Choice()], 0, None, None)


def test_what_came_so_far_is_there_at_any_moment_and_does_not_grow_afterwards():
    accumulator = accumulated(Chunk("Hel", tokens=(Token("Hel", -1.0),)))
    early = accumulator.completion(NOW)
    accumulator.add(Chunk("lo", tokens=(Token("lo", -2.0),)))
    assert (early.text, early.tokens) == ("Hel", [Token("Hel", -1.0)])
    late = accumulator.completion(NOW)
    assert (late.text, late.tokens) == ("Hello", [Token("Hel", -1.0), Token("lo", -2.0)])


def test_thinking_is_apart_from_the_text():
    answer = completed(Chunk(reasoning="Hm"), Chunk(reasoning="."), Chunk("Yes"))
    assert (answer.reasoning, answer.text) == ("Hm.", "Yes")


def test_choices_are_told_apart_by_their_index_in_whatever_order_they_come():
    answer = completed(Chunk("b", 1), Chunk("a", 0), Chunk("c", 2), Chunk("B", 1, finish_reason="stop"), Chunk("A", 0))
    assert answer.choices == [Choice(0, "aA"), Choice(1, "bB", finish_reason="stop"), Choice(2, "c")]


def test_pieces_with_text_or_thinking_are_counted_and_no_others():
    assert (
        completed(
            Chunk(), Chunk("a"), Chunk(reasoning="b"), Chunk(finish_reason="stop"), Chunk(usage=Usage(1, 1, 2))
        ).chunks
        == 2
    )


def test_the_servers_last_words_on_usage_model_and_id_are_kept():
    usage = Usage(1, 2, 3)
    answer = completed(
        Chunk("a", model="m1", id="1"), Chunk("b", usage=Usage(1, 1, 2)), Chunk(usage=usage, model="m2"), Chunk()
    )
    assert (answer.usage, answer.model, answer.id) == (usage, "m2", "1")


@pytest.mark.parametrize(
    ("reasons", "kept"),
    [([None, "stop"], "stop"), (["stop", None], "stop"), (["length", "stop"], "length"), (["stop", ""], "stop"), (["", "stop"], "stop"), ([""], "")],
)  # fmt: skip
def test_an_end_that_is_told_twice_is_the_first_one_told(reasons, kept):
    assert completed(*(Chunk("x", finish_reason=reason) for reason in reasons)).finish_reason == kept


@pytest.mark.parametrize(
    ("chunks", "n", "finished"),
    [
        ([], None, False),
        ([Chunk("a")], None, False),
        ([Chunk("a", finish_reason="stop")], None, True),
        ([Chunk("a", finish_reason="length")], 1, True),
        # Some servers send "" with each chunk: taken for an end, a lost connection would go unseen.
        ([Chunk("a", finish_reason="")], None, False),
        ([Chunk("a", 0, finish_reason="stop")], 2, False),
        ([Chunk("a", 0, finish_reason="stop"), Chunk("a", 0, finish_reason="stop")], 2, False),
        ([Chunk("a", 0, finish_reason="stop"), Chunk("b", 1, finish_reason="stop")], 2, True),
    ],
)
def test_it_is_finished_when_each_choice_said_why_it_ended(chunks, n, finished):
    assert accumulated(*chunks, n=n).finished is finished


def test_marks_go_into_the_completion():
    answer = accumulated(Chunk("a")).completion(Timings(0.5, 1.5), cancelled=True, note="a note", price=(1.0, 2.0))
    assert (answer.cancelled, answer.note, answer.price, answer.timings) == (
        True,
        "a note",
        (1.0, 2.0),
        Timings(0.5, 1.5),
    )


def test_a_hundred_thousand_tokens_are_all_there_in_order():
    accumulator = accumulated(*(Chunk(f"{number} ", reasoning="r") for number in range(100_000)))
    answer = accumulator.completion(NOW)
    assert answer.text == "".join(f"{number} " for number in range(100_000))
    assert answer.reasoning == "r" * 100_000
    assert answer.chunks == 100_000


@given(st.lists(st.tuples(st.integers(0, 3), st.text(max_size=3), st.text(max_size=3))))
def test_nothing_is_lost_or_mixed_up(pieces):
    answer = completed(*(Chunk(text, index, reasoning) for index, text, reasoning in pieces))
    for choice in answer.choices:
        assert choice.text == "".join(text for index, text, _ in pieces if index == choice.index)
        assert choice.reasoning == "".join(reasoning for index, _, reasoning in pieces if index == choice.index)
    assert [choice.index for choice in answer.choices] == sorted({0, *(index for index, _, _ in pieces)})
