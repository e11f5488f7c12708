"""The tokens of a text, the candidates to continue it, and the interface of a language model."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

UNKNOWN = "<|unknown|>"
"""The one entry of the vocabulary for all words that are not in the corpus; never generated."""
END_ID = 0
_TOKEN = re.compile(r" ?\w+(?:['’-]\w+)*|\n+| ?[^\w\s]|\s")  # noqa: RUF001  (a typographer's apostrophe)
Context = tuple[int, ...]
"""The numbers of the last words, at most `order` - 1 of them; -1 is an unseen word."""


def tokenize(text: str) -> list[str]:
    """The tokens of `text`: words and marks with their leading space, runs of line breaks.

    Nothing is lost: ``"".join(tokenize(text)) == text`` for every text.
    """
    return _TOKEN.findall(text)


def tokens_of(text: str) -> Iterator[str]:
    """Yield the same tokens one by one."""
    return (found[0] for found in _TOKEN.finditer(text))


class Candidates(NamedTuple):
    """The tokens that may come next, likeliest first (in a tie, the commoner first).

    Parameters
    ----------
    ids
        Token ids.
    probabilities
        P(w|h) of each; together a little less than 1.
    """

    ids: Sequence[int]
    probabilities: Sequence[float]


STOP, LENGTH, EOS = "stop", "length", "eos"


class Generated(NamedTuple):
    """One token, or the end.

    Parameters
    ----------
    text
        The token's text; of a token that a stop sequence cuts, the part before it.
    id
        Its id; None on the last piece, which carries the finish reason and no token.
    logprob
        The model's log-probability of it; None on the last piece, on an echo's first token, and on
        the whole echo without `SamplingParams.logprobs`.
    top
        The likeliest tokens at this position and their log-probabilities, likeliest first; empty
        unless `SamplingParams.logprobs` requests them.
    finish_reason
        On the last piece: "stop" (a stop sequence), "length" (`max_tokens`), "eos" (the model
        ended the text). None on all others.
    """

    text: str
    id: int | None = None
    logprob: float | None = None
    top: tuple[tuple[str, float], ...] = ()
    finish_reason: str | None = None
