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
from typing import Any

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
    parser.add_argument("--keep", action="store_true", help="keep the run, or these figures of it, for the page")
    options = parser.parse_args()
    if unknown := set(options.figures) - FIGURES.keys():
        parser.error(f"there is no figure called {', '.join(sorted(unknown))}; there are {', '.join(FIGURES)}")
    if options.keep and options.short:
        parser.error("the page is of no short run: leave out --short")
    date = datetime.now(tz=UTC).date().isoformat()
    rows: list[Row] = []
    told: list[dict[str, Any]] = []
    with Feed() as feed:
        bench = Bench(feed, options.short)
        for name in options.figures or FIGURES:
            begun = time.perf_counter()
            measured = FIGURES[name](bench)
            rows += measured
            told += [row.to_dict() | {"name": name, "date": date} for row in measured]
            bench.say(f"{name}: {time.perf_counter() - begun:.0f} s")
    print("\n".join(table([row.cells() for row in rows])))
    run = {
        "date": date,
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "machine": f"{platform.system()} {platform.machine()}",
        "versions": {name: version(name) for name in _PACKAGES if installed(name)},
        "figures": options.figures or list(FIGURES),
        "rows": told,
    }
    if options.json is not None:
        _write(options.json, run)
    if options.keep:
        _write(RESULTS, _merged(run) if options.figures else run)


def _merged(run: dict[str, Any]) -> dict[str, Any]:
    """The kept run with the figures of this one in the place of its own."""
    kept: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
    others = [row for row in kept["rows"] if row.get("name") not in run["figures"]]
    figures = [name for name in FIGURES if name in {*kept["figures"], *run["figures"]}]
    return kept | {"figures": figures, "rows": [*others, *run["rows"]]}


def _write(path: Path, run: dict[str, Any]) -> None:
    path.write_text(json.dumps(run, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
