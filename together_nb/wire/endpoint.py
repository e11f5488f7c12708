"""A server: how to speak to it, which models it has."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from together_nb.base.interrupts import call_interruptibly
from together_nb.config.addresses import TOGETHER_HOSTS, is_loopback, server_of, without_userinfo
from together_nb.config.keys import CallKeys, without_keys
from together_nb.config.settings import CONNECT_TIMEOUT, MAX_RETRIES, SILENCE_TIMEOUT, TIMEOUT, own_servers
from together_nb.errors import APIResponseError, APITimeoutError, NotFoundError, TogetherError
from together_nb.values.model_list import ModelList
from together_nb.wire.exchange import Call
from together_nb.wire.retry import call_with_retries
from together_nb.wire.status_errors import check_status, described
from together_nb.wire.transport import Network

if TYPE_CHECKING:
    from together_nb.config.keys import Key
    from together_nb.wire.exchange import Exchange
    from together_nb.wire.transport import Transport

EMBEDDED = "embedded"
"""Stands for the address of the embedded engine, whose port differs between kernels."""
_LIST_LIMIT = 50_000_000
_CATALOG_TIMEOUT = 15.0  # seconds: unlike an answer, a list needs no thinking


@dataclass(eq=False)
class Client:
    """What carries the requests of a session, and what it knows of its servers.

    Parameters
    ----------
    transport
        What carries requests from now on.
    model_lists
        The lists of models, by server and account.
    visited
        The servers contacted.
    unpriced
        The servers whose list was requested for its prices; an answer does not need it, so that is done once.
    call_keys
        The keys given for single requests.
    """

    transport: Transport = field(default_factory=Network)
    model_lists: dict[tuple[str, str | None], ModelList] = field(default_factory=dict)
    visited: set[str] = field(default_factory=set)
    unpriced: set[tuple[str, str | None]] = field(default_factory=set)
    call_keys: CallKeys = field(default_factory=CallKeys)


@dataclass(frozen=True)
class Endpoint:
    """A server and how to speak to it.

    Parameters
    ----------
    client
        What carries the requests.
    root
        Base URL without ``/v1`` or a trailing slash.
    key
        Sent with each request; None sends none.
    withheld
        A sentence about a key for another server, not sent to this one, or "".
    connect_timeout, timeout, silence_timeout
        Seconds: for the connection, for the answer to begin, and of silence in mid-answer.
    max_retries
        Maximum number of retries before the first token.
    embedded
        Whether it is the embedded engine.
    transport
        What carries its requests; None takes the client's of this moment, so that an answer ends on the transport on
        which it began.
    """

    client: Client
    root: str
    key: Key | None = None
    connect_timeout: float = CONNECT_TIMEOUT
    timeout: float = TIMEOUT
    silence_timeout: float = SILENCE_TIMEOUT
    max_retries: int = MAX_RETRIES
    withheld: str = ""
    embedded: bool = False
    transport: Transport = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.transport is None:
            object.__setattr__(self, "transport", self.client.transport)

    @property
    def server(self) -> str:
        """The server, as an answer remembers it: its address, or `EMBEDDED`."""
        return EMBEDDED if self.embedded else self.root

    @property
    def is_together(self) -> bool:
        """Whether it is Together's own service."""
        return urlsplit(self.root).hostname in TOGETHER_HOSTS

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this machine."""
        return is_loopback(urlsplit(self.root).hostname or "")

    @property
    def lacks_key(self) -> bool:
        """Whether a request to it would be refused for want of a key."""
        return self.is_together and self.key is None and self.transport.live

    @property
    def bills(self) -> bool:
        """Whether its answers count, and may cost something."""
        return self.transport.live

    def serves(self, model: str, *, ask: bool = True) -> bool:
        """Whether it has this model of the embedded engine, as ``python -m together_nb.local`` does.

        Without `ask`, only what is already known counts. A recording has it wherever it was made.
        """
        if not self.transport.live:
            return not self.is_together
        if not self.is_loopback:
            return False
        listed = self.known_models
        if listed is None and ask:
            try:
                listed = self.models()
            except TogetherError:
                return False
        return listed is not None and listed.get(model) is not None

    def without_key(self, text: str) -> str:
        """Remove keys, and user names and passwords in URLs: some servers repeat what they refuse."""
        text = without_keys(text)
        return without_userinfo(text if self.key is None else self.key.blanked(text))

    def without_key_in(self, error: TogetherError) -> None:
        """Remove the key from all texts of `error`."""
        error.reword(self.without_key(error.message))
        error.hint = self.without_key(error.hint)
        error.passing = self.without_key(error.passing)

    def exchange(self, method: str, path: str, payload: Any = None) -> Exchange:
        """Return a request to this server, not yet sent."""
        call = Call(method, self.root, path, payload, self.key, self.connect_timeout, self.timeout)
        return self.transport.exchange(call)

    def note_visit(self) -> None:
        """Note that the server has been contacted."""
        if self.transport.live:
            self.client.visited.add(server_of(self.root))

    @property
    def may_be_asked_unseen(self) -> bool:
        """Whether it may be sent requests that the user did not make, such as listing models on Tab."""
        return server_of(self.root) in self.client.visited | own_servers()

    @property
    def known_models(self) -> ModelList | None:
        """The cached list of models, or None."""
        return self.client.model_lists.get(self._list_key)

    def models(self, *, fresh: bool = False, retries: int = 0) -> ModelList:
        """Return its models, fetched once and cached.

        Parameters
        ----------
        fresh
            Fetch even if cached.
        retries
            Maximum number of retries.

        Raises
        ------
        TogetherError
            The list could not be fetched.
        """
        kept = self.known_models
        if kept is not None and not fresh:
            return kept
        return call_interruptibly(lambda: call_with_retries(retries, self._fetch))

    def models_for_prices(self) -> ModelList | None:
        """Return its models if they can be had; they are requested once only, since an answer does not need them."""
        if self.known_models is None and self._list_key not in self.client.unpriced:
            self.client.unpriced.add(self._list_key)
            try:
                return self.models()
            except TogetherError:
                return None
        return self.known_models

    def _fetch(self) -> ModelList:
        impatient = replace(self, timeout=min(self.timeout, _CATALOG_TIMEOUT))
        exchange = impatient.exchange("GET", "/v1/models")
        lists = self.client.model_lists
        try:
            exchange.open()
            self.note_visit()
            check_status(exchange, self)
            body = exchange.whole(_LIST_LIMIT)
        except TogetherError as error:
            self.without_key_in(error)
            if isinstance(error, (APITimeoutError, NotFoundError)):
                error.hint = "It was asked for its list of models."
            if isinstance(error, NotFoundError):
                lists[self._list_key] = ModelList()  # a server without a list is not asked again
            raise
        finally:
            exchange.close()
        try:
            found = ModelList.from_json(json.loads(body))
        except (ValueError, RecursionError):
            raise APIResponseError(
                f"{exchange.url} answered with {described(exchange)}, not with a list of models.", "Check the base URL."
            ) from None
        lists[self._list_key] = found
        return found

    @property
    def _list_key(self) -> tuple[str, str | None]:
        """The cache key of its list of models; each recording or replay has lists of its own."""
        # Each account sees its own models; the key's last letters tell accounts apart well enough.
        return self.transport.name + self.root, None if self.key is None else self.key.ending
