"""The embedded engine: its training, and how fast it writes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from itertools import count
from typing import TYPE_CHECKING, Any

from tests.benchmarks.figures import Check, Row, Series
from tests.benchmarks.kernel import ROOT
from tests.kernels import environment_without

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.benchmarks.run import Bench

_PROMPT = "Once upon a time"
_SAMPLING: dict[str, Any] = {
    "temperature": 0.8, "top_p": 0.95, "top_k": 50, "min_p": 0.01, "repetition_penalty": 1.1, "presence_penalty": 0.2,
    "frequency_penalty": 0.2, "logprobs": 5,
}  # fmt: skip
_LONGEST = 500  # tokens of one answer
_WARM = 3  # answers


def _alternatives(text: str, top: tuple[Any, ...]) -> int:
    """1 for a token, which has come with its alternatives."""
    if text and len(top) != _SAMPLING["logprobs"]:
        raise AssertionError(f"{text!r} came with {len(top)} alternatives")
    return bool(text)


def _generated(seed: int) -> Iterator[int]:
    from together_nb import SamplingParams
    from together_nb.local.ngram import default_model

    for piece in default_model().generate(_PROMPT, SamplingParams(**_SAMPLING, seed=seed, max_tokens=_LONGEST)):
        yield _alternatives(piece.text, piece.top)


def _streamed(seed: int) -> Iterator[int]:
    """Through its server, as `stream` has it."""
    from together_nb import settings, stream

    settings.local_tokens_per_second = 0
    for chunk in stream(_PROMPT, model="local/ngram", **_SAMPLING, seed=seed, max_tokens=_LONGEST):
        yield _alternatives(chunk.text, chunk.tokens[0].top if chunk.tokens else ())


def _per_second(answers: Iterable[Iterator[int]], tokens: int) -> float:
    """Tokens a second, of whole answers that together have so many or a few more."""
    came, begun = 0, time.perf_counter()
    for answer in answers:
        came += sum(answer)
        if came >= tokens:
            break
    return came / (time.perf_counter() - begun)


def _measure(tokens: int) -> dict[str, float]:
    begun = time.perf_counter()
    from together_nb.local.ngram import default_model

    default_model()
    told = {"training": time.perf_counter() - begun}
    # No seed twice: what the one wrote, the model's caches would have ready for the other.
    seeds = count()
    for name, answer in (("generator", _generated), ("stream", _streamed)):
        for _ in range(_WARM):
            sum(answer(next(seeds)))
        told[name] = _per_second(map(answer, seeds), tokens)
    return told


def engine(bench: Bench) -> list[Row]:
    """Each round in a process of its own."""
    tokens = bench.of(2_000, 200)
    told = []
    for _ in range(bench.of(5, 1)):
        ran = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.engine", str(tokens)],
            cwd=ROOT, env=environment_without("TOGETHER_"), stdout=subprocess.PIPE, check=True, text=True,
        )  # fmt: skip
        told.append(json.loads(ran.stdout))
    training, generator, stream = (
        Series.of([one[name] for one in told]) for name in ("training", "generator", "stream")
    )
    how = "tokens a second, 5 log-probabilities each, all penalties"
    return [
        Row("embedded engine: import and training, s", training, {}, (Check("s", training.median, 1, better=0.3),)),
        Row(f"embedded engine: {how}", generator, {}, (_fast(generator),)),
        Row(f"embedded engine through its server, as `stream` has them: {how}", stream, {}, (_fast(stream),)),
    ]


def _fast(series: Series) -> Check:
    return Check("a second", series.median, 5_000, at_most=False)


if __name__ == "__main__":
    print(json.dumps(_measure(int(sys.argv[1]))))
