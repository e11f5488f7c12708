"""A server: how to speak to it, which models it has."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from together_nb.base.interrupts import call_interruptibly
from together_nb.config.addresses import TOGETHER_HOSTS, server_of, without_userinfo
from together_nb.config.settings import CONNECT_TIMEOUT, MAX_RETRIES, SILENCE_TIMEOUT, TIMEOUT, own_servers, settings
from together_nb.errors import APIResponseError, APITimeoutError, NotFoundError, TogetherError
from together_nb.values.model_list import ModelList
from together_nb.wire import transport
from together_nb.wire.retry import call_with_retries
from together_nb.wire.status_errors import check_status, described

if TYPE_CHECKING:
    from together_nb.config.keys import Key
    from together_nb.wire.exchange import Exchange

_LIST_LIMIT = 50_000_000
_CATALOG_TIMEOUT = 15.0  # seconds: unlike an answer, a list needs no thinking


@dataclass(frozen=True)
class Endpoint:
    """A server and how to speak to it.

    Parameters
    ----------
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
    """

    root: str
    key: Key | None = None
    connect_timeout: float = CONNECT_TIMEOUT
    timeout: float = TIMEOUT
    silence_timeout: float = SILENCE_TIMEOUT
    max_retries: int = MAX_RETRIES
    withheld: str = ""

    @property
    def is_together(self) -> bool:
        """Whether it is Together's own service."""
        return urlsplit(self.root).hostname in TOGETHER_HOSTS

    def without_key(self, text: str) -> str:
        """Remove keys, and user names and passwords in URLs: some servers repeat what they refuse."""
        text = settings.without_keys(text)
        return without_userinfo(text if self.key is None else self.key.blanked(text))

    def without_key_in(self, error: TogetherError) -> None:
        """Remove the key from all texts of `error`."""
        error.reword(self.without_key(error.message))
        error.hint = self.without_key(error.hint)
        error.passing = self.without_key(error.passing)

    def exchange(self, method: str, path: str, payload: Any = None) -> Exchange:
        """A request to this server, or to the recording being replayed; not yet sent."""
        return transport.current().exchange(
            method,
            self.root,
            path,
            payload,
            key=self.key,
            connect_timeout=self.connect_timeout,
            timeout=self.timeout,
        )


_visited: set[str] = set()
"""The servers contacted in this session."""


def note_visit(endpoint: Endpoint) -> None:
    """Note that a server has been contacted."""
    if transport.current().live:
        _visited.add(server_of(endpoint.root))


def may_be_asked_unseen(endpoint: Endpoint) -> bool:
    """Whether a server may be sent requests the user did not make, such as listing models on Tab."""
    return server_of(endpoint.root) in _visited | own_servers()


_model_lists: dict[tuple[str, str | None], ModelList] = {}


def model_list(endpoint: Endpoint, *, fresh: bool = False, retries: int = 0) -> ModelList:
    """The models of `endpoint`, fetched once and cached.

    Parameters
    ----------
    endpoint
        The server.
    fresh
        Fetch even if cached.
    retries
        Maximum number of retries.

    Raises
    ------
    TogetherError
        The list could not be fetched.
    """
    kept = known_model_list(endpoint)
    if kept is not None and not fresh:
        return kept
    return call_interruptibly(lambda: call_with_retries(retries, lambda: _fetch(endpoint)))


def _fetch(endpoint: Endpoint) -> ModelList:
    impatient = replace(endpoint, timeout=min(endpoint.timeout, _CATALOG_TIMEOUT))
    exchange = impatient.exchange("GET", "/v1/models")
    try:
        exchange.open()
        note_visit(endpoint)
        check_status(exchange, endpoint)
        body = exchange.whole(_LIST_LIMIT)
    except TogetherError as error:
        endpoint.without_key_in(error)
        if isinstance(error, (APITimeoutError, NotFoundError)):
            error.hint = "It was asked for its list of models."
        if isinstance(error, NotFoundError):
            _model_lists[list_key(endpoint)] = ModelList()  # a server without a list is not asked again
        raise
    finally:
        exchange.close()
    try:
        found = ModelList.from_json(json.loads(body))
    except (ValueError, RecursionError):
        raise APIResponseError(
            f"{exchange.url} answered with {described(exchange)}, not with a list of models.", "Check the base URL."
        ) from None
    _model_lists[list_key(endpoint)] = found
    return found


def known_model_list(endpoint: Endpoint) -> ModelList | None:
    """The cached list of models, or None."""
    return _model_lists.get(list_key(endpoint))


def list_key(endpoint: Endpoint) -> tuple[str, str | None]:
    """Return the cache key of its list of models; each recording or replay has lists of its own."""
    # Each account sees its own models; the key's last letters tell accounts apart well enough.
    return transport.current().name + endpoint.root, None if endpoint.key is None else endpoint.key.ending
