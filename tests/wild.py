"""Answers as the wild sends them, and what becomes of them on the way, as strategies.

An answer is made first, and what is true of it kept; then it is written down in the ways that
servers write, and then it is damaged.
"""

from __future__ import annotations

import itertools
import json
import zlib
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from hypothesis import strategies as st

from together_nb.completion import CompletionRequest, Usage
from together_nb.dialects import DIALECTS
from together_nb.params import SamplingParams

BOM = b"\xef\xbb\xbf"
FINISHED = ["stop", "length", "eos", "eos_token", "stop_sequence", "tool_calls"]
LOGPROBS = ["number", "arrays", "content"]
# Servers write these in ways of their own; the text counts.
STRANGE_LOGPROBS = [True, "none", [], [0.5], {}, {"tokens": 5}, {"content": [5]}, "NaN"]
TERMINATORS = [
    b"data: [DONE]\n\n", b"data:[DONE]\n\n", b"data:  [DONE] \n\n", b"[DONE]\n", b"[DONE]\n\n", b"data: [DONE]\n", b"data: [DONE]",
    b"data:[DONE]", b"[DONE]", b"data: [DONE]\r\n\r\n", b"data: [DONE]\r\r",
]  # fmt: skip
FORMS = ["event", "event", "event", "no space", "under", "pretty", "named"]
# Nothing of the answer: what keeps a connection alive, what other clients are told, what is unknown.
HARMLESS = [
    b": ping\n", b":\n\n", b"\n", b"\r\n\r\n", b"event: ping\ndata:\n\n", b"data:\n\n", b"data: \n\n", b"data\n\n", b"id: 7\n\n", b"retry: 10\n\n",
    b"what: ever\n\n", b"what ever\n\n", b"event: message\n", b"data: {}\n\n", b'data: {"choices": []}\n\n', b'data: {"choices": null}\n\n',
    b'data: {"warnings": [{"message": "soon"}], "choices": []}\n\n', b'data: {"error": null}\n\n', b'data: {\ndata: "a": {}\ndata: }\n\n',
]  # fmt: skip
# No event of an answer: each ends it with an error.
POISON = [
    b"oops", b"{", b"[1, 2]", b"null", b'"text"', b'{"error": {"message": "overloaded"}}', b'{"error": "overloaded"}', b'{"error": [[1]]}',
    b'{"choices": [{"error": {"message": "[object Object]"}, "finish_reason": "error"}]}', b'{"choices": [{"text": "", "finish_reason": "error"}]}',
    b'{"choices": [5]}', b'{"choices": "abc"}', b'{"choices": [{"index": "x", "delta": {}}]}', b'{"choices": [{"index": 1e999, "delta": {}}]}',
]  # fmt: skip
FRAGMENTS = [
    b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r\n", b"data: ", b"data:", b"data: {\n", b"data: }\n", b"[DONE]", b"data: [DONE]\n\n", BOM, b"\xff", b"\xc3",
    b"\xf0\x9f", b"\x00", b'"', b"\\", b"\\u", b'\\ud83d"', b"{", b"}", b"[", b"]", b",", b"null", b"1e999", b"-", b": ", b"<html>", b"  ", b"0\r\n\r\n",
    b"ffffffffffffffff\r\n", b"\xe2\x80\xa8", *HARMLESS,
]  # fmt: skip

words = st.text(max_size=12) | st.sampled_from(
    [
        "", " a", "é", "漢字", "😀", "e\u0301", "\u2028", "\x85", "\x00", "\x1b]52;c;aGk=\x07", "\ufeff", "\u202e", "\ud83d", "\ude00\ud83d", "\n\n",
        "\r\n", "[DONE]", "\n[DONE]\n", "data: [DONE]\n\n", "data: {", "}\n{", '"}', "\\", "```", "$$", "<script>", "| a |\n|---|", "x" * 3000,
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Piece:
    """What one event says of one choice."""

    index: int
    text: str = ""
    reasoning: str = ""
    finish: str | None = None


@dataclass(frozen=True)
class Block:
    """One event as bytes, with what stands before it; `whole` when it is closed by a blank line."""

    data: bytes
    pieces: tuple[Piece, ...]
    whole: bool


@dataclass(frozen=True)
class Answer:
    """A true answer and the bytes that say it.

    Parameters
    ----------
    request
        What it answers.
    blocks
        Its events.
    tail
        The terminator, or nothing where the answer said why it ended.
    usage
        What it counted, if it did.
    payloads
        Its events before they were written down.
    logprobs
        In which shape it has log-probabilities.
    """

    request: CompletionRequest
    blocks: tuple[Block, ...]
    tail: bytes
    usage: Usage | None
    payloads: tuple[dict[str, Any], ...] = field(repr=False)
    logprobs: Any = None

    @property
    def body(self) -> bytes:
        return b"".join(block.data for block in self.blocks) + self.tail

    @property
    def ends(self) -> list[int]:
        """Where each block ends in `body`."""
        return list(itertools.accumulate(len(block.data) for block in self.blocks))

    def said(self, events: int | None = None) -> dict[int, tuple[str, str]]:
        """Text and thinking of each choice, as the first so many events say them."""
        said: dict[int, tuple[str, str]] = {}
        for piece in self.pieces(events):
            text, thought = said.get(piece.index, ("", ""))
            said[piece.index] = text + _carried(piece.text), thought + _carried(piece.reasoning)
        return said

    def pieces(self, events: int | None = None) -> list[Piece]:
        return [piece for block in self.blocks[:events] for piece in block.pieces]

    def safe(self, place: int) -> int:
        """How many events are whole before `place` of `body`, whatever follows it."""
        ended = [number for number, end in enumerate(self.ends) if end <= place and self.blocks[number].whole]
        return max(ended, default=-1) + 1


def _carried(text: str) -> str:
    """`text` as JSON and then UTF-8 can carry it: halves of a character are lost."""
    return "".join("\ufffd" if "\ud800" <= letter <= "\udfff" else letter for letter in json.loads(json.dumps(text)))


# Answers


def _choice(piece: Piece, api: str, style: dict[str, Any]) -> dict[str, Any]:
    choice: dict[str, Any] = {} if api == "inference" and not style["several"] else {"index": piece.index}
    if api == "chat":
        said = [{"type": "text", "text": piece.text}] if style["parts"] else piece.text
        delta: dict[str, Any] = {"role": "assistant", "content": said or None if style["nulls"] else said}
        if piece.reasoning:
            delta[style["thinking"]] = piece.reasoning
        choice["delta"] = delta
        if style["twice"]:
            choice["text"] = piece.text
    elif style["parts"]:  # a server that speaks the dialect with another's accent
        choice["delta"] = {"content": piece.text}
    else:
        choice["text"] = piece.text
        if style["twice"]:
            choice["delta"] = {"content": piece.text}
    if style["reasons"] or piece.finish is not None:
        choice["finish_reason"] = piece.finish
    if style["logprobs"] is not None:
        choice |= _logprobs(style["logprobs"], piece.text)
    return choice


def _logprobs(shape: Any, text: str) -> dict[str, Any]:
    rows = [{"token": text, "logprob": -0.5}, {"token": "other", "logprob": -2}]
    if shape == "number":
        return {"logprobs": -0.5, "top_logprobs": {text: -0.5, "other": -2}}
    if shape == "arrays":
        return {"logprobs": {"tokens": [text], "token_logprobs": [None], "token_ids": [None], "top_logprobs": [rows]}}
    if shape == "content":
        return {"logprobs": {"content": [{"token": text, "logprob": -0.5, "bytes": None, "top_logprobs": rows}]}}
    return {"logprobs": shape}


STYLES: dict[str, list[Any]] = {
    "parts": [False, True],
    "nulls": [False, True],
    "twice": [False, True],
    "reasons": [False, True],
    "thinking": ["reasoning", "reasoning_content"],
    "logprobs": [None, None, *LOGPROBS, *LOGPROBS, *STRANGE_LOGPROBS],
    "first": [False, True],
    "usage": ["with the end", "after it", "never"],
    "ascii": [True, False],
    "end": [b"\n", b"\n", b"\r\n", b"\r", None],
}


class Dice:
    """Throws of which the first choice is always the plainest, and 0 throws nothing else: so examples shrink."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed) if seed else None

    def one_of(self, choices: list[Any]) -> Any:
        return choices[0] if self._random is None else self._random.choice(choices)

    @property
    def head(self) -> bool:
        return self.one_of([False, True])


dice = st.integers(0, 2**32).map(Dice)  # one draw, where a draw for each line would take most of the time
eventful = {
    (chat, choices): st.lists(
        st.lists(piece, min_size=1, max_size=choices, unique_by=lambda one: one.index), max_size=7
    )
    for choices in (1, 2, 3)
    for number in [st.integers(0, choices - 1)]
    for chat, piece in [
        (False, st.builds(Piece, number, words)),
        (True, st.builds(Piece, number, words) | st.builds(Piece, number, st.just(""), words)),
    ]
}


@st.composite
def answers(draw) -> Answer:
    """An answer in any dialect, written in any of the ways in use."""
    api = draw(st.sampled_from(list(DIALECTS)))
    several = draw(st.sampled_from([None, None, 1, 2, 3]))
    thrown = draw(dice)
    style = {name: thrown.one_of(values) for name, values in STYLES.items()} | {"several": several}
    choices = several or 1
    events = draw(eventful[api == "chat", choices])
    if style["first"]:
        events.insert(0, [Piece(0)])
    reasons = [thrown.one_of([*FINISHED, *FINISHED, "", None]) for _ in range(choices)]
    for index, reason in enumerate(reasons):
        last = max(
            (number for number, event in enumerate(events) if any(one.index == index for one in event)), default=-1
        )
        if reason is not None and last >= 0 and thrown.head:
            events[last] = [replace(one, finish=reason) if one.index == index else one for one in events[last]]
        elif reason is not None:  # while others go on, or when all are at their end
            events.insert(thrown.one_of([len(events), last + 1]), [Piece(index, finish=reason)])
    if style["twice"] and reasons[-1]:
        events.append([Piece(choices - 1, finish="")])  # told twice, the second time as nothing
    payloads = [{"id": "a-1", "choices": [_choice(one, api, style) for one in event]} for event in events]
    usage = None
    if style["usage"] != "never" and payloads:
        usage = Usage(3, len(events), 3 + len(events))
        counted = {"prompt_tokens": 3, "completion_tokens": len(events), "total_tokens": 3 + len(events)}
        if style["usage"] == "after it":
            events.append([])
            payloads.append({"id": "a-1", "choices": []})
        payloads[-1]["usage"] = counted
    written = _Written(thrown, style)
    blocks = [written.block(payload, event) for payload, event in zip(payloads, events, strict=True)]
    if blocks and all(reasons) and thrown.head:  # it said why it ended, and that is all
        tail = b""
        if not blocks[-1].whole:
            blocks.append(Block(written.line(b""), (), whole=True))
    else:
        tail = written.begun() + thrown.one_of(TERMINATORS)
    sampling = SamplingParams() if several is None else SamplingParams.from_dict({"n": several})
    request = CompletionRequest("Tell me", "test/model", api, sampling=sampling)
    return Answer(request, tuple(blocks), tail, usage, tuple(payloads), style["logprobs"])


class _Written:
    """Writes lines, with one line end throughout or with all of them mixed."""

    def __init__(self, thrown: Dice, style: dict[str, Any]) -> None:
        self._dice = thrown
        self._style = style
        self._last = b""
        self._begun = thrown.one_of([b"", BOM])

    def block(self, payload: dict[str, Any], pieces: list[Piece]) -> Block:
        form = self._dice.one_of(FORMS)
        data = self.begun()
        text = json.dumps(payload, ensure_ascii=self._style["ascii"], indent=1 if form == "pretty" else None)
        if not self._style["ascii"] and any("\ud800" <= letter <= "\udfff" for letter in text):
            text = json.dumps(payload)
        lines = [b"event: message", b"id: 1", b"retry: 5"] if form == "named" else []
        space = b"" if form == "no space" else b" "
        lines += [b"data:" + space + line.encode() for line in text.split("\n")]
        lines += [] if form == "under" else [b""]
        data += b"".join(map(self.line, lines))
        return Block(data, tuple(pieces), form != "under")

    def begun(self) -> bytes:
        """What may stand before anything."""
        data, self._begun = self._begun, b""
        # Nothing, or a comment, or an event of nothing, which is set apart from one before.
        between = self._dice.one_of([[], [], [], [b": ping {}"], [b"", b"data:", b""], [b"", b""]])
        return data + b"".join(map(self.line, between))

    def line(self, line: bytes) -> bytes:
        end = self._style["end"]
        if end is None:
            # After CR, a blank line's LF would belong to that CR: there would be no blank line.
            after_return = not line and self._last.endswith(b"\r")
            end = self._dice.one_of([b"\r\n", b"\r"] if after_return else [b"\n", b"\r\n", b"\r"])
        self._last = line + end
        return self._last


# What becomes of them


places = st.lists(st.integers(0, 10_000), max_size=8)


def cut(whole: bytes, places: list[int]) -> list[bytes]:
    """`whole` in pieces; one number in `places` makes pieces of one length, several say where to cut."""
    if len(places) == 1:
        step = max(places[0] % 40 + 1, len(whole) // 200)
        return [whole[start : start + step] for start in range(0, len(whole), step)]
    edges = [0, *sorted(place % (len(whole) + 1) for place in places), len(whole)]
    return [whole[start:end] for start, end in itertools.pairwise(edges)]


@dataclass(frozen=True)
class Harm:
    """One thing done to bytes: at `place`, `taken` bytes are replaced by `put`; `again` of them come twice."""

    place: int
    taken: int = 0
    put: bytes = b""
    again: int = 0


harms = st.lists(
    st.builds(
        Harm,
        st.integers(0, 10_000),
        st.sampled_from([0, 0, 1, 1, 2, 5, 100]),
        st.binary(max_size=3) | st.sampled_from(FRAGMENTS),
        st.sampled_from([0, 0, 0, 1, 60, 400]),
    ),
    min_size=1,
    max_size=4,
)


def harmed(whole: bytes, harms: list[Harm]) -> tuple[bytes, int]:
    """`whole` with all of `harms` done to it, and the first place that any of them touched."""
    placed = sorted(((harm.place % (len(whole) + 1), harm) for harm in harms), key=lambda one: -one[0])
    for place, harm in placed:
        again = whole[place : place + harm.again]
        whole = whole[:place] + harm.put + again + whole[place + harm.taken :]
    return whole, placed[-1][0]


numbers = st.sampled_from(
    [0, -1, 1.5, 1e308, 10**30, 10**400, -(10**4000), float("nan"), float("inf"), float("-inf"), 2**63]
)
values = st.recursive(
    st.none() | st.booleans() | numbers | words | st.sampled_from(["stop", "error", "1", "NaN", "assistant"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["text", "token", "logprob", "message", "error", "content", "tokens", "x"]), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
KEYS = [
    "id", "model", "error", "choices", "usage", "output", "index", "text", "delta", "message", "content", "reasoning", "reasoning_content", "role",
    "finish_reason", "logprobs", "top_logprobs", "token_id", "tokens", "token_logprobs", "token_ids", "token", "logprob", "prompt_tokens",
    "completion_tokens", "total_tokens", "reasoning_tokens", "cached_tokens", "prompt_tokens_details", "completion_tokens_details",
]  # fmt: skip
_DEEP = "as deep as can be"


@st.composite
def misshapen(draw, payload: dict[str, Any]) -> bytes:
    """`payload` as JSON, with some of its values replaced by anything at all."""
    changed = json.loads(json.dumps(payload))
    for _ in range(draw(st.integers(1, 3))):
        value = draw(values | st.just(_DEEP))
        nodes = list(_nodes(changed))
        node = nodes[draw(st.integers(0, len(nodes) - 1))]
        if isinstance(node, list):
            node[draw(st.integers(0, len(node) - 1))] = value
        else:
            keys = [*node, *KEYS]
            node[keys[draw(st.integers(0, len(keys) - 1))]] = value
    depth = draw(st.integers(1, 3000)) if _DEEP in str(changed) else 0
    before, after = draw(
        st.sampled_from([("[", "]"), ('{"text": ', "}"), ('[{"text": ', "}]"), ('{"message": [', "]}")])
    )
    deep = before * depth + '"deep"' + after * depth
    return json.dumps(changed).replace(json.dumps(_DEEP), deep).encode()


def _nodes(value: Any):
    """All that can hold a value."""
    if isinstance(value, dict) or (isinstance(value, list) and value):
        yield value
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _nodes(inner)


anything = st.lists(
    st.sampled_from(FRAGMENTS) | st.sampled_from(TERMINATORS) | st.binary(max_size=20) | st.sampled_from(POISON), max_size=12
).map(b"".join)  # fmt: skip


# Over HTTP


CODINGS = {"identity": None, "gzip": 31, "x-gzip": 31, "deflate": 15}
FRAMES = ["length", "chunked", "chunked", "close", "HTTP/1.0"]
KINDS = [
    "text/event-stream",
    "text/event-stream; charset=utf-8",
    "application/json",
    "text/html; charset=none",
    "",
    None,
]
STATUSES = [
    b"HTTP/1.1 200 OK", b"HTTP/1.1 200", b"HTTP/1.0 200 \xff", b"HTTP/1.1 201 Made", b"HTTP/1.1 204 No Content", b"HTTP/1.1 206 Part", b"HTTP/1.1 301 Moved",
    b"HTTP/1.1 302 Found", b"HTTP/1.1 304 Same", b"HTTP/1.1 307 There", b"HTTP/1.1 400 Bad", b"HTTP/1.1 401 Who", b"HTTP/1.1 403 No", b"HTTP/1.1 404 Where",
    b"HTTP/1.1 413 Big", b"HTTP/1.1 418 Teapot", b"HTTP/1.1 600 What", b"HTTP/1.1 999 What", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK",
    b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK", b"HTTP/1.1 101 Switching", b"HTTP/2 200", b"HTTP/1.1 99 Few", b"HTTP/1.1 -200 OK", b"HTTP/1.1 2e2 OK",
    b"HTTP/9.9 200 OK", b"ICY 200 OK", b"200 OK", b"", b"\r\n", b"SSH-2.0-x", b"\x16\x03\x01", b"HTTP/1.1 200 " + b"x" * 70_000,
]  # fmt: skip
HEADERS = [
    b"Content-Length: 5", b"Content-Length: 5, 5", b"Content-Length: 5, 6", b"Content-Length: -1", b"Content-Length: x", b"Content-Length: 9999999", b"Content-Length: 0",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Transfer-Encoding: CHUNKED, chunked", b"Content-Encoding: gzip", b"Content-Encoding: deflate",
    b"Content-Encoding: gzip, gzip, deflate", b"Content-Encoding: br", b"Content-Encoding: zstd", b"Content-Encoding: what", b"Content-Type: \xff; charset=\xff",
    b"Content-Type: ;;;=", b"Location: /there", b"Location: http://[", b"Location: http://[::1", b"Location: \xff\xfe", b"Location: http://:99999/", b"Location: ",
    b"Set-Cookie: a=b; expires=x", b"Set-Cookie: \xff=; domain=[; max-age=x", b"Retry-After: x", b"Connection: keep-alive", b"Connection: close", b"Keep-Alive: timeout=x",
    b"no colon", b": no name", b" folded", b"\tfolded", b"X: a\rb", b"X: \x00", b"X: " + b"y" * 70_000, b"Date: never", b"", b"WWW-Authenticate: Negotiate",
    *[b"X-%d: y" % number for number in range(3)],
]  # fmt: skip


@dataclass(frozen=True)
class Reply:
    """A whole HTTP reply; `head` is the length of what stands before its body, which is `plain` if it is sent as it is."""

    data: bytes
    head: int
    plain: bool


@st.composite
def replies(draw, body: bytes) -> Reply:
    """`body` as an HTTP reply in any of the ways in use."""
    thrown = draw(dice)
    frame = thrown.one_of(FRAMES)
    coding = thrown.one_of(["identity", *CODINGS])
    kind = thrown.one_of(KINDS)
    head = [b"HTTP/1.0 200 OK" if frame == "HTTP/1.0" else thrown.one_of([b"HTTP/1.1 200 OK", b"HTTP/1.1 200"])]
    if kind is not None:
        head.append(b"Content-Type: " + kind.encode())
    if CODINGS[coding] is not None:
        packer = zlib.compressobj(wbits=CODINGS[coding])
        parts = [packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH) for piece in cut(body, draw(places))]
        body = b"".join(parts) + packer.flush()
        head.append(b"content-encoding: " + coding.encode())
    if frame == "length":
        head.append(b"CONTENT-LENGTH: %d" % len(body))
    elif frame == "chunked":
        head.append(b"Transfer-Encoding: chunked")
        extension, trailer = thrown.one_of([b"", b";a=b", b" ; a"]), thrown.one_of([b"", b"X-Trailer: y\r\n"])
        chunks = [b"%x%b\r\n%b\r\n" % (len(part), extension, part) for part in cut(body, draw(places)) if part]
        body = b"".join(chunks) + b"0\r\n" + trailer + b"\r\n"
    else:
        head.append(b"Connection: close")
    start = b"\r\n".join([*head, b"", b""])
    return Reply(start + body, len(start), plain=CODINGS[coding] is None and frame != "chunked")


@st.composite
def strange_replies(draw, body: bytes) -> bytes:
    """`body` under a head of any kind."""
    status = draw(st.sampled_from(STATUSES))
    lines = [status, *draw(st.lists(st.sampled_from(HEADERS) | st.binary(max_size=20), max_size=5))]
    return draw(st.sampled_from([b"\r\n", b"\r\n", b"\n"])).join([*lines, b"", body])
