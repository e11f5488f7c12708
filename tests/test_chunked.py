"""chunked: all that is in the chunks comes out, however they were cut, and what is no chunk is told."""

from __future__ import annotations

import io
from http.client import HTTPResponse, IncompleteRead

import pytest
from hypothesis import given
from hypothesis import strategies as st

from together_nb.chunked import Dechunker

END = b"0\r\n\r\n"


def framed(parts, extension=b""):
    return b"".join(b"%x%b\r\n%b\r\n" % (len(part), extension, part) for part in parts)


def taken(pieces):
    dechunker = Dechunker()
    return b"".join(dechunker.add(piece) for piece in pieces), dechunker.ended


def cut(data, places):
    places = sorted({place % (len(data) + 1) for place in places} - {0, len(data)})
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


PARTS = st.lists(st.binary(min_size=1, max_size=40) | st.sampled_from([b"\r\n", b"0\r\n\r\n", b"5\r\n"]), max_size=8)
TRAILERS = st.sampled_from([b"", b"X-Sum: 1\r\n", b"A: b\r\nC: d\r\n"])


@given(PARTS, TRAILERS, st.sampled_from([b"", b";name=value", b" "]), st.lists(st.integers(0, 10_000), max_size=30))
def test_wherever_the_bytes_are_cut_all_that_is_in_the_chunks_comes_out(parts, trailers, extension, places):
    data = framed(parts, extension) + b"0\r\n" + trailers + b"\r\n"
    assert taken(cut(data, places)) == (b"".join(parts), True)


@given(PARTS, TRAILERS)
def test_http_client_reads_the_same(parts, trailers):
    data = framed(parts) + b"0\r\n" + trailers + b"\r\n"

    class Sent:
        def makefile(self, _):
            return io.BytesIO(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + data)

    response = HTTPResponse(Sent())
    response.begin()
    assert taken([data])[0] == response.read()


@given(PARTS.filter(bool), st.integers(1, 10_000))
def test_an_end_that_comes_too_early_is_told_after_what_had_come(parts, short):
    data = framed(parts) + END
    # Of the last chunk's lines the first one will do: http.client takes that for the end too.
    kept = data[: max(len(data) - 4 - short, 0)]
    dechunker = Dechunker()
    came = dechunker.add(kept) if kept else b""
    assert b"".join(parts).startswith(came)
    with pytest.raises(IncompleteRead):
        dechunker.add(b"")


def test_each_byte_is_given_out_as_soon_as_it_has_come():
    dechunker = Dechunker()
    given_out = [dechunker.add(bytes([byte])) for byte in b"3\r\nabc\r\n"]
    assert given_out == [b"", b"", b"", b"a", b"b", b"c", b"", b""]


def test_the_end_of_the_connection_after_the_last_chunk_is_no_loss():
    dechunker = Dechunker()
    assert dechunker.add(framed([b"all"]) + b"0\r\n") == b"all"
    assert not dechunker.ended
    assert dechunker.add(b"") == b""
    assert dechunker.ended


def test_what_follows_the_last_chunk_is_not_taken_for_a_chunk():
    dechunker = Dechunker()
    assert dechunker.add(framed([b"all"]) + END + framed([b"more"])) == b"all"
    assert dechunker.ended


@pytest.mark.parametrize("data", [b"data: {}\n\n", b"-5\r\nabc", b"\r\n", b"f" * 70_000])
def test_what_is_not_in_chunks_is_told(data):
    with pytest.raises(IncompleteRead):
        Dechunker().add(data)


@pytest.mark.parametrize(
    "data", [b"3\r\nabcd\r\n", framed([b"a", b"bc"]) + b"no size\r\n", b"3\r\nabc\r\n" + b"f" * 70_000]
)
def test_what_came_before_what_is_not_in_chunks_is_given_out_first(data):
    dechunker = Dechunker()
    assert dechunker.add(data) == b"abc"
    assert dechunker.broken
    with pytest.raises(IncompleteRead):
        dechunker.add(b"")


@pytest.mark.parametrize("line", [b"A: b\r\n", b"A: " + b"b" * 1000 + b"\r\n"])
def test_lines_after_the_last_chunk_that_have_no_end_are_given_up(line):
    with pytest.raises(IncompleteRead):
        taken([b"0\r\n", *[line] * 100_000])


def test_a_line_before_a_chunk_may_come_byte_by_byte():
    line = b"3;name=" + b"v" * 60_000 + b"\r\n"
    assert taken([*(bytes([byte]) for byte in line), b"abc\r\n" + END]) == (b"abc", True)
