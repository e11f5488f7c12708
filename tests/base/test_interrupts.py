"""`together_nb.base.interrupts`: Ctrl-C put off, and told in a line."""

import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from together_nb.base.cancellation import cancel_with_scope
from together_nb.base.interrupts import call_interruptibly, defer_interrupts, interrupt_message


def ctrl_c():
    signal.raise_signal(signal.SIGINT)


def in_a_thread(call):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()


def test_a_ctrl_c_within_is_seen_by_inner_blocks_too_and_raised_once_at_the_end_of_each():
    seen, before = [], signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), defer_interrupts() as outer:  # noqa: PT012
        assert signal.getsignal(signal.SIGINT) is not before
        seen.append(bool(outer))
        ctrl_c()
        ctrl_c()
        seen.append(bool(outer))
        with defer_interrupts() as inner:
            seen.append(bool(inner))
        seen.append("not reached")
    assert seen == [False, True, True]
    assert signal.getsignal(signal.SIGINT) is before


def test_an_error_of_the_block_is_not_hidden_by_a_ctrl_c():
    with pytest.raises(ValueError, match="mine"), defer_interrupts():  # noqa: PT012
        ctrl_c()
        raise ValueError("mine")


def test_another_thread_is_left_alone_and_ctrl_c_that_is_ignored_stays_so():
    usual = signal.getsignal(signal.SIGINT)

    def handler_within():
        with defer_interrupts():
            return signal.getsignal(signal.SIGINT)

    assert in_a_thread(handler_within) is usual
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with defer_interrupts():
            ctrl_c()
    finally:
        signal.signal(signal.SIGINT, usual)


def test_the_innermost_words_are_told():
    with pytest.raises(KeyboardInterrupt) as caught, interrupt_message("outer"), interrupt_message("inner"):
        raise KeyboardInterrupt
    assert caught.value._render_traceback_() == ["KeyboardInterrupt: inner"]


def test_what_is_asked_interruptibly_is_returned_and_its_error_raised():
    assert call_interruptibly(threading.current_thread) is not threading.main_thread()
    assert in_a_thread(lambda: call_interruptibly(threading.current_thread) is threading.current_thread())
    with pytest.raises(ValueError, match="mine"):
        call_interruptibly(lambda: int("mine"))


def test_ctrl_c_ends_what_was_begun_interruptibly():
    class Work(threading.Event):
        cancel = threading.Event.set

    work, threads = Work(), []

    def ask():
        cancel_with_scope(work)
        threads.append(threading.current_thread())
        ctrl_c()
        work.wait(20)

    with pytest.raises(KeyboardInterrupt):
        call_interruptibly(ask)
    assert work.is_set()
    threads[0].join(20)
    assert not threads[0].is_alive()
