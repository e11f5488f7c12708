"""Where the cost may grow faster than the work: each curve at several sizes, and its end beside its beginning."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from tests.benchmarks.clients import BARE
from tests.benchmarks.curves import Curves, summed_up
from tests.benchmarks.figures import Row, short
from tests.benchmarks.growth_kernel import costed
from tests.benchmarks.growth_pages import pages
from tests.benchmarks.texts import tokens

if TYPE_CHECKING:
    from tests.benchmarks.run import Bench

_ANSWER = "prose-20-0"  # as `growth_inside` has it
_CELL = "%%together --api chat\nAnd what became of the boats?"
_STANDING = {
    "widgets": "widgets in the kernel",
    "comms": "comms in the kernel",
    "threads": "threads in the kernel",
    "memory": "the kernel's memory, MB",
}


def growth(bench: Bench) -> list[Row]:
    """A long history, a long conversation, a panel that stays open, a notebook of many cells."""
    rows: list[Row] = []
    for part in (_history, _conversation, _panel, _cells, pages):
        begun = time.perf_counter()
        rows += part(bench)
        bench.say(f"  {part.__name__.strip('_')}: {time.perf_counter() - begun:.0f} s")
    return rows


def _history(bench: Bench) -> list[Row]:
    """Answers kept in `history`, and what goes over them."""
    sizes, rounds = bench.of((100, 1_000, 10_000), (35, 50, 70)), bench.of(7, 1)
    curves = Curves()
    with costed(bench, _ANSWER) as kernel:

        def once() -> dict[str, float]:
            return {
                "list": kernel.cost("%together history"),
                "usage": kernel.cost("%together usage"),
                "tab": kernel.cost_of_tab("%%together --temp", "--temperature"),
                "shown": kernel.told("history_tab()"),
                "cell": kernel.cost(_CELL),
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
    with costed(bench, _ANSWER) as kernel:
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
        Row("one more turn, CPU, ms", ours.text, {BARE: bare.text}, (ratio.check(", beside its peer"),)),
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
    with costed(bench, _ANSWER) as kernel:
        kernel.ran("from together_nb import Panel\npanel = Panel(prompt='Tell', api='chat')\npanel")
        for size in sizes:
            kernel.told(f"pressed(panel, {before}, {size - window})")
            run = kernel.ran(f"print(growth_inside.pressed(panel, {size - window}, {size}))")
            before = size
            curves["run"].add(size, json.loads(run.stdout))
            curves.add(size, {"messages": len(run.messages) / window, "bytes": run.bytes / window / 1e3})
            curves.add(size, kernel.told("standing()"))
    return summed_up(f"panel open for {sizes[-1]:,} runs", curves.rows({
        "run": "a run, CPU, ms",
        "messages": "IOPub messages a run",
        "bytes": "IOPub kB a run",
        **_STANDING,
    }))  # fmt: skip


def _cells(bench: Bench) -> list[Row]:
    """Cells of a notebook that stream one after another, in a kernel."""
    sizes, window = bench.of((10, 50, 100, 200), (2, 4, 6)), bench.of(8, 2)
    curves, text = Curves(), "".join(tokens("markdown", 300))
    with costed(bench, "markdown-300-0") as kernel:
        for number in range(1, sizes[-1] + 1):
            begun = kernel.cpu()
            run = kernel.ran(_CELL, cell=f"cell-{number}")
            took = kernel.cpu() - begun
            if not run.display["data"]["text/plain"].startswith(text.rstrip()):
                raise AssertionError(f"cell {number} is not left with its whole answer")
            size = next(size for size in sizes if number <= size)
            if number > size - window:
                curves.add(size, {"cell": took, "messages": len(run.messages), "bytes": run.bytes / 1e3})
            if number in sizes:
                curves.add(number, kernel.told("standing()"))
    return summed_up(f"notebook of {sizes[-1]:,} streamed cells", curves.rows({
        "cell": "a cell, CPU of the kernel, ms",
        "messages": "IOPub messages a cell",
        "bytes": "IOPub kB a cell",
        **_STANDING,
    }))  # fmt: skip
