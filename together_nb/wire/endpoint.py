"""A server: how to speak to it, which models it has."""

from __future__ import annotations

import json
import math
import threading
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from together_nb.base.fork import reset_after_fork
from together_nb.base.interrupts import call_interruptibly
from together_nb.config.addresses import (
    TOGETHER_HOSTS,
    is_loopback,
    likely_bases,
    server_of,
    url_of,
    without_userinfo,
)
from together_nb.config.keys import CallKeys, Headers, without_keys
from together_nb.config.settings import CONNECT_TIMEOUT, MAX_RETRIES, SILENCE_TIMEOUT, TIMEOUT, own_servers
from together_nb.errors import (
    APIConnectionError,
    APIResponseError,
    APITimeoutError,
    NotFoundError,
    TogetherError,
)
from together_nb.values.families import (
    FAMILIES,
    UNKNOWN,
    USAGE_FIELD,
    Family,
    Recognition,
    recognise_host,
    recognise_reply,
)
from together_nb.values.model_list import ModelList
from together_nb.wire.exchange import Call
from together_nb.wire.retry import call_with_retries
from together_nb.wire.status_errors import check_status, described, is_elsewhere
from together_nb.wire.transport import Network

if TYPE_CHECKING:
    from collections.abc import Mapping

    from together_nb.config.keys import Key
    from together_nb.wire.exchange import Exchange
    from together_nb.wire.transport import Transport

EMBEDDED = "embedded"
"""Stands for the address of the embedded engine, whose port differs between kernels."""
_LIST_LIMIT = 50_000_000
_CATALOG_TIMEOUT = 15.0  # seconds: unlike an answer, a list needs no thinking
_HELPFUL_TIMEOUT = 5.0  # seconds: for a list without which the answer can be requested too
_LIST = "/v1/models"
_LIST_PLACES = 2  # where a list is looked for, at most: many servers have none


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
    list_attempts
        The servers whose list was requested where it only helps, with retries or not, whatever came: that is done once.
    families
        The families of the servers that were recognised.
    refused
        The fields that servers have refused, among those that a family adds, by server and model; the request for a
        token count by server alone.
    bases
        The base URLs at which servers answered (True) and had their lists of models (False), by server.
    logged_notes
        The notes on a server that have been logged.
    call_keys
        The keys given for single requests.
    """

    transport: Transport = field(default_factory=Network)
    model_lists: dict[tuple[str, str | None], ModelList] = field(default_factory=dict)
    visited: set[str] = field(default_factory=set)
    list_attempts: set[tuple[str, str | None, bool]] = field(default_factory=set)
    families: dict[str, Recognition] = field(default_factory=dict)
    refused: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    bases: dict[tuple[str, bool], str] = field(default_factory=dict)
    logged_notes: set[tuple[str, str]] = field(default_factory=set)
    call_keys: CallKeys = field(default_factory=CallKeys)

    def __post_init__(self) -> None:
        self.forked()
        reset_after_fork(self)

    def forked(self) -> None:
        """Reset in a forked child: a thread that held the lock is gone."""
        self.listing = threading.Lock()  # so that threads that need a list at once request it once

    def refused_by(self, place: str, model: str) -> frozenset[str]:
        """Return the fields that a server has refused for a model."""
        return self.refused.get((place, ""), frozenset()) | self.refused.get((place, model), frozenset())

    def note_refused(self, place: str, model: str, fields: frozenset[str]) -> None:
        """Note fields without which a server accepted a request that it had refused."""
        usage = fields & {USAGE_FIELD}
        for key, some in (((place, ""), usage), ((place, model), fields - usage)):
            if some:
                self.refused[key] = self.refused.get(key, frozenset()) | some


@dataclass(frozen=True)
class Endpoint:
    """A server and how to speak to it.

    Parameters
    ----------
    client
        What carries the requests.
    root
        Base URL, as `server_root` returns it.
    key
        Sent with each request; None sends none.
    withheld
        A sentence about a key or headers for another server, not sent to this one, or "".
    connect_timeout, timeout, silence_timeout
        Seconds: for the connection, for the answer to begin, and of silence in mid-answer.
    max_retries
        Maximum number of retries before the first token.
    embedded
        Whether it is the embedded engine.
    family_name
        Its family as set by the user; None recognises it.
    transport
        What carries its requests; None takes the client's of this moment, so that an answer ends on the transport on
        which it began.
    headers
        Further headers, sent with each request.
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
    family_name: str | None = None
    transport: Transport = None  # type: ignore[assignment]
    headers: Headers = field(default_factory=Headers)

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
    def has_key(self) -> bool:
        """Whether a key is sent with each request, by itself or as a header."""
        return self.key is not None or "authorization" in self.headers

    @property
    def lacks_key(self) -> bool:
        """Whether a request to it would be refused for want of a key."""
        return self.is_together and not self.has_key and self.transport.live

    @property
    def bills(self) -> bool:
        """Whether its answers count, and may cost something."""
        return self.transport.live

    @property
    def recognition(self) -> Recognition:
        """Its family, as far as it is known, and why."""
        if self.embedded:
            return Recognition(FAMILIES["local"], "in this process")
        hosted = recognise_host(urlsplit(self.root).hostname or "")
        if hosted is not None:
            return hosted
        if self.family_name is not None:
            return Recognition(FAMILIES[self.family_name], "as set by server_family")
        return self.client.families.get(self._place, UNKNOWN)

    def family_of(self, model: str) -> Family:
        """Return the family's rules for a model."""
        return self.recognition.family.of_model(model)

    def refused(self, model: str) -> frozenset[str]:
        """Return the fields that it has refused for a model, among those that its family adds."""
        return self.client.refused_by(self._place, model)

    def note_refused(self, model: str, fields: frozenset[str]) -> None:
        """Note fields without which it accepted a request that it had refused."""
        self.client.note_refused(self._place, model, fields)

    def recognise(self, found: Recognition | None) -> None:
        """Keep what a reply told of its family; the last to tell holds, as another server may have taken the port."""
        if found is not None:
            self.client.families[self._place] = found

    def note_answer(self, headers: Mapping[str, str]) -> None:
        """Keep what an answer's headers tell of its family, or forget it where they no longer tell it."""
        found, known = recognise_reply(headers), self.client.families.get(self._place)
        self.recognise(found)
        if found is None and known is not None and known.by_header:  # another server has taken the port
            del self.client.families[self._place]
            self._forget_list()

    def _forget_list(self) -> None:
        self.client.model_lists.pop(self._list_key, None)
        self.client.list_attempts.difference_update({(*self._list_key, retried) for retried in (False, True)})

    @property
    def base(self) -> str:
        """The base URL at which it has answered in this session; "" before that."""
        return self.client.bases.get((self._place, True), "")

    @property
    def _list_base(self) -> str:
        return self.client.bases.get((self._place, False), "")

    @property
    def _likely_bases(self) -> tuple[str, ...]:
        likely = likely_bases(self.root)
        return likely[:1] if self.embedded or not self.transport.live else likely

    def bases(self, path: str) -> tuple[str, ...]:
        """Return the base URLs at which to ask for an answer, one after the other."""
        written, *others = self._likely_bases
        if not path.startswith("/v1/"):
            return (self.base or written,)
        return tuple(dict.fromkeys(filter(None, (self.base, written, self._list_base, *others))))

    @property
    def written_base(self) -> str:
        """The base URL that the user wrote."""
        return self._likely_bases[0]

    def forget_base(self, base: str) -> None:
        """Forget that it answered there."""
        if self.base == base:
            self.client.bases.pop((self._place, True), None)

    def note_base(self, base: str, *, answered: bool = True) -> None:
        """Note the base URL at which there was an answer, or the list of models."""
        if self.client.bases.get((self._place, answered)) == base:
            return
        self.client.bases[self._place, answered] = base
        listed = self.known_models
        if base not in self._likely_bases[:_LIST_PLACES] and listed is not None and not listed.models:
            self._forget_list()  # it was looked for elsewhere

    def serves(self, model: str, *, ask: bool = True) -> bool:
        """Whether it has this model of the embedded engine, as ``python -m together_nb.local`` does.

        Without `ask`, only what is already known counts. A recording has it wherever it was made.
        """
        if not self.transport.live:
            return not self.is_together
        if not self.is_loopback:
            return False
        listed = self.known_models
        with suppress(APIConnectionError):
            listed = self.helpful_models() if ask else listed
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

    def exchange(
        self, method: str, path: str, payload: Any = None, plain_payload: Any = None, *, base: str = ""
    ) -> Exchange:
        """Return a request to this server, not yet sent.

        Parameters
        ----------
        method, path, payload
            As for `Call`.
        plain_payload
            What the user set of the payload.
        base
            The base URL; "" takes the first of `bases`.
        """
        address = url_of(base or self.bases(path)[0], path)
        seconds = self.connect_timeout, self.timeout
        return self.transport.exchange(
            Call(method, self.root, path, payload, self.key, *seconds, plain_payload, address, self.headers)
        )

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

    def helpful_models(self, retries: int = 0) -> ModelList | None:
        """Return its models if they can be had: for an answer that can be requested without them.

        They are requested once, with one short try or with `retries`, and whatever comes is remembered; nothing comes
        if no server is there.

        Raises
        ------
        APIConnectionError
            No other request to this address can succeed either.
        """
        attempt = (*self._list_key, bool(retries))
        if self.known_models is not None or attempt in self.client.list_attempts:
            return self.known_models
        with self.client.listing:
            if self.known_models is None and attempt not in self.client.list_attempts:
                try:
                    fetch = self._fetch if retries else self._fetch_soon
                    call_interruptibly(lambda: call_with_retries(retries, fetch))
                except TogetherError as error:
                    if isinstance(error, APIConnectionError) and error.lasting:
                        raise
                    if isinstance(error, APIConnectionError) and not error.reached:
                        return None
                self.client.list_attempts.add(attempt)
        return self.known_models

    def _fetch_soon(self) -> ModelList:
        return self._fetch(_HELPFUL_TIMEOUT, 2 * _HELPFUL_TIMEOUT)

    def _fetch(self, timeout: float = _CATALOG_TIMEOUT, in_all: float = math.inf) -> ModelList:
        """Fetch the list of models from where it may be, and keep it."""
        missing: dict[str, TogetherError] = {}
        for base in self.bases(_LIST)[:_LIST_PLACES]:
            try:
                return self._fetch_from(base, timeout, in_all)
            except TogetherError as error:
                if not is_elsewhere(error, written=base == self.written_base):
                    raise
                missing[base] = error
        self.client.model_lists[self._list_key] = ModelList()  # a server without a list is not asked again
        raise missing[self.written_base]

    def _fetch_from(self, base: str, timeout: float, in_all: float) -> ModelList:
        connect_timeout = min(self.connect_timeout, timeout)
        impatient = replace(self, timeout=min(self.timeout, timeout), connect_timeout=connect_timeout)
        exchange = impatient.exchange("GET", _LIST, base=base)
        try:
            exchange.open()
            self.note_visit()
            family = recognise_reply(exchange.headers)
            self.recognise(family)  # of a reply that has no list, too
            check_status(exchange, self)
            body = exchange.whole(_LIST_LIMIT, in_all)
        except TogetherError as error:
            self.without_key_in(error)
            if isinstance(error, (APITimeoutError, NotFoundError)):
                error.hint = "It was asked for its list of models."
            raise
        finally:
            exchange.close()
        try:
            found = ModelList.from_json(json.loads(body))
        except (ValueError, RecursionError):
            raise APIResponseError(
                f"{exchange.url} answered with {described(exchange)}, not with a list of models.", "Check the base URL."
            ) from None
        if found.models:
            self.note_base(base, answered=False)
        self.client.model_lists[self._list_key] = found
        self.recognise(family or recognise_reply({}, found.owners))
        return found

    @property
    def _place(self) -> str:
        """The server itself, whatever the account; each recording or replay has servers of its own."""
        return self.transport.name + self.root

    @property
    def _list_key(self) -> tuple[str, str | None]:
        """The cache key of its list of models; each recording or replay has lists of its own."""
        # Each account sees its own models; the key's last letters tell accounts apart well enough.
        account = None if self.key is None else self.key.ending
        return self._place, f"{account} {self.headers.account}" if self.headers else account
