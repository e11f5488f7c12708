"""Requests and replies between this package's server and llama.cpp's.

llama.cpp speaks OpenAI's dialects. It lacks Together's first API, has another name for the repetition penalty, writes at
most as many answers to a request as it has streams, and counts the tokens of each by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from together_nb.local.llama import STREAMS, defaults
from together_nb.local.request_body import CHAT, COMPLETIONS, INFERENCE, RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PATHS = {
    CHAT: "/v1/chat/completions",
    COMPLETIONS: "/v1/completions",
    INFERENCE: "/v1/completions",
}
_NAMES = {
    "repetition_penalty": "repeat_penalty",
    "max_completion_tokens": "max_tokens",
    "stream_tokens": "stream",
}
_SEEDS = 2**32 - 1  # the greatest means a random one
_MOST_CHOICES = 128
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
        422: a value is not of its type; 400: it has no prompt.
    """

    def __init__(self, dialect: str, model: str, values: dict[str, Any]) -> None:
        self._dialect = dialect
        self._model = model
        given = {_NAMES.get(name, name): value for name, value in values.items() if value is not None}
        self._path = _PATHS[dialect]
        self.stream = given.get("stream") is True
        self._choices = _whole(given, "n", 1)
        if not 1 <= self._choices <= _MOST_CHOICES:
            raise RequestError(422, f"n must be from 1 to {_MOST_CHOICES}, not {self._choices}.", "n")
        needed = "messages" if dialect == CHAT else "prompt"
        if not given.get(needed):
            raise RequestError(400, f"{needed} is missing.", needed)
        self._wanted: int | None = None  # alternatives to each token, if the request has Together's form
        self._body = {**defaults(model), **given, "model": model}
        if self.stream:
            self._body["stream_options"] = {"include_usage": True}
        self._count_logprobs()
        self._usage = dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), 0)

    def _count_logprobs(self) -> None:
        """Spell the request for log-probabilities: llama.cpp gives none with 0 alternatives."""
        wanted = self._body.get("logprobs")
        if isinstance(wanted, bool) or wanted is None:
            return
        self._wanted = _whole(self._body, "logprobs", 0)
        if self._dialect == CHAT:
            self._body |= {"logprobs": True, "top_logprobs": max(self._wanted, 1)}
        else:
            self._body["logprobs"] = max(self._wanted, 1)

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
            if self._dialect == CHAT:
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
                body["seed"] = (_whole(body, "seed", 0) + first) % _SEEDS
            yield first, body

    def _event(self, event: dict[str, Any], first: int) -> dict[str, Any]:
        choices = [self._choice(choice, first) for choice in event["choices"]]
        if self._dialect == INFERENCE:
            return {"choices": choices, "result_type": _INFERENCE_TYPE, "id": event.get("id")}
        return {**event, "choices": choices}

    def _choice(self, choice: dict[str, Any], first: int) -> dict[str, Any]:
        choice["index"] = choice.get("index", 0) + first
        choice["logprobs"] = self._logprobs(choice.get("logprobs"))
        if self._dialect != INFERENCE:
            return choice
        several = ("index",) if self._choices > 1 else ()
        names = ("text", *several, "logprobs", "finish_reason")
        return {name: choice[name] for name in names if choice.get(name) is not None}

    def _count(self, reply: dict[str, Any]) -> None:
        usage = reply.get("usage") or {}
        # Of several answers, each stream counts its own tokens and the prompt's.
        self._usage["completion_tokens"] += usage.get("completion_tokens", 0)
        self._usage["prompt_tokens"] = max(self._usage["prompt_tokens"], usage.get("prompt_tokens", 0))
        self._usage["total_tokens"] = self._usage["prompt_tokens"] + self._usage["completion_tokens"]

    def _logprobs(self, logprobs: dict[str, Any] | None) -> dict[str, Any] | None:
        """Return log-probabilities with Together's arrays, if they were asked for in its form."""
        if self._wanted is None or not logprobs or not logprobs.get("content"):
            return logprobs
        rows = [{**row, "top_logprobs": row["top_logprobs"][: self._wanted]} for row in logprobs["content"]]
        return {
            "tokens": [row["token"] for row in rows],
            "token_logprobs": [row["logprob"] for row in rows],
            "token_ids": [row["id"] for row in rows],
            "top_logprobs": [row["top_logprobs"] for row in rows],
            "content": rows,
        }


def _whole(values: dict[str, Any], name: str, default: int) -> int:
    value = values.get(name, default)
    if type(value) is not int:
        raise RequestError(422, f"{name} must be a whole number, not {value!r:.80}.", name)
    return value
