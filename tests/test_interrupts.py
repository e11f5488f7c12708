"""`together_nb.interrupts`: Ctrl-C put off, and told in a line."""

from __future__ import annotations

import signal
import threading

import pytest

from together_nb.interrupts import put_off, told


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
