"""Whatever comes over the wire, nothing but our errors is raised, and no word is lost or made up.

Each claim holds for a few examples here, and for fifty thousand and more in the long run, which
prints how many it tried::

    python -m pytest -m long tests/test_fuzz.py
"""

from __future__ import annotations

import functools
import io
import json
import logging
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from requests.adapters import BaseAdapter
from requests.models import Response
from urllib3 import HTTPResponse

from tests import wild
from tests.servers import ScriptedServer
from together_nb import endpoint, transport
from together_nb.catalog import Catalog
from together_nb.completion import Completion, CompletionRequest
from together_nb.errors import APIConnectionError, APIResponseError, ConnectionLostError, StreamError, TogetherError
from together_nb.formats import FORMATS
from together_nb.probabilities import summary
from together_nb.resolve import open_request
from together_nb.shaded import tokens_html
from together_nb.wiretap import Wiretap

pytestmark = pytest.mark.timeout(120)

LONG = 50_000
ROOT = "http://127.0.0.1:9"  # where nothing listens: what is asked there, `canned` answers
PRICES = Catalog.from_json([{"id": "test/model", "type": "chat", "pricing": {"input": 0.5, "output": 2.0}}])


REPLIES: set[int] = set()  # hashes of those that have been read

# The seams: the only places that know how an exchange gets its bytes


class _Canned(BaseAdapter):
    """Gives a reply's bytes in pieces in the place of a connection, and then ends it or breaks."""

    def __init__(self):
        super().__init__()
        self.reply = None

    def send(self, request, **_):
        response = Response()
        response.status_code = 200
        response.headers["Content-Type"] = "text/event-stream"
        response.url, response.request = request.url, request
        response.raw = HTTPResponse(_Pieces(*self.reply), preload_content=False)
        return response

    def close(self):
        """Nothing is open."""


class _Pieces(io.RawIOBase):
    def __init__(self, pieces, broken):
        self._pieces = iter([piece for piece in pieces if piece])
        self._broken = broken

    def read1(self, _=-1):
        piece = next(self._pieces, b"")
        if not piece and self._broken:
            raise ConnectionResetError(104, "Connection reset by peer")
        return piece


canned = _Canned()


@pytest.fixture(autouse=True, scope="module")
def _canned():
    transport._session().mount(ROOT, canned)
    # It warns of headers that it cannot read, and what keeps the record keeps the connection.
    logging.getLogger("urllib3.connection").setLevel(logging.ERROR)
    yield
    logging.getLogger("urllib3.connection").setLevel(logging.NOTSET)
    del transport._session().adapters[ROOT]


def opened(request, root):
    endpoint._catalogs[root, None] = PRICES
    return open_request(request, base_url=root, timeout=20, filled=("name",))


def received(request, pieces, *, broken=False, tapped=False):
    """What comes of a reply's bytes that come in these pieces."""
    REPLIES.add(hash(tuple(pieces)))
    canned.reply = pieces, broken
    return ended(opened(request, ROOT), tapped=tapped)


def replied(request, data, places, *, reset=False):
    """What comes of all these bytes, head and all, sent by a server over a real socket."""
    REPLIES.add(hash(data))

    def script(exchange):
        for piece in wild.cut(data, places):
            exchange.raw(piece)
        exchange.cut(reset=reset)

    with ScriptedServer(script) as server:
        return ended(opened(request, server.base_url))


# What is looked at


class Ended:
    """A stream that has been read to its end: its completion, and its error if it had one."""

    def __init__(self, completion, error):
        self.completion = completion
        self.error = error

    @property
    def said(self):
        """Text and thinking of each choice."""
        return {choice.index: (choice.text, choice.reasoning) for choice in self.completion.choices}

    @property
    def outcome(self):
        """All that must be the same however the bytes were cut into pieces."""
        told = None if self.error is None else (type(self.error), self.error.message, self.error.hint)
        return self.completion.choices, self.completion.usage, self.completion.chunks, self.completion.id, told


def ended(answer, *, tapped=False):
    """Read a stream to its end; whatever it ends with, what came is there, and can be shown and kept."""
    if tapped:
        answer.wiretap = Wiretap()
    error, said = None, {}
    try:
        for chunk in answer:
            text, thought = said.get(chunk.index, ("", ""))
            said[chunk.index] = text + chunk.text, thought + chunk.reasoning
    except TogetherError as caught:  # and nothing else
        error = caught.with_traceback(None)
        error.__context__ = None  # either holds the connection, in a circle with what is here
        assert error.completion == answer.completion
        assert error.completion.error
        assert error._render_traceback_()
    completion = answer.completion
    end = Ended(completion, error)
    assert nonempty(end.said) == nonempty(said)
    assert bool(completion.error) == (error is not None)
    presentable(completion)
    return end


def presentable(completion):
    """It can be drawn in each way there is, saved in a notebook, and read again."""
    assert "\n" not in completion.footer()
    for show in FORMATS:
        bundle = completion.bundle(show)
        assert all(shown.encode() for shown in bundle.values())
    bundle, metadata = completion._repr_mimebundle_()
    json.dumps([bundle, metadata], allow_nan=False)
    (summary(completion.tokens) + tokens_html(completion.tokens, "a")).encode()
    f"{completion!r}{completion}".encode()
    assert Completion.from_dict(json.loads(json.dumps(completion.to_dict()))) == completion


def nonempty(said):
    return {index: both for index, both in said.items() if any(both)}


def begins(part, whole):
    """Whether each text and each thinking in `part` is a beginning of the one in `whole`."""
    return all(
        mine.startswith(beginning)
        for index, both in part.items()
        for mine, beginning in zip(whole.get(index, ("", "")), both, strict=True)
    )


# The claims, a few examples of each; `LONG` of them in the long run

RUN: Counter[str] = Counter()  # examples that have been run to their end, by claim
CLAIMS = []


def holds_for(*strategies, examples):
    """As `given`; the claim is made in the long run too."""

    def decorate(claim):
        @functools.wraps(claim)
        def counted(**values):
            claim(**values)
            RUN[claim.__name__] += 1

        CLAIMS.append((counted, strategies, examples))
        return settings(max_examples=examples)(given(*strategies)(counted))

    return decorate


@holds_for(wild.answers(), wild.places, st.booleans(), examples=120)
def test_an_answer_comes_out_as_it_was_sent_however_it_was_written_down(answer, places, tapped):
    end = received(answer.request, wild.cut(answer.body, places), tapped=tapped)
    assert end.error is None
    whole(end, answer)


def whole(end, answer):
    """All that was sent is there, and is there once."""
    assert nonempty(end.said) == nonempty(answer.said())
    assert end.completion.usage == answer.usage
    assert end.completion.chunks == sum(bool(piece.text or piece.reasoning) for piece in answer.pieces())
    for choice in end.completion.choices:
        pieces = [piece for piece in answer.pieces() if piece.index == choice.index]
        reasons = [piece.finish for piece in pieces if piece.finish is not None]
        assert choice.finish_reason == (next(filter(None, reasons), reasons[0]) if reasons else None)
        if answer.logprobs in wild.LOGPROBS:
            assert "".join(token.text for token in choice.tokens) == choice.text
        else:
            assert choice.tokens == []


@holds_for(wild.answers(), st.integers(0, 10_000), wild.places, st.booleans(), examples=150)
def test_of_a_stream_that_is_cut_anywhere_a_beginning_is_kept_and_the_loss_is_told(answer, place, places, broken):
    body = answer.body
    end = received(answer.request, wild.cut(body[: place % (len(body) + 1)], places), broken=broken)
    cut_short(end, answer)
    assert begins(answer.said(answer.safe(place % (len(body) + 1))), end.said)


def cut_short(end, answer):
    """A part never passes for the whole."""
    assert begins(end.said, answer.said())
    if end.error is None:
        assert nonempty(end.said) == nonempty(answer.said())
    elif end.completion.chunks:
        assert type(end.error) is ConnectionLostError
    else:
        assert isinstance(end.error, (APIConnectionError, APIResponseError, ConnectionLostError))


@holds_for(
    wild.answers(),
    st.lists(st.tuples(st.integers(0, 20), st.sampled_from(wild.HARMLESS)), max_size=6),
    wild.places,
    examples=120,
)
def test_what_is_no_part_of_the_answer_takes_nothing_from_it_and_adds_nothing(answer, between, places):
    parts = [block.data for block in answer.blocks]
    for number, harmless in between if parts else ():
        # After a blank line, or it would stand within an event; after the first, which begins what is a stream.
        parts[number % len(parts)] += b"\n\n" + harmless
    end = received(answer.request, wild.cut(b"".join(parts) + answer.tail, places))
    assert end.error is None
    whole(end, answer)


@holds_for(wild.answers(), st.integers(0, 20), st.sampled_from(wild.POISON), wild.places, examples=120)
def test_before_an_event_that_is_none_all_is_kept_and_after_it_nothing_is_taken(answer, number, poison, places):
    parts = [block.data for block in answer.blocks]
    number %= len(parts) + 1
    poisoned = b"".join([*parts[:number], b"\n\ndata: " + poison + b"\n\n", *parts[number:]]) + answer.tail
    end = received(answer.request, wild.cut(poisoned, places))
    assert type(end.error) is StreamError
    assert nonempty(end.said) == nonempty(answer.said(number))


@holds_for(wild.answers(), st.sampled_from(wild.TERMINATORS), wild.answers(), wild.places, examples=100)
def test_what_follows_the_terminator_is_not_taken_not_even_a_second_one(answer, terminator, other, places):
    # A line of its own for the second: `data: [DONE]data: …` is one line.
    twice = b"".join(block.data for block in answer.blocks) + b"\n\n" + terminator + b"\n" + answer.tail + b"\n"
    for more in (answer.body, other.body):
        end = received(answer.request, wild.cut(twice + more, places))
        assert end.error is None
        whole(end, answer)


@holds_for(wild.answers(), wild.harms, wild.places, st.booleans(), examples=150)
def test_bytes_that_are_changed_take_nothing_from_what_was_whole_before_them(answer, harms, places, broken):
    body, touched = wild.harmed(answer.body, harms)
    end = received(answer.request, wild.cut(body, places), broken=broken)
    assert begins(answer.said(answer.safe(touched)), end.said)
    assert end.outcome == received(answer.request, [body], broken=broken).outcome


@holds_for(wild.answers(), st.data(), st.integers(0, 20), wild.places, examples=150)
def test_a_value_of_any_kind_in_any_place_takes_nothing_from_what_came_before_it(answer, data, number, places):
    parts = [block.data for block in answer.blocks]
    number %= len(parts) + 1
    payload = answer.payloads[number] if number < len(answer.payloads) else {"choices": []}
    strange = b"\n\ndata: " + data.draw(wild.misshapen(payload)) + b"\n\n"
    body = b"".join([*parts[:number], strange, *parts[number + 1 :]]) + answer.tail
    end = received(answer.request, wild.cut(body, places))
    assert begins(answer.said(number), end.said)
    assert end.outcome == received(answer.request, [body]).outcome


@holds_for(wild.answers(), wild.anything | st.binary(max_size=60), wild.places, st.booleans(), examples=150)
def test_bytes_of_any_kind_end_as_a_completion_or_as_our_error_however_they_are_cut(answer, body, places, broken):
    end = received(answer.request, wild.cut(body, places), broken=broken)
    assert end.outcome == received(answer.request, [body], broken=broken).outcome


# Over real sockets, HTTP and all


@holds_for(st.data(), wild.answers(), wild.places, examples=50)
def test_over_a_socket_an_answer_comes_out_as_it_was_sent_however_it_was_framed(data, answer, places):
    reply = data.draw(wild.replies(answer.body))
    end = replied(answer.request, reply.data, places)
    assert end.error is None
    whole(end, answer)


@holds_for(st.data(), wild.answers(), st.integers(0, 10_000), wild.places, st.booleans(), examples=50)
def test_over_a_socket_a_reply_that_is_cut_anywhere_is_a_beginning_and_told(data, answer, place, places, reset):
    reply = data.draw(wild.replies(answer.body))
    end = replied(answer.request, reply.data[: place % (len(reply.data) + 1)], places, reset=reset)
    cut_short(end, answer)


@holds_for(st.data(), wild.answers(), wild.harms, wild.places, examples=50)
def test_over_a_socket_bytes_that_are_changed_in_head_or_body_are_our_error_or_none(data, answer, harms, places):
    reply = data.draw(wild.replies(answer.body))
    broken, touched = wild.harmed(reply.data, harms)
    end = replied(answer.request, broken, places)
    if reply.plain:
        assert begins(answer.said(answer.safe(touched - reply.head)), end.said)


@holds_for(st.data(), wild.answers(), wild.places, examples=50)
def test_over_a_socket_a_head_of_any_kind_is_our_error_or_none(data, answer, places):
    replied(answer.request, data.draw(wild.strange_replies(answer.body)), places)


@holds_for(st.binary(max_size=200) | wild.anything, wild.places, st.booleans(), examples=40)
def test_over_a_socket_bytes_of_any_kind_are_our_error(data, places, reset):
    assert replied(CompletionRequest("Tell me", "test/model", "chat"), data, places, reset=reset).error is not None


# What the long run found


@pytest.mark.parametrize("before", [wild.BOM, b"\n\n\n"], ids=["BOM", "blank lines"])
def test_a_terminator_of_which_nothing_but_the_bracket_has_come_is_waited_for(before):
    end = received(CompletionRequest("Tell me", "test/model", "chat"), [before + b"[", b"DONE]\n"])
    assert (end.error, end.completion.chunks) == (None, 0)


DEEP = b'[{"text": ' * 300 + b'"deep"' + b"}]" * 300
SAID = b'{"choices": [{"index": 0, "delta": {"content": "said"}%b}]%b}'
ODD = {
    "text in parts of parts": b'{"choices": [{"index": 0, "delta": {"content": %b}}]}' % DEEP,
    "a model that is no name": b'{"model": %b, "choices": []}' % DEEP,
    "an alternative that is not likely at all": SAID % (b', "logprobs": -1, "top_logprobs": {"a": NaN}', b""),
    "a log-probability that is none": SAID % (b', "logprobs": NaN', b""),
    "a log-probability without end": SAID % (b', "logprobs": -1' + b"0" * 400, b""),
    "a log-probability that is true": SAID % (b', "logprobs": true', b""),
    "a total that is no number": SAID % (b"", b', "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": NaN}'),
    "more tokens than a float can say": SAID % (b"", b', "usage": {"prompt_tokens": 1, "completion_tokens": 1%b}' % (b"0" * 400)),
    "counts of no kind": SAID % (b"", b', "usage": {"prompt_tokens": 1, "completion_tokens": 1, "reasoning_tokens": [NaN]}'),
}  # fmt: skip


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_an_oddity_beside_the_text_costs_nothing_of_it_and_can_be_shown(odd):
    event = b'data: {"choices": [{"index": 0, "delta": {"content": " more"}}]}\n\n'
    end = received(CompletionRequest("Tell me", "test/model", "chat"), [b"data: " + odd + b"\n\n" + event + b"[DONE]"])
    assert end.error is None
    assert end.completion.text == ("said more" if b"said" in odd else " more")
    usage = end.completion.usage
    assert usage is None or (type(usage.total_tokens), usage.reasoning_tokens) == (int, None)
    assert [token.top for token in end.completion.tokens] == [()] * (odd.count(b'"logprobs": -1,'))


# The long run


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_the_claims_hold_for_fifty_thousand_examples(capsys):
    RUN.clear()
    REPLIES.clear()
    times = -(-LONG // sum(examples for _, _, examples in CLAIMS))
    for claim, strategies, examples in CLAIMS:
        settings(max_examples=examples * times)(given(*strategies)(claim))()
        with capsys.disabled():
            print(f"\n{RUN[claim.__name__]:6,} examples: {claim.__name__}", end="", flush=True)
    with capsys.disabled():
        print(f"\n{RUN.total():6,} examples in all, {len(REPLIES):,} different replies")
    assert RUN.total() >= LONG
