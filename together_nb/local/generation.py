"""From probabilities to text: one token at a time, chosen by the sampling parameters.

At each position, in this order:

1. The first token is never the end of the text. After a prompt that ends in a question mark, apart
   from white space, closing quotes and brackets, it begins with a capital letter; if no candidate
   does, it is any but the end. No parameter changes this.
2. ``repetition_penalty`` multiplies the log-probability of every token of the prompt and the
   answer so far; for those of the answer, ``presence_penalty`` and ``frequency_penalty`` times
   the count are subtracted; ``logit_bias`` is added.
3. ``temperature`` divides; 0 takes the likeliest token, in a tie the commoner one.
4. ``top_k`` keeps that many of the likeliest (0 or less: all), ``top_p`` the likeliest of these
   that together have that share, ``min_p`` those with at least that fraction of the maximum.
5. One is drawn, seeded by ``seed``.

Reported log-probabilities are the model's own, before any of this.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING

from together_nb.errors import InputError
from together_nb.local.sampler import Chooser, with_biased
from together_nb.local.stopping import StopFilter
from together_nb.local.vocabulary import END_ID, EOS, LENGTH, STOP, Candidates, Generated

if TYPE_CHECKING:
    from collections.abc import Iterator

    from together_nb.local.sampler import LanguageModel
    from together_nb.values.parameters import SamplingParams

DEFAULT_MAX_TOKENS = 256
_LONGEST_ID = 20
_CLOSING = frozenset("\"'”’»)]}")  # noqa: RUF001  (a typographer's apostrophe)


def generate(model: LanguageModel, tokens: list[str], sampling: SamplingParams) -> Iterator[Generated]:
    """Generate the tokens that continue `tokens`, and a last piece with the finish reason.

    Text that may begin a stop sequence is held back until that is certain; its tokens then
    follow, each with its own log-probability. The stop sequence is not returned. With ``echo``
    the prompt's tokens come first. ``n`` is ignored: one call is one answer.

    Parameters
    ----------
    model
        The model.
    tokens
        The tokens of the text to continue.
    sampling
        By default ``temperature`` is 0.8, ``max_tokens`` 256, and all else is off.

    Raises
    ------
    InputError
        `logit_bias` has an invalid token id, or a value that is not a number. Raised by the call,
        not by the first token.
    """
    ids = [model.token_id(token) for token in tokens]
    chooser = Chooser(sampling, ids, logit_bias_of(model, sampling))
    return _pieces(model, tokens, sampling, _drawn(model, tokens, sampling, chooser))


def logit_bias_of(model: LanguageModel, sampling: SamplingParams) -> dict[int, float]:
    """Return `SamplingParams.logit_bias` by token id.

    Raises
    ------
    InputError
        A key is not the id of a token that can be generated, or a value is not a finite number.
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
        if not _is_number(value):
            raise InputError(f"logit_bias must add a number to token {token}, and one that is not too great.")
        bias[token] = float(value)
    return bias


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _pieces(
    model: LanguageModel, tokens: list[str], sampling: SamplingParams, drawn: Iterator[Generated]
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


def _drawn(model: LanguageModel, tokens: list[str], sampling: SamplingParams, chooser: Chooser) -> Iterator[Generated]:
    """The tokens up to the end or to ``max_tokens``, and a last piece with the finish reason."""
    bias = chooser.bias
    context = model.context(tokens)
    for number in range(DEFAULT_MAX_TOKENS if sampling.max_tokens is None else sampling.max_tokens):
        candidates = model.candidates_after(context)
        weighed = with_biased(model, candidates, context, bias) if bias else candidates
        if not number:
            weighed = _beginning(model, tokens, weighed)
        position = chooser.choose(weighed)
        token = weighed.ids[position]
        if token == END_ID:
            yield Generated("", finish_reason=EOS)
            return
        top = model.top(candidates, sampling.logprobs) if sampling.logprobs else ()
        piece = Generated(model.vocabulary[token], token, math.log(weighed.probabilities[position]), top)
        yield piece
        context = model.extended(context, piece.text)
    yield Generated("", finish_reason=LENGTH)


def _beginning(model: LanguageModel, tokens: list[str], candidates: Candidates) -> Candidates:
    """The candidates that may come first; all of them if the model knows no token but the end."""
    ids, probabilities = candidates
    kept = [position for position, token in enumerate(ids) if token != END_ID]
    if _is_question(tokens):
        kept = [each for each in kept if model.vocabulary[ids[each]].strip()[:1].isupper()] or kept
    if not kept:
        return candidates
    return Candidates([ids[each] for each in kept], [probabilities[each] for each in kept])


def _is_question(tokens: list[str]) -> bool:
    words = (token.strip() for token in reversed(tokens))
    return next((word for word in words if word and word not in _CLOSING), "") == "?"


def _echo(model: LanguageModel, tokens: list[str], sampling: SamplingParams) -> Iterator[Generated]:
    context = model.context(())
    for number, token in enumerate(tokens):
        logprob: float | None = None
        top: tuple[tuple[str, float], ...] = ()
        if sampling.logprobs is not None and number:
            logprob = math.log(model.token_probability(model.token_id(token), context))
            top = model.top(model.candidates_after(context), sampling.logprobs)
        yield Generated(token, model.token_id(token), logprob, top)
        context = model.extended(context, token)
