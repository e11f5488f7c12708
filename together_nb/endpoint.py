"""A server: how to speak to it, what its error replies mean, which models it has."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from together_nb.catalog import Catalog
from together_nb.config import TOGETHER_HOSTS
from together_nb.dialects import error_message
from together_nb.errors import (
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    NotFoundError,
    RateLimitError,
    TogetherError,
)
from together_nb.transport import Exchange

if TYPE_CHECKING:
    from together_nb.config import Key

OK = 200
_ERROR_BODY_LIMIT = 65536
_LIST_LIMIT = 50_000_000
_CATALOG_TIMEOUT = 15.0  # seconds: a list is not thought about, unlike an answer


@dataclass(frozen=True)
class Endpoint:
    """A server and how to speak to it.

    Parameters
    ----------
    root
        Base URL without ``/v1`` and without a last slash.
    key
        Sent with each request; None sends none.
    connect_timeout, timeout
        Seconds: for the connection, and of silence after it.
    """

    root: str
    key: Key | None = None
    connect_timeout: float = 10.0
    timeout: float = 300.0

    @property
    def is_together(self) -> bool:
        """Whether it is Together's own service."""
        return urlsplit(self.root).hostname in TOGETHER_HOSTS

    def without_key(self, text: str) -> str:
        """`text` without the key and without long pieces of it: some servers repeat what they refuse."""
        return text if self.key is None else self.key.blanked(text)

    def exchange(self, method: str, path: str, payload: Any = None) -> Exchange:
        """A request to this server, not yet sent."""
        body = None if payload is None else json.dumps(payload).encode()
        return Exchange(
            method,
            self.root + path,
            key=self.key,
            body=body,
            connect_timeout=self.connect_timeout,
            timeout=self.timeout,
        )


def described(exchange: Exchange) -> str:
    """The type of a reply, for a message."""
    kind = exchange.headers.get("Content-Type", "").split(";")[0].strip()
    return kind or "a reply of no stated type"


def check_status(exchange: Exchange, endpoint: Endpoint, model: str = "") -> None:
    """Raise the error that fits the reply's status, if it is one.

    Raises
    ------
    APIStatusError
        The status is not 200.
    """
    if exchange.status == OK or exchange.cancelled:
        return
    status = exchange.status
    words = endpoint.without_key(_server_words(exchange.read(_ERROR_BODY_LIMIT)))
    exchange.close()
    said = f" {words}" if words else ""
    if 300 <= status < 400:  # noqa: PLR2004  (the range of redirects)
        raise APIStatusError(
            f"{exchange.url} sends on to {exchange.headers.get('Location', 'another address')}, "
            "and a key is not carried there.",
            "Set the base URL to the final address.",
            status=status,
        )
    kind = {401: AuthenticationError, 404: NotFoundError, 429: RateLimitError}.get(status, APIStatusError)
    title, hint = _STATUS.get(status, _STATUS_CLASS.get(status // 100, ("An unexpected answer.", "")))
    if status == 401:  # noqa: PLR2004  (as in the table)
        hint = _key_hint(endpoint)
    if status == 404 and model:  # noqa: PLR2004
        hint = _nearest(endpoint, model) or hint
    raise kind(f"{title} (HTTP {status}).{said}", hint, status=status)


# Status → what it means here and what to do. 403 is about length, as measured; not permission.
_STATUS: dict[int, tuple[str, str]] = {
    400: ("The server did not accept the request", "Look at what was sent with --dry-run."),
    401: ("The server did not accept the key", ""),
    402: ("The account's spending limit is reached", "Raise it in the account's billing settings."),
    403: ("The prompt and max_tokens do not fit the model's context", "Shorten the prompt or lower max_tokens."),
    404: ("The server has no such model or address", "`%together models` lists the models; check the base URL too."),
    413: ("The request is too large", "Shorten the prompt."),
    422: ("The server did not accept a parameter", "Look at what was sent with --dry-run."),
    429: ("Too many requests or tokens", "Wait a little and run it again."),
    503: ("The server is overloaded", "Wait a little and run it again, or take another model."),
    504: ("The server took too long", "Run it again, or ask for fewer tokens."),
    524: ("The server took too long", "Run it again, or ask for fewer tokens."),
    529: ("The server is overloaded", "Wait a little and run it again, or take another model."),
}
_STATUS_CLASS: dict[int, tuple[str, str]] = {
    4: ("The server refused the request", "Look at what was sent with --dry-run."),
    5: ("The server failed", "Wait a little and run it again."),
}


def _server_words(body: bytes) -> str:
    """The message in an error's body, in a line or two; "" for a web page."""
    text = body.decode(errors="replace").strip()
    try:
        words = error_message(json.loads(text))
    except (ValueError, RecursionError):
        words = "" if text.startswith("<") else text
    return " ".join(words.split())[:300]


def _key_hint(endpoint: Endpoint) -> str:
    if endpoint.key is None:
        return "It wants a key: `%together login`."
    ending = f", ending in …{endpoint.key.ending}" if endpoint.key.ending else ""
    return f"The key came from {endpoint.key.source}{ending}. Give another one with `%together login`."


def _nearest(endpoint: Endpoint, model: str) -> str:
    try:
        return catalog(endpoint).nearest(model)
    except TogetherError:
        return ""


_catalogs: dict[tuple[str, str | None], Catalog] = {}


def catalog(endpoint: Endpoint, *, fresh: bool = False) -> Catalog:
    """The models of `endpoint`, fetched once and kept.

    Parameters
    ----------
    endpoint
        Whom to ask.
    fresh
        Ask again.

    Raises
    ------
    TogetherError
        The list could not be had.
    """
    kept = known_catalog(endpoint)
    if kept is not None and not fresh:
        return kept
    asked = replace(endpoint, timeout=min(endpoint.timeout, _CATALOG_TIMEOUT))
    exchange = asked.exchange("GET", "/v1/models")
    try:
        exchange.open()
        check_status(exchange, endpoint)
        body = exchange.read(_LIST_LIMIT)
    except TogetherError as error:
        error.reword(endpoint.without_key(error.message))
        if isinstance(error, NotFoundError):
            _catalogs[_place(endpoint)] = Catalog()  # a server without a list is not asked again
        if isinstance(error, APITimeoutError):
            error.hint = "It was asked for its list of models; `--api chat` does without."
        raise
    finally:
        exchange.close()
    try:
        found = Catalog.from_json(json.loads(body))
    except (ValueError, RecursionError):
        raise APIResponseError(
            f"{exchange.url} answered with {described(exchange)}, not with a list of models.", "Check the base URL."
        ) from None
    _catalogs[_place(endpoint)] = found
    return found


def known_catalog(endpoint: Endpoint) -> Catalog | None:
    """The list that was fetched before, or None."""
    return _catalogs.get(_place(endpoint))


def _place(endpoint: Endpoint) -> tuple[str, str | None]:
    # Each account sees its own models; the key's last letters tell accounts apart well enough.
    return endpoint.root, None if endpoint.key is None else endpoint.key.ending
