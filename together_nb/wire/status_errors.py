"""What a server's error replies mean."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from together_nb.errors import (
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    AuthenticationError,
    ContextLengthError,
    NotFoundError,
    RateLimitError,
)
from together_nb.wire.error_words import (
    LONGEST_WORDS,
    api_to_use,
    error_codes,
    error_message,
    error_places,
    estimated_seconds,
    is_about_address,
    is_about_length,
    is_about_loading,
    is_about_rate,
    is_about_unknown_model,
    is_alone_too_much,
    parse_error,
)
from together_nb.wire.retry import HONOURED_SECONDS, may_pass, retry_after

if TYPE_CHECKING:
    from collections.abc import Mapping

    from together_nb.config.keys import Headers, Key
    from together_nb.errors import TogetherError
    from together_nb.wire.exchange import Exchange


class Server(Protocol):
    """What answered, such as an `Endpoint`."""

    @property
    def key(self) -> Key | None:
        """The key that was sent."""

    @property
    def headers(self) -> Headers:
        """The further headers that were sent."""

    @property
    def withheld(self) -> str:
        """A sentence about a key or headers not sent, or ""."""

    @property
    def is_together(self) -> bool:
        """Whether it is Together's own service."""

    def without_key(self, text: str) -> str:
        """Remove keys from `text`."""


def described(exchange: Exchange) -> str:
    """The type of a reply, for a message."""
    kind = exchange.headers.get("Content-Type", "")[:LONGEST_WORDS].split(";")[0].strip()
    return kind or "a reply of no stated type"


def check_status(exchange: Exchange, endpoint: Server) -> None:
    """Raise the error for the reply's status, if it is one.

    Parameters
    ----------
    exchange
        Its headers have arrived.
    endpoint
        The server.

    Raises
    ------
    APIStatusError
        The status is not 200.
    """
    if exchange.status == _OK or exchange.cancelled:
        return
    status, headers = exchange.status, exchange.headers
    # The body is not kept in a variable, which a traceback may show: a server may repeat the key in it.
    told = _read(exchange.read(_BODY_LIMIT), status, exchange.call.payload, endpoint)
    exchange.close()
    if 300 <= status < 400:  # noqa: PLR2004  (the range of redirects)
        there = endpoint.without_key(headers.get("Location", "another address"))[:LONGEST_WORDS]
        raise APIStatusError(
            f"{exchange.url} sends on to {there}, and a key is not carried there.",
            "Set the base URL to the final address.",
            status=status,
        )
    kind, title, hint = _meaning(exchange, endpoint, told)
    words = told.words[:LONGEST_WORDS] or _unread(headers)
    where = f" at {exchange.url}" if status in NOWHERE else ""
    error = kind(f"{title} (HTTP {status}{where}).{' ' if words else ''}{words}", hint, status=status)
    error.loading = title == _LOADING[0]
    explained = status not in NOWHERE or (exchange.call.method == "POST" and not is_about_address(told.words))
    error.from_api = error.loading or kind is AuthenticationError or (told.is_json and explained)
    error.unknown_model = told.unknown_model and kind in (APIStatusError, NotFoundError) and not error.loading
    if status in REFUSED:
        error.fields = told.named
    if may_pass(status) and not (kind is ContextLengthError or told.alone_too_much or error.unknown_model):
        error.passing = "rate limited" if kind is RateLimitError else title[0].lower() + title[1:]
        asked = retry_after(headers)
        error.retry_after = told.estimate if asked is None and error.loading else asked
        if asked is not None and asked > HONOURED_SECONDS:
            error.hint = f"The server asks to wait for {_duration(asked)}."
    if kind is RateLimitError:
        error.hint = f"{error.hint} {_limits(headers)}".strip()
    raise error


def is_elsewhere(error: TogetherError, *, written: bool, answered: bool = False) -> bool:
    """Whether an error says that the API is not at this address of the server, and may be at another.

    Parameters
    ----------
    error
        The error.
    written
        Whether the user wrote this address. At any other, a web page and a redirection are no API either.
    answered
        Whether the API has answered there. Where it has not and nobody wrote it, only an API's own error counts.
    """
    if isinstance(error, APIStatusError):
        if error.status in NOWHERE:
            return not (error.unknown_model or error.from_api)
        if written or answered:
            return not written and 300 <= error.status < 400  # noqa: PLR2004
        return not error.from_api or (error.status >= 500 and not error.loading)  # noqa: PLR2004
    return not written and isinstance(error, APIResponseError if answered else (APIResponseError, APIConnectionError))


def _meaning(exchange: Exchange, endpoint: Server, told: _Told) -> tuple[type[APIStatusError], str, str]:
    """Return the class of an error, what its message begins with, and a hint."""
    status = exchange.status
    title, hint = _STATUS.get(status, _STATUS_CLASS.get(status // 100, ("An unexpected answer", "")))
    kind = _KINDS.get(status, APIStatusError)
    if kind is AuthenticationError:
        return kind, title if endpoint.key else _WITHOUT_KEY[bool(endpoint.headers)], _key_hint(endpoint)
    if told.alone_too_much or (status == _TOO_LARGE and is_about_rate(told.all)):
        return (
            RateLimitError,
            _STATUS[429][0],
            "This request alone is too large: shorten the prompt or lower max_tokens.",
        )
    if _is_about_length(exchange, endpoint, told):
        return ContextLengthError, *_STATUS[_TOO_LARGE if status == _TOO_LARGE else 403]
    if status == 403:  # noqa: PLR2004
        (title, hint), kind = _STATUS_CLASS[4], APIStatusError
    if status // 100 == 5 and is_about_loading(told.words):  # noqa: PLR2004
        return APIStatusError, *_LOADING
    instead = api_to_use(told.words)
    if status in _OF_ENDPOINTS and instead and (instead == "chat") != exchange.url.endswith("/chat/completions"):
        return kind, _STATUS[400][0], f"Ask with `--api {instead}`."
    if told.denies_model and kind in (APIStatusError, NotFoundError):
        hint = MODELS_HINT
    elif kind is NotFoundError and not is_about_address(told.words):
        title, hint = "The server did not find what was asked for", ""  # it says itself why
    return kind, title, hint


class _Told(NamedTuple):
    """What an error's body says, without the key."""

    words: str
    codes: str
    named: frozenset[str]  # fields of the request
    unknown_model: bool
    denies_model: bool  # says that there is no such model, and does not merely name it
    estimate: float | None  # seconds
    is_json: bool

    @property
    def all(self) -> str:
        return f"{self.codes} {self.words}"

    @property
    def alone_too_much(self) -> bool:
        return is_alone_too_much(self.all)


def _read(body: bytes, status: int, payload: Any, endpoint: Server) -> _Told:
    text = body.decode("utf-8-sig", errors="replace")
    names = set(re.findall(r"\w+", error_places(text) or text))
    named = frozenset(
        name
        for name, value in (payload or {}).items()
        if name in names or (isinstance(value, dict) and names.intersection(value))
    )
    words, codes = endpoint.without_key(_server_words(text)), endpoint.without_key(error_codes(text))
    model = str((payload or {}).get("model") or "")
    # A 404 that names the model: the API is here, and has no such model.
    named_model = re.search(rf"(?<![\w/-]){re.escape(model)}(?![\w/-])", words) if model and status == 404 else None  # noqa: PLR2004
    all_words = f"{codes} {words}"
    # What is said with a status that passes is about now, but for a 500, which some servers answer with to anything.
    lasting = not may_pass(status) or (status == 500 and "available" not in all_words.lower())  # noqa: PLR2004
    denies = lasting and is_about_unknown_model(all_words, model)
    estimate = estimated_seconds(text)
    # An estimate is not a demand: after a while the server is asked again, whatever it expects.
    estimate = None if estimate is None else min(estimate, HONOURED_SECONDS)
    return _Told(
        words,
        codes,
        named,
        denies or named_model is not None,
        denies,
        estimate,
        isinstance(parse_error(text), (dict, list)),
    )


def _is_about_length(exchange: Exchange, endpoint: Server, told: _Told) -> bool:
    """Whether an error means excess length: a 403 does at Together, elsewhere only if it says so, as any other."""
    if exchange.status == 403:  # noqa: PLR2004
        asks = exchange.call.method == "POST" and told.words and not told.words.startswith(_TITLE)
        return bool(asks) and (endpoint.is_together or _ROUGHLY_LENGTH.search(told.all) is not None)
    if exchange.status == 429:  # noqa: PLR2004  ("too many tokens" are too many at once)
        return is_about_length(told.all) and "context" in told.all.lower()
    return exchange.status == _TOO_LARGE or is_about_length(told.all)


def _unread(headers: Mapping[str, str]) -> str:
    """Return a sentence about an encoding that may be why an error's body has no words, or ""."""
    encoding = headers.get("Content-Encoding", "")[:_FIGURE]
    if not encoding:
        return ""
    return f"Its reason cannot be read (Content-Encoding: {encoding}), though together_nb asks for no encoding."


MODELS_HINT = "`%together models` lists the models."
ADDRESS_HINT = "`%together models` lists the models; check the base URL too."
_KINDS: dict[int, type[APIStatusError]] = {
    401: AuthenticationError,
    403: ContextLengthError,
    404: NotFoundError,
    413: ContextLengthError,
    429: RateLimitError,
}
# Status → its meaning here and advice. 403 is about length, as measured, not permission.
_STATUS: dict[int, tuple[str, str]] = {
    400: ("The server did not accept the request", "Look at what was sent with --dry-run."),
    401: ("The server did not accept the key", ""),
    402: ("The account's spending limit is reached", "Raise it in the account's billing settings."),
    403: ("The prompt and max_tokens do not fit the model's context", "Shorten the prompt or lower max_tokens."),
    404: ("The server has no such model or address", ADDRESS_HINT),
    405: ("The server takes no such request", "Check the base URL."),
    408: ("The server took too long", "Run it again, or ask for fewer tokens."),
    409: ("The request is in conflict with another", "Wait a little and run it again."),
    413: ("The request is too large", "Shorten the prompt."),
    422: ("The server did not accept a parameter", "Look at what was sent with --dry-run."),
    424: ("The model on this machine failed", "Run it again."),
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
_OK = 200
REFUSED = (400, 422)
"""Statuses with which a server refuses a field of a request."""
NOWHERE = (404, 405)
"""Statuses with which a server says that it has no such address."""
_OF_ENDPOINTS = (400, 404, 405, 422)
_LOADING = ("The model is being loaded", "Wait a little and run it again.")
_TOO_LARGE = 413
_ROUGHLY_LENGTH = re.compile(r"context|max(?:imum)? length|too (?:long|many tokens)", re.IGNORECASE)
_BODY_LIMIT = 65536
_TITLE = "“"  # begins a web page's title
_FIGURE = 20  # characters of a header that holds a number
# Unit, limit, remaining: as recorded from the service, as in its help, and as in OpenAI's service.
_LIMITS = (
    ("requests", "X-Ratelimit-Limit", "X-Ratelimit-Remaining"),
    ("requests", "X-Ratelimit-Limit-Requests", "X-Ratelimit-Remaining-Requests"),
    ("tokens", "X-Ratelimit-Limit-Tokens", "X-Ratelimit-Remaining-Tokens"),
    ("tokens", "X-Tokenlimit-Limit", "X-Tokenlimit-Remaining"),
)


def _server_words(text: str) -> str:
    """Return the message in an error's body, with a web page replaced by its title."""
    if text.count("\0") + text.count("\ufffd") > len(text) // _MOST_UNREADABLE:  # no text at all
        return ""
    text = text.strip()
    words = text if text.startswith("<") else error_message(parse_error(text))
    page = _PAGE.search(words)
    if page is not None:
        before, title = words[: page.start()], page_title(words)
        if words.startswith("<"):
            words = title
        elif title or _TAGS.search(words, page.start()) is not None:  # and no tag alone, of which the words speak
            words = f"{before} {title}"
    return " ".join(words.split())


_MOST_UNREADABLE = 10  # one character in so many
_PAGE = re.compile(r"<!doctype|<html", re.IGNORECASE)
_TAGS = re.compile(r"<(?:head|body|/html)\b", re.IGNORECASE)


def page_title(page: str) -> str:
    """The title of a web page, in quotation marks; "" if it has none."""
    # `[^<>]` stops at the next tag: unclosed tags would otherwise make the search quadratic.
    found = re.search(r"<title[^<>]*>([^<]{1,200})", page[:_BODY_LIMIT], re.IGNORECASE)
    title = " ".join(html.unescape(found.group(1)).split()) if found else ""
    return f"{_TITLE}{title}”." if title else ""


_WITHOUT_KEY = ("The server wants a key", "The server found no valid key in default_headers")


def _key_hint(endpoint: Server) -> str:
    names = ", ".join(endpoint.headers.names)
    if "authorization" in endpoint.headers:
        return f"It was sent default_headers ({names}), with authorization instead of another key. Check their values."
    if endpoint.key is not None:
        ending = f", ending in …{endpoint.key.ending}" if endpoint.key.ending else ""
        hint = f"The key came from {endpoint.key.source}{ending}. Give another one with `%together login`."
        hint += f" It was sent default_headers too ({names})." if names else ""
    elif names:
        hint = f"It was sent {names}, and no other key. Check their values, or give a key with `%together login`."
    else:
        hint = "`%together login` takes one."
    return f"{hint} {endpoint.withheld}".strip()


def _limits(headers: Mapping[str, str]) -> str:
    """Return the limits in the headers. Their units are not stated, and differ between services."""
    limits = []
    for what, most, left in _LIMITS:
        if most in headers:
            remaining = f" ({headers[left][:_FIGURE]} left)" if left in headers else ""
            limits.append(f"{what} {headers[most][:_FIGURE]}{remaining}")
    return f"Its limits: {', '.join(limits)}." if limits else ""


def _duration(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
