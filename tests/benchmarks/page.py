"""How long the page is busy at one go, and answers to nothing: the longest task in the browser's trace."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.benchmarks.browser import Page, in_browser, opened, ours, printing
from tests.benchmarks.clients import BARE, KEY, installed
from tests.benchmarks.figures import OURS, Check, Row, Series
from tests.benchmarks.texts import tokens
from tests.benchmarks.traces import traced
from tests.lab import picture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.benchmarks.run import Bench
    from tests.benchmarks.traces import Task, Trace

_RATE = 500
_QUICK = 5000  # tokens a second, where it is the end that is measured
_PRINT = f"print a token, {BARE}"
_DISPLAY = "display(Markdown(…)) of the same"
_SEEDS = list(range(1, 9))
_SHOW = "from IPython.display import Markdown, display\ndisplay(Markdown({}))"
_SAVED = _SHOW.format("_together.bundle()['text/markdown']")
# `compare` returns the answers, and leaves this table on the page.
_SAVED_COLUMNS = "from together_nb.views.table import bundle\n" + _SHOW.format(
    "bundle([(f'seed = {n}', one, None) for n, one in enumerate(answers, 1)], len(answers), 'auto')['text/markdown']"
)


def _model(count: int, rate: int = _RATE) -> str:
    return f"markdown-{count}-{rate}"


def _columns(model: str) -> str:
    # The magic has four under way at once.
    return (
        "from together_nb import compare\n"
        f"answers = compare('Tell', api='chat', model={model!r}, seed={_SEEDS}, at_once={len(_SEEDS)})"
    )


def _chatlas(bench: Bench, model: str) -> str:
    return (
        "from chatlas import ChatOpenAICompletions\n"
        f"ChatOpenAICompletions(base_url='{bench.url}/v1', api_key={KEY!r}, model={model!r}).chat('Tell')"
    )


def _traced(page: Page, cell: int, count: int, times: int = 1) -> Trace:
    """Of a run of a cell and all that is drawn of it; so many tokens of Markdown are on the page then, so many times."""
    page.clear()
    page.watch(cell)
    with traced(page.page) as traces:
        page.run(cell)
        page.wait_run(cell, 180)
        page.quiet()
    text = "".join(tokens("markdown", count))
    if text not in page.text(cell):  # where it was not printed as it came
        parts, headings, formulas = text.count("## Part"), page.count(cell, "h2"), page.count(cell, "mjx-container")
        if headings != parts * times or formulas < 2 * (parts - 1) * times:
            raise AssertionError(f"of {parts} parts {times} times there are {headings} headings, {formulas} formulas")
    return traces[0]


class _Longest(NamedTuple):
    """The longest of some tasks in milliseconds: as it was, and on the processor, which others' work does not draw out."""

    length: float
    processor: float

    @classmethod
    def of(cls, tasks: list[Task]) -> _Longest:
        return cls(max(one.length for one in tasks), max(one.processor for one in tasks))

    @staticmethod
    def series(several: Sequence[_Longest]) -> tuple[Series, Series]:
        return Series.of([one.length for one in several]), Series.of([one.processor for one in several])


def _streaming(what: str, several: list[_Longest], target: float, peers: dict[str, Series]) -> Row:
    lengths, processor = _Longest.series(several)
    checks = (
        Check("ms at most", max(lengths.values), target),
        Check("ms of processor time at most", max(processor.values), target),
    )
    return Row(f"longest browser task while {what}, {_RATE} tokens/s, ms", lengths, dict(peers), checks)


class _Repaints:
    """Rounds of two cells: one that streams, and one with JupyterLab's own display of what it has left.

    Parameters
    ----------
    page
        The notebook.
    again
        The second one.
    times
        How many answers there are.
    """

    def __init__(self, page: Page, again: int, times: int = 1) -> None:
        self._page = page
        self._again = again
        self._times = times
        self._pairs: list[tuple[_Longest, _Longest]] = []

    def round(self, cell: int, count: int) -> _Longest:
        """Add one; what it was while it streamed."""
        mine = _traced(self._page, cell, count, self._times)
        its = _traced(self._page, self._again, count, self._times)
        self._pairs.append((_Longest.of(mine.tasks("plain")), _Longest.of(its.tasks("plain"))))
        return _Longest.of(mine.tasks("run", "plain"))

    def row(self, what: str, *, target: float | None = None) -> Row:
        (mine, needed), (its, anyway) = map(_Longest.series, zip(*self._pairs, strict=True))
        checks = [("times its own", mine.over(its)), ("times in processor time", needed.over(anyway))]
        return Row(
            f"longest browser task when {what}, ms",
            mine,
            {_DISPLAY: its},
            () if target is None else tuple(Check(name, ratio.median, target) for name, ratio in checks),
        )


@in_browser
def page_alive(bench: Bench) -> list[Row]:
    """Markdown with code, lists, tables and maths, while it streams and when it ends; the page follows its end."""
    count, few, each = bench.of(10_000, 500), bench.of(1000, 200), bench.of(5000, 1000)
    cells = {
        "warm": ours(_model(300)),
        OURS: ours(_model(count)),
        "quick": ours(_model(count, _QUICK)),
        _DISPLAY: _SAVED,
        _PRINT: printing(bench, _model(count)),
        "columns": _columns(_model(each)),
        "table": _SAVED_COLUMNS,
    } | ({"chatlas": _chatlas(bench, _model(few))} if installed("chatlas") else {})
    at = {name: number for number, name in enumerate(cells, 1)}
    with opened(bench, *cells.values()) as page:
        last, table = _Repaints(page, at[_DISPLAY]), _Repaints(page, at["table"], len(_SEEDS))
        _Repaints(page, at[_DISPLAY]).round(at["warm"], 300)
        mine = [last.round(at[OURS], count)]
        picture(page.page, "page-after")
        peers = {
            f"{name}, {length:,} tokens": _Longest.series([_Longest.of(_traced(page, at[name], length).tasks("run"))])[
                0
            ]
            for name, length in ((_PRINT, count), ("chatlas", few))
            if name in at
        }
        for _ in range(bench.of(5, 1)):
            last.round(at["quick"], count)
        columns = []
        for _ in range(bench.of(2, 1)):
            bench.feed.log()
            columns.append(table.round(at["columns"], each))
            lines = bench.feed.log()
            if len(lines) != len(_SEEDS) or max(one["arrived"] for one in lines) >= min(one["ended"] for one in lines):
                raise AssertionError("the columns did not stream at once")
        picture(page.page, "page-columns-after")
    return [
        _streaming(f"{count:,} tokens of Markdown stream", mine, 100, peers),
        last.row("plain Markdown takes the widget's place", target=1.2),
        _streaming(f"{len(_SEEDS)} columns of {each:,} tokens stream at once", columns, 200, {}),
        table.row("the table takes the columns' place", target=1.2),
    ]
