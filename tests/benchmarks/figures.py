"""The rows of the table: a figure, what its peers have, and what it is to be."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

OURS = "together_nb"
RESULTS = Path(__file__).parent / "results.json"  # of the run that stands in README.md beside it


@dataclass(frozen=True)
class Series:
    """One figure, measured in several rounds.

    Parameters
    ----------
    values
        In the order of the rounds.
    """

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Series:
        return cls(tuple(map(float, values)))

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def percentile(self, which: int) -> float:
        """The smallest value that `which` percent are not above."""
        return sorted(self.values)[max(-(-len(self.values) * which // 100), 1) - 1]

    def over(self, other: Series) -> Series:
        """The ratios of the rounds."""
        return Series.of([mine / its for mine, its in zip(self.values, other.values, strict=True)])

    @property
    def text(self) -> str:
        """The median, and where half of the rounds lay."""
        if len(self.values) == 1:
            return short(self.median)
        return f"{short(self.median)} ({short(self.percentile(25))} to {short(self.percentile(75))})"


@dataclass(frozen=True)
class Check:
    """What a figure is to be, and whether it is.

    Parameters
    ----------
    what
        In words, such as "times the bare loop".
    value
        As measured.
    target
        As the plan has it.
    better
        Where that is met with ease, what it is to be from now on.
    at_most
        Whether less is better.
    """

    what: str
    value: float
    target: float
    better: float | None = None
    at_most: bool = True

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


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Parameters
    ----------
    figure
        What was measured, with its unit.
    ours
        Median of the rounds and their spread, or a text.
    peers
        Of each peer the same, where it has the like; a text where it does not run here.
    checks
        What it is to be.
    detail
        Whether the page shows it only if it misses its target.
    """

    figure: str
    ours: Series | str
    peers: dict[str, Series | str] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()
    detail: bool = False

    def cells(self) -> list[str]:
        peers = "; ".join(f"{name} {_text(value)}" for name, value in self.peers.items())
        verdicts = list(dict.fromkeys(check.verdict for check in self.checks))
        told = "; ".join(verdicts) if len(verdicts) < 2 else "; ".join(
            f"{check.what}: {check.verdict}" for check in self.checks if check.verdict != "met"
        )  # fmt: skip
        return [
            self.figure,
            _text(self.ours),
            peers or "",
            "; ".join(one.text for one in self.checks) or "",
            told or "",
        ]

    def to_dict(self) -> dict[str, Any]:
        return {
            "figure": self.figure,
            "ours": _plain(self.ours),
            "peers": {name: _plain(value) for name, value in self.peers.items()},
            "checks": [vars(check) | {"verdict": check.verdict} for check in self.checks],
            "detail": self.detail,
            "cells": self.cells(),
        }


HEAD = ["figure", OURS, "peers", "against the target", "result"]


def table(cells: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    rows = [HEAD, [":--", "--:", ":--", ":--", ":--"], *cells]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]


def times_less(ours: Series, peer: Series) -> Series:
    """How many times as much the peer has, round by round."""
    return peer.over(ours)


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
