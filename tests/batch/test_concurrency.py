"""`together_nb.batch.concurrency`: a batch slows down together, once for each refusal, and finds its way up again."""

from unittest.mock import Mock

import pytest

from together_nb.batch.concurrency import Concurrency


@pytest.fixture
def clock():
    """A clock that is set by hand."""
    one = Mock(now=100.0)
    one.side_effect = lambda: one.now
    return one


def refuse(pace, clock, seconds):
    """A request that begins a second later is refused."""
    clock.now += 1
    pace.refused(pace.begun(), seconds)


def test_a_refusal_closes_the_gate_for_all_until_the_longest_wait_is_over(clock):
    pace = Concurrency(8, clock)
    assert [pace.has_room(under_way) for under_way in (0, 7, 8, 9)] == [True, True, False, False]
    begun = pace.begun()
    for seconds, closed in ((7, 7), (2, 7), (9, 9)):
        pace.refused(begun, seconds)
        assert pace.closed == closed
    for passed, left in ((8.5, 0.5), (0.5, 0), (1, 0)):
        clock.now += passed
        assert (pace.closed, pace.has_room(0)) == (left, not left)


def test_refusals_of_what_was_under_way_together_halve_once_however_late_they_come(clock):
    pace = Concurrency(8, clock)
    begun = [pace.begun() for _ in range(8)]
    clock.now += 1
    for one in begun[1:]:
        pace.refused(one, 5)
    clock.now += 6
    pace.refused(begun[0], 5)
    assert (pace.at_once, pace.closed) == (4, 5)


def test_each_further_refusal_halves_again_down_to_one(clock):
    pace = Concurrency(8, clock)
    for at_once in (4, 2, 1, 1, 1):
        refuse(pace, clock, 0.5)
        assert pace.at_once == at_once
    clock.now += 1
    assert pace.has_room(0)


def test_it_grows_by_one_after_as_many_successes_as_are_at_once(clock):
    pace = Concurrency(8, clock)
    refuse(pace, clock, 1)
    clock.now += 1
    seen = []
    for _ in range(4 + 5 + 6 + 7 + 8):
        pace.succeeded(pace.begun())
        seen.append(pace.at_once)
    assert seen == [4] * 3 + [5] * 5 + [6] * 6 + [7] * 7 + [8] * 9


def test_successes_of_before_a_refusal_count_for_nothing(clock):
    pace = Concurrency(8, clock)
    before = pace.begun()
    refuse(pace, clock, 0)
    for _ in range(5):
        pace.succeeded(before)
    assert pace.at_once == 4
    clock.now += 1
    pace.succeeded(pace.begun())  # one of the four that it takes
    refuse(pace, clock, 0)
    clock.now += 1
    seen = []
    for _ in range(2):
        pace.succeeded(pace.begun())
        seen.append(pace.at_once)
    assert seen == [2, 3]
