"""How soon a stream has ended once a person has clicked: on the notebook's ■, and on Stop."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from tests.benchmarks.browser import Page, in_browser, opened, ours, printing
from tests.benchmarks.clients import BARE, installed
from tests.benchmarks.figures import OURS, Check, Row, Series
from tests.lab import picture

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.benchmarks.run import Bench

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


class _Clicks:
    """Clicks in a notebook, and when the connection was closed after each.

    Parameters
    ----------
    bench
        What it is measured with.
    page
        The notebook.
    """

    def __init__(self, bench: Bench, page: Page) -> None:
        self._bench = bench
        self._page = page
        page.page.evaluate(_NOTE)

    def interrupt(self, cell: int, token: str, name: str) -> float | None:
        """Run a cell and click ■: milliseconds until the server sees the connection closed; None where it does not."""
        self._run(cell, token)
        return self._closed(self._page.page.locator(_INTERRUPT), lambda: self._page.wait_run(cell), name)

    def background(self, cell: int, token: str, name: str) -> float | None:
        """The same of the Stop button below a cell that has returned."""
        self._run(cell, token)
        button = self._page.output(cell).get_by_role("button", name="Stop")
        return self._closed(button, lambda: button.wait_for(state="detached"), name)

    def panel(self, cell: int, token: str, name: str) -> float | None:
        """The same of a panel's."""
        panel = self._page.output(cell)
        self._run(cell)
        panel.get_by_role("button", name="Generate").click()
        self._await(cell, token)
        stopped = panel.get_by_role("status").get_by_text("Stopped")
        return self._closed(panel.get_by_role("button", name="Stop").first, stopped.wait_for, name)

    def _run(self, cell: int, token: str = "") -> None:
        self._page.clear()
        self._bench.feed.log()
        self._page.run(cell)
        self._await(cell, token)

    def _await(self, cell: int, token: str) -> None:
        self._page.page.wait_for_function(_SHOWS, arg=[cell, token])

    def _closed(self, button: Any, ended: Callable[[], Any], name: str) -> float | None:
        page, ahead = self._page.page, self._page.clock()
        picture(page, f"stop-{name}-before")
        button.click()
        ended()
        picture(page, f"stop-{name}-after")
        line = self._bench.feed.next_log(_PATIENCE)
        return None if line is None else 1000 * (line["closed"] + ahead) - page.evaluate("clicked")


def _told(took: list[float | None]) -> Series | str:
    """In words, where not all connections were closed."""
    late = took.count(None)
    return f"{late} of {len(took)} still open {_PATIENCE} s after the cell had ended" if late else Series.of(took)


def _row(what: str, mine: list[float | None], peers: dict[str, list[float | None]]) -> Row:
    if None in mine:
        raise AssertionError(f"{what}: {_told(mine)}")
    series = Series.of(mine)
    return Row(
        f"{what} to connection closed at the server, {len(mine)} clicks, ms",
        series,
        {name: _told(its) for name, its in peers.items()},
        (Check("ms at the 95th percentile", series.percentile(95), 200, better=150),),
    )


@in_browser
def stop(bench: Bench) -> list[Row]:
    """A click of the mouse until the server sees the connection closed; half of them in a silence of the server's."""
    whole, half = bench.of(10, 1), bench.of(5, 1)
    clients = [name for name in (BARE, "openai") if installed(name)]
    # Of each: what is clicked, how often for each model, and the cell.
    ways: dict[str, tuple[Callable[..., Any], int, Callable[[str], str]]] = {
        OURS: (_Clicks.interrupt, whole, ours),
        **{name: (_Clicks.interrupt, half, partial(printing, bench, client=name)) for name in clients},
        "-b": (_Clicks.background, half, lambda model: ours(model, "-b")),
        "panel": (_Clicks.panel, half, _PANEL.format),
    }
    cells = {(name, model): cell(model) for name, (_, _, cell) in ways.items() for model in _MODELS}
    took: dict[str, list[float | None]] = {name: [] for name in ways}
    with opened(bench, *cells.values()) as page:
        clicks = _Clicks(bench, page)
        for turn in range(whole):
            for number, (name, model) in enumerate(cells, 1):
                click, turns, _ = ways[name]
                if turn < turns:
                    took[name].append(click(clicks, number, _MODELS[model], f"{name.split()[0]}-{_MODELS[model]}"))
    return [
        _row("stop: click on ■", took[OURS], {name: took[name] for name in clients}),
        _row("stop: click on Stop, of %%together -b and of the panel,", [*took["-b"], *took["panel"]], {}),
    ]
