"""The lines of a stream as they came: however the bytes were cut, the last ones kept, with their moments."""

import re
from contextlib import nullcontext
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import together_nb
from tests.servers import ScriptedServer
from together_nb.errors import ConnectionLostError
from together_nb.wire.wiretap import KEPT, LONGEST, WireLine, Wiretap


def tapped(*pieces, kept=KEPT):
    """A wiretap that has taken `pieces`, number n of them after n seconds, and the end after 99."""
    wiretap = Wiretap(kept)
    for number, piece in enumerate(pieces, 1):
        wiretap.add(piece, number)
    wiretap.end(99)
    return wiretap


def texts(wiretap):
    return [line.text for line in wiretap.since(0)]


# The bytes of characters and line ends, any of which may be cut off.
WIRE = st.lists(
    st.sampled_from([b"\n", b"\r", b"data: ", "é你👩".encode(), b"\xff", b"\xe4\xbd", b"\xef\xbb\xbf"])
).map(b"".join)


@given(data=WIRE, places=st.lists(st.integers(0, 1000), max_size=9))
@example(data=b"\xef\xbb\xbfa\r\nb\rc\nd\n\re\r\r\nf", places=[1])
@example(data="é\r\n你".encode(), places=range(99))
@example(data="data: 你".encode()[:-1], places=[])
def test_the_lines_are_the_same_however_the_bytes_are_cut(data, places):
    *lines, rest = re.split("\r\n|\n|\r", data.decode("utf-8-sig", "replace"))
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    wiretap = tapped(*(data[start:end] for start, end in pairwise(edges)))
    assert texts(wiretap) == lines + ([rest] if rest else [])
    assert wiretap.count == len(texts(wiretap))
    assert [line.number for line in wiretap.since(0)] == list(range(1, wiretap.count + 1))


def test_a_line_has_the_moment_of_its_end_and_a_return_ends_it_at_once():
    wiretap = Wiretap()
    wiretap.add(b"a\r", 1)
    assert wiretap.since(0) == [WireLine(1, 1, "a")]
    for seconds, piece in enumerate((b"", b"\nb", b"b\r", b"\n", b"\n"), 2):
        wiretap.add(piece, seconds)
    assert wiretap.since(1) == [WireLine(2, 4, "bb"), WireLine(3, 6, "")]


def test_only_the_last_lines_are_kept_and_all_are_counted():
    wiretap = tapped(b"".join(b"%d\n" % number for number in range(1, 8)), kept=3)
    assert wiretap.since(0) == [WireLine(number, 1, str(number)) for number in (5, 6, 7)]
    assert (wiretap.count, wiretap.since(6)) == (7, [WireLine(7, 1, "7")])
    assert wiretap.since(7) == wiretap.since(9) == []


def test_a_last_line_without_an_end_is_a_line_once_no_more_bytes_come():
    wiretap = Wiretap()
    wiretap.add(b"a\n[DONE]", 1)
    assert texts(wiretap) == ["a"]
    wiretap.end(2)
    wiretap.end(3)
    assert wiretap.since(0) == [WireLine(1, 1, "a"), WireLine(2, 2, "[DONE]")]


@pytest.mark.parametrize("size", [1, 7, LONGEST, 3 * LONGEST])
def test_a_line_that_is_too_long_is_cut_and_says_how_much_it_lacks(size):
    data = b"x" * LONGEST + b"y" * 1234 + b"\n" + b"z" * LONGEST + b"\nend\n"
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    assert texts(tapped(*pieces)) == ["x" * LONGEST + "… (1,234 more characters)", "z" * LONGEST, "end"]


def test_a_line_that_is_too_long_is_not_held_in_memory():
    wiretap = Wiretap()
    for _ in range(1000):
        wiretap.add(b"x" * LONGEST, 0)
    assert len(wiretap._begun) == LONGEST


@pytest.mark.parametrize("last", ["[DONE]", "data: [DONE]", "data:[DONE]", 'data: {"id": '])
def test_every_line_of_a_stream_is_there_down_to_the_last(last):
    def script(exchange):
        exchange.text_events(["Once", " upon"])
        exchange.send(last.encode())

    with ScriptedServer(script) as server:
        answer = together_nb.stream("Hi", model="test/chat", api="chat", base_url=server.base_url)
        answer.wiretap = Wiretap()
        with nullcontext() if "DONE" in last else pytest.raises(ConnectionLostError):
            list(answer)
    assert answer.completion.text == "Once upon"
    lines = answer.wiretap.since(0)
    assert (len(lines), lines[0].text[:17], lines[-1].text) == (5, 'data: {"id": "tes', last)
    assert 0 < lines[0].seconds <= lines[2].seconds <= lines[4].seconds
