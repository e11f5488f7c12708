"""A notebook in a real JupyterLab and a real browser, to measure in: what is on the page when, and the page's tasks."""

import functools
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.benchmarks.figures import Bench, Row
from tests.benchmarks.kernel import setup
from tests.benchmarks.workers import ROOT
from tests.lab import CHROMIUM_FLAGS, Lab, Notebook, chromium, write_notebook

_ROUND_TRIPS = 30
_QUIET = 500  # milliseconds without a change, after which nothing more is drawn

# Follows the end of a cell's output, as its reader does, and tells of it:
# `shown`: which numbered token was the last one on the page, and when it had been painted;
# `until(number)`: until it is on the page; `quiet()`: until nothing has changed for a while;
# and a mark in the trace, "replaced", when the widgets have left.
_WATCH = """([cell, quiet]) => {
    window.watched?.disconnect();
    const output = document.querySelectorAll('.jp-Notebook .jp-Cell')[cell].querySelector('.jp-Cell-outputWrapper');
    const painted = new MessageChannel(), shown = [];
    let highest = -1, due = false, changed = performance.now(), wanted = null;
    painted.port1.onmessage = ({data}) => {
        shown.push([data, performance.timeOrigin + performance.now()]);
        if (wanted && data >= wanted[0]) wanted[1]();
    };
    const look = () => {
        due = false;
        output.scrollIntoView({block: 'end'});
        const found = output.textContent.slice(-600).match(/t\\d+/g) ?? [];
        const last = Math.max(...found.map(token => Number(token.slice(1))));
        if (last > highest) painted.port2.postMessage(highest = last);
    };
    const plain = () => output.querySelector('.jp-RenderedMarkdown') && !output.querySelector('.jupyter-widgets');
    let was = plain();
    const observer = new MutationObserver(() => {
        changed = performance.now();
        if (!was && plain()) performance.mark('plain');
        was = plain();
        if (!due) { due = true; requestAnimationFrame(look); }
    });
    observer.observe(output, {subtree: true, childList: true, characterData: true});
    window.watched = {
        shown,
        disconnect: () => observer.disconnect(),
        until: number => new Promise(done => highest >= number ? done() : wanted = [number, done]),
        quiet: () => new Promise(done => {
            changed = performance.now();
            const check = () => {
                const left = changed + quiet - performance.now();
                left > 0 ? setTimeout(check, left) : done();
            };
            check();
        }),
    };
}"""


def in_browser(figure: Callable[[Bench], list[Row]]) -> Callable[[Bench], list[Row]]:
    """A figure that is left out where there is no browser."""

    @functools.wraps(figure)
    def measured(bench: Bench) -> list[Row]:
        if chromium() is None:
            bench.say(f"{figure.__name__}: left out, there is no Chromium; TOGETHER_NB_CHROMIUM may name one")
            return []
        return figure(bench)

    return measured


class Page(Notebook):
    """A notebook on the page of a browser, its kernel connected, its first cell run."""

    def __init__(self, page: Any, lab: Lab, name: str) -> None:
        super().__init__(page, lab, name)
        self.go(0)

    def go(self, cell: int) -> None:
        """Run a cell to its end,."""
        self.run(cell)
        self.wait_run(cell, 180)

    def clear(self) -> None:
        """Take all outputs from the page."""
        for name in ("Edit", "Clear Outputs of All Cells"):
            self.page.get_by_role("menuitem", name=name, exact=True).click()

    def watch(self, cell: int) -> None:
        """Note from now on what that cell shows."""
        self.page.evaluate(_WATCH, [cell, _QUIET])

    def quiet(self) -> None:
        """Until nothing more is drawn."""
        self.page.evaluate("() => watched.quiet()")

    def clock(self) -> float:
        """Seconds by which the page's clock is ahead of this one's, by the quickest of several looks at it."""
        looks = []
        for _ in range(_ROUND_TRIPS):
            before = time.time()
            told = self.page.evaluate("performance.timeOrigin + performance.now()") / 1000
            after = time.time()
            looks.append((after - before, told - (before + after) / 2))
        return min(looks)[1]


@contextmanager
def opened(bench: Bench, *cells: str) -> Iterator[Page]:
    """A notebook of these cells after a first one, which knows the clients and the server."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        write_notebook(folder / "bench.ipynb", f"%load_ext together_nb\n{setup(bench)}", *cells)
        lab = Lab(folder, environment={"TOGETHER_BASE_URL": bench.url, "PYTHONPATH": str(ROOT)})
        try:
            with playwright.chromium.launch(executable_path=chromium(), args=list(CHROMIUM_FLAGS)) as browser:
                yield Page(browser.new_page(viewport={"width": 1200, "height": 1000}), lab, "bench.ipynb")
        finally:
            lab.stop()
