"""How much a kernel grows by answers, those that are kept and those that are not."""

import os
from itertools import pairwise
from pathlib import Path

from tests.benchmarks.clients import BARE, installed
from tests.benchmarks.figures import Bench, Check, Row, Series
from tests.benchmarks.kernel import Measured, ours
from tests.benchmarks.texts import tokens

_WINDOWS = 2
# Each reads an answer, and leaves its length in `letters` and itself in the kernel, or not.
_STREAM = ("letters = sum(len(chunk.text) for chunk in together_nb.stream('Tell', model={model!r}, api='chat'))",)
_CELL = (ours("{model}"), "letters = len(_together.text); together_nb.history.clear(); del _together")
_KEPT = (ours("{model}", "-o", "kept_{number}"), "letters = len(kept_{number}.text)")
_BARE_KEPT = (f"kept.append(''.join(CLIENTS[{BARE!r}](url, {{model!r}}))); letters = len(kept[-1])",)
_OPENAI_DROPPED = ("letters = sum(map(len, CLIENTS['openai'](url, {model!r})))",)


class _Growing(Measured):
    """A kernel that is watched as it grows."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self._bench = bench
        self._number = 0
        self.ran("import gc, together_nb\nkept = []")

    def growth(self, cells: tuple[str, ...], count: int, *, warm: int, answers: int) -> Series:
        """Bytes for each byte of the text, of `answers` answers of so many tokens after `warm` of the kind."""
        count, warm, answers = self._bench.of((count, warm, answers), (2_000, 1, 1))
        each = max(answers // _WINDOWS, 1)
        sizes = []
        for more in (warm, *[each] * _WINDOWS):
            for _ in range(more):
                self._answer(cells, count)
            self.ran("gc.collect();")
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
            sizes.append(pages * os.sysconf("SC_PAGE_SIZE"))
        text = "".join(tokens("prose", count)).encode()
        return Series((after - before) / (each * len(text)) for before, after in pairwise(sizes))

    def _answer(self, cells: tuple[str, ...], count: int) -> None:
        self._number += 1
        for cell in cells:
            self.ran(cell.format(number=self._number, model=f"prose-{count}-0"))
        came, letters = int(self.value("letters")), sum(map(len, tokens("prose", count)))
        if came != letters:
            raise AssertionError(f"{came} letters of {letters} came of {cells}")


def memory(bench: Bench) -> list[Row]:
    """Growth of the resident memory; of what is kept last, or it would stand in what is freed of the rest."""
    if not Path("/proc/self/statm").exists():
        bench.say("memory: this system does not tell how much a process has")
        return []
    with _Growing(bench) as kernel:
        streamed = kernel.growth(_STREAM, 100_000, warm=3, answers=10)
        # The heap finds its size by about the fifteenth: seen over forty, of which the last twenty-five added nothing.
        shown = kernel.growth(_CELL, 100_000, warm=15, answers=10)
        kept = kernel.growth(_KEPT, 100_000, warm=3, answers=10)
    with _Growing(bench) as kernel:
        kept_by_others = {BARE: kernel.growth(_BARE_KEPT, 100_000, warm=3, answers=10)}
    dropped_by_others = {}
    if installed("openai"):
        with _Growing(bench) as kernel:
            dropped_by_others["openai"] = kernel.growth(_OPENAI_DROPPED, 50_000, warm=2, answers=4)
    return [
        _row("and kept", kept, kept_by_others, 3, better=2),
        # Flat is what no text stays of.
        _row("by `stream` and dropped", streamed, dropped_by_others, 0.05),
        _row("in cells, the history cleared, after 15 such cells", shown, {}, 0.05),
    ]


def _row(how: str, ours: Series, peers: dict[str, Series], target: float, better: float | None = None) -> Row:
    check = Check("of the text's size", sum(ours.values) / len(ours.values), target, better)
    return Row(f"memory, a million tokens streamed {how}, of their text's size", ours, peers, [check])
