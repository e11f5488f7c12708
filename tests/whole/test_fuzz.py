"""Whatever comes over the wire, nothing but our errors is raised, and no word is lost or made up.

An answer is made first, and what is true of it kept; then it is written down as servers write, and then it is damaged.
"""

from __future__ import annotations

import io
import itertools
import json
import logging
import zlib
from dataclasses import asdict, dataclass
from functools import cache
from random import Random
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from requests.models import Response
from urllib3 import HTTPResponse

import together_nb
from tests.servers import DIALECTS, ScriptedServer
from tests.wire.test_sse import BOM
from tests.wire.test_sse import TERMINATORS as PLAIN_TERMINATORS
from together_nb.errors import APIConnectionError, APIResponseError, StreamError, TogetherError
from together_nb.render.formats import FORMATS
from together_nb.render.token_html import tokens_html
from together_nb.render.token_text import summary
from together_nb.run.resolve import endpoint_for, open_request
from together_nb.values.chunk import Usage
from together_nb.values.completion import Completion
from together_nb.values.model_list import ModelList
from together_nb.values.parameters import SamplingParams
from together_nb.values.request import CompletionRequest
from together_nb.wire.http import HTTPExchange
from together_nb.wire.wiretap import Wiretap

pytestmark = pytest.mark.timeout(120)

TERMINATORS = [*PLAIN_TERMINATORS, b"data: [DONE]\r\n\r\n", b"data: [DONE]\r\r"]
# Nothing of the answer: what keeps a connection alive, what other clients are told, what is unknown.
HARMLESS = [
    b": ping\n", b":\n\n", b"\n", b"\r\n\r\n", b"event: ping\ndata:\n\n", b"data:\n\n", b"data: \n\n", b"data\n\n",
    b"id: 7\n\n", b"retry: 10\n\n", b"what: ever\n\n", b"what ever\n\n", b"event: message\n", b"data: {}\n\n", b"data: null\n\n",
    b'data: {"choices": []}\n\n', b'data: {"choices": null}\n\n', b'data: {"error": null}\n\n',
    b'data: {"warnings": [{"message": "soon"}], "choices": []}\n\n', b'data: {\ndata: "a": {}\ndata: }\n\n',
]  # fmt: skip
# No event of an answer: each ends it with an error.
POISON = [
    b"oops", b"{", b"[1, 2]", b'"text"', b'{"error": {"message": "overloaded"}}', b'{"error": "overloaded"}',
    b'{"error": [[1]]}', b'{"choices": [{"error": {"message": "[object Object]"}, "finish_reason": "error"}]}',
    b'{"choices": [{"text": "", "finish_reason": "error"}]}', b'{"choices": [5]}', b'{"choices": "abc"}',
    b'{"choices": [{"index": "x", "delta": {}}]}', b'{"choices": [{"index": 1e999, "delta": {}}]}',
]  # fmt: skip
FRAGMENTS = [
    b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r\n", b"data: ", b"data:", b"data: {\n", b"data: }\n", b"[DONE]", BOM,
    b"\xff", b"\xc3", b"\xf0\x9f", b"\x00", b'"', b"\\", b"\\u", b'\\ud83d"', b"{", b"}", b"[", b"]", b",", b"null",
    b"1e999", b"-", b": ", b"<html>", b"  ", b"0\r\n\r\n", b"ffffffffffffffff\r\n", b"\xe2\x80\xa8", *HARMLESS,
    *TERMINATORS,
]  # fmt: skip
WORDS = [
    "", " a", "é", "漢字", "😀", "e\u0301", "\u2028", "\x85", "\x00", "\x1b]52;c;aGk=\x07", "\ufeff", "\u202e", "\ud83d",
    "\ud83d\ud83d", "\n\n", "\r\n", "[DONE]", "\n[DONE]\n", "data: [DONE]\n\n", "data: {", "}\n{", '"}', "\\", "```",
    "$$", "<script>", "| a |\n|---|", "x" * 3000,
]  # fmt: skip
LOGPROBS = ["number", "arrays", "content"]
STYLES: dict[str, list[Any]] = {
    "parts": [False, True],
    "nulls": [False, True],
    "twice": [False, True],
    "reasons": [False, True],
    "thinking": ["reasoning", "reasoning_content"],
    # The last ones are none of ours: the text counts.
    "logprobs": [None, None, *LOGPROBS * 3, True, "none", [], [0.5], {}, {"tokens": 5}, {"content": [5]}, "NaN"],
    "first": [False, True],
    "usage": ["with the end", "after it", "never"],
    "ascii": [True, False],
    "end": [b"\n", b"\n", b"\r\n", b"\r", None],  # None: all of them mixed
}

# Answers


class Piece(NamedTuple):
    """What one event says of one choice."""

    index: int
    text: str = ""
    reasoning: str = ""
    finish: str | None = None


class Block(NamedTuple):
    """One event as bytes, with what stands before it; `whole` when a blank line closes it."""

    data: bytes
    payload: dict[str, Any]
    pieces: list[Piece]
    whole: bool


@dataclass(frozen=True)
class Answer:
    """A true answer and the bytes that say it."""

    request: CompletionRequest
    blocks: list[Block]
    tail: bytes  # the terminator, or nothing where the answer said why it ended
    usage: Usage | None
    logprobs: Any  # their shape

    @property
    def parts(self):
        return [block.data for block in self.blocks]

    @property
    def body(self):
        return b"".join(self.parts) + self.tail

    def pieces(self, events=None):
        return [piece for block in self.blocks[:events] for piece in block.pieces]

    def said(self, events=None):
        """Text and thinking of each choice, as the first so many events say them."""
        return joined((piece.index, carried(piece.text), carried(piece.reasoning)) for piece in self.pieces(events))

    def safe(self, place):
        """How many events are whole before `place` of `body`, whatever follows it."""
        ends = itertools.accumulate(map(len, self.parts))
        return max((n for n, end in enumerate(ends, 1) if end <= place and self.blocks[n - 1].whole), default=0)


def joined(pieces):
    """Pieces of choices as the text and the thinking of each."""
    said = {}
    for index, text, thought in pieces:
        before = said.get(index, ("", ""))
        said[index] = before[0] + text, before[1] + thought
    return {index: both for index, both in said.items() if any(both)}


def carried(text):
    """`text` as JSON and then UTF-8 can carry it: halves of a character are lost."""
    return "".join("\ufffd" if "\ud800" <= letter <= "\udfff" else letter for letter in json.loads(json.dumps(text)))


def choice(piece, api, style):
    said = [{"type": "text", "text": piece.text}] if style["parts"] else piece.text
    made: dict[str, Any] = {} if api == "inference" and not style["several"] else {"index": piece.index}
    if api == "chat":
        delta = {"role": "assistant", "content": said or None if style["nulls"] else said}
        made["delta"] = delta | ({style["thinking"]: piece.reasoning} if piece.reasoning else {})
    elif style["parts"] or style["twice"]:  # a server that speaks the dialect with another's accent
        made["delta"] = {"content": piece.text}
    if style["twice"] or "delta" not in made:
        made["text"] = piece.text
    if style["reasons"] or piece.finish is not None:
        made["finish_reason"] = piece.finish
    return made | logprobs(style["logprobs"], piece.text)


def logprobs(shape, text):
    rows = [{"token": text, "logprob": -0.5}, {"token": "other", "logprob": -2}]
    if shape == "number":
        return {"logprobs": -0.5, "top_logprobs": {text: -0.5, "other": -2}}
    if shape == "arrays":
        shape = {"tokens": [text], "token_logprobs": [None], "token_ids": [None], "top_logprobs": [rows]}
    if shape == "content":
        shape = {"content": [{"token": text, "logprob": -0.5, "bytes": None, "top_logprobs": rows}]}
    return {} if shape is None else {"logprobs": shape}


@cache
def events(api, choices):
    words, index = st.text(max_size=12) | st.sampled_from(WORDS), st.integers(0, choices - 1)
    nothing = st.just("")
    piece = st.builds(Piece, index, words, nothing, st.none())
    if api == "chat":
        piece |= st.builds(Piece, index, nothing, words, st.none())
    return st.lists(st.lists(piece, min_size=1, max_size=choices, unique_by=lambda one: one.index), max_size=7)


seeds = st.integers(0, 2**32)  # one draw, where a draw for each line would take most of the time


@st.composite
def answers(draw):
    """An answer in any dialect that `tests.servers` speaks, written in any of the ways in use."""
    api = draw(st.sampled_from(list(DIALECTS.values())))
    several = draw(st.sampled_from([None, None, 1, 2, 3]))
    pick = Random(draw(seeds)).choice
    style = {name: pick(values) for name, values in STYLES.items()} | {"several": several}
    choices = several or 1
    said = draw(events(api, choices))
    if style["first"]:
        said.insert(0, [Piece(0)])
    reasons = [pick(["stop", "length", "eos", "tool_calls", "stop", "eos_token", "", None]) for _ in range(choices)]
    for index, reason in enumerate(reasons):
        last = max((n for n, event in enumerate(said) if any(one.index == index for one in event)), default=-1)
        if reason is not None and last >= 0 and pick([False, True]):
            said[last] = [one._replace(finish=reason) if one.index == index else one for one in said[last]]
        elif reason is not None:  # while others go on, or when all are at their end
            said.insert(pick([len(said), last + 1]), [Piece(index, finish=reason)])
    if style["twice"] and reasons[-1]:
        said.append([Piece(choices - 1, finish="")])  # told twice, the second time as nothing
    usage = Usage(3, len(said), 3 + len(said)) if style["usage"] != "never" and said else None
    if usage and style["usage"] == "after it":
        said.append([])
    payloads = [{"id": "a-1", "choices": [choice(one, api, style) for one in event]} for event in said]
    if usage:
        payloads[-1]["usage"] = asdict(usage)
    writer = Writer(pick, style)
    blocks = [writer.block(payload, event) for payload, event in zip(payloads, said, strict=True)]
    if blocks and all(reasons) and pick([False, True]):  # it said why it ended, and that is all
        tail = b""
        if not blocks[-1].whole:
            blocks.append(Block(writer.line(b""), {"choices": []}, [], whole=True))
    else:
        tail = writer.begun() + pick(TERMINATORS)
    sampling = SamplingParams.from_dict({} if several is None else {"n": several})
    request = CompletionRequest("Tell me", "test/model", api, sampling=sampling)
    return Answer(request, blocks, tail, usage, style["logprobs"])


class Writer:
    """Writes lines, with one line end throughout or with all of them mixed."""

    def __init__(self, pick, style):
        self._pick, self._style = pick, style
        self._last, self._begun = b"", pick([b"", BOM])

    def block(self, payload, pieces):
        form = self._pick(["event", "event", "event", "no space", "under", "pretty", "named"])
        data = self.begun()
        text = json.dumps(payload, ensure_ascii=self._style["ascii"], indent=1 if form == "pretty" else None)
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            text = json.dumps(payload)
        lines = [b"event: message", b"id: 1", b"retry: 5"] if form == "named" else []
        space = b"" if form == "no space" else b" "
        lines += [b"data:" + space + line.encode() for line in text.split("\n")]
        lines += [] if form == "under" else [b""]
        return Block(data + b"".join(map(self.line, lines)), payload, pieces, form != "under")

    def begun(self):
        """What may stand before anything: nothing, a comment, or an event of nothing that is set apart."""
        data, self._begun = self._begun, b""
        between = self._pick([[], [], [], [b": ping {}"], [b"", b"data:", b""], [b"", b""]])
        return data + b"".join(map(self.line, between))

    def line(self, line):
        end = self._style["end"]
        if end is None:
            # After CR, a blank line's LF would belong to that CR: there would be no blank line.
            after_return = not line and self._last.endswith(b"\r")
            end = self._pick([b"\r\n", b"\r"] if after_return else [b"\n", b"\r\n", b"\r"])
        self._last = line + end
        return self._last


# What becomes of them

places = st.lists(st.integers(0, 10_000), max_size=8)
harms = st.lists(
    st.tuples(
        st.integers(0, 10_000),
        st.sampled_from([0, 0, 1, 1, 2, 5, 100]),
        st.binary(max_size=3) | st.sampled_from(FRAGMENTS),
        st.sampled_from([0, 0, 0, 1, 60, 400]),
    ),
    min_size=1,
    max_size=4,
)
anything = st.lists(st.sampled_from([*FRAGMENTS, *POISON]) | st.binary(max_size=20), max_size=12).map(b"".join)


def cut(whole, places):
    """`whole` in pieces; one number in `places` makes pieces of one length, several say where to cut."""
    if len(places) == 1:
        step = max(places[0] % 40 + 1, len(whole) // 200)
        return [whole[start : start + step] for start in range(0, len(whole), step)]
    edges = [0, *sorted(place % (len(whole) + 1) for place in places), len(whole)]
    return [whole[start:end] for start, end in itertools.pairwise(edges)]


def harmed(whole, harms):
    """`whole` with bytes taken out, put in and doubled, and the first place that was touched."""
    placed = sorted(((place % (len(whole) + 1), *harm) for place, *harm in harms), key=lambda one: -one[0])
    for place, taken, put, doubled in placed:
        whole = whole[:place] + put + whole[place : place + doubled] + whole[place + taken :]
    return whole, placed[-1][0]


DEEP = "as deep as can be"
KEYS = [
    "id", "model", "error", "choices", "usage", "output", "index", "text", "delta", "message", "content", "reasoning",
    "finish_reason", "logprobs", "top_logprobs", "token_id", "tokens", "token_logprobs", "token_ids", "token",
    "logprob", "prompt_tokens", "completion_tokens", "total_tokens", "reasoning_tokens", "cached_tokens",
    "prompt_tokens_details",
]  # fmt: skip
NUMBERS = [0, -1, 1.5, 1e308, 10**30, 10**400, -(10**4000), float("nan"), float("inf"), float("-inf"), 2**63]
values = st.recursive(
    st.none() | st.booleans() | st.sampled_from([*NUMBERS, *WORDS]) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*KEYS, "x"]), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def misshapen(draw, payload):
    """`payload` as JSON, with some of its values replaced by anything at all."""
    changed = json.loads(json.dumps(payload))
    for _ in range(draw(st.integers(1, 3))):
        value, node = draw(values | st.just(DEEP)), draw(st.sampled_from(list(holders(changed))))
        names = list(range(len(node))) if isinstance(node, list) else [*node, *KEYS]
        node[draw(st.sampled_from(names))] = value
    depth = draw(st.integers(1, 3000)) if DEEP in str(changed) else 0
    before, after = draw(
        st.sampled_from([("[", "]"), ('{"text": ', "}"), ('[{"text": ', "}]"), ('{"message": [', "]}")])
    )
    return json.dumps(changed).replace(json.dumps(DEEP), before * depth + '"deep"' + after * depth).encode()


def holders(value):
    """All that can hold a value."""
    if isinstance(value, dict) or (isinstance(value, list) and value):
        yield value
        for inner in value.values() if isinstance(value, dict) else value:
            yield from holders(inner)


def framed(body, frame, coding, bits):
    """`body` as an HTTP reply."""
    head = [b"HTTP/1.0 200 OK" if frame == "HTTP/1.0" else b"HTTP/1.1 200 OK", b"Content-Encoding: " + coding]
    if bits is not None:
        packer = zlib.compressobj(wbits=bits)
        body = packer.compress(body) + packer.flush()
    if frame == "length":
        head.append(b"CONTENT-LENGTH: %d" % len(body))
    elif frame == "chunked":
        head.append(b"Transfer-Encoding: chunked")
        body = b"%x;a=b\r\n%b\r\n0\r\nX-Trailer: y\r\n\r\n" % (len(body), body)
    return b"\r\n".join([*head, b"", body])


http_replies = st.builds(
    lambda answer, frame, coding: (answer, framed(answer.body, frame, *coding)),
    answers(),
    st.sampled_from(["chunked", "length", "close", "HTTP/1.0"]),
    st.sampled_from([(b"identity", None), (b"gzip", 31), (b"x-gzip", 31), (b"deflate", 15)]),
)
"""An answer and an HTTP reply with it, in any framing and coding in use."""


# The seams: the only places that know how an exchange gets its bytes

ROOT = "http://127.0.0.1:9"  # where nothing listens
PRICES = ModelList.from_json([{"id": "test/model", "type": "chat", "pricing": {"input": 0.5, "output": 2.0}}])
TELL_ME = CompletionRequest("Tell me", "test/model", "chat")


class Pieces(io.RawIOBase):
    def __init__(self, pieces, broken):
        self._pieces = iter([piece for piece in pieces if piece])
        self._broken = broken

    def read1(self, _=-1):
        piece = next(self._pieces, b"")
        if not piece and self._broken:
            raise ConnectionResetError(104, "Connection reset by peer")
        return piece


@pytest.fixture(autouse=True, scope="module")
def _unlogged():
    # It warns of headers that it cannot read, and what keeps the record keeps the connection.
    logging.getLogger("urllib3.connection").setLevel(logging.ERROR)
    yield
    logging.getLogger("urllib3.connection").setLevel(logging.NOTSET)


def stream_of(request, root):
    session = together_nb.session.default
    session.client.model_lists[root, None] = PRICES
    return open_request(session, request, endpoint_for(session, root, timeout=20), filled=("name",), named=True)


def received(request, pieces, *, broken=False, tapped=False):
    """What comes of a reply's bytes that come in these pieces, in the place of a connection, which then ends or breaks."""

    def opened(exchange):
        exchange._response = Response()
        exchange._response.status_code = 200
        exchange._response.raw = HTTPResponse(Pieces(pieces, broken), preload_content=False)

    with patch.object(HTTPExchange, "open", opened):
        return End(stream_of(request, ROOT), tapped=tapped)


def replied(request, data, places, *, reset=False):
    """What comes of all these bytes, head and all, sent by a server over a real socket."""

    def script(exchange):
        for piece in cut(data, places):
            exchange.raw(piece)
        exchange.cut(reset=reset)

    with ScriptedServer(script) as server:
        return End(stream_of(request, server.base_url))


class End:
    """A stream that is read to its end; whatever it ends with, what came is there, and can be shown and kept."""

    def __init__(self, stream, *, tapped=False):
        if tapped:
            stream.wiretap = Wiretap()
        self.error, pieces = None, []
        try:
            pieces.extend((chunk.index, chunk.text, chunk.reasoning) for chunk in stream)
        except TogetherError as error:  # and nothing else
            self.error = error.with_traceback(None)
            error.__context__ = None  # either holds the connection, in a circle with what is here
        self.completion = stream.completion
        assert self.error is None or (self.error.completion == self.completion and self.error._render_traceback_())
        choices = self.completion.choices
        self.said = joined((choice.index, choice.text, choice.reasoning) for choice in choices)
        assert self.said == joined(pieces)
        assert bool(self.completion.error) == (self.error is not None)
        presentable(self.completion)

    @property
    def outcome(self):
        """All that must be the same however the bytes were cut into pieces."""
        error = None if self.error is None else (type(self.error), self.error.message, self.error.hint)
        return self.completion.choices, self.completion.usage, self.completion.chunks, self.completion.id, error


def presentable(completion):
    """It can be drawn in each way there is, saved in a notebook, and read again."""
    assert "\n" not in completion.footer()
    for show in FORMATS:
        assert all(shown.encode() for shown in completion.bundle(show).values())
    json.dumps(completion._repr_mimebundle_(), allow_nan=False)
    (summary(completion.tokens) + tokens_html(completion.tokens, "a")).encode()
    f"{completion!r}{completion}".encode()
    assert Completion.from_dict(json.loads(json.dumps(completion.to_dict()))) == completion


def begins(part, whole):
    """Whether each text and each thinking in `part` is a beginning of the one in `whole`."""
    return all(
        mine.startswith(beginning)
        for index, both in part.items()
        for mine, beginning in zip(whole.get(index, ("", "")), both, strict=True)
    )


def whole(end, answer):
    """All that was sent is there, and is there once; without a text and without a reason it has failed."""
    reason, text = (any(getattr(one, name) for one in answer.pieces()) for name in ("finish", "text"))
    assert type(end.error) is (type(None) if reason or text else StreamError)
    assert end.completion.abrupt == (not reason)
    assert end.said == answer.said()
    assert end.completion.usage == answer.usage
    # Half a character, and white space that a tag may follow, come with the next piece.
    assert end.completion.chunks <= sum(bool(piece.text or piece.reasoning) for piece in answer.pieces())
    for choice in end.completion.choices:
        reasons = [one.finish for one in answer.pieces() if one.index == choice.index and one.finish is not None]
        assert choice.finish_reason == (next(filter(None, reasons), reasons[0]) if reasons else None)
        known = answer.logprobs in LOGPROBS
        assert "".join(token.text for token in choice.tokens) == (choice.text if known else "")


def cut_short(end, answer):
    """A part never passes for the whole."""
    assert begins(end.said, answer.said())
    if end.error is None:
        assert end.said == answer.said()
    elif end.completion.chunks:
        assert isinstance(end.error, StreamError)
    else:
        assert isinstance(end.error, (APIConnectionError, APIResponseError, StreamError))


# The claims


@given(answers(), st.integers(0, 10_000), places, st.booleans())
def test_of_a_stream_that_is_cut_anywhere_a_beginning_is_kept_and_the_loss_is_told(answer, place, places, broken):
    place %= len(answer.body) + 1
    end = received(answer.request, cut(answer.body[:place], places), broken=broken)
    cut_short(end, answer)
    assert begins(answer.said(answer.safe(place)), end.said)


interludes = st.lists(st.tuples(st.integers(0, 20), st.sampled_from(HARMLESS)), max_size=6)


@given(answers(), st.just([]) | interludes, places, st.booleans())
def test_an_answer_comes_out_as_it_was_sent_however_written_and_whatever_stands_between(
    answer, between, places, tapped
):
    parts = answer.parts
    for number, harmless in between if parts else ():
        # After a blank line, or it would stand within an event; after the first, which begins what is a stream.
        parts[number % len(parts)] += b"\n\n" + harmless
    whole(received(answer.request, cut(b"".join(parts) + answer.tail, places), tapped=tapped), answer)


@given(answers(), st.integers(0, 20), st.sampled_from(POISON), places)
def test_before_an_event_that_is_none_all_is_kept_and_after_it_nothing_is_taken(answer, number, poison, places):
    number %= len(answer.blocks) + 1
    parts = [*answer.parts[:number], b"\n\ndata: " + poison + b"\n\n", *answer.parts[number:]]
    end = received(answer.request, cut(b"".join(parts) + answer.tail, places))
    assert type(end.error) is StreamError
    assert end.said == answer.said(number)


@given(answers(), st.sampled_from(TERMINATORS), answers(), places)
def test_what_follows_the_terminator_is_not_taken_not_even_a_second_one(answer, terminator, other, places):
    # A line of its own for the second: `data: [DONE]data: …` is one line.
    twice = b"".join(answer.parts) + b"\n\n" + terminator + b"\n" + answer.tail + b"\n"
    for more in (answer.body, other.body):
        whole(received(answer.request, cut(twice + more, places)), answer)


@given(answers(), harms, places, st.booleans())
def test_bytes_that_are_changed_take_nothing_from_what_was_whole_before_them(answer, harms, places, broken):
    body, touched = harmed(answer.body, harms)
    end = received(answer.request, cut(body, places), broken=broken)
    assert begins(answer.said(answer.safe(touched)), end.said)
    assert end.outcome == received(answer.request, [body], broken=broken).outcome


@given(answers(), st.data(), st.integers(0, 20), places)
def test_a_value_of_any_kind_in_any_place_takes_nothing_from_what_came_before_it(answer, data, number, places):
    number %= len(answer.blocks) + 1
    payload = answer.blocks[number].payload if number < len(answer.blocks) else {"choices": []}
    strange = b"\n\ndata: " + data.draw(misshapen(payload)) + b"\n\n"
    body = b"".join([*answer.parts[:number], strange, *answer.parts[number + 1 :]]) + answer.tail
    end = received(answer.request, cut(body, places))
    assert begins(answer.said(number), end.said)
    assert end.outcome == received(answer.request, [body]).outcome


@given(answers(), anything | st.binary(max_size=60), places, st.booleans())
def test_bytes_of_any_kind_end_as_a_completion_or_as_our_error_however_they_are_cut(answer, body, places, broken):
    end = received(answer.request, cut(body, places), broken=broken)
    assert end.outcome == received(answer.request, [body], broken=broken).outcome


# Over real sockets, HTTP and all


@given(http_replies, st.none() | st.integers(0, 10_000), places, st.booleans())
def test_over_a_socket_an_answer_is_whole_or_if_it_is_cut_a_beginning_and_told(sent, place, places, reset):
    answer, reply = sent
    if place is None:
        whole(replied(answer.request, reply, places), answer)
    else:
        cut_short(replied(answer.request, reply[: place % (len(reply) + 1)], places, reset=reset), answer)


@given(http_replies, harms, places)
def test_over_a_socket_bytes_that_are_changed_in_head_or_body_are_our_error_or_none(sent, harms, places):
    replied(sent[0].request, harmed(sent[1], harms)[0], places)


@given(st.binary(max_size=200) | anything, places, st.booleans())
def test_over_a_socket_bytes_of_any_kind_are_our_error(data, places, reset):
    assert replied(TELL_ME, data, places, reset=reset).error is not None


STATUSES = [
    b"HTTP/1.0 200 \xff", b"HTTP/1.1 201 Made", b"HTTP/1.1 204 No Content", b"HTTP/1.1 206 Part", b"HTTP/1.1 302 Found",
    b"HTTP/1.1 304 Same", b"HTTP/1.1 999 What", b"HTTP/1.1 101 Switching", b"HTTP/1.1 99 Few", b"HTTP/1.1 -200 OK",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK", b"HTTP/1.1 2e2 OK", b"HTTP/9.9 200 OK", b"ICY 200 OK", b"200 OK",
    b"", b"\r\n", b"SSH-2.0-x", b"\x16\x03\x01", b"HTTP/1.1 200 " + b"x" * 70_000,
]  # fmt: skip
HEADERS = [
    b"Content-Length: 5, 5", b"Content-Length: 5, 6", b"Content-Length: -1", b"Content-Length: x",
    b"Content-Length: 999", b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Content-Encoding: gzip",
    b"Content-Encoding: gzip, gzip, deflate", b"Content-Type: \xff; charset=\xff", b"Set-Cookie: a=b; expires=x",
    b"Set-Cookie: \xff=; domain=[; max-age=x", b"Retry-After: x", b"Keep-Alive: timeout=x", b"no colon", b": no name",
    b" folded", b"X: a\rb", b"X: \x00", b"X: " + b"y" * 70_000, b"X: y\r\n" * 300 + b"X: y",
]  # fmt: skip
PLACES = [b"/there", b"http://[", b"http://[::1", b"\xff\xfe", b"http://:99999/", b""]
HEADS = [
    *STATUSES,
    *(b"HTTP/1.1 200 OK\r\n" + header for header in HEADERS),
    *(b"HTTP/1.1 302 Found\r\nLocation: " + place for place in PLACES),
]


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
@pytest.mark.parametrize("head", HEADS, ids=lambda head: repr(head[:60]))
def test_over_a_socket_a_head_of_any_kind_is_our_error_or_none(head, end):
    body = b'data: {"choices": [{"delta": {"content": "Once"}}]}\n\ndata: [DONE]\n\n'
    replied(TELL_ME, end.join([head, b"", body]), [])


# What a long run found


@pytest.mark.parametrize("before", [BOM, b"\n\n\n"], ids=["BOM", "blank lines"])
def test_a_terminator_of_which_nothing_but_the_bracket_has_come_is_waited_for(before):
    end = received(TELL_ME, [before + b"[", b"DONE]\n"])
    assert (str(end.error).split("\n")[0], end.completion.chunks) == ("The server ended the answer without a word.", 0)
