"""Sends the request for one completion, retries it if possible, and reads the reply."""

from __future__ import annotations

import itertools
import json
import re
import threading
from dataclasses import replace
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, Protocol

from together_nb.base.cancellation import CancelScope, cancel_with_scope
from together_nb.base.interrupts import interrupt_message, stopped
from together_nb.base.wording import timestamp
from together_nb.errors import (
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    BudgetError,
    ConnectionLostError,
    StreamError,
    TogetherError,
)
from together_nb.values.chunk import Timings
from together_nb.values.families import continues_turn, recognise_refusal
from together_nb.wire.accumulator import Accumulator
from together_nb.wire.dialects import dialect_for, how_to_ask, says_something, stream_error
from together_nb.wire.error_words import LONGEST_WORDS, failure
from together_nb.wire.hints import improve_hint
from together_nb.wire.retry import NO_WAIT, Retries, tell
from together_nb.wire.sse import Payloads, in_groups
from together_nb.wire.status_errors import check_status, described, is_elsewhere, page_title

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from together_nb.values.chunk import Chunk, Usage
    from together_nb.values.completion import Completion
    from together_nb.values.request import CompletionRequest
    from together_nb.wire.endpoint import Endpoint
    from together_nb.wire.exchange import Exchange
    from together_nb.wire.retry import Wait
    from together_nb.wire.wiretap import Wiretap

_END_SECONDS = 5.0
_GUESS_SECONDS = 15.0  # in which a reply begins at an address that nobody wrote
_WHOLE_REPLY_LIMIT = 50_000_000
_SMALL_REPLY = 100_000  # bytes: a reply so small is parsed as often as a piece of it arrives
_BLANKS_LIMIT = 4096  # bytes that may come before the reply's kind is known
_BOM = b"\xef\xbb\xbf"
_OK = 200
_IS_STREAM = re.compile(r"(?:data|event|id|retry|error)?:")


class Account(Protocol):
    """What pays for answers, and counts them."""

    def check(self, price: tuple[float, float] | None) -> None:
        """Raise a `BudgetError` if nothing more of that price (US dollars per million tokens, in and out) may begin."""

    def note(self, model: str, usage: Usage | None, price: tuple[float, float] | None, *, whole: bool) -> None:
        """Count an answer."""


class Attempts:
    """The request of a `CompletionStream`, its replies, and the completion so far.

    Separate from the stream, and without a reference to it: dropping the stream ends the generator `run`, and with it
    the request, without the cyclic garbage collector.

    Parameters
    ----------
    request, endpoint, marks, account
        As for `CompletionStream`.
    """

    def __init__(
        self, request: CompletionRequest, endpoint: Endpoint, marks: dict[str, Any] | None, account: Account | None
    ) -> None:
        self.request = request
        self.endpoint = endpoint
        self.dialect = dialect_for(request.api)
        self.plain_payload = self.dialect.payload(request)
        self.notes = tuple(endpoint.family_of(request.model).notes(request.set_names, self.plain_payload, request.api))
        self.wiretap: Wiretap | None = None
        self.watched = True
        self.begun = False  # whether part of an answer has arrived, read or not
        self.wait: Wait | None = None
        self.continues_text = False  # whether the answer is the rest of a text
        self.accumulator = self._new_accumulator()
        self.marks = {"server": endpoint.server, **(marks or {})}
        self._account = account
        self._refused: frozenset[str] = frozenset()  # of this request
        self._refusal: APIStatusError | None = None  # the one that named them
        self._bases = endpoint.bases(self.dialect.path)  # where the API may be; the first is asked now
        self._answered = endpoint.base  # where it has answered before
        self._missing: TogetherError | None = None  # what the written one said, if the API is not there
        self._abrupt = False
        self._lock = threading.RLock()  # Ctrl-C may cancel it within
        self._stopped = False
        self.exchange = self._new_exchange()
        self._looking_up = CancelScope()  # for a hint, after the end
        self._started: float | None = None
        self._first: float | None = None
        self._last = 0.0  # of `monotonic`: when the last of the answer came
        self._ended: float | None = None
        self._created = ""
        self._cut = ""
        cancel_with_scope(self)

    def cancel(self) -> None:
        """Stop, from any thread: end the iteration, close the connection, keep what has arrived."""
        with self._lock:
            under_way: tuple[Exchange | Wait | CancelScope | None, ...] = (self._looking_up,)
            if self._ended is None:
                self._stopped = True
                under_way = (self.exchange, self.wait)
        for one in under_way:
            if one is not None:
                one.cancel()

    @property
    def cancelled(self) -> bool:
        """Whether it was stopped by `cancel`."""
        return self._stopped or self.exchange.cancelled

    @property
    def seconds(self) -> float:
        """Seconds from sending the request until now or its end; 0 before."""
        if self._started is None:
            return 0.0
        return (perf_counter() if self._ended is None else self._ended) - self._started

    @property
    def first_token(self) -> float | None:
        """Seconds from the request to the first piece of text or thinking; None before it."""
        return None if self._first is None or self._started is None else self._first - self._started

    @property
    def completion(self) -> Completion:
        """The completion so far."""
        note = " · ".join(filter(None, (self.marks.get("note"), *self.notes, self._turn_note)))
        completion = self.accumulator.completion(
            Timings(self.first_token, self.seconds),
            cancelled=self.cancelled,
            error=self._cut,
            created=self._created,
            abrupt=self._abrupt and not self.cancelled,
            **{**self.marks, "note": note},
        )
        self.endpoint.client.call_keys.add(completion, self.endpoint.key, self.endpoint.headers)
        return completion

    @property
    def payload(self) -> dict[str, Any]:
        """The body of the request, as the family of the server spells it."""
        return self._spelled(self._refused)

    def _spelled(self, refused: frozenset[str]) -> dict[str, Any]:
        refused |= self.endpoint.refused(self.request.model)
        return self.endpoint.family_of(self.request.model).spell(self.plain_payload, self.dialect.name, refused)

    @property
    def _turn_note(self) -> str:
        """What the footer says if the server began a new turn where an answer was to be continued."""
        if not (
            self.accumulator.has_text and continues_turn(self.plain_payload.get("messages"))
        ) or self.endpoint.family_of(self.request.model).continues_by(self.payload):
            return ""
        return "a new turn was begun: this server is not known to continue one"

    def run(self) -> Generator[Chunk, None, None]:
        """Send the request and yield the answer, chunk by chunk."""
        self.tell_notes()
        self._started = perf_counter()
        retries = Retries(self.endpoint.max_retries, self.endpoint.timeout)
        try:
            if self._account is not None:  # again: many streams may have been created before the first was paid for
                self._account.check(self.marks.get("price"))
            self._created = timestamp()
            with interrupt_message(lambda: stopped(kept=self.accumulator.chunks > 0)):
                while (wait := (yield from self._attempt(retries))) is not None:
                    self._again_after(wait)
        except TogetherError as error:
            self._cut = self._cut or _ending(error)
            error.completion = self.completion
            # Without the frames, which hold the server's raw text.
            raise error.with_traceback(None) from None
        except (KeyboardInterrupt, GeneratorExit):
            self.cancel()
            raise
        finally:
            for _ in self.accumulator.end():  # nothing is lost where nobody reads on
                pass
            if self._ended is None:
                self._ended = perf_counter()
            if self.wiretap is not None:
                self.wiretap.end(self.seconds)
            self._note_spent()

    def tell_notes(self) -> None:
        """Log what the server ignores, unless a view shows it; once in a session."""
        logged = self.endpoint.client.logged_notes
        for note in self.notes:
            if (self.endpoint.root, note) not in logged and tell(f"{self.endpoint.root}: {note}"):
                logged.add((self.endpoint.root, note))

    def _note_spent(self) -> None:
        """Record the cost if the server has begun to answer: it does not bill what it refuses."""
        if self._account is not None and (self.begun or self.exchange.status == _OK):
            price = self.marks.get("price")
            whole = not self._cut and not self.cancelled
            self._account.note(self.request.model, self.accumulator.usage, price, whole=whole)

    def _attempt(self, retries: Retries) -> Generator[Chunk, None, Wait | None]:
        """Send the request and yield the answer; return the wait before another attempt, or None for none."""
        exchange = self.exchange
        try:
            if not exchange.cancelled:
                exchange.open()
            self.endpoint.note_visit()
            check_status(exchange, self.endpoint)
            if self._guesses:  # somebody is there, and may think long
                exchange.limit(self.endpoint.timeout, monotonic() + 3 * self.endpoint.timeout)
            self.endpoint.note_answer(exchange.headers)
            self.endpoint.note_refused(self.request.model, self._refused)
            family = self.endpoint.family_of(self.request.model)
            self.accumulator.sums_usage = family.usage_per_choice and (self.request.sampling.n or 1) > 1
            if family.without_effect("n", self.request.api):
                self.accumulator.expected = 1
            yield from self._received(exchange)
        except TogetherError as error:
            self.endpoint.without_key_in(error)
            if self.cancelled:
                return None
            if self._respelled(error, exchange.call.payload):
                return NO_WAIT
            wait = self._wait_after(error, retries)
            if wait is None and self._moved(error):
                return NO_WAIT
            if wait is None and not self.cancelled:
                raise self._final(error) from None
            return wait
        except (KeyboardInterrupt, GeneratorExit):
            exchange.cancel()  # before closing, so that it counts as stopped
            raise
        finally:
            exchange.close()
        return None

    def _wait_after(self, error: TogetherError, retries: Retries) -> Wait | None:
        """Return the wait before the same request is sent again, or None."""
        if self.begun or (self._guesses and not (isinstance(error, APIStatusError) and error.from_api)):
            return None
        return retries.after(error)

    def _final(self, error: TogetherError) -> TogetherError:
        """Return the error with which the answer ends."""
        error = self._telling(error)
        self._ended = perf_counter()
        self._cut = _ending(error)
        if type(error) is not ConnectionLostError and isinstance(error, StreamError) and self.accumulator.chunks:
            error.hint = f"What came before it is kept. {error.hint}".strip()
        with self._looking_up:
            improve_hint(error, self.request, self.endpoint)
        return error

    def _respelled(self, error: TogetherError, sent: dict[str, Any]) -> bool:
        """Whether the error refuses fields that the family added, so that the request is sent again without them.

        Another request may have learned of it meanwhile: what counts is what this one sent.
        """
        if not isinstance(error, APIStatusError) or not error.fields:
            return False
        self.endpoint.recognise(recognise_refusal(error.message))
        added = {
            name
            for name, value in sent.items()
            if name not in self.plain_payload or self.plain_payload[name] is not value
        }
        refused = self._refused | (error.fields & added)
        if not error.fields & added or self._spelled(refused) == sent:
            return False
        self._refused, self._refusal = refused, error
        return True

    def _moved(self, error: TogetherError) -> bool:
        """Whether the error says that the API is not here, and it may be at another address, which is asked then."""
        base, written = self._bases[0], self.endpoint.written_base
        if self.begun or not is_elsewhere(error, written=base == written, answered=base == self._answered):
            return False
        self.endpoint.forget_base(base)
        if self._missing is None or base == written:
            self._missing = error
        self._bases = self._bases[1:]
        return bool(self._bases)

    @property
    def _guesses(self) -> bool:
        """Whether the next address is one that nobody wrote and at which there was no answer yet."""
        return bool(self._bases) and self._bases[0] not in (self.endpoint.written_base, self._answered)

    def _telling(self, error: TogetherError) -> TogetherError:
        """Return the error to raise: where another spelling or address did not help, the first error says why."""
        if self._refusal is not None and isinstance(error, APIStatusError) and error.fields & self._refused:
            return self._refusal
        return error if self._bases or self._missing is None else self._missing

    def _again_after(self, wait: Wait) -> None:
        """Wait, then start over with a new exchange; if stopped, cancel both."""
        if wait is not NO_WAIT:
            with self._lock:
                self.wait = wait
                if self._stopped:
                    wait.cancel()
            try:
                wait.sit_out()
            finally:
                self.wait = None
        exchange = self._new_exchange()
        with self._lock:
            self.exchange = exchange
            if self._stopped:
                exchange.cancel()
        self.accumulator = self._new_accumulator()
        if self.wiretap is not None:
            self.wiretap.end(self.seconds)

    def _new_accumulator(self) -> Accumulator:
        # An echoed prompt, and the rest of a text, may begin with such a tag, which is then none.
        within_text = self.continues_text or continues_turn(self.plain_payload.get("messages"))
        return Accumulator(self.request, tags=not (within_text or self.request.sampling.echo))

    def continue_text(self) -> None:
        """Take the answer for the rest of a text; call it before the first chunk is read."""
        self.continues_text = True
        self.accumulator = self._new_accumulator()

    def _new_exchange(self) -> Exchange:
        path = self.dialect.path
        endpoint = self.endpoint
        if self._guesses:
            endpoint = replace(endpoint, timeout=min(endpoint.timeout, _GUESS_SECONDS))
        return endpoint.exchange("POST", path, self.payload, self.plain_payload, base=self._bases[0])

    def _received(self, exchange: Exchange) -> Iterator[Chunk]:
        pieces = exchange.pieces() if self.wiretap is None else self._tapped(exchange.pieces(), self.wiretap)
        if not self.watched:
            pieces = in_groups(pieces, lambda: self.begun)
        start = _start(pieces)
        text = start.removeprefix(_BOM).lstrip()
        # The first byte tells the kind of reply; content types lie.
        whole = text.startswith((b"<", b"{", b"[")) and not text.startswith(b"[D")
        try:
            yield from (self._whole if whole else self._streamed)(exchange, itertools.chain((start,), pieces))
        except TogetherError:
            yield from self._rest()
            raise

    def _tapped(self, pieces: Iterator[bytes], wiretap: Wiretap) -> Iterator[bytes]:
        for piece in pieces:
            wiretap.add(piece, self.seconds)
            yield piece

    def _streamed(self, exchange: Exchange, pieces: Iterator[bytes]) -> Iterator[Chunk]:
        payloads = Payloads(pieces)
        arrived = False
        broke: APIConnectionError | None = None
        try:
            # More may have arrived together with the one at which it is cancelled. Unwatched, all came before that.
            for payload in itertools.takewhile(lambda _: not (exchange.cancelled and self.watched), payloads):
                arrived = True
                yield from self._taken(payload)
                self._set_limits(exchange)
        except APIConnectionError as error:
            broke = error
        if isinstance(broke, APITimeoutError):  # the last event may be whole, and only its blank line be awaited
            for payload in payloads.last():
                yield from self._taken(payload)
        yield from self._rest()
        # An answer with a finish reason is whole, even if the connection broke, unless each chunk has such a reason.
        finished = self.accumulator.finished and not (
            self.accumulator.went_on and broke is not None and not isinstance(broke, APITimeoutError)
        )
        if self.cancelled or payloads.terminated or finished:
            self._ended = None if self.cancelled else perf_counter()
            if payloads.terminated:
                exchange.finish()
            self._check_end()
            return
        if payloads.within_an_event and (arrived or broke is not None or not payloads.stray):
            self.begun = arrived = True
        if broke is not None:
            raise self._broken(broke, arrived=arrived)
        if arrived:
            raise self._lost(": the stream ended without its last message.", passing="the connection was lost")
        words = self.endpoint.without_key(payloads.stray)[:LONGEST_WORDS]
        raise APIResponseError(
            f"{exchange.url} answered, and sent no events ({described(exchange)}).{' ' * bool(words)}{words}",
            "Check that the base URL is that of an API that streams.",
        )

    def _check_end(self) -> None:
        """Mark an answer whose end has no reason; without any text it has failed."""
        self._abrupt = not (self.cancelled or self.accumulator.has_reason)
        if self._abrupt and not self.accumulator.has_words:
            raise StreamError("The server ended the answer without a word.", "Run it again.")

    def _broken(self, broke: APIConnectionError, *, arrived: bool) -> TogetherError:
        late = isinstance(broke, APITimeoutError)
        if not arrived or (late and not self.begun):
            return broke
        return self._lost(f". {broke.message}", broke.hint if late else "", passing=broke.passing)

    def _lost(self, how: str, hint: str = "", *, passing: str) -> ConnectionLostError:
        kept = "What came is kept." if self.accumulator.chunks else ""
        error = ConnectionLostError(
            f"The connection was lost before the answer was whole{how}", f"{kept} {hint}".strip()
        )
        error.passing = passing
        return error

    def _body(self, exchange: Exchange, pieces: Iterator[bytes]) -> bytearray:
        """Return such a reply, as far as it is needed to tell what it is."""
        body = bytearray()
        try:
            for piece in pieces:
                body += piece
                value, rest = _first_json(body) if len(body) <= _SMALL_REPLY else (None, "")
                if "\n" in rest or failure(value) is not None or len(body) > _WHOLE_REPLY_LIMIT:
                    break
                if isinstance(value, dict) and says_something(value):
                    exchange.limit(_END_SECONDS)
        except APIConnectionError:
            if _first_json(body)[0] is None and body.lstrip().startswith((b"{", b"[")):
                raise
        return body

    def _whole(self, exchange: Exchange, pieces: Iterator[bytes]) -> Iterator[Chunk]:
        """Read a reply that does not begin as a stream: keep its text, if any, and raise an error anyway."""
        body = self._body(exchange, pieces)
        value, rest = _first_json(body)
        if isinstance(value, list) and failure(value) is not None:
            raise stream_error(failure(value))
        if _IS_STREAM.match(rest):  # a stream after all
            yield from self._streamed(exchange, itertools.chain((bytes(body),), pieces))
            return
        if isinstance(value, dict):
            yield from self._taken(value)
            yield from self._rest()
        if rest.startswith("{"):
            raise APIResponseError(
                f"{exchange.url} sent JSON lines, where a stream of events was asked for.",
                f"{'Its first line is kept. ' * bool(self.accumulator.chunks)}"
                "Check the base URL: Ollama's, for one, ends in /v1.",
            )
        if self.accumulator.chunks:
            raise APIResponseError(
                f"{exchange.url} sent its answer in one piece, where a stream was asked for.",
                "The answer is kept. Check that the model and the server can stream.",
            )
        title = page_title(body.decode(errors="replace")) if value is None else ""
        raise APIResponseError(
            f"{exchange.url} answered with {described(exchange)}, not with a stream of events.{' ' * bool(title)}{title}",
            "Check the base URL: this looks like a web page or a log-in page, not an API."
            if value is None and not body.lstrip().startswith((b"{", b"["))
            else f"Check the base URL and the API ({how_to_ask()}).",
        )

    def _taken(self, payload: dict[str, Any]) -> Iterator[Chunk]:
        """Yield the chunks of a payload, adding each to the completion."""
        if not self.begun and says_something(payload):
            self._begin()
        try:
            for chunk in self.dialect.chunks(payload):
                # Events of an unusual shape are understood only by their dialect.
                if not self.begun and (chunk.says_something or chunk.finish_reason or chunk.usage):
                    self._begin()
                if self._first is None and chunk.says_something:
                    self._first = perf_counter()
                finished = self.accumulator.finished
                yield self.accumulator.add(chunk)
                if chunk.says_something or self.accumulator.finished > finished:
                    self._last = monotonic()  # after the time that its reader took
        except (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
            raise StreamError(
                f"The server sent something of a shape that is not the {self.dialect.name} API's ({error})."
            ) from None

    def _rest(self) -> Iterator[Chunk]:
        """Yield what the accumulator held back."""
        for chunk in self.accumulator.end():
            if not self.cancelled:
                yield chunk

    def _begin(self) -> None:
        """Mark the answer as begun: from now on there are no retries."""
        self.begun = True
        self._last = monotonic()
        if self.dialect.path.startswith("/v1/"):
            self.endpoint.note_base(self._bases[0])

    def _set_limits(self, exchange: Exchange) -> None:
        """Limit the wait for the next event: in mid-answer, and after the end, whose terminator may never come."""
        if self.accumulator.finished:
            # A reason before all of the answer is no sign of the end: such a server gets more time.
            sure = self.accumulator.has_words and not self.accumulator.went_on
            seconds = _END_SECONDS if sure else 2 * _END_SECONDS
            exchange.limit(seconds, self._last + seconds)
        elif self.begun:
            silence = self.endpoint.silence_timeout
            exchange.limit(silence, self._last + max(self.endpoint.timeout, silence))


def _start(pieces: Iterator[bytes]) -> bytes:
    """Read the first bytes of the reply, until they tell its kind."""
    start = b""
    for piece in pieces:
        start += piece
        # `[` may be the beginning of the terminator.
        says = start.removeprefix(_BOM).strip() not in (b"", b"[") and len(start) > len(_BOM)
        if says or len(start) > _BLANKS_LIMIT:
            break
    return start


def _first_json(body: bytearray) -> tuple[Any, str]:
    """Return the value of the JSON with which a reply begins, None if it is not whole, and the text after it."""
    text = body.decode("utf-8-sig", errors="replace").lstrip()
    try:
        value, end = json.JSONDecoder(strict=False).raw_decode(text)
    except (ValueError, RecursionError):
        return None, ""
    return value, text[end:].lstrip()


def _ending(error: TogetherError) -> str:
    """Return the footer's words for an `error` that cut the answer short."""
    if isinstance(error, BudgetError):
        return "not sent: the budget is spent"
    if isinstance(error, ConnectionLostError):
        return "connection lost"
    return "error from the server" if isinstance(error, (StreamError, APIStatusError)) else "failed"
