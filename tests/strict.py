"""Servers that validate a request as OpenAI and vLLM do, types and unknown fields, and answer as those do.

`openai` refuses every field that OpenAI's own client does not declare; `vllm` allows more. The shapes of their replies
and refusals are those of the servers themselves (vLLM 0.32, and OpenAI's client for the types).
"""

from __future__ import annotations

from functools import cache
from typing import Any

from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming as ChatParams
from openai.types.completion_create_params import CompletionCreateParamsStreaming as TextParams
from pydantic import TypeAdapter, ValidationError

from tests.servers import Exchange, replies

WORDS = ("four", ",", " five", ",", " six")
FIRST = ("One", ",", " two", ",", " three")  # of a new turn
VLLM_LIST = {
    "object": "list",
    "data": [{"id": "test/chat", "object": "model", "owned_by": "vllm", "max_model_len": 2048}],
}
OPENAI_LIST = {"object": "list", "data": [{"id": "test/chat", "object": "model", "owned_by": "system"}]}


@cache
def _adapter(chat: bool) -> TypeAdapter[Any]:
    return TypeAdapter(ChatParams if chat else TextParams)


def openai(exchange: Exchange) -> None:
    """Answer as OpenAI does: an unknown field is an error, and an assistant's last turn is history."""
    body = exchange.request.json()
    unknown = [name for name in body if name not in _known(exchange.dialect == "chat")]
    if unknown:
        message = f"Unrecognized request argument supplied: {unknown[0]}"
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
        replies(400, {"error": error})(exchange)
    elif not _refused(exchange, body):
        _answer(exchange, body, FIRST)


def vllm(exchange: Exchange) -> None:
    """Answer as vLLM does: types are checked, and an assistant's last turn is continued if the request says so."""
    body = exchange.request.json()
    if not _refused(exchange, body):
        goes_on = (body.get("continue_final_message"), body.get("add_generation_prompt")) == (True, False)
        _answer(exchange, body, WORDS if goes_on else FIRST)


@cache
def _known(chat: bool) -> frozenset[str]:
    return frozenset(_adapter(chat).json_schema()["properties"])


def _refused(exchange: Exchange, body: dict[str, Any]) -> bool:
    try:
        for value in _adapter(exchange.dialect == "chat").validate_python(body).get("messages") or ():
            assert value["role"]  # messages are validated as they are read
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = "body." + ".".join(map(str, first["loc"]))
        message = f"1 validation error:\n  {{'type': '{first['type']}', 'loc': '{place}', 'msg': '{first['msg']}'}}"
        replies(400, {"error": {"message": message, "type": "Bad Request", "param": place, "code": 400}})(exchange)
        return True
    return False


def _answer(exchange: Exchange, body: dict[str, Any], words: tuple[str, ...]) -> None:
    chat, words = exchange.dialect == "chat", words[: body.get("max_tokens")]
    several = range(body.get("n") or 1)
    exchange.chunked()
    if chat:
        for index in several:
            exchange.event(_chunk(body, index, {"delta": {"role": "assistant", "content": ""}}))
    for word in words:
        for index in several:
            said = {"delta": {"content": word}} if chat else {"text": word}
            exchange.event(_chunk(body, index, {**said, "logprobs": _logprobs(body, word, chat=chat)}))
    for index in several:
        end = {"delta": {}} if chat else {"text": ""}
        exchange.event(_chunk(body, index, {**end, "finish_reason": "length"}))
    if (body.get("stream_options") or {}).get("include_usage"):
        count = len(words) * len(several)
        usage = {"prompt_tokens": 5, "completion_tokens": count, "total_tokens": 5 + count}
        exchange.event({"id": "a", "model": body["model"], "choices": [], "usage": usage})
    exchange.done(last=True)


def _chunk(body: dict[str, Any], index: int, choice: dict[str, Any]) -> dict[str, Any]:
    choice = {"index": index, "logprobs": None, "finish_reason": None, **choice}
    return {"id": "a", "model": body["model"], "choices": [choice]}


def _logprobs(body: dict[str, Any], word: str, *, chat: bool) -> dict[str, Any] | None:
    wanted = body.get("top_logprobs") if chat and body.get("logprobs") else None if chat else body.get("logprobs")
    if wanted is None:
        return None
    others = [(word, -0.5), *((f"other{number}", -2.0 - number) for number in range(1, 20))][:wanted]
    if not chat:
        return {"tokens": [word], "token_logprobs": [-0.5], "top_logprobs": [dict(others)]}
    return {"content": [{**_row(word, -0.5), "top_logprobs": [_row(*other) for other in others]}]}


def _row(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}
