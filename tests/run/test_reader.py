"""`together_nb.run.reader`: a stream read in a thread, or pulled where there are none."""

import threading

import pytest

from together_nb.run.reader import Bell, Reader, merge
from together_nb.values.chunk import Chunk, Token


def test_everything_comes_through_in_order_but_chunks_without_text_and_an_error_is_kept_for_whoever_waits():
    def chunks():
        yield from (Chunk("a"), Chunk(""), Chunk("", reasoning="r"), Chunk("b"))
        raise LookupError

    bell = Bell()
    reader = Reader(chunks(), bell)
    reader.start()
    taken = []
    while not reader.ended:
        bell.arrived.wait(20)
        taken += reader.take()
    reader.join(20)
    assert [chunk.text + chunk.reasoning for chunk in taken + reader.take()] == ["a", "r", "b"]
    assert isinstance(reader.error, LookupError)


@pytest.mark.parametrize("started", [True, False])
def test_waiting_for_the_end_is_harmless_whether_it_was_started_or_not(started):
    reader = Reader([], Bell())
    if started:
        reader.start()
    reader.join(20)
    assert (reader.ended, reader.error) == (started, None)


def test_without_threads_it_is_pulled_piece_by_piece(monkeypatch):
    def refuse(_):
        raise RuntimeError("can't start new thread")

    def chunks():
        yield from (Chunk("a"), Chunk(""), Chunk("b"))
        raise LookupError

    monkeypatch.setattr(threading.Thread, "start", refuse)
    reader = Reader(chunks(), Bell())
    reader.start()
    assert reader.pulled
    texts = []
    while not reader.ended:
        reader.pull(0)
        texts.append("".join(chunk.text for chunk in reader.take()))
    assert texts == ["a", "b", ""]
    assert isinstance(reader.error, LookupError)


def test_what_nobody_takes_is_kept_in_few_chunks_and_nothing_of_it_is_dropped():
    def chunks():
        for number in range(20_000):
            yield Chunk(f"{number} ", index=number % 3)
            if number < 3000:
                yield Chunk(reasoning="thinking ")

    reader = Reader(chunks(), Bell())
    reader.start()
    reader.join(60)
    assert len(reader._inbox) < 6000
    text, thinking = {0: "", 1: "", 2: ""}, ""
    for chunk in reader.take():
        text[chunk.index] += chunk.text
        thinking += chunk.reasoning
    assert text == {index: "".join(f"{number} " for number in range(index, 20_000, 3)) for index in text}
    assert thinking == "thinking " * 3000


def test_merged_chunks_keep_their_order_and_their_tokens():
    tokens = Token("a", -1.0), Token("b", -2.0)
    mine, other = merge(
        [
            Chunk("", reasoning="first "), Chunk("a", tokens=tokens[:1]), Chunk("other", index=1),
            Chunk("b", tokens=tokens[1:]), Chunk("no tokens"), Chunk("", reasoning="second "),
            Chunk("end", finish_reason="stop"),
        ]
    )  # fmt: skip
    assert (mine.reasoning, mine.text) == ("first second ", "abno tokensend")
    assert (mine.tokens, mine.finish_reason) == (tokens, "stop")
    assert (other.index, other.text) == (1, "other")
