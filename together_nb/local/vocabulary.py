"""Tokens of a text, what may come next, and what a model must be to be generated from."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

UNKNOWN = "<|unknown|>"
"""The one entry of the vocabulary for every word that never stood in the corpus; never generated."""
END_ID = 0
_TOKEN = re.compile(r" ?\w+(?:['’-]\w+)*|\n+| ?[^\w\s]|\s")  # noqa: RUF001  (a typographer's apostrophe)
Context = tuple[int, ...]
"""The numbers of the last words, at most `order` - 1 of them; -1 is a word never seen."""


def tokenize(text: str) -> list[str]:
    """The tokens of `text`: words and marks with their leading space, runs of line breaks.

    Nothing is lost: ``"".join(tokenize(text)) == text`` for every text.
    """
    return _TOKEN.findall(text)


def tokens_of(text: str) -> Iterator[str]:
    """The same, one by one."""
    return (found[0] for found in _TOKEN.finditer(text))


class Candidates(NamedTuple):
    """The tokens that may come next, likeliest first (of equals, the commoner first).

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


class LanguageModel(Protocol):
    """What tokens are generated from; `NgramModel` is one."""

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The text of each token by its id; the first is the end of the text, the last none that is generated."""

    @property
    def candidates_after(self) -> Callable[[Context], Candidates]:
        """What may come next, by the context."""

    def token_id(self, token: str) -> int:
        """The id of a token's text."""

    def context(self, tokens: Iterable[str]) -> Context:
        """What the model remembers of `tokens`."""

    def extended(self, context: Context, token: str) -> Context:
        """The context after one token more."""

    def token_probability(self, token: int, context: Context) -> float:
        """How likely a token is after `context`."""

    def top(self, candidates: Candidates, count: int) -> tuple[tuple[str, float], ...]:
        """The likeliest of `candidates` with their log-probabilities (natural), likeliest first."""
