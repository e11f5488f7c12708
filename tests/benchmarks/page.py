"""How long the page is busy at one go, and answers to nothing: the longest task in the browser's trace."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from tests.benchmarks.browser import Page, in_browser, opened
from tests.benchmarks.clients import BARE, installed
from tests.benchmarks.figures import OURS, Bench, Check, Row, Series
from tests.benchmarks.kernel import ours, showing
from tests.benchmarks.texts import tokens

_RATE = 500
_QUICK = 5000  # tokens a second, where it is the end that is measured
_PRINT = f"print a token, {BARE}"
_DISPLAY = "display(Markdown(…)) of the same"
_SEEDS = list(range(1, 9))
_SHOW = "from IPython.display import Markdown, display\ndisplay(Markdown({}))"
_SAVED = _SHOW.format("_together.bundle()['text/markdown']")
# The magic has four under way at once. `compare` returns the answers, and leaves the table below on the page.
_COLUMNS = (
    "from together_nb import compare\n"
    f"answers = compare('Tell', api='chat', model={{!r}}, seed={_SEEDS}, at_once={len(_SEEDS)})"
)
_SAVED_COLUMNS = "from together_nb.views.side_by_side_table import bundle\n" + _SHOW.format(
    "bundle([(f'seed = {n}', one, None) for n, one in enumerate(answers, 1)], len(answers), 'auto')['text/markdown']"
)

_MARKS = {"run", "plain", "end"}
_CATEGORIES = ["disabled-by-default-devtools.timeline", "blink.user_timing"]


class Task(NamedTuple):
    """One task of the page's main thread, in milliseconds."""

    at: float
    length: float
    processor: float  # spent on the processor: what it needs, whatever else the machine does


class Trace:
    """What the browser noted of a while: the trace's events."""

    def __init__(self, events: list[dict[str, Any]]) -> None:
        marks = [one for one in events if "blink.user_timing" in one["cat"].split(",") and one["name"] in _MARKS]
        (page,) = {(one["pid"], one["tid"]) for one in marks}
        self._marks = {one["name"]: one["ts"] / 1000 for one in marks}
        # The browser leaves out the processor time of tasks of a microsecond or two; it is no more than their length.
        self._tasks = [
            Task(one["ts"] / 1000, one["dur"] / 1000, one.get("tdur", one["dur"]) / 1000)
            for one in events
            if one["name"] == "RunTask" and (one["pid"], one["tid"]) == page and "dur" in one
        ]

    def tasks(self, since: str, until: str = "end") -> list[Task]:
        """What was not over at one mark, and was at the other: "run", "plain" or "end"."""
        begin, end = self._marks[since], self._marks[until]
        return [one for one in self._tasks if begin <= one.at + one.length < end]


def traced(page: Any, action: Callable[[], None]) -> Trace:
    """What a page does meanwhile, from the mark "run" to the mark "end"."""
    session = page.context.browser.new_browser_cdp_session()
    events: list[dict[str, Any]] = []
    gaps: list[bool] = []
    session.on("Tracing.dataCollected", lambda told: events.extend(told["value"]))
    session.on("Tracing.tracingComplete", lambda told: gaps.append(told["dataLossOccurred"]))
    config = {"includedCategories": _CATEGORIES, "excludedCategories": ["*"]}
    session.send("Tracing.start", {"transferMode": "ReportEvents", "traceConfig": config})
    page.evaluate("() => { performance.mark('run'); }")
    action()
    page.evaluate("() => { performance.mark('end'); }")
    session.send("Tracing.end")
    while not gaps:
        page.wait_for_timeout(10)
    session.detach()
    if gaps[0]:
        raise AssertionError("the trace has a gap")
    return Trace(events)


def _traced(page: Page, cell: int, count: int, times: int = 1) -> Trace:
    """Of a run of a cell and all that is drawn of it; so many tokens of Markdown are on the page then, so many times."""

    def run() -> None:
        page.go(cell)
        page.quiet()

    page.clear()
    page.watch(cell)
    trace = traced(page.page, run)
    text = "".join(tokens("markdown", count))
    output = page.output(cell)
    if text not in output.text_content():  # where it was not printed as it came
        parts = text.count("## Part")
        headings, formulas = (output.locator(kind).count() for kind in ("h2", "mjx-container"))
        if headings != parts * times or formulas < 2 * (parts - 1) * times:
            raise AssertionError(f"of {parts} parts {times} times there are {headings} headings, {formulas} formulas")
    return trace


def _longest(traces: Iterable[Trace], since: str, until: str = "end") -> tuple[Series, Series]:
    """The longest task of each, in ms: as it was, and on the processor, which others' work does not draw out."""
    rounds = [trace.tasks(since, until) for trace in traces]
    lengths = Series(max(task.length for task in tasks) for tasks in rounds)
    return lengths, Series(max(task.processor for task in tasks) for tasks in rounds)


def _streaming(what: str, traces: list[Trace], target: float, peers: dict[str, Series]) -> Row:
    lengths, processor = _longest(traces, "run", "plain")
    checks = [
        Check("ms at most", max(lengths.values), target),
        Check("ms of processor time at most", max(processor.values), target),
    ]
    return Row(f"longest browser task while {what}, {_RATE} tokens/s, ms", lengths, peers, checks)


def _ending(what: str, pairs: list[tuple[Trace, Trace]]) -> Row:
    """Of rounds of two cells: one that streams, and one with JupyterLab's own display of what it has left."""
    (mine, needed), (its, anyway) = (_longest(traces, "plain") for traces in zip(*pairs, strict=True))
    checks = [
        Check("times its own", mine.over(its).median, 1.2),
        Check("times in processor time", needed.over(anyway).median, 1.2),
    ]
    return Row(f"longest browser task when {what}, ms", mine, {_DISPLAY: its}, checks)


@in_browser
def page_alive(bench: Bench) -> list[Row]:
    """Markdown with code, lists, tables and maths, while it streams and when it ends; the page follows its end."""
    count, few, each = bench.of(10_000, 500), bench.of(1000, 200), bench.of(5000, 1000)
    model = f"markdown-{count}-{_RATE}"
    cells = {
        "warm": ours(f"markdown-300-{_RATE}"),
        OURS: ours(model),
        "quick": ours(f"markdown-{count}-{_QUICK}"),
        _DISPLAY: _SAVED,
        _PRINT: showing(BARE, model),
        "columns": _COLUMNS.format(f"markdown-{each}-{_RATE}"),
        "table": _SAVED_COLUMNS,
    } | ({"chatlas": showing("chatlas", f"markdown-{few}-{_RATE}")} if installed("chatlas") else {})
    at = {name: number for number, name in enumerate(cells, 1)}
    with opened(bench, *cells.values()) as page:

        def pair(name: str, again: str, length: int, times: int = 1) -> tuple[Trace, Trace]:
            return _traced(page, at[name], length, times), _traced(page, at[again], length, times)

        pair("warm", _DISPLAY, 300)
        answers = [pair(OURS, _DISPLAY, count)]
        peers = {
            f"{name}, {length:,} tokens": _longest([_traced(page, at[name], length)], "run")[0]
            for name, length in ((_PRINT, count), ("chatlas", few))
            if name in at
        }
        answers += [pair("quick", _DISPLAY, count) for _ in range(bench.of(5, 1))]
        columns = []
        for _ in range(bench.of(2, 1)):
            bench.feed.log()
            columns.append(pair("columns", "table", each, len(_SEEDS)))
            lines = bench.feed.log()
            if len(lines) != len(_SEEDS) or max(one["arrived"] for one in lines) >= min(one["ended"] for one in lines):
                raise AssertionError("the columns did not stream at once")
    streamed = [mine for mine, _ in columns]
    return [
        _streaming(f"{count:,} tokens of Markdown stream", [answers[0][0]], 100, peers),
        _ending("plain Markdown takes the widget's place", answers),
        _streaming(f"{len(_SEEDS)} columns of {each:,} tokens stream at once", streamed, 200, {}),
        _ending("the table takes the columns' place", columns),
    ]
