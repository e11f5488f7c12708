"""Bytes → payloads: whatever the bytes, and however they were cut into pieces."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from together_nb.errors import StreamError
from together_nb.sse import Payloads, in_groups, whole_events

A, B, C = {"a": 1}, {"b": {"c": []}}, {"text": "ü {} [DONE] data: \u2028 \U0001f600"}
TERMINATORS = {
    "event": b"data: [DONE]\n\n",
    "event without a space": b"data:[DONE]\n\n",
    "event with more space": b"data:  [DONE] \n\n",
    "bare line": b"[DONE]\n",
    "bare line, blank line": b"[DONE]\n\n",
    "event, one line end": b"data: [DONE]\n",
    "event without a last line end": b"data: [DONE]",
    "no space, no last line end": b"data:[DONE]",
    "bare, no last line end": b"[DONE]",
}


def event(payload, end=b"\n\n"):
    return b"data: " + json.dumps(payload, ensure_ascii=False).encode() + end


def outcome(pieces):
    """The payloads, whether the terminator came, and the error's message."""
    payloads, got = Payloads(pieces), []
    try:
        got.extend(payloads)
    except StreamError as error:
        return got, payloads.terminated, error.message
    return got, payloads.terminated, ""


def cut(whole, places):
    """`whole` in pieces; a place that occurs twice makes an empty piece."""
    edges = [0, *sorted(place % (len(whole) + 1) for place in places), len(whole)]
    return [whole[start:end] for start, end in itertools.pairwise(edges)]


# The terminator


@pytest.mark.parametrize("terminator", TERMINATORS.values(), ids=TERMINATORS)
@pytest.mark.parametrize("before", [b"\n\n", b"\n"], ids=["after a blank line", "glued to the last event"])
def test_each_form_of_the_terminator_ends_the_stream(before, terminator):
    assert outcome([event(A) + event(B, before) + terminator]) == ([A, B], True, "")


@pytest.mark.parametrize("terminator", TERMINATORS.values(), ids=TERMINATORS)
def test_after_the_terminator_nothing_more_is_asked_of_an_open_connection(terminator):
    def connection():
        yield event(A)
        yield terminator
        pytest.fail("the connection is still open, and reading on would wait")

    assert outcome(connection()) == ([A], True, "")


@pytest.mark.parametrize("terminator", TERMINATORS.values(), ids=TERMINATORS)
def test_the_terminator_is_recognized_byte_by_byte_with_its_last_letter(terminator):
    letters = [bytes([byte]) for byte in terminator[: terminator.index(b"]") + 1]]

    def connection():
        yield event(A, b"\n")
        yield from letters
        pytest.fail("the terminator had come")

    assert outcome(connection()) == ([A], True, "")


def test_what_follows_the_terminator_is_not_read():
    assert outcome([event(A) + b"data: [DONE]\n\n" + event(B)]) == ([A], True, "")


@pytest.mark.parametrize("whole", [b"", event(A), event(A) + event(B)])
def test_a_stream_without_the_terminator_is_not_terminated(whole):
    assert outcome([whole])[1:] == (False, "")


@pytest.mark.parametrize(
    "line",
    [b": [DONE]\n\n", b"event: [DONE]\n\n", event({"text": "[DONE]"}), event({"text": "\n[DONE]\ndata: [DONE]"}), b"data: [DON"],
    ids=["comment", "event name", "within a text", "within lines of a text", "cut short"],
)  # fmt: skip
def test_what_only_looks_like_the_terminator_is_none(line):
    got, terminated, error = outcome([event(A) + line])
    assert (got[0], terminated, error) == (A, False, "")


# Events


def test_a_payload_comes_out_as_soon_as_its_event_is_whole():
    came = []

    def connection():
        yield event(A)
        came.append("A was given out before more was asked for")
        yield event(B)

    payloads = iter(Payloads(connection()))
    assert next(payloads) == A
    assert came == []


@pytest.mark.parametrize("length", range(len(event(A)) - 1))
def test_a_tail_cut_in_mid_event_is_never_an_event(length):
    assert outcome([event(B) + event(A)[:length]]) == ([B], False, "")


def test_a_tail_that_is_whole_json_and_lacks_its_blank_line_is_no_event():
    # {"n": 1} may be {"n": 1 … of a longer event over several lines.
    assert outcome([event(A) + b'data: {"n": 1}\n']) == ([A], False, "")


def test_the_tutorials_events_line_under_line_and_a_bare_done_are_events():
    printed = (
        'data: {"choices":[{"text":" a"}],"result_type":"language-model-inference","id":"e235a724408a86a5f408f437ca26239ddadf509e9dfdf359a645db08ee9a8682"}\n'
        'data: {"choices":[{"text":" story"}],"result_type":"language-model-inference","id":"e235a724408a86a5f408f437ca26239ddadf509e9dfdf359a645db08ee9a8682"}\n'
        "[DONE]"
    )
    got, terminated, error = outcome([printed.encode()])
    assert [payload["choices"][0]["text"] for payload in got] == [" a", " story"]
    assert (terminated, error) == (True, "")


def test_events_line_under_line_come_out_one_by_one_not_all_at_the_end():
    def connection():
        yield event(A, b"\n")
        yield event(B, b"\n")[:7]
        pytest.fail("the first event was whole when the second began")

    assert next(iter(Payloads(connection()))) == A


def test_events_line_under_line_that_came_before_the_connection_was_lost_are_kept():
    assert outcome([event(A, b"\n") + event(B, b"\n") + event(C, b"\n")[:9]]) == ([A, B], False, "")


@pytest.mark.parametrize("between", [b": ping\n", b"event: message\nid: 7\n", b": {}\n: {\n"])
def test_lines_that_are_no_data_do_not_glue_events_together(between):
    assert outcome([event(A, b"\n") + between + event(B)]) == ([A, B], False, "")


def test_a_comment_within_an_event_does_not_tear_it_apart():
    assert outcome([b'data: {"a":\n: {}\ndata: {}}\n\n']) == ([{"a": {}}], False, "")


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_all_three_line_ends_end_lines(end):
    assert outcome([event(A, end + end) + event(B, end) + b"[DONE]" + end]) == ([A, B], True, "")


@pytest.mark.parametrize("blank", [b"\n\r\n", b"\r\n\n", b"\r\r\n", b"\n\r"])
def test_mixed_line_ends_separate_events(blank):
    assert outcome([event(A, blank) + event(B, blank)]) == ([A, B], False, "")


def test_a_carriage_return_that_ends_a_piece_and_its_newline_are_one_line_end():
    pretty = [b'data: {"a":\r', b"", b"\n", b"data: 1}\r", b"\n\r", b"\n"]
    assert outcome(pretty) == ([A], False, "")


def test_a_final_carriage_return_is_acted_on_though_a_newline_might_follow():
    def connection():
        yield event(A, b"\r\r")
        pytest.fail("the event was whole")

    assert next(iter(Payloads(connection()))) == A


def test_a_byte_order_mark_does_not_swallow_the_first_event():
    assert outcome([b"\xef\xbb\xbf" + event(A)]) == ([A], False, "")
    assert outcome([b"\xef", b"\xbb", b"", b"\xbf", event(A)]) == ([A], False, "")


def test_comments_and_empty_data_that_keep_a_connection_alive_are_passed_over():
    assert outcome([b": ping\n\n:\n\ndata:\n\ndata\n\ndata: \n\ndata:  \t\n\n" + event(A) + b": ping\n\n"]) == (
        [A],
        False,
        "",
    )


def test_data_over_several_lines_is_one_payload():
    payload = {"a": [{}, {"b": {}}], "c": {"d": {}}}
    lines = json.dumps(payload, indent=2).split("\n")
    whole = "".join(f"data: {line}\n" for line in lines) + "\n"
    assert outcome([whole.encode()]) == ([payload], False, "")


def test_invalid_utf8_is_replaced_and_never_a_crash():
    assert outcome([b'data: {"a": "\xff\xc3"}\n\n' + event(C)]) == ([{"a": "\ufffd\ufffd"}, C], False, "")


def test_utf8_split_between_pieces_is_whole():
    letters = [bytes([byte]) for byte in event({"text": "naïve 😀 漢"})]
    assert outcome(letters) == ([{"text": "naïve 😀 漢"}], False, "")


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
def test_what_python_calls_a_line_end_and_the_wire_does_not_stays_in_the_text(separator):
    raw = separator if ord(separator) > 0x1F else json.dumps(separator)[1:-1]
    assert outcome([f'data: {{"text": "a{raw}b"}}\n\n'.encode()]) == ([{"text": f"a{separator}b"}], False, "")


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"oops", "'oops'"),
        (b"[1, 2]", "'[1, 2]'"),
        (b'"text"', "'\"text\"'"),
        (b"null", "'null'"),
        (b'{"a": 1', "'{\"a\": 1'"),
        (b"[" * 100_000, "'" + "[" * 60 + "'"),
        (b'{"n": ' + b"1" * 5000 + b"}", '\'{"n": ' + "1" * 54 + "'"),
    ],
    ids=["words", "array", "string", "null", "cut JSON", "too deep", "too long a number"],
)
def test_an_event_that_is_no_json_object_is_an_error_after_what_came(data, shown):
    message = f"The server sent an event that is not a JSON object: {shown}."
    assert outcome([event(A) + b"data: " + data + b"\n\n" + event(B)]) == ([A], False, message)


@pytest.mark.parametrize("page", [b"<!doctype html>\n\n<p>Not an API</p>\n", b'{"error": "no"}', b"error code: 521"])
def test_a_reply_that_is_no_stream_has_no_payloads(page):
    assert outcome([page]) == ([], False, "")


def test_blocks_hold_whole_events_only():
    blocks = list(whole_events([event(A) + event(B)[:5], event(B)[5:] + b"data: {"]))
    assert blocks == [b'data: {"a": 1}\n\n', b'data: {"b": {"c": []}}\n\n']


@pytest.mark.parametrize("line", [b"x" * 1000, b"data: {\n", b": comment\n", b"data: "])
def test_an_event_without_an_end_is_given_up_after_what_came(line, monkeypatch):
    monkeypatch.setattr("together_nb.sse.LONGEST", 2**20)
    taken = []

    def connection():
        yield event(A)
        for _ in range(2**21 // len(line)):
            taken.append(len(line))
            yield line

    assert outcome(connection()) == ([A], False, "The server sent an event of more than 1 MiB or 100,000 lines.")
    assert sum(taken) < 2**20 + 2000


def test_an_event_of_many_lines_is_one_payload():
    payload = {"numbers": list(range(1000))}
    lines = json.dumps(payload, indent=1).split("\n")
    whole = "".join(f": comment\nid: 1\ndata: {line}\n" for line in lines) + "\n"
    assert outcome([whole.encode()]) == ([payload], False, "")


@pytest.mark.parametrize("before", [b"x" * 100, b" " * 100, b"data: x"])
def test_only_the_beginning_of_a_line_makes_a_terminator(before):
    assert outcome([event(A) + b": \n" + before + b"[DONE]"]) == ([A], False, "")


# Any bytes, cut anywhere

ends = st.sampled_from([b"\n", b"\r\n", b"\r"])
crs_and_crlfs = st.sampled_from([b"\r\n", b"\r"])
objects = st.dictionaries(
    st.sampled_from(["text", "n", "deep"]),
    st.text() | st.sampled_from(["[DONE]", "data: {", "}\n{", "\u2028", "😀"]) | st.lists(st.dictionaries(st.text(max_size=3), st.none())),
    max_size=3,
)  # fmt: skip


@st.composite
def well_formed(draw):
    """Objects, and bytes that say them: line ends, spaces, comments and forms of events all mixed."""
    sent, lines = [], []
    for form in draw(
        st.lists(st.sampled_from(["event", "no space", "under", "pretty", "comment", "fields", "empty"]), max_size=8)
    ):
        if form == "comment":
            lines.append(b": ping")
        elif form == "fields":
            lines += [b"event: message", b"id: 1"]
        elif form == "empty":
            lines += [b"", b"data:", b""]
        else:
            sent.append(draw(objects))
            indent = 1 if form == "pretty" else None
            text = json.dumps(sent[-1], ensure_ascii=draw(st.booleans()), indent=indent)
            space = b"" if form == "no space" else b" "
            lines += [b"data:" + space + line.encode() for line in text.split("\n")]
            lines += [] if form == "under" else [b""]
    whole = b""
    for line in [*lines, b""]:
        # After CR, a blank line's LF would belong to that CR: there would be no blank line.
        whole += line + draw(crs_and_crlfs if not line and whole.endswith(b"\r") else ends)
    return sent, draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + whole


fragments = st.sampled_from(
    [
        event(A), event(B, b"\n"), event(C, b"\r\n\r\n"), event(A, b"\r"), event(B, b"\r\r"), b"data: {\n", b'data:"a": {}\n', b"data: }\n",
        b"\n", b"\r", b"\r\n", b"", b"\n\r\n", b": ping\n", b": {}\n", b"event: x\n", b"data\n", b"data: oops\n\n", b"oops\n", b"<html>\n\n",
        b'data: {"a": "\xff"}\n\n', b'data: {"a": "\xf0\x9f"}\n\n', b"\xef\xbb\xbf", b"\x80\n", b"[1, 2]\n", "\u2028".encode(), b"  ", b"{}",
        *TERMINATORS.values(),
    ]
)  # fmt: skip
anything = st.lists(fragments, max_size=12).map(b"".join) | well_formed().map(lambda made: made[1])
places = st.lists(st.integers(0, 10_000), max_size=12)


@given(well_formed(), places, st.none() | st.sampled_from(list(TERMINATORS.values())))
@settings(max_examples=400)
def test_what_was_sent_is_what_is_read(made, places, terminator):
    sent, whole = made
    assert outcome(cut(whole + (terminator or b""), places)) == (sent, terminator is not None, "")


@given(anything, places)
@settings(max_examples=400)
def test_any_cutting_of_the_bytes_gives_the_same(whole, places):
    assert outcome(cut(whole, places)) == outcome([whole])


@given(anything)
@settings(max_examples=200)
def test_byte_by_byte_gives_the_same(whole):
    assert outcome([bytes([byte]) for byte in whole]) == outcome([whole])


@given(anything, st.integers(0, 10_000))
@settings(max_examples=250)
def test_a_tail_cut_anywhere_leaves_a_prefix_and_no_new_error(whole, place):
    payloads, terminated, error = outcome([whole])
    begun, ended, broken = outcome([whole[: place % (len(whole) + 1)]])
    assert begun == payloads[: len(begun)]
    assert not ended or (terminated and begun == payloads)
    assert not broken or (broken == error and begun == payloads)


@given(st.lists(st.binary(max_size=20), max_size=5))
@settings(max_examples=300)
def test_no_bytes_make_another_error_than_ours(pieces):
    assert outcome(pieces) == outcome([b"".join(pieces)])


# The package of the same import name


def imported_with(folder, source):
    (folder / "sseclient.py").write_text(source)
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    script = "import together_nb.errors\ntry: import together_nb.sse\nexcept together_nb.errors.TogetherError as error: print(error)"
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_the_other_package_called_sseclient_is_told_apart(tmp_path):
    assert imported_with(tmp_path, "class SSEClient:\n    def __next__(self): ...") == [
        "The package `sseclient` stands where `sseclient-py` should: they share an import name.",
        "Run: pip uninstall -y sseclient && pip install --force-reinstall sseclient-py",
    ]


def test_a_missing_sseclient_is_told(tmp_path):
    assert imported_with(tmp_path, "raise ImportError") == [
        "sseclient-py is not installed.",
        "Run: pip install sseclient-py",
    ]


# In groups, for an answer that nobody watches

MID = b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":null}]}\n\n'
LAST = b'data: {"choices":[{"delta":{"content":"z"},"finish_reason":"stop"}]}\n\n'


def always():
    return True


@pytest.fixture
def clock(monkeypatch):
    """The time, which passes when it is told to."""
    now = [100.0]
    monkeypatch.setattr("together_nb.sse.monotonic", lambda: now[0])
    return now


def test_pieces_of_a_short_while_are_read_in_one(clock):
    def pieces():
        for number in range(12):
            clock[0] = 100 + number / 64
            yield MID

    groups = list(in_groups(pieces(), always))
    assert b"".join(groups) == 12 * MID
    assert [len(group) // len(MID) for group in groups] == [1, 4, 4, 3]


@pytest.mark.parametrize(
    "last", [LAST, MID + LAST, MID + b"data: [DONE]\n\n", b'data: {"usage":{}}\n\n', b": ping\n\n", MID[:30]]
)
def test_what_may_be_the_last_piece_is_not_kept_waiting(clock, last):
    """Before another one is asked for, for which one might wait for ever."""
    came = []

    def pieces():
        yield MID
        yield MID
        yield last
        came.append("asked for more")

    groups = in_groups(pieces(), always)
    assert [next(groups), next(groups), *came] == [MID, MID + last]


def test_nothing_is_kept_waiting_before_the_answer_has_begun(clock):
    assert list(in_groups(iter([MID] * 3), lambda: False)) == [MID] * 3


def test_what_had_come_before_the_connection_broke_is_not_lost(clock):
    def pieces():
        yield MID
        yield MID
        raise ConnectionError("gone")

    groups = in_groups(pieces(), always)
    assert [next(groups), next(groups)] == [MID, MID]
    with pytest.raises(ConnectionError, match="gone"):
        next(groups)


@given(st.lists(st.sampled_from([MID, LAST, MID[:20], b"", b"data: [DONE]\n\n"]), max_size=20))
def test_nothing_is_changed_by_groups(pieces):
    assert b"".join(in_groups(iter(pieces), always)) == b"".join(pieces)
