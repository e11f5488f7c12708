"""What a token costs from the bytes to a `Chunk`, and in a whole cell; what that puts on IOPub, and how soon."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

from tests.benchmarks.clients import BARE, CLIENTS, installed, request
from tests.benchmarks.figures import OURS, Bench, Check, Row, Series, in_turn, times_less
from tests.benchmarks.kernel import Heard, Watched, ours, showing
from tests.benchmarks.workers import Worker


def _cost_to_chunk(client: Worker, tokens: int) -> float:
    told = client.ask(f"prose-{tokens}-0")
    if told["tokens"] != tokens:
        raise AssertionError(f"{told['tokens']} tokens of {tokens}")
    return 1e6 * told["cpu"] / tokens


def cpu_to_chunk(bench: Bench) -> list[Row]:
    """Processor time a token, all threads, as fast as they come."""
    tokens = bench.of(50_000, 500)
    with ExitStack() as stack:
        costs = {}
        for name in filter(installed, CLIENTS):
            client = stack.enter_context(Worker("clients", name, bench.url))
            _cost_to_chunk(client, 500)  # what is done once
            costs[name] = partial(_cost_to_chunk, client, tokens)
        series = in_turn(bench.of(5, 2), costs)
    checks = [Check("times the bare loop", series[OURS].over(series[BARE]).median, 1.3, better=1)]
    checks += [times_less(series, name, 6, 12) for name in ("openai", "together") if name in series]
    return [Row.of(f"CPU a token, bytes to `Chunk`, {tokens:,} tokens, µs", series, *checks)]


def _cells(model: str, *clients: str) -> dict[str, str]:
    """The cell of ours, and of clients; those that do not draw by themselves do so with `print`."""
    others = {
        name if name == "chatlas" else f"print, {name}": showing(name, model) for name in filter(installed, clients)
    }
    return {OURS: ours(model), **others}


def _costs(bench: Bench, cells: dict[str, str], tokens: int) -> dict[str, Series]:
    """CPU microseconds a token of each kind of cell, all threads of the kernel, a kernel for each."""
    with ExitStack() as stack:
        measures = {}
        for name, cell in cells.items():
            kernel = stack.enter_context(Watched(bench))
            kernel.hear(cell.replace(f"-{tokens}-", "-100-"))  # what is done once
            measures[name] = partial(kernel.cost, cell)
        costs = in_turn(bench.of(3, 1), measures)
    return {name: Series(1e3 * value / tokens for value in one.values) for name, one in costs.items()}


def cpu_of_a_cell(bench: Bench) -> list[Row]:
    """Markdown into a live cell: as fast as it comes, with all who show an answer token by token, and paced."""
    fast, slow, rate = bench.of(10_000, 200), bench.of(2_500, 100), 500
    costs = _costs(bench, _cells(f"markdown-{fast}-0", *CLIENTS, "chatlas"), fast)
    least = min((name for name in costs if name.startswith("print")), key=lambda name: costs[name].median)
    checks = [times_less(costs, least, 4, 15, called="the cheapest print")]
    if "chatlas" in costs:
        checks.append(times_less(costs, "chatlas", 20, 100))
    paced = _costs(bench, _cells(f"markdown-{slow}-{rate}", BARE, "chatlas"), slow)
    check = times_less(paced, f"print, {BARE}", 4, called="print")
    return [
        Row.of(f"CPU a token, whole cell, {fast:,} tokens of Markdown as fast as they come, µs", costs, *checks),
        Row.of(f"the same, {slow:,} tokens at {rate}/s, µs", paced, check),
    ]


def iopub(bench: Bench) -> list[Row]:
    """Messages a second and bytes a token, by rate and length. 100,000 tokens at 50/s would take half an hour."""
    lengths = {
        0: bench.of((1_000, 10_000, 100_000), (100, 1000)),
        500: bench.of((1_000, 10_000, 100_000), (100, 300)),
        50: bench.of((1_000, 10_000), (20, 40)),
    }
    heard: dict[tuple[int, int], Heard] = {}

    def hear(rate: int, *counts: int) -> None:
        with Watched(bench) as kernel:
            kernel.hear(ours("prose-100-0"))
            for count in counts:
                heard[rate, count] = kernel.hear(ours(f"prose-{count}-{rate}"))

    # The long ones wait most of the time: side by side.
    paced = [(rate, count) for rate in (500, 50) for count in lengths[rate]]
    with ThreadPoolExecutor(len(paced)) as pool:
        list(pool.map(hear, *zip(*paced, strict=True)))
    hear(0, *lengths[0])
    rows = []
    for rate, counts in lengths.items():
        each = [heard[rate, count] for count in counts]
        bytes_each = [one.bytes / count for one, count in zip(each, counts, strict=True)]
        checks = [
            Check(f"times as many at {counts[-1]:,} as at {counts[0]:,}", bytes_each[-1] / bytes_each[0], 1.5),
            Check("messages in the busiest second", max(one.busiest_second for one in each), 25),
        ]
        if rate:
            checks.append(Check("a second in all", len(each[-1].messages) / each[-1].seconds, 25))
        told = f"IOPub bytes a token, {' / '.join(f'{count:,}' for count in counts)} tokens"
        told += f" at {rate}/s" if rate else " as fast as they come"
        peers = {} if rate else _printed(bench)
        rows.append(Row(told, " / ".join(f"{one:.0f}" for one in bytes_each), peers, checks))
    return rows


def _printed(bench: Bench) -> dict[str, str]:
    """What others put on IOPub, as fast as it comes."""
    count = bench.of(1_000, 100)
    model = f"prose-{count}-0"
    with Watched(bench) as kernel:
        return {
            f"{called}, {count:,} tokens": f"{kernel.hear(showing(name, model)).bytes / count:,.0f}"
            for called, name in (("print", BARE), ("chatlas", "chatlas"))
            if installed(name)
        }


def _raw(url: str, model: str) -> float:
    """Seconds until a bare socket has the first token."""
    host, port = url.removeprefix("http://").split(":")
    body = json.dumps(request(model))
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
    begun = time.perf_counter()
    with socket.create_connection((host, int(port))) as reached:
        reached.sendall((head + body).encode())
        came = b""
        while b"t0" not in came:
            came += reached.recv(65536)
        return time.perf_counter() - begun


def first_token(bench: Bench) -> list[Row]:
    """From the beginning of a cell to its first token on IOPub, less what a bare socket needs for it."""
    model = "numbered-10-100"
    cells = _cells(model, BARE, "openai")
    with Watched(bench) as kernel:

        def added(name: str) -> float:
            raw = _raw(bench.url, model)
            # Ours is seen when its output is put into its place.
            first = kernel.hear(cells[name], keep=True).first_with("t0", '"children"' if name == OURS else "")
            return 1e3 * (first - raw)

        for cell in cells.values():
            kernel.hear(cell)
        series = in_turn(bench.of(40, 3), {name: partial(added, name) for name in cells})
    check = Check("ms", series[OURS].median, 5)
    return [Row.of("first token on IOPub, after a bare socket's first byte, ms", series, check)]
