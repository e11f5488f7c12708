"""Many prompts, so many at once: how much of what the server would give is taken."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from tests.benchmarks.clients import BARE, CLIENTS, KEY, Worker, installed
from tests.benchmarks.figures import OURS, Check, Row, Series
from tests.benchmarks.texts import tokens

if TYPE_CHECKING:
    from tests.benchmarks.run import Bench

_TOKENS = 50
_RATE = 100  # tokens a second
_MODEL = f"prose-{_TOKENS}-{_RATE}"
_SECONDS = (_TOKENS - 1) / _RATE  # of an answer: the first token comes at once, and the end with the last


def _ours(url: str, prompts: list[str], at_once: int) -> list[str]:
    from together_nb import map_prompts

    told = map_prompts(prompts, max_workers=at_once, progress=False, model=_MODEL, api="chat", base_url=url)
    return [answer.text for answer in told]


def _threads(url: str, prompts: list[str], at_once: int) -> list[str]:
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(lambda _: "".join(CLIENTS[BARE](url, _MODEL)), prompts))


def _tasks(url: str, prompts: list[str], at_once: int) -> list[str]:
    from openai import AsyncOpenAI

    async def answer(client: AsyncOpenAI, room: asyncio.Semaphore, prompt: str) -> str:
        async with room:
            chunks = await client.chat.completions.create(
                model=_MODEL, messages=[{"role": "user", "content": prompt}], stream=True
            )
            return "".join([choice.delta.content or "" async for chunk in chunks for choice in chunk.choices])

    async def all_of_them() -> list[str]:
        async with AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY) as client:
            room = asyncio.Semaphore(at_once)
            return await asyncio.gather(*(answer(client, room, prompt) for prompt in prompts))

    return asyncio.run(all_of_them())


_BATCHES = {OURS: _ours, f"{BARE}, threads": _threads, "openai, asyncio": _tasks}
_NEEDED = {OURS: OURS, f"{BARE}, threads": BARE, "openai, asyncio": "openai"}


class _Batcher(Worker):
    """A client in a process of its own."""

    def __init__(self, name: str, url: str) -> None:
        super().__init__("tests.benchmarks.batching", name, url)

    def seconds(self, prompts: int, at_once: int) -> float:
        """How long it takes for so many prompts."""
        told = self.ask(f"{prompts} {at_once}")
        if told["whole"] != prompts:
            raise AssertionError(f"{told['whole']} answers of {prompts} are whole")
        return told["seconds"]


def batch(bench: Bench) -> list[Row]:
    """All take turns, after an answer each to become warm."""
    prompts = bench.of(500, 16)
    batchers = {name: _Batcher(name, bench.url) for name in _BATCHES if installed(_NEEDED[name])}
    rows = []
    try:
        for one in batchers.values():
            one.seconds(1, 1)
        for at_once, rounds in bench.of(((8, 1), (32, 2), (64, 3)), ((8, 1),)):
            bench.feed.log()
            ideal = prompts * _SECONDS / at_once
            parts: dict[str, list[float]] = {name: [] for name in batchers}
            late = []
            for _ in range(rounds):
                for name, one in batchers.items():
                    parts[name].append(100 * ideal / one.seconds(prompts, at_once))
                    took = statistics.mean(line["ended"] - line["arrived"] for line in bench.feed.log())
                    if name == OURS:
                        late.append(100 * (took / _SECONDS - 1))
            rows.append(_row(prompts, at_once, parts, statistics.median(late)))
    finally:
        for one in batchers.values():
            one.stop()
    return rows


def _row(prompts: int, at_once: int, parts: dict[str, list[float]], late: float) -> Row:
    """The ideal is that all places are always taken; since answers are not divided, it cannot quite be had."""
    series = {name: Series.of(values) for name, values in parts.items()}
    ours = series.pop(OURS)
    most = 100 * prompts / at_once / -(-prompts // at_once)
    return Row(
        f"batch of {prompts} prompts of {_TOKENS} tokens at {_RATE}/s, {at_once} at once: % of the ideal throughput, of which {most:.1f} can be had",
        ours,
        dict(series),
        (Check("%", ours.median, 90, at_most=False), Check("% that the server itself was late", late, 2)),
    )


def main() -> None:
    name, url = sys.argv[1:]
    text = "".join(tokens("prose", _TOKENS))
    for line in sys.stdin:
        prompts, at_once = map(int, line.split())
        begun = time.perf_counter()
        answers = _BATCHES[name](url, ["Tell"] * prompts, at_once)
        told = {"seconds": time.perf_counter() - begun, "whole": answers.count(text)}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
