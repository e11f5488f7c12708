"""Chooses what a request leaves open: the model, the server, the dialect."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from together_nb.base.suggest import suggestion
from together_nb.config import environment
from together_nb.config.addresses import DEFAULT_BASE_URL, is_loopback, server_root
from together_nb.config.environment import BASE_URL_VARIABLE
from together_nb.config.keys import Key, hide
from together_nb.config.settings import DEFAULT_MODEL, LOCAL_MODEL, settings
from together_nb.errors import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    InputError,
    MissingKeyError,
    TogetherError,
)
from together_nb.run.ledger import check_budget
from together_nb.run.stream import CompletionStream
from together_nb.values.model_list import ModelList
from together_nb.values.parameters import AUTO
from together_nb.values.request import CompletionRequest, checked_extra
from together_nb.values.schema import schema_of
from together_nb.wire import transport
from together_nb.wire.endpoint import Endpoint, known_model_list, list_key, may_be_asked_unseen, model_list

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from together_nb.config.settings import Settings
    from together_nb.values.model_list import Model

LOCAL_NOTE = "a toy n-gram model; real ones: %together login"
EMBEDDED = "http://localhost"  # stands for the embedded engine's address if it must not be started
UNPRICED_NOTE = "no price is known: the budget does not count it"


def open_stream(
    prompt: str = "",
    *,
    model: str | None = None,
    api: str = AUTO,
    system: str | None = None,
    messages: Iterable[dict[str, Any]] | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
    timeout: float | None = None,
    schema: Any = None,
    extra_body: Mapping[str, Any] | None = None,
    filled: tuple[str, ...] = (),
    chosen: Settings = settings,
    offline: bool = False,
    **sampling: Any,
) -> CompletionStream:
    """Return the stream of a request, with model, server and dialect chosen; it is not yet sent.

    Parameters are those of `stream`; `filled` lists the names filled in in the prompt, and `chosen` holds the
    defaults for what is not given. With `offline`, nothing is sent or started to choose them: the stream is only for
    inspection, and its `unknown` lists what is left open.
    """
    for name, value in (("model", model), ("api", api), ("system", system)):
        if not isinstance(value, str) and not (value is None and name != "api"):
            raise InputError(f"{name} must be a text, not {type(value).__name__}.", "Leave it out for the default.")
    if messages is not None:
        messages = _conversation(prompt, messages)
    elif not isinstance(prompt, str):
        raise InputError(f"The prompt must be a text, not {type(prompt).__name__}.", "Pass str(…) of it.")
    elif not prompt.strip():
        raise InputError("The prompt is empty.", "Write it below the line with %%together, or pass a text.")
    request = CompletionRequest(
        prompt=prompt,
        model=(model or "").strip(),
        api=api,
        system=system,
        messages=messages,
        sampling=chosen.sampling.updated(sampling),
        schema=None if schema is None else schema_of(schema),
        extra_body=None if extra_body is None else checked_extra(extra_body),
    )
    return open_request(
        request, base_url=base_url, api_key=api_key, timeout=timeout, filled=filled, chosen=chosen, offline=offline
    )


def open_request(
    request: CompletionRequest,
    *,
    base_url: str | None = None,
    api_key: str | None = None,
    timeout: float | None = None,
    filled: tuple[str, ...] = (),
    chosen: Settings = settings,
    offline: bool = False,
) -> CompletionStream:
    """Do as `open_stream` does, for an existing request."""
    if offline:
        return _unsent(request, _endpoint_for(base_url, api_key, timeout, chosen), chosen, filled)
    request, endpoint = resolve(request, base_url=base_url, api_key=api_key, timeout=timeout, chosen=chosen)
    price = _price(request.model, endpoint)
    check_budget(settings.budget, price)
    marks = {
        "price": price,
        "note": " · ".join(filter(None, (_note(request.model, price), transport.current().note))),
        "filled": filled,
    }
    return CompletionStream(request, endpoint, marks)


def _unsent(
    request: CompletionRequest, endpoint: Endpoint, chosen: Settings, filled: tuple[str, ...]
) -> CompletionStream:
    """Return a stream for inspection, not for reading: what only a server knows is left open."""
    model = _model(request, endpoint, chosen)
    unknown = [] if model else ["the model (the server's only one)"]
    own_engine = model == LOCAL_MODEL and not _serves_the_embedded_model(endpoint, ask=False)
    if own_engine and is_loopback(urlsplit(endpoint.root).hostname or "") and known_model_list(endpoint) is None:
        unknown.append(f"the server ({endpoint.root} where it has {model}, else the embedded engine)")
    elif own_engine:
        endpoint = replace(endpoint, root=EMBEDDED, key=None)
    _check_key(model, endpoint)
    api = _explicit_api(request)
    listed = known_model_list(endpoint)
    if api is None and own_engine:
        api = "completions"
    elif api is None and listed is not None:
        row = listed.get(model)
        api = "chat" if row is None else row.api
    if api is None:
        api = "chat"
        unknown.append("the API (this is how a chat model is asked)")
    stream = CompletionStream(replace(request, model=model, api=api), endpoint, {"filled": filled})
    stream.unknown = tuple(unknown)
    return stream


def _note(model: str, price: tuple[float, float] | None) -> str:
    """Return the footer's note on where the answer comes from."""
    if model == LOCAL_MODEL:
        return " · ".join(filter(None, (LOCAL_NOTE, environment.environment.late)))
    unpriced = settings.budget is not None and price is None and transport.current().live
    return UNPRICED_NOTE if unpriced else ""


_FREE = (0.0, 0.0)
_asked_for_prices: set[tuple[str, str | None]] = set()


def _price(model: str, endpoint: Endpoint) -> tuple[float, float] | None:
    """Return US dollars per million tokens (in, out), or None if unknown.

    The list of models is requested if it has prices or there is a budget to keep; only once, since an answer
    does not need it.
    """
    if model == LOCAL_MODEL and is_loopback(urlsplit(endpoint.root).hostname or ""):
        return _FREE
    listed = known_model_list(endpoint)
    wanted = endpoint.is_together or settings.budget is not None
    if listed is None and wanted and list_key(endpoint) not in _asked_for_prices:
        _asked_for_prices.add(list_key(endpoint))
        with suppress(TogetherError):
            listed = model_list(endpoint)
    row = None if listed is None else listed.get(model)
    return None if row is None else row.price


def resolve(
    request: CompletionRequest,
    *,
    base_url: str | None = None,
    api_key: str | None = None,
    timeout: float | None = None,
    chosen: Settings = settings,
) -> tuple[CompletionRequest, Endpoint]:
    """Return `request` with its model and dialect chosen, and the server that it goes to.

    Raises
    ------
    MissingKeyError
        The model is one of Together's service, and there is no key.
    InputError
        The base URL is invalid, or no model was given and the server has none or several.
    """
    endpoint = _endpoint_for(base_url, api_key, timeout, chosen)
    model = _model(request, endpoint, chosen) or _only_model(endpoint)
    named = base_url and not endpoint.is_together  # in the call itself: then that server is meant
    if model == LOCAL_MODEL and not named and not _serves_the_embedded_model(endpoint):
        endpoint = embedded_endpoint(endpoint, settings.local_tokens_per_second or None)
    _check_key(model, endpoint)
    return replace(request, model=model, api=_api(request, model, endpoint)), endpoint


def _model(request: CompletionRequest, endpoint: Endpoint, chosen: Settings) -> str:
    """Return the requested model, or the default of Together's service; "" if the server has to be asked."""
    model = request.model or chosen.model or transport.current().model or chosen.chosen_model or ""
    if model or not endpoint.is_together:
        return model
    return LOCAL_MODEL if endpoint.key is None else DEFAULT_MODEL


def _check_key(model: str, endpoint: Endpoint) -> None:
    if endpoint.is_together and endpoint.key is None and transport.current().live:
        without = suggestion(model, [LOCAL_MODEL]) or f"Without a key there is -m {LOCAL_MODEL}, on this machine."
        raise MissingKeyError(
            f"{model} needs an API key, and none is set.",
            f"{without} `%together login` takes a key. {endpoint.withheld or environment.environment.late}".strip(),
        )


def _conversation(prompt: str, messages: Iterable[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    if prompt:
        raise InputError("A prompt and messages were given.", "Put the prompt in the messages, as the last of them.")
    turns = tuple(messages)
    if not turns or not all(isinstance(turn, dict) and isinstance(turn.get("role"), str) for turn in turns):
        raise InputError(
            "messages must be a list of dicts, and not an empty one.",
            'One looks like {"role": "user", "content": "Hello"}.',
        )
    if all(type(part) is str for turn in turns for pair in turn.items() for part in pair):  # the usual case
        return turns
    try:
        json.dumps(turns)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"The messages cannot be written as JSON: {error}.", "Use texts, numbers, lists and dicts."
        ) from None
    return turns


def defaults(chosen: Settings = settings) -> tuple[str, str]:
    """Return the model and the server of a request without options; sends nothing."""
    carrier = transport.current()
    if carrier.source:
        return chosen.model or carrier.model or "-m MODEL", carrier.source
    root = server_root(chosen.chosen_base_url or DEFAULT_BASE_URL)
    model = chosen.chosen_model
    if model is None and Endpoint(root).is_together:
        model = LOCAL_MODEL if settings.key_for(root) is None else DEFAULT_MODEL
    if model == LOCAL_MODEL and not _serves_the_embedded_model(Endpoint(root, settings.key_for(root)), ask=False):
        return model, "the embedded engine, on this machine"
    return model or "the server's only one, or -m MODEL", root


def _endpoint_for(
    base_url: str | None, api_key: str | None, timeout: float | None = None, chosen: Settings = settings
) -> Endpoint:
    """Return the server and the key from the arguments, or else from the settings."""
    late = environment.environment.late
    if BASE_URL_VARIABLE in late and not (base_url or chosen.base_url):  # the prompt would go to the wrong server
        raise InputError(late, "Set settings.base_url, or restart the kernel and set the variable before the import.")
    root = server_root(base_url or chosen.chosen_base_url or DEFAULT_BASE_URL)
    withheld = ""
    if api_key is not None:
        key: Key | None = settings.remember(Key(api_key, "the argument api_key"))
    else:
        try:
            key, withheld = settings.key_for(root), settings.other_key(root)
        except InputError as error:  # the environment's is invalid; the embedded engine needs none
            key, withheld = None, str(error)
    return Endpoint(
        root,
        key,
        withheld=withheld,
        connect_timeout=chosen.connect_timeout,
        timeout=_seconds(timeout, chosen.timeout),
        silence_timeout=_seconds(timeout, chosen.silence_timeout),
        max_retries=chosen.max_retries,
    )


def _seconds(timeout: float | None, default: float) -> float:
    if timeout is None:
        return default
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0:
        raise InputError(
            f"timeout must be a number of seconds over 0, not {timeout!r}.", "Leave it out for the default."
        )
    return float(timeout)


def _serves_the_embedded_model(endpoint: Endpoint, *, ask: bool = True) -> bool:
    """Whether it is ``python -m together_nb.local``, on this machine alone; else the session's own engine is used.

    Without `ask`, only what is already known counts.
    """
    if not transport.current().live:
        return not endpoint.is_together
    if not is_loopback(urlsplit(endpoint.root).hostname or ""):
        return False
    listed = known_model_list(endpoint)
    if listed is None and ask:
        with suppress(TogetherError):
            listed = model_list(endpoint)
    return listed is not None and listed.get(LOCAL_MODEL) is not None


def embedded_endpoint(endpoint: Endpoint, tokens_per_second: float | None) -> Endpoint:
    """Return the embedded engine's server, started if needed. It has its own key, and is sent no other."""
    from together_nb.local.server import running_server

    server = running_server()
    server.tokens_per_second = tokens_per_second
    key = Key(server.api_key or "", "the embedded engine")
    return replace(endpoint, root=server.base_url, key=key, withheld="")


def is_embedded(stream: CompletionStream) -> bool:
    """Whether it goes to the embedded engine, whose address is useless to another process."""
    from together_nb.local.server import running_server

    return stream.request.model == LOCAL_MODEL and stream.endpoint.root == running_server().base_url


def _only_model(endpoint: Endpoint) -> str:
    """Return the model of a server that has only one."""
    offered = [row.id for row in model_list(endpoint, retries=endpoint.max_retries).callable()]
    if len(offered) == 1:
        return offered[0]
    some = f" It has {', '.join(offered[:3])}{', …' if len(offered) > 3 else ''}." if offered else ""  # noqa: PLR2004
    raise InputError(
        f"{endpoint.root} needs to be told which model to use.{some}", "Add -m MODEL, or set TOGETHER_MODEL."
    )


def _api(request: CompletionRequest, model: str, endpoint: Endpoint) -> str:
    """Return the dialect: the one the request determines, or else by the model's type in the list."""
    explicit = _explicit_api(request)
    if explicit is not None:
        return explicit
    try:
        row = model_list(endpoint, retries=endpoint.max_retries).get(model)
    except TogetherError as error:
        if isinstance(error, APITimeoutError):
            error.hint = "It was asked for its list of models; `--api chat` does without."
        if isinstance(error, (APIConnectionError, AuthenticationError)):
            raise
        row = None  # without a list, use chat, as most servers do
    return "chat" if row is None else row.api


def _explicit_api(request: CompletionRequest) -> str | None:
    """Return the dialect that the request itself determines, or None."""
    if request.api != AUTO:
        return request.api
    chat = request.system is not None or request.messages is not None or request.schema is not None
    return "chat" if chat else None


def models_for_tab() -> Iterable[Model]:
    """Return the models to offer at Tab; sends a request only to a server that may be asked unprompted.

    Raises
    ------
    TogetherError
        The list could not be fetched.
    """
    endpoint = _endpoint_for(None, None)
    if endpoint.is_together and endpoint.key is None and transport.current().live:
        return ()
    if may_be_asked_unseen(endpoint):
        return model_list(endpoint).models
    return (known_model_list(endpoint) or ModelList()).models


def models(
    text: str = "",
    *,
    base_url: str | None = None,
    api_key: str | None = None,
    fresh: bool = False,
    max_retries: int | None = None,
    chosen: Settings = settings,
) -> list[Model]:
    """Return the models of the server in use.

    Parameters
    ----------
    text : str
        Only those whose id or name contains it, regardless of case.
    base_url : str or None
        A server other than that of the settings, with or without ``/v1``.
    api_key : str or None
        A key other than that of the settings. It is never shown.
    fresh : bool
        Fetch the list again; otherwise it is fetched once a session.
    max_retries : int or None
        How often to retry when it fails; None takes that of the settings.
    chosen : Settings
        The settings in use.

    Returns
    -------
    list of Model
        Models of every type from ``GET /v1/models``, in the server's order; `Model.writes_text` marks those that take
        a prompt. Without a key, the embedded engine's only one.

    Raises
    ------
    InputError
        The base URL or the key is invalid.
    TogetherError
        The list could not be fetched.

    Examples
    --------
    >>> from together_nb import models
    >>> [model.id for model in models()]
    ['local/ngram']
    >>> models("llama")
    []
    """
    api_key = hide(api_key)
    endpoint = _endpoint_for(base_url, api_key, chosen=chosen)
    if endpoint.is_together and endpoint.key is None and transport.current().live:
        endpoint = embedded_endpoint(endpoint, settings.local_tokens_per_second or None)
    needle = text.lower()
    retries = endpoint.max_retries if max_retries is None else max_retries
    rows = model_list(endpoint, fresh=fresh, retries=retries).models
    return [row for row in rows if needle in row.id.lower() or needle in row.display_name.lower()]
