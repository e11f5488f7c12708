"""Where the cost may grow faster than the work: each curve at several sizes, and its end beside its beginning."""

import itertools
import json
from typing import Any

from tests.benchmarks.browser import in_browser, opened
from tests.benchmarks.clients import BARE
from tests.benchmarks.curves import Curves, summed_up
from tests.benchmarks.figures import Bench, Row, short
from tests.benchmarks.kernel import Costed, ours
from tests.benchmarks.texts import tokens

_ANSWER = "prose-20-0"  # as `growth_inside` has it
_CELL = "%%together --api chat\nAnd what became of the boats?"
_MARKDOWN = "markdown-300-0"
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


def _named(one: str, cost: str) -> dict[str, str]:
    """What is measured of a kernel in which one thing comes after another."""
    return {
        "cost": cost,
        "messages": f"IOPub messages {one}",
        "bytes": f"IOPub kB {one}",
        "widgets": "widgets in the kernel",
        "comms": "comms in the kernel",
        "threads": "threads in the kernel",
        "memory": "the kernel's memory, MB",
    }


def growth(bench: Bench) -> list[Row]:
    """A long history, a long conversation, a panel that stays open, a notebook of many cells."""
    return [row for part in (_history, _conversation, _panel, _cells, pages) for row in part(bench)]


def _history(bench: Bench) -> list[Row]:
    """Answers kept in `history`, and what goes over them."""
    sizes, rounds = bench.of((100, 1_000, 10_000), (35, 50, 70)), bench.of(7, 1)
    curves = Curves()
    with Costed(bench, _ANSWER) as kernel:

        def once() -> dict[str, float]:
            return {
                "list": kernel.cost("%together history")[0],
                "usage": kernel.cost("%together usage")[0],
                "tab": kernel.cost_of_tab("%%together --temp", "--temperature"),
                "shown": kernel.told("history_tab()"),
                "cell": kernel.cost(_CELL)[0],
                **kernel.told("saved_and_loaded()"),
            }

        kernel.told("asked_until(30)")
        once()  # what is done for the first time is no part of a curve
        for size in sizes:
            curves["call"].add(size, kernel.told(f"asked_until({size})"))
            curves.add(size, {"memory": 1e3 * kernel.told("megabytes()")})
            for _ in range(rounds):
                curves.add(size, once())
    curves["each"] = curves["memory"].each()
    return summed_up(f"history of {sizes[-1]:,} completions", curves.rows({
        "cell": "one more `%%together`, CPU, ms",
        "call": "one more `complete`, CPU, ms",
        "list": "`%together history`, CPU, ms",
        "usage": "`%together usage`, CPU, ms",
        "tab": "Tab on a line of `%%together`, CPU, ms",
        "shown": "the panel's History tab drawn, CPU, ms",
        "save": "`save`, CPU, µs a completion",
        "load": "`load`, CPU, µs a completion",
        "file": "the file of `save`, bytes a completion",
        "each": "the kernel's memory, kB a completion",
    }))  # fmt: skip


def _conversation(bench: Bench) -> list[Row]:
    """A conversation, all of which is sent with each turn; what that costs beside a bare post of the same."""
    sizes, rounds = bench.of((10, 100, 500), (5, 10, 15)), bench.of(15, 2)
    curves = Curves()
    with Costed(bench, _ANSWER) as kernel:
        for size in sizes:
            kernel.told(f"talked_until({size})")
            curves.add(size, {"held": kernel.told("held()") / size})
            for _ in range(rounds):
                curves.add(size, kernel.told("turn_and_bare()"))
            for _ in range(bench.of(5, 1)):
                curves.add(size, kernel.told("saved_and_loaded()"))
                curves.add(size, kernel.told("conversation_kept()"))
    ours, bare = curves["ours"], curves["bare"]
    ratio = ours.beside(bare)
    # Of what a turn of two messages adds, by which each later one is dearer.
    message, its = (500 * curve.each().medians[sizes[-1]] for curve in (ours, bare))
    return summed_up(f"conversation of {sizes[-1]:,} turns", [
        Row("one more turn, CPU, ms", ours.text, {BARE: bare.text}, [ratio.check(", beside its peer")]),
        Row("the same, times its peer", ratio.text),
        Row("CPU by which a message that is sent again makes it dearer, µs", short(message), {BARE: short(its)}),
        *curves.rows({
            "held": "what it holds in memory, bytes a turn",
            "save": "`save`, CPU, µs a turn",
            "load": "`load`, CPU, µs a turn",
            "file": "the file of `save`, bytes a turn",
            "talk_save": "`Conversation.save`, CPU, µs a turn",
            "talk_file": "the file of `Conversation.save`, bytes a turn",
            "talk_shown": "shown, CPU, µs a turn",
        }),
    ])  # fmt: skip


def _panel(bench: Bench) -> list[Row]:
    """A panel that is asked again and again, each time with another tab in front."""
    sizes, window = bench.of((24, 102, 1_002), (12, 18, 24)), bench.of(12, 6)
    curves, before = Curves(), 0
    with Costed(bench, _ANSWER) as kernel:
        kernel.ran("from together_nb import Panel\npanel = Panel(prompt='Tell', api='chat')\npanel")
        for size in sizes:
            kernel.told(f"pressed(panel, {before}, {size - window})")
            run = kernel.ran(f"print(growth_inside.pressed(panel, {size - window}, {size}))")
            before = size
            curves["cost"].add(size, json.loads(run.stdout))
            curves.add(size, {"messages": len(run.messages) / window, "bytes": run.bytes / window / 1e3})
            curves.add(size, kernel.told("standing()"))
    return summed_up(f"panel open for {sizes[-1]:,} runs", curves.rows(_named("a run", "a run, CPU, ms")))


def _cells(bench: Bench) -> list[Row]:
    """Cells of a notebook that stream one after another, in a kernel."""
    sizes, window = bench.of((10, 50, 100, 200), (2, 4, 6)), bench.of(8, 2)
    curves, text = Curves(), "".join(tokens("markdown", 300))
    with Costed(bench, _MARKDOWN) as kernel:
        for number in range(1, sizes[-1] + 1):
            took, run = kernel.cost(_CELL, cell=f"cell-{number}")
            if not run.display["data"]["text/plain"].startswith(text.rstrip()):
                raise AssertionError(f"cell {number} is not left with its whole answer")
            size = next(size for size in sizes if number <= size)
            if number > size - window:
                curves.add(size, {"cost": took, "messages": len(run.messages), "bytes": run.bytes / 1e3})
            if number in sizes:
                curves.add(number, kernel.told("standing()"))
    figures = curves.rows(_named("a cell", "a cell, CPU of the kernel, ms"))
    return summed_up(f"notebook of {sizes[-1]:,} streamed cells", figures)


@in_browser
def pages(bench: Bench) -> list[Row]:
    """Cells of ours, and cells that wait for the answer and show it as Markdown."""
    sizes = bench.of((20, 110, 200), (2, 4, 6))
    display = f"from IPython.display import Markdown\ndisplay(Markdown(''.join(CLIENTS[{BARE!r}](url, {_MARKDOWN!r}))))"
    mine = _page(bench, sizes, ours(_MARKDOWN))
    peers = {} if bench.short else {"the same text by display(Markdown)": _page(bench, sizes, display)}

    def row(figure: str, name: str, *, checked: bool = True) -> Row:
        its = {peer: curves[name].text for peer, curves in peers.items()}
        return Row(figure, mine[name].text, its, [mine[name].check()] if checked else [])

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
    text = "".join(tokens("markdown", 300)).rstrip()
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
