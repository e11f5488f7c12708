"""How likely an answer's tokens were: the figures, and the words for them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from together_nb.completion import count
from together_nb.escape import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from together_nb.completion import Choice, Completion, Token

ALTERNATIVES = 5
"""How many alternatives `--show tokens` and the panel ask for where nothing is said."""

_LARGEST = 700.0  # the largest exponent of which a float holds the power


def mean_logprob(tokens: Sequence[Token]) -> float | None:
    """Mean of the tokens' log-probabilities (natural logarithms); None where none is known."""
    known = [token.logprob for token in tokens if token.logprob is not None]
    return sum(known) / len(known) if known else None


def perplexity(tokens: Sequence[Token]) -> float | None:
    """What e is raised to by the mean of the negative log-probabilities; None where none is known."""
    mean = mean_logprob(tokens)
    return None if mean is None else _perplexity(mean)


def _perplexity(mean: float) -> float:
    return math.exp(min(-mean, _LARGEST))


def summary(tokens: Sequence[Token]) -> str:
    """How many tokens, their mean log-probability, and the perplexity that it makes; "" without any."""
    known = [token.logprob for token in tokens if token.logprob is not None]
    return in_sum(len(known), sum(known))


def in_sum(known: int, total: float) -> str:
    """The same of so many tokens whose log-probabilities have that sum."""
    if not known:
        return ""
    perplexed = _perplexity(total / known)
    told = f"{perplexed:,.2f}" if perplexed < 1e6 else f"{perplexed:.1e}"  # noqa: PLR2004
    return f"{count(known, 'token')} · mean log-probability {signed(total / known)} · perplexity {told}"


def untold(completion: Completion, choice: Choice) -> str:
    """Why there are no probabilities of an answer, in a sentence; "" where there are, or there is no answer."""
    if not choice.text or any(token.logprob is not None for token in choice.tokens):
        return ""
    if completion.request.sampling.logprobs is None:
        return f"No probabilities were asked for: --logprobs {ALTERNATIVES} does."
    return "The server told no probabilities of this answer."


def least_likely(tokens: Sequence[Token], most: int) -> list[Token]:
    """The `most` tokens of the lowest probability, lowest first."""
    known = [token for token in tokens if token.logprob is not None]
    return sorted(known, key=lambda token: token.logprob or 0.0)[:most]


def in_place_of(token: Token) -> str:
    """A token with its probability and the likeliest other one, as a line: “a” 3.0 % instead of “b” 61.0 %."""
    others = _others(token)
    told = f"{quoted(token.text)} {percent(token.logprob)}"
    if not others:
        return told
    text, logprob = max(others, key=lambda one: one[1])
    return f"{told} instead of {quoted(text)} {percent(logprob)}"


def chances(token: Token) -> list[str]:
    """A token with its probability, and each of the others with its own."""
    if token.logprob is None:
        return [f"{quoted(token.text)}, no probability given"]
    return [
        f"{quoted(token.text)} {percent(token.logprob)}",
        *(f"{quoted(text)} {percent(logprob)}" for text, logprob in _others(token)),
    ]


def _others(token: Token) -> list[tuple[str, float]]:
    """The alternatives but the token itself."""
    taken = place(token)
    return [other for number, other in enumerate(token.top) if number != taken]


def place(token: Token) -> int | None:
    """Which of the alternatives the token is: of those that look like it, the one that is as likely."""
    alike = [number for number, (text, _) in enumerate(token.top) if text == token.text]
    if token.logprob is None:
        return None
    return min(alike, key=lambda number: abs(token.top[number][1] - (token.logprob or 0.0)), default=None)


def aligned(text: str, tokens: Sequence[Token]) -> Iterator[tuple[str, Token | None]]:
    """`text` cut into its tokens, nothing of it lost: (piece, its token), None for a piece that no token is.

    A server can tell of tokens that are not quite the text: half characters, which are U+FFFD each, or not of
    all of it. The text is what counts; a token that is not found in it has the piece "".
    """
    at, to_come = 0, sum(len(token.text) for token in tokens)
    left = 2 * len(text)  # characters that are looked through for tokens that are not there
    for token in tokens:
        to_come -= len(token.text)
        found = at if text.startswith(token.text, at) else -1
        if found < 0:
            # No more is passed over than leaves room for the tokens that are still to come.
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


def quoted(text: str) -> str:
    """`text` in quotation marks, its spaces, tabs and line breaks as signs."""
    return "“" + visible(text).replace("\n", "↵").replace("\t", "⇥").replace(" ", "␣") + "”"


def percent(logprob: float | None) -> str:
    """The probability of a natural logarithm, in per cent; "?" for None."""
    if logprob is None:
        return "?"
    chance = 100 * math.exp(min(logprob, 0.0))
    return f"{chance:.1f} %" if chance >= 0.1 else f"{chance:.1g} %" if chance >= 1e-4 else "< 0.0001 %"  # noqa: PLR2004


def signed(number: float) -> str:
    """`number` with two digits, and a true minus sign."""
    return f"{number:.2f}".replace("-", "\N{MINUS SIGN}")
