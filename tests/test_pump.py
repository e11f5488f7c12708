"""`together_nb.pump`: a stream read in a thread."""

from __future__ import annotations

import pytest

from together_nb.completion import Chunk, Token
from together_nb.pump import Pump, merged


def drained(pump):
    chunks = []
    while not pump.ended:
        pump.wait(20)
        chunks += pump.take()
    pump.join()
    return chunks + pump.take()


def test_everything_comes_through_in_order_but_chunks_without_text():
    pump = Pump([Chunk("a"), Chunk(""), Chunk("", reasoning="r"), Chunk("b")])
    pump.start()
    assert [chunk.text + chunk.reasoning for chunk in drained(pump)] == ["a", "r", "b"]
    assert pump.error is None


def test_an_error_is_kept_for_whoever_waits():
    def broken():
        yield Chunk("a")
        raise LookupError("broken")

    pump = Pump(broken())
    pump.start()
    assert [chunk.text for chunk in drained(pump)] == ["a"]
    assert isinstance(pump.error, LookupError)


@pytest.mark.parametrize("started", [True, False])
def test_waiting_for_the_end_is_harmless_whether_it_was_started_or_not(started):
    pump = Pump([])
    if started:
        pump.start()
    pump.join(20)
    assert pump.ended is started


def test_what_nobody_takes_is_kept_in_few_chunks_and_nothing_of_it_is_dropped():
    def chunks():
        for number in range(60_000):
            yield Chunk(f"{number} ", index=number % 3)
            if number < 3000:
                yield Chunk(reasoning="thinking ")

    pump = Pump(chunks())
    pump.start()
    pump.join(60)
    assert len(pump._inbox) < 6000
    text = {0: "", 1: "", 2: ""}
    thinking = ""
    for chunk in pump.take():
        text[chunk.index] += chunk.text
        thinking += chunk.reasoning
    assert text == {index: "".join(f"{number} " for number in range(index, 60_000, 3)) for index in text}
    assert thinking == "thinking " * 3000


def test_merged_chunks_keep_their_order_and_their_tokens():
    one, two = Token("a", -1.0), Token("b", -2.0)
    given = [
        Chunk("", reasoning="first "),
        Chunk("a", tokens=(one,)),
        Chunk("other", index=1),
        Chunk("b", tokens=(two,)),
        Chunk("no tokens"),
        Chunk("", reasoning="second "),
        Chunk("end", finish_reason="stop"),
    ]
    mine, other = merged(given)
    assert (mine.reasoning, mine.text) == ("first second ", "abno tokensend")
    assert mine.tokens == (one, two)
    assert mine.finish_reason == "stop"
    assert (other.index, other.text) == (1, "other")
