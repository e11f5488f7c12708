"""`together_nb.scope`: what is begun within can be ended from outside."""

from __future__ import annotations

import threading

from tests.servers import PATIENCE, ScriptedServer, silent
from together_nb import settings, stream
from together_nb.errors import APIConnectionError
from together_nb.resolve import models
from together_nb.retry import Wait, told_to
from together_nb.scope import Scope, joins


class Doing:
    def __init__(self):
        self.cancelled = 0

    def cancel(self):
        self.cancelled += 1


def test_all_that_joined_is_ended():
    one, other, scope = Doing(), Doing(), Scope()
    with scope:
        joins(one)
        joins(other)
    scope.cancel()
    assert (one.cancelled, other.cancelled, scope.cancelled) == (1, 1, True)


def test_what_joins_a_scope_that_was_ended_is_ended_at_once():
    doing, scope = Doing(), Scope()
    scope.cancel()
    with scope:
        joins(doing)
    assert doing.cancelled == 1


def test_ending_a_scope_ends_those_within_and_not_those_around():
    inner, outer, within, around = Scope(), Scope(), Doing(), Doing()
    with outer:
        joins(around)
        with inner:
            joins(within)
        joins(after := Doing())
    inner.cancel()
    assert (within.cancelled, around.cancelled, after.cancelled) == (1, 0, 0)
    outer.cancel()
    assert (within.cancelled, around.cancelled, after.cancelled) == (2, 1, 1)


def test_without_a_scope_nothing_is_ended():
    doing = Doing()
    joins(doing)
    assert doing.cancelled == 0


def test_a_wait_in_a_scope_that_was_ended_is_neither_told_nor_waited_for():
    scope, told = Scope(), []
    scope.cancel()
    with scope, told_to(told.append):
        assert not Wait("busy", 60).sit_out()
    assert told == []


def test_a_list_of_models_is_not_waited_for_once_its_scope_is_ended():
    scope, failures = Scope(), []

    def ask():
        with scope:
            try:
                models()
            except APIConnectionError as error:
                failures.append(error)

    with ScriptedServer(silent(), models=silent()) as server:
        settings.base_url = server.base_url
        thread = threading.Thread(target=ask)
        thread.start()
        while not server.list_requests:
            server.arrived.wait(0.01)
        scope.cancel()
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert len(failures) == 1


def test_a_stream_that_is_opened_within_ends_with_it():
    with ScriptedServer(silent()) as server, Scope() as scope:
        opened = stream("Tell", base_url=server.base_url, model="test/chat", api="chat")
        reader = threading.Thread(target=lambda: list(opened))
        reader.start()
        assert server.arrived.wait(PATIENCE)
        scope.cancel()
        reader.join(PATIENCE)
        assert not reader.is_alive()
        assert server.closed.wait(PATIENCE)
    assert opened.completion.cancelled
