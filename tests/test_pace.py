"""`together_nb.pace`: a batch slows down together, once for each refusal, and finds its way up again."""

from __future__ import annotations

import pytest

from together_nb.pace import Pace


class Clock:
    """A clock that is set by hand."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def passes(self, seconds):
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


def test_it_begins_with_the_most(clock):
    pace = Pace(8, clock)
    assert pace.at_once == 8
    assert [pace.has_room(under_way) for under_way in (0, 7, 8, 9)] == [True, True, False, False]


def test_a_refusal_closes_the_gate_for_all_until_its_wait_is_over(clock):
    pace = Pace(8, clock)
    begun = pace.begun()
    clock.passes(1)
    pace.refused(begun, 7)
    assert (pace.closed, pace.has_room(0)) == (7, False)
    clock.passes(6.5)
    assert (pace.closed, pace.has_room(0)) == (0.5, False)
    clock.passes(0.5)
    assert (pace.closed, pace.has_room(0)) == (0, True)


def test_the_longest_wait_counts(clock):
    pace = Pace(8, clock)
    begun = pace.begun()
    pace.refused(begun, 7)
    pace.refused(begun, 2)
    assert pace.closed == 7
    pace.refused(begun, 9)
    assert pace.closed == 9


def test_refusals_of_what_was_under_way_together_halve_once(clock):
    pace = Pace(8, clock)
    begun = [pace.begun() for _ in range(8)]
    clock.passes(1)
    for one in begun:
        pace.refused(one, 5)
    assert pace.at_once == 4


def test_one_that_comes_after_the_wait_of_those_it_began_with_halves_nothing(clock):
    pace = Pace(8, clock)
    early, late = pace.begun(), pace.begun()
    clock.passes(1)
    pace.refused(early, 5)
    clock.passes(6)
    pace.refused(late, 5)
    assert (pace.at_once, pace.closed) == (4, 5)


def test_each_further_refusal_halves_again_down_to_one(clock):
    pace = Pace(8, clock)
    seen = []
    for _ in range(5):
        clock.passes(1)
        begun = pace.begun()
        pace.refused(begun, 0.5)
        seen.append(pace.at_once)
    assert seen == [4, 2, 1, 1, 1]
    clock.passes(1)
    assert pace.has_room(0)


def test_it_grows_by_one_after_as_many_successes_as_are_at_once(clock):
    pace = Pace(8, clock)
    pace.refused(pace.begun(), 1)
    clock.passes(1)
    seen = []
    for _ in range(4 + 5 + 6 + 7 + 8):
        pace.succeeded(pace.begun())
        seen.append(pace.at_once)
    assert seen == [4] * 3 + [5] * 5 + [6] * 6 + [7] * 7 + [8] * 9


def test_successes_of_before_the_refusal_count_for_nothing(clock):
    pace = Pace(2, clock)
    before = pace.begun()
    clock.passes(1)
    pace.refused(before, 1)
    assert pace.at_once == 1
    for _ in range(5):
        pace.succeeded(before)
    assert pace.at_once == 1
    clock.passes(1)
    pace.succeeded(pace.begun())
    assert pace.at_once == 2


def test_a_refusal_takes_back_the_successes_counted_so_far(clock):
    pace = Pace(4, clock)
    clock.passes(1)
    pace.refused(pace.begun(), 0)
    clock.passes(1)
    pace.succeeded(pace.begun())  # one of the two that it takes
    pace.refused(pace.begun(), 0)
    clock.passes(1)
    assert pace.at_once == 1
    pace.succeeded(pace.begun())
    assert pace.at_once == 2
    pace.succeeded(pace.begun())
    assert pace.at_once == 2
