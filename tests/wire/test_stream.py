"""A completion as a stream: whole or not, stopped or broken off, and what is kept of it."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import together_nb
from tests.servers import DIALECTS, PATIENCE, ScriptedServer, answers, eventually, replies, silent, silent_after
from together_nb.errors import APIResponseError, APIStatusError, APITimeoutError, ConnectionLostError, StreamError
from together_nb.values.chunk import Usage
from together_nb.wire.http import HTTPExchange

pytestmark = pytest.mark.timeout(40)

KEY = "sk-secret-0123456789abcdef"
TEXTS = ["Once", " upon", " a", " time", " — €"]


def open_stream(server, **options):
    options = {"model": "test/chat", "api": "chat", "api_key": KEY, "timeout": 30} | options
    return together_nb.stream("Tell me", base_url=server.base_url, **options)


def texts_of(chunks):
    return [chunk.text for chunk in chunks if chunk.text]


def error_of(server, kind, **options):
    """The error of a stream that fails. It has what had come."""
    answer = open_stream(server, **options)
    with pytest.raises(kind) as caught:
        list(answer)
    error = caught.value
    assert type(error) is kind
    assert error.completion.text == answer.completion.text
    assert not answer.cancelled
    return error


@pytest.mark.parametrize("dialect", DIALECTS.values())
def test_each_token_is_delivered_before_the_next_is_sent_and_the_answer_is_whole_and_in_no_history(dialect):
    delivered = [threading.Event() for _ in TEXTS]

    def script(exchange):
        exchange.chunked().headers()
        for text, event in zip(TEXTS, delivered, strict=True):
            exchange.text_events([text])
            exchange.pause(event)
        exchange.event(exchange.payload("", finish="length", usage={"prompt_tokens": 5, "completion_tokens": 4}))
        exchange.done()

    with ScriptedServer(script) as server, open_stream(server, api=dialect, max_tokens=5) as answer:
        assert (answer.answered, answer.begun, answer.first_token, answer.seconds) == (False, False, None, 0)
        for number, text in enumerate(TEXTS):
            assert next(answer).text == text
            assert answer.answered
            assert answer.begun
            assert 0 < answer.first_token <= answer.seconds
            assert (answer.completion.text, answer.chunks) == ("".join(TEXTS[: number + 1]), number + 1)
            delivered[number].set()
        assert texts_of(answer) == []
        completion = answer.completion
    assert (completion.finish_reason, completion.truncated) == ("length", True)
    assert completion.usage == Usage(5, 4, 9)
    assert completion.id == "test-1"
    assert completion.model == ("" if dialect == "inference" else "test/chat")
    assert 0 < completion.timings.first_token <= completion.timings.total
    assert (completion.cancelled, completion.error, completion.chunks) == (False, "", 5)
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert together_nb.history == []


def test_what_has_come_can_be_read_from_another_thread_at_any_time():
    words = [f"{number} " for number in range(5000)]  # more parts than are kept apart
    whole = "".join(words)
    with ScriptedServer(answers(words)) as server, ThreadPoolExecutor(1) as pool:
        answer, over = open_stream(server), threading.Event()

        def lengths():
            while not over.wait(0.001):
                text = answer.completion.text
                assert whole.startswith(text)
                yield len(text)

        seen = pool.submit(lambda: list(lengths()))
        list(answer)
        over.set()
        assert seen.result() == sorted(seen.result())
        assert answer.completion.text == whole


# Stopped

AWAITED = {
    "the headers": (silent(), []),
    "the first token": (silent_after([]), []),
    "the next token": (silent_after(TEXTS[:2]), TEXTS[:2]),
}


@pytest.mark.parametrize(("script", "part"), AWAITED.values(), ids=AWAITED)
def test_cancel_from_another_thread_ends_the_wait_and_keeps_the_part(script, part, tls):
    with ScriptedServer(script, tls=tls) as server, ThreadPoolExecutor(1) as pool:
        answer = open_stream(server, timeout=300)

        def stop():
            assert server.arrived.wait(PATIENCE)
            eventually(lambda: answer.chunks == len(part))
            answer.cancel()

        stopping = pool.submit(stop)
        assert texts_of(answer) == part
        stopping.result()
        completion = answer.completion
        assert answer.cancelled
        assert (completion.text, completion.cancelled, completion.error) == ("".join(part), True, "")
        assert (completion.ending, completion.finish_reason) == ("stopped by you", None)
        assert server.closed.wait(PATIENCE)


def test_what_came_with_the_token_at_which_it_is_cancelled_is_not_delivered():
    def script(exchange):
        events = [f"data: {json.dumps(exchange.payload(text))}\n\n" for text in TEXTS]
        exchange.chunked().send("".join(events).encode())
        exchange.await_close()

    with ScriptedServer(script) as server:
        answer = open_stream(server)
        for _ in answer:
            if answer.chunks == 2:
                answer.cancel()
        assert (answer.completion.text, answer.chunks) == ("Once upon", 2)
        assert server.closed.wait(PATIENCE)


def test_of_an_answer_that_nobody_watches_all_that_had_come_before_a_cancel_is_kept(monkeypatch):
    begun, arrived, usual = threading.Event(), threading.Event(), HTTPExchange.pieces

    def script(exchange):
        first, *others = (json.dumps(exchange.payload(text), separators=(",", ":")) for text in TEXTS)
        exchange.chunked().send(f"data: {first}\n\n".encode())
        exchange.pause(begun)  # or all of it might come in one piece
        exchange.send("".join(f"data: {other}\n\n" for other in others).encode())
        exchange.await_close()

    def pieces(exchange):
        for piece in usual(exchange):
            yield piece
            begun.set()
            if rb"\u20ac" in piece:  # of the last token; the next piece is wanted
                arrived.set()

    monkeypatch.setattr(HTTPExchange, "pieces", pieces)
    monkeypatch.setattr("together_nb.wire.sse._GROUP_SECONDS", 3600)
    with ScriptedServer(script) as server, ThreadPoolExecutor(1) as pool:
        answer = open_stream(server)
        answer.watched = False
        reading = pool.submit(list, answer)
        assert arrived.wait(PATIENCE)
        answer.cancel()
        reading.result(PATIENCE)
        assert answer.completion.text == "".join(TEXTS)
        assert answer.completion.ending == "stopped by you"


def test_leaving_the_block_ends_the_iteration_of_another_thread_too():
    with ScriptedServer(silent_after(["Once"])) as server, ThreadPoolExecutor(1) as pool:
        with open_stream(server, timeout=300) as answer:
            reading = pool.submit(texts_of, answer)
            eventually(lambda: answer.chunks)
        assert reading.result(PATIENCE) == ["Once"]
        assert list(answer) == []
        assert answer.cancelled
        assert server.closed.wait(PATIENCE)


def test_the_next_request_goes_over_the_same_connection_but_after_a_cancel(tls):
    def script(exchange):
        (silent_after(["a"]) if len(exchange.server.requests) == 3 else answers(TEXTS))(exchange)

    with ScriptedServer(script, tls=tls) as server:
        for _ in range(2):
            answer = open_stream(server)
            assert texts_of(answer) == TEXTS
            before = answer.completion
            answer.cancel()  # too late
            assert not answer.cancelled
            assert answer.completion == before
        answer = open_stream(server)
        next(answer)
        answer.cancel()
        assert list(answer) == []
        assert texts_of(open_stream(server)) == TEXTS
        assert [request.connection for request in server.requests] == [0, 0, 0, 1]


# Whole or not; tests/faults.py has more of it


def part(exchange):
    exchange.chunked().text_events(["Once"])


def failed(exchange):
    part(exchange)
    exchange.event({"error": "out of memory"})


ENDINGS = {
    "the stream ends without its last message": (part, ConnectionLostError, "connection lost", "Once"),
    "an event is an error": (failed, StreamError, "error from the server", "Once"),
    "the status is an error": (replies(400, {}), APIStatusError, "error from the server", ""),
    "nothing comes": (silent(), APITimeoutError, "failed", ""),
}


@pytest.mark.parametrize(("script", "kind", "ending", "text"), ENDINGS.values(), ids=ENDINGS)
def test_an_error_has_what_had_come_and_how_it_ended(script, kind, ending, text):
    with ScriptedServer(script) as server:
        completion = error_of(server, kind, timeout=0.3 if kind is APITimeoutError else 30).completion
    assert (completion.text, completion.ending, completion.error) == (text, ending, ending)
    assert (completion.timings.first_token is not None) == bool(text)


@pytest.mark.parametrize("then", ["cut", "await_close"])
def test_an_answer_that_said_why_it_ended_is_whole_though_the_connection_breaks_or_is_held(then, monkeypatch):
    monkeypatch.setattr("together_nb.wire.attempts._END_SECONDS", 0.05)

    def script(exchange):
        part(exchange)
        exchange.event(exchange.payload("", finish="stop"))
        getattr(exchange, then)()

    with ScriptedServer(script) as server:
        answer = open_stream(server, timeout=300)
        assert texts_of(answer) == ["Once"]
        assert (answer.completion.finish_reason, answer.completion.ending) == ("stop", "")
        if then == "await_close":
            assert server.closed.wait(PATIENCE)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ([], APIResponseError),
        (b"\n\n<html></html>", APIResponseError),
        ({"choices": [None]}, StreamError),
        (b'\xef\xbb\xbf{"choices": [null]}', StreamError),
    ],
    ids=str,
)
def test_a_reply_that_is_no_stream_is_an_error(body, kind):
    with ScriptedServer(replies(200, body)) as server:
        assert error_of(server, kind).completion.text == ""
