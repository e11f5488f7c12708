"""What is asked and what comes back, as values.

`CompletionRequest` → … → `Chunk` → `Completion`. Nothing here talks to a server or draws.
"""

from __future__ import annotations

from dataclasses import asdict, astuple, dataclass, field
from typing import Any

from together_nb.escape import literal, visible
from together_nb.formats import AUTO, format_for
from together_nb.params import SamplingParams

LENGTH = "length"
_FINISHED_WELL = frozenset({"stop", "eos", "eos_token", "stop_sequence", "", None})


@dataclass(frozen=True)
class CompletionRequest:
    """One request, whole: what a dialect needs to write its payload.

    Parameters
    ----------
    prompt
        The text to continue, or the user's turn of a chat.
    model
        Model id; "" until `together_nb.session` has chosen one.
    api
        Name of the dialect, or ``auto``.
    system
        System prompt of a chat, or None.
    messages
        A whole conversation (``{"role": …, "content": …}``) in place of `prompt` and `system`.
    sampling
        The sampling parameters that are set.
    """

    prompt: str = ""
    model: str = ""
    api: str = AUTO
    system: str | None = None
    messages: tuple[dict[str, Any], ...] | None = None
    sampling: SamplingParams = field(default_factory=SamplingParams)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able form without what is unset."""
        out: dict[str, Any] = {"api": self.api, "model": self.model}
        if self.messages is None:
            out["prompt"] = self.prompt
        else:
            out["messages"] = [dict(message) for message in self.messages]
        if self.system is not None:
            out["system"] = self.system
        return out | {"sampling": self.sampling.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> CompletionRequest:
        """The request that `to_dict` wrote."""
        messages = values.get("messages")
        return cls(
            prompt=values.get("prompt", ""),
            model=values["model"],
            api=values["api"],
            system=values.get("system"),
            messages=None if messages is None else tuple(messages),
            sampling=SamplingParams.from_dict(values["sampling"]),
        )


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


@dataclass
class Completion:
    """An answer, whole or as far as it came.

    Parameters
    ----------
    request
        What was asked.
    choices
        The answers, by index; at least one.
    model, id
        As the server says them.
    usage
        The server's count, or None: nothing is guessed.
    timings
        Seconds to the first token and in all.
    chunks
        How many pieces came.
    cancelled
        Whether it was stopped by the user.
    error
        What cut it short, if something did (``connection lost``).
    price
        US dollars per million tokens (in, out), where the model list has them.
    note
        A sentence for the footer about where the answer comes from.
    filled
        Names that were filled in in the prompt.
    """

    request: CompletionRequest
    choices: list[Choice] = field(default_factory=lambda: [Choice()])
    model: str = ""
    id: str = ""
    usage: Usage | None = None
    timings: Timings = Timings(None, 0.0)
    chunks: int = 0
    cancelled: bool = False
    error: str = ""
    price: tuple[float, float] | None = None
    note: str = ""
    filled: tuple[str, ...] = ()

    @property
    def api(self) -> str:
        """Name of the dialect that was spoken."""
        return self.request.api

    @property
    def text(self) -> str:
        """Text of the first choice."""
        return self.choices[0].text

    @property
    def reasoning(self) -> str:
        """Thinking of the first choice."""
        return self.choices[0].reasoning

    @property
    def finish_reason(self) -> str | None:
        """Why the first choice ended."""
        return self.choices[0].finish_reason

    @property
    def tokens(self) -> list[Token]:
        """Tokens of the first choice, where log-probabilities were asked for."""
        return self.choices[0].tokens

    @property
    def truncated(self) -> bool:
        """Whether it ended because `max_tokens` or the context was full."""
        return any(choice.finish_reason == LENGTH for choice in self.choices)

    @property
    def came_to_nothing(self) -> bool:
        """Whether it was stopped or failed before any of it came: what was there before is worth more."""
        return not self.chunks and (self.cancelled or bool(self.error))

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens a second from the first token on, by the server's count."""
        return self.timings.tokens_per_second(self.usage)

    @property
    def cost(self) -> float | None:
        """US dollars, from the server's count and the price list; None where either is unknown."""
        if self.usage is None or self.price is None:
            return None
        price_in, price_out = self.price
        return (self.usage.prompt_tokens * price_in + self.usage.completion_tokens * price_out) / 1e6

    @property
    def ending(self) -> str:
        """Why it ended if not by itself, in words; "" otherwise."""
        if self.cancelled:
            return "stopped by you"
        if self.error:
            return self.error
        if self.truncated:
            return "cut at max_tokens" if self.request.sampling.max_tokens is not None else "cut at the model's limit"
        if self.finish_reason in _FINISHED_WELL:
            return ""
        return f"ended by {self.finish_reason}"

    def footer(self) -> str:
        """One line of plain text: model · tokens · seconds · tokens/s · cost · why it ended · note."""
        parts = [self.model or self.request.model]
        if self.usage is not None:
            parts.append(count(self.usage.completion_tokens, "token"))
        else:
            parts.append(count(self.chunks, "chunk"))
        parts.append(f"{self.timings.total:.1f} s")
        if self.tokens_per_second is not None:
            parts.append(f"{self.tokens_per_second:.0f} tokens/s")
        if self.cost is not None:
            parts.append(dollars(self.cost))
        parts.append(self.ending)
        if self.filled:
            parts.append("filled in: " + ", ".join(self.filled))
        parts.append(self.note)
        return " · ".join(visible(" ".join(part.split())) for part in parts if part.strip())

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able form from which `from_dict` makes an equal completion."""
        return asdict(self) | {"request": self.request.to_dict(), "timings": asdict(self.timings)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Completion:
        """The completion that `to_dict` wrote, JSON in between or not."""
        usage, price = values.get("usage"), values.get("price")
        return cls(**{
            **values,
            "request": CompletionRequest.from_dict(values["request"]),
            "choices": [
                Choice(**{**choice, "tokens": [_token(token) for token in choice["tokens"]]})
                for choice in values["choices"]
            ],
            "usage": None if usage is None else Usage(**usage),
            "timings": Timings(**values["timings"]),
            "price": None if price is None else tuple(price),
            "filled": tuple(values.get("filled", ())),
        })  # fmt: skip

    def bundle(self, show: str = AUTO) -> dict[str, str]:
        """What a notebook saves of it: ``text/markdown`` and ``text/plain``, the footer below."""
        shown = format_for(show, chat=self.api == "chat")
        several = len(self.choices) > 1
        markdown, plain = [], []
        for choice in self.choices:
            if several:
                markdown.append(f"**Answer {choice.index + 1}**")
                plain.append(f"Answer {choice.index + 1}:")
            if choice.reasoning:
                markdown.append(thinking(choice.reasoning))
            if choice.text:
                markdown.append(shown.final(choice.text))
                plain.append(visible(choice.text))
        footer = self.footer()
        markdown.append(f"<sub>{literal(footer)}</sub>")
        plain.append(f"[{footer}]")
        return {"text/markdown": "\n\n".join(markdown), "text/plain": "\n\n".join(plain)}

    def metadata(self) -> dict[str, Any]:
        """What made it, for the output's metadata: no prompt, no key."""
        usage = None if self.usage is None else {k: v for k, v in asdict(self.usage).items() if v is not None}
        return {
            "model": self.model or self.request.model,
            "api": self.api,
            "id": self.id,
            "parameters": self.request.sampling.to_dict(),
            "finish_reason": self.finish_reason,
            "cancelled": self.cancelled,
            "error": self.error,
            "usage": usage,
            "cost": self.cost,
            "timings": asdict(self.timings),
        }

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Any]]:
        return self.bundle(), {"together_nb": self.metadata()}

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<Completion {self.footer()}: {self.text[:60]!r}{'…' if len(self.text) > 60 else ''}>"  # noqa: PLR2004


def thinking(reasoning: str) -> str:
    """Markdown of a folded section that holds the model's thinking."""
    return f"<details><summary>Thinking</summary>\n\n{literal(reasoning.strip())}\n\n</details>"


def dollars(amount: float) -> str:
    """An amount of US dollars with the digits that matter."""
    return f"${amount:.2f}" if amount >= 1 or amount == 0 else f"${amount:.2g}" if amount >= 1e-4 else f"${amount:.1e}"  # noqa: PLR2004


def count(number: int, noun: str) -> str:
    """``1 chunk``, ``2 chunks``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _token(values: dict[str, Any]) -> Token:
    return Token(values["text"], values["logprob"], values["id"], tuple((text, lp) for text, lp in values["top"]))
