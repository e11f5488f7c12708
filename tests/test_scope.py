"""`together_nb.scope`: what is begun within can be ended from outside."""

from __future__ import annotations

import threading

from tests.servers import PATIENCE, ScriptedServer, silent
from together_nb import stream
from together_nb.retry import Wait, told_to
from together_nb.scope import Scope, joins


class Work:
    cancelled = 0

    def cancel(self):
        self.cancelled += 1


def test_all_that_joined_is_ended_and_what_joins_later_at_once():
    one, other, late, alone, scope = Work(), Work(), Work(), Work(), Scope()
    joins(alone)
    with scope:
        joins(one)
        joins(other)
    assert not scope.cancelled
    scope.cancel()
    with scope:
        joins(late)
    joins(alone)
    assert [work.cancelled for work in (one, other, late, alone)] == [1, 1, 1, 0]
    assert scope.cancelled


def test_ending_a_scope_ends_those_within_and_not_those_around():
    inner, outer, within, around, after = Scope(), Scope(), Work(), Work(), Work()
    with outer:
        joins(around)
        with inner:
            joins(within)
        joins(after)
    inner.cancel()
    assert (within.cancelled, around.cancelled, after.cancelled) == (1, 0, 0)
    outer.cancel()
    assert (within.cancelled, around.cancelled, after.cancelled) == (2, 1, 1)


def test_a_wait_in_a_scope_that_was_ended_is_neither_told_nor_waited_for():
    scope, notices = Scope(), []
    scope.cancel()
    with scope, told_to(notices.append):
        assert not Wait("busy", 60).sit_out()
    assert notices == []


def test_a_stream_that_is_opened_within_ends_with_it():
    with ScriptedServer(silent()) as server, Scope() as scope:
        chunks = stream("Tell", base_url=server.base_url, model="test/chat", api="chat")
        reader = threading.Thread(target=lambda: list(chunks))
        reader.start()
        assert server.arrived.wait(PATIENCE)
        scope.cancel()
        reader.join(PATIENCE)
        assert not reader.is_alive()
        assert server.closed.wait(PATIENCE)
    assert chunks.completion.cancelled
