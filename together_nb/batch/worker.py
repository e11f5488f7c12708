"""One request of a batch as a value to send to another process, and the function that answers it there.

A task is pickled, so it holds no stream and no `Key` (which refuses that), but what they are made of.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from together_nb.config.keys import CarriedKey
from together_nb.errors import TogetherError
from together_nb.run.resolve import embedded_endpoint
from together_nb.values.families import UNKNOWN
from together_nb.wire.endpoint import Client, Endpoint
from together_nb.wire.retry import ignore_wait, listen_to_waits
from together_nb.wire.stream import CompletionStream
from together_nb.wire.transport import Network

if TYPE_CHECKING:
    from together_nb.base.cancellation import CancelScope
    from together_nb.run.resolve import Context
    from together_nb.values.chunk import Usage
    from together_nb.values.completion import Completion
    from together_nb.values.request import CompletionRequest
    from together_nb.wire.attempts import Account
    from together_nb.wire.transport import Transport


@dataclass(frozen=True)
class Task:
    """One request, with model, server and dialect chosen.

    Parameters
    ----------
    request
        The request.
    root
        The server; None is the embedded engine of the process that answers it, since the address of
        this process's engine is useless elsewhere.
    key
        The key and the headers, sent with the request; None for the embedded engine, which has its own.
    connect_timeout, timeout, silence_timeout
        Seconds, as in `Endpoint`.
    pace
        Tokens a second of the embedded engine; None is as fast as possible.
    marks
        Fields of the completion that are known in advance.
    family
        The server's family; None if it was not recognised.
    refused
        The fields that the server has refused.
    base
        The base URL at which the server has answered; "" before that.
    ticket
        Distinguishes this attempt from others. Dask returns a cached result if a function is called with
        the same arguments again, but an answer requested twice must be sampled twice.
    """

    request: CompletionRequest
    root: str | None
    key: CarriedKey | None
    connect_timeout: float
    timeout: float
    silence_timeout: float
    pace: float | None
    marks: dict[str, Any]
    family: str | None = None
    refused: frozenset[str] = frozenset()
    base: str = ""
    ticket: str = field(default_factory=lambda: uuid.uuid4().hex)

    @classmethod
    def of(cls, stream: CompletionStream, pace: float | None) -> Task:
        """Return the task of a stream that will not be read."""
        endpoint, recognition = stream.endpoint, stream.endpoint.recognition
        own_engine = endpoint.embedded
        return cls(
            stream.request,
            None if own_engine else endpoint.root,
            None if own_engine else CarriedKey(endpoint.key, endpoint.headers),
            endpoint.connect_timeout,
            endpoint.timeout,
            endpoint.silence_timeout,
            pace,
            stream.marks,
            None if recognition is UNKNOWN else recognition.family.name,
            endpoint.refused(stream.request.model),
            endpoint.base,
        )

    def again(self) -> Task:
        """Return a copy with a new ticket."""
        return replace(self, ticket=uuid.uuid4().hex)

    def portable(self) -> Task:
        """Return a copy without the class of a pydantic model, which a worker may lack and does not need."""
        schema = self.request.schema
        if schema is None or schema.model is None:
            return self
        return replace(self, request=replace(self.request, schema=replace(schema, model=None)))

    def stream(self, client: Client, transport: Transport, account: Account) -> CompletionStream:
        """Return the stream that answers it, without retries, since all of a batch wait together."""
        endpoint = Endpoint(
            client,
            self.root or "",
            connect_timeout=self.connect_timeout,
            timeout=self.timeout,
            silence_timeout=self.silence_timeout,
            max_retries=0,
            family_name=self.family,
            transport=transport,
        )
        if self.key is not None:
            key, headers = self.key.unwrapped()
            endpoint = replace(endpoint, key=key, headers=headers)
        endpoint.note_refused(self.request.model, self.refused)
        if self.base:
            endpoint.note_base(self.base)
        if self.root is None:
            endpoint = embedded_endpoint(endpoint, self.pace)
        return CompletionStream(self.request, endpoint, self.marks, account if endpoint.bills else None)


@dataclass(frozen=True)
class Outcome:
    """The result of a task.

    Parameters
    ----------
    completion
        The answer, whole or partial.
    error
        The error that ended it, or None.
    begun
        Whether part of an answer has arrived, so that the request is not retried.
    refused
        The fields that the server has refused.
    base
        The base URL at which the server has answered.
    calls
        What another process, which has no ledger, counted: the arguments of `Ledger.note`.
    """

    completion: Completion
    error: TogetherError | None = None
    begun: bool = False
    refused: frozenset[str] = frozenset()
    base: str = ""
    calls: tuple[tuple[str, Usage | None, tuple[float, float] | None, bool], ...] = ()


class _Tally:
    """Counts the answers of another process."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Usage | None, tuple[float, float] | None, bool]] = []

    def check(self, price: tuple[float, float] | None) -> None:
        """Whoever sent the task has checked."""

    def note(self, model: str, usage: Usage | None, price: tuple[float, float] | None, *, whole: bool) -> None:
        """As `Ledger.note`."""
        self.calls.append((model, usage, price, whole))


def answer(task: Task) -> Outcome:
    """Answer a task in another process, which has no session."""
    tally = _Tally()
    outcome = _read(task.stream(Client(), Network(), tally))
    return replace(outcome, calls=tuple(tally.calls))


def answer_within(scope: CancelScope, task: Task, session: Context, transport: Transport) -> Outcome:
    """Answer a task for a session of this process, such that `scope` can stop it from another thread."""
    with scope:
        return _read(task.stream(session.client, transport, session.ledger))


def _read(stream: CompletionStream) -> Outcome:
    """Read a stream to its end; a `TogetherError` becomes part of the outcome."""
    stream.watched = False
    error: TogetherError | None = None
    with listen_to_waits(ignore_wait), stream:
        try:
            for _ in stream:
                pass
        except TogetherError as failure:
            error = failure.with_traceback(None)
    refused = stream.endpoint.refused(stream.request.model)
    return Outcome(stream.completion, error, stream.begun, refused, stream.endpoint.base)
