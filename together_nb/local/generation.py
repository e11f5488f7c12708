"""From probabilities to text: one token after another, chosen as the sampling parameters say.

At each place, in this order:

1. ``repetition_penalty`` multiplies the log-probability of every token of the prompt and the
   answer so far; ``presence_penalty``, and ``frequency_penalty`` times the count, are subtracted
   from that of the answer's; ``logit_bias`` is added.
2. ``temperature`` divides; 0 takes the likeliest token, of equals the commoner one.
3. ``top_k`` keeps so many likeliest (0 or less: all), ``top_p`` of these the likeliest that
   together have that share, ``min_p`` those at least so likely as that share of the likeliest.
4. One is drawn by ``seed``.

Reported log-probabilities are the model's own, before any of this.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left, bisect_right
from itertools import accumulate, islice
from typing import TYPE_CHECKING, NamedTuple

from together_nb.errors import InputError
from together_nb.local.schemas import is_number
from together_nb.local.stopping import StopFilter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from together_nb.local.forms import Grammar
    from together_nb.local.ngram import Candidates, Context, NgramModel
    from together_nb.params import SamplingParams

DEFAULT_TEMPERATURE = 0.8
DEFAULT_MAX_TOKENS = 256
DEFAULT_MAX_TOKENS_OF_A_FORM = 8192  # half an object is none

STOP, LENGTH, EOS = "stop", "length", "eos"

# Logits are kept finite, so that no difference of two of them is "not a number".
_HUGE = 1e30
_LONGEST_ID = 20
_FEW = 8  # tokens that are looked for one by one


class Generated(NamedTuple):
    """One token, or the end.

    Parameters
    ----------
    text
        The token's text; of a token that a stop text cuts, what stands before it.
    id
        Its id; None on the last piece, which carries the finish reason and no token.
    logprob
        The model's log-probability of it; None on the last piece and the first token of an echo.
    top
        The likeliest tokens at this place and their log-probabilities, likeliest first; empty
        unless `SamplingParams.logprobs` asks for them.
    finish_reason
        On the last piece: "stop" (a stop text was met), "length" (`max_tokens`), "eos" (the model
        ended the text). None on all others.
    """

    text: str
    id: int | None = None
    logprob: float | None = None
    top: tuple[tuple[str, float], ...] = ()
    finish_reason: str | None = None


class Chooser:
    """Chooses tokens as `sampling` says, and remembers them.

    Parameters
    ----------
    sampling
        The parameters; unset ones are off, the temperature 0.8.
    prompt_ids
        Ids of the prompt's tokens, for the repetition penalty.
    logit_bias
        What to add to the logit of a token, by id.

    Attributes
    ----------
    dice
        What draws where the model has no say; at temperature 0 it falls alike for every seed.
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
        # How often the answer holds each token; 0 for one that only the prompt holds.
        self._seen: dict[int, int] = dict.fromkeys(prompt_ids, 0) if self._repetition != 1 else {}
        # Seeded by text, for -1 and 1 to differ; without a seed, by the system.
        self._random = random.Random(None if sampling.seed is None else str(sampling.seed))
        self.dice = random.Random("greedy") if self._temperature == 0 else self._random

    def choose(self, candidates: Candidates) -> int:
        """The position among `candidates` of the token to take."""
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
        """The log-probabilities with penalties and biases; [] where there are none to apply."""
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
        """What to draw by: not normalized, the greatest about 1."""
        if logits:
            exp, peak, temperature = math.exp, max(logits), self._temperature
            return [exp((logit - peak) / temperature) for logit in logits]
        if self._temperature == 1:
            return probabilities
        peak, power = probabilities[0], 1 / self._temperature
        return [(probability / peak) ** power for probability in probabilities]


def _places(ids: Sequence[int], tokens: dict[int, float]) -> dict[int, int]:
    """The positions among `ids` of those `tokens` that are there."""
    if len(tokens) < _FEW:
        return {token: ids.index(token) for token in tokens if token in ids}
    return {token: position for position, token in enumerate(ids) if token in tokens}


def _finite(logit: float) -> float:
    return min(max(logit, -_HUGE), _HUGE)


def generate(
    model: NgramModel, tokens: list[str], sampling: SamplingParams, form: Grammar | None = None
) -> Iterator[Generated]:
    """The tokens that continue a prompt's `tokens`, and one last piece with the finish reason.

    Text that may be the beginning of a stop text is held back until it is certain; its tokens
    come then, each with its own log-probability. The stop text is not returned. With ``echo``
    the prompt's tokens come first. ``n`` is the caller's: one call is one answer.

    Parameters
    ----------
    model
        The model.
    tokens
        The tokens of the text to continue.
    sampling
        Unset, ``temperature`` is 0.8, ``max_tokens`` 256, and all else is off.
    form
        What the answer is to be: JSON that is written as `together_nb.local.structured` says, and
        whose ``max_tokens``, unset, is 8192.

    Raises
    ------
    InputError
        `logit_bias` names a token that is none, or adds what is no number. Raised by the call,
        not by the first token.
    """
    ids = [model.token_id(token) for token in tokens]
    chooser = Chooser(sampling, ids, logit_bias_of(model, sampling))
    most = default_max_tokens(form) if sampling.max_tokens is None else sampling.max_tokens
    return _pieces(model, tokens, sampling, _drawn(model, tokens, sampling, chooser, form, most))


def default_max_tokens(form: Grammar | None) -> int:
    """The most tokens of an answer where ``max_tokens`` is not given."""
    return DEFAULT_MAX_TOKENS if form is None else DEFAULT_MAX_TOKENS_OF_A_FORM


def logit_bias_of(model: NgramModel, sampling: SamplingParams) -> dict[int, float]:
    """`SamplingParams.logit_bias` by token id.

    Raises
    ------
    InputError
        A key is no id of a token that can be generated, or a value is no finite number.
    """
    bias = {}
    last = len(model.vocabulary) - 2
    for key, value in (sampling.logit_bias or {}).items():
        try:
            token = int(key) if len(key) <= _LONGEST_ID else -1
        except (TypeError, ValueError):
            token = -1
        if not 0 <= token <= last:
            raise InputError(
                f"logit_bias names the token {key!r:.80}, which is no token id of this model.",
                f"Its ids are the whole numbers from 0 to {last}.",
            )
        if not is_number(value):
            raise InputError(f"logit_bias must add a number to token {token}, and one that is not too great.")
        bias[token] = float(value)
    return bias


def _pieces(
    model: NgramModel, tokens: list[str], sampling: SamplingParams, drawn: Iterator[Generated]
) -> Iterator[Generated]:
    if sampling.echo:
        yield from _echo(model, tokens, sampling)
    stops = StopFilter(sampling.stop or ())
    finish_reason: str | None = None
    for piece in drawn:
        finish_reason = piece.finish_reason
        if finish_reason:
            break
        yield from stops.feed(piece)
        if stops.met:
            finish_reason = STOP
            break
    yield from stops.flush()
    yield Generated("", finish_reason=finish_reason)


def _drawn(
    model: NgramModel, tokens: list[str], sampling: SamplingParams, chooser: Chooser, form: Grammar | None, most: int
) -> Iterator[Generated]:
    """The tokens up to the end or to `most`, and a last piece that says which."""
    if form is not None:
        # Imported here: that module writes this one's tokens.
        from together_nb.local import structured

        written = structured.write(form, model, tokens, chooser, sampling.logprobs)
        yield from islice(written, most)
        # Whole is whole, though it is just as long as it may be.
        yield Generated("", finish_reason=EOS if next(written, None) is None else LENGTH)
        return
    bias = chooser.bias
    context = model.context(tokens)
    for _ in range(most):
        candidates = model.candidates_after(context)
        weighed = with_biased(model, candidates, context, bias) if bias else candidates
        position = chooser.choose(weighed)
        token = weighed.ids[position]
        if token == 0:
            yield Generated("", finish_reason=EOS)
            return
        top = model.top(candidates, sampling.logprobs) if sampling.logprobs else ()
        piece = Generated(model.vocabulary[token], token, math.log(weighed.probabilities[position]), top)
        yield piece
        context = model.extended(context, piece.text)
    yield Generated("", finish_reason=LENGTH)


def with_biased(model: NgramModel, candidates: Candidates, context: Context, bias: dict[int, float]) -> Candidates:
    """The candidates and every token that `bias` names."""
    known = _places(candidates.ids, bias)
    missing = [token for token in bias if token not in known]
    if not missing:
        return candidates
    probabilities = [model.token_probability(token, context) for token in missing]
    return candidates._replace(
        ids=[*candidates.ids, *missing], probabilities=[*candidates.probabilities, *probabilities]
    )


def _echo(model: NgramModel, tokens: list[str], sampling: SamplingParams) -> Iterator[Generated]:
    context = model.context(())
    for number, token in enumerate(tokens):
        logprob: float | None = None
        top: tuple[tuple[str, float], ...] = ()
        if sampling.logprobs is not None and number:
            logprob = math.log(model.token_probability(model.token_id(token), context))
            top = model.top(model.candidates_after(context), sampling.logprobs)
        yield Generated(token, model.token_id(token), logprob, top)
        context = model.extended(context, token)
