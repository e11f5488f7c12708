"""Many streams at once, many one after the other, and a very long one: all is there, and nothing stays behind.

The figures are printed: ``python -m pytest tests/test_load.py -rP``.
"""

from __future__ import annotations

import gc
import itertools
import os
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import pytest

from tests.servers import PATIENCE, ScriptedServer
from together_nb import session, stream, transport
from together_nb.wiretap import KEPT, LONGEST, Wiretap

pytestmark = pytest.mark.timeout(150)

AT_ONCE = 64
TOKENS_EACH = 100
IN_TURN = 1000
WARM = 200  # of those in turn: what is made once has been made by then
AN_HOUR = 500_000  # tokens, at 140 a second
BLOCK = 500  # tokens that are sent at a time

EVENT = b'data: {"id":"l-1","object":"chat.completion.chunk","created":1,"model":"test/chat","choices":[{"index":0,"delta":{"role":"assistant","content":" %d"},"logprobs":null,"finish_reason":null}],"usage":null}\n\n'
END = b'data: {"id":"l-1","choices":[{"index":0,"delta":{"content":""},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":%d,"total_tokens":%d}}\n\ndata: [DONE]\n\n'


def events(first, count):
    return b"".join([EVENT % number for number in range(first, first + count)])


def end(count):
    return END % (count, count + 1)


def counted(first, count):
    """The text of these tokens."""
    return "".join([f" {number}" for number in range(first, first + count)])


def asked(server, prompt="Count"):
    return stream(prompt, base_url=server.base_url, model="test/chat", api="chat")


def prompt_of(exchange):
    return int(exchange.request.json()["messages"][0]["content"])


def megabytes():
    """Memory of this process: now where the system tells, else the most it has been."""
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    resource = pytest.importorskip("resource")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def blocks():
    """Pieces of memory that Python's objects are in."""
    gc.collect()
    return sys.getallocatedblocks()


def descriptors():
    """Open files and sockets, where the system tells."""
    listed = Path("/proc/self/fd")
    return sum(1 for _ in listed.iterdir()) if listed.exists() else 0


def let_go_of_idle_connections():
    """Those that a server left open, which are kept for the next request."""
    transport._session().close()


@contextmanager
def nothing_left_behind():
    """Afterwards there are as many threads and descriptors as before."""
    let_go_of_idle_connections()
    threads, open_before, memory, begun = set(threading.enumerate()), descriptors(), megabytes(), perf_counter()
    yield
    took, kept = perf_counter() - begun, descriptors()
    let_go_of_idle_connections()
    print(f"{took:.1f} s; memory {memory:.0f} MB before, {megabytes():.0f} MB after")
    print(f"descriptors: {open_before} before, {kept} after, {descriptors()} without idle connections")
    print(f"threads: {len(threads)} before, {threading.active_count()} after")
    # Fewer, where something of an earlier test has ended meanwhile.
    assert set(threading.enumerate()) <= threads
    assert descriptors() <= open_before


@contextmanager
def at_once(target):
    """`target(number)` in as many threads, all of them over when the block is left."""
    failures = []

    def run(number):
        try:
            target(number)
        except BaseException as error:  # noqa: BLE001  (raised again below)
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    for failure in failures:
        raise failure


def test_sixty_four_streams_at_once_each_have_their_own_answer_whole():
    all_begun = threading.Barrier(AT_ONCE)
    answers = {}

    def script(exchange):
        first = 1000 * prompt_of(exchange)
        exchange.chunked().send(events(first, 1))
        all_begun.wait(PATIENCE)  # broken, and so a failure, where not all can be under way at once
        for number in range(first + 1, first + TOKENS_EACH):
            exchange.send(events(number, 1))
        exchange.send(end(TOKENS_EACH))

    def read(number):
        with asked(server, str(number)) as answer:
            pieces = [chunk.text for chunk in answer if chunk.text]
            answers[number] = pieces, answer.completion

    with nothing_left_behind():
        with ScriptedServer(script) as server, at_once(read):
            pass
        assert server.connections == AT_ONCE
    for number in range(AT_ONCE):
        pieces, completion = answers[number]
        assert pieces == [f" {token}" for token in range(1000 * number, 1000 * number + TOKENS_EACH)]
        assert completion.text == "".join(pieces)
        assert (completion.usage.completion_tokens, completion.error) == (TOKENS_EACH, "")


def test_sixty_four_streams_that_are_all_stopped_midway_keep_their_part_and_close():
    begun, closed = threading.Semaphore(0), threading.Semaphore(0)
    answers = {}

    def script(exchange):
        exchange.chunked()
        try:
            for first in itertools.count():
                exchange.send(events(first, 1))
                # Half of them are stopped in mid-talk, half in a silence.
                exchange.wait(3600 if first > 10 and prompt_of(exchange) % 2 else 0.002)
        finally:
            closed.release()

    def read(number):
        answers[number] = asked(server, str(number))
        for chunks, _ in enumerate(answers[number]):
            if chunks == 10:
                begun.release()

    with nothing_left_behind(), ScriptedServer(script) as server:
        with at_once(read):
            for _ in range(AT_ONCE):
                assert begun.acquire(timeout=PATIENCE)
            for answer in answers.values():
                answer.cancel()
        for _ in range(AT_ONCE):
            assert closed.acquire(timeout=PATIENCE)
    for answer in answers.values():
        completion = answer.completion
        assert completion.ending == "stopped by you"
        assert completion.chunks > 10
        assert completion.text == counted(0, completion.chunks)


def test_a_thousand_answers_in_turn_go_over_one_connection_and_take_no_more_memory():
    def script(exchange):
        first = prompt_of(exchange)
        exchange.reply(200, events(first, 20) + end(20), content_type="text/event-stream")
        server.requests.clear()

    with nothing_left_behind(), ScriptedServer(script) as server:
        for number in range(IN_TURN):
            if number == WARM:
                warm, warm_megabytes = blocks(), megabytes()
            with asked(server, str(number)) as answer:
                assert "".join(chunk.text for chunk in answer) == counted(number, 20)
        del answer
        grown, grown_megabytes = blocks() - warm, megabytes() - warm_megabytes
        print(f"from answer {WARM} to {IN_TURN}: {grown:+,} blocks, {grown_megabytes:+.1f} MB")
        print(f"connections: {server.connections}")
        assert server.connections == 1
    # Not even a block for each answer.
    assert grown < IN_TURN - WARM
    assert grown_megabytes < 20


def an_hour(exchange):
    exchange.chunked()
    for first in range(0, AN_HOUR, BLOCK):
        exchange.send(events(first, BLOCK))
    exchange.send(end(AN_HOUR))


class _Watching:
    """A view that draws nothing."""

    def __init__(self):
        self.letters = 0
        self.most_megabytes = 0.0

    def start(self, _):
        """Nothing is shown."""

    def write(self, chunks):
        self.letters += sum(len(chunk.text) for chunk in chunks)
        self.most_megabytes = max(self.most_megabytes, megabytes())

    def finish(self, *_):
        """Nothing is left."""


def test_of_an_hours_worth_of_tokens_none_is_lost_and_they_take_little_more_than_their_text():
    """As under a cell: one thread reads, another one draws."""
    text = counted(0, AN_HOUR)
    wiretap, view = Wiretap(), _Watching()

    with nothing_left_behind(), ScriptedServer(an_hour) as server:
        before, before_megabytes = blocks(), megabytes()
        answer = asked(server)
        answer.wiretap = wiretap
        begun = perf_counter()
        completion = session.run(answer, view, keep=lambda _: None)
        took = perf_counter() - begun
        assert completion.text == text
        assert completion.chunks == completion.usage.completion_tokens == AN_HOUR
        assert view.letters == len(text)
        # An event is two lines, and the end and the terminator are two more events.
        assert wiretap.count == 2 * (AN_HOUR + 2)
        kept = wiretap.since(0)
        assert len(kept) == KEPT
        assert max(len(line.text) for line in kept) < LONGEST
        held = blocks() - before
        del answer, completion, wiretap, kept
        left = blocks() - before
        print(
            f"{AN_HOUR:,} tokens, {len(text) / 1e6:.1f} MB of text: {1e6 * took / AN_HOUR:.1f} µs a token, server and all"
        )
        print(f"memory: {before_megabytes:.0f} MB before, {view.most_megabytes:.0f} MB at most while they came")
        print(f"blocks: {held:+,} with the answer, {left:+,} without")
    # The text is held twice when it is joined, and its last pieces apart: far from an object a token.
    assert view.most_megabytes - before_megabytes < 10 * len(text) / 1e6
    assert held < AN_HOUR / 10
    assert left < AN_HOUR / 100
