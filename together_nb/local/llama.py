"""The engine that runs model files: llama.cpp, in a process of its own.

One model is loaded at a time. Its process starts with the first request and ends with this process, after ten idle
minutes, or when another model is asked for.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
from collections import deque
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from together_nb.local.models import SMOLLM_SOURCE, title
from together_nb.local.request_body import RequestError
from together_nb.values.local_models import SMOLLM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from http.client import HTTPResponse

CONTEXT = 4096
"""Tokens of all prompts and answers at work together."""
STREAMS = 4
"""The most answers at work; more wait."""
IDLE_SECONDS = 600
_LOOK_SECONDS = 0.1
_SILENCE_SECONDS = 30  # after which a process that sends not even pings hangs
_PIECE = 65_536
_END = b"\n\n"
_FAILED = 424  # no status that clients retry: the same request may end the process again
_OK, _INTERNAL = 200, 500
_TOO_LONG = "exceed_context_size_error"
# More make a small model no faster. Each waits actively for the others, so that one core is left to the browser. On two
# cores, a busy page takes 2 threads from 75 tokens per second to 3, and 1 thread from 46 to 30. To read a short prompt
# takes 2 threads 3 s beside it, and 1 thread 0.1 s (SmolLM2, 2026-12).
_MOST_THREADS = 4
_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")

# ChatML, as in the model's file, but for the system prompt, with which the model answers better than with its own.
SYSTEM = "You are a helpful assistant."
_SMOLLM_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    f"{{{{ '<|im_start|>system\n{SYSTEM}<|im_end|>\n' }}}}{{% endif %}}"
    # A blank line at the end of a cell is not a part of the question. An answer to be continued may end in a blank.
    "{% set text = message['content'] if message['role'] == 'assistant' else message['content'] | trim %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + text + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


class LlamaEngine:
    """Runs model files, one at a time."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._changed = threading.Condition()
        self._process: LlamaProcess | None = None
        self._queue: deque[object] = deque()
        self._running = 0
        self._last_use = 0.0
        self._stopped = False

    @property
    def model_at_work(self) -> str | None:
        """The model whose answers are at work, or None."""
        process = self._process
        return process.model if process is not None and self._running else None

    def is_loaded(self, model: str) -> bool:
        """Whether a model is ready to answer."""
        process = self._process
        return process is not None and process.model == model and process.runs

    @contextlib.contextmanager
    def lease(self, model: str, file: Path, look: Callable[[], None]) -> Iterator[LlamaProcess]:
        """Give the process of a model, started if need be, for one request.

        Requests are served in their order: one for another model waits for the answers at work, and later ones wait
        for it.

        Parameters
        ----------
        model
            Its name.
        file
            Its file.
        look
            Called regularly during a wait; it may raise to end it.

        Raises
        ------
        RequestError
            The process cannot be started.
        """
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
        try:
            with self._changed:
                while self._queue[0] is not ticket or (self._running and not self.is_loaded(model)):
                    self._changed.wait(_LOOK_SECONDS)
                    look()
                self._running += 1
            try:
                process = self._ready(model, file)  # the queue waits meanwhile
            except BaseException:
                self._release()
                raise
        finally:
            with self._changed:
                self._queue.remove(ticket)
                self._changed.notify_all()
        try:
            yield process
        finally:
            self._release()

    def unload(self) -> None:
        """End the process, and all answers with it."""
        with self._changed:
            self._end()

    def stop(self) -> None:
        """Do so for ever."""
        with self._changed:
            self._stopped = True
            self._end()

    def abandon(self) -> None:
        """Let go of the process in the child of a fork: it is the parent's."""
        process = self._process
        self._reset()
        if process is not None:
            process.forget()

    def _ready(self, model: str, file: Path) -> LlamaProcess:
        """Return the process of a model, ready to answer. Only the head of the queue calls it."""
        if self.is_loaded(model) and self._process is not None:
            return self._process
        with self._changed:
            self._end()
            if self._stopped:
                raise RequestError(503, "The server has stopped.")
            self._process = process = LlamaProcess(model, file)
        process.wait_until_ready()
        threading.Thread(target=self._end_when_idle, args=(process,), name="together_nb.idle", daemon=True).start()
        return process

    def _release(self) -> None:
        with self._changed:
            self._running -= 1
            self._last_use = monotonic()
            self._changed.notify_all()

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process = None

    def _end_when_idle(self, process: LlamaProcess) -> None:
        """Wait until nothing was asked of a process for `IDLE_SECONDS`, and end it."""
        with self._changed:
            while self._process is process:
                left = self._last_use + IDLE_SECONDS - monotonic()
                if not self._running and left <= 0:
                    self._end()
                else:
                    self._changed.wait(None if self._running else left)


def usable_cores() -> int:
    """Return how many cores this process may use; a container often has fewer than the machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _CPU_QUOTA.read_text().split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no such file, or no quota
        return cores


class LlamaProcess:
    """A process that runs llama.cpp's server for one model.

    Parameters
    ----------
    model
        The model's name.
    file
        Its file.
    """

    def __init__(self, model: str, file: Path) -> None:
        self.model = model
        self._is_ready = False
        self._file = file
        self._key = secrets.token_urlsafe(32)
        script = Path(__file__).with_name("llama_process.py")
        self._process = subprocess.Popen(  # noqa: S603  (our own script)
            [sys.executable, "-P", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,  # a buffer's lock, held at a fork, would never be free in the child
            start_new_session=True,  # Ctrl-C is sent to all processes of a session
        )

    def wait_until_ready(self) -> None:
        """Wait until the model is loaded.

        Raises
        ------
        RequestError
            It cannot be loaded, or `kill` was called.
        """
        line = b""
        with contextlib.suppress(OSError, ValueError):  # it has ended, or is ended meanwhile
            self._input.write(self._options())
            line = self._output.readline()
        answer = json.loads(line or "{}")
        if "address" not in answer:
            reason = "Is it whole, and of a kind that llama.cpp knows?" if "error" in answer else f"It {self._ending()}"
            self.kill()
            raise RequestError(_FAILED, f"{title(self.model)} could not be loaded from {self._file}. {reason}", "model")
        self._address = urlsplit(answer["address"])
        self._is_ready = True

    def _options(self) -> bytes:
        options = {
            "model": self.model,
            "file": str(self._file),
            "key": self._key,
            "context": CONTEXT,
            "streams": STREAMS,
            "threads": max(1, min(usable_cores() - 1, _MOST_THREADS)),
            "template": _SMOLLM_TEMPLATE if self._file.name == SMOLLM_SOURCE.file else "",
            "parent": os.getpid(),
        }
        return json.dumps(options).encode() + b"\n"

    @property
    def _input(self) -> Any:
        return self._process.stdin

    @property
    def _output(self) -> Any:
        return self._process.stdout

    @property
    def runs(self) -> bool:
        """Whether it is ready to answer, and has not ended."""
        return self._is_ready and self._process.poll() is None

    def kill(self) -> None:
        """End it at once, in whatever state."""
        self._process.kill()
        self._process.wait()
        self.forget()

    def forget(self) -> None:
        """Close this process's ends of the pipes."""
        for pipe in (self._input, self._output):
            with contextlib.suppress(OSError):
                pipe.close()
        if self._process.returncode is None:  # in the child of a fork, whose it is not
            self._process.returncode = 0

    def whole(self, path: str, body: dict[str, Any], look: Callable[[], None]) -> dict[str, Any]:
        """Return the reply to a request.

        Parameters
        ----------
        path
            Path below the server's address.
        body
            The request's JSON.
        look
            Called regularly until the reply comes; it may raise to end the request.

        Raises
        ------
        RequestError
            The server refused it, or its process ended.
        """
        with self._reply(path, body, look) as reply:
            found: dict[str, Any] = json.loads(self._read(reply.read))
            return found

    def events(self, path: str, body: dict[str, Any], look: Callable[[], None]) -> Iterator[dict[str, Any]]:
        """Yield the events of a streamed reply, as `whole` returns a whole one."""
        with self._reply(path, body, look) as reply:
            data = b""
            while True:
                look()
                piece = self._read(lambda: reply.read1(_PIECE))
                if not piece:
                    raise self._ended()
                *events, data = (data + piece).split(_END)
                for event in events:
                    kind, _, value = event.partition(b": ")
                    if value == b"[DONE]":
                        return
                    if kind in (b"data", b"error"):
                        yield _checked(json.loads(value))

    @contextlib.contextmanager
    def _reply(self, path: str, body: dict[str, Any], look: Callable[[], None]) -> Iterator[HTTPResponse]:
        connection = HTTPConnection(self._address.hostname or "", self._address.port)
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        try:
            self._read(lambda: connection.request("POST", path, json.dumps(body).encode(), headers))
            connection.sock.settimeout(_LOOK_SECONDS)
            while not self._read(lambda: _has_come(connection.sock)):
                look()
            connection.sock.settimeout(_SILENCE_SECONDS)
            reply = self._read(connection.getresponse)
            if reply.status != _OK:
                words = self._read(reply.read)
                raise _refusal(reply.status, words)
            yield reply
        finally:
            connection.close()

    def _read(self, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except TimeoutError:  # it hangs
            self._process.kill()
            raise self._ended() from None
        except (OSError, HTTPException):
            raise self._ended() from None

    def _ended(self) -> RequestError:
        return RequestError(_FAILED, f"{title(self.model)} {self._ending()} The next request starts it again.")

    def _ending(self) -> str:
        """How the process ended."""
        try:
            status = self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return "did not answer to the end."
        return f"stopped unexpectedly ({f'signal {-status}' if status < 0 else f'exit status {status}'})."


def _has_come(connection: socket.socket) -> bool:
    """Whether data, or the end, comes within the connection's timeout."""
    try:
        connection.recv(1, socket.MSG_PEEK)
    except TimeoutError:
        return False
    return True


def _checked(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event, unless it tells an error."""
    error = event.get("error") or (event if "code" in event and "message" in event else None)
    if error is not None:
        raise _error(_FAILED, error)
    return event


def _refusal(status: int, body: bytes) -> RequestError:
    if status == _INTERNAL:  # so llama.cpp answers what it does not take, such as a picture
        status = 400
    try:
        return _error(status, json.loads(body)["error"])
    except (ValueError, LookupError, TypeError):
        return RequestError(status, body.decode(errors="replace")[:1000])


def _error(status: int, error: dict[str, Any]) -> RequestError:
    words, kind = str(error.get("message", error)), error.get("type")
    if kind == _TOO_LONG:
        words = f"The prompt has {error.get('n_prompt_tokens')} tokens, and the context has {CONTEXT:,}."
    elif "context size" in words.lower():
        words = (
            f"The context is full: prompts and answers at work share {CONTEXT:,} tokens. Ask for fewer answers at once, "
            "shorten the prompt, or lower max_tokens."
        )
        status, kind = _FAILED, None
    return RequestError(status, words, None, kind)


def defaults(model: str) -> dict[str, Any]:
    """Return the parameters that hold where a request sets none.

    SmolLM2's are those of its model card. The answer's length lets as many answers as there are streams fit.
    """
    card = {"temperature": 0.2, "top_p": 0.9, "top_k": 0, "min_p": 0.0} if model == SMOLLM else {}
    return {**card, "max_tokens": 512}
