"""One request of a batch as a value that another process can be given, and what answers it there.

A task is pickled: so it holds no stream and no `Key`, which refuses that, but what they are made of.
"""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from together_nb.config.keys import CarriedKey
from together_nb.config.settings import settings
from together_nb.errors import TogetherError
from together_nb.run.resolve import embedded_endpoint, is_embedded
from together_nb.run.stream import CompletionStream
from together_nb.wire.endpoint import Endpoint
from together_nb.wire.retry import ignore_wait, listen_to_waits

if TYPE_CHECKING:
    from together_nb.base.cancellation import CancelScope
    from together_nb.values.completion import Completion
    from together_nb.values.request import CompletionRequest

HERE = uuid.uuid4().hex  # tells this process from others, its forks by their number


@dataclass(frozen=True)
class Task:
    """One request, its model, server and dialect chosen.

    Parameters
    ----------
    request
        What is asked.
    root
        The server; None is the embedded engine of whatever process answers it, since the address of
        this one's means nothing elsewhere.
    key
        Sent with the request, or None.
    connect_timeout, timeout, silence_timeout
        Seconds, as in `Endpoint`.
    pace
        Tokens a second of the embedded engine; None is as fast as it can.
    marks
        What is known of the completion beforehand.
    ticket
        Tells this try from others. Dask gives the answer that it has where a function is called with
        the same arguments again, and an answer that was drawn twice is to be drawn twice.
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
    def of(cls, stream: CompletionStream) -> Task:
        """The task of a stream that is not going to be read."""
        completion, endpoint = stream.completion, stream.endpoint
        own_engine = is_embedded(stream)
        return cls(
            stream.request,
            None if own_engine else endpoint.root,
            None if own_engine or endpoint.key is None else CarriedKey(endpoint.key),
            endpoint.connect_timeout,
            endpoint.timeout,
            endpoint.silence_timeout,
            settings.local_tokens_per_second or None,
            {"price": completion.price, "note": completion.note, "filled": completion.filled},
        )

    def again(self) -> Task:
        """The same once more."""
        return replace(self, ticket=uuid.uuid4().hex)

    def portable(self) -> Task:
        """The same without the class of a pydantic model, which a worker may not have and does not need."""
        schema = self.request.schema
        if schema is None or schema.model is None:
            return self
        return replace(self, request=replace(self.request, schema=replace(schema, model=None)))

    def stream(self) -> CompletionStream:
        """The stream that answers it; a failure is not tried again there, since all of a batch wait together."""
        endpoint = Endpoint(
            self.root or "",
            None if self.key is None else self.key.unwrapped(),
            connect_timeout=self.connect_timeout,
            timeout=self.timeout,
            silence_timeout=self.silence_timeout,
            max_retries=0,
        )
        if self.root is None:
            endpoint = embedded_endpoint(endpoint, self.pace)
        return CompletionStream(self.request, endpoint, self.marks)

    def without_key(self, text: str) -> str:
        """`text` without the key and without long pieces of it."""
        text = settings.without_keys(text)
        return text if self.key is None else self.key.unwrapped().blanked(text)


@dataclass(frozen=True)
class Outcome:
    """What came of a task.

    Parameters
    ----------
    completion
        The answer, whole or as far as it came.
    error
        What it ended with, or None.
    begun
        Whether anything of an answer has come, so that it is not to be asked for again.
    process
        Where it was answered: `HERE` and the process's number.
    """

    completion: Completion
    error: TogetherError | None = None
    begun: bool = False
    process: tuple[str, int] = field(default_factory=lambda: (HERE, os.getpid()))


def answer(task: Task) -> Outcome:
    """What comes of a task, in whatever process; an error of together_nb is part of it."""
    stream = task.stream()
    stream.watched = False
    error: TogetherError | None = None
    with listen_to_waits(ignore_wait), stream:
        try:
            for _ in stream:
                pass
        except TogetherError as failure:
            error = failure.with_traceback(None)
    return Outcome(stream.completion, error, stream.begun)


def answer_within(scope: CancelScope, task: Task) -> Outcome:
    """The same, such that `scope` can end it from another thread."""
    with scope:
        return answer(task)
