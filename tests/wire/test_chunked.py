"""chunked: all that is in the chunks comes out, however they were cut, and what is no chunk is an error."""

from http.client import IncompleteRead

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from together_nb.wire.chunked import Dechunker

END = b"0\r\n\r\n"


def framed(parts, extension=b""):
    return b"".join(b"%x%b\r\n%b\r\n" % (len(part), extension, part) for part in parts)


def outcome(pieces):
    dechunker = Dechunker()
    return b"".join(dechunker.add(piece) for piece in pieces), dechunker.ended


def cut(data, places):
    places = sorted({place % (len(data) + 1) for place in places} - {0, len(data)})
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


PARTS = st.lists(st.binary(min_size=1, max_size=40) | st.sampled_from([b"\r\n", b"0\r\n\r\n", b"5\r\n"]), max_size=8)
TRAILERS = st.sampled_from([b"", b"X-Sum: 1\r\n", b"A: b\r\nC: d\r\n"])
EXTENSIONS = st.sampled_from([b"", b";name=value", b" "])


@given(PARTS, TRAILERS, EXTENSIONS, st.lists(st.integers(0, 10_000), max_size=30))
@settings(max_examples=60)
def test_what_is_in_the_chunks_comes_out_wherever_they_are_cut(parts, trailers, extension, places):
    data = framed(parts, extension) + b"0\r\n" + trailers + b"\r\n"
    assert outcome(cut(data, places)) == (b"".join(parts), True)


@given(PARTS.filter(bool), st.integers(1, 10_000))
@settings(max_examples=60)
def test_an_end_that_comes_too_early_is_an_error_after_what_had_come(parts, short):
    data = framed(parts) + END
    # Of the last chunk's lines the first one will do: http.client takes that for the end too.
    kept = data[: max(len(data) - 4 - short, 0)]
    dechunker = Dechunker()
    assert b"".join(parts).startswith(dechunker.add(kept) if kept else b"")
    with pytest.raises(IncompleteRead):
        dechunker.add(b"")


def test_each_byte_is_given_out_as_soon_as_it_has_come():
    dechunker = Dechunker()
    pieces = [dechunker.add(bytes([byte])) for byte in b"3\r\nabc\r\n"]
    assert pieces == [b"", b"", b"", b"a", b"b", b"c", b"", b""]


def test_after_the_last_chunk_the_connection_may_end_and_nothing_more_is_taken():
    dechunker = Dechunker()
    assert (dechunker.add(framed([b"all"]) + b"0\r\n"), dechunker.ended) == (b"all", False)
    assert (dechunker.add(b""), dechunker.ended) == (b"", True)
    assert outcome([framed([b"all"]) + END + framed([b"more"])]) == (b"all", True)


@pytest.mark.parametrize("data", [b"data: {}\n\n", b"-5\r\nabc", b"\r\n", b"f" * 70_000])
def test_what_is_not_in_chunks_is_an_error_after_what_came_before_it(data):
    with pytest.raises(IncompleteRead):
        Dechunker().add(data)
    for before in (framed([b"a", b"bc"]) + data, b"3\r\nabcd\r\n"):
        dechunker = Dechunker()
        assert dechunker.add(before) == b"abc"
        assert dechunker.broken
        with pytest.raises(IncompleteRead):
            dechunker.add(b"")


@pytest.mark.parametrize("line", [b"A: b\r\n", b"A: " + b"b" * 1000 + b"\r\n"])
def test_lines_after_the_last_chunk_that_have_no_end_are_given_up(line):
    with pytest.raises(IncompleteRead):
        outcome([b"0\r\n", *[line] * 100_000])


def test_a_line_before_a_chunk_may_come_byte_by_byte():
    line = b"3;name=" + b"v" * 60_000 + b"\r\n"
    assert outcome([*(bytes([byte]) for byte in line), b"abc\r\n" + END]) == (b"abc", True)
