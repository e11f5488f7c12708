"""Many streams at once, many one after the other, and a very long one: all is there, and nothing stays behind."""

import gc
import itertools
import sys
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

import together_nb
from tests.servers import PATIENCE, ScriptedServer
from together_nb.run import driver
from together_nb.wire import http as transport
from together_nb.wire.wiretap import KEPT, LONGEST, Wiretap

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150)]

AT_ONCE = 64
IN_TURN = 1000
WARM = 200  # of those in turn: what is made once has been made by then
MANY = 100_000  # tokens: 12 minutes, at 140 a second
BLOCK = 500  # tokens that are sent at a time

EVENT = b'data: {"id":"l","choices":[{"index":0,"delta":{"content":" %d"},"finish_reason":null}],"usage":null}\n\n'
END = (
    b'data: {"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":%d}}\n\n'
    b"data: [DONE]\n\n"
)


def events(first, count):
    return b"".join([EVENT % number for number in range(first, first + count)])


def text_of(first, count):
    return "".join([f" {number}" for number in range(first, first + count)])


def answer_of(server, number=0):
    return together_nb.stream(str(number), base_url=server.base_url, model="test/chat", api="chat")


def number_of(exchange):
    return int(exchange.request.json()["messages"][0]["content"])


def descriptors():
    """Open files and sockets, where the system tells, but for idle connections, which are kept for the next request."""
    transport._session().close()
    gc.collect()  # a stopped stream's error holds its socket
    listed = Path("/proc/self/fd")
    return sum(1 for _ in listed.iterdir()) if listed.exists() else 0


@contextmanager
def nothing_left_behind():
    """Afterwards there are no more threads and descriptors than before."""
    threads, files = set(threading.enumerate()), descriptors()
    yield
    assert set(threading.enumerate()) <= threads
    assert descriptors() <= files


def test_streams_at_once_have_each_their_own_answer_whole_or_up_to_where_they_are_stopped():
    all_begun, midway, closed = threading.Barrier(AT_ONCE), threading.Semaphore(0), threading.Semaphore(0)

    def script(exchange):
        number = number_of(exchange)
        exchange.chunked().send(events(1000 * number, 1))
        all_begun.wait(PATIENCE)  # broken, and so a failure, where not all can be under way at once
        if number % 2:
            for token in range(1, 100):
                exchange.send(events(1000 * number + token, 1))
            exchange.send(END % 100)
            return
        try:
            for token in itertools.count(1):
                exchange.send(events(1000 * number + token, 1))
                # Half of those that are stopped are so in mid-talk, half in a silence.
                exchange.wait(3600 if token > 10 and number % 4 else 0.002)
        finally:
            closed.release()

    def read(number):
        with answer_of(server, number) as answer:
            streams[number] = answer
            for chunks, _ in enumerate(answer):
                if chunks == 10:
                    midway.release()
            return answer.completion

    streams = {}
    with nothing_left_behind():
        with ScriptedServer(script) as server, ThreadPoolExecutor(AT_ONCE) as pool:
            reads = [pool.submit(read, number) for number in range(AT_ONCE)]
            assert all(midway.acquire(timeout=PATIENCE) for _ in reads)
            for number in range(0, AT_ONCE, 2):
                streams[number].cancel()
            completions = [each.result(PATIENCE) for each in reads]
            assert all(closed.acquire(timeout=PATIENCE) for _ in reads[::2])
        assert server.connections == AT_ONCE
        streams.clear()
    for number, completion in enumerate(completions):
        count = 100 if number % 2 else completion.chunks
        assert count > 10
        assert completion.text == text_of(1000 * number, count)
        assert completion.error == ""
        assert completion.ending == ("" if number % 2 else "stopped by you")


def test_answers_in_turn_go_over_one_connection_and_take_no_more_memory():
    def script(exchange):
        exchange.reply(200, events(number_of(exchange), 20) + END % 20, content_type="text/event-stream")
        server.requests.clear()

    with nothing_left_behind(), ScriptedServer(script) as server:
        for number in range(IN_TURN):
            if number == WARM:
                gc.collect()
                warm = sys.getallocatedblocks()
            with answer_of(server, number) as answer:
                assert "".join(chunk.text for chunk in answer) == text_of(number, 20)
        del answer
        gc.collect()
        grown = sys.getallocatedblocks() - warm
        assert server.connections == 1
    assert grown < IN_TURN - WARM  # not even a block for each answer


def test_of_very_many_tokens_none_is_lost_and_they_take_little_more_than_their_text():
    def script(exchange):
        exchange.chunked()
        for first in range(0, MANY, BLOCK):
            exchange.send(events(first, BLOCK))
        exchange.send(END % MANY)

    def write(chunks):
        drawn.append(sum(len(chunk.text) for chunk in chunks))

    text, drawn, wiretap = text_of(0, MANY), [], Wiretap()
    view = SimpleNamespace(start=lambda _: None, write=write, finish=lambda *_: None)
    with nothing_left_behind(), ScriptedServer(script) as server:
        answer = answer_of(server)
        answer.wiretap = wiretap
        tracemalloc.start()
        try:
            completion = driver.run(answer, view, keep=lambda _: None)  # one thread reads, another draws
            held, most = tracemalloc.get_traced_memory()
            assert completion.text == text
            assert completion.chunks == completion.usage.completion_tokens == MANY
            assert sum(drawn) == len(text)
            assert wiretap.count == 2 * (MANY + 2)  # an event is two lines; the end and the terminator are two more
            kept = wiretap.since(0)
            assert len(kept) == KEPT
            assert max(len(line.text) for line in kept) < LONGEST
            del answer, completion, wiretap, kept
            gc.collect()
            left, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    # The text is held twice when it is joined, and its last pieces apart: far from an object a token.
    assert most < 10 * len(text)
    assert held < 5 * len(text)
    assert left < len(text) / 2
