"""The embedded engine: its training, and how fast it writes."""

import time
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any

from tests.benchmarks.figures import Bench, Check, Row, Series
from tests.benchmarks.workers import Worker, answer_lines

_PROMPT = "Once upon a time"
_SAMPLING: dict[str, Any] = {
    "temperature": 0.8, "top_p": 0.95, "top_k": 50, "min_p": 0.01, "repetition_penalty": 1.1, "presence_penalty": 0.2,
    "frequency_penalty": 0.2, "logprobs": 5, "max_tokens": 500,
}  # fmt: skip
_WARM = 3  # answers


def _alternatives(text: str, top: tuple[Any, ...]) -> int:
    """1 for a token, which has come with its alternatives."""
    if text and len(top) != _SAMPLING["logprobs"]:
        raise AssertionError(f"{text!r} came with {len(top)} alternatives")
    return bool(text)


def _generated(seed: int) -> Iterator[int]:
    from together_nb import SamplingParams
    from together_nb.local.ngram import default_model

    for piece in default_model().generate(_PROMPT, SamplingParams(**_SAMPLING, seed=seed)):
        yield _alternatives(piece.text, piece.top)


def _streamed(seed: int) -> Iterator[int]:
    """Through its server, as `stream` has it."""
    from together_nb import settings, stream

    settings.local_tokens_per_second = 0
    for chunk in stream(_PROMPT, model="local/ngram", **_SAMPLING, seed=seed):
        yield _alternatives(chunk.text, chunk.tokens[0].top if chunk.tokens else ())


def _per_second(answers: Iterable[Iterator[int]], tokens: int) -> float:
    """Tokens a second, of whole answers that together have so many or a few more."""
    came, begun = 0, time.perf_counter()
    for answer in answers:
        came += sum(answer)
        if came >= tokens:
            break
    return came / (time.perf_counter() - begun)


def _measured(tokens: str) -> list[float]:
    begun = time.perf_counter()
    from together_nb.local.ngram import default_model

    default_model()
    told = [time.perf_counter() - begun]
    # No seed twice: what the one wrote, the model's caches would have ready for the other.
    seeds = count()
    for answer in (_generated, _streamed):
        for _ in range(_WARM):
            sum(answer(next(seeds)))
        told.append(_per_second(map(answer, seeds), int(tokens)))
    return told


def engine(bench: Bench) -> list[Row]:
    """Each round in a process of its own."""
    rounds = []
    for _ in range(bench.of(5, 1)):
        with Worker("engine") as worker:
            rounds.append(worker.ask(bench.of("2000", "200")))
    training, generator, stream = map(Series, zip(*rounds, strict=True))

    def row(engine: str, speed: Series) -> Row:
        figure = f"{engine}: tokens a second, 5 log-probabilities each, all penalties"
        return Row(figure, speed, {}, [Check("a second", speed.median, 5_000, at_most=False)])

    return [
        Row("embedded engine: import and training, s", training, {}, [Check("s", training.median, 1, better=0.3)]),
        row("embedded engine", generator),
        row("embedded engine through its server, as `stream` has them", stream),
    ]


if __name__ == "__main__":
    answer_lines(_measured)
