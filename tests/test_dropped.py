"""A stream that nobody holds any more ends its request, with no help of the cyclic garbage collector."""

from __future__ import annotations

import contextlib
import gc

import pytest

from tests.servers import PATIENCE, ScriptedServer, endless, silent
from together_nb import ledger, stream

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True)
def _no_cyclic_collector():
    gc.disable()
    yield
    gc.enable()


def ask(server):
    return stream("Tell", base_url=server.base_url, model="test/chat", api="chat")


def leave_the_loop(server):
    for _ in ask(server):
        break


def leave_it_by_an_error(server):
    def loop():
        for _ in ask(server):
            raise LookupError

    with pytest.raises(LookupError) as kept:  # with its traceback
        loop()
    assert server.closed.wait(PATIENCE)
    assert kept.value


def leave_it_by_an_error_with_a_name(server):
    def loop():
        answer = ask(server)
        for _ in answer:
            raise LookupError

    with contextlib.suppress(LookupError):  # which keeps nothing of it, unlike pytest's
        loop()


def drop_the_name(server):
    answer = ask(server)
    next(answer)
    del answer


def drop_what_goes_over_it(server):
    texts = (chunk.text for chunk in ask(server))
    next(texts)
    del texts


def take_the_first(server):
    next(iter(ask(server)))


def unpack(server):
    first, *_ = zip(ask(server), range(3), strict=False)
    assert first


@pytest.mark.parametrize(
    "leave",
    [
        leave_the_loop,
        leave_it_by_an_error,
        leave_it_by_an_error_with_a_name,
        drop_the_name,
        drop_what_goes_over_it,
        take_the_first,
        unpack,
    ],
)
def test_the_request_ends(leave):
    with ScriptedServer(endless("word ", rate=200)) as server:
        leave(server)
        assert server.closed.wait(PATIENCE)


def test_what_came_of_it_is_noted_as_spent():
    with ScriptedServer(endless("word ", rate=200)) as server:
        leave_the_loop(server)
    assert [(row.calls, row.uncounted) for row in ledger.rows] == [(1, 1)]


def test_one_that_was_never_read_asks_for_nothing():
    with ScriptedServer(silent()) as server:
        ask(server)
        assert server.requests == []


def test_one_that_is_held_can_be_read_on():
    with ScriptedServer(endless("word ", rate=200)) as server:
        answer = ask(server)
        for _ in answer:
            break
        assert next(answer).text == "word "
        assert not server.closed.is_set()
        answer.cancel()
