"""The errors of together_nb; each says in two or three lines what happened and what to do.

::

    TogetherError                      everything below; `except TogetherError` catches it all
    ├── InputError (ValueError)        the input cannot be sent; nothing was sent
    │   ├── BudgetError                the session's budget is spent
    │   ├── MissingKeyError            the model needs a key and there is none
    │   └── NotRecordedError           the request is not in the recording being played
    ├── NotRunError                    a batch was stopped before this item
    ├── APIConnectionError             the server was not reached, or never answered
    │   └── APITimeoutError            the server took longer than the time-out allows
    ├── APIStatusError                 the server answered with an error status
    │   ├── AuthenticationError        401
    │   ├── ContextLengthError         mostly 400, 403, 413: the prompt and max_tokens are too long for the model
    │   ├── NotFoundError              404: no such model, or no such address
    │   └── RateLimitError             429: more requests or tokens than the account allows
    ├── APIResponseError               a reply that is not a stream of events (HTML, JSON, …)
    └── StreamError                    the stream failed midway; what has arrived is kept
        ├── ConnectionLostError        it ended without its terminator
        └── ContextLengthStreamError   a ContextLengthError that a stream reported

In a notebook an error shows its lines and no traceback, and the cell fails
(IPython calls ``_render_traceback_``). `TogetherError.completion` holds what has arrived.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    class Partial(Protocol):
        """What an error says of a `Completion`, whose module imports this one."""

        model: str
        id: str
        chunks: int
        cancelled: bool
        error: str
        note: str
        created: str

        @property
        def request(self) -> Any:
            """What was asked."""

        @property
        def choices(self) -> Sequence[Any]:
            """The answers."""

        @property
        def usage(self) -> Any:
            """Tokens, as the server counted them, or None."""

        @property
        def timings(self) -> Any:
            """Seconds."""

        @property
        def text(self) -> str:
            """The text of the first choice."""

        @property
        def reasoning(self) -> str:
            """The thinking of the first choice."""

        @property
        def finish_reason(self) -> str | None:
            """Why the first choice ended, or None."""

        @property
        def tokens(self) -> Sequence[Any]:
            """The tokens of the first choice."""

        @property
        def cost(self) -> float | None:
            """US dollars, or None."""

        @property
        def ending(self) -> str:
            """Why it ended, in words."""

        @property
        def came_to_nothing(self) -> bool:
            """Whether nothing arrived."""

        def footer(self) -> str:
            """One line of plain text."""

        def to_dict(self) -> dict[str, Any]:
            """A JSON-able form."""

        def metadata(self) -> dict[str, Any]:
            """How it was made."""


class TogetherError(Exception):
    """Base of all errors of together_nb: ``except TogetherError`` catches each of them.

    The docstring of `together_nb.errors` lists the subclasses. `InputError`, also a ValueError, means that nothing was
    sent. A notebook shows the message and the hint without a traceback.

    Parameters
    ----------
    message : str
        What happened, one sentence or two.
    hint : str
        What to do about it; shown on a line of its own.
    completion : Completion or None
        What had arrived before the error.

    Attributes
    ----------
    passing : str
        Why sending the request again may succeed, in a few words; "" if it will not.
    retry_after : float or None
        Seconds to wait before that, from the server's ``Retry-After``.

    Examples
    --------
    >>> from together_nb import TogetherError, complete
    >>> try:
    ...     complete("Hello", model="meta-llama/Llama-3.3-70B-Instruct-Turbo")
    ... except TogetherError as error:
    ...     print(type(error).__name__, error.message, sep=": ")
    MissingKeyError: meta-llama/Llama-3.3-70B-Instruct-Turbo needs an API key, and none is set.
    """

    passing = ""
    retry_after: float | None = None

    def __init__(self, message: str, hint: str = "", *, completion: Partial | None = None) -> None:
        # Both may hold text from the server, and what shows an error (terminals, logs, nbconvert) obeys control codes.
        message = _visible(message)
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.completion = completion

    @property
    def hint(self) -> str:
        """What to do about it, in a sentence, or ""."""
        return self._hint

    @hint.setter
    def hint(self, hint: str) -> None:
        self._hint = _visible(hint)

    def reword(self, message: str) -> None:
        """Replace the message wherever the error is shown, and drop its cause and context.

        Parameters
        ----------
        message : str
            The new message.
        """
        self.message = _visible(message)
        self.args = (self.message, *self.args[1:])
        self.__cause__ = self.__context__ = None

    def __str__(self) -> str:
        return "\n".join(part for part in (self.message, self.hint) if part)

    def _render_traceback_(self) -> list[str]:
        return f"{type(self).__name__}: {self}".splitlines()

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.args, self.__dict__.copy()))


def _visible(text: str) -> str:
    from together_nb.base.escape import visible  # loading the extension need not wait for it

    return visible(text)


def _rebuild(cls: type[TogetherError], args: tuple[Any, ...], state: dict[str, Any]) -> TogetherError:
    error = cls.__new__(cls, *args)
    error.__dict__.update(state)
    error.args = args
    return error


class InputError(TogetherError, ValueError):
    """The input cannot be sent. Nothing was sent."""


class BudgetError(InputError):
    """The session has spent its budget. Nothing was sent."""


class MissingKeyError(InputError):
    """The model needs an API key, and none is known."""


class NotRecordedError(InputError):
    """The request is not in the recording being played. Nothing was sent."""


class NotRunError(TogetherError):
    """The batch ended before the turn of this item. Nothing was sent for it.

    Attributes
    ----------
    message : str
        What happened, in a sentence.
    hint : str
        What to do about it.
    completion : None
        Nothing had arrived.
    passing : str
        Always "".
    retry_after : None
        Always None: no server gave a number of seconds to wait.
    """

    def __init__(self) -> None:
        super().__init__("It was not run: the batch was stopped before.", "retry_failed() runs it.")


class APIConnectionError(TogetherError):
    """The server could not be reached, or closed the connection before it answered."""

    reached = True  # False if it is known that no server was
    lasting = False  # True if no other request to that address can succeed either


class APITimeoutError(APIConnectionError):
    """The server took longer than the time-out allows."""


class APIStatusError(TogetherError):
    """The server answered with an error status.

    Parameters
    ----------
    message : str
        What happened, one sentence or two.
    hint : str
        What to do about it; shown on a line of its own.
    status : int
        HTTP status code.
    completion : Completion or None
        What had arrived before the error.

    Attributes
    ----------
    fields : frozenset of str
        Fields of the request that the server's refusal (400 or 422) names.
    unknown_model : bool
        Whether the server says that it has no such model.
    loading : bool
        Whether the server says that it is loading the model.
    from_api : bool
        Whether it is an API's, and says more than that there is no such address.
    passing : str
        Why sending the request again may succeed, in a few words; "" if it will not.
    retry_after : float or None
        Seconds to wait before that, from the server's ``Retry-After``.
    """

    def __init__(self, message: str, hint: str = "", *, status: int, completion: Partial | None = None) -> None:
        super().__init__(message, hint, completion=completion)
        self.status = status
        self.fields: frozenset[str] = frozenset()
        self.unknown_model = False
        self.loading = False
        self.from_api = False


class AuthenticationError(APIStatusError):
    """401: the key is missing, mistyped or withdrawn."""


class ContextLengthError(APIStatusError):
    """The prompt and max_tokens are too long for the model: 403, 413, or what the server says with another status."""


class NotFoundError(APIStatusError):
    """404: the server knows no such model, or no such address."""


class RateLimitError(APIStatusError):
    """More requests or tokens than the account allows in a time: 429, or 413 where the server says so."""


class APIResponseError(TogetherError):
    """The server answered 200, and the reply is not a stream of events."""


class StreamError(TogetherError):
    """The stream failed midway; `completion` holds what has arrived."""


class ConnectionLostError(StreamError):
    """The stream ended before the answer did; `completion` holds what has arrived."""


class ContextLengthStreamError(StreamError, ContextLengthError):
    """The server reported in its stream that the context is full; `completion` holds what has arrived."""
