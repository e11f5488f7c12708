"""`together_nb.base.cancellation`: what is begun within can be ended from outside."""

import threading

import together_nb
from tests.servers import PATIENCE, ScriptedServer, silent
from together_nb.base.cancellation import CancelScope, cancel_with_scope
from together_nb.wire.retry import Wait, listen_to_waits


class Work:
    cancelled = 0

    def cancel(self):
        self.cancelled += 1


def test_ending_a_scope_ends_all_that_joined_within_it_and_what_joins_later_at_once_and_nothing_around_it():
    inner, outer = CancelScope(), CancelScope()
    alone, around, one, other, after, late = works = [Work() for _ in range(6)]
    cancel_with_scope(alone)
    with outer:
        cancel_with_scope(around)
        with inner:
            cancel_with_scope(one)
            cancel_with_scope(other)
        cancel_with_scope(after)
    assert not inner.cancelled
    inner.cancel()
    assert inner.cancelled
    with inner:
        cancel_with_scope(late)
    cancel_with_scope(alone)
    assert [work.cancelled for work in works] == [0, 0, 1, 1, 0, 1]
    outer.cancel()
    assert [work.cancelled for work in works] == [0, 1, 2, 2, 1, 2]


def test_a_wait_in_a_scope_that_was_ended_is_neither_told_nor_waited_for():
    scope, notices = CancelScope(), []
    scope.cancel()
    with scope, listen_to_waits(notices.append):
        assert not Wait("busy", 60).sit_out()
    assert notices == []


def test_a_stream_that_is_opened_within_ends_with_it():
    with ScriptedServer(silent()) as server, CancelScope() as scope:
        chunks = together_nb.stream("Tell", base_url=server.base_url, model="test/chat", api="chat")
        reader = threading.Thread(target=lambda: list(chunks))
        reader.start()
        assert server.arrived.wait(PATIENCE)
        scope.cancel()
        reader.join(PATIENCE)
        assert not reader.is_alive()
        assert server.closed.wait(PATIENCE)
    assert chunks.completion.cancelled
