"""The JSON bodies of the replies, in Together's formats.

A stream's usage comes with its last finish reason: the usual loop reads `choices[0]` of every chunk. Where
``stream_options`` ask for it, it comes in a last chunk without choices, as OpenAI's does. The ``inference`` events are
those of the original tutorial; the last one also has the finish reason.
"""

from __future__ import annotations

import json
import secrets
import time
from typing import TYPE_CHECKING, Any

from together_nb.local import llama
from together_nb.local.models import served_models, title
from together_nb.local.request_body import CHAT, CONTEXT_LENGTH, INFERENCE
from together_nb.values.local_models import NGRAM, SMOLLM

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from together_nb.local.request_body import ParsedRequest, RequestError
    from together_nb.local.vocabulary import Generated

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode  # `json.dumps` would create one each time
_FAILED, _SERVER_ERROR = 424, 500
_CREATED = 1_690_329_600  # any fixed date: every process trains the model anew
_INFERENCE_REASONS = {"eos": "eos_token", "stop": "stop_sequence"}


def encoded(body: object) -> bytes:
    """Encode `body` as JSON in UTF-8; a lone surrogate, which UTF-8 cannot carry, as JSON's escape."""
    return _encode(body).encode("utf-8", "backslashreplace")


def model_list(client: str) -> list[dict[str, Any]] | dict[str, Any]:
    """The body of ``/v1/models``: an array, which Together's client reads, and an object for OpenAI's.

    Parameters
    ----------
    client
        What the client calls itself, its ``User-Agent``.
    """
    rows = model_rows()
    return {"object": "list", "data": rows} if "OpenAI/" in client else rows


def model_rows() -> list[dict[str, Any]]:
    """The rows of ``/v1/models``."""
    return [_model_row(model) for model in served_models()]


def _model_row(model: str) -> dict[str, Any]:
    own = model == NGRAM
    organization = "together_nb" if own else "Hugging Face" if model == SMOLLM else ""
    return {
        "id": model,
        "object": "model",
        "created": _CREATED,
        "type": "language" if own else "chat",
        "display_name": title(model),
        "organization": organization,
        "context_length": CONTEXT_LENGTH if own else llama.CONTEXT,
        "config": {"stop": [], "bos_token": None, "eos_token": None},
        "pricing": {"hourly": 0, "input": 0, "output": 0, "base": 0, "finetune": 0},
    }


def error_body(error: RequestError) -> dict[str, Any]:
    """Together's body of an error reply."""
    kind = "server_error" if error.status >= _SERVER_ERROR or error.status == _FAILED else "invalid_request_error"
    text = {"message": error.message, "type": kind, "param": error.param, "code": error.code}
    return {"id": _new_id(), "error": text}


def _new_id() -> str:
    return "local-" + secrets.token_hex(12)


class Reply:
    """The bodies that answer one request.

    Parameters
    ----------
    request
        The request.
    """

    def __init__(self, request: ParsedRequest) -> None:
        self._request = request
        self._counted = 0
        self._running = request.choices
        self._emitted = [0] * request.choices
        self._id = secrets.token_hex(32) if request.dialect == INFERENCE else _new_id()
        self._created = int(time.time())

    def opening(self) -> Iterator[dict[str, Any]]:
        """The chunks before the first token: for a chat, the role of each answer."""
        if self._request.dialect == CHAT:
            for index in range(self._request.choices):
                yield self._chunk(self._choice(index, "", None, None))

    def chunk(self, index: int, piece: Generated) -> dict[str, Any]:
        """The chunk that carries `piece` of answer `index`."""
        self._count(index, piece)
        reason = self._reason(piece)
        if self._request.dialect == INFERENCE:
            return self._inference_event(index, piece, reason)
        chunk = self._chunk(self._choice(index, piece.text, piece.id, reason, self._logprobs([piece])))
        if self._request.dialect != CHAT:
            chunk["token"] = _token(piece)
            chunk["finish_reason"] = reason
        if not self._running and not self._request.counts_apart:
            chunk["usage"] = self._usage()
        return chunk

    def closing(self) -> Iterator[dict[str, Any]]:
        """The chunks after the last token: the usage, if it comes apart."""
        if self._request.counts_apart:
            yield {**self._chunk(), "usage": self._usage()}

    def whole(self, answers: Sequence[Sequence[Generated]]) -> dict[str, Any]:
        """The body of an unstreamed reply."""
        for index, pieces in enumerate(answers):
            for piece in pieces:
                self._count(index, piece)
        choices = [self._whole_choice(index, pieces) for index, pieces in enumerate(answers)]
        if self._request.dialect == INFERENCE:
            return {
                "status": "finished",
                "id": self._id,
                "model": NGRAM,
                "prompt": [self._request.prompt],
                "num_returns": self._request.choices,
                "args": self._request.sampling.to_dict(),
                "output": {"choices": choices, "result_type": "language-model-inference", "usage": self._usage()},
            }
        return {
            "id": self._id,
            "object": "chat.completion" if self._request.dialect == CHAT else "text.completion",
            "created": self._created,
            "model": NGRAM,
            "prompt": [{"text": self._request.prompt}] if self._request.sampling.echo else [],
            "choices": choices,
            "usage": self._usage(),
        }

    def _whole_choice(self, index: int, pieces: Sequence[Generated]) -> dict[str, Any]:
        text = "".join(piece.text for piece in pieces)
        choice: dict[str, Any] = {"index": index, "finish_reason": self._reason(pieces[-1])}
        choice["seed"] = (self._request.sampling.seed or 0) + index
        choice["logprobs"] = self._logprobs(pieces)
        if self._request.dialect == CHAT:
            return {**choice, "message": {"role": "assistant", "content": text, "tool_calls": []}}
        return {"text": text, **choice}

    def _chunk(self, *choices: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": "chat.completion.chunk" if self._request.dialect == CHAT else "completion.chunk",
            "created": self._created,
            "choices": list(choices),
            "model": NGRAM,
            "usage": None,
        }

    def _choice(
        self, index: int, text: str, token_id: int | None, reason: str | None, logprobs: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}
        if self._request.dialect != CHAT:
            return choice
        return {**choice, "delta": {"token_id": token_id, "role": "assistant", "content": text}}

    def _inference_event(self, index: int, piece: Generated, reason: str | None) -> dict[str, Any]:
        choice: dict[str, Any] = {"text": piece.text}
        if self._request.choices > 1:
            choice["index"] = index
        if self._request.sampling.logprobs is not None:
            choice["logprobs"] = self._logprobs([piece])
        if reason:
            choice["finish_reason"] = reason
        event = {"choices": [choice], "result_type": "language-model-inference", "id": self._id}
        return event if self._running else {**event, "usage": self._usage()}

    def _reason(self, piece: Generated) -> str | None:
        reason = piece.finish_reason
        if reason and self._request.dialect == INFERENCE:
            return _INFERENCE_REASONS.get(reason, reason)
        return reason

    def _count(self, index: int, piece: Generated) -> None:
        if piece.finish_reason:
            self._running -= 1
            return
        self._emitted[index] += 1
        if self._emitted[index] > self._request.echoed:
            self._counted += 1

    def _usage(self) -> dict[str, int]:
        prompt, completion = self._request.prompt_tokens, self._counted
        return {"prompt_tokens": prompt, "total_tokens": prompt + completion, "completion_tokens": completion}

    def _logprobs(self, pieces: Sequence[Generated]) -> dict[str, Any] | None:
        """Together's arrays, and OpenAI's list beside them if requested in OpenAI's way."""
        tokens = [piece for piece in pieces if piece.id is not None]
        if self._request.sampling.logprobs is None or not tokens:
            return None
        rows: dict[str, Any] = {
            "tokens": [piece.text for piece in tokens],
            "token_logprobs": [piece.logprob for piece in tokens],
            "token_ids": [piece.id for piece in tokens],
            "top_logprobs": [[{"token": text, "logprob": lp} for text, lp in piece.top] for piece in tokens],
        }
        if self._request.openai_logprobs:
            rows["content"] = [
                {**_openai(piece.text, piece.logprob), "top_logprobs": [_openai(*other) for other in piece.top]}
                for piece in tokens
            ]
        return rows


def _token(piece: Generated) -> dict[str, Any] | None:
    if piece.id is None:
        return None
    return {"id": piece.id, "text": piece.text, "logprob": piece.logprob, "special": False}


def _openai(text: str, logprob: float | None) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode("utf-8", "replace"))}
