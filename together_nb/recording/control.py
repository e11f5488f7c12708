"""Record what goes over the wire, and replay it: `record`, `replay`, `stop`.

Replayed bytes take the same path as live ones, so events, dialects, views, retries and errors are
the original ones. A process does at most one of the two at a time. The key is in no file.
"""

from __future__ import annotations

import itertools
import math
import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from together_nb.base.fork import after_fork
from together_nb.base.wording import count
from together_nb.config.addresses import DEFAULT_BASE_URL, TOGETHER_HOSTS
from together_nb.config.settings import DEFAULT_MODEL, LOCAL_MODEL, settings
from together_nb.errors import InputError
from together_nb.recording.entry import RECORDING
from together_nb.recording.player import Replay
from together_nb.recording.recorder import Recorder
from together_nb.storage import files
from together_nb.wire import transport

if TYPE_CHECKING:
    from pathlib import Path


_numbers = itertools.count(1)
_lock = threading.Lock()


def current() -> Recorder | Replay | None:
    """The recording being made or replayed, or None."""
    now = transport.current()
    return now if isinstance(now, (Recorder, Replay)) else None


def _set(now: Recorder | Replay | None) -> None:
    if now is not None:
        now.name = f"{RECORDING} {next(_numbers)} "
    transport.use(now or transport.NETWORK)


def _default_model() -> str:
    """The model of a request that names none; "" if the server must be asked."""
    if settings.chosen_model:
        return settings.chosen_model
    if _host(settings.chosen_base_url or DEFAULT_BASE_URL) not in TOGETHER_HOSTS:
        return ""
    return LOCAL_MODEL if settings.api_key is None else DEFAULT_MODEL


def record(path: str | Path, *, force: bool = False) -> str:
    """Record each exchange with a server from now on: the request and each byte of the reply, with its time.

    `recording.stop` or ``%together record off`` ends it. The key is not in the file.

    Parameters
    ----------
    path : str or Path
        The file, which must not exist.
    force : bool
        Replace it if it does.

    Returns
    -------
    str
        A message for the user.

    Raises
    ------
    InputError
        The file exists or cannot be created, or a replay is on.

    See Also
    --------
    replay : Answers from the file.

    Examples
    --------
    >>> from together_nb import complete, record, recording
    >>> message = record("lesson.jsonl")
    >>> answer = complete("Alan Turing was", max_tokens=5)
    >>> recording.stop().startswith("The recording has ended")
    True
    """
    file = _file(path, "record")
    with _lock:
        before = current()
        if isinstance(before, Replay):
            raise InputError(
                f"{before.path} is played back; nothing new is to be recorded.",
                "End that with `%together replay off`.",
            )
        recorder = Recorder(file, _default_model(), force=force)
        if before is not None and before.path == file:
            before.replaced = True
        _set(recorder)
    ended = "" if before is None else f"The recording before has ended: {before} "
    return f"{ended}What is asked from now on is recorded in {file}; `%together record off` ends it."


def replay(path: str | Path, *, speed: float = 1.0) -> str:
    """Answer each request from a recording from now on, without a key or a network.

    `recording.stop` or ``%together replay off`` ends it.

    Parameters
    ----------
    path : str or Path
        A file that `record` made.
    speed : float
        Speed factor: 1 is the original pace, 2 is twice as fast, 0 does not wait.

    Returns
    -------
    str
        A message for the user.

    Raises
    ------
    InputError
        The file is not a recording, the speed is invalid, or a recording is on.

    See Also
    --------
    record : Writes the file.

    Examples
    --------
    >>> from together_nb import complete, record, recording, replay
    >>> message = record("lesson.jsonl")
    >>> answer = complete("Alan Turing was", max_tokens=5)
    >>> message = recording.stop()
    >>> message = replay("lesson.jsonl", speed=0)
    >>> complete("Alan Turing was", max_tokens=5).text == answer.text
    True
    >>> message = recording.stop()
    """
    if isinstance(speed, bool) or not isinstance(speed, (int, float)) or not 0 <= speed < math.inf:
        raise InputError(
            f"speed must be a number of 0 or more, not {speed!r}.", "1 is the pace of then, 0 has no waits."
        )
    file = _file(path, "replay")
    with _lock:
        before = current()
        if isinstance(before, Recorder):
            raise InputError(
                f"What is asked is being recorded in {before.path}.", "End that with `%together record off`."
            )
        found = Replay.read(file)
        found.speed = speed
        _set(found)
    parts = [
        "" if before is None else f"The replay of {before.path} has ended.",
        f"{file} is played back{found.pace}: {count(len(found.entries), 'exchange')} of {found.recorded}.",
        found.left_out,
        "`%together replay off` ends it.",
    ]
    return " ".join(filter(None, parts))


def stop() -> str | None:
    """End the current recording or replay.

    An answer in progress is still recorded, or replayed to its end.

    Returns
    -------
    str or None
        A message for the user; None if nothing was on.
    """
    with _lock:
        before = current()
        _set(None)
    if before is None:
        return None
    if isinstance(before, Recorder):
        return f"The recording has ended: {before}"
    return f"The replay of {before.path} has ended."


def _forked() -> None:
    """Reset in a forked child, which lacks the threads that may have held a lock."""
    global _lock  # noqa: PLW0603  (one of a process)
    _lock = threading.Lock()
    if (now := current()) is not None:
        now.forked()


after_fork(_forked)


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def _file(path: str | Path, command: str) -> Path:
    named = files.checked_path(path, f"%together {command} lesson.jsonl")
    try:
        return named.absolute()
    except OSError:
        raise InputError("The folder that Python runs in is gone.", "Go to another one with `%cd`.") from None
