"""What something costs by how much there is already, and how much of that is growth."""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import median

from tests.benchmarks.figures import Check, Row, short

_TARGET = 1.5  # times as much as at the beginning


class Curve:
    """What something costs, by how much there is already."""

    def __init__(self) -> None:
        self._at: dict[int, list[float]] = defaultdict(list)

    def add(self, size: int, values: Iterable[float]) -> None:
        """Add what was measured at a size; the sizes come in order."""
        self._at[size] += values

    @property
    def medians(self) -> dict[int, float]:
        return {size: median(values) for size, values in self._at.items()}

    @property
    def text(self) -> str:
        first, *more = (f"{size:,}: {short(value)}" for size, value in self.medians.items())
        return "; ".join((f"at {first}", *more))

    def each(self) -> "Curve":
        """Of a sum: what one more added to it, from each size to the next."""
        steps = Curve()
        for (before, less), (size, value) in itertools.pairwise(self.medians.items()):
            steps.add(size, [(value - less) / (size - before)])
        return steps

    def beside(self, peer: "Curve") -> "Curve":
        """How many times as much as the peer's, round by round."""
        ratios = Curve()
        for size, values in self._at.items():
            ratios.add(size, [mine / its for mine, its in zip(values, peer._at[size], strict=True)])
        return ratios

    def check(self, what: str = "") -> Check:
        """How many times as much it is at the end as at the beginning."""
        (first, before), *_, (_, after) = self.medians.items()
        return Check(f"times as at {first:,}{what}", after / before, _TARGET)


class Curves(defaultdict[str, Curve]):
    """Curves of the same sizes, by name."""

    def __init__(self) -> None:
        super().__init__(Curve)

    def add(self, size: int, values: Mapping[str, float]) -> None:
        """Add what was measured at a size."""
        for name, value in values.items():
            self[name].add(size, [value])

    def rows(self, figures: Mapping[str, str]) -> list[Row]:
        """A row for each of `figures`, which are what to call a curve, by its name."""
        return [Row(told, self[name].text, checks=[self[name].check()]) for name, told in figures.items()]


def summed_up(title: str, rows: Sequence[Row]) -> list[Row]:
    """The first row's figure with the worst growth of all of them; then they themselves, as details."""
    growth = {row.figure: check.value for row in rows for check in row.checks}
    worst = max(growth, key=growth.__getitem__)
    check = Check(f"times at most, of {len(growth)} costs ({worst})", growth[worst], _TARGET)
    return [
        replace(rows[0], figure=f"{title}: {rows[0].figure}", checks=[check]),
        *(replace(row, figure=f"{title}, in detail: {row.figure}", detail=True) for row in rows),
    ]
