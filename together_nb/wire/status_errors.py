"""What a server's error replies mean."""

from __future__ import annotations

import html
import json
import re
from typing import TYPE_CHECKING, Any, Protocol

from together_nb.errors import APIStatusError, AuthenticationError, ContextLengthError, NotFoundError, RateLimitError
from together_nb.wire.dialects import LONGEST_WORDS, error_message
from together_nb.wire.retry import HONOURED_SECONDS, may_pass, retry_after

if TYPE_CHECKING:
    from collections.abc import Mapping

    from together_nb.config.keys import Headers, Key
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
    # Not kept in a variable, which a traceback may show: a server may repeat the key in it.
    words, named, too_long = _read(exchange.read(_BODY_LIMIT), exchange.call.payload, endpoint)
    exchange.close()
    if 300 <= status < 400:  # noqa: PLR2004  (the range of redirects)
        there = endpoint.without_key(headers.get("Location", "another address"))[:LONGEST_WORDS]
        raise APIStatusError(
            f"{exchange.url} sends on to {there}, and a key is not carried there.",
            "Set the base URL to the final address.",
            status=status,
        )
    title, hint = _STATUS.get(status, _STATUS_CLASS.get(status // 100, ("An unexpected answer", "")))
    kind = _KINDS.get(status, APIStatusError)
    if kind is AuthenticationError:
        title = title if endpoint.key else _WITHOUT_KEY[bool(endpoint.headers)]
        hint = _key_hint(endpoint)
    elif status == 403 and not _about_length(exchange, endpoint, words):  # noqa: PLR2004
        (title, hint), kind = _STATUS_CLASS[4], APIStatusError
    elif too_long:
        (title, hint), kind = _STATUS[403], ContextLengthError
    error = kind(f"{title} (HTTP {status}).{' ' if words else ''}{words}", hint, status=status)
    if status in REFUSED:
        error.fields = named
    if may_pass(status) and kind is not ContextLengthError:
        error.passing = "rate limited" if kind is RateLimitError else title[0].lower() + title[1:]
        error.retry_after = retry_after(headers)
        if error.retry_after is not None and error.retry_after > HONOURED_SECONDS:
            error.hint = f"The server asks to wait for {_duration(error.retry_after)}."
    if kind is RateLimitError:
        error.hint = f"{error.hint} {_limits(headers)}".strip()
    raise error


def _read(body: bytes, payload: Any, endpoint: Server) -> tuple[str, frozenset[str], bool]:
    """Return an error's message, the fields of the request that it names, and whether it is about excess length."""
    words = set(re.findall(r"\w+", _places(body) or body.decode(errors="replace")))
    named = frozenset(
        name
        for name, value in (payload or {}).items()
        if name in words or (isinstance(value, dict) and words.intersection(value))
    )
    return endpoint.without_key(_server_words(body)), named, _TOO_LONG.search(body) is not None


def _places(body: bytes) -> str:
    """Return the places that FastAPI's error names; what else it says may repeat the whole request."""
    try:
        return " ".join(str(row["loc"]) for row in json.loads(body)["detail"])
    except (ValueError, RecursionError, TypeError, KeyError):
        return ""


def _about_length(exchange: Exchange, endpoint: Server, words: str) -> bool:
    """Whether a 403 means excess length, as at Together, rather than a gateway's refusal."""
    if exchange.call.method != "POST" or not words or words.startswith(_TITLE):
        return False
    return endpoint.is_together or re.search(r"token|context|length|too long", words, re.IGNORECASE) is not None


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
    404: ("The server has no such model or address", "`%together models` lists the models; check the base URL too."),
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
# llama.cpp (400, and 500 in mid-answer), OpenAI and LiteLLM, vLLM. All were seen on the servers themselves.
_TOO_LONG = re.compile(
    rb"exceed_context_size_error|Context size has been exceeded|context_length_exceeded|ContextWindowExceeded"
    rb"|maximum context length"
)
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


def _server_words(body: bytes) -> str:
    """Return the message in an error's body, shortened; for a web page, its title."""
    text = body.decode("utf-8-sig", errors="replace").strip()
    try:
        words = error_message(json.loads(text))
    except (ValueError, RecursionError):
        words = page_title(text) if text.startswith("<") else text
    if _PAGE.search(words) is not None:
        words = page_title(words)
    return " ".join(words.split())[:LONGEST_WORDS]


_PAGE = re.compile(r"<!doctype|<html", re.IGNORECASE)


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
