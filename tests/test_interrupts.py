"""`together_nb.interrupts`: Ctrl-C put off, and told in a line."""

from __future__ import annotations

import signal
import threading

import pytest

from together_nb.interrupts import interruptible, put_off, told
from together_nb.scope import joins


def test_a_ctrl_c_within_is_raised_at_the_end():
    done = []
    with pytest.raises(KeyboardInterrupt), put_off():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        done.append("the block went on")
    assert done == ["the block went on"]


def test_afterwards_ctrl_c_is_what_it_was():
    before = signal.getsignal(signal.SIGINT)
    with put_off():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_the_block_can_look_whether_there_was_one():
    seen = []
    with pytest.raises(KeyboardInterrupt), put_off() as came:  # noqa: PT012
        seen.append(bool(came))
        signal.raise_signal(signal.SIGINT)
        seen.append(bool(came))
    assert seen == [False, True]


def test_a_block_within_another_sees_what_came_before_it_and_raises_it_once():
    seen = []
    with pytest.raises(KeyboardInterrupt), put_off():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        with put_off() as came:
            seen.append(bool(came))
        seen.append("not reached")
    assert seen == [True]


def test_an_error_of_the_block_is_not_hidden_by_a_ctrl_c():
    with pytest.raises(ValueError, match="mine"), put_off():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        raise ValueError("mine")


def test_another_thread_is_left_alone():
    seen = []

    def work():
        with put_off():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]


def test_the_innermost_words_are_told():
    with pytest.raises(KeyboardInterrupt) as caught, told("outer"), told("inner"):
        raise KeyboardInterrupt
    assert caught.value._render_traceback_() == ["KeyboardInterrupt: inner"]


def test_where_ctrl_c_is_ignored_it_stays_ignored():
    usual = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with put_off():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, usual)


def test_what_is_asked_interruptibly_is_returned_and_its_error_raised():
    assert interruptible(lambda: 1 + 1) == 2
    with pytest.raises(ValueError, match="mine"):
        interruptible(lambda: int("mine"))


def test_a_thread_of_its_own_asks_so_that_ctrl_c_is_obeyed_and_ends_what_was_begun():
    class Doing(threading.Event):
        def cancel(self):
            self.set()

    doing, asked = Doing(), []

    def ask():
        joins(doing)
        asked.append(threading.current_thread())
        signal.raise_signal(signal.SIGINT)
        doing.wait(20)

    with pytest.raises(KeyboardInterrupt):
        interruptible(ask)
    assert doing.is_set()
    asked[0].join(20)
    assert not asked[0].is_alive()
    assert asked[0] is not threading.main_thread()


def test_another_thread_asks_by_itself():
    asked = []
    thread = threading.Thread(target=lambda: asked.append(interruptible(threading.current_thread)))
    thread.start()
    thread.join()
    assert asked == [thread]
