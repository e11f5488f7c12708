"""What can go wrong between a server and an answer: rows of a table, which `tests/whole/test_faults.py` checks one by one.

In what the user sees, the part after the error's name stands somewhere in its message; ``…`` in it stands for
anything, ``{server}`` for the base URL, ``{url}`` for the address that was asked. Adding a fault is a line in `FAULTS`.
"""

from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from operator import methodcaller
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import trustme

from tests import servers
from tests.servers import HOST, Exchange, Script, ScriptedServer, answers, replies

if TYPE_CHECKING:
    from collections.abc import Callable

PIECES = ["Once", " upon", " a", " time", " — €"]
PART, WHOLE = "Once upon", "".join(PIECES)
TRIES = 5
TAKEN = threading.Event()  # set by the test when the client has PART: a reset would throw away what it has not
TRUSTED = servers.authority()
SOON = 0.2  # seconds


@dataclass(frozen=True)
class Place:
    """Where a fault is met."""

    base_url: str
    server: ScriptedServer | None = None


@dataclass(frozen=True)
class Fault:
    """One way in which a server misbehaves, and what becomes of it."""

    does: str  # the row's name
    script: Script | None = None
    sees: str = ""  # the error's name and a telling part of its message; "" where the answer is whole
    kept: str = ""  # the text
    asked: int = 1  # the number of requests
    says: str = ""  # a telling part of what is said during the first wait
    settings: dict[str, Any] = field(default_factory=dict)
    place: Callable[[], Any] | None = None  # where it is met, if that is not a server with `script`

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
    with socket.socket() as bound:  # and not listening: nobody else can have the port meanwhile
        bound.bind((HOST, 0))
        yield Place(f"http://{HOST}:{bound.getsockname()[1]}")


@contextmanager
def full():
    with servers.full_listener() as base_url:
        yield Place(base_url)


@contextmanager
def tls(authority: trustme.CA | None, **options: Any):
    """A server asked over https; without an authority it speaks plain http."""
    with ScriptedServer(answers(PIECES), tls=authority, **options) as server:
        yield Place(server.base_url.replace("http:", "https:"), server)


# Scripts


def does(*steps: Callable[[Exchange], Any]) -> Script:
    """Take these steps, one after the other."""

    def script(exchange: Exchange) -> None:
        for step in steps:
            step(exchange)

    return script


def cuts(*steps: Callable[[Exchange], Any], reset: bool = False) -> Script:
    """Take these steps, and end the connection."""
    return does(*steps, call("cut", reset=reset))


def once(first: Script) -> Script:
    """The first request gets this script, and the others an answer."""
    return lambda exchange: (first if len(exchange.server.requests) == 1 else whole)(exchange)


def many(exchange: Exchange) -> None:
    """20,000 events, made once."""
    data = events(["word "], exchange) * 100
    exchange.chunked().headers()
    for _ in range(200):
        exchange.send(data)
    rest(exchange)


def large(exchange: Exchange) -> None:
    exchange.send(b'data: {"choices": [], "warnings": "' + b"x" * 10_000_000 + b'"}\n\n')


call = methodcaller
chunked = call("chunked")
headers = does(chunked, call("headers"))
part = call("text_events", PIECES[:2])
taken = call("pause", TAKEN)  # the client has what was sent so far
rest = answers(PIECES[2:])
whole = answers(PIECES)
everything = does(chunked, call("text_events", PIECES))  # and nothing that says that it is all
not_zipped = does(chunked, call("headers", content_encoding="gzip"), everything)


def part_and_silence(exchange: Exchange) -> None:
    """In one packet: a pause between its events would be that silence."""
    exchange.chunked().send(events(PIECES[:2], exchange))
    exchange.await_close()


def begins(**said: Any) -> Callable[[Exchange], None]:
    """A first event without text, whose choice says something else."""

    def step(exchange: Exchange) -> None:
        payload = exchange.payload("")
        choice = payload["choices"][0]
        (choice["delta"] if exchange.dialect == "chat" and "tool_calls" in said else choice).update(said)
        exchange.chunked().event(payload)

    return step


def events(texts: list[str], exchange: Exchange) -> bytes:
    payloads = [json.dumps(exchange.payload(text), ensure_ascii=False) for text in texts]
    return "".join(f"data: {payload}\n\n" for payload in payloads).encode()


def one_byte_at_a_time(exchange: Exchange) -> None:
    exchange.chunked().headers()
    for byte in events(PIECES, exchange) + b"data: [DONE]\n\n":
        exchange.send(bytes([byte]))


def within_a_character(exchange: Exchange) -> None:
    data = events(["Once", " upon", " —"], exchange)
    exchange.chunked().send(data[: data.index("—".encode()) + 1])


def within_an_event(texts: list[str], end: int) -> Script:
    return lambda exchange: exchange.chunked().send(events(texts, exchange)[:end])


def within_a_chunk(exchange: Exchange) -> None:
    exchange.raw(b"%x\r\n" % 5000 + events(PIECES[2:], exchange))


def half_a_character(exchange: Exchange) -> None:
    exchange.send(events(["Once €"], exchange).replace("€".encode(), b"\xe2\x82"))


def portal(kind: str) -> Script:
    page = b"<!DOCTYPE html>\n<html><head><title>Log in to the Wi-Fi</title></head><body>" + b"x" * 5000
    return replies(200, page, content_type=kind)


def in_one_piece(exchange: Exchange) -> None:
    choice: dict[str, Any] = {"index": 0, "text": WHOLE, "finish_reason": "stop"}
    if exchange.dialect == "chat":
        choice["message"] = {"role": "assistant", "content": choice.pop("text")}
    body = {"choices": [choice]}
    exchange.reply(200, {"output": body} if exchange.dialect == "inference" else body)


def sends_on(status: int, there: str) -> Script:
    return lambda exchange: exchange.reply(status, b"", location=there.format(server=exchange.server.base_url))


def limited(**headers: Any) -> Script:
    return replies(429, {"error": {"message": "Slower, please."}}, **headers)


# Telling parts

LOST = "ConnectionLostError: lost"
ENDED = "ConnectionLostError: ended without its last message"
CUT = "ConnectionLostError: {server} broke: the reply ended too early."
BROKE = "APIConnectionError: {server} broke"
BROKE_SAYS = "{server} broke: …; trying again in 1 s"
SECURE = "APIConnectionError: secure connection to {server} failed"
PLAIN = "APIConnectionError: does not speak TLS … set the base URL to http://"
NOBODY = "Nothing answers at {server}"
NOT_TAKEN = "did not take the connection"
UNCONNECTED = f"APITimeoutError: {{server}} {NOT_TAKEN} within 0.05 s"
HURRY = {"connect_timeout": 0.05}
REDIRECT = "APIStatusError: {url} sends on to"
HALF_HEADERS = b"HTTP/1.1 200 OK\r\nContent-Le"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
GARBAGE = b"garbage\n\x00\xff: \n\n: a comment\n\nevent: ping\n\nretry: never\n\nid\n\n"
OOPS = b"data: <b>oops</b>\n\n"
NO_JSON = "StreamError: not a JSON object: '<b>oops</b>'"
OTHER = "StreamError: something of a shape that is not the"
SILENT = "ConnectionLostError: {server} was silent for 0.2 s in mid-answer"
NO_ANSWER = "APITimeoutError: {server} did not begin to answer within 0.2 s"
NO_EVENTS = "APIResponseError: {url} answered, and sent no events"
BROKEN_OFF = "StreamError: out of memory."
LOGPROBS = {"tokens": [""], "token_logprobs": [-1.0]}
FAILED_CHOICE = {"choices": [{"error": "out of memory", "finish_reason": "error"}]}
MEMORY = {"message": "out of memory", "type": "server_error"}
LIMITED = "RateLimitError: Slower, please."
LIMITED_TRIED, LIMITED_SAYS = f"{LIMITED} Tried 5 times.", "rate limited; trying again in 1 s"
TOO_LONG = "Longer than the context"
LENGTH = f"ContextLengthError: {TOO_LONG} … The prompt is about 2 tokens (7 characters)."
PORTAL = "APIResponseError: {url} answered with text/html, … “Log in to the Wi-Fi”"


def again(does: str, script: Script | None, sees: str, says: str, **more: Any) -> Fault:
    """A fault that may pass, and does not."""
    return Fault(does, script, sees, asked=TRIES, says=says, **more)


def passing(does: str, script: Script, says: str) -> Fault:
    """A fault that has passed when the request is sent again."""
    return Fault(does, once(script), kept=WHOLE, asked=2, says=says)


def none(does: str, script: Script) -> Fault:
    """What costs nothing of the answer."""
    return Fault(does, script, kept=WHOLE)


_FAULTS = [
    # Reaching it
    again("refuses the connection", None, f"APIConnectionError: {NOBODY}. Tried 5 times.", NOBODY, place=nothing_there),
    again("does not take the connection", None, UNCONNECTED, NOT_TAKEN, place=full, settings=HURRY),
    again(
        "does not answer the TLS handshake",
        None,
        UNCONNECTED,
        NOT_TAKEN,
        place=lambda: tls(TRUSTED, handshake=False),
        settings=HURRY,
    ),
    Fault("shows a certificate that nobody vouches for", None, SECURE, asked=0, place=lambda: tls(trustme.CA())),
    Fault("shows a certificate of another host", None, SECURE, asked=0, place=lambda: tls(TRUSTED, names=("a.b",))),
    Fault("speaks plain http where https is asked", None, PLAIN, asked=0, place=lambda: tls(None)),
    # Before the headers
    again("resets the connection before the headers", cuts(reset=True), BROKE, BROKE_SAYS),
    again("closes the connection before the headers", cuts(), BROKE, BROKE_SAYS),
    passing("resets it before the headers once, and then answers", cuts(reset=True), BROKE_SAYS),
    Fault("is silent before the headers", servers.silent(), NO_ANSWER, settings={"timeout": SOON}),
    again("says what is not HTTP", cuts(call("raw", b"SSH-2.0-Server\r\n\r\n")), BROKE, BROKE_SAYS),
    Fault("breaks off within the headers", cuts(call("raw", HALF_HEADERS)), f"{NO_EVENTS} (a reply of no stated type)"),
    none("says 100, 102 and 103 first", does(call("raw", INTERIM), whole)),
    # After the headers
    again("resets the connection after the headers", cuts(headers, reset=True), BROKE, BROKE_SAYS),
    again("closes the connection after the headers", cuts(headers), BROKE, BROKE_SAYS),
    passing("closes it after the headers once, and then answers", cuts(headers), BROKE_SAYS),
    Fault("is silent before the first token", servers.silent_after([]), NO_ANSWER, settings={"timeout": SOON}),
    again("closes it after an event with no text", cuts(begins()), f"{LOST} … broke: …. Tried 5 times.", BROKE_SAYS),
    passing("ends after an event with no text, once, and then answers", begins(), "lost; trying again in 1 s"),
    Fault("closes it within the first event", cuts(within_an_event([WHOLE], -1)), CUT),
    Fault("closes it after a call of a tool", cuts(begins(tool_calls=[{"index": 0, "function": {"name": "f"}}])), CUT),
    Fault("closes it after a log-probability with no text", cuts(begins(logprobs=LOGPROBS)), CUT),
    none("keeps it alive with comments, and then answers", does(chunked, call("send", b": wait\n\n" * 50), whole)),
    Fault("ends with no event at all", headers, f"{NO_EVENTS} (text/event-stream)"),
    # In mid-stream
    Fault("is silent in mid-stream", part_and_silence, SILENT, PART, settings={"silence_timeout": SOON}),
    none("dribbles one byte at a time", one_byte_at_a_time),
    Fault("resets the connection in mid-stream", cuts(chunked, part, taken, reset=True), LOST, PART),
    Fault("cuts in mid-event", within_an_event(PIECES[:3], -30), ENDED, PART),
    Fault("cuts in mid-character", within_a_character, ENDED, PART),
    Fault("cuts in mid-chunk", cuts(chunked, part, within_a_chunk), LOST, WHOLE),
    Fault("ends with neither a finish reason nor `[DONE]`", everything, ENDED, WHOLE),
    none("ends with a finish reason and no `[DONE]`", answers(PIECES, done=False)),
    none("ends with `[DONE]` and no finish reason", answers(PIECES, finish=None)),
    # What is no event, and events that are none of the API's
    none("sends garbage between events", does(chunked, part, call("send", GARBAGE), rest)),
    Fault("sends an event that is no JSON", does(chunked, part, call("send", OOPS), rest), NO_JSON, PART),
    Fault("sends JSON of another shape", does(chunked, part, call("event", {"choices": "none"}), rest), OTHER, PART),
    Fault("sends invalid UTF-8 in a text", does(chunked, half_a_character, whole), kept=f"Once \ufffd{WHOLE}"),
    Fault("sends an error as its first event", does(chunked, call("event", {"error": "out of memory"})), BROKEN_OFF),
    Fault("sends an error in mid-stream", does(chunked, part, call("event", {"error": MEMORY})), BROKEN_OFF, PART),
    Fault("ends a choice with an error", does(chunked, part, call("event", FAILED_CHOICE)), BROKEN_OFF, PART),
    none("sends an event of 10 MB", does(chunked, large, whole)),
    Fault("sends 20,000 events", many, kept="word " * 20_000 + "".join(PIECES[2:])),
    # What lies, and what is no stream
    none("calls its stream text/html", does(chunked, call("headers", content_type="text/html"), whole)),
    none("calls its stream application/json", does(chunked, call("headers", content_type="application/json"), whole)),
    Fault("answers with a web page (a captive portal)", portal("text/html; charset=utf-8"), PORTAL),
    Fault("calls its web page a stream", portal("text/event-stream"), "APIResponseError: “Log in to the Wi-Fi”"),
    Fault("answers in one piece of JSON", in_one_piece, "APIResponseError: {url} sent its answer in one piece", WHOLE),
    Fault("answers with other JSON", replies(200, {"status": "ok"}), "APIResponseError: not with a stream of events"),
    Fault("answers 200 with an error in JSON", replies(200, {"error": MEMORY}), BROKEN_OFF),
    Fault("answers 200 with nothing", replies(200, b""), NO_EVENTS),
    none("compresses, though not asked to", does(chunked, call("gzip"), whole)),
    Fault("says that it compresses, and does not", not_zipped, "APIConnectionError: {server} sent what cannot be read"),
    # Redirects
    Fault("sends on to the same host (307)", sends_on(307, "{server}/v2/chat"), REDIRECT),
    Fault("sends on to another host (308)", sends_on(308, "https://elsewhere.example/v1"), REDIRECT),
    Fault("sends on to plain http (302)", sends_on(302, "http://elsewhere.example/v1"), REDIRECT),
    Fault("sends on to nowhere (301)", replies(301, b""), REDIRECT),
    # Retry-After
    passing("is rate limited, and asks for 7 seconds", limited(retry_after=7), "rate limited; trying again in 7 s"),
    passing(  # by a clock that is decades slow: only the difference counts
        "is rate limited, and asks to wait until a date",
        limited(date=formatdate(1_000_000_000, usegmt=True), retry_after=formatdate(1_000_000_009, usegmt=True)),
        "rate limited; trying again in 9 s",
    ),
    Fault("is rate limited, and asks for two hours", limited(retry_after=7200), f"{LIMITED} … wait for 2 h."),
    *(
        again(f"is rate limited, and asks for {wait!r} seconds", limited(retry_after=wait), LIMITED_TRIED, LIMITED_SAYS)
        for wait in ("-5", "1e12", "inf", "soon")
    ),
    Fault("answers 403, and speaks of the context", replies(403, {"error": f"{TOO_LONG} of 8 tokens."}), LENGTH),
    none("answers, and says Retry-After", does(chunked, call("headers", retry_after=30), whole)),
]

BODIES: dict[str, tuple[Any, str]] = {
    "JSON": ({"id": "x", "error": {"message": "Its own words.", "type": "t", "code": None}}, " Its own words."),
    "nested JSON": ({"error": {"message": {"message": "Its own words.", "code": 1}}}, " Its own words."),
    "a JSON string": ({"error": "Its own words."}, " Its own words."),
    "HTML": (b"<html><head><title>Oops</title></head><body>" + b"<p>page</p>" * 1000, " “Oops”."),
    "plain text": (b"Its own words.", " Its own words."),
    "nothing": (b"", ""),
}
# Status → the error, what its message begins with, a telling part of the hint.
STATUSES: dict[int, tuple[str, str, str]] = {
    400: ("APIStatusError", "The server did not accept the request", "--dry-run"),
    401: ("AuthenticationError", "The server did not accept the key", "ending in …cdef"),
    402: ("APIStatusError", "The account's spending limit is reached", "billing"),
    403: ("APIStatusError", "The server refused the request", "--dry-run"),
    404: ("NotFoundError", "The server has no such model or address", "Its list of models has test/chat"),
    408: ("APIStatusError", "The server took too long", "fewer tokens"),
    409: ("APIStatusError", "The request is in conflict with another", "Wait a little"),
    413: ("ContextLengthError", "The request is too large", "The prompt is about 2 tokens … Shorten"),
    418: ("APIStatusError", "The server refused the request", "--dry-run"),
    422: ("APIStatusError", "The server did not accept a parameter", "--dry-run"),
    429: ("RateLimitError", "Too many requests or tokens", "Wait a little"),
    500: ("APIStatusError", "The server failed", "Wait a little"),
    502: ("APIStatusError", "The server failed", "Wait a little"),
    503: ("APIStatusError", "The server is overloaded", "another model"),
    504: ("APIStatusError", "The server took too long", "fewer tokens"),
    521: ("APIStatusError", "The server failed", "Wait a little"),
    524: ("APIStatusError", "The server took too long", "fewer tokens"),
    529: ("APIStatusError", "The server is overloaded", "another model"),
}


def _refusal(status: int, body: str = "JSON") -> Fault:
    kind, title, hint = STATUSES[status]
    sent, words = BODIES[body]
    again = status in (408, 409, 429) or status >= 500
    where = ""
    if status == 404:  # what names the model is at the right address
        where, sent, words = " at {url}", {"error": "There is no test/chat."}, " There is no test/chat."
    return Fault(
        f"answers {status} with {body}",
        replies(status, sent),
        f"{kind}: {title} (HTTP {status}{where}).{words}{' Tried 5 times.' if again else ''} … {hint}",
        asked=TRIES if again else 1,
        says=f"{'rate limited' if status == 429 else title[0].lower() + title[1:]}; trying again" if again else "",
    )


FAULTS = [*_FAULTS, *map(_refusal, STATUSES), *(_refusal(500, body) for body in BODIES if body != "JSON")]


def table() -> str:
    """The faults as a table."""
    rows = ["| the server | the user sees | is kept | requests | says while it waits |", "|:--|:--|:--|--:|:--|"]
    for fault in FAULTS:
        kept = shorten(fault.kept, 40, placeholder=" …")
        cells = (fault.does, fault.sees or "the answer", kept, str(fault.asked), fault.says)
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|').replace('<', '&lt;') for cell in cells)} |")
    return "\n".join(rows) + "\n"
