"""Chooses what a request leaves open: the model, the server, the dialect."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from together_nb.base.suggest import suggestion
from together_nb.config import environment
from together_nb.config.addresses import DEFAULT_BASE_URL, server_root
from together_nb.config.environment import BASE_URL_VARIABLE
from together_nb.config.keys import ARGUMENT, Headers, Key, remember
from together_nb.config.settings import DEFAULT_MODEL
from together_nb.errors import InputError, MissingKeyError
from together_nb.local.models import is_here, local_default, runnable_files, served_models, title
from together_nb.values.families import UNKNOWN, family_differs
from together_nb.values.local_models import NGRAM, SMOLLM
from together_nb.values.model_list import ModelList
from together_nb.values.parameters import AUTO
from together_nb.values.request import CompletionRequest, checked_extra
from together_nb.values.schema import schema_of
from together_nb.wire.endpoint import EMBEDDED, Endpoint
from together_nb.wire.stream import CompletionStream

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from together_nb.config.settings import Settings
    from together_nb.run.ledger import Ledger
    from together_nb.values.completion import Completion
    from together_nb.values.model_list import Model
    from together_nb.wire.endpoint import Client

TOY_NATURE = "toy n-gram model: continues text, cannot answer questions"
UNPRICED_NOTE = "no price is known: the budget does not count it"
_UNSTARTED = "http://localhost"  # stands for the embedded engine's address if it must not be started
_FREE = (0.0, 0.0)


class Context(Protocol):
    """The session that a request belongs to.

    Attributes
    ----------
    settings : Settings
        The defaults, and the keys.
    client : Client
        What carries the requests.
    ledger : Ledger
        What counts the answers.
    """

    settings: Settings
    client: Client
    ledger: Ledger


def open_stream(
    session: Context,
    prompt: str = "",
    *,
    model: str | None = None,
    api: str = AUTO,
    system: str | None = None,
    messages: Iterable[dict[str, Any]] | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
    default_headers: Mapping[str, str] | Headers | None = None,
    timeout: float | None = None,
    schema: Any = None,
    extra_body: Mapping[str, Any] | None = None,
    filled: tuple[str, ...] = (),
    chosen: Settings | None = None,
    offline: bool = False,
    **sampling: Any,
) -> CompletionStream:
    """Return the stream of a request, with model, server and dialect chosen; it is not yet sent.

    Parameters are those of `Session.stream`; `filled` lists the names filled in in the prompt, and `chosen` holds other
    defaults than those of the session. With `offline`, nothing is sent or started to choose them: the stream is only
    for inspection, and its `unknown` lists what is left open.
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
        sampling=(chosen or session.settings).sampling.updated(sampling),
        schema=None if schema is None else schema_of(schema),
        extra_body=None if extra_body is None else checked_extra(extra_body),
    )
    endpoint = endpoint_for(session, base_url, api_key, timeout, chosen, default_headers)
    return open_request(session, request, endpoint, filled=filled, chosen=chosen, offline=offline, named=bool(base_url))


def open_request(
    session: Context,
    request: CompletionRequest,
    endpoint: Endpoint,
    *,
    filled: tuple[str, ...] = (),
    chosen: Settings | None = None,
    offline: bool = False,
    named: bool = False,
) -> CompletionStream:
    """Do as `open_stream` does, for an existing request to a server; `named` if the call itself names it."""
    chosen = chosen or session.settings
    if offline:
        return _unsent(request, endpoint, chosen, filled)
    request, endpoint = resolve(session, request, endpoint, chosen=chosen, named=named)
    price = _price(session, request.model, endpoint)
    account = session.ledger if endpoint.bills else None
    if account is not None:
        account.check(price)
    notes = (_note(session, request.model, price, endpoint), endpoint.transport.note)
    marks = {"price": price, "note": " · ".join(filter(None, notes)), "filled": filled}
    stream = CompletionStream(request, endpoint, marks, account)
    if request.model == NGRAM:
        stream.nature = TOY_NATURE
    elif endpoint.embedded and endpoint.transport.live:
        stream.loading = _loading(request.model)
    return stream


def _unsent(
    request: CompletionRequest, endpoint: Endpoint, chosen: Settings, filled: tuple[str, ...]
) -> CompletionStream:
    """Return a stream for inspection, not for reading: what only a server knows is left open."""
    model = _model(request, endpoint, chosen)
    unknown = [] if model else ["the model (the server's only one)"]
    own_engine = is_here(model) and not endpoint.serves(model, ask=False)
    if own_engine and endpoint.is_loopback and endpoint.known_models is None:
        unknown.append(f"the server ({endpoint.root} where it has {model}, else the embedded engine)")
    elif own_engine:
        endpoint = replace(endpoint, root=_UNSTARTED, key=None, headers=Headers(), embedded=True)
    _check_key(model, endpoint)
    api = _explicit_api(request)
    listed = endpoint.known_models
    if api is None and own_engine:
        api = "completions" if model == NGRAM else "chat"
    elif api is None and listed is not None:
        row = listed.get(model)
        api = "chat" if row is None else row.api
    if api is None:
        api = "chat"
        unknown.append("the API (this is how a chat model is asked)")
    request = replace(request, model=model, api=api)
    if _unrecognised(request, endpoint):
        unknown.append("the family of the server (this is how one like OpenAI's is asked)")
    stream = CompletionStream(request, endpoint, {"filled": filled})
    stream.unknown = tuple(unknown)
    return stream


def _note(session: Context, model: str, price: tuple[float, float] | None, endpoint: Endpoint) -> str:
    """Return the footer's note on where the answer comes from."""
    if is_here(model):
        return " · ".join(filter(None, (_local_note(model), environment.environment.late)))
    unpriced = session.settings.budget is not None and price is None and endpoint.bills
    return UNPRICED_NOTE if unpriced else ""


def _local_note(model: str) -> str:
    if model == NGRAM:
        better = f"-m {SMOLLM}" if local_default() == SMOLLM else "%together get"
        return f"a toy n-gram model · a real one: {better}"
    if model not in runnable_files():  # an error follows
        return ""
    name = f"{title(model)}, a small model" if model == SMOLLM else title(model)
    return f"{name} on this machine · larger ones: %together login"


def _loading(model: str) -> str:
    """Return what to say while a model of the embedded engine is loaded, or ""."""
    from together_nb.local.server import running_server

    file, engine = runnable_files().get(model), running_server().llama
    if file is None or engine.is_loaded(model):
        return ""
    if engine.model_at_work is not None:
        return f"waiting for the answers of {title(engine.model_at_work)}, then loading {title(model)}"
    return f"loading {title(model)}, {'about 1 s' if model == SMOLLM else f'{file.stat().st_size / 1e9:.1f} GB'}"


def _price(session: Context, model: str, endpoint: Endpoint) -> tuple[float, float] | None:
    """Return US dollars per million tokens (in, out), or None if unknown.

    The list of models is requested if it has prices or there is a budget to keep.
    """
    if is_here(model) and endpoint.is_loopback:
        return _FREE
    wanted = endpoint.is_together or session.settings.budget is not None
    listed = endpoint.helpful_models(_list_retries(session, endpoint)) if wanted else endpoint.known_models
    row = None if listed is None else listed.get(model)
    return None if row is None else row.price


def resolve(
    session: Context, request: CompletionRequest, endpoint: Endpoint, *, chosen: Settings, named: bool = False
) -> tuple[CompletionRequest, Endpoint]:
    """Return `request` with its model and dialect chosen, and the server that it goes to.

    Raises
    ------
    MissingKeyError
        The model is one of Together's service, and there is no key.
    InputError
        No model was given, and the server has none or several.
    """
    model = _model(request, endpoint, chosen) or _only_model(endpoint)
    meant = named and not endpoint.is_together  # the call itself names the server: then that is meant
    if is_here(model) and not endpoint.embedded and not meant and not endpoint.serves(model):
        endpoint = embedded_endpoint(endpoint, session.settings.local_tokens_per_second or None)
    _check_key(model, endpoint)
    api = _api(request, model, endpoint, _list_retries(session, endpoint))
    request = replace(request, model=model, api=api)
    if _unrecognised(request, endpoint):
        endpoint.helpful_models()  # its list, or the headers of that reply, may tell
    return request, endpoint


def _list_retries(session: Context, endpoint: Endpoint) -> int:
    """Return how often the list of models is requested again: for a budget the prices are needed, and so is the list."""
    return 0 if session.settings.budget is None else endpoint.max_retries


def _unrecognised(request: CompletionRequest, endpoint: Endpoint) -> bool:
    """Whether the server's family matters to the request, and is not known."""
    return endpoint.recognition is UNKNOWN and family_differs(request.set_names, request.messages, request.api)


def _model(request: CompletionRequest, endpoint: Endpoint, chosen: Settings) -> str:
    """Return the requested model, or the default of Together's service; "" if the server has to be asked."""
    model = request.model or chosen.model or endpoint.transport.model or chosen.chosen_model or ""
    if model or not endpoint.is_together:
        return model
    return DEFAULT_MODEL if endpoint.has_key else local_default()


def _check_key(model: str, endpoint: Endpoint) -> None:
    if endpoint.lacks_key:
        without = suggestion(model, served_models()) or f"Without a key there is -m {local_default()}, on this machine."
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
        json.dumps(turns, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"The messages cannot be written as JSON: {error}.", "Use texts, numbers, lists and dicts."
        ) from None
    return turns


def defaults(session: Context, chosen: Settings | None = None) -> tuple[str, Endpoint]:
    """Return the model of a request without options, "" if the server must be asked, and its server; sends nothing.

    A recording that is played back has a model of its own.
    """
    chosen = chosen or session.settings
    root = server_root(chosen.chosen_base_url or DEFAULT_BASE_URL)
    endpoint = Endpoint(session.client, root, family_name=chosen.server_family)
    endpoint = replace(endpoint, key=chosen.key_for(endpoint.root), headers=chosen.headers_for(endpoint.root))
    model = _model(CompletionRequest(""), endpoint, chosen)
    if is_here(model) and not endpoint.serves(model, ask=False):
        endpoint = replace(endpoint, root=_UNSTARTED, key=None, headers=Headers(), embedded=True)
    return model, endpoint


def described_defaults(session: Context, chosen: Settings | None = None) -> tuple[str, str]:
    """Return the model and the server of a request without options, in words; sends nothing."""
    model, endpoint = defaults(session, chosen)
    server = "the embedded engine, on this machine" if endpoint.embedded else endpoint.base or endpoint.root
    return model or "the server's only one, or -m MODEL", session.client.transport.source or server


def endpoint_for(
    session: Context,
    base_url: str | None = None,
    api_key: str | None = None,
    timeout: float | None = None,
    chosen: Settings | None = None,
    default_headers: Mapping[str, str] | Headers | None = None,
) -> Endpoint:
    """Return the server, the key and the headers from the arguments, or else from the settings.

    Raises
    ------
    InputError
        An argument or a setting is invalid.
    """
    chosen = chosen or session.settings
    late = environment.environment.late
    if BASE_URL_VARIABLE in late and not (base_url or chosen.base_url):  # the prompt would go to the wrong server
        raise InputError(late, "Set settings.base_url, or restart the kernel and set the variable before the import.")
    root = server_root(base_url or chosen.chosen_base_url or DEFAULT_BASE_URL)
    withheld = ""
    headers = Headers(default_headers).over(chosen.headers_for(root), key_given=api_key is not None)
    if api_key is not None:
        key: Key | None = remember(Key(api_key, ARGUMENT))
    else:
        try:
            key, withheld = chosen.key_for(root), chosen.other_key(root)
        except InputError as error:  # the environment's is invalid; the embedded engine needs none
            key, withheld = None, str(error)
    withheld = f"{withheld} {chosen.other_headers(root)}".strip()
    return Endpoint(
        session.client,
        root,
        key,
        withheld=withheld,
        connect_timeout=chosen.connect_timeout,
        timeout=_seconds(timeout, chosen.timeout),
        silence_timeout=_seconds(timeout, chosen.silence_timeout),
        max_retries=chosen.max_retries,
        family_name=chosen.server_family,
        headers=headers,
    )


def endpoint_of(
    session: Context,
    answer: Completion,
    api_key: str | None = None,
    chosen: Settings | None = None,
    default_headers: Mapping[str, str] | Headers | None = None,
) -> Endpoint:
    """Return the server that an answer came from, with the key and the headers that were sent to it or others."""
    if answer.server == EMBEDDED:
        endpoint = endpoint_for(session, _UNSTARTED, chosen=chosen)
        return embedded_endpoint(endpoint, session.settings.local_tokens_per_second or None)
    endpoint = endpoint_for(session, answer.server, api_key, chosen=chosen, default_headers=default_headers)
    key, headers = session.client.call_keys.get(answer)
    if headers is not None:
        headers = Headers(default_headers).over(headers, key_given=api_key is not None)
        endpoint = replace(endpoint, headers=headers)
    return endpoint if api_key is not None or key is None else replace(endpoint, key=key)


def _seconds(timeout: float | None, default: float) -> float:
    if timeout is None:
        return default
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0:
        raise InputError(
            f"timeout must be a number of seconds over 0, not {timeout!r}.", "Leave it out for the default."
        )
    return float(timeout)


def embedded_endpoint(endpoint: Endpoint, tokens_per_second: float | None) -> Endpoint:
    """Return the embedded engine's server, started if needed. It has its own key, and gets no other and no headers."""
    from together_nb.local.server import running_server

    server = running_server()
    server.tokens_per_second = tokens_per_second
    key = Key(server.api_key or "", "the embedded engine")
    return replace(endpoint, root=server.base_url, key=key, headers=Headers(), withheld="", embedded=True)


def _only_model(endpoint: Endpoint) -> str:
    """Return the model of a server that has only one."""
    offered = [row.id for row in endpoint.models(retries=endpoint.max_retries).callable()]
    if len(offered) == 1:
        return offered[0]
    some = f" It has {', '.join(offered[:3])}{', …' if len(offered) > 3 else ''}." if offered else ""  # noqa: PLR2004
    raise InputError(
        f"{endpoint.root} needs to be told which model to use.{some}", "Add -m MODEL, or set TOGETHER_MODEL."
    )


def _api(request: CompletionRequest, model: str, endpoint: Endpoint, retries: int) -> str:
    """Return the dialect: the one the request determines, or else by the model's type in the list."""
    explicit = _explicit_api(request)
    if explicit is not None:
        return explicit
    listed = endpoint.helpful_models(retries)
    row = None if listed is None else listed.get(model)
    return "chat" if row is None else row.api  # without a list, use chat, as most servers do


def _explicit_api(request: CompletionRequest) -> str | None:
    """Return the dialect that the request itself determines, or None."""
    if request.api != AUTO:
        return request.api
    chat = request.system is not None or request.messages is not None or request.schema is not None
    return "chat" if chat else None


def models_for_tab(session: Context) -> Iterable[Model]:
    """Return the models to offer at Tab; sends a request only to a server that may be asked unprompted.

    Raises
    ------
    TogetherError
        The list could not be fetched.
    """
    endpoint = endpoint_for(session)
    if endpoint.lacks_key:
        return ()
    if endpoint.may_be_asked_unseen:
        return endpoint.models().models
    return (endpoint.known_models or ModelList()).models


def models(
    session: Context,
    text: str = "",
    *,
    base_url: str | None = None,
    api_key: str | None = None,
    default_headers: Mapping[str, str] | None = None,
    fresh: bool = False,
    max_retries: int | None = None,
    chosen: Settings | None = None,
) -> list[Model]:
    """Return the models of a server; as `Session.models`, with other defaults if `chosen` is given."""
    endpoint = endpoint_for(session, base_url, api_key, chosen=chosen, default_headers=default_headers)
    if endpoint.lacks_key:
        endpoint = embedded_endpoint(endpoint, session.settings.local_tokens_per_second or None)
    needle = text.lower()
    retries = endpoint.max_retries if max_retries is None else max_retries
    rows = endpoint.models(fresh=fresh, retries=retries).models
    return [row for row in rows if needle in row.id.lower() or needle in row.display_name.lower()]
