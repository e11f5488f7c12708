"""One request of a batch as a value to send to another process, and the function that answers it there.

A task is pickled, so it holds no stream and no `Key` (which refuses that), but what they are made of.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from together_nb.config.keys import CarriedKey, without_keys
from together_nb.errors import TogetherError
from together_nb.run.resolve import embedded_endpoint
from together_nb.wire.endpoint import Client, Endpoint
from together_nb.wire.retry import ignore_wait, listen_to_waits
from together_nb.wire.stream import CompletionStream

if TYPE_CHECKING:
    from together_nb.base.cancellation import CancelScope
    from together_nb.run.resolve import Context
    from together_nb.values.completion import Completion
    from together_nb.values.request import CompletionRequest


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
        Sent with the request, or None.
    connect_timeout, timeout, silence_timeout
        Seconds, as in `Endpoint`.
    pace
        Tokens a second of the embedded engine; None is as fast as possible.
    marks
        Fields of the completion that are known in advance.
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
    ticket: str = field(default_factory=lambda: uuid.uuid4().hex)

    @classmethod
    def of(cls, stream: CompletionStream, pace: float | None) -> Task:
        """Return the task of a stream that will not be read."""
        completion, endpoint = stream.completion, stream.endpoint
        own_engine = endpoint.embedded
        return cls(
            stream.request,
            None if own_engine else endpoint.root,
            None if own_engine or endpoint.key is None else CarriedKey(endpoint.key),
            endpoint.connect_timeout,
            endpoint.timeout,
            endpoint.silence_timeout,
            pace,
            {"price": completion.price, "note": completion.note, "filled": completion.filled},
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

    def stream(self, session: Context | None) -> CompletionStream:
        """Return the stream that answers it, without retries, since all of a batch wait together.

        Another process has no session: whoever sent the task counts its answer.
        """
        endpoint = Endpoint(
            Client() if session is None else session.client,
            self.root or "",
            None if self.key is None else self.key.unwrapped(),
            connect_timeout=self.connect_timeout,
            timeout=self.timeout,
            silence_timeout=self.silence_timeout,
            max_retries=0,
        )
        if self.root is None:
            endpoint = embedded_endpoint(endpoint, self.pace)
        account = None if session is None or not endpoint.bills else session.ledger
        return CompletionStream(self.request, endpoint, self.marks, account)

    def without_key(self, text: str) -> str:
        """Return `text` without the key and without long pieces of it."""
        text = without_keys(text)
        return text if self.key is None else self.key.unwrapped().blanked(text)


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
    """

    completion: Completion
    error: TogetherError | None = None
    begun: bool = False


def answer(task: Task, session: Context | None = None) -> Outcome:
    """Answer a task, in any process; a `TogetherError` becomes part of the outcome."""
    stream = task.stream(session)
    stream.watched = False
    error: TogetherError | None = None
    with listen_to_waits(ignore_wait), stream:
        try:
            for _ in stream:
                pass
        except TogetherError as failure:
            error = failure.with_traceback(None)
    return Outcome(stream.completion, error, stream.begun)


def answer_within(scope: CancelScope, task: Task, session: Context) -> Outcome:
    """Answer a task such that `scope` can stop it from another thread."""
    with scope:
        return answer(task, session)
