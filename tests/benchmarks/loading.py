"""What one waits for before the first answer: `%load_ext`, and what the first cell takes more than the next ones."""

from __future__ import annotations

import statistics
import tempfile
import time
from contextlib import closing
from typing import TYPE_CHECKING

from tests.benchmarks.clients import BARE, CLIENTS, KEY, installed
from tests.benchmarks.figures import OURS, Check, Row, Series, times_less
from tests.benchmarks.kernel import ROOT, print_cell, together_cell
from tests.benchmarks.texts import tokens
from tests.kernels import Kernel

if TYPE_CHECKING:
    from tests.benchmarks.run import Bench
    from tests.kernels import Run

_TOKENS = 20
_MODEL = f"prose-{_TOKENS}-0"
_WARM = 5  # cells after the first
_LOADS = {
    OURS: "get_ipython().run_line_magic('load_ext', 'together_nb')",
    "jupyter_ai_magics": "get_ipython().run_line_magic('load_ext', 'jupyter_ai_magics')",
    "openai": "import openai",
    "together": "import together",
    "chatlas": "import chatlas",
    "httpx-sse": "import httpx, httpx_sse",
    BARE: "import json, requests, sseclient",
}
_PARTS = ("httpx-sse", BARE)  # of which one makes a client oneself


def _cell(name: str, url: str) -> str | None:
    """A cell that shows an answer; None of what has no client for the server."""
    if name == OURS:
        return together_cell(_MODEL)
    if name == "chatlas":
        client = f"chatlas.ChatOpenAICompletions(base_url={f'{url}/v1'!r}, api_key={KEY!r}, model={_MODEL!r})"
        return f"_ = {client}.chat('Tell')"
    if name in CLIENTS:
        return print_cell(name, _MODEL)
    return None


class _Fresh:
    """A kernel that has loaded nothing yet.

    Modules are compiled once for all kernels, as they are when they are installed; wherever this is run from.
    """

    def __init__(self, bench: Bench, name: str, compiled: str) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._cell = _cell(name, bench.url)
        self._load = _LOADS[name]
        self._url = bench.url
        self._kernel = Kernel(
            self._folder.name,
            loaded=False,
            PYTHONPATH=str(ROOT),
            **({"PYTHONPYCACHEPREFIX": compiled, "PYTHONDONTWRITEBYTECODE": ""} if compiled else {}),
            TOGETHER_BASE_URL=bench.url,
        )

    def close(self) -> None:
        self._kernel.stop()
        self._folder.cleanup()

    def loading(self) -> float:
        """Milliseconds, as the kernel has them."""
        self._run(f"from time import perf_counter; from tests.benchmarks.clients import CLIENTS; url = {self._url!r}")
        self._run(f"_begun = perf_counter(); {self._load}; _took = perf_counter() - _begun")
        return 1000 * float(self._kernel.value("_took"))

    def extra(self) -> float | None:
        """Milliseconds that the first cell takes more than the median of the next ones."""
        if self._cell is None:
            return None
        first, *more = (self._seconds() for _ in range(1 + _WARM))
        return 1000 * (first - statistics.median(more))

    def _seconds(self) -> float:
        begun = time.perf_counter()
        run = self._run(self._cell)
        took = time.perf_counter() - begun
        if "".join(tokens("prose", _TOKENS)).strip() not in _shown(run):
            raise AssertionError(f"the answer is not whole: {_shown(run)}")
        return took

    def _run(self, code: str) -> Run:
        run = self._kernel.run(code).wait()
        if run.status != "ok":
            raise AssertionError(f"{code}: {run.reply['content']}")
        return run


def _shown(run: Run) -> str:
    """All that the cell displayed."""
    displayed = (one["content"]["data"] for one in run.of("display_data", "update_display_data"))
    return "\n".join([run.stdout, *(data.get("text/markdown", data["text/plain"]) for data in displayed)])


def loading(bench: Bench) -> list[Row]:
    """Each in fresh kernels, in turn; the files have been read before."""
    names = [name for name in _LOADS if installed(name)]
    loads: dict[str, list[float]] = {name: [] for name in names}
    extras: dict[str, list[float]] = {name: [] for name in names if _cell(name, bench.url) is not None}
    warm, rounds = bench.of((1, 5), (0, 1))
    with tempfile.TemporaryDirectory() as compiled:
        for number in range(warm + rounds):
            for name in names:
                with closing(_Fresh(bench, name, compiled if warm else "")) as fresh:
                    load, extra = fresh.loading(), fresh.extra()
                if number >= warm:  # before that they are compiled
                    loads[name].append(load)
                    if extra is not None:
                        extras[name].append(load + extra)
    return [_of_loading(loads), _of_first_cell(extras)]


def _of_loading(loads: dict[str, list[float]]) -> Row:
    series = {name: Series.of(values) for name, values in loads.items()}
    ours = series[OURS]
    checks = [Check("ms", ours.median, 30, better=20)]
    times = {name: times_less(ours, one).median for name, one in series.items() if name != OURS}
    for kind in ({*times} - {*_PARTS}, {*times} & {"httpx-sse"}):
        if kind:
            fastest = min(kind, key=times.__getitem__)
            checks.append(Check(f"times less than {fastest}", times[fastest], 20, at_most=False))
    return Row(
        "loading in a running kernel, `%load_ext` or `import`, ms",
        ours,
        {name: one for name, one in series.items() if name != OURS},
        tuple(checks),
    )


def _of_first_cell(extras: dict[str, list[float]]) -> Row:
    series = {name: Series.of(values) for name, values in extras.items()}
    ours = series.pop(OURS)
    return Row(
        "first cell's extra over the next ones, loading included, ms",
        ours,
        dict(series),
        (Check("ms", ours.median, 300, better=250),),
    )
