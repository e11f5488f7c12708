"""Many prompts, so many at once: how much of what the server would give is taken."""

import asyncio
import statistics
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

from tests.benchmarks.clients import BARE, CLIENTS, KEY, installed, request
from tests.benchmarks.figures import OURS, Bench, Check, Row, in_turn
from tests.benchmarks.texts import tokens
from tests.benchmarks.workers import Worker, answer_lines

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

    async def answer(client: AsyncOpenAI, room: asyncio.Semaphore) -> str:
        async with room:
            chunks = await client.chat.completions.create(**request(_MODEL))
            return "".join([choice.delta.content or "" async for chunk in chunks for choice in chunk.choices])

    async def all_of_them() -> list[str]:
        async with AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY) as client:
            room = asyncio.Semaphore(at_once)
            return await asyncio.gather(*(answer(client, room) for _ in prompts))

    return asyncio.run(all_of_them())


_BATCHES = {OURS: _ours, f"{BARE}, threads": _threads, "openai, asyncio": _tasks}


def _seconds(batcher: Worker, prompts: int, at_once: int) -> float:
    """How long it takes for so many prompts."""
    told = batcher.ask(f"{prompts} {at_once}")
    if told["whole"] != prompts:
        raise AssertionError(f"{told['whole']} answers of {prompts} are whole")
    return told["seconds"]


def batch(bench: Bench) -> list[Row]:
    """All take turns, after an answer each to become warm."""
    with ExitStack() as stack:
        batchers = {
            name: stack.enter_context(Worker("batching", name, bench.url))
            for name in _BATCHES
            if installed(name.split(",")[0])
        }
        for one in batchers.values():
            _seconds(one, 1, 1)
        return [
            _row(bench, batchers, at_once, rounds)
            for at_once, rounds in bench.of(((8, 1), (32, 2), (64, 3)), ((8, 1),))
        ]


def _row(bench: Bench, batchers: Mapping[str, Worker], at_once: int, rounds: int) -> Row:
    """The ideal is that all places are always taken; since answers are not divided, it cannot quite be had."""
    prompts, late = bench.of(500, 16), []

    def part(name: str) -> float:
        bench.feed.log()
        took = _seconds(batchers[name], prompts, at_once)
        if name == OURS:
            answers = statistics.mean(line["ended"] - line["arrived"] for line in bench.feed.log())
            late.append(100 * (answers / _SECONDS - 1))
        return 100 * prompts * _SECONDS / at_once / took

    series = in_turn(rounds, {name: partial(part, name) for name in batchers})
    most = 100 * prompts / at_once / -(-prompts // at_once)
    return Row.of(
        f"batch of {prompts} prompts of {_TOKENS} tokens at {_RATE}/s, {at_once} at once: % of the ideal throughput, of which {most:.1f} can be had",
        series,
        Check("%", series[OURS].median, 90, at_most=False),
        Check("% that the server itself was late", statistics.median(late), 2),
    )


if __name__ == "__main__":
    client, address = sys.argv[1:]
    text = "".join(tokens("prose", _TOKENS))

    def measured(line: str) -> dict[str, float]:
        prompts, at_once = map(int, line.split())
        begun = time.perf_counter()
        answers = _BATCHES[client](address, ["Tell"] * prompts, at_once)
        return {"seconds": time.perf_counter() - begun, "whole": answers.count(text)}

    answer_lines(measured)
