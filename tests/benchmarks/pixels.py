"""How long a token is under way from the server to the reader's eye."""

import re
from bisect import bisect_left
from functools import partial
from itertools import chain

from tests.benchmarks.browser import Page, in_browser, opened
from tests.benchmarks.clients import BARE
from tests.benchmarks.figures import OURS, Bench, Check, Row, Series
from tests.benchmarks.kernel import ours, showing

_RATES = (50, 500)
_PRINT = f"print a token, {BARE}"
_CELLS = {OURS: ours, _PRINT: partial(showing, BARE)}


def _late(bench: Bench, page: Page, cell: int, tokens: int) -> Series:
    """Milliseconds of each token, from being sent to being painted on the page."""
    bench.feed.log()
    page.watch(cell)
    ahead = page.clock()
    page.run(cell)
    page.page.evaluate("number => watched.until(number)", tokens - 1)
    page.wait_run(cell)
    page.quiet()
    if set(map(int, re.findall(r"t(\d+)", page.output(cell).text_content()))) != set(range(tokens)):
        raise AssertionError("not all tokens are on the page")
    (line,) = bench.feed.log()
    shown = page.page.evaluate("watched.shown")
    highest = [number for number, _ in shown]
    late = [shown[bisect_left(highest, number)][1] - 1000 * (sent + ahead) for number, sent in enumerate(line["sent"])]
    if len(late) != tokens or min(late) <= 0:
        raise AssertionError(f"{len(late)} tokens of {tokens}, the first after {min(late):.1f} ms")
    return Series(late)


@in_browser
def token_to_pixel(bench: Bench) -> list[Row]:
    """A token sent by the server to its text in JupyterLab's page, which follows the end of what grows."""
    seconds, rounds = bench.of(10, 1), bench.of(2, 1)
    cells = {
        (rate, name): cell(f"numbered-{rate * seconds}-{rate}") for rate in _RATES for name, cell in _CELLS.items()
    }
    warm = [cell("numbered-100-100") for cell in _CELLS.values()]
    late: dict[tuple[int, str], list[Series]] = {key: [] for key in cells}
    with opened(bench, *warm, *cells.values()) as page:
        for number in range(len(warm)):
            page.go(1 + number)
        for _ in range(rounds):
            for number, (rate, name) in enumerate(cells, 1 + len(warm)):
                late[rate, name].append(_late(bench, page, number, rate * seconds))
    return [row for rate in _RATES for row in _rows(rate, late[rate, OURS], late[rate, _PRINT])]


def _rows(rate: int, mine: list[Series], its: list[Series]) -> list[Row]:
    """Two lines: of all tokens the 95th percentile, and the median."""
    worst, common = (
        {name: Series(one.percentile(which) for one in rounds) for name, rounds in ((OURS, mine), (_PRINT, its))}
        for which in (95, 50)
    )
    pooled = Series(chain.from_iterable(one.values for one in mine)).percentile(95)
    what = f"token to pixel, {rate} tokens/s"
    return [
        Row.of(f"{what}, 95th percentile, ms", worst, Check("ms", pooled, 100)),
        Row.of(f"{what}, median, ms", common),
    ]
