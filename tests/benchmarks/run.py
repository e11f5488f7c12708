"""Runs the figures and writes the table."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tests.benchmarks import batching, cells, clicks, engine, growth, loading, memory, page, parsing, pixels
from tests.benchmarks.clients import installed
from tests.benchmarks.figures import RESULTS, Row, table
from tests.benchmarks.server import Feed

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")
_PACKAGES = (
    "together_nb", "ipython", "ipykernel", "ipywidgets", "jupyterlab", "requests", "urllib3", "sseclient-py",
    "openai", "together", "httpx-sse", "chatlas", "jupyter_ai_magics",
)  # fmt: skip


@dataclass
class Bench:
    """What the figures are measured with.

    Parameters
    ----------
    feed
        The server.
    short
        Whether it is only to be seen that all of it works.
    """

    feed: Feed
    short: bool

    @property
    def url(self) -> str:
        return self.feed.url

    def of(self, whole: _T, short: _T) -> _T:
        """One or the other, as this is a short run or not."""
        return short if self.short else whole

    def say(self, words: str) -> None:
        """Tell how far it has come, beside the table."""
        print(words, file=sys.stderr, flush=True)


FIGURES: dict[str, Callable[[Bench], list[Row]]] = {
    "parsing": parsing.cpu_to_chunk,
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
}


def _about() -> dict[str, Any]:
    return {
        "date": datetime.now(tz=UTC).date().isoformat(),
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "machine": f"{platform.system()} {platform.machine()}",
        "versions": {name: version(name) for name in _PACKAGES if installed(name)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=f"any of {', '.join(FIGURES)}; all without one")
    parser.add_argument("--short", action="store_true", help="see that it works; the figures say nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write it there too")
    parser.add_argument("--keep", action="store_true", help="keep the run for the page")
    options = parser.parse_args()
    unknown = set(options.figures) - set(FIGURES)
    if unknown:
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
    about = _about() | {"figures": options.figures or list(FIGURES)}
    written = json.dumps(about | {"rows": [row.to_dict() for row in rows]}, indent=1, ensure_ascii=False)
    for path in filter(None, (options.json, RESULTS if options.keep else None)):
        path.write_text(written + "\n", encoding="utf-8")
