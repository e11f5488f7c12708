"""No reply keeps the kernel busy for longer than its length."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.linear import LIMIT, ROWS

ROOT = Path(__file__).parents[1]


def seconds_of(names):
    """Processor time of each, of as many as were done before one took too long."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.linear", *names], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False,
        timeout=2 * LIMIT * len(names),
    )  # fmt: skip
    return {name: float(seconds) for name, seconds in (line.split("\t") for line in done.stdout.splitlines())}


@pytest.mark.timeout(2 * LIMIT * len(ROWS))
def test_what_is_done_with_a_reply_takes_a_time_that_grows_with_its_length():
    left, slow = list(ROWS), {}
    while left:
        took = seconds_of(left)
        if len(took) < len(left):
            took[left[len(took)]] = float("inf")
        slow |= {name: seconds for name, seconds in took.items() if seconds > LIMIT}
        left = left[len(took) :]
    assert slow == {}
