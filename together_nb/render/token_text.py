"""How likely an answer's tokens were, in figures and in words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from together_nb.base.escape import visible
from together_nb.base.wording import count
from together_nb.values.likelihood import index_in_top, perplexity_of_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from together_nb.values.chunk import Choice, Token
    from together_nb.values.completion import Completion

ALTERNATIVES = 5
"""How many alternatives `--show tokens` and the panel request by default."""


def summary(tokens: Sequence[Token]) -> str:
    """The token count, mean log-probability and perplexity; "" without any."""
    known = [token.logprob for token in tokens if token.logprob is not None]
    return summary_of(len(known), sum(known))


def summary_of(known: int, total: float) -> str:
    """The same from the token count and the sum of the log-probabilities."""
    if not known:
        return ""
    perplexed = perplexity_of_mean(total / known)
    text = f"{perplexed:,.2f}" if perplexed < 1e6 else f"{perplexed:.1e}"  # noqa: PLR2004
    return f"{count(known, 'token')} · mean log-probability {signed(total / known)} · perplexity {text}"


def reason_for_none(completion: Completion, choice: Choice) -> str:
    """Why an answer has no probabilities, in a sentence; "" if it has some, or is empty."""
    if not choice.text or any(token.logprob is not None for token in choice.tokens):
        return ""
    if completion.request.sampling.logprobs is None:
        return f"No probabilities were asked for: --logprobs {ALTERNATIVES} does."
    return "The server told no probabilities of this answer."


def token_line(token: Token) -> str:
    """A token and the likeliest alternative with their probabilities, as a line: “a” 3.0 % instead of “b” 61.0 %."""
    others = _others(token)
    words = f"{quoted(token.text)} {percent(token.logprob)}"
    if not others:
        return words
    text, logprob = max(others, key=lambda one: one[1])
    return f"{words} instead of {quoted(text)} {percent(logprob)}"


def token_and_alternatives(token: Token) -> list[str]:
    """A token and each alternative, with their probabilities."""
    if token.logprob is None:
        return [f"{quoted(token.text)}, no probability given"]
    return [
        f"{quoted(token.text)} {percent(token.logprob)}",
        *(f"{quoted(text)} {percent(logprob)}" for text, logprob in _others(token)),
    ]


def _others(token: Token) -> list[tuple[str, float]]:
    """The alternatives without the token itself."""
    taken = index_in_top(token)
    return [other for number, other in enumerate(token.top) if number != taken]


def quoted(text: str) -> str:
    """Return `text` in quotation marks, with visible spaces, tabs and line breaks."""
    return "“" + visible(text).replace("\n", "↵").replace("\t", "⇥").replace(" ", "␣") + "”"


def percent(logprob: float | None) -> str:
    """The probability of a natural logarithm, in per cent; "?" for None."""
    if logprob is None:
        return "?"
    chance = 100 * math.exp(min(logprob, 0.0))
    return f"{chance:.1f} %" if chance >= 0.1 else f"{chance:.1g} %" if chance >= 1e-4 else "< 0.0001 %"  # noqa: PLR2004


def signed(number: float) -> str:
    """Return `number` with two decimals and a true minus sign."""
    return f"{number:.2f}".replace("-", "\N{MINUS SIGN}")
