"""The lines of a stream as they came: however the bytes were cut, the last ones kept, with their moments."""

from __future__ import annotations

import codecs
import re
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.servers import DIALECTS, ScriptedServer, answers, silent_after
from together_nb import stream
from together_nb.errors import ConnectionLostError
from together_nb.wiretap import KEPT, LONGEST, Line, Wiretap

ENDS = re.compile("\r\n|\n|\r")


def tapped(*pieces, kept=KEPT):
    """A wiretap that has taken `pieces`, number n of them after n seconds, and the end after 99."""
    wiretap = Wiretap(kept)
    for number, piece in enumerate(pieces, 1):
        wiretap.add(piece, number)
    wiretap.end(99)
    return wiretap


def texts(wiretap):
    return [line.text for line in wiretap.since(0)]


def cut(data, places):
    """`data` in pieces."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_each_kind_of_line_end_ends_a_line(end):
    assert texts(tapped(b"data: a" + end + end + b": note" + end)) == ["data: a", "", ": note"]


def test_line_ends_may_be_mixed():
    assert texts(tapped(b"a\r\nb\rc\nd\n\re\r\r\nf")) == ["a", "b", "c", "d", "", "e", "", "f"]


def test_a_return_ends_its_line_at_once_and_a_newline_that_follows_it_is_part_of_it():
    wiretap = Wiretap()
    wiretap.add(b"a\r", 1)
    assert wiretap.since(0) == [Line(1, 1, "a")]
    wiretap.add(b"", 2)
    wiretap.add(b"\nb\r", 3)
    wiretap.add(b"\n", 4)
    wiretap.add(b"\n", 5)
    assert wiretap.since(1) == [Line(2, 3, "b"), Line(3, 5, "")]


# The bytes of characters and line ends, any of which may be cut off.
WIRE = st.lists(
    st.sampled_from([b"\n", b"\r", b"data: ", "é你👩".encode(), b"\xff", b"\xe4\xbd", b"\xef\xbb\xbf"])
).map(b"".join)


@given(data=WIRE, places=st.lists(st.integers(0, 1000), max_size=9))
@example(data="é\r\n你".encode(), places=range(99))
def test_the_lines_are_the_same_however_the_bytes_are_cut(data, places):
    *lines, rest = ENDS.split(data.decode("utf-8-sig", "replace"))
    wiretap = tapped(*cut(data, places))
    assert texts(wiretap) == lines + ([rest] if rest else [])
    assert wiretap.count == len(texts(wiretap))
    assert [line.number for line in wiretap.since(0)] == list(range(1, wiretap.count + 1))


def test_a_character_that_is_cut_in_two_is_one():
    assert texts(tapped(*(bytes([byte]) for byte in "data: 👩\n".encode()))) == ["data: 👩"]


def test_a_character_that_is_cut_off_at_the_end_is_seen_to_be():
    assert texts(tapped("data: 你".encode()[:-1])) == ["data: \ufffd"]
    assert texts(tapped(b"\n", b"\xf0\x9f")) == ["", "\ufffd"]


def test_a_byte_order_mark_is_not_shown():
    assert texts(tapped(codecs.BOM_UTF8 + b"data: a\n")) == ["data: a"]
    assert texts(tapped(codecs.BOM_UTF8[:1], codecs.BOM_UTF8[1:], b"data: a\n")) == ["data: a"]


def test_only_the_last_lines_are_kept_and_all_are_counted():
    wiretap = tapped(b"".join(b"%d\n" % number for number in range(1, 8)), kept=3)
    assert wiretap.count == 7
    assert wiretap.since(0) == [Line(number, 1, str(number)) for number in (5, 6, 7)]


def test_what_came_since_a_line_is_given_alone():
    wiretap = tapped(b"a\nb\nc\n", kept=2)
    assert [line.text for line in wiretap.since(2)] == ["c"]
    assert wiretap.since(3) == wiretap.since(9) == []


def test_a_line_has_the_moment_of_its_end():
    assert tapped(b"da", b"ta: a\nda", b"ta: b\n").since(0) == [Line(1, 2, "data: a"), Line(2, 3, "data: b")]


def test_a_last_line_without_an_end_is_a_line_once_no_more_bytes_come():
    wiretap = Wiretap()
    wiretap.add(b"a\n[DONE]", 1)
    assert texts(wiretap) == ["a"]
    wiretap.end(2)
    wiretap.end(3)
    assert wiretap.since(0) == [Line(1, 1, "a"), Line(2, 2, "[DONE]")]
    assert texts(tapped()) == texts(tapped(b"")) == []


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


def listened(server, api="chat"):
    """A stream with a wiretap, not yet sent, and the wiretap."""
    answer = stream("Hi", model="test/chat", api=api, base_url=server.base_url)
    answer.wiretap = Wiretap()
    return answer, answer.wiretap


@pytest.mark.parametrize("api", DIALECTS.values())
def test_every_line_of_a_stream_is_there_down_to_the_terminator(api):
    with ScriptedServer(answers(["Once", " upon"])) as server:
        answer, wiretap = listened(server, api)
        list(answer)
    assert answer.completion.text == "Once upon"
    shown = [text for text in texts(wiretap) if text]
    assert len(shown) == 4
    assert shown[0].startswith('data: {"id": "test-1"')
    assert shown[-1] == "data: [DONE]"
    seconds = [line.seconds for line in wiretap.since(0)]
    assert seconds == sorted(seconds)
    assert 0 < seconds[0] <= seconds[-1]


@pytest.mark.parametrize("terminator", [b"[DONE]", b"data: [DONE]", b"data:[DONE]"])
def test_a_terminator_without_a_line_end_is_there(terminator):
    def script(exchange):
        exchange.text_events(["Once"])
        exchange.send(terminator)

    with ScriptedServer(script) as server:
        answer, wiretap = listened(server)
        list(answer)
    assert answer.completion.text == "Once"
    assert texts(wiretap)[-1] == terminator.decode()


def test_what_came_before_the_connection_was_lost_is_there():
    def script(exchange):
        exchange.text_events(["Once"])
        exchange.send(b'data: {"id": ')

    with ScriptedServer(script) as server:
        answer, wiretap = listened(server)
        with pytest.raises(ConnectionLostError):
            list(answer)
    assert texts(wiretap)[-1] == 'data: {"id": '


def test_what_came_before_a_stop_is_there():
    with ScriptedServer(silent_after(["Once"])) as server:
        answer, wiretap = listened(server)
        next(answer)
        answer.cancel()
        assert list(answer) == []
    assert [text[:5] for text in texts(wiretap)] == ["data:", ""]
