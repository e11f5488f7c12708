"""The dialects of the API: a request → its payload, a reply's payload → chunks.

Pure translation, one object per dialect, all in one table. Shapes are those of the recorded
replies and of togethercomputer/openapi. OpenAI's own shape of log-probabilities is read too,
since other servers with these dialects use it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from together_nb.base.escape import without_surrogates
from together_nb.base.suggest import suggestion
from together_nb.errors import ContextLengthStreamError, InputError, StreamError
from together_nb.values.chunk import Chunk, Token, Usage
from together_nb.values.parameters import PARAMETERS
from together_nb.wire.error_words import (
    LONGEST_WORDS,
    as_json,
    error_codes,
    error_message,
    failure,
    is_about_length,
    tells,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from together_nb.values.request import CompletionRequest

_MOST_INDEX = 1_000_000
_MOST_CHOICES = 1024  # per event, each an answer; `n` is at most 128
_NOTHING_YET = frozenset({"index", "role", "delta"})  # keys of a choice without answer content
_NO_REASON = (None, "null", "None")  # DashScope writes "null" into each chunk
_PLAIN = frozenset({"role", "content"})
_THOUGHTS = ("reasoning", "reasoning_content", "reasoning_text", "thinking")
_LONGEST_NAME = 1000  # characters of a model's id and the like, which every footer shows
_MOST_TOKENS = 2**63 - 1  # limit of counts and ids elsewhere; JSON's numbers are unbounded


@dataclass(slots=True)
class WholeMessage(Chunk):
    """A message of a choice, not a part of it: after parts it repeats them (MiniMax, Perplexity)."""


@dataclass(frozen=True)
class Dialect:
    """One way to request a completion.

    Parameters
    ----------
    name
        What the user types after ``--api``.
    path
        Path below the server's root.
    help
        One line for the help text.
    chat
        Whether it takes messages (and a system prompt) rather than a prompt.
    streaming
        The payload's key that requests a stream.
    message_of
        Maps a choice to its message, new or whole, and whether it is whole.
    """

    name: str
    path: str
    help: str
    chat: bool
    streaming: str
    message_of: Callable[[dict[str, Any]], tuple[dict[str, Any], bool]]

    def payload(self, request: CompletionRequest) -> dict[str, Any]:
        """Return the JSON body of `request`, streamed, with only the values set.

        Raises
        ------
        InputError
            The request has something this dialect cannot express.
        """
        sampling = request.sampling.to_dict()
        for name in sampling:
            if PARAMETERS[name].dialects and self.name not in PARAMETERS[name].dialects:
                known = " or ".join(f"--api {dialect}" for dialect in PARAMETERS[name].dialects)
                raise InputError(f"{name} cannot be sent to the {self.name} API.", f"Use {known}, or leave {name} out.")
        body: dict[str, Any] = {"model": request.model}
        if self.chat:
            body["messages"] = _messages(request)
        elif request.system is not None or request.messages is not None:
            raise InputError(
                f"The {self.name} API takes one prompt: no system prompt and no messages.", "Add --api chat."
            )
        else:
            body["prompt"] = request.prompt
        if request.schema is not None:
            if not self.chat:
                raise InputError(
                    f"A schema cannot be sent to the {self.name} API.", "Add --api chat, or leave the schema out."
                )
            body["response_format"] = request.schema.response_format
        body |= sampling | {self.streaming: True}
        extra = request.extra_body or {}
        if taken := [name for name in extra if name in body]:
            raise InputError(
                f"extra_body names what the request has already: {', '.join(taken)}.",
                "Leave it out, or set it with its own option or keyword.",
            )
        return body | extra

    def chunks(self, payload: dict[str, Any]) -> Iterator[Chunk]:
        """Yield the chunks of one payload, from a stream or a whole reply.

        Raises
        ------
        StreamError
            The payload reports a failure.
        """
        told = failure(payload)
        if told is not None and not payload.get("choices"):
            raise stream_error(told)
        counted = payload.get("usage")
        if isinstance(payload.get("x_groq"), dict):
            counted = payload["x_groq"].get("usage") or counted
        usage = _usage(counted) if counted else None
        model = _clean(payload.get("model"))[:_LONGEST_NAME]
        identifier = _clean(payload.get("id"))[:_LONGEST_NAME]
        choices = payload.get("choices")
        if not choices and isinstance(payload.get("output"), dict):  # /inference, not streamed
            choices = payload["output"].get("choices")
        if not choices:
            yield Chunk(usage=usage, model=model, id=identifier)
            return
        for position, choice in enumerate(choices[:_MOST_CHOICES]):
            if "usage" in choice:  # Moonshot
                usage = _usage(choice["usage"]) or usage
            message, whole = self.message_of(choice)
            text, reasoning, refusal, calls = _said(message)
            reason = choice.get("finish_reason")
            logprobs = choice.get("logprobs")
            # A choice without text may be part of it, such as the first token of a character.
            of_text = text or (message.get("content") is not None and not (refusal or calls or _thinks(message)))
            kind = WholeMessage if whole else Chunk
            yield kind(
                text,
                _index(choice.get("index"), position),
                reasoning,
                () if logprobs is None or not of_text else _tokens_or_none(choice, logprobs, text),
                None if reason in _NO_REASON else _clean(reason)[:_LONGEST_NAME],
                usage,
                model,
                identifier,
                refusal,
                calls,
            )
            usage = None
            if "error" in choice and tells(choice["error"]):
                raise stream_error(choice["error"])
            if reason == "error":
                raise stream_error(told)
        if told is not None:
            raise stream_error(told)


def _index(index: Any, position: int) -> int:
    """Return the index of a choice, or its position if it has none."""
    number = position if index is None else int(index)
    if number >= _MOST_INDEX:
        raise ValueError("a choice's index is too large")
    return max(number, 0)


def _messages(request: CompletionRequest) -> list[dict[str, Any]]:
    if request.messages is not None:
        messages = [dict(message) for message in request.messages]
    else:
        messages = [{"role": "user", "content": request.prompt}]
    if request.system is not None:
        messages.insert(0, {"role": "system", "content": request.system})
    return messages


def _clean(text: Any) -> str:
    if text is None:
        return ""
    if isinstance(text, str):
        return text if text.isascii() else without_surrogates(text)
    if isinstance(text, list):  # content in parts
        said = (part.get("text") for part in text if isinstance(part, dict))
        return without_surrogates("".join(part for part in said if isinstance(part, str)))
    return _spelled(text)


def _spelled(value: Any) -> str:
    """Convert a non-string to text; "" if it is nested too deep for `str`, though not for JSON."""
    try:
        return without_surrogates(str(value))
    except RecursionError:
        return ""


def _delta(choice: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    delta, message = choice.get("delta"), choice.get("message")
    if isinstance(delta, str):  # FastChat's first form
        delta = {"content": delta}
    if delta and (delta.get("content") or any(value for name, value in delta.items() if name != "role")):
        return delta, False
    if message:
        return message, True
    return delta or {"content": choice.get("text")}, False


def _text(choice: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    text = choice.get("text")
    return _delta(choice) if text is None else ({"content": text}, False)


def _said(message: dict[str, Any]) -> tuple[str, str, str, tuple[dict[str, Any], ...]]:
    """Return the text, the thinking, the refusal and the tool calls of a message, each in any shape in use."""
    content = message.get("content")
    if isinstance(content, dict):
        content = [content]
    if isinstance(content, str) and message.keys() <= _PLAIN:  # the usual one
        return content, "", "", ()
    text, thought, refusal = _of_parts(content) if isinstance(content, list) else (_words(content), "", "")
    thought += next(filter(None, (_words(message.get(name)) for name in _THOUGHTS)), "") or _words(
        message.get("reasoning_details")
    )
    return text, thought, refusal + _words(message.get("refusal")), _tool_calls(message)


def _thinks(message: dict[str, Any]) -> bool:
    """Whether a message has a field of thinking, be it empty."""
    return any(message.get(name) is not None for name in (*_THOUGHTS, "reasoning_details"))


def _of_parts(parts: list[Any]) -> tuple[str, str, str]:
    """Return the text, the thinking and the refusals of a content in parts (Mistral, OpenAI)."""
    said: dict[str, list[str]] = {"text": [], "thinking": [], "refusal": []}
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else None
        kind = "thinking" if kind == "reasoning" else kind
        said[kind if kind in said else "text"].append(_words(part))
    return "".join(said["text"]), "".join(said["thinking"]), "".join(said["refusal"])


def _words(value: Any) -> str:
    """Return the text of a value: a string, a number, or an object or a list around some; halves of characters stay."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(map(_words, value))
    if isinstance(value, dict):
        return next(filter(None, (_words(value.get(name)) for name in _TEXTS)), "")
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else ""


_TEXTS = ("text", "content", "thinking", "reasoning", "refusal", "summary", "value")  # where an object has its text


def _tool_calls(message: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    calls = message.get("tool_calls")
    if isinstance(message.get("function_call"), dict):  # OpenAI's first form
        calls = [{"function": message["function_call"]}]
    return tuple(call for call in calls if isinstance(call, dict)) if isinstance(calls, list) else ()


def _usage(counted: Any) -> Usage | None:
    if not isinstance(counted, dict):
        return None
    prompt, completion = _count(counted.get("prompt_tokens")), _count(counted.get("completion_tokens"))
    if prompt is None or completion is None:
        return None
    return Usage(
        prompt,
        completion,
        _count(counted.get("total_tokens")) or prompt + completion,
        _counted(counted, "reasoning_tokens", "completion_tokens_details"),
        _counted(counted, "cached_tokens", "prompt_tokens_details"),
    )


def _count(value: Any) -> int | None:
    """Return a token count; None if `value` is none."""
    try:
        number = int(value)
    except (OverflowError, TypeError, ValueError):
        return None
    return number if 0 <= number <= _MOST_TOKENS else None


def _counted(usage: dict[str, Any], name: str, details: str) -> int | None:
    """Return a count from the usage itself (Together) or from its details (OpenAI)."""
    count = usage.get(name)
    within = usage.get(details)
    return _count(within.get(name) if count is None and isinstance(within, dict) else count)


def _tokens_or_none(choice: dict[str, Any], logprobs: Any, text: str) -> tuple[Token, ...]:
    """Return the tokens of a choice; none if their shape is unknown, since the text is enough."""
    try:
        return _tokens(choice, logprobs, text)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        return ()


def _tokens(choice: dict[str, Any], logprobs: Any, text: str) -> tuple[Token, ...]:
    """Return the tokens of a choice, from any shape of log-probabilities."""
    alone = _number(logprobs)
    if alone is not None:
        if not text:  # a number alone tells of no token without its text
            return ()
        delta = choice.get("delta") or {}
        return (Token(_clean(text), alone, _identifier(delta.get("token_id")), _top(choice.get("top_logprobs"))),)
    if not isinstance(logprobs, dict):
        return ()
    content = logprobs.get("content")
    if content:  # OpenAI's chat, and llama.cpp's completions
        return tuple(map(_token, content))
    texts = logprobs.get("tokens") or []
    return tuple(
        Token(
            _clean(token),
            _number(_at(logprobs.get("token_logprobs"), number)),
            _identifier(_at(logprobs.get("token_ids"), number)),
            _top(_at(logprobs.get("top_logprobs"), number)),
        )
        for number, token in enumerate(texts)
    )


def _token(row: dict[str, Any]) -> Token:
    """Return the token of a row in OpenAI's shape."""
    text, raw = _clean(row.get("token", "")), row.get("bytes")
    part: tuple[int, ...] = ()
    if isinstance(raw, list) and raw and all(type(one) is int and 0 <= one < 256 for one in raw):  # noqa: PLR2004
        try:
            bytes(raw).decode()
        except UnicodeDecodeError:  # it begins or ends within a character
            text, part = "", tuple(raw)
    return Token(text, _number(row.get("logprob")), _identifier(row.get("id")), _top(row.get("top_logprobs")), part)


def _at(rows: Any, number: int) -> Any:
    return rows[number] if isinstance(rows, list) and number < len(rows) else None


def _number(value: Any) -> float | None:
    known = isinstance(value, (int, float)) and not isinstance(value, bool) and not isnan(value)
    return float(value) if known else None


def _identifier(value: Any) -> int | None:
    return value if type(value) is int and -_MOST_TOKENS <= value <= _MOST_TOKENS else None


def _top(rows: Any) -> tuple[tuple[str, float], ...]:
    """Read alternatives from a list of ``{token, logprob}`` or a map, likeliest first."""
    if isinstance(rows, list) and len(rows) == 1 and isinstance(rows[0], dict) and "token" not in rows[0]:
        rows = rows[0]
    if isinstance(rows, dict):
        pairs = [(_clean(token), float(logprob)) for token, logprob in rows.items() if logprob is not None]
    elif isinstance(rows, list):
        pairs = [
            (_clean(row["token"]), float(row["logprob"])) for row in rows if isinstance(row, dict) and "token" in row
        ]
    else:
        return ()
    pairs = [pair for pair in pairs if not isnan(pair[1])]
    pairs.sort(key=itemgetter(1), reverse=True)
    return tuple(pairs)


def says_something(payload: dict[str, Any]) -> bool:
    """Whether a payload holds any part of an answer, even one not read here; roles, ids and empty texts are none."""
    choices = payload.get("choices")
    if payload.get("usage") or payload.get("output") or not isinstance(choices, list):
        return bool(payload.get("usage") or payload.get("output") or choices)
    return any(_says_something(choice) for choice in choices)


def _says_something(choice: Any) -> bool:
    if not isinstance(choice, dict):
        return True
    inner = [choice["delta"]] if isinstance(choice.get("delta"), dict) else []
    return any(value for one in (choice, *inner) for name, value in one.items() if name not in _NOTHING_YET)


def stream_error(error: Any) -> StreamError:
    """The error of a failure that a stream reports, in the server's words."""
    words = error_message(error)[:LONGEST_WORDS]
    said = f": {words.rstrip('.')}" if words else " and did not say why"
    message = f"The server broke the answer off with an error{said}."
    if is_about_length(f"{error_codes(as_json(error))} {words}"):
        return ContextLengthStreamError(message, "Shorten the prompt or lower max_tokens.", status=200)
    return StreamError(message)


DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        Dialect("chat", "/v1/chat/completions", "a conversation, for models tuned to chat", True, "stream", _delta),
        Dialect("completions", "/v1/completions", "a text to continue", False, "stream", _text),
        Dialect("inference", "/inference", "Together's first API, as in its tutorial", False, "stream_tokens", _text),
    )
}


def how_to_ask() -> str:
    """The choices in words: ```--api chat`, `completions` or `inference```."""
    *names, last = (f"`{name}`" for name in DIALECTS)
    return f"{', '.join(names)} or {last}".replace("`", "`--api ", 1)


def dialect_for(api: str) -> Dialect:
    """Return the dialect named `api`.

    Raises
    ------
    InputError
        No dialect has that name.
    """
    if api not in DIALECTS:
        known = ("auto", *DIALECTS)
        hint = suggestion(api, known) or f"Use one of: {', '.join(known)}."
        raise InputError(f"There is no API called {api!r}.", hint)
    return DIALECTS[api]
