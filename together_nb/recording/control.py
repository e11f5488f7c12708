"""Records what goes over the wire, and has it played back: `record`, `replay`, `stop`.

The bytes are recorded, and played back they take the road of live ones: events, dialects, views,
retries and errors are those of then. One of the two at most is on in a process. The key is in no file.
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
    """The recording that is made or played back, or None."""
    now = transport.current()
    return now if isinstance(now, (Recorder, Replay)) else None


def _set(now: Recorder | Replay | None) -> None:
    if now is not None:
        now.name = f"{RECORDING} {next(_numbers)} "
    transport.use(now or transport.NETWORK)


def _default_model() -> str:
    """The model of a request that names none; "" where the server has to be asked."""
    if settings.chosen_model:
        return settings.chosen_model
    if _host(settings.chosen_base_url or DEFAULT_BASE_URL) not in TOGETHER_HOSTS:
        return ""
    return LOCAL_MODEL if settings.api_key is None else DEFAULT_MODEL


def record(path: str | Path, *, force: bool = False) -> str:
    """Write each exchange with a server to a file from now on: what is asked and each byte of the reply, with its time.

    `recording.stop`, or ``%together record off``, ends it. The key is not in the file.

    Parameters
    ----------
    path : str or Path
        Of the file, which must not exist.
    force : bool
        Replace it if it does.

    Returns
    -------
    str
        What is done, for people.

    Raises
    ------
    InputError
        The file exists or cannot be made, or a recording is played back.

    See Also
    --------
    replay : Answers from the file.

    Examples
    --------
    >>> from together_nb import complete, record, recording
    >>> told = record("lesson.jsonl")
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
    """Answer each request from a recording from now on: no key is needed, and no network.

    `recording.stop`, or ``%together replay off``, ends it.

    Parameters
    ----------
    path : str or Path
        Of a file that `record` made.
    speed : float
        Factor of the pace at which the answers came: 1 takes as many seconds as they did, 2 half as many, 0 none.

    Returns
    -------
    str
        What is done, for people.

    Raises
    ------
    InputError
        The file is no recording, the speed is none, or a recording is being made.

    See Also
    --------
    record : Writes the file.

    Examples
    --------
    >>> from together_nb import complete, record, recording, replay
    >>> told = record("lesson.jsonl")
    >>> answer = complete("Alan Turing was", max_tokens=5)
    >>> ended = recording.stop()
    >>> told = replay("lesson.jsonl", speed=0)
    >>> complete("Alan Turing was", max_tokens=5).text == answer.text
    True
    >>> ended = recording.stop()
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
    """End the recording or the replay that is on.

    An answer that is under way is recorded still, or played to its end.

    Returns
    -------
    str or None
        What has ended, for people; None where nothing was on.
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
    """In the child of a fork: other threads, which may have held a lock, are not there."""
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
