"""Better hints for errors, from the request and the server's list of models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from together_nb.errors import ContextLengthError, NotFoundError, TogetherError
from together_nb.values.model_list import ModelList
from together_nb.wire.status_errors import ADDRESS_HINT, MODELS_HINT

if TYPE_CHECKING:
    from together_nb.values.request import CompletionRequest
    from together_nb.wire.endpoint import Endpoint

_LETTERS_A_TOKEN = 4  # in English, roughly; only shown as "about"


def improve_hint(error: TogetherError, request: CompletionRequest, endpoint: Endpoint) -> None:
    """Give `error` a better hint, if there is one."""
    if error.hint in (ADDRESS_HINT, MODELS_HINT) or (isinstance(error, NotFoundError) and not error.hint):
        hint = _about_model(error.hint, request.model, _list(endpoint))
        error.hint = hint or ("" if endpoint.embedded else error.hint)  # an embedded one has no base URL
    elif isinstance(error, ContextLengthError):
        error.hint = f"{_lengths(request, _list(endpoint))} {error.hint}"


def _about_model(hint: str, model: str, listed: ModelList) -> str:
    """Return what the list tells of a model that the server seems not to have; "" if nothing."""
    if listed.get(model) is None:
        nearest = listed.nearest(model)
        return f"{nearest} Check the base URL too." if nearest and hint == ADDRESS_HINT else nearest
    if hint == MODELS_HINT:
        return f"Its list of models has {model}; your account may not be allowed to use it."
    return f"Its list of models has {model}, so check the base URL." if hint == ADDRESS_HINT else ""


def _list(endpoint: Endpoint) -> ModelList:
    """Return the list of models, empty if it cannot be fetched."""
    try:
        return endpoint.models()
    except TogetherError:
        return ModelList()


def _lengths(request: CompletionRequest, listed: ModelList) -> str:
    """Describe the length of the prompt, `max_tokens`, and the model's context. Tokens are estimated."""
    turns = request.messages or ()
    text = request.prompt + (request.system or "") + "".join(str(turn.get("content") or "") for turn in turns)
    max_tokens = request.sampling.max_tokens
    more = f" and max_tokens asks for {max_tokens:,} more" if max_tokens else ""
    row = listed.get(request.model)
    context = f"; the context of {request.model} is {row.context_length:,}" if row and row.context_length else ""
    about = max(round(len(text) / _LETTERS_A_TOKEN), 1)
    return f"The prompt is about {about:,} tokens ({len(text):,} characters){more}{context}."
