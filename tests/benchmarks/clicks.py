"""How soon a stream has ended once a person has clicked: on the notebook's ■, and on Stop."""

from collections.abc import Callable
from functools import partial
from typing import Any

from tests.benchmarks.browser import Page, in_browser, opened
from tests.benchmarks.clients import BARE, installed
from tests.benchmarks.figures import OURS, Bench, Check, Row, Series
from tests.benchmarks.kernel import ours, showing

# Clicked while tokens flow, and in a silence; each after this token is seen.
_MODELS = {"numbered-1000-50-hold": "t20", "numbered-5-50-hold": "t4"}
_PATIENCE = 5  # seconds after the click's end is seen, in which a connection may still close
_INTERRUPT = ".jp-NotebookPanel-toolbar [data-command='notebook:interrupt-kernel']"
_PANEL = "from together_nb import Panel\nPanel(prompt='Tell', model='{}', api='chat', shared=False)"
_NOTE = """() => document.addEventListener('click', event => {
    window.clicked = performance.timeOrigin + event.timeStamp;
}, true)"""
_SHOWS = """([cell, token]) => document.querySelectorAll('.jp-Notebook .jp-Cell')[cell]
    .querySelector('.jp-Cell-outputWrapper').innerText.includes(token)"""

# Three ways: each gives the button to click, once `seen`, and what waits for the end.


def _interrupt(page: Page, cell: int, seen: Callable[[], Any]):
    """■."""
    seen()
    return page.page.locator(_INTERRUPT), partial(page.wait_run, cell)


def _background(page: Page, cell: int, seen: Callable[[], Any]):
    """The Stop button below a cell that has returned."""
    seen()
    button = page.output(cell).get_by_role("button", name="Stop")
    return button, partial(button.wait_for, state="detached")


def _panel(page: Page, cell: int, seen: Callable[[], Any]):
    """A panel's."""
    panel = page.output(cell)
    panel.get_by_role("button", name="Generate").click()
    seen()
    return panel.get_by_role("button", name="Stop").first, panel.get_by_role("status").get_by_text("Stopped").wait_for


def _click(bench: Bench, page: Page, way: Callable[..., Any], cell: int, token: str) -> float | None:
    """Run a cell and click: milliseconds until the server sees the connection closed; None where it does not."""
    page.clear()
    bench.feed.log()
    page.run(cell)
    button, ended = way(page, cell, lambda: page.page.wait_for_function(_SHOWS, arg=[cell, token]))
    ahead = page.clock()
    button.click()
    ended()
    line = bench.feed.next_log(_PATIENCE)
    return None if line is None else 1000 * (line["closed"] + ahead) - page.page.evaluate("clicked")


def _told(took: list[float | None]) -> Series | str:
    """In words, where not all connections were closed."""
    late = took.count(None)
    return f"{late} of {len(took)} still open {_PATIENCE} s after the cell had ended" if late else Series(took)


def _row(what: str, mine: list[float | None], peers: dict[str, list[float | None]]) -> Row:
    series = _told(mine)
    if isinstance(series, str):
        raise AssertionError(f"{what}: {series}")  # noqa: TRY004  (it is a measurement that failed)
    return Row(
        f"{what} to connection closed at the server, {len(mine)} clicks, ms",
        series,
        {name: _told(its) for name, its in peers.items()},
        [Check("ms at the 95th percentile", series.percentile(95), 200, better=150)],
    )


@in_browser
def stop(bench: Bench) -> list[Row]:
    """A click of the mouse until the server sees the connection closed; half of them in a silence of the server's."""
    whole, half = bench.of(10, 1), bench.of(5, 1)
    clients = [name for name in (BARE, "openai") if installed(name)]
    # Of each: what is clicked, how often for each model, and the cell.
    ways: dict[str, tuple[Callable[..., Any], int, Callable[[str], str]]] = {
        OURS: (_interrupt, whole, ours),
        **{name: (_interrupt, half, partial(showing, name)) for name in clients},
        "-b": (_background, half, lambda model: ours(model, "-b")),
        "panel": (_panel, half, _PANEL.format),
    }
    cells = {(name, model): cell(model) for name, (_, _, cell) in ways.items() for model in _MODELS}
    took: dict[str, list[float | None]] = {name: [] for name in ways}
    with opened(bench, *cells.values()) as page:
        page.page.evaluate(_NOTE)
        for turn in range(whole):
            for number, (name, model) in enumerate(cells, 1):
                way, turns, _ = ways[name]
                if turn < turns:
                    took[name].append(_click(bench, page, way, number, _MODELS[model]))
    return [
        _row("stop: click on ■", took[OURS], {name: took[name] for name in clients}),
        _row("stop: click on Stop, of %%together -b and of the panel,", [*took["-b"], *took["panel"]], {}),
    ]
