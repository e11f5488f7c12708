"""How likely tokens were: means, perplexity, and which piece of a text each token is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from together_nb.values.chunk import Token

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_LARGEST = 700.0  # e to some more than this overflows a float


def mean_logprob(tokens: Sequence[Token]) -> float | None:
    """Mean of the tokens' log-probabilities (natural logarithms); None if none is known."""
    known = [token.logprob for token in tokens if token.logprob is not None]
    return sum(known) / len(known) if known else None


def perplexity(tokens: Sequence[Token]) -> float | None:
    """Return e to the mean negative log-probability; None if none is known."""
    mean = mean_logprob(tokens)
    return None if mean is None else perplexity_of_mean(mean)


def perplexity_of_mean(mean: float) -> float:
    """Return the perplexity of a mean log-probability (natural)."""
    return math.exp(min(-mean, _LARGEST))


def least_likely(tokens: Sequence[Token], most: int) -> list[Token]:
    """The `most` tokens of the lowest probability, lowest first."""
    known = [token for token in tokens if token.logprob is not None]
    return sorted(known, key=lambda token: token.logprob or 0.0)[:most]


def whole_characters(tokens: Iterable[Token]) -> list[Token]:
    """Put the tokens of one character together, for display: their texts become one, their log-probabilities add up.

    A character of several tokens arrives as tokens without text, and then one with its text (vLLM), or as bytes
    (OpenAI).
    """
    whole: list[Token] = []
    parts: list[Token] = []
    for token in tokens:
        if token.text.isascii() and token.text:  # no character of several tokens ends here
            whole += [*parts, token]
            parts = []
            continue
        parts.append(token)
        text = token.text or _decoded(parts)
        if text:
            whole.append(_joined(parts, text))
            parts = []
    return whole + parts


def _decoded(parts: Iterable[Token]) -> str:
    try:
        return b"".join(bytes(part.bytes) for part in parts).decode()
    except (UnicodeDecodeError, ValueError):
        return ""


def _joined(parts: list[Token], text: str) -> Token:
    if len(parts) == 1:
        return parts[0]
    known = [part.logprob for part in parts if part.logprob is not None]
    return Token(text, sum(known) if len(known) == len(parts) else None)


def index_in_top(token: Token) -> int | None:
    """Return which alternative the token is: of those with its text, the nearest in probability."""
    alike = [number for number, (text, _) in enumerate(token.top) if text == token.text]
    if token.logprob is None:
        return None
    return min(alike, key=lambda number: abs(token.top[number][1] - (token.logprob or 0.0)), default=None)


def aligned(text: str, tokens: Sequence[Token]) -> Iterator[tuple[str, Token | None]]:
    """Split all of `text` into its tokens: (piece, its token), with None for a piece that is no token.

    A server's tokens may not quite match the text: half characters are U+FFFD each, and some tokens may be
    missing. The text counts; a token that is not found in it has the piece "".
    """
    at, to_come = 0, sum(len(token.text) for token in tokens)
    left = 2 * len(text)  # characters to search for tokens that are not there
    for token in tokens:
        to_come -= len(token.text)
        found = at if text.startswith(token.text, at) else -1
        if found < 0:
            # Skip only so much that the remaining tokens still fit.
            end = min(max(len(text) - to_come, at), at + left)
            found = text.find(token.text, at, end)
            left -= end - at if found < 0 else 0
        if found < 0:
            yield "", token
            continue
        if found > at:
            yield text[at:found], None
        at = found + len(token.text)
        yield token.text, token
    if at < len(text):
        yield text[at:], None
