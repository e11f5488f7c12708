"""What a reply is made of: tokens, chunks, choices, counts, timings."""

from __future__ import annotations

from dataclasses import astuple, dataclass, field


@dataclass(frozen=True)
class Token:
    """One generated token and how likely it was.

    Parameters
    ----------
    text
        The token.
    logprob
        Natural logarithm of its probability; None where the server gave none (a prompt's first).
    id
        Its number in the model's vocabulary, if told.
    top
        The likeliest tokens at this place and their log-probabilities, likeliest first.
    """

    text: str
    logprob: float | None
    id: int | None = None
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Usage:
    """Tokens counted by the server (never guessed).

    Parameters
    ----------
    prompt_tokens, completion_tokens, total_tokens
        Tokens in, out and together.
    reasoning_tokens, cached_tokens
        Of those, spent on thinking and read from the cache; None where not told.
    """

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None

    def plus(self, other: Usage) -> Usage:
        """Both counts together; a detail that either did not tell is not told."""
        mine, others = astuple(self), astuple(other)
        return Usage(*(None if None in pair else sum(pair) for pair in zip(mine, others, strict=True)))  # type: ignore[arg-type]


@dataclass(slots=True)
class Chunk:
    """A piece of one choice, as one event brought it.

    Parameters
    ----------
    text
        New text of the answer; may be "".
    index
        Which of the `n` choices it belongs to.
    reasoning
        New text of the model's thinking; not part of the answer.
    tokens
        The tokens of `text`, where log-probabilities were asked for.
    finish_reason
        Why this choice ended, on its last chunk.
    usage
        Tokens counted, on the chunk that carries the count.
    model, id
        As the server says them; "" where this event does not.
    """

    text: str = ""
    index: int = 0
    reasoning: str = ""
    tokens: tuple[Token, ...] = ()
    finish_reason: str | None = None
    usage: Usage | None = None
    model: str = ""
    id: str = ""


@dataclass
class Choice:
    """One of the `n` answers.

    Parameters
    ----------
    index
        Its number.
    text
        The answer.
    reasoning
        The thinking before it.
    finish_reason
        Why it ended (``stop``, ``eos``, ``length``, …); None when it was cut off.
    tokens
        Its tokens, where log-probabilities were asked for.
    """

    index: int = 0
    text: str = ""
    reasoning: str = ""
    finish_reason: str | None = None
    tokens: list[Token] = field(default_factory=list)


@dataclass(frozen=True)
class Timings:
    """Seconds since the request was sent.

    Parameters
    ----------
    first_token
        Until the first piece of text or thinking; None where none came.
    total
        Until the end.
    """

    first_token: float | None
    total: float

    def tokens_per_second(self, usage: Usage | None) -> float | None:
        """Tokens a second from the first one on; None where the server did not count."""
        if usage is None or self.first_token is None or self.total <= self.first_token:
            return None
        return max(usage.completion_tokens - 1, 0) / (self.total - self.first_token)
