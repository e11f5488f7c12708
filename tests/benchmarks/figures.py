"""The rows of the table: a figure, what its peers have, and what it is to be."""

import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

_T = TypeVar("_T")
OURS = "together_nb"
RESULTS = Path(__file__).parent / "results.json"  # of the run that stands in README.md beside it


@dataclass
class Bench:
    """What the figures are measured with."""

    feed: Any  # the server
    short: bool  # whether it is only to be seen that all of it works

    @property
    def url(self) -> str:
        return self.feed.url

    def of(self, whole: _T, short: _T) -> _T:
        """One or the other, as this is a short run or not."""
        return short if self.short else whole

    def say(self, words: str) -> None:
        """Tell how far it has come, beside the table."""
        print(words, file=sys.stderr, flush=True)


class Series:
    """One figure, measured in several rounds, in their order."""

    def __init__(self, values: Iterable[float]) -> None:
        self.values = tuple(map(float, values))

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def percentile(self, which: int) -> float:
        """The smallest value that `which` percent are not above."""
        return sorted(self.values)[max(-(-len(self.values) * which // 100), 1) - 1]

    def over(self, other: "Series") -> "Series":
        """The ratios of the rounds."""
        return Series(mine / its for mine, its in zip(self.values, other.values, strict=True))

    @property
    def text(self) -> str:
        """The median, and where half of the rounds lay."""
        if len(self.values) == 1:
            return short(self.median)
        return f"{short(self.median)} ({short(self.percentile(25))} to {short(self.percentile(75))})"


def in_turn(rounds: int, measures: Mapping[str, Callable[[], float]]) -> dict[str, Series]:
    """The figures of those who take turns, by their names."""
    values: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            values[name].append(measure())
    return {name: Series(of_it) for name, of_it in values.items()}


@dataclass(frozen=True)
class Check:
    """What a figure is to be, and whether it is."""

    what: str  # in words, such as "times the bare loop"
    value: float
    target: float  # as the plan has it
    better: float | None = None  # where that is met with ease, what it is to be from now on
    at_most: bool = True  # whether less is better

    def missed_by(self, target: float) -> float:
        """By which part of the target; 0 where it is met."""
        over = (self.value - target) / target if target else self.value
        return max(over if self.at_most else -over, 0.0)

    @property
    def text(self) -> str:
        sign = "≤" if self.at_most else "≥"
        wanted = f"{sign} {short(self.target)}"
        if self.better is not None:
            wanted += f", now {sign} {short(self.better)}"
        return f"{short(self.value)} {self.what} ({wanted})"

    @property
    def verdict(self) -> str:
        missed = self.missed_by(self.target)
        if missed:
            return f"missed by {_percent(missed)}"
        if self.better is not None and self.missed_by(self.better):
            return f"met; the better one missed by {_percent(self.missed_by(self.better))}"
        return "met"


def times_less(
    series: Mapping[str, Series], peer: str, target: float, better: float | None = None, *, called: str | None = None
) -> Check:
    """How many times as much a peer has, by the median of the rounds."""
    value = series[peer].over(series[OURS]).median
    return Check(f"times less than {called or peer}", value, target, better, at_most=False)


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    figure: str  # what was measured, with its unit
    ours: Series | str  # or a text; of a peer that is one where it does not run here
    peers: Mapping[str, Series | str] = field(default_factory=dict)
    checks: Sequence[Check] = ()
    detail: bool = False  # whether the page shows it only if it misses its target

    @classmethod
    def of(cls, figure: str, series: Mapping[str, Series], *checks: Check) -> "Row":
        """Of ours and the others', by name."""
        return cls(figure, series[OURS], {name: one for name, one in series.items() if name != OURS}, checks)

    def cells(self) -> list[str]:
        peers = "; ".join(f"{name} {_text(value)}" for name, value in self.peers.items())
        verdicts = list(dict.fromkeys(check.verdict for check in self.checks))
        told = "; ".join(verdicts) if len(verdicts) < 2 else "; ".join(
            f"{check.what}: {check.verdict}" for check in self.checks if check.verdict != "met"
        )  # fmt: skip
        return [self.figure, _text(self.ours), peers, "; ".join(one.text for one in self.checks), told]

    def to_dict(self) -> dict[str, Any]:
        return {
            "figure": self.figure,
            "ours": _plain(self.ours),
            "peers": {name: _plain(value) for name, value in self.peers.items()},
            "checks": [vars(check) | {"verdict": check.verdict} for check in self.checks],
            "detail": self.detail,
            "cells": self.cells(),
        }


def table(cells: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    head = ["figure", OURS, "peers", "against the target", "result"]
    rows = [head, [":--", "--:", ":--", ":--", ":--"], *cells]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]


def short(value: float) -> str:
    """Three digits of a number."""
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _percent(part: float) -> str:
    return f"{100 * part:.0f} %" if part >= 0.01 else "less than 1 %"


def _text(value: Series | str) -> str:
    return value if isinstance(value, str) else value.text


def _plain(value: Series | str) -> Any:
    return value if isinstance(value, str) else {"median": value.median, "values": value.values}
