"""What a token costs from the bytes to a `Chunk`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.benchmarks.clients import BARE, CLIENTS, Client, installed
from tests.benchmarks.figures import OURS, Check, Row, Series, times_less

if TYPE_CHECKING:
    from tests.benchmarks.run import Bench


def cpu_to_chunk(bench: Bench) -> list[Row]:
    """Processor time a token, all threads, as fast as they come."""
    tokens, rounds = bench.of(50_000, 500), bench.of(5, 2)
    clients = {name: Client(name, bench.url) for name in CLIENTS if installed(name)}
    costs: dict[str, list[float]] = {name: [] for name in clients}
    try:
        for client in clients.values():
            client.measure("prose-500-0")
        for _ in range(rounds):
            for name, client in clients.items():
                told = client.measure(f"prose-{tokens}-0")
                if told["tokens"] != tokens:
                    raise AssertionError(f"{name} had {told['tokens']} tokens of {tokens}")
                costs[name].append(1e6 * told["cpu"] / tokens)
    finally:
        for client in clients.values():
            client.stop()
    series = {name: Series.of(values) for name, values in costs.items()}
    ours = series.pop(OURS)
    checks = [Check("times the bare loop", ours.over(series[BARE]).median, 1.3, better=1)]
    checks += [
        Check(f"times less than {name}", times_less(ours, series[name]).median, 6, better=12, at_most=False)
        for name in ("openai", "together")
        if name in series
    ]
    return [Row(f"CPU a token, bytes to `Chunk`, {tokens:,} tokens, µs", ours, dict(series), tuple(checks))]
