"""Bytes → payloads. tests/whole/test_fuzz.py does it with any bytes, cut into any pieces."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from together_nb.errors import StreamError
from together_nb.wire.sse import Payloads, in_groups

A, B, C = {"a": 1}, {"b": {"c": []}}, {"text": "ü {} [DONE] data: \u2028 \U0001f600"}
BOM = b"\xef\xbb\xbf"
TERMINATORS = [
    b"data: [DONE]\n\n", b"data:[DONE]\n\n", b"data:  [DONE] \n\n", b"[DONE]\n", b"[DONE]\n\n",
    b"data: [DONE]\n", b"data: [DONE]", b"data:[DONE]", b"[DONE]",
]  # fmt: skip


def event(payload, end=b"\n\n"):
    return b"data: " + json.dumps(payload, ensure_ascii=False).encode() + end


def outcome(pieces):
    """The payloads, whether the terminator came, and the error's message."""
    payloads, found = Payloads(pieces), []
    try:
        found.extend(payloads)
    except StreamError as error:
        return found, payloads.terminated, error.message
    return found, payloads.terminated, ""


def letters(data):
    """Byte by byte, an empty piece before each."""
    return [piece for byte in data for piece in (b"", bytes([byte]))]


def pretty(payload, before=""):
    """A payload over several lines."""
    lines = json.dumps(payload, indent=1).split("\n")
    return "".join(f"{before}data: {line}\n" for line in lines).encode() + b"\n"


@pytest.mark.parametrize("terminator", TERMINATORS)
@pytest.mark.parametrize("before", [b"\n\n", b"\n"], ids=["after a blank line", "glued to the last event"])
def test_each_form_of_the_terminator_ends_the_stream_with_its_last_letter(before, terminator):
    def connection(pieces):
        yield event(A, before)
        yield from pieces
        pytest.fail("the connection is still open, and reading on would wait")

    for pieces in ([terminator], letters(terminator[: terminator.index(b"]") + 1])):
        assert outcome(connection(pieces)) == ([A], True, "")


# What came → its payloads.
UNTERMINATED = {
    "nothing": (b"", []),
    "a comment like the terminator": (event(A) + b": [DONE]\n\n", [A]),
    "an event name like the terminator": (event(A) + b"event: [DONE]\n\n", [A]),
    "a terminator cut short": (event(A) + b"data: [DON", [A]),
    "a terminator in lines of a text": (event({"a": "\n[DONE]\ndata: [DONE]"}), [{"a": "\n[DONE]\ndata: [DONE]"}]),
    "a terminator after letters": (event(A) + b": \n" + b"x" * 100 + b"[DONE]", [A]),
    "a terminator after 100 spaces": (event(A) + b": \n" + b" " * 100 + b"[DONE]", [A]),
    "a terminator after data": (event(A) + b": \ndata: x[DONE]", [A]),
    "whole JSON without its blank line": (event(A) + b'data: {"n": 1}\n', [A, {"n": 1}]),
    "line under line, cut": (event(A, b"\n") + event(B, b"\n") + event(C, b"\n")[:9], [A, B]),
    "a comment between": (event(A, b"\n") + b": ping\n" + event(B), [A, B]),
    "fields between": (event(A, b"\n") + b"event: message\nid: 7\n" + event(B), [A, B]),
    "comments like objects between": (event(A, b"\n") + b": {}\n: {\n" + event(B), [A, B]),
    "a comment within an event": (b'data: {"a":\n: {}\ndata: {}}\n\n', [{"a": {}}]),
    "mixed line ends": (b"".join(event(A, end) for end in (b"\n\r\n", b"\r\n\n", b"\r\r\n", b"\n\r")), 4 * [A]),
    "a byte order mark": (BOM + event(A), [A]),
    "what keeps a connection alive": (b": ping\n\n:\n\ndata:\n\ndata\n\ndata: \n\ndata:  \t\n\n" + event(A), [A]),
    "several lines": (pretty({"a": [{}, {"b": {}}], "c": {"d": {}}}), [{"a": [{}, {"b": {}}], "c": {"d": {}}}]),
    "1000 lines": (pretty({"n": list(range(1000))}, ": comment\nid: 1\n"), [{"n": list(range(1000))}]),
    "CRLF in an event": (b'data: {"a":\r\ndata: 1}\r\n\r\n', [A]),
    "invalid UTF-8": (b'data: {"a": "\xff\xc3"}\n\n' + event(C), [{"a": "\ufffd\ufffd"}, C]),
    "what Python calls line ends": ('data: {"a": "\u2028\u2029\x85"}\n\n'.encode(), [{"a": "\u2028\u2029\x85"}]),
    "a web page": (b"<!doctype html>\n\n<p>Not an API</p>\n", []),
    "JSON": (b'{"error": "no"}', [{"error": "no"}]),
}  # fmt: skip


@pytest.mark.parametrize(("whole", "payloads"), UNTERMINATED.values(), ids=UNTERMINATED)
def test_the_payloads_of_whole_events_are_read_and_no_terminator_is_seen(whole, payloads):
    assert outcome([whole]) == (payloads, False, "")
    assert outcome(letters(whole)) == (payloads, False, "")


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_all_three_line_ends_end_lines_and_what_follows_the_terminator_is_not_read(end):
    assert outcome([event(A, end + end) + event(B, end) + b"[DONE]" + end + event(C)]) == ([A, B], True, "")


@pytest.mark.parametrize("pieces", [[event(A)], [event(A, b"\r\r")], [event(A, b"\n"), event(B, b"\n")[:7]]])
def test_a_payload_comes_out_as_soon_as_its_event_is_whole(pieces):
    def connection():
        yield from pieces
        pytest.fail("the first event was whole")

    assert next(iter(Payloads(connection()))) == A


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"oops", "'oops'"),
        (b"[1, 2]", "'[1, 2]'"),
        (b'"text"', "'\"text\"'"),
        (b'{"a": 1', "'{\"a\": 1'"),
        (b"[" * 100_000, "'" + "[" * 60 + "'"),
        (b'{"n": ' + b"1" * 5000 + b"}", '\'{"n": ' + "1" * 54 + "'"),
    ],
    ids=["words", "array", "string", "cut JSON", "too deep", "too long a number"],
)
def test_an_event_that_is_no_json_object_is_an_error_after_what_came(data, words):
    payloads, terminated, error = outcome([event(A) + b"data: " + data + b"\n\n" + event(B)])
    assert (payloads, terminated) == ([A], False)
    assert error.endswith(f" {words}.")


@pytest.mark.parametrize("line", [b"x" * 1000, b"data: {\n", b": comment\n", b"data: "])
def test_an_event_without_an_end_is_given_up_after_what_came(line, monkeypatch):
    monkeypatch.setattr("together_nb.wire.sse.LONGEST", 2**18)
    monkeypatch.setattr("together_nb.wire.sse.MOST_LINES", 2**14)
    sent = 0

    def connection():
        nonlocal sent
        yield event(A)
        while sent < 2**20:
            sent += len(line)
            yield line

    payloads, terminated, error = outcome(connection())
    assert (payloads, terminated, "more than" in error) == ([A], False, True)
    assert sent < (2**14 + 2) * len(line) if b"\n" in line else sent < 2**18 + 2 * len(line)


# The package of the same import name


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("class SSEClient:\n    def __next__(self): ...", "pip uninstall -y sseclient && pip install"),
        ("raise ImportError", "Run: pip install sseclient-py"),
    ],
)
def test_a_missing_sseclient_and_the_other_package_of_that_name_are_told_apart(source, words, tmp_path):
    (tmp_path / "sseclient.py").write_text(source)
    script = "try: import together_nb.wire.sse\nexcept Exception as error: print(error)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    assert words in subprocess.check_output([sys.executable, "-c", script], env=environment, text=True)


# In groups, for an answer that nobody watches

MID = b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":null}]}\n\n'
LAST = b'data: {"choices":[{"delta":{"content":"z"},"finish_reason":"stop"}]}\n\n'


@pytest.fixture
def clock(monkeypatch):
    """The time, which stands still unless it is set."""
    now = [100.0]
    monkeypatch.setattr("together_nb.wire.sse.monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize("mid", [MID, MID.replace(b":null", b": null")])
def test_pieces_of_a_short_while_are_read_in_one(clock, mid):
    def pieces():
        for number in range(12):
            clock[0] = 100 + number / 64
            yield mid

    groups = list(in_groups(pieces(), lambda: True))
    assert b"".join(groups) == 12 * mid
    assert [len(group) // len(mid) for group in groups] == [1, 4, 4, 3]


@pytest.mark.parametrize(
    "last", [LAST, MID + LAST, MID + b"data: [DONE]\n\n", b'data: {"usage":{}}\n\n', b": ping\n\n", MID[:30]]
)
def test_what_may_be_the_last_piece_is_not_kept_waiting(clock, last):
    def pieces():
        yield from (MID, MID, last)
        pytest.fail("one might wait for ever for another")

    groups = in_groups(pieces(), lambda: True)
    assert [next(groups), next(groups)] == [MID, MID + last]


def test_nothing_is_kept_waiting_before_the_answer_has_begun(clock):
    assert list(in_groups(iter([MID] * 3), lambda: False)) == [MID] * 3


def test_what_had_come_before_the_connection_broke_is_not_lost(clock):
    def pieces():
        yield from (MID, MID)
        raise ConnectionError("gone")

    groups = in_groups(pieces(), lambda: True)
    assert [next(groups), next(groups)] == [MID, MID]
    with pytest.raises(ConnectionError, match="gone"):
        next(groups)
