"""One completion as a stream that any thread can cancel."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from together_nb.wire.attempts import Attempts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

    from together_nb.values.chunk import Chunk
    from together_nb.values.completion import Completion
    from together_nb.values.request import CompletionRequest
    from together_nb.wire.attempts import Account
    from together_nb.wire.dialects import Dialect
    from together_nb.wire.endpoint import Endpoint
    from together_nb.wire.retry import Wait
    from together_nb.wire.wiretap import Wiretap


class CompletionStream:
    """A completion as it arrives: a context manager and an iterator of `Chunk`. `stream` returns one.

    The request is sent at the first `next`. One thread iterates; any other may use `cancel` and the
    attributes meanwhile.

    Parameters
    ----------
    request : CompletionRequest
        The request, with model and dialect chosen.
    endpoint : Endpoint
        Where to send it.
    marks : dict or None
        Fields of `Completion` that are known in advance (``price``, ``note``, ``filled``).
    account : Account or None
        What counts the answer; None if it costs nothing and is not counted.

    Attributes
    ----------
    request : CompletionRequest
        The request.
    payload : dict
        The body of the HTTP request, as JSON.
    url : str
        The address of the HTTP request.
    notes : tuple of str
        What to tell the user before the answer comes.
    marks : dict
        The fields of its completion that were known in advance.
    cancelled : bool
        Whether it was stopped by `cancel`.
    wait : Wait or None
        The pause before a retry, while it lasts.
    begun : bool
        Whether part of an answer has arrived, so that the request is not retried.
    answered : bool
        Whether the server has begun to answer.
    chunks : int
        How many pieces of text or thinking have arrived; most servers send a token in each.
    seconds : float
        Seconds from sending the request until now or its end; 0 before.
    first_token : float or None
        Seconds from the request to the first piece of text or thinking; None before it.
    completion : Completion
        The completion so far.
    wiretap : Wiretap or None
        The tap that keeps the reply's last lines, or None. Set it before the first chunk is read.
    watched : bool
        Whether each chunk is needed as soon as it arrives. Set it before the first chunk is read.

    Raises
    ------
    InputError
        At once: the dialect cannot express the request. While iterating: the budget is spent. Nothing is sent.
    TogetherError
        While iterating: the request failed; the error's `completion` is the partial.

    Examples
    --------
    >>> from together_nb import stream
    >>> answer = stream("Once upon a time", max_tokens=20, seed=1)
    >>> for chunk in answer:
    ...     if answer.chunks == 3:
    ...         answer.cancel()
    >>> answer.cancelled, answer.completion.ending, answer.completion.chunks
    (True, 'stopped by you', 3)
    """

    def __init__(
        self,
        request: CompletionRequest,
        endpoint: Endpoint,
        marks: dict[str, Any] | None = None,
        account: Account | None = None,
    ) -> None:
        self._reader = Attempts(request, endpoint, marks, account)
        self._chunks = self._reader.run()
        self.request = request
        self.endpoint = endpoint
        self.dialect: Dialect = self._reader.dialect
        self.nature = ""  # what kind of model answers, if that is to be said before its first word
        self.loading = ""  # said until then, if the model is not loaded yet
        self.unknown: tuple[str, ...] = ()  # what an offline stream leaves open

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        return next(self._chunks)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.cancel()
        # A generator that runs in another thread cannot be closed here; `cancel` ends it there.
        with contextlib.suppress(ValueError):
            self._chunks.close()

    @property
    def payload(self) -> dict[str, Any]:
        """The body of the HTTP request, as JSON."""
        return self._reader.payload

    @property
    def url(self) -> str:
        """The address of the HTTP request."""
        return self._reader.exchange.url

    @property
    def notes(self) -> tuple[str, ...]:
        """What to tell the user before the answer comes."""
        return tuple(filter(None, (self.nature, "" if self.chunks else self.loading, *self._reader.notes)))

    @property
    def marks(self) -> dict[str, Any]:
        """The fields of its completion that were known in advance."""
        return self._reader.marks

    def continue_text(self) -> None:
        """Take the answer for the rest of a text, in which a `<think>` tag is text; before the first chunk is read."""
        self._reader.continue_text()

    def tell_notes(self) -> None:
        """Log the notes, once in a session, unless a view shows them. Sending the request does so too."""
        self._reader.tell_notes()

    def cancel(self) -> None:
        """Stop, from any thread: end the iteration, close the connection, keep what has arrived."""
        self._reader.cancel()

    @property
    def cancelled(self) -> bool:
        """Whether it was stopped by `cancel`."""
        return self._reader.cancelled

    @property
    def wait(self) -> Wait | None:
        """The pause before a retry, while it lasts."""
        return self._reader.wait

    @property
    def begun(self) -> bool:
        """Whether part of an answer has arrived, so that the request is not retried."""
        return self._reader.begun

    @property
    def answered(self) -> bool:
        """Whether the server has begun to answer."""
        return self._reader.exchange.status > 0

    @property
    def chunks(self) -> int:
        """How many pieces of text or thinking have arrived; most servers send a token in each."""
        return self._reader.accumulator.chunks

    @property
    def seconds(self) -> float:
        """Seconds from sending the request until now or its end; 0 before."""
        return self._reader.seconds

    @property
    def first_token(self) -> float | None:
        """Seconds from the request to the first piece of text or thinking; None before it."""
        return self._reader.first_token

    @property
    def completion(self) -> Completion:
        """The completion so far."""
        return self._reader.completion

    @property
    def wiretap(self) -> Wiretap | None:
        """The tap that keeps the reply's last lines, or None. Set it before the first chunk is read."""
        return self._reader.wiretap

    @wiretap.setter
    def wiretap(self, wiretap: Wiretap) -> None:
        self._reader.wiretap = wiretap

    @property
    def watched(self) -> bool:
        """Whether each chunk is needed as soon as it arrives. Set it before the first chunk is read."""
        return self._reader.watched

    @watched.setter
    def watched(self, watched: bool) -> None:
        self._reader.watched = watched
