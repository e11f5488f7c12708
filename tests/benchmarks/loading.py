"""What one waits for before the first answer: `%load_ext`, and what the first cell takes more than the next ones."""

import statistics
import tempfile
import time

from tests.benchmarks.clients import BARE, CLIENTS, installed
from tests.benchmarks.figures import OURS, Bench, Check, Row, Series, times_less
from tests.benchmarks.kernel import Measured, ours, showing
from tests.benchmarks.texts import tokens

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
# A cell that shows an answer; jupyter_ai_magics has no client for the server.
_CELLS = {name: showing(name, _MODEL) for name in (*CLIENTS, "chatlas")} | {OURS: ours(_MODEL)}


def _loading(kernel: Measured, name: str) -> float:
    """Milliseconds, as the kernel has them."""
    kernel.ran("from time import perf_counter")
    kernel.ran(f"_begun = perf_counter(); {_LOADS[name]}; _took = perf_counter() - _begun")
    return 1000 * float(kernel.value("_took"))


def _extra(kernel: Measured, name: str) -> float:
    """Milliseconds that the first cell takes more than the median of the next ones."""
    first, *more = (_seconds(kernel, _CELLS[name]) for _ in range(1 + _WARM))
    return 1000 * (first - statistics.median(more))


def _seconds(kernel: Measured, cell: str) -> float:
    begun = time.perf_counter()
    run = kernel.ran(cell)
    took = time.perf_counter() - begun
    displayed = (one["content"]["data"] for one in run.of("display_data", "update_display_data"))
    shown = "\n".join([run.stdout, *(data.get("text/markdown", data["text/plain"]) for data in displayed)])
    if "".join(tokens("prose", _TOKENS)).strip() not in shown:
        raise AssertionError(f"the answer is not whole: {shown}")
    return took


def loading(bench: Bench) -> list[Row]:
    """Each in fresh kernels, in turn; the files have been read before."""
    loads: dict[str, list[float]] = {name: [] for name in _LOADS if installed(name)}
    extras: dict[str, list[float]] = {name: [] for name in loads if name in _CELLS}
    warm, rounds = bench.of((1, 5), (0, 1))
    with tempfile.TemporaryDirectory() as compiled:
        # Modules are compiled once for all kernels, as they are when they are installed; wherever this is run from.
        environment = {"PYTHONPYCACHEPREFIX": compiled, "PYTHONDONTWRITEBYTECODE": ""} if warm else {}
        for _ in range(warm + rounds):
            for name, measured in loads.items():
                with Measured(bench, loaded=False, **environment) as kernel:
                    measured.append(_loading(kernel, name))
                    if name in extras:
                        extras[name].append(measured[-1] + _extra(kernel, name))
    # The first ones were compiled.
    series, first = ({name: Series(values[warm:]) for name, values in one.items()} for one in (loads, extras))
    checks = [Check("ms", series[OURS].median, 30, better=20)]
    checks += [
        min((times_less(series, name, 20) for name in kind), key=lambda check: check.value)
        for kind in (series.keys() - {OURS, *_PARTS}, series.keys() & {"httpx-sse"})
        if kind
    ]
    extra = Check("ms", first[OURS].median, 300, better=250)
    return [
        Row.of("loading in a running kernel, `%load_ext` or `import`, ms", series, *checks),
        Row.of("first cell's extra over the next ones, loading included, ms", first, extra),
    ]
