"""The small language model on this machine, in a whole cell and read by a bare loop from llama.cpp's server itself."""

import json
import time
from typing import Any

from tests.benchmarks.clients import BARE
from tests.benchmarks.figures import OURS, Bench, Check, Row, Series, in_turn
from tests.benchmarks.kernel import Watched
from tests.llama import model_file
from together_nb.values.local_models import SMOLLM

_PROMPT = "What is the capital of France?"
_FIRST = "The"  # its answer begins so at temperature 0
_SERVER = """
from together_nb.local.server import running_server
process = running_server().llama._process
print(process._address.geturl(), process._key)
"""


def _cell(tokens: int) -> str:
    extra = """--extra '{"ignore_eos": true}'"""  # so that the answer has the length that is asked for
    return f"%%together -m {SMOLLM} --api chat --temperature 0 --max-tokens {tokens} {extra}\n{_PROMPT}"


def _bare(url: str, key: str, tokens: int) -> tuple[float, float]:
    """Seconds to the first token, and from there to the end."""
    import requests
    from sseclient import SSEClient

    body: dict[str, Any] = {
        "model": SMOLLM, "messages": [{"role": "user", "content": _PROMPT}], "temperature": 0, "top_p": 0.9, "top_k": 0,
        "min_p": 0, "max_tokens": tokens, "ignore_eos": True, "stream": True, "n": 1,
    }  # fmt: skip
    begun = time.perf_counter()
    first = 0.0
    headers = {"Authorization": f"Bearer {key}"}
    with requests.post(f"{url}/v1/chat/completions", json=body, headers=headers, stream=True, timeout=60) as reply:
        for event in SSEClient(reply).events():
            if event.data == "[DONE]":
                break
            text = json.loads(event.data)["choices"][0]["delta"].get("content")
            if text and not first:
                first = time.perf_counter() - begun
    return first, time.perf_counter() - begun - first


def local_model(bench: Bench) -> list[Row]:
    """Its speed, its first token, its first use, and what the kernel adds."""
    tokens = bench.of(200, 20)
    environment = {"TOGETHER_NB_MODELS": str(model_file().parent)}
    starts = []
    for _ in range(bench.of(5, 1)):
        with Watched(bench, **environment) as kernel:
            starts.append(kernel.hear(_cell(4), keep=True).first_with(_FIRST))
    with Watched(bench, **environment) as kernel:
        kernel.hear(_cell(4))
        printed = (one.content for one in kernel.hear(_SERVER, keep=True).messages if one.kind == "stream")
        url, key = json.loads(next(printed))["text"].split()
        firsts: dict[str, list[float]] = {OURS: [], BARE: []}
        shares: list[float] = []

        def cell() -> float:
            begun, cpu = time.perf_counter(), kernel.cpu()
            heard = kernel.hear(_cell(tokens), keep=True)
            shares.append((kernel.cpu() - cpu) / (10 * (time.perf_counter() - begun)))
            firsts[OURS].append(1e3 * heard.first_with(_FIRST))
            return tokens / (heard.seconds - heard.first_with(_FIRST))

        def bare() -> float:
            first, rest = _bare(url, key, tokens)
            firsts[BARE].append(1e3 * first)
            return tokens / rest

        speeds = in_turn(bench.of(9, 2), {OURS: cell, BARE: bare})
    first = {name: Series(values) for name, values in firsts.items()}
    later = Series(mine - its for mine, its in zip(*firsts.values(), strict=True)).median
    ratio = speeds[OURS].over(speeds[BARE]).median
    start, share = Series(starts), Series(shares)
    return [
        Row.of(
            "SmolLM2 on this machine, tokens per second in a whole cell",
            speeds,
            Check("times the bare loop", ratio, 0.95, at_most=False),
        ),
        Row.of("the same, first token on IOPub, the model loaded, ms", first, Check("ms more", later, 20)),
        Row("the same, from Enter to the first token at first use, s", start, {}, [Check("s", start.median, 3)]),
        Row("the same, the kernel's CPU meanwhile, % of a core", share, {}, [Check("%", share.median, 8)]),
    ]
