"""Requests and replies between this package's server and llama.cpp's.

llama.cpp speaks OpenAI's dialects. It lacks Together's first API, has another name for the repetition penalty, and one for
the schema of a text's continuation. It writes at most as many answers to a request as it has streams, and counts the
tokens of each by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from together_nb.local.llama import STREAMS, defaults
from together_nb.local.request_body import (
    CHAT,
    COMPLETIONS,
    INFERENCE,
    RequestError,
    checked_parameters,
    checked_prompt,
    counts_apart,
    flag,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PATHS = {
    CHAT: "/v1/chat/completions",
    COMPLETIONS: "/v1/completions",
    INFERENCE: "/v1/completions",
}
_NAMES = {"repetition_penalty": "repeat_penalty"}
# Named anew below, or without bounds in llama.cpp.
_DROPPED = frozenset({
    "repetition_penalty", "max_completion_tokens", "stream_tokens", "logprobs", "top_logprobs", "n_probs", "n_predict",
    "response_format",
})  # fmt: skip
_SEEDS = 2**32 - 1  # the greatest means a random one
_INFERENCE_TYPE = "language-model-inference"


class Translation:
    """One request to a model file, and the reply to it.

    Parameters
    ----------
    dialect
        `INFERENCE`, `COMPLETIONS` or `CHAT`.
    model
        The model's name.
    values
        The request's JSON.

    Attributes
    ----------
    stream
        Whether the reply is streamed.

    Raises
    ------
    RequestError
        422: a parameter is of the wrong type or out of bounds; 400: it has no prompt, or another value is invalid.
    """

    def __init__(self, dialect: str, model: str, values: dict[str, Any]) -> None:
        self._dialect = dialect
        self._model = model
        self._path = _PATHS[dialect]
        self.stream = flag(values, "stream") or flag(values, "stream_tokens")
        self._counts_apart = counts_apart(dialect, values)
        asked: dict[str, Any] = (
            {"messages": _messages(values.get("messages"))}
            if dialect == CHAT
            else {"prompt": checked_prompt(values.get("prompt"))}
        )
        schema = _schema(values.get("response_format"))
        if schema is not None:
            asked |= (
                {"response_format": {"type": "json_object", "schema": schema}}
                if dialect == CHAT
                else {"json_schema": schema}
            )
        parameters = checked_parameters(values)
        self._choices = parameters.get("n") or 1
        self._alternatives: int | None = parameters.pop("logprobs", None)
        self._has_arrays = not isinstance(values.get("logprobs"), bool)
        self._body = {name: value for name, value in values.items() if name not in _DROPPED}
        self._body |= asked | defaults(model) | {_NAMES.get(name, name): value for name, value in parameters.items()}
        self._body["stream"] = self.stream
        if self.stream:
            self._body["stream_options"] = {"include_usage": True}
        if self._alternatives is not None:  # llama.cpp gives no log-probabilities with 0 alternatives
            most = max(self._alternatives, 1)
            self._body |= {"logprobs": True, "top_logprobs": most} if dialect == CHAT else {"logprobs": most}
        self._id: str | None = None  # of the whole reply, also if it takes several requests
        self._usage = dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), 0)

    def events(self, send: Callable[[str, dict[str, Any]], Iterator[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
        """Yield the events of a streamed reply.

        Parameters
        ----------
        send
            Sends a body to a path of llama.cpp's server, and returns its events.
        """
        last: dict[str, Any] | None = None  # held back: the count of tokens follows it
        for first, body in self._requests():
            for event in send(self._path, body):
                self._count(event)
                if not event.get("choices"):
                    continue
                if last is not None:
                    yield last
                translated = self._event(event, first)
                ends = any(choice.get("finish_reason") for choice in event["choices"])
                last = translated if ends else None
                if not ends:
                    yield translated
        if last is not None:
            if self._counts_apart:
                yield last
                last = {**last, "choices": []}
            yield {**last, "usage": self._usage}

    def whole(self, send: Callable[[str, dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
        """Return the body of a whole reply; `send` returns that of llama.cpp's server."""
        choices: list[dict[str, Any]] = []
        reply: dict[str, Any] = {}
        for first, body in self._requests():
            reply = send(self._path, body)
            self._count(reply)
            choices += (self._choice(choice, first) for choice in reply["choices"])
        if self._dialect != INFERENCE:
            return {**reply, "choices": choices, "usage": self._usage}
        return {
            "status": "finished",
            "id": reply.get("id"),
            "model": self._model,
            "prompt": [self._body["prompt"]],
            "num_returns": self._choices,
            "output": {"choices": choices, "result_type": _INFERENCE_TYPE, "usage": self._usage},
        }

    def _requests(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the index of the first answer and the body of each request to send."""
        most = STREAMS if self.stream else 1  # of a whole reply llama.cpp counts the tokens of one answer
        for first in range(0, self._choices, most):
            body = {**self._body, "n": min(most, self._choices - first)}
            if "seed" in body:
                body["seed"] = (body["seed"] + first) % _SEEDS
            yield first, body

    def _event(self, event: dict[str, Any], first: int) -> dict[str, Any]:
        choices = [self._choice(choice, first) for choice in event["choices"]]
        self._id = self._id or event.get("id")
        if self._dialect == INFERENCE:
            return {"choices": choices, "result_type": _INFERENCE_TYPE, "id": self._id}
        return {**event, "choices": choices, "id": self._id}

    def _choice(self, choice: dict[str, Any], first: int) -> dict[str, Any]:
        choice["index"] = choice.get("index", 0) + first
        choice["logprobs"] = self._logprobs(choice.get("logprobs"))
        delta = choice.get("delta")
        if delta is not None and "tool_calls" not in delta:  # those who add up the contents expect texts
            delta["content"] = delta.get("content") or ""
        if self._dialect != INFERENCE:
            return choice
        several = ("index",) if self._choices > 1 else ()
        names = ("text", *several, "logprobs", "finish_reason")
        return {name: choice[name] for name in names if choice.get(name) is not None}

    def _count(self, reply: dict[str, Any]) -> None:
        usage = reply.pop("usage", None) or {}
        # Of several answers, each stream counts its own tokens and the prompt's.
        self._usage["completion_tokens"] += usage.get("completion_tokens", 0)
        self._usage["prompt_tokens"] = max(self._usage["prompt_tokens"], usage.get("prompt_tokens", 0))
        self._usage["total_tokens"] = self._usage["prompt_tokens"] + self._usage["completion_tokens"]

    def _logprobs(self, logprobs: dict[str, Any] | None) -> dict[str, Any] | None:
        """Return log-probabilities with the alternatives asked for, and Together's arrays unless asked in OpenAI's way."""
        if not logprobs or not logprobs.get("content"):
            return logprobs
        rows = [{**row, "top_logprobs": row["top_logprobs"][: self._alternatives]} for row in logprobs["content"]]
        if not self._has_arrays:
            return {"content": rows}
        return {
            "tokens": [row["token"] for row in rows],
            "token_logprobs": [row["logprob"] for row in rows],
            "token_ids": [row["id"] for row in rows],
            "top_logprobs": [row["top_logprobs"] for row in rows],
            "content": rows,
        }


def _messages(messages: object) -> list[dict[str, Any]]:
    """Return the messages without fields that are null, which llama.cpp refuses and OpenAI's client sends back."""
    if not isinstance(messages, list) or not all(
        isinstance(one, dict) and isinstance(one.get("role"), str) and ("content" in one or "tool_calls" in one)
        for one in messages
    ):
        raise RequestError(400, 'messages must be a list of {"role": …, "content": …}.', "messages")
    return [{"content": None} | {name: value for name, value in one.items() if value is not None} for one in messages]


def _schema(form: object) -> dict[str, Any] | None:
    """Return the schema that a ``response_format`` asks for, or None for any text.

    llama.cpp ignores a form that it does not know, and the answer would be no JSON.
    """
    kind = form.get("type") if isinstance(form, dict) else None
    if form is None or kind == "text":
        return None
    within = form if isinstance(form, dict) else {}
    if kind == "json_schema":
        within = within.get("json_schema", within)  # Together also has the schema beside the type
    schema = within.get("schema") if isinstance(within, dict) else None
    if kind == "json_object" and schema is None:
        schema = {}
    if kind not in ("json_object", "json_schema") or not isinstance(schema, dict):
        raise RequestError(
            400,
            "response_format must have the type text, json_object or json_schema, and with json_schema a schema: "
            '{"type": "json_schema", "json_schema": {"name": …, "schema": …}}.',
            "response_format",
        )
    return schema or {"type": "object"}  # llama.cpp takes an empty one for none
