"""Runs requests: chooses model, server and dialect, pumps the stream into a view, keeps the history."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from together_nb.client import CompletionStream
from together_nb.completion import CompletionRequest
from together_nb.config import DEFAULT_BASE_URL, DEFAULT_MODEL, LOCAL_MODEL, Key, server_root, settings
from together_nb.endpoint import Endpoint, catalog, known_catalog
from together_nb.errors import (
    APIConnectionError,
    AuthenticationError,
    InputError,
    MissingKeyError,
    TogetherError,
    suggestion,
)
from together_nb.formats import AUTO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from together_nb.catalog import Model
    from together_nb.completion import Chunk, Completion

REPAINT_SECONDS = 0.06  # at most 17 a second: each sends a message or three, and a stream may send 25
TICK_SECONDS = 0.1  # a waiting view is told that time passes; also bounds Ctrl-C on Windows
_STOP_SECONDS = 2.0
LOCAL_NOTE = "a toy n-gram model; real ones: %together login"

history: list[Completion] = []
"""Every answer of this session, oldest first."""


class View(Protocol):
    """What draws an answer. All calls come from one thread, in this order."""

    def start(self, stream: CompletionStream) -> None:
        """Show that an answer is awaited."""

    def write(self, chunks: list[Chunk]) -> None:
        """Draw what has come since the last call; an empty list says that time has passed."""

    def finish(self, completion: Completion) -> None:
        """Leave what is to be saved."""


def open_stream(
    prompt: str = "",
    *,
    model: str | None = None,
    api: str = AUTO,
    system: str | None = None,
    messages: Iterable[dict[str, Any]] | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
    timeout: float | None = None,
    filled: tuple[str, ...] = (),
    **sampling: Any,
) -> CompletionStream:
    """The stream of a request whose model, server and dialect have been chosen; not yet sent.

    Parameters are those of `stream`; `filled` names what was filled in in the prompt.
    """
    if messages is not None:
        messages = _conversation(prompt, messages)
    elif not isinstance(prompt, str):
        raise InputError(f"The prompt must be a text, not {type(prompt).__name__}.", "Pass str(…) of it.")
    elif not prompt.strip():
        raise InputError("The prompt is empty.", "Write it below the line with %%together, or pass a text.")
    request = CompletionRequest(
        prompt=prompt,
        model=(model or "").strip(),
        api=api,
        system=system,
        messages=messages,
        sampling=settings.sampling.updated(sampling),
    )
    request, endpoint = resolved(request, base_url=base_url, api_key=api_key, timeout=timeout)
    kept = known_catalog(endpoint)
    row = None if kept is None else kept.get(request.model)
    marks = {
        "price": row.price if row is not None else None,
        "note": LOCAL_NOTE if request.model == LOCAL_MODEL else "",
        "filled": filled,
    }
    return CompletionStream(request, endpoint, marks)


def resolved(
    request: CompletionRequest,
    *,
    base_url: str | None = None,
    api_key: str | None = None,
    timeout: float | None = None,
) -> tuple[CompletionRequest, Endpoint]:
    """`request` with its model and dialect chosen, and the server that it goes to.

    Raises
    ------
    MissingKeyError
        Together's service is asked for a model, and there is no key.
    InputError
        The base URL is none, or a server of another kind was given and no model.
    """
    base = base_url or settings.chosen_base_url
    key = Key(api_key, "the argument api_key") if api_key is not None else settings.api_key
    endpoint = Endpoint(
        server_root(base or DEFAULT_BASE_URL), key, settings.connect_timeout, _seconds(timeout, settings.timeout)
    )
    model = request.model or settings.chosen_model or ""
    if not model and not endpoint.is_together:
        model = _only_model(endpoint)
    elif not model:
        model = LOCAL_MODEL if key is None else DEFAULT_MODEL
    if model == LOCAL_MODEL and endpoint.is_together:
        endpoint = _embedded(endpoint)
    if endpoint.is_together and key is None:
        without = suggestion(model, [LOCAL_MODEL]) or f"Without a key there is -m {LOCAL_MODEL}, on this machine."
        raise MissingKeyError(
            f"{model} needs an API key, and none is set.", f"{without} `%together login` takes a key."
        )
    return replace(request, model=model, api=_api(request, model, endpoint)), endpoint


def _conversation(prompt: str, messages: Iterable[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    if prompt:
        raise InputError("A prompt and messages were given.", "Put the prompt in the messages, as the last of them.")
    turns = tuple(messages)
    if not turns or not all(isinstance(turn, dict) and isinstance(turn.get("role"), str) for turn in turns):
        raise InputError(
            "messages must be a list of dicts, and not an empty one.",
            'One looks like {"role": "user", "content": "Hello"}.',
        )
    return turns


def standing() -> tuple[str, str]:
    """The model and the server that a request without options would go to; asks nobody."""
    root = server_root(settings.chosen_base_url or DEFAULT_BASE_URL)
    model = settings.chosen_model
    if model is None and Endpoint(root).is_together:
        model = LOCAL_MODEL if settings.api_key is None else DEFAULT_MODEL
    if model == LOCAL_MODEL and Endpoint(root).is_together:
        return model, "the embedded engine, on this machine"
    return model or "the server's only one, or -m MODEL", root


def _seconds(timeout: float | None, default: float) -> float:
    if timeout is None:
        return default
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0:
        raise InputError(
            f"timeout must be a number of seconds over 0, not {timeout!r}.", "Leave it out for the default."
        )
    return float(timeout)


def _embedded(endpoint: Endpoint) -> Endpoint:
    """The embedded engine's server, started if need be. It is never sent a key."""
    from together_nb.local.server import running_server

    server = running_server()
    server.tokens_per_second = settings.local_tokens_per_second or None
    return replace(endpoint, root=server.base_url, key=None)


def _only_model(endpoint: Endpoint) -> str:
    """The model of a server that has one."""
    offered = [row.id for row in catalog(endpoint).callable()]
    if len(offered) == 1:
        return offered[0]
    some = f" It has {', '.join(offered[:3])}{', …' if len(offered) > 3 else ''}." if offered else ""  # noqa: PLR2004
    raise InputError(
        f"{endpoint.root} needs to be told which model to use.{some}", "Add -m MODEL, or set TOGETHER_MODEL."
    )


def _api(request: CompletionRequest, model: str, endpoint: Endpoint) -> str:
    """The dialect: as asked, or by what the request holds and what type the list says the model is."""
    if request.api != AUTO:
        return request.api
    if request.system is not None or request.messages is not None:
        return "chat"
    try:
        row = catalog(endpoint).get(model)
    except (APIConnectionError, AuthenticationError):
        raise
    except TogetherError:
        row = None  # a server without a list is asked for a chat, as most are
    return "chat" if row is None else row.api


def models(
    text: str = "", *, base_url: str | None = None, api_key: str | None = None, fresh: bool = False
) -> list[Model]:
    """The models of the server in use.

    Parameters
    ----------
    text
        Only those whose id or name contains it.
    base_url, api_key
        Another server and key than the settings'.
    fresh
        Fetch the list again.

    Returns
    -------
    list of Model
        Rows of every type; `Model.writes_text` tells those that a prompt fits.

    Raises
    ------
    TogetherError
        The list could not be had.
    """
    base = base_url or settings.chosen_base_url
    key = Key(api_key, "the argument api_key") if api_key is not None else settings.api_key
    endpoint = Endpoint(server_root(base or DEFAULT_BASE_URL), key, settings.connect_timeout, settings.timeout)
    if endpoint.is_together and key is None:
        endpoint = _embedded(endpoint)
    needle = text.lower()
    rows = catalog(endpoint, fresh=fresh).models
    return [row for row in rows if needle in row.id.lower() or needle in row.display_name.lower()]


def stream(
    prompt: str = "",
    *,
    model: str | None = None,
    api: str = AUTO,
    system: str | None = None,
    messages: Iterable[dict[str, Any]] | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
    timeout: float | None = None,
    **sampling: Any,
) -> CompletionStream:
    """An answer as it arrives: iterate over its chunks; leaving the ``with`` block ends it.

    Parameters
    ----------
    prompt
        The text to continue, or the user's turn of a chat; sent as it stands.
    model
        Model id. Without one: `settings.model`, ``TOGETHER_MODEL``, or the default, which is
        ``local/ngram`` where there is no key.
    api
        ``chat``, ``completions``, ``inference``, or ``auto``: by the model's type.
    system
        System prompt of a chat.
    messages
        A whole conversation, ``{"role": …, "content": …}`` each, in place of `prompt`.
    base_url
        Another server than the settings', with ``/v1`` or without.
    api_key
        Another key than the settings'.
    timeout
        Seconds of silence after which the server is given up.
    **sampling
        Sampling parameters (`SamplingParams`); what is not given is taken from `settings`, and
        None unsets it. Unset is not sent.

    Returns
    -------
    CompletionStream
        Nothing is sent before the first chunk is asked for. `CompletionStream.cancel` ends it
        from any thread; `CompletionStream.completion` is what has come so far.

    Raises
    ------
    InputError
        At once: something in the request cannot be sent.
    TogetherError
        While iterating: what went wrong; its `completion` is what came.

    Examples
    --------
    >>> with stream("Once upon a time", max_tokens=40) as chunks:  # doctest: +SKIP
    ...     for chunk in chunks:
    ...         print(chunk.text, end="", flush=True)
    """
    return open_stream(
        prompt, model=model, api=api, system=system, messages=messages, base_url=base_url, api_key=api_key,
        timeout=timeout, **sampling,
    )  # fmt: skip


def complete(
    prompt: str = "",
    *,
    model: str | None = None,
    api: str = AUTO,
    system: str | None = None,
    messages: Iterable[dict[str, Any]] | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
    timeout: float | None = None,
    **sampling: Any,
) -> Completion:
    """An answer, whole. It is also added to `history`.

    Parameters
    ----------
    prompt, model, api, system, messages, base_url, api_key, timeout, **sampling
        As for `stream`.

    Returns
    -------
    Completion
        The answer; it shows itself in a notebook.

    Raises
    ------
    TogetherError
        What went wrong; its `completion` is what came.
    """
    with stream(
        prompt, model=model, api=api, system=system, messages=messages, base_url=base_url, api_key=api_key,
        timeout=timeout, **sampling,
    ) as opened:  # fmt: skip
        try:
            for _ in opened:
                pass
        except BaseException:
            opened.cancel()
            raise
        finally:
            completion = opened.completion
            history.append(completion)
    return completion


def run(opened: CompletionStream, view: View, keep: Callable[[Completion], None] = history.append) -> Completion:
    """Stream into a view until the end, an error or Ctrl-C; what came is drawn and kept in each case.

    Parameters
    ----------
    opened
        The stream; it is read in a thread of its own, so that the view can be drawn when nothing
        comes and Ctrl-C is never waited for.
    view
        What draws it.
    keep
        Called with the completion, whole or not, before this returns or raises.

    Raises
    ------
    TogetherError
        What went wrong; its `completion` is what came.
    KeyboardInterrupt
        Ctrl-C or the notebook's ■.
    """
    pump = _Pump(opened)
    try:
        try:
            view.start(opened)
            pump.start()
            while True:
                pump.wait(TICK_SECONDS)
                ended = pump.ended  # looked at first, so that what came before the end is taken below
                view.write(pump.take())
                if ended:
                    break
                pump.pause(REPAINT_SECONDS)
        except BaseException:
            opened.cancel()
            pump.join(_STOP_SECONDS)
            view.write(pump.take())
            raise
        finally:
            completion = opened.completion
            keep(completion)
            view.finish(completion)
    except KeyboardInterrupt as interrupt:
        # The cell fails as interrupted, so that Run All stops, and says so in a line.
        line = "KeyboardInterrupt: stopped by you; what came is kept."
        interrupt._render_traceback_ = lambda: [line]  # type: ignore[attr-defined]
        raise
    if pump.error is not None:
        if isinstance(pump.error, TogetherError):
            pump.error.completion = completion
        raise pump.error
    return completion


class _Pump(threading.Thread):
    """Reads a stream in a thread of its own; another takes what has come."""

    def __init__(self, opened: CompletionStream) -> None:
        super().__init__(name="together_nb stream", daemon=True)
        self.error: BaseException | None = None
        self._stream = opened
        self._inbox: deque[Chunk] = deque()
        self._arrived = threading.Event()
        self._ended = threading.Event()

    def run(self) -> None:
        inbox, arrived = self._inbox, self._arrived
        try:
            for chunk in self._stream:
                if chunk.text or chunk.reasoning:
                    inbox.append(chunk)
                    if not arrived.is_set():
                        arrived.set()
        except BaseException as error:  # noqa: BLE001  (raised again in the thread that waits)
            self.error = error
        finally:
            self._ended.set()
            arrived.set()

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self._ended.is_set()

    def wait(self, seconds: float) -> None:
        """Until something has come, or the end, or `seconds` have passed."""
        self._arrived.wait(seconds)

    def pause(self, seconds: float) -> None:
        """For `seconds`, or until the end."""
        self._ended.wait(seconds)

    def take(self) -> list[Chunk]:
        """What has come since it was last taken."""
        self._arrived.clear()
        if self._ended.is_set():
            self._arrived.set()
        chunks = []
        while self._inbox:
            chunks.append(self._inbox.popleft())
        return chunks

    def join(self, timeout: float | None = None) -> None:
        if self.ident is not None:
            super().join(timeout)
