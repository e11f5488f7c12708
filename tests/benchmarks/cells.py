"""What a whole cell costs a kernel, what it puts on IOPub, and how soon its first token is there."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.clients import BARE, CLIENTS, installed
from tests.benchmarks.figures import OURS, Check, Row, Series, times_less
from tests.benchmarks.kernel import Watched, chatlas_cell, print_cell, together_cell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.benchmarks.kernel import Heard
    from tests.benchmarks.run import Bench

_PACED = 500  # tokens a second
_RAW = """
import socket
def raw(address, model):
    body = '{{"model": "' + model + '", "messages": [{{"role": "user", "content": "Tell"}}], "stream": true}}'
    asked = "POST /v1/chat/completions HTTP/1.1\\r\\nHost: {host}\\r\\nContent-Type: application/json\\r\\n"
    begun = time.perf_counter()
    with socket.create_connection(address) as reached:
        reached.sendall((asked + f"Content-Length: {{len(body)}}\\r\\n\\r\\n{{body}}").encode())
        came = b""
        while b"t0" not in came:
            came += reached.recv(65536)
        return time.perf_counter() - begun
"""


@contextmanager
def _kernel(bench: Bench) -> Iterator[Watched]:
    with tempfile.TemporaryDirectory() as folder:
        kernel = Watched(Path(folder), bench.url)
        try:
            yield kernel
        finally:
            kernel.stop()


def _cells(model: str) -> dict[str, str]:
    """The cell of ours, and of everyone who shows an answer token by token."""
    printed = {f"print, {name}": print_cell(name, model) for name in CLIENTS if name != OURS and installed(name)}
    return {OURS: together_cell(model), f"print, {OURS}": print_cell(OURS, model), **printed}


def cpu_of_a_cell(bench: Bench) -> list[Row]:
    """Processor time a token, all threads of the kernel: Markdown into a live cell."""
    return [*_unpaced_cells(bench), *_paced_cells(bench)]


def _unpaced_cells(bench: Bench) -> list[Row]:
    tokens, rounds = bench.of(10_000, 200), bench.of(3, 1)
    cells = _cells(f"markdown-{tokens}-0")
    if installed("chatlas"):
        cells["chatlas"] = chatlas_cell(f"markdown-{tokens}-0")
    costs = _costs(bench, cells, tokens, rounds)
    ours = costs.pop(OURS)
    least = min((name for name in costs if name.startswith("print")), key=lambda name: costs[name].median)
    checks = [
        Check("times less than the cheapest print", times_less(ours, costs[least]).median, 4, better=15, at_most=False)
    ]
    if "chatlas" in costs:
        checks.append(
            Check("times less than chatlas", times_less(ours, costs["chatlas"]).median, 20, better=100, at_most=False)
        )
    told = f"CPU a token, whole cell, {tokens:,} tokens of Markdown as fast as they come, µs"
    return [Row(told, ours, dict(costs), tuple(checks))]


def _paced_cells(bench: Bench) -> list[Row]:
    tokens, rounds = bench.of(2_500, 100), bench.of(3, 1)
    model = f"markdown-{tokens}-{_PACED}"
    printed = f"print, {BARE}"
    cells = {OURS: together_cell(model), printed: print_cell(BARE, model)}
    if installed("chatlas"):
        cells["chatlas"] = chatlas_cell(model)
    costs = _costs(bench, cells, tokens, rounds)
    ours = costs.pop(OURS)
    check = Check("times less than print", times_less(ours, costs[printed]).median, 4, at_most=False)
    return [Row(f"the same, {tokens:,} tokens at {_PACED}/s, µs", ours, dict(costs), (check,))]


def _costs(bench: Bench, cells: dict[str, str], tokens: int, rounds: int) -> dict[str, Series]:
    """Microseconds a token of each kind of cell, a kernel for each."""
    costs: dict[str, list[float]] = {name: [] for name in cells}
    with tempfile.TemporaryDirectory() as folder:
        kernels = {}
        try:
            for number, name in enumerate(cells):
                (Path(folder) / str(number)).mkdir()
                kernels[name] = Watched(Path(folder) / str(number), bench.url)
                kernels[name].hear(cells[name].replace(f"-{tokens}-", "-100-"))  # what is done once
            for _ in range(rounds):
                for name, cell in cells.items():
                    costs[name].append(1e6 * kernels[name].cpu(cell)[0] / tokens)
        finally:
            for kernel in kernels.values():
                kernel.stop()
    return {name: Series.of(values) for name, values in costs.items()}


def iopub(bench: Bench) -> list[Row]:
    """Messages a second and bytes a token, by rate and length. 100,000 tokens at 50/s would take half an hour."""
    lengths = {
        0: bench.of((1_000, 10_000, 100_000), (100, 1000)),
        500: bench.of((1_000, 10_000, 100_000), (100, 300)),
        50: bench.of((1_000, 10_000), (20, 40)),
    }
    heard: dict[tuple[int, int], Heard] = {}

    def of(rate: int, *counts: int) -> None:
        with _kernel(bench) as kernel:
            kernel.hear(together_cell("prose-100-0"))
            for count in counts:
                heard[rate, count] = kernel.hear(together_cell(f"prose-{count}-{rate}"))

    # The long ones wait most of the time: side by side.
    paced = [(rate, count) for rate in (500, 50) for count in lengths[rate]]
    with ThreadPoolExecutor(len(paced)) as pool:
        list(pool.map(of, *zip(*paced, strict=True)))
    of(0, *lengths[0])
    rows = []
    for rate, counts in lengths.items():
        all_heard = [heard[rate, count] for count in counts]
        bytes_each = [one.bytes / count for one, count in zip(all_heard, counts, strict=True)]
        longest = all_heard[-1]
        checks = [Check(f"times as many at {counts[-1]:,} as at {counts[0]:,}", bytes_each[-1] / bytes_each[0], 1.5)]
        busiest = max(one.busiest_second for one in all_heard)
        checks.append(Check("messages in the busiest second", busiest, 25))
        if rate:
            checks.append(Check("a second in all", len(longest.messages) / longest.seconds, 25))
        pace = f"at {rate}/s" if rate else "as fast as they come"
        told = f"IOPub bytes a token, {' / '.join(f'{count:,}' for count in counts)} tokens {pace}"
        rows.append(Row(told, " / ".join(f"{one:.0f}" for one in bytes_each), _printed(bench, rate), tuple(checks)))
    return rows


def _printed(bench: Bench, rate: int) -> dict[str, str]:
    """What others put on IOPub, as fast as it comes."""
    if rate:
        return {}
    count = bench.of(1_000, 100)
    peers = {f"print, {count:,} tokens": print_cell(BARE, f"prose-{count}-0")}
    if installed("chatlas"):
        peers[f"chatlas, {count:,} tokens"] = chatlas_cell(f"prose-{count}-0")
    with _kernel(bench) as kernel:
        return {name: f"{kernel.hear(cell).bytes / count:,.0f}" for name, cell in peers.items()}


def first_token(bench: Bench) -> list[Row]:
    """From the beginning of a cell to its first token on IOPub, less what a bare socket needs for it."""
    rounds = bench.of(40, 3)
    model = "numbered-10-100"
    host, port = bench.url.removeprefix("http://").split(":")
    cells = {OURS: together_cell(model)}
    cells |= {f"print, {name}": print_cell(name, model) for name in (BARE, "openai") if installed(name)}
    added: dict[str, list[float]] = {name: [] for name in cells}
    with _kernel(bench) as kernel:
        kernel.hear(_RAW.format(host=host))
        for cell in cells.values():
            kernel.hear(cell)
        for _ in range(rounds):
            for name, cell in cells.items():
                raw = kernel.value(f"raw(({host!r}, {port}), {model!r})")
                heard = kernel.hear(cell, keep=True)
                # Ours is seen when its output is put into its place.
                added[name].append(1e3 * (heard.first_with("t0", '"children"' if name == OURS else "") - raw))
    ours, *_ = series = [Series.of(values) for values in added.values()]
    check = Check("ms", ours.median, 5)
    peers = dict(zip(list(cells)[1:], series[1:], strict=True))
    return [Row("first token on IOPub, after a bare socket's first byte, ms", ours, dict(peers), (check,))]
