"""Key, base URL, model, time-outs and defaults: one object, `settings`, for all interfaces.

Weakest first: built-in defaults, the environment (``TOGETHER_API_KEY``, ``TOGETHER_BASE_URL``,
``TOGETHER_MODEL``), this object (``%config TogetherMagics.…`` sets the same values), the option
on the cell. A key goes only to the server it was given for.
"""

from __future__ import annotations

import os
from contextlib import suppress
from copy import copy
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

from traitlets import Bunch, Float, HasTraits, Int, TraitType, Unicode, link, validate

from together_nb.config import environment as _environment
from together_nb.config.addresses import DEFAULT_BASE_URL, TOGETHER_HOSTS, host_of, server_of, server_root
from together_nb.config.environment import BASE_URL_VARIABLE, KEY_VARIABLE
from together_nb.config.keys import Headers, Key, environment_key, hide, known_keys, remember
from together_nb.errors import InputError
from together_nb.values.local_models import NGRAM, SMOLLM
from together_nb.values.parameters import PARAMETERS, Parameter, SamplingParams

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from traitlets.config import Configurable


# Priced in the list, streams no reasoning (read in `GET /v1/models`, 2026-08).
DEFAULT_MODEL = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
CONNECT_TIMEOUT = 10.0  # seconds
TIMEOUT = 300.0  # seconds: some models think long before their first token
SILENCE_TIMEOUT = 120.0  # seconds
MAX_RETRIES = 4
MODEL_VARIABLE = "TOGETHER_MODEL"
_BEYOND = 10**12


class _ParameterTrait(TraitType[Any, Any]):
    """A sampling parameter's value or None, checked by its declaration."""

    def __init__(self, parameter: Parameter) -> None:
        super().__init__(default_value=None, allow_none=True, help=f"{parameter.help} ({parameter.expected})")
        self._parameter = parameter

    def validate(self, _: Any, value: Any) -> Any:
        return self._parameter.validate(value)


class _NumberTrait(Float):  # type: ignore[type-arg]
    """A number from user input; NaN and numbers from `_BEYOND` on get a short error."""

    def validate(self, obj: Any, value: Any) -> Any:
        return super().validate(obj, value) if _is_measured(value) else _beyond(self.name)


class _WholeTrait(Int):  # type: ignore[type-arg]
    """The same for whole numbers."""

    def validate(self, obj: Any, value: Any) -> Any:
        return super().validate(obj, value) if _is_measured(value) else _beyond(self.name)


def _is_measured(value: Any) -> bool:
    try:
        return not isinstance(value, (int, float, Decimal)) or -_BEYOND < value < _BEYOND
    except ArithmeticError:  # a Decimal that is NaN
        return False


def _beyond(name: str | None) -> NoReturn:
    raise InputError(f"{name} is not a number that can be used.", f"Give one below {_BEYOND:,}.")


class Settings(HasTraits):
    """Defaults for every request: ``settings.temperature = 0.7``.

    ``%config TogetherMagics.temperature = 0.7`` sets the same, and so do the panel's controls. A cell's options and
    keywords come first. None is unset, and an unset sampling parameter is not sent.

    Attributes
    ----------
    base_url : str or None
        Server; unset: TOGETHER_BASE_URL, else https://api.together.xyz/v1. At first unset.
    model : str or None
        Model; unset: TOGETHER_MODEL, else meta-llama/Llama-3.3-70B-Instruct-Turbo, and without a key local/smollm2-135m where it is installed, else local/ngram. At first unset.
    connect_timeout : float
        Seconds to wait for a connection. At first 10.0.
    timeout : float
        Seconds of silence to wait for an answer to begin; three times that while the server sends signs of life. At first 300.0.
    silence_timeout : float
        Seconds of silence to wait in the middle of an answer; `timeout` while the server sends signs of life. At first 120.0.
    max_retries : int
        How often a failed request is sent again, before its first token, 10 at most. At first 4.
    budget : float or None
        US dollars that the session may spend before requests are refused. At first unset.
    fill_limit : int
        The most characters that variables may add to a prompt. At first 100000.
    server_family : str or None
        Family of the server, such as vllm or llama.cpp; unset: recognised by its replies. At first unset.
    local_tokens_per_second : float
        Tokens a second that local/ngram writes; 0 is as fast as possible. At first 40.0.
    max_tokens : int or None
        The most tokens to generate. A whole number of at least 1.
    temperature : float or None
        How freely to choose: 0 always takes the likeliest token, 1 follows the model's odds, more is
        wilder. A number of at least 0.
    top_p : float or None
        Choose among the likeliest tokens that together have this probability. A number from 0 to 1.
    top_k : int or None
        Choose among this many likeliest tokens. A whole number.
    min_p : float or None
        Drop tokens less likely than this share of the likeliest one's probability. A number from 0 to 1.
    repetition_penalty : float or None
        Over 1 makes tokens that already occurred less likely. A number over 0.
    presence_penalty : float or None
        Over 0 makes tokens that the answer already used less likely, however often. A number.
    frequency_penalty : float or None
        Over 0 makes tokens less likely the more often the answer used them. A number.
    stop : list of str or None
        End the answer before this text; may be given several times. A text or a list of texts.
    seed : int or None
        The same seed and request give the same answer, as far as the server can. A whole number.
    logprobs : int or None
        Return each token's log-probability and this many alternatives. A whole number from 0 to 20.
    n : int or None
        How many answers to generate. A whole number from 1 to 128.
    echo : bool or None
        Return the prompt too, in front of the answer. True or False.
    logit_bias : dict of str to float or None
        Add to the logit of single tokens: a JSON object of token id to bias. A JSON object.
    reasoning_effort : str or None
        How long a reasoning model may think. One of low, medium, high. For the chat API alone.
    api_key : Key or None
        The key for the server in use, hidden: the one set here, or else that of ``TOGETHER_API_KEY``. Assign a str to
        set it, None to forget every key that was set; ``%together login`` prompts for it. It is kept only in memory, never
        shown, and sent to no other server.
    default_headers : Headers or None
        Further HTTP headers for the server in use, such as ``{"api-key": "…"}``, hidden. Assign a dict of names and
        values to set them, None to forget all that were set. They are sent with each request to this server and to no
        other, and their values are as secret as the key. ``Authorization`` replaces the key.
    keys : tuple of Key
        Every key that is or was in use, for any server; all are removed from what is drawn or written.
    sampling : SamplingParams
        The sampling parameters that are set here.
    chosen_base_url : str or None
        The base URL set here or else in ``TOGETHER_BASE_URL``.
    chosen_model : str or None
        The model set here or else in ``TOGETHER_MODEL``.

    Raises
    ------
    InputError
        The value assigned to a sampling parameter, to `base_url`, to `api_key` or to `default_headers` is invalid.
    TraitError
        The value assigned to another attribute is of the wrong type or out of bounds.

    Examples
    --------
    >>> from together_nb import complete, settings
    >>> settings.max_tokens = 5
    >>> complete("Alan Turing was").usage.completion_tokens
    5
    >>> complete("Alan Turing was", max_tokens=7).usage.completion_tokens
    7
    >>> settings.max_tokens = None
    """

    base_url = Unicode(None, allow_none=True, help=f"Server; unset: {BASE_URL_VARIABLE}, else {DEFAULT_BASE_URL}")
    model = Unicode(
        None,
        allow_none=True,
        help=f"Model; unset: {MODEL_VARIABLE}, else {DEFAULT_MODEL}, and without a key {SMOLLM} where it is installed, else {NGRAM}",
    )
    connect_timeout = _NumberTrait(CONNECT_TIMEOUT, min=0.001, help="Seconds to wait for a connection")
    timeout = _NumberTrait(
        TIMEOUT,
        min=0.001,
        help="Seconds of silence to wait for an answer to begin; three times that while the server sends signs of life",
    )
    silence_timeout = _NumberTrait(
        SILENCE_TIMEOUT,
        min=0.001,
        help="Seconds of silence to wait in the middle of an answer; `timeout` while the server sends signs of life",
    )
    max_retries = _WholeTrait(
        MAX_RETRIES, min=0, max=10, help="How often a failed request is sent again, before its first token"
    )
    budget = _NumberTrait(
        None, allow_none=True, min=0, help="US dollars that the session may spend before requests are refused"
    )
    fill_limit = _WholeTrait(100_000, min=1, help="The most characters that variables may add to a prompt")
    server_family = Unicode(
        None, allow_none=True, help="Family of the server, such as vllm or llama.cpp; unset: recognised by its replies"
    )
    local_tokens_per_second = _NumberTrait(
        40.0, min=0, help=f"Tokens a second that {NGRAM} writes; 0 is as fast as possible"
    )

    if TYPE_CHECKING:  # written by `python -m tests.generate`: each is a trait of its own
        max_tokens: int | None
        temperature: float | None
        top_p: float | None
        top_k: int | None
        min_p: float | None
        repetition_penalty: float | None
        presence_penalty: float | None
        frequency_penalty: float | None
        stop: str | Sequence[str] | None
        seed: int | None
        logprobs: int | None
        n: int | None
        echo: bool | None
        logit_bias: Mapping[str, float] | None
        reasoning_effort: str | None

    def __init__(self) -> None:
        super().__init__()
        self.add_traits(**{name: _ParameterTrait(parameter) for name, parameter in PARAMETERS.items()})
        type(self).__doc__ = Settings.__doc__  # `add_traits` makes a new class, which has none
        self._keys: dict[str, Key] = {}  # by server
        self._headers: dict[str, Headers] = {}  # by server

    @validate("base_url")
    def _a_url(self, proposal: dict[str, Any]) -> str | None:
        value: str | None = proposal["value"]
        if value:
            server_root(value)
        return value or None

    @validate("server_family")
    def _a_family(self, proposal: dict[str, Any]) -> str | None:
        from together_nb.values.families import family_name  # loading the extension need not wait for it

        return family_name(proposal["value"])

    @property
    def api_key(self) -> Key | None:
        """The key for the server in use, hidden: set here, or else from ``TOGETHER_API_KEY``.

        Assign a str to set it, None to forget every key that was set. A key is for the server in use when it is set, and goes to
        no other; the environment's key is for Together and ``TOGETHER_BASE_URL``.

        Raises
        ------
        InputError
            It cannot be a key: not a str, empty, or with characters that no HTTP header can hold.
        """
        return self.key_for(server_root(self.chosen_base_url or DEFAULT_BASE_URL))

    @api_key.setter
    def api_key(self, value: str | Key | None) -> None:
        if value is None:
            self._keys.clear()
            self._tell_of_keys()
        else:
            key = value if isinstance(value, Key) else Key(value, "settings.api_key")
            self.set_key(key, server_root(self.chosen_base_url or DEFAULT_BASE_URL))

    @property
    def default_headers(self) -> Headers | None:
        """Further HTTP headers for the server in use, hidden; None if there are none.

        Assign a dict of names and values to set them, None to forget all that were set. They are for the server in use
        when they are set, and go to no other. Names are in any case; ``Authorization`` replaces the key.

        Raises
        ------
        InputError
            They cannot be sent: no dict of str to str, or a name or a value that no request can hold.
        """
        return self.headers_for(server_root(self.chosen_base_url or DEFAULT_BASE_URL)) or None

    @default_headers.setter
    def default_headers(self, value: Mapping[str, str] | Headers | None) -> None:
        value = hide(value)
        if value is None:
            self._headers.clear()
        else:
            server, headers = server_of(server_root(self.chosen_base_url or DEFAULT_BASE_URL)), Headers(value)
            self._headers.pop(server, None)
            if headers:
                self._headers[server] = headers
        self._tell_of_keys()

    def headers_for(self, root: str) -> Headers:
        """Return the headers that may be sent to a server.

        Parameters
        ----------
        root : str
            The server's base URL.

        Returns
        -------
        Headers
            Those set for this scheme, host and port.
        """
        return self._headers.get(server_of(root), Headers())

    def set_key(self, key: Key | None, root: str) -> None:
        """Set or remove a server's key.

        Parameters
        ----------
        key : Key or None
            The key; None forgets the one set for this server.
        root : str
            The server's base URL.
        """
        if key is None:
            self._keys.pop(server_of(root), None)
        else:
            self._keys[server_of(root)] = remember(key)
        self._tell_of_keys()

    def _tell_of_keys(self) -> None:
        # Observers learn that a key changed, as with a trait, but not the key itself.
        self.notify_change(Bunch(name="api_key", type="change", owner=self, old=None, new=None))

    def key_for(self, root: str) -> Key | None:
        """Return the key that may be sent to a server.

        Parameters
        ----------
        root : str
            The server's base URL.

        Returns
        -------
        Key or None
            The one set for this scheme, host and port, or else the environment's if it is for them.

        Raises
        ------
        InputError
            The environment's value cannot be a key.
        """
        server = server_of(root)
        if server in self._keys or server not in own_servers():
            return self._keys.get(server)
        return _environment_key()

    @property
    def keys(self) -> tuple[Key, ...]:
        """Every key that is or was in use, for any server; all are removed from what is drawn or written."""
        return known_keys()

    def other_key(self, root: str) -> str:
        """Return a sentence on a known key that is for another server; "" if there is none.

        Parameters
        ----------
        root : str
            The server's base URL.

        Returns
        -------
        str
            The sentence, or "".

        Raises
        ------
        InputError
            The environment's value cannot be a key.
        """
        if self.key_for(root) is not None:
            return ""
        servers = {key.source: host_of(server) for server, key in self._keys.items()}
        if _environment.environment.key:
            servers.setdefault(KEY_VARIABLE, "Together")
        for source, server in servers.items():
            return f"The key from {source} is for {server} and is not sent to {host_of(root)}."
        return ""

    def other_headers(self, root: str) -> str:
        """Return a sentence on headers that are for another server; "" if this one has some, or none has.

        Parameters
        ----------
        root : str
            The server's base URL.

        Returns
        -------
        str
            The sentence, or "".
        """
        if not self._headers or self.headers_for(root):
            return ""
        return f"default_headers are for {host_of(next(iter(self._headers)))} and are not sent to {host_of(root)}."

    @property
    def sampling(self) -> SamplingParams:
        """The sampling parameters that are set here."""
        return SamplingParams(**{name: getattr(self, name) for name in PARAMETERS})

    @property
    def chosen_base_url(self) -> str | None:
        """The base URL set here or in the environment, or None."""
        return self.base_url or _environment.environment.base_url or None

    @property
    def chosen_model(self) -> str | None:
        """The model set here or in the environment, or None."""
        return self.model or os.environ.get(MODEL_VARIABLE, "").strip() or None

    def copy(self) -> Settings:
        """Return independent settings with the same values, and with the same keys and headers.

        Returns
        -------
        Settings
            A copy; changing one does not change the other, except for the keys and headers, which they share.
        """
        twin = Settings()
        twin._keys, twin._headers = self._keys, self._headers
        for name in self.trait_names():
            setattr(twin, name, getattr(self, name))
        return twin

    def __repr__(self) -> str:
        values = {name: getattr(self, name) for name in sorted(self.trait_names()) if getattr(self, name) is not None}
        return f"<Settings {', '.join(f'{name}={value!r}' for name, value in values.items())}>"


def own_servers() -> frozenset[str]:
    """Return the servers that no cell has named: Together's, and that of ``TOGETHER_BASE_URL``."""
    return _own_servers(_environment.environment.base_url)


@lru_cache(4)  # called for each request
def _own_servers(base_url: str) -> frozenset[str]:
    servers = {server_of(f"https://{host}") for host in TOGETHER_HOSTS}
    if base_url:
        with suppress(InputError):  # an invalid URL is no server
            servers.add(server_of(server_root(base_url)))
    return frozenset(servers)


def _environment_key() -> Key | None:
    value = _environment.environment.key
    return environment_key(value) if value else None


def configurable_traits(source: HasTraits) -> dict[str, TraitType[Any, Any]]:
    """Return a twin of each trait of `source` that ``%config`` can set."""
    twins = {name: copy(trait) for name, trait in source.traits().items()}
    for twin in twins.values():
        twin.metadata = {**twin.metadata, "config": True}
    return twins


def mirror(source: HasTraits, target: Configurable) -> None:
    """Keep the traits of `source` and their twins in `target` in sync, both ways.

    Values of `target` from IPython's configuration files are taken over first.
    """
    configured = target.config.get(type(target).__name__, {})
    for name in source.traits():
        if name in configured:
            setattr(source, name, configured[name])
        link((source, name), (target, name))


settings = Settings()
"""The settings of this process."""
