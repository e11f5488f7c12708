"""How long a token is under way from the server to the reader's eye."""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import TYPE_CHECKING

from tests.benchmarks.browser import Page, in_browser, opened, ours, printing
from tests.benchmarks.clients import BARE
from tests.benchmarks.figures import OURS, Check, Row, Series
from tests.lab import picture

if TYPE_CHECKING:
    from tests.benchmarks.run import Bench

_RATES = (50, 500)
_PRINT = f"print a token, {BARE}"


def _late(bench: Bench, page: Page, cell: int, tokens: int) -> list[float]:
    """Milliseconds of each token, from being sent to being painted on the page."""
    bench.feed.log()
    page.watch(cell)
    ahead = page.clock()
    page.run(cell)
    page.until(tokens - 1)
    page.wait_run(cell)
    page.quiet()
    if set(map(int, re.findall(r"t(\d+)", page.text(cell)))) != set(range(tokens)):
        raise AssertionError("not all tokens are on the page")
    (line,) = bench.feed.log()
    shown = page.page.evaluate("watched.shown")
    highest = [number for number, _ in shown]
    late = [shown[bisect_left(highest, number)][1] - 1000 * (sent + ahead) for number, sent in enumerate(line["sent"])]
    if len(late) != tokens or min(late) <= 0:
        raise AssertionError(f"{len(late)} tokens of {tokens}, the first after {min(late):.1f} ms")
    return late


@in_browser
def token_to_pixel(bench: Bench) -> list[Row]:
    """A token sent by the server to its text in JupyterLab's page, which follows the end of what grows."""
    seconds, rounds = bench.of(10, 1), bench.of(2, 1)
    cells, numbers = [], {}
    for rate in _RATES:
        model = f"numbered-{rate * seconds}-{rate}"
        for name, cell in ((OURS, ours(model)), (_PRINT, printing(bench, model))):
            cells.append(cell)
            numbers[rate, name] = len(cells)
    warm = ("numbered-100-100",)
    cells += [ours(*warm), printing(bench, *warm)]
    late: dict[tuple[int, str], list[list[float]]] = {key: [] for key in numbers}
    with opened(bench, *cells) as page:
        for cell in range(len(numbers) + 1, len(cells) + 1):
            page.go(cell)
        for number in range(rounds):
            for (rate, name), cell in numbers.items():
                late[rate, name].append(_late(bench, page, cell, rate * seconds))
                if not number:
                    picture(page.page, f"pixel-{rate}-{name.split()[0]}")
    return [row for rate in _RATES for row in _rows(rate, late[rate, OURS], late[rate, _PRINT])]


def _rows(rate: int, mine: list[list[float]], its: list[list[float]]) -> list[Row]:
    """Two lines: of all tokens the 95th percentile, and the median."""
    worst, common = ([Series.of([Series.of(one).percentile(which) for one in rounds]) for rounds in (mine, its)]
                     for which in (95, 50))  # fmt: skip
    pooled = Series.of([one for late in mine for one in late]).percentile(95)
    what = f"token to pixel, {rate} tokens/s"
    return [
        Row(f"{what}, 95th percentile, ms", worst[0], {_PRINT: worst[1]}, (Check("ms", pooled, 100),)),
        Row(f"{what}, median, ms", common[0], {_PRINT: common[1]}),
    ]
