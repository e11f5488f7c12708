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
EMBEDDED = "http://localhost"  # in place of the embedded engine's address, where it is not to be started
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
    """The stream of a request whose model, server and dialect have been chosen; not yet sent.

    Parameters are those of `stream`; `filled` names what was filled in in the prompt, and `chosen`
    are the settings that hold for what is not given. With `offline` nothing is sent and nothing started to choose
    them: the stream is to be looked at, and its `unknown` says what could not be known.
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
    """As `open_stream`, for a request that is made already."""
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
    """A stream that is to be looked at and not read: what only a server knows is left open."""
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
    """What the footer is to say of where the answer comes from."""
    if model == LOCAL_MODEL:
        return " · ".join(filter(None, (LOCAL_NOTE, environment.environment.late)))
    unpriced = settings.budget is not None and price is None and transport.current().live
    return UNPRICED_NOTE if unpriced else ""


_FREE = (0.0, 0.0)
_asked_for_prices: set[tuple[str, str | None]] = set()


def _price(model: str, endpoint: Endpoint) -> tuple[float, float] | None:
    """US dollars per million tokens (in, out), or None where nobody tells.

    The list of models is asked for where there are prices in it or a budget has to be kept; once, since an
    answer does without.
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
    """`request` with its model and dialect chosen, and the server that it goes to.

    Raises
    ------
    MissingKeyError
        Together's service is asked for a model, and there is no key.
    InputError
        The base URL is none, or a server of another kind was given and no model.
    """
    endpoint = _endpoint_for(base_url, api_key, timeout, chosen)
    model = _model(request, endpoint, chosen) or _only_model(endpoint)
    named = base_url and not endpoint.is_together  # with the call itself: then that one is meant
    if model == LOCAL_MODEL and not named and not _serves_the_embedded_model(endpoint):
        endpoint = embedded_endpoint(endpoint, settings.local_tokens_per_second or None)
    _check_key(model, endpoint)
    return replace(request, model=model, api=_api(request, model, endpoint)), endpoint


def _model(request: CompletionRequest, endpoint: Endpoint, chosen: Settings) -> str:
    """The model that is asked for, or the default of Together's service; "" where the server has to be asked."""
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
    if all(type(part) is str for turn in turns for pair in turn.items() for part in pair):  # as mostly
        return turns
    try:
        json.dumps(turns)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"The messages cannot be written as JSON: {error}.", "Use texts, numbers, lists and dicts."
        ) from None
    return turns


def defaults(chosen: Settings = settings) -> tuple[str, str]:
    """The model and the server that a request without options would go to; asks nobody."""
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
    """The server and the key that the arguments or else the settings name."""
    late = environment.environment.late
    if BASE_URL_VARIABLE in late and not (base_url or chosen.base_url):  # the prompt would go where nobody meant it to
        raise InputError(late, "Set settings.base_url, or restart the kernel and set the variable before the import.")
    root = server_root(base_url or chosen.chosen_base_url or DEFAULT_BASE_URL)
    withheld = ""
    if api_key is not None:
        key: Key | None = settings.remember(Key(api_key, "the argument api_key"))
    else:
        try:
            key, withheld = settings.key_for(root), settings.other_key(root)
        except InputError as error:  # what the environment holds is none; the embedded engine does without
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
    """Whether it is ``python -m together_nb.local``, which serves this machine alone; else the session's own engine is.

    Without `ask` it goes by what is known.
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
    """The embedded engine's server, started if need be. It has a key of its own, and is sent no other."""
    from together_nb.local.server import running_server

    server = running_server()
    server.tokens_per_second = tokens_per_second
    key = Key(server.api_key or "", "the embedded engine")
    return replace(endpoint, root=server.base_url, key=key, withheld="")


def is_embedded(stream: CompletionStream) -> bool:
    """Whether it goes to the embedded engine, whose address means nothing to another process."""
    from together_nb.local.server import running_server

    return stream.request.model == LOCAL_MODEL and stream.endpoint.root == running_server().base_url


def _only_model(endpoint: Endpoint) -> str:
    """The model of a server that has one."""
    offered = [row.id for row in model_list(endpoint, retries=endpoint.max_retries).callable()]
    if len(offered) == 1:
        return offered[0]
    some = f" It has {', '.join(offered[:3])}{', …' if len(offered) > 3 else ''}." if offered else ""  # noqa: PLR2004
    raise InputError(
        f"{endpoint.root} needs to be told which model to use.{some}", "Add -m MODEL, or set TOGETHER_MODEL."
    )


def _api(request: CompletionRequest, model: str, endpoint: Endpoint) -> str:
    """The dialect: as asked, or by what the request holds and what type the list says the model is."""
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
        row = None  # a server without a list is asked for a chat, as most are
    return "chat" if row is None else row.api


def _explicit_api(request: CompletionRequest) -> str | None:
    """The dialect that the request itself asks for, or None."""
    if request.api != AUTO:
        return request.api
    chat = request.system is not None or request.messages is not None or request.schema is not None
    return "chat" if chat else None


def models_for_tab() -> Iterable[Model]:
    """The models to offer at Tab, of a server that may be asked though nobody has asked for anything.

    Raises
    ------
    TogetherError
        The list could not be had.
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
    """The models of the server in use.

    Parameters
    ----------
    text : str
        Only those whose id or name contains it, in capitals or not.
    base_url : str or None
        Another server than that of the settings, with ``/v1`` or without.
    api_key : str or None
        Another key than that of the settings. It is shown nowhere.
    fresh : bool
        Fetch the list again; without it, it is fetched once a session.
    max_retries : int or None
        How often to ask again when it fails; None is that of the settings.
    chosen : Settings
        The settings in use.

    Returns
    -------
    list of Model
        Rows of every type, as told by ``GET /v1/models``, in the server's order; `Model.writes_text` tells those that
        a prompt fits. Without a key it is the embedded engine's one.

    Raises
    ------
    InputError
        The base URL or the key is none.
    TogetherError
        The list could not be had.

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
