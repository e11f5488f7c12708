"""`together_nb.pump`: a stream read in a thread."""

from __future__ import annotations

import pytest

from together_nb.completion import Chunk
from together_nb.pump import Pump


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
