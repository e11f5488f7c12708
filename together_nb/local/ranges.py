"""The numbers that a schema allows, and random ones among them."""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from together_nb.local.validity import is_multiple

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from together_nb.local.flat_schema import Flat

_SPAN = 100  # from the least number to the greatest, if the schema leaves a bound open
_FINEST = Fraction(1, 10**15)
_TRIES = 100


@dataclass(frozen=True)
class Numbers:
    """A multiple of `step` from ``low * step`` to ``high * step``."""

    low: int
    high: int
    step: Fraction
    whole: bool
    of: float | None = None

    def draw(self, dice: random.Random, without: AbstractSet[str] = frozenset()) -> str | None:
        """Draw a number that is not in `without`, as JSON; None if none is found."""
        count = self.high - self.low + 1
        start = dice.randrange(count)
        for offset in range(min(count, _TRIES + len(without))):
            # In order from a random start, so that a single remaining number is found too.
            text = self._text(self.low + (start + offset) % count)
            if text not in without and (self.of is None or is_multiple(json.loads(text), self.of)):
                return text
        return None

    def _text(self, number: int) -> str:
        value = number * self.step
        return str(int(value)) if self.whole or abs(value) > 1 / _FINEST else repr(float(value))


def numbers_of(flat: Flat, *, whole: bool) -> Numbers | None:
    """The numbers of a flat schema, in finer steps if few lie between the bounds.

    None if there is no such number.
    """
    of = flat.get("multipleOf")
    step = Fraction(1, 1 if whole else 10) if of is None else Fraction(str(of))
    if whole:
        step = Fraction(step.numerator)
    while True:
        low, high = _bounds(flat, step)
        fine = whole or of is not None or step <= _FINEST
        if fine or high - low >= 9:  # noqa: PLR2004  (ten numbers to draw from)
            break
        step /= 10
    if low > high:
        return None
    numbers = Numbers(low, high, step, whole, of)
    return numbers if numbers.draw(random.Random(0)) else None


def _bounds(flat: Flat, step: Fraction) -> tuple[int, int]:
    """The least and the greatest multiple of `step`, as numbers of steps."""
    lows = [math.ceil(Fraction(str(flat["minimum"])) / step)] if "minimum" in flat else []
    highs = [math.floor(Fraction(str(flat["maximum"])) / step)] if "maximum" in flat else []
    if "exclusiveMinimum" in flat:
        lows.append(math.floor(Fraction(str(flat["exclusiveMinimum"])) / step) + 1)
    if "exclusiveMaximum" in flat:
        highs.append(math.ceil(Fraction(str(flat["exclusiveMaximum"])) / step) - 1)
    span = max(math.floor(_SPAN / step), 9)
    low = max(lows) if lows else min(0, min(highs) - span) if highs else 0
    return low, min(highs) if highs else low + span
