"""How much a kernel grows by answers, those that are kept and those that are not."""

from __future__ import annotations

import tempfile
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.clients import BARE, installed
from tests.benchmarks.figures import OURS, Check, Row, Series
from tests.benchmarks.kernel import ROOT
from tests.benchmarks.texts import tokens
from tests.kernels import Kernel

if TYPE_CHECKING:
    from tests.benchmarks.run import Bench
    from tests.kernels import Run

_STATM = Path("/proc/self/statm")
_SETUP = f"""
import gc, os, pathlib, together_nb
from tests.benchmarks.clients import CLIENTS
kept = []
def resident():
    gc.collect()
    return int(pathlib.Path({str(_STATM)!r}).read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
"""
_WINDOWS = 2
# Each reads an answer, and leaves its length in `letters` and itself in the kernel, or not.
_STREAM = ("letters = sum(len(chunk.text) for chunk in together_nb.stream('Tell', model={model!r}, api='chat'))",)
_CELL = (
    "%%together --api chat -m {model}\nTell",
    "letters = len(_together.text); together_nb.history.clear(); del _together",
)
_KEPT = ("%%together --api chat -m {model} -o kept_{number}\nTell", "letters = len(kept_{number}.text)")
_CLIENT_KEPT = ("kept.append(''.join(CLIENTS[{name!r}]({url!r}, {model!r}))); letters = len(kept[-1])",)
_CLIENT_DROPPED = ("letters = sum(map(len, CLIENTS[{name!r}]({url!r}, {model!r})))",)


class _Growing:
    """A kernel that is watched as it grows; `name` is the client that its cells use."""

    def __init__(self, bench: Bench, name: str) -> None:
        self._bench = bench
        self._name = name
        self._number = 0
        self._folder = tempfile.TemporaryDirectory()
        self._kernel = Kernel(self._folder.name, PYTHONPATH=str(ROOT), TOGETHER_BASE_URL=bench.url)
        self._run(_SETUP)

    def close(self) -> None:
        self._kernel.stop()
        self._folder.cleanup()

    def growth(self, cells: tuple[str, ...], count: int, *, warm: int, answers: int) -> Series:
        """Bytes for each byte of the text, of `answers` answers of so many tokens after `warm` of the kind."""
        count, warm, answers = self._bench.of((count, warm, answers), (2_000, 1, 1))
        text = "".join(tokens("prose", count))
        for _ in range(warm):
            self._answer(cells, count, len(text))
        each = max(answers // _WINDOWS, 1)
        sizes = [self._resident()]
        for _ in range(_WINDOWS):
            for _ in range(each):
                self._answer(cells, count, len(text))
            sizes.append(self._resident())
        return Series.of([(after - before) / (each * len(text.encode())) for before, after in pairwise(sizes)])

    def _answer(self, cells: tuple[str, ...], count: int, letters: int) -> None:
        self._number += 1
        for cell in cells:
            self._run(cell.format(number=self._number, name=self._name, url=self._bench.url, model=f"prose-{count}-0"))
        came = int(self._kernel.value("letters"))
        if came != letters:
            raise AssertionError(f"{self._name} had {came} letters of {letters}")

    def _resident(self) -> int:
        return int(self._kernel.value("resident()"))

    def _run(self, code: str) -> Run:
        run = self._kernel.run(code).wait()
        if run.status != "ok":
            raise AssertionError(f"{code}: {run.reply['content']}")
        return run


def memory(bench: Bench) -> list[Row]:
    """Growth of the resident memory; of what is kept last, or it would stand in what is freed of the rest."""
    if not _STATM.exists():
        bench.say("memory: this system does not tell how much a process has")
        return []
    with closing(_Growing(bench, OURS)) as kernel:
        streamed = kernel.growth(_STREAM, 100_000, warm=3, answers=10)
        # The heap finds its size by about the fifteenth: seen over forty, of which the last twenty-five added nothing.
        shown = kernel.growth(_CELL, 100_000, warm=15, answers=10)
        kept = kernel.growth(_KEPT, 100_000, warm=3, answers=10)
    with closing(_Growing(bench, BARE)) as kernel:
        kept_by_others = {BARE: kernel.growth(_CLIENT_KEPT, 100_000, warm=3, answers=10)}
    dropped_by_others = {}
    if installed("openai"):
        with closing(_Growing(bench, "openai")) as kernel:
            dropped_by_others["openai"] = kernel.growth(_CLIENT_DROPPED, 50_000, warm=2, answers=4)
    return [
        Row(
            "memory, a million tokens streamed and kept, of their text's size",
            kept,
            kept_by_others,
            (Check("of the text's size", _mean(kept), 3, better=2),),
        ),
        _dropped("memory, a million tokens streamed by `stream` and dropped", streamed, dropped_by_others),
        _dropped("memory, a million tokens streamed in cells, the history cleared, after 15 such cells", shown, {}),
    ]


def _mean(series: Series) -> float:
    return sum(series.values) / len(series.values)


def _dropped(figure: str, ours: Series, peers: dict[str, Series]) -> Row:
    """Flat is what no text stays of."""
    return Row(f"{figure}, of their text's size", ours, peers, (Check("of the text's size", _mean(ours), 0.05),))
