"""A notebook of many streamed cells in JupyterLab: what one more of them costs the page."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from tests.benchmarks.browser import in_browser, opened, ours
from tests.benchmarks.clients import BARE
from tests.benchmarks.curves import Curves, summed_up
from tests.benchmarks.figures import Row
from tests.benchmarks.texts import tokens

if TYPE_CHECKING:
    from tests.benchmarks.run import Bench

_DISPLAY = "the same text by display(Markdown)"
_COUNT = 300  # tokens
_MODEL = f"markdown-{_COUNT}-0"
# Of the page: its longest task so far, and the moments at which cells got the number that says that they have run.
_WATCH = r"""() => { window.longest = 0; window.ran = [];
    new PerformanceObserver(list => { for (const task of list.getEntries())
        window.longest = Math.max(window.longest, task.duration); }).observe({ entryTypes: ['longtask'] });
    const seen = new Set();
    new MutationObserver(changes => { for (const { target } of changes) {
        const prompt = (target.closest ? target : target.parentElement)?.closest('.jp-InputPrompt');
        const number = prompt && /\[(\d+)\]/.exec(prompt.textContent)?.[1];
        if (number && !seen.has(number)) { seen.add(number); window.ran.push(performance.now()); } } })
    .observe(document.querySelector('.jp-Notebook'), { subtree: true, childList: true, characterData: true }); }"""


@in_browser
def pages(bench: Bench) -> list[Row]:
    """Cells of ours, and cells that wait for the answer and show it as Markdown."""
    sizes = bench.of((20, 110, 200), (2, 4, 6))
    text = f"''.join(CLIENTS[{BARE!r}]({bench.url!r}, {_MODEL!r}))"
    display = f"from IPython.display import Markdown\ndisplay(Markdown({text}))"
    mine = _page(bench, sizes, ours(_MODEL))
    peers = {name: _page(bench, sizes, code) for name, code in bench.of({_DISPLAY: display}, {}).items()}

    def row(figure: str, name: str, *, checked: bool = True) -> Row:
        its = {peer: curves[name].text for peer, curves in peers.items()}
        return Row(figure, mine[name].text, its, (mine[name].check(),) if checked else ())

    return summed_up(f"notebook of {sizes[-1]:,} streamed cells in JupyterLab", [
        row("a cell, ms", "cell"),
        row("the page's JavaScript heap, kB a cell", "heap"),
        row("the page's nodes, a cell", "nodes"),
        row("its longest task so far, ms", "longest", checked=False),
        row("the saved file, kB a cell", "file", checked=False),
    ])  # fmt: skip


def _page(bench: Bench, sizes: tuple[int, ...], code: str) -> Curves:
    """Run as many cells of that code in a browser of its own, as far as each size, and save them."""
    curves, sums, before = Curves(), Curves(), 0
    with opened(bench, *[code] * sizes[-1]) as notebook:
        page = notebook.page
        # It attaches the cells below the window one by one, when it has time.
        attached = "count => document.querySelectorAll('.jp-Notebook .jp-Cell').length === count"
        page.wait_for_function(attached, arg=1 + sizes[-1], timeout=60_000)
        page.evaluate(_WATCH)
        inspector = page.context.new_cdp_session(page)
        inspector.send("Performance.enable")
        sums.add(0, _weight(inspector))
        for size in sizes:
            # A click, and one with Shift, select from the one cell to the other.
            notebook.cell(before + 1).locator(".jp-InputPrompt").first.click()
            notebook.cell(size).locator(".jp-InputPrompt").first.click(modifiers=["Shift"])
            page.evaluate("window.ran = []")
            page.keyboard.press("Control+Enter")
            page.wait_for_function("count => window.ran.length === count", arg=size - before, timeout=60_000)
            notebook.wait_idle()
            ran = page.evaluate("window.ran")
            curves["cell"].add(size, [after - before for before, after in itertools.pairwise(ran)])
            curves.add(size, {"longest": page.evaluate("window.longest")})
            sums.add(size, _weight(inspector))
            before = size
        saved = notebook.save()["cells"][1:]
        curves.add(sizes[-1], {"file": notebook.path.stat().st_size / sizes[-1] / 1e3})
    text = "".join(tokens("markdown", _COUNT)).rstrip()
    for number, cell in enumerate(saved, 1):
        if not _left(cell).startswith(text):
            raise AssertionError(f"cell {number} is not saved with its whole answer, but with {_left(cell)!r}")
    curves.update({name: curve.each() for name, curve in sums.items()})
    return curves


def _weight(inspector: Any) -> dict[str, float]:
    """What the page holds now."""
    inspector.send("HeapProfiler.collectGarbage")
    metrics = {one["name"]: one["value"] for one in inspector.send("Performance.getMetrics")["metrics"]}
    return {"heap": metrics["JSHeapUsedSize"] / 1e3, "nodes": metrics["Nodes"]}


def _left(cell: dict[str, Any]) -> str:
    """The text that a saved cell is left with."""
    texts = []
    for output in cell["outputs"]:
        # Of Markdown that is displayed the plain text is the object's name.
        kind = "text/plain" if "together_nb" in output["metadata"] else "text/markdown"
        texts += output.get("text") or output["data"][kind]
    return "".join(texts)
