"""The choice of tokens by the sampling parameters."""

from __future__ import annotations

import math
import random
from bisect import bisect_left, bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from together_nb.local.vocabulary import Candidates, Context
    from together_nb.values.parameters import SamplingParams

DEFAULT_TEMPERATURE = 0.8
# Logits are kept finite, so that no difference of two is NaN.
_HUGE = 1e30
_FEW = 8  # fewer tokens are looked up one by one


class LanguageModel(Protocol):
    """A model to generate tokens from, such as `NgramModel`."""

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The text of each token by its id; the first is the end of the text, the last is never generated."""

    @property
    def candidates_after(self) -> Callable[[Context], Candidates]:
        """A function that returns the candidates after a context."""

    def token_id(self, token: str) -> int:
        """The id of a token's text."""

    def context(self, tokens: Iterable[str]) -> Context:
        """The context that the model keeps of `tokens`."""

    def extended(self, context: Context, token: str) -> Context:
        """The context after one more token."""

    def token_probability(self, token: int, context: Context) -> float:
        """How likely a token is after `context`."""

    def top(self, candidates: Candidates, count: int) -> tuple[tuple[str, float], ...]:
        """The likeliest of `candidates` with their log-probabilities (natural), likeliest first."""


class Chooser:
    """Chooses tokens by `sampling`, and remembers them.

    Parameters
    ----------
    sampling
        The parameters; by default the temperature is 0.8 and all else is off.
    prompt_ids
        Ids of the prompt's tokens, for the repetition penalty.
    logit_bias
        What to add to the logit of a token, by id.
    """

    def __init__(self, sampling: SamplingParams, prompt_ids: list[int], logit_bias: dict[int, float]) -> None:
        self._temperature = DEFAULT_TEMPERATURE if sampling.temperature is None else sampling.temperature
        self._top_k = sampling.top_k if sampling.top_k is not None and sampling.top_k > 0 else None
        self._top_p = sampling.top_p if sampling.top_p is not None and sampling.top_p < 1 else None
        self._min_p = sampling.min_p or None
        self._repetition = 1.0 if sampling.repetition_penalty is None else sampling.repetition_penalty
        self._presence = sampling.presence_penalty or 0.0
        self._frequency = sampling.frequency_penalty or 0.0
        self._penalizes = self._repetition != 1 or bool(self._presence or self._frequency)
        self.bias = logit_bias
        # How often each token is in the answer; 0 for one that is only in the prompt.
        self._seen: dict[int, int] = dict.fromkeys(prompt_ids, 0) if self._repetition != 1 else {}
        # Seeded by a string, so that -1 and 1 differ; without a seed, by the system.
        self._random = random.Random(None if sampling.seed is None else str(sampling.seed))

    def choose(self, candidates: Candidates) -> int:
        """Choose a token, and return its position among `candidates`."""
        logits = self._logits(candidates)
        if self._temperature == 0:
            position = logits.index(max(logits)) if logits else 0
        else:
            position = self._draw(candidates, logits)
        if self._penalizes:
            token = candidates.ids[position]
            self._seen[token] = self._seen.get(token, 0) + 1
        return position

    def _logits(self, candidates: Candidates) -> list[float]:
        """The log-probabilities with penalties and biases; [] if there are none to apply."""
        ids, seen = candidates.ids, self._seen
        penalized = [position for position, token in enumerate(ids) if token in seen] if seen else []
        places = _places(ids, self.bias)
        biased = [(places[token], bias) for token, bias in self.bias.items() if token in places]
        if not (penalized or biased):
            return []
        logits = [*map(math.log, candidates.probabilities)]
        repetition, presence, frequency = self._repetition, self._presence, self._frequency
        for position in penalized:
            count = seen[ids[position]]
            logit = logits[position] * repetition - (presence + frequency * count if count else 0.0)
            logits[position] = logit if -_HUGE < logit < _HUGE else _finite(logit)
        for position, bias in biased:
            logits[position] = _finite(logits[position] + bias)
        return logits

    def _draw(self, candidates: Candidates, logits: list[float]) -> int:
        order: list[int] | None = None
        if logits and (self._top_k or self._top_p is not None):
            order = sorted(range(len(logits)), key=logits.__getitem__, reverse=True)
            logits = [logits[position] for position in order]
        weights = self._weights(candidates.probabilities[: self._top_k], logits[: self._top_k])
        cumulative = list(accumulate(weights))
        if self._top_p is not None:
            cumulative = cumulative[: bisect_left(cumulative, self._top_p * cumulative[-1]) + 1]
        if self._min_p is not None:
            weights = weights[: len(cumulative)]
            least = self._min_p * max(weights)
            cumulative = list(accumulate(weight if weight >= least else 0.0 for weight in weights))
        drawn = bisect_right(cumulative, self._random.random() * cumulative[-1], hi=len(cumulative) - 1)
        return drawn if order is None else order[drawn]

    def _weights(self, probabilities: Sequence[float], logits: Sequence[float]) -> Sequence[float]:
        """The weights to draw by, not normalized."""
        if logits:
            exp, peak, temperature = math.exp, max(logits), self._temperature
            return [exp((logit - peak) / temperature) for logit in logits]
        if self._temperature == 1:
            return probabilities
        peak, power = probabilities[0], 1 / self._temperature
        return [(probability / peak) ** power for probability in probabilities]


def _places(ids: Sequence[int], tokens: dict[int, float]) -> dict[int, int]:
    """The positions in `ids` of the `tokens` that are there."""
    if len(tokens) < _FEW:
        return {token: ids.index(token) for token in tokens if token in ids}
    return {token: position for position, token in enumerate(ids) if token in tokens}


def _finite(logit: float) -> float:
    return min(max(logit, -_HUGE), _HUGE)


def with_biased(model: LanguageModel, candidates: Candidates, context: Context, bias: dict[int, float]) -> Candidates:
    """Add every token that `bias` names to the candidates."""
    known = _places(candidates.ids, bias)
    missing = [token for token in bias if token not in known]
    if not missing:
        return candidates
    probabilities = [model.token_probability(token, context) for token in missing]
    return candidates._replace(
        ids=[*candidates.ids, *missing], probabilities=[*candidates.probabilities, *probabilities]
    )
