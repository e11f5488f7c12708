"""Chunks in, a `Completion` out at any moment."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from together_nb.values.chunk import Choice, Chunk, Timings, Token, Usage
from together_nb.values.completion import Completion

if TYPE_CHECKING:
    from together_nb.values.request import CompletionRequest

_COMPACT_SHARE = 64
_MOST_CHOICES = 1024  # answers that are kept; `n` is 128 at most, but a server may send more
_COMPACT_AFTER = 4096  # parts of text kept before they are joined: a str of 4 letters takes 53 bytes


class Accumulator:
    """Chunks in, a `Completion` out at any moment.

    One thread adds; another may call `completion` meanwhile, and gets what has been added.

    Parameters
    ----------
    request
        The request.

    Attributes
    ----------
    chunks : int
        Pieces of text or thinking.
    finished : bool
        Whether each requested answer has a finish reason.
    sums_usage : bool
        Whether the server counts each answer by itself, so that the counts are added.
    expected : int
        How many answers the server will send. Set both before the first chunk.
    """

    def __init__(self, request: CompletionRequest) -> None:
        self._request = request
        self.sums_usage = False
        self.expected = request.sampling.n or 1
        self._choices: dict[int, _Parts] = {0: _Parts()}
        self._finished = 0  # choices with a finish reason
        self._usage: Usage | None = None
        self._model = ""
        self._id = ""
        self.chunks = 0
        self.finished = False

    def add(self, chunk: Chunk) -> None:
        """Add one chunk."""
        parts = self._choices.get(chunk.index)
        if parts is None and len(self._choices) >= _MOST_CHOICES:
            return
        if parts is None:
            parts = self._choices[chunk.index] = _Parts()
        if chunk.finish_reason and not parts.finish_reason:
            self._finished += 1
            self.finished = self._finished >= self.expected
        parts.add(chunk)
        if chunk.text or chunk.reasoning:
            self.chunks += 1
        if chunk.usage is not None:
            self._count(chunk.usage)
        if chunk.model:
            self._model = chunk.model
        if chunk.id:
            self._id = chunk.id

    def _count(self, usage: Usage) -> None:
        before = self._usage
        if before is None or not before.completion_tokens:
            self._usage = usage
        elif self.sums_usage:
            # The prompt is counted with each answer, and is one.
            total = before.completion_tokens + usage.completion_tokens
            self._usage = replace(before, completion_tokens=total, total_tokens=before.prompt_tokens + total)
        elif usage.completion_tokens:  # a later count without tokens tells nothing
            self._usage = usage

    @property
    def usage(self) -> Usage | None:
        """The server's last count; None without one, or where it counted no token of a text (LiteLLM's zeros)."""
        usage = self._usage
        return None if usage is not None and self.chunks and not usage.completion_tokens else usage

    @property
    def has_reason(self) -> bool:
        """Whether any answer has a finish reason: of several, some servers tell one (LiteLLM)."""
        return self._finished > 0

    @property
    def has_text(self) -> bool:
        """Whether any answer has a text."""
        return any(parts.text for parts in self._choices.values())

    def completion(self, timings: Timings, **marks: Any) -> Completion:
        """Return the completion so far.

        Parameters
        ----------
        timings
            Seconds so far.
        **marks
            Other fields of `Completion`.
        """
        return Completion(
            request=self._request,
            choices=[self._choices[index].choice(index) for index in sorted(self._choices)],
            model=self._model,
            id=self._id,
            usage=self.usage,
            timings=timings,
            chunks=self.chunks,
            **marks,
        )


class _Parts:
    """The pieces of one choice."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.tokens: list[Token] = []
        self.finish_reason: str | None = None

    def add(self, chunk: Chunk) -> None:
        if chunk.text:
            _append(self.text, chunk.text)
        if chunk.reasoning:
            _append(self.reasoning, chunk.reasoning)
        if chunk.tokens:
            self.tokens.extend(chunk.tokens)
        # A finish reason can arrive twice, the second time as "" (seen on the wire): the first one counts.
        if chunk.finish_reason is not None and not self.finish_reason:
            self.finish_reason = chunk.finish_reason

    def choice(self, index: int) -> Choice:
        return Choice(index, _joined(self.text), _joined(self.reasoning), self.finish_reason, list(self.tokens))


def _append(parts: list[str], text: str) -> None:
    parts.append(text)
    # The longer the joined text, the more parts are collected before it is copied again.
    if len(parts) > _COMPACT_AFTER + len(parts[0]) // _COMPACT_SHARE:
        # In place and in one step, so that a reader in another thread always sees all of the text.
        parts[:] = ["".join(parts)]


def _joined(parts: list[str]) -> str:
    return "".join(list(parts))
