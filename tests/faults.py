"""What can go wrong between a server and an answer: ``python -m tests.faults`` writes the table in CONTRIBUTING.md.

A fault is a server that misbehaves on purpose, and what is to become of it: what the user sees, what
is kept, how often the server is asked and what is said while it waits. `tests/test_faults.py` checks
each row through Python, the cell magic and the panel, in each dialect. Adding one is a line in `FAULTS`.

In an expected text ``…`` stands for anything, ``{server}`` for the base URL, ``{url}`` for the address
that was asked.
"""

from __future__ import annotations

import json
import re
import socket
import threading
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trustme

from tests.servers import (
    HOST,
    Exchange,
    Script,
    ScriptedServer,
    answers,
    authority,
    full_listener,
    replies,
    silent,
    silent_after,
)

if TYPE_CHECKING:
    from collections.abc import Callable

CONTRIBUTING = Path(__file__).parents[1] / "CONTRIBUTING.md"
_TABLE = re.compile(r"(<!-- table: faults -->\n).*?(<!-- end of table -->)", re.DOTALL)

PIECES = ["Once", " upon", " a", " time", " — €"]
PART, WHOLE = "Once upon", "".join(PIECES)
TRIES = 5
TAKEN = threading.Event()  # set by the test when the client has taken PART; a reset would throw away what it has not
SOON = 0.2  # seconds


@dataclass(frozen=True)
class Place:
    """Where a fault is met."""

    base_url: str
    server: ScriptedServer | None = None


@dataclass(frozen=True)
class Fault:
    """One way in which a server misbehaves, and what becomes of it.

    Parameters
    ----------
    does
        The row's name: what the server does.
    script
        How it does it.
    sees
        The error's name and sentences, as the user sees them; "" where the answer is whole.
    kept
        The text that is kept; "…" at its end where the text is too long to be written here.
    asked
        How often the server is asked.
    says
        What is said while it waits, the first time.
    place
        Where it is met, if that is not a server with `script`.
    settings
        What `together_nb.settings` are set to.
    heavy
        Takes seconds.
    """

    does: str
    script: Script | None = None
    sees: str = ""
    kept: str = ""
    asked: int = 1
    says: str = ""
    place: Callable[[], Any] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    heavy: bool = False

    @contextmanager
    def met(self):
        """The place where it is met."""
        if self.place is not None:
            with self.place() as place:
                yield place
        else:
            with ScriptedServer(self.script) as server:
                yield Place(server.base_url, server)

    def __str__(self) -> str:
        return self.does


# Places


@contextmanager
def nothing_there():
    with closing(socket.create_server((HOST, 0))) as listener:
        port = listener.getsockname()[1]
    yield Place(f"http://{HOST}:{port}")


@contextmanager
def full():
    with full_listener() as base_url:
        yield Place(base_url)


@contextmanager
def tls(authority: trustme.CA, **options: Any):
    with ScriptedServer(answers(PIECES), tls=authority, **options) as server:
        yield Place(server.base_url, server)


@contextmanager
def plain_where_tls_is_asked():
    with ScriptedServer(answers(PIECES)) as server:
        yield Place(server.base_url.replace("http:", "https:"), server)


# Scripts


def nth(*scripts: Script) -> Script:
    """The first request gets the first script, and so on; the last one all the others."""

    def script(exchange: Exchange) -> None:
        scripts[min(len(exchange.server.requests), len(scripts)) - 1](exchange)

    return script


def cuts(*before: Callable[[Exchange], Any], reset: bool = False) -> Script:
    """Does what it is given, and ends the connection."""

    def script(exchange: Exchange) -> None:
        for do in before:
            do(exchange)
        exchange.cut(reset=reset)

    return script


def then(*steps: Callable[[Exchange], Any]) -> Script:
    def script(exchange: Exchange) -> None:
        for do in steps:
            do(exchange)

    return script


def chunked(exchange: Exchange) -> None:
    exchange.chunked()


def headers(exchange: Exchange) -> None:
    exchange.chunked().headers()


def part(exchange: Exchange) -> None:
    exchange.text_events(PIECES[:2])


def part_and_silence(exchange: Exchange) -> None:
    """In one packet: a pause between its events would be that silence."""
    payloads = [json.dumps(exchange.payload(text)) for text in PIECES[:2]]
    exchange.chunked().send("".join(f"data: {one}\n\n" for one in payloads).encode())
    exchange.await_close()


def rest(exchange: Exchange) -> None:
    exchange.text_events(PIECES[2:])
    exchange.event(exchange.payload("", finish="stop"))
    exchange.done()


def whole(exchange: Exchange) -> None:
    answers(PIECES)(exchange)


def everything(exchange: Exchange) -> None:
    """All the text, and nothing that says that it is all."""
    exchange.chunked().text_events(PIECES)


def taken(exchange: Exchange) -> None:
    """The client has what was sent so far."""
    exchange.pause(TAKEN)


def sends(data: bytes) -> Callable[[Exchange], None]:
    return lambda exchange: exchange.send(data)


def raw(data: bytes) -> Callable[[Exchange], None]:
    return lambda exchange: exchange.raw(data)


def event(payload: Any) -> Callable[[Exchange], None]:
    return lambda exchange: exchange.event(payload)


def nothing_yet(exchange: Exchange) -> None:
    """A first event with a role and no text."""
    exchange.chunked().event(exchange.payload(""))


def says(**said: Any) -> Callable[[Exchange], None]:
    """A first event whose choice says something that is no text."""

    def step(exchange: Exchange) -> None:
        payload = exchange.payload("")
        choice = payload["choices"][0]
        (choice["delta"] if exchange.dialect == "chat" and "tool_calls" in said else choice).update(said)
        exchange.chunked().event(payload)

    return step


def bytes_of(texts: list[str], exchange: Exchange) -> bytes:
    events = [json.dumps(exchange.payload(text), ensure_ascii=False) for text in texts]
    return "".join(f"data: {one}\n\n" for one in events).encode()


def one_byte_at_a_time(exchange: Exchange) -> None:
    exchange.chunked().headers()
    for byte in bytes_of(PIECES, exchange) + b"data: [DONE]\n\n":
        exchange.send(bytes([byte]))


def within_a_character(exchange: Exchange) -> None:
    data = bytes_of(["Once", " upon", " —"], exchange)
    exchange.chunked().send(data[: data.index("—".encode()) + 1])


def within_an_event(exchange: Exchange) -> None:
    exchange.chunked().send(bytes_of(PIECES[:3], exchange)[:-30])


def within_a_chunk(exchange: Exchange) -> None:
    exchange.raw(b"%x\r\n" % 5000 + bytes_of(PIECES[2:], exchange))


def many(exchange: Exchange) -> None:
    """100,000 events, made once."""
    one = bytes_of(["word "], exchange)
    exchange.chunked().headers()
    for _ in range(1000):
        exchange.send(one * 100)
    rest(exchange)


def typed(kind: str) -> Callable[[Exchange], Any]:
    return lambda exchange: exchange.chunked().headers(content_type=kind)


def portal(kind: str) -> Script:
    page = b"<!DOCTYPE html>\n<html><head><title>Log in to the Wi-Fi</title></head><body>" + b"x" * 5000
    return replies(200, page, content_type=kind)


def in_one_piece(exchange: Exchange) -> None:
    choice: dict[str, Any] = {"index": 0, "text": WHOLE, "finish_reason": "stop"}
    if exchange.dialect == "chat":
        choice["message"] = {"role": "assistant", "content": choice.pop("text")}
    body = {"choices": [choice]}
    exchange.reply(200, {"output": body} if exchange.dialect == "inference" else body)


def not_zipped(exchange: Exchange) -> None:
    exchange.chunked().headers(content_encoding="gzip")
    everything(exchange)


def sends_on(status: int, there: str) -> Script:
    return lambda exchange: exchange.reply(status, b"", location=there.format(server=exchange.server.base_url))


def limited(**headers: Any) -> Script:
    def script(exchange: Exchange) -> None:
        if "date" in headers:  # by a clock that is an hour slow: only the difference counts
            now = 1_000_000_000
            said = {"date": formatdate(now, usegmt=True), "retry_after": formatdate(now + headers["date"], usegmt=True)}
        else:
            said = headers
        exchange.reply(429, {"error": {"message": "Slower, please."}}, **said)

    return script


# Sentences

LOST = "ConnectionLostError: The connection was lost before the answer was whole"
ENDED = f"{LOST}: the stream ended without its last message. What came is kept."
BROKE = "APIConnectionError: The connection to {server} broke: …. Tried 5 times. Check the network and try again."
BROKE_SAYS = "The connection to {server} broke: …; trying again in 1 s"
NO_STREAM = "APIResponseError: {url} answered with …, not with a stream of events."
CHECK_URL = "Check the base URL: this looks like a web page or a log-in page, not an API."
BROKEN_OFF = "StreamError: The server broke the answer off with an error: out of memory. What came before it is kept."
REDIRECT = "APIStatusError: {url} sends on to …, and a key is not carried there. Set the base URL to the final address."
LIMITED = "RateLimitError: Too many requests or tokens (HTTP 429). Slower, please."
LIMITED_SAYS = "rate limited; trying again in {} s"
AGAIN = "Wait a little and run it again."

FAULTS = [
    # Reaching it
    Fault(
        "refuses the connection",
        place=nothing_there,
        sees="APIConnectionError: Nothing answers at {server}. Tried 5 times. "
        "Check the base URL, and that the server is running.",
        asked=TRIES,
        says="Nothing answers at {server}; trying again in 1 s",
    ),
    Fault(
        "does not take the connection",
        place=full,
        sees="APITimeoutError: {server} did not take the connection within 0.05 s. Tried 5 times. "
        "Check the network, or set settings.connect_timeout higher.",
        asked=TRIES,
        says="{server} did not take the connection within 0.05 s; trying again in 1 s",
        settings={"connect_timeout": 0.05},
    ),
    Fault(
        "does not answer the TLS handshake",
        place=lambda: tls(authority(), handshake=False),
        sees="APITimeoutError: {server} did not take the connection within 0.05 s. Tried 5 times. …",
        asked=TRIES,
        says="{server} did not take the connection within 0.05 s; trying again in 1 s",
        settings={"connect_timeout": 0.05},
    ),
    Fault(
        "shows a certificate that nobody vouches for",
        place=lambda: tls(trustme.CA()),
        sees="APIConnectionError: The secure connection to {server} failed: …. "
        "Check the address; for a certificate of your own set REQUESTS_CA_BUNDLE to its file.",
        asked=0,
    ),
    Fault(
        "shows a certificate of another host",
        place=lambda: tls(authority(), names=("elsewhere.example",)),
        sees="APIConnectionError: The secure connection to {server} failed: …. Check the address; …",
        asked=0,
    ),
    Fault(
        "speaks plain http where https is asked",
        place=plain_where_tls_is_asked,
        sees="APIConnectionError: The secure connection to {server} failed: …. Check the address; …",
        asked=0,
    ),
    # Before the headers
    Fault("resets the connection before the headers", cuts(reset=True), BROKE, asked=TRIES, says=BROKE_SAYS),
    Fault("closes the connection before the headers", cuts(), BROKE, asked=TRIES, says=BROKE_SAYS),
    Fault(
        "resets it before the headers once, and then answers",
        nth(cuts(reset=True), whole),
        kept=WHOLE,
        asked=2,
        says=BROKE_SAYS,
    ),
    Fault(
        "is silent before the headers",
        silent(),
        "APITimeoutError: {server} did not begin to answer within 0.2 s. Try again, or set settings.timeout higher: "
        "some models think long before they answer.",
        settings={"timeout": SOON},
    ),
    Fault("says what is not HTTP", cuts(raw(b"SSH-2.0-Server\r\n\r\n")), BROKE, asked=TRIES, says=BROKE_SAYS),
    Fault(
        "breaks off within the headers",
        cuts(raw(b"HTTP/1.1 200 OK\r\nContent-Le")),
        "APIResponseError: {url} answered, and sent no events (a reply of no stated type). …",
    ),
    Fault(
        "says 100, 102 and 103 first",
        then(
            raw(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"),
            raw(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n"),
            whole,
        ),
        kept=WHOLE,
    ),
    # After the headers
    Fault("resets the connection after the headers", cuts(headers, reset=True), BROKE, asked=TRIES, says=BROKE_SAYS),
    Fault("closes the connection after the headers", cuts(headers), BROKE, asked=TRIES, says=BROKE_SAYS),
    Fault(
        "closes it after the headers once, and then answers",
        nth(cuts(headers), whole),
        kept=WHOLE,
        asked=2,
        says=BROKE_SAYS,
    ),
    Fault(
        "is silent before the first token",
        silent_after([]),
        "APITimeoutError: {server} did not begin to answer within 0.2 s. …",
        settings={"timeout": SOON},
    ),
    Fault(
        "closes it after an event with no text",
        cuts(nothing_yet),
        f"{LOST}. The connection to {{server}} broke: …. Tried 5 times.",
        asked=TRIES,
        says=BROKE_SAYS,
    ),
    Fault(
        "ends in good order after an event with no text, once, and then answers",
        nth(nothing_yet, whole),
        kept=WHOLE,
        asked=2,
        says="the connection was lost; trying again in 1 s",
    ),
    Fault(
        "closes it within the first event",
        cuts(chunked, lambda exchange: exchange.send(bytes_of([WHOLE], exchange)[:-1])),
        f"{LOST}. The connection to {{server}} broke: the reply ended too early. What came is kept.",
    ),
    Fault(
        "closes it after a call of a tool",
        cuts(says(tool_calls=[{"index": 0, "function": {"name": "f"}}])),
        f"{LOST}. The connection to {{server}} broke: the reply ended too early. What came is kept.",
    ),
    Fault(
        "closes it after a log-probability with no text",
        cuts(says(logprobs={"tokens": [""], "token_logprobs": [-1.0]})),
        f"{LOST}. The connection to {{server}} broke: the reply ended too early. What came is kept.",
    ),
    Fault(
        "keeps it alive with comments, and then answers", then(chunked, sends(b": wait\n\n" * 50), whole), kept=WHOLE
    ),
    Fault(
        "ends with no event at all",
        headers,
        "APIResponseError: {url} answered, and sent no events (text/event-stream). "
        "Check that the base URL is that of an API that streams.",
    ),
    # In mid-stream
    Fault(
        "is silent in mid-stream",
        part_and_silence,
        f"{LOST}. {{server}} was silent for 0.2 s in mid-answer. What came is kept. "
        "Set settings.silence_timeout higher if it needs such pauses.",
        PART,
        settings={"silence_timeout": SOON},
    ),
    Fault("dribbles one byte at a time", one_byte_at_a_time, kept=WHOLE),
    Fault(
        "resets the connection in mid-stream",
        cuts(chunked, part, taken, reset=True),
        f"{LOST}. The connection to {{server}} broke: …. What came is kept.",
        PART,
    ),
    Fault("cuts in mid-event", within_an_event, ENDED, PART),
    Fault("cuts in mid-character", within_a_character, ENDED, PART),
    Fault(
        "cuts in mid-chunk",
        cuts(chunked, part, within_a_chunk),
        f"{LOST}. The connection to {{server}} broke: …. What came is kept.",
        WHOLE,
    ),
    Fault("ends with neither a finish reason nor `[DONE]`", everything, ENDED, WHOLE),
    Fault("ends with a finish reason and no `[DONE]`", answers(PIECES, done=False), kept=WHOLE),
    Fault("ends with `[DONE]` and no finish reason", answers(PIECES, finish=None), kept=WHOLE),
    # What is no event, and events that are none of the API's
    Fault(
        "sends garbage between events",
        then(
            chunked, part, sends(b"garbage\n\x00\xff: \n\n: a comment\n\nevent: ping\n\nretry: never\n\nid\n\n"), rest
        ),
        kept=WHOLE,
    ),
    Fault(
        "sends an event that is no JSON",
        then(chunked, part, sends(b"data: <b>oops</b>\n\n"), rest),
        "StreamError: The server sent an event that is not a JSON object: '<b>oops</b>'. What came before it is kept.",
        PART,
    ),
    Fault(
        "sends JSON of another shape",
        then(chunked, part, event({"choices": "none"}), rest),
        "StreamError: The server sent something of a shape that is not the …",
        PART,
    ),
    Fault(
        "sends invalid UTF-8 in a text",
        then(chunked, lambda it: it.send(bytes_of(["Once €"], it).replace("€".encode(), b"\xe2\x82")), whole),
        kept=f"Once \ufffd{WHOLE}",
    ),
    Fault("sends an error as its first event", then(chunked, event({"error": "out of memory"})), BROKEN_OFF),
    Fault(
        "sends an error in mid-stream",
        then(chunked, part, event({"error": {"message": "out of memory", "type": "server_error"}})),
        BROKEN_OFF,
        PART,
    ),
    Fault(
        "ends a choice with an error",
        then(chunked, part, event({"choices": [{"index": 0, "error": "out of memory", "finish_reason": "error"}]})),
        BROKEN_OFF,
        PART,
    ),
    Fault(
        "sends an event of 10 MB",
        then(chunked, sends(b'data: {"choices": [], "warnings": "' + b"x" * 10_000_000 + b'"}\n\n'), whole),
        kept=WHOLE,
    ),
    Fault("sends 100,000 events", many, kept="word word word …", heavy=True),
    # What lies, and what is no stream
    Fault("calls its stream text/html", then(typed("text/html"), whole), kept=WHOLE),
    Fault("calls its stream application/json", then(typed("application/json"), whole), kept=WHOLE),
    Fault(
        "answers with a web page (a captive portal)",
        portal("text/html; charset=utf-8"),
        f"APIResponseError: {{url}} answered with text/html, not with a stream of events. “Log in to the Wi-Fi”. {CHECK_URL}",
    ),
    Fault(
        "calls its web page a stream", portal("text/event-stream"), f"{NO_STREAM} “Log in to the Wi-Fi”. {CHECK_URL}"
    ),
    Fault(
        "answers in one piece of JSON",
        in_one_piece,
        "APIResponseError: {url} sent its answer in one piece, where a stream was asked for. "
        "The answer is kept. Check that the model and the server can stream.",
        WHOLE,
    ),
    Fault(
        "answers with other JSON",
        replies(200, {"status": "ok"}),
        f"{NO_STREAM} Check the base URL and the API (`--api chat`, `completions` or `inference`).",
    ),
    Fault("answers 200 with an error in JSON", replies(200, {"error": {"message": "out of memory"}}), BROKEN_OFF),
    Fault("answers 200 with nothing", replies(200, b""), "APIResponseError: {url} answered, and sent no events …"),
    Fault("compresses, though not asked to", then(lambda exchange: exchange.chunked().gzip(), whole), kept=WHOLE),
    Fault(
        "says that it compresses, and does not",
        not_zipped,
        "APIConnectionError: {server} sent what cannot be read: …. "
        "Something on the way may spoil it: a proxy, a virus scanner.",
    ),
    # Redirects
    Fault("sends on to the same host (307)", sends_on(307, "{server}/v2/chat"), REDIRECT),
    Fault("sends on to another host (308)", sends_on(308, "https://elsewhere.example/v1"), REDIRECT),
    Fault("sends on to plain http (302)", sends_on(302, "http://elsewhere.example/v1"), REDIRECT),
    Fault("sends on to nowhere (301)", replies(301, b""), REDIRECT),
    # Retry-After
    Fault(
        "is rate limited, and asks for 7 seconds",
        nth(limited(retry_after=7), whole),
        kept=WHOLE,
        asked=2,
        says=LIMITED_SAYS.format(7),
    ),
    Fault(
        "is rate limited, and asks to wait until a date",
        nth(limited(date=9), whole),
        kept=WHOLE,
        asked=2,
        says=LIMITED_SAYS.format(9),
    ),
    Fault(
        "is rate limited, and asks for more than a minute",
        limited(retry_after=7200),
        f"{LIMITED} The server asks to wait for 2 h.",
    ),
    *(
        Fault(
            f"is rate limited, and asks for {said!r} seconds",
            limited(retry_after=said),
            f"{LIMITED} Tried 5 times. {AGAIN}",
            asked=TRIES,
            says=LIMITED_SAYS.format(1),
        )
        for said in ("-5", "1e12", "inf", "soon")
    ),
    Fault(
        "answers 403, and speaks of the context",
        replies(403, {"error": {"message": "Longer than the context of 8192 tokens."}}),
        "ContextLengthError: The prompt and max_tokens do not fit the model's context (HTTP 403). Longer than the context "
        "of 8192 tokens. The prompt is about 2 tokens (7 characters). Shorten the prompt or lower max_tokens.",
    ),
    Fault("answers, and says Retry-After", then(lambda it: it.chunked().headers(retry_after=30), whole), kept=WHOLE),
]

BODIES: dict[str, tuple[Any, str]] = {
    "JSON": ({"id": "x", "error": {"message": "Its own words.", "type": "t", "code": None}}, " Its own words."),
    "nested JSON": ({"error": {"message": {"message": "Its own words.", "code": 1}}}, " Its own words."),
    "a JSON string": ({"error": "Its own words."}, " Its own words."),
    "HTML": (b"<html><head><title>Oops</title></head><body>" + b"<p>page</p>" * 1000, " “Oops”."),
    "plain text": (b"Its own words.", " Its own words."),
    "nothing": (b"", ""),
}
FAILED = ("The server failed", AGAIN)
BUSY = ("The server is overloaded", "Wait a little and run it again, or take another model.")
SLOW = ("The server took too long", "Run it again, or ask for fewer tokens.")
DRY_RUN = "Look at what was sent with --dry-run."
# Status → the error, what it says, the hint.
STATUSES: dict[int, tuple[str, str, str]] = {
    400: ("APIStatusError", "The server did not accept the request", DRY_RUN),
    401: ("AuthenticationError", "The server did not accept the key", "The key came from …, ending in …cdef. …"),
    402: ("APIStatusError", "The account's spending limit is reached", "Raise it in the account's billing settings."),
    403: ("APIStatusError", "The server refused the request", DRY_RUN),
    404: ("NotFoundError", "The server has no such model or address", "Did you mean test/base?"),
    408: ("APIStatusError", *SLOW),
    409: ("APIStatusError", "The request is in conflict with another", AGAIN),
    413: ("ContextLengthError", "The request is too large", "The prompt is about 2 tokens …. Shorten the prompt."),
    422: ("APIStatusError", "The server did not accept a parameter", DRY_RUN),
    429: ("RateLimitError", "Too many requests or tokens", AGAIN),
    500: ("APIStatusError", *FAILED),
    502: ("APIStatusError", *FAILED),
    503: ("APIStatusError", *BUSY),
    504: ("APIStatusError", *SLOW),
    521: ("APIStatusError", *FAILED),
    524: ("APIStatusError", *SLOW),
    529: ("APIStatusError", *BUSY),
}


def _refusal(status: int, body: str) -> Fault:
    kind, title, hint = STATUSES[status]
    sent, words = BODIES[body]
    again = status in (408, 409, 429) or status >= 500
    said = f"{kind}: {title} (HTTP {status}).{words}{' Tried 5 times.' if again else ''} {hint}"
    reason = "rate limited" if status == 429 else title[0].lower() + title[1:]
    return Fault(
        f"answers {status} with {body}",
        replies(status, sent),
        said,
        asked=TRIES if again else 1,
        says=f"{reason}; trying again in 1 s" if again else "",
    )


REFUSALS = [_refusal(status, body) for status in STATUSES for body in BODIES]


def table() -> str:
    """The faults as a table: of the refusals one row a status, and one a body."""
    rows = ["| the server | the user sees | is kept | asked | says while it waits |", "|:--|:--|:--|--:|:--|"]
    shown = [
        *FAULTS,
        *(_refusal(status, "JSON") for status in STATUSES),
        *(_refusal(500, body) for body in BODIES if body != "JSON"),
    ]
    for fault in shown:
        cells = (fault.does, fault.sees or "the answer", fault.kept, str(fault.asked), fault.says)
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|').replace('<', '&lt;') for cell in cells)} |")
    return "\n".join(rows) + "\n"


def with_table(text: str) -> str:
    """The text of CONTRIBUTING.md with the table of today."""
    return _TABLE.sub(lambda match: match.group(1) + table() + match.group(2), text)


if __name__ == "__main__":
    CONTRIBUTING.write_text(with_table(CONTRIBUTING.read_text(encoding="utf-8")), encoding="utf-8")
