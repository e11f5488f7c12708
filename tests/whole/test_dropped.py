"""A stream that nobody holds any more ends its request, with no help of the cyclic garbage collector."""

import contextlib
import gc

import pytest

import together_nb
from tests.servers import PATIENCE, ScriptedServer, endless


@pytest.fixture
def server():
    gc.disable()
    try:
        with ScriptedServer(endless("word ", rate=200)) as server:
            yield server
    finally:
        gc.enable()


def open_stream(server):
    return together_nb.stream("Tell", base_url=server.base_url, model="test/chat", api="chat")


def leave_the_loop(server):
    for _ in open_stream(server):
        break


def leave_it_by_an_error(server):
    def loop():
        for _ in open_stream(server):
            raise LookupError

    with pytest.raises(LookupError) as _kept:  # with its traceback
        loop()
    assert server.closed.wait(PATIENCE)


def leave_a_named_one_by_error(server):
    with contextlib.suppress(LookupError):  # which keeps nothing of it, unlike pytest's
        answer = open_stream(server)
        for _ in answer:
            raise LookupError


def drop_a_generator(server):
    texts = (chunk.text for chunk in open_stream(server))
    next(texts)


@pytest.mark.parametrize("leave", [leave_the_loop, leave_it_by_an_error, leave_a_named_one_by_error, drop_a_generator])
def test_the_request_ends_and_what_came_of_it_is_noted_as_spent(leave, server):
    leave(server)
    assert server.closed.wait(PATIENCE)
    assert [(row.calls, row.uncounted) for row in together_nb.ledger.rows] == [(1, 1)]


def test_one_that_is_held_can_be_read_on(server):
    answer = open_stream(server)
    for _ in answer:
        break
    assert (next(answer).text, server.closed.is_set()) == ("word ", False)
    answer.cancel()
