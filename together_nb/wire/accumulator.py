"""Chunks as the dialect reads them in; chunks as the user sees them, and a `Completion` at any moment, out."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from together_nb.base.escape import without_surrogates
from together_nb.values.chunk import Choice, Chunk, Timings, Token, Usage
from together_nb.values.completion import Completion
from together_nb.wire.dialects import WholeMessage
from together_nb.wire.think_tags import ThinkTags

if TYPE_CHECKING:
    from collections.abc import Iterator

    from together_nb.values.request import CompletionRequest

_COMPACT_SHARE = 64
_MOST_CHOICES = 1024  # answers that are kept; `n` is 128 at most, but a server may send more
_MOST_CALLS = 1024  # calls of tools that are kept of an answer
_FIELDS = [one.name for one in fields(Chunk)]
_COMPACT_AFTER = 4096  # parts of text kept before they are joined: a str of 4 letters takes 53 bytes


class Accumulator:
    """Chunks as the dialect reads them in; chunks as the user sees them, and a `Completion` at any moment, out.

    It joins what a server sends in halves, moves `<think>` blocks to the thinking, and adds nothing twice. One thread
    adds; another may call `completion` meanwhile, and gets what has been added.

    Parameters
    ----------
    request
        The request.
    tags
        Whether a `<think>` block at the start of a text is thinking.

    Attributes
    ----------
    chunks : int
        Pieces of text, thinking, refusals and tool calls.
    finished : bool
        Whether each requested answer has a finish reason.
    went_on : bool
        Whether an answer went on after its finish reason, so that a reason is no sign of the end.
    sums_usage : bool
        Whether the server counts each answer by itself, so that the counts are added.
    expected : int
        How many answers the server will send. Set both before the first chunk.
    """

    def __init__(self, request: CompletionRequest, *, tags: bool = True) -> None:
        self._request = request
        self._tags = tags
        self.sums_usage = False
        self.expected = request.sampling.n or 1
        self._choices: dict[int, _Parts] = {0: _Parts(tags=tags)}
        self._finished = 0  # choices with a finish reason
        self._usage: Usage | None = None
        self._model = ""
        self._id = ""
        self.chunks = 0
        self.finished = False
        self.went_on = False

    def add(self, chunk: Chunk) -> Chunk:
        """Add one chunk; return what it brings that is new."""
        parts = self._choices.get(chunk.index)
        if parts is None and len(self._choices) >= _MOST_CHOICES:
            return Chunk(index=chunk.index)
        if parts is None:
            parts = self._choices[chunk.index] = _Parts(tags=self._tags)
        had_reason = bool(parts.finish_reason)
        if chunk.finish_reason and not had_reason:
            self._finished += 1
            self.finished = self._finished >= self.expected
        chunk = parts.add(chunk)
        if chunk.says_something:
            self.chunks += 1
            self.went_on = self.went_on or had_reason
        if chunk.usage is not None:
            self._count(chunk.usage)
        if chunk.model:
            self._model = chunk.model
        if chunk.id:
            self._id = chunk.id
        return chunk

    def end(self) -> Iterator[Chunk]:
        """Add what was held back, such as half of a tag, now that nothing follows; yield it."""
        for index, parts in self._choices.items():
            chunk = parts.end(index)
            if chunk.says_something:
                self.chunks += 1
                yield chunk

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

    @property
    def has_words(self) -> bool:
        """Whether any answer has more than thinking: a text, a refusal or a tool call."""
        return any(parts.text or parts.refusal or parts.calls for parts in self._choices.values())

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

    def __init__(self, *, tags: bool) -> None:
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.refusal: list[str] = []
        self.tokens: list[Token] = []
        self.calls: list[_Call] = []
        self.finish_reason: str | None = None
        self._tags = ThinkTags() if tags else None
        self._in_parts = False  # whether any of it came in parts
        self._halves = {"text": "", "reasoning": "", "refusal": ""}
        self._held_tokens: list[Token] = []
        self._settled = False  # whether nothing is held back

    def add(self, chunk: Chunk) -> Chunk:
        """Add a chunk; return what it brings that is new."""
        # The usual chunk, with nothing to mend.
        if (
            self._settled
            and type(chunk) is Chunk
            and chunk.text.isascii()
            and chunk.finish_reason is None
            and not (chunk.reasoning or chunk.refusal or chunk.tool_calls)
        ):
            self._in_parts = True
            self._keep(chunk.text, "", "", chunk.tokens)
            return chunk
        return self._mend(chunk)

    def _mend(self, chunk: Chunk) -> Chunk:
        if isinstance(chunk, WholeMessage):
            chunk = self._new_of(chunk)
        elif chunk.says_something:
            self._in_parts = True
        text = self._mended("text", chunk.text)
        reasoning = self._mended("reasoning", chunk.reasoning)
        refusal = self._mended("refusal", chunk.refusal)
        tokens = chunk.tokens
        if self._tags is not None and self._tags.open and (text or tokens):
            thought, text = self._tags.add(text)
            reasoning += thought
            tokens = self._tokens_of(self._tags, text, tokens)
        self._keep(text, reasoning, refusal, tokens)
        for call in chunk.tool_calls:
            self._add_call(call)
        # A finish reason can arrive twice, the second time as "" (seen on the wire): the first one counts.
        if chunk.finish_reason is not None and not self.finish_reason:
            self.finish_reason = chunk.finish_reason
        self._settled = not (self._tags is not None and self._tags.open) and not any(self._halves.values())
        if (text, reasoning, refusal) != (chunk.text, chunk.reasoning, chunk.refusal) or tokens is not chunk.tokens:
            return replace(chunk, text=text, reasoning=reasoning, refusal=refusal, tokens=tokens)
        return chunk

    def end(self, index: int) -> Chunk:
        """Add what was held back; return it."""
        held = self._held(index)
        self._keep(held.text, held.reasoning, held.refusal, held.tokens)
        return held

    def _held(self, index: int) -> Chunk:
        """Return what was held back; it is held no longer."""
        text, reasoning, refusal = (without_surrogates(half) for half in self._halves.values())
        self._halves = dict.fromkeys(self._halves, "")
        tokens: tuple[Token, ...] = ()
        if self._tags is not None and self._tags.open:
            thought, said = self._tags.add(text)
            last_thought, last_said = self._tags.end()
            text, reasoning = said + last_said, reasoning + thought + last_thought
            tokens = self._tokens_of(self._tags, text, ())
        return Chunk(text, index, reasoning, tokens, refusal=refusal)

    def choice(self, index: int) -> Choice:
        return Choice(
            index,
            _joined(self.text),
            _joined(self.reasoning),
            self.finish_reason,
            list(self.tokens),
            _joined(self.refusal),
            [call.to_dict() for call in list(self.calls)],
        )

    def _keep(self, text: str, reasoning: str, refusal: str, tokens: tuple[Token, ...]) -> None:
        if text:
            _append(self.text, text)
        if reasoning:
            _append(self.reasoning, reasoning)
        if refusal:
            _append(self.refusal, refusal)
        if tokens:
            self.tokens.extend(tokens)

    def _mended(self, name: str, text: str) -> str:
        r"""Return new text whose last character is whole: ``\ud83d`` and ``\ude00`` can come in two events."""
        half = self._halves[name]
        if not text or (text.isascii() and not half):
            return text
        text = half + text
        self._halves[name] = text[-1] if "\ud800" <= text[-1] <= "\udbff" else ""
        return without_surrogates(text[:-1] if self._halves[name] else text)

    def _tokens_of(self, tags: ThinkTags, text: str, tokens: tuple[Token, ...]) -> tuple[Token, ...]:
        """Return the tokens of new text. Those of a tag and of the thinking are dropped once they are known as such."""
        held = self._held_tokens
        held += tokens
        if not text and (tags.open or tags.found):
            return ()
        start = 0
        if tags.found:
            length, start = 0, len(held)
            while start and length < len(text):
                start -= 1
                length += len(held[start].text)
        theirs = tuple(held[start:])
        held.clear()
        return theirs

    def _new_of(self, message: Chunk) -> Chunk:
        """Return what a whole message has that did not come in parts."""
        plain = Chunk(*(getattr(message, name) for name in _FIELDS))
        whole = _Parts(tags=self._tags is not None)
        whole.add(plain)
        whole.end(message.index)
        if not self._in_parts and (not self.text or not _joined(whole.text).startswith(_joined(self.text))):
            return plain  # the first one, or one that is itself a part
        self._halves = dict.fromkeys(self._halves, "")  # they are whole in the message
        held = self._held(message.index)
        return replace(
            plain,
            text=held.text + _rest(_joined(whole.text), _joined(self.text) + held.text),
            reasoning=held.reasoning + _rest(_joined(whole.reasoning), _joined(self.reasoning) + held.reasoning),
            tokens=held.tokens if self.tokens or held.tokens else message.tokens,
            refusal=_rest(_joined(whole.refusal), _joined(self.refusal)),
            tool_calls=() if self.calls else message.tool_calls,
        )

    def _add_call(self, piece: dict[str, Any]) -> None:
        call = self._call_of(piece)
        if call is None and len(self.calls) < _MOST_CALLS:
            call = _Call(piece.get("index"))
            self.calls.append(call)
        if call is not None:
            call.add(piece)

    def _call_of(self, piece: dict[str, Any]) -> _Call | None:
        """Return the call that a piece goes on with, or None.

        Its id tells, or else its number; but Gemini numbers all calls 0, and Ollama gives neither.
        """
        number, identifier, name = piece.get("index"), piece.get("id"), _function(piece).get("name")
        if identifier:
            known = next((one for one in self.calls if one.identifier == identifier), None)
            if known is not None:
                return known
        latest = next((one for one in reversed(self.calls) if one.number == number), None)
        if latest is None or (identifier and latest.identifier):
            return None
        return None if name and latest.is_whole_before(name) else latest


class _Call:
    """A call of a tool, whose name and arguments come in pieces."""

    def __init__(self, number: Any) -> None:
        self.number = number
        self.identifier = ""
        self._name = ""
        self._arguments: list[str] = []

    def is_whole_before(self, name: str) -> bool:
        """Whether a piece that names a function begins another call."""
        if not any(self._arguments):
            return False
        if name != self._name or not self._arguments[-1].rstrip().endswith("}"):
            return name != self._name
        try:
            json.loads(_joined(self._arguments))
        except (ValueError, RecursionError):
            return False
        return True

    def add(self, piece: dict[str, Any]) -> None:
        name, arguments = _function(piece).get("name"), _function(piece).get("arguments")
        if isinstance(piece.get("id"), str):
            self.identifier = self.identifier or without_surrogates(piece["id"])
        if isinstance(name, str):  # some servers repeat it, or what of it has come, in each piece
            name = without_surrogates(name)
            self._name = name if name.startswith(self._name) else self._name + name * (name != self._name)
        if arguments is not None:
            _append(self._arguments, arguments if isinstance(arguments, str) else json.dumps(arguments))

    def to_dict(self) -> dict[str, Any]:
        function = {"name": self._name, "arguments": without_surrogates(_joined(self._arguments))}
        return {"id": self.identifier, "type": "function", "function": function}


def _function(piece: dict[str, Any]) -> dict[str, Any]:
    function = piece.get("function")
    return function if isinstance(function, dict) else {}


def _rest(whole: str, parts: str) -> str:
    """Return what a whole text has beyond its parts; "" if it is another text."""
    return whole.removeprefix(parts) if whole.startswith(parts) else ""


def _append(parts: list[str], text: str) -> None:
    parts.append(text)
    # The longer the joined text, the more parts are collected before it is copied again.
    if len(parts) > _COMPACT_AFTER + len(parts[0]) // _COMPACT_SHARE:
        # In place and in one step, so that a reader in another thread always sees all of the text.
        parts[:] = ["".join(parts)]


def _joined(parts: list[str]) -> str:
    return "".join(list(parts))
