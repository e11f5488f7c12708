"""One completion as a stream that any thread can cancel."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from together_nb.run.attempts import Attempts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

    from together_nb.values.chunk import Chunk
    from together_nb.values.completion import Completion
    from together_nb.values.request import CompletionRequest
    from together_nb.wire.dialects import Dialect
    from together_nb.wire.endpoint import Endpoint
    from together_nb.wire.retry import Wait
    from together_nb.wire.wiretap import Wiretap


class CompletionStream:
    """A completion as it arrives: a context manager and an iterator of `Chunk`. `stream` makes one.

    The request is sent at the first `next`. One thread iterates; `cancel` and the attributes may be
    used by any other meanwhile.

    Parameters
    ----------
    request : CompletionRequest
        What to ask, with model and dialect chosen.
    endpoint : Endpoint
        Whom to ask.
    marks : dict or None
        Fields of `Completion` that are known beforehand (``price``, ``note``, ``filled``).

    Attributes
    ----------
    request : CompletionRequest
        What is asked.
    payload : dict
        The body of the HTTP request, as JSON has it.
    cancelled : bool
        Whether it was stopped by `cancel`.
    wait : Wait or None
        The pause before the request is sent again, while it lasts.
    begun : bool
        Whether anything of an answer has come, so that it is not to be asked for again.
    answered : bool
        Whether the server has begun to answer.
    chunks : int
        How many pieces of text or thinking have come; most servers send a token in each.
    seconds : float
        Seconds since the request was sent, up to its end; 0 before it is.
    first_token : float or None
        Seconds from the request to the first piece of text or thinking; None before it.
    completion : Completion
        What has come so far.
    wiretap : Wiretap or None
        What keeps the last lines of the reply as they come, if anything does. Set it before the first chunk is read.
    watched : bool
        Whether each chunk is wanted as soon as it has come. Set it before the first chunk is read.

    Raises
    ------
    InputError
        At once: the dialect cannot say what is asked. Nothing is sent. While iterating: the budget is spent.
    TogetherError
        While iterating: what went wrong; its `completion` is what came.

    Examples
    --------
    >>> from together_nb import stream
    >>> answer = stream("Once upon a time", max_tokens=20)
    >>> for chunk in answer:
    ...     if answer.chunks == 3:
    ...         answer.cancel()
    >>> answer.cancelled, answer.completion.ending, answer.completion.chunks
    (True, 'stopped by you', 3)
    """

    def __init__(self, request: CompletionRequest, endpoint: Endpoint, marks: dict[str, Any] | None = None) -> None:
        self._reader = Attempts(request, endpoint, marks)
        self._chunks = self._reader.run()
        self.request = request
        self.endpoint = endpoint
        self.dialect: Dialect = self._reader.dialect
        self.payload: dict[str, Any] = self._reader.payload
        self.unknown: tuple[str, ...] = ()  # what is not known of it while nothing may be sent

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
        # A generator that runs in another thread cannot be closed here; cancelled, it ends there.
        with contextlib.suppress(ValueError):
            self._chunks.close()

    def cancel(self) -> None:
        """Stop, from any thread: the iteration ends, the connection closes, what came is kept."""
        self._reader.cancel()

    @property
    def cancelled(self) -> bool:
        """Whether it was stopped by `cancel`."""
        return self._reader.cancelled

    @property
    def wait(self) -> Wait | None:
        """The pause before the request is sent again, while it lasts."""
        return self._reader.wait

    @property
    def begun(self) -> bool:
        """Whether anything of an answer has come, so that it is not to be asked for again."""
        return self._reader.begun

    @property
    def answered(self) -> bool:
        """Whether the server has begun to answer."""
        return self._reader.exchange.status > 0

    @property
    def chunks(self) -> int:
        """How many pieces of text or thinking have come; most servers send a token in each."""
        return self._reader.accumulator.chunks

    @property
    def seconds(self) -> float:
        """Seconds since the request was sent, up to its end; 0 before it is."""
        return self._reader.seconds

    @property
    def first_token(self) -> float | None:
        """Seconds from the request to the first piece of text or thinking; None before it."""
        return self._reader.first_token

    @property
    def completion(self) -> Completion:
        """What has come so far."""
        return self._reader.completion

    @property
    def wiretap(self) -> Wiretap | None:
        """What keeps the last lines of the reply as they come, if anything does. Set it before the first chunk is read."""
        return self._reader.wiretap

    @wiretap.setter
    def wiretap(self, wiretap: Wiretap) -> None:
        self._reader.wiretap = wiretap

    @property
    def watched(self) -> bool:
        """Whether each chunk is wanted as soon as it has come. Set it before the first chunk is read."""
        return self._reader.watched

    @watched.setter
    def watched(self, watched: bool) -> None:
        self._reader.watched = watched
