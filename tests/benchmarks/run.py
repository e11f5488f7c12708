"""Runs the figures and writes the table."""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tests.benchmarks import batching, cells, clicks, engine, growth, loading, local_model, memory, page, pixels
from tests.benchmarks.clients import installed
from tests.benchmarks.figures import RESULTS, Bench, Row, table
from tests.benchmarks.server import Feed

_PACKAGES = (
    "together_nb", "ipython", "ipykernel", "ipywidgets", "jupyterlab", "requests", "urllib3", "sseclient-py",
    "openai", "together", "httpx-sse", "chatlas", "jupyter_ai_magics",
)  # fmt: skip
FIGURES: dict[str, Callable[[Bench], list[Row]]] = {
    "parsing": cells.cpu_to_chunk,
    "cell": cells.cpu_of_a_cell,
    "iopub": cells.iopub,
    "first-token": cells.first_token,
    "growth": growth.growth,
    "pixels": pixels.token_to_pixel,
    "page": page.page_alive,
    "stop": clicks.stop,
    "loading": loading.loading,
    "memory": memory.memory,
    "batch": batching.batch,
    "engine": engine.engine,
    "local-model": local_model.local_model,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=f"any of {', '.join(FIGURES)}; all without one")
    parser.add_argument("--short", action="store_true", help="see that it works; the figures say nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write it there too")
    parser.add_argument("--keep", action="store_true", help="keep the run for the page")
    options = parser.parse_args()
    if unknown := set(options.figures) - FIGURES.keys():
        parser.error(f"there is no figure called {', '.join(sorted(unknown))}; there are {', '.join(FIGURES)}")
    if options.keep and (options.short or options.figures):
        parser.error("the page is of one whole run: leave out --short and the names of figures")
    rows: list[Row] = []
    with Feed() as feed:
        bench = Bench(feed, options.short)
        for name in options.figures or FIGURES:
            begun = time.perf_counter()
            rows += FIGURES[name](bench)
            bench.say(f"{name}: {time.perf_counter() - begun:.0f} s")
    print("\n".join(table([row.cells() for row in rows])))
    run = {
        "date": datetime.now(tz=UTC).date().isoformat(),
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "machine": f"{platform.system()} {platform.machine()}",
        "versions": {name: version(name) for name in _PACKAGES if installed(name)},
        "figures": options.figures or list(FIGURES),
        "rows": [row.to_dict() for row in rows],
    }
    written = json.dumps(run, indent=1, ensure_ascii=False)
    for path in filter(None, (options.json, RESULTS if options.keep else None)):
        path.write_text(written + "\n", encoding="utf-8")
