"""The parts of a reply: tokens, chunks, choices, counts, timings."""

from __future__ import annotations

from dataclasses import astuple, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Token:
    """One generated token and how likely it was.

    Parameters
    ----------
    text : str
        The token.
    logprob : float or None
        Natural logarithm of its probability; None if the server gave none (a prompt's first).
    id : int or None
        Its number in the model's vocabulary; None if not given.
    top : tuple of tuple of (str, float)
        The likeliest tokens at this position and their log-probabilities (natural), likeliest first.
    bytes : tuple of int
        Its bytes in UTF-8, if it is only part of a character, and its text therefore ""; else empty.

    Examples
    --------
    >>> from together_nb import complete
    >>> first = complete("Alan Turing was", max_tokens=1, temperature=0, logprobs=3).tokens[0]
    >>> len(first.top), first.top[0] == (first.text, first.logprob)
    (3, True)
    """

    text: str
    logprob: float | None
    id: int | None = None
    top: tuple[tuple[str, float], ...] = ()
    bytes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Usage:
    """Tokens counted by the server (never guessed).

    Parameters
    ----------
    prompt_tokens : int
        Tokens in.
    completion_tokens : int
        Tokens out.
    total_tokens : int
        Tokens in and out together.
    reasoning_tokens : int or None
        Tokens out that were spent on thinking; None if not given.
    cached_tokens : int or None
        Tokens in that were read from the server's cache; None if not given.

    Examples
    --------
    >>> from together_nb import Usage
    >>> Usage(3, 20, 23).plus(Usage(4, 10, 14))
    Usage(prompt_tokens=7, completion_tokens=30, total_tokens=37, reasoning_tokens=None, cached_tokens=None)
    """

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None

    def plus(self, other: Usage) -> Usage:
        """Add both counts; a detail that either lacks is None.

        Parameters
        ----------
        other : Usage
            The count to add.

        Returns
        -------
        Usage
            The sum.
        """
        mine, others = astuple(self), astuple(other)
        return Usage(*(None if None in pair else sum(pair) for pair in zip(mine, others, strict=True)))  # type: ignore[arg-type]


@dataclass(slots=True)
class Chunk:
    """A piece of one choice, from one event.

    Parameters
    ----------
    text : str
        New text of the answer; may be "".
    index : int
        Which of the `n` choices it belongs to, from 0.
    reasoning : str
        New text of the model's thinking; not part of the answer.
    tokens : tuple of Token
        The tokens that arrived, if log-probabilities were requested; more than one, or one of no text, where a
        character takes several.
    finish_reason : str or None
        Why this choice ended (``stop``, ``eos``, ``length``, …), on its last chunk; else None.
    usage : Usage or None
        Tokens counted, on the chunk that carries the count; else None.
    model : str
        Id of the model, as the server gives it; "" if this event does not.
    id : str
        Id of the answer, as the server gives it; "" if this event does not.
    refusal : str
        New text of the model's refusal to answer; not part of the answer.
    tool_calls : tuple of dict
        Pieces of tool calls, as the server sends them.
    """

    text: str = ""
    index: int = 0
    reasoning: str = ""
    tokens: tuple[Token, ...] = ()
    finish_reason: str | None = None
    usage: Usage | None = None
    model: str = ""
    id: str = ""
    refusal: str = ""
    tool_calls: tuple[dict[str, Any], ...] = ()

    @property
    def says_something(self) -> bool:
        """Whether it brings a part of the answer: text, thinking, a refusal or a tool call."""
        return bool(self.text or self.reasoning or self.refusal or self.tool_calls)


@dataclass
class Choice:
    """One of the `n` answers.

    Parameters
    ----------
    index : int
        Its number, from 0.
    text : str
        The answer.
    reasoning : str
        The thinking before it.
    finish_reason : str or None
        Why it ended (``stop``, ``eos``, ``length``, …); None if it was cut off.
    tokens : list of Token
        Its tokens, if log-probabilities were requested.
    refusal : str
        What the model says when it refuses to answer; "" if it does not refuse.
    tool_calls : list of dict
        The tools that the model wants called: ``{"id", "type", "function": {"name", "arguments"}}``, as the API has them.

    Examples
    --------
    >>> from together_nb import complete
    >>> [choice.index for choice in complete("Once upon a time", n=3, max_tokens=5).choices]
    [0, 1, 2]
    """

    index: int = 0
    text: str = ""
    reasoning: str = ""
    finish_reason: str | None = None
    tokens: list[Token] = field(default_factory=list)
    refusal: str = ""
    tool_calls: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Timings:
    """Seconds since the request was sent.

    Parameters
    ----------
    first_token : float or None
        Seconds until the first piece of text or thinking; None if none arrived.
    total : float
        Seconds until the end.
    """

    first_token: float | None
    total: float

    def tokens_per_second(self, usage: Usage | None) -> float | None:
        """Return tokens a second from the first one on; None if the server did not count.

        Parameters
        ----------
        usage : Usage or None
            Tokens, as the server counted them.

        Returns
        -------
        float or None
            Tokens a second.
        """
        if usage is None or self.first_token is None or self.total <= self.first_token:
            return None
        return max(usage.completion_tokens - 1, 0) / (self.total - self.first_token)
