"""The server, in a process of its own: what it is to send stands in the model's name.

``prose-10000-500`` is 10,000 tokens of prose, 500 a second; ``-0`` is as fast as they are taken. ``-hold`` after it: silence
follows, until the client goes. ``GET /log`` tells when what was sent, and when a client left; what it told is forgotten.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from tests.benchmarks.texts import tokens
from tests.servers import Exchange, Gone, ScriptedServer

_ROOT = Path(__file__).parents[2]
_BLOCK = 64 * 1024  # bytes handed to the system at once, where nothing is paced


@dataclass(frozen=True)
class Scenario:
    """What is to be sent."""

    kind: str
    count: int
    rate: float
    hold: bool = False

    @classmethod
    def named(cls, model: str) -> Scenario:
        kind, count, rate, *more = model.split("-")
        return cls(kind, int(count), float(rate), more == ["hold"])


def _event(model: str, text: str, finish: str | None = None) -> bytes:
    """An event as Together sends it (recorded replies): the text twice, and names for what is null."""
    choice = {
        "index": 0, "text": text, "logprobs": None, "finish_reason": finish,
        "delta": {"token_id": None, "role": "assistant", "content": text},
    }  # fmt: skip
    payload = {"id": "o498rYv-62bZhn-9636267e2e23a2db", "object": "chat.completion.chunk", "created": 1753220991,
               "choices": [choice], "model": model, "usage": None}  # fmt: skip
    return _chunk(b"data: " + json.dumps(payload, separators=(",", ":")).encode() + b"\n\n")


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _end(model: str, count: int) -> bytes:
    counted = {"prompt_tokens": 5, "completion_tokens": count, "total_tokens": 5 + count}
    payload = {"id": "o498rYv-62bZhn-9636267e2e23a2db", "object": "chat.completion.chunk", "created": 1753220991,
               "choices": [], "model": model, "usage": counted}  # fmt: skip
    return _event(model, "", "stop") + _chunk(f"data: {json.dumps(payload)}\n\n".encode()) + _chunk(b"data: [DONE]\n\n")


@lru_cache(4)
def _whole(model: str) -> bytes:
    """All of an answer, a chunk of HTTP for each token."""
    scenario = Scenario.named(model)
    return b"".join(_event(model, text) for text in tokens(scenario.kind, scenario.count))


class _Log:
    """What was sent and when; one line a request."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: list[dict[str, Any]] = []

    def begin(self, model: str) -> dict[str, Any]:
        line: dict[str, Any] = {"model": model, "arrived": time.time(), "sent": [], "ended": None, "closed": None}
        with self._lock:
            self._lines.append(line)
        return line

    def told(self) -> list[dict[str, Any]]:
        """Those that are over, which are forgotten."""
        with self._lock:
            over = [line for line in self._lines if line["ended"] or line["closed"]]
            self._lines = [line for line in self._lines if line not in over]
        return over


def _script(log: _Log) -> Any:
    def script(exchange: Exchange) -> None:
        if exchange.request.path == "/log":
            exchange.reply(200, log.told())
            return
        model = exchange.request.json()["model"]
        scenario, line = Scenario.named(model), log.begin(model)
        try:
            exchange.chunked().headers()
            if scenario.rate:
                _paced(exchange, scenario, model, line["sent"])
            else:
                data = _whole(model)
                line["sent"].append(time.time())
                for start in range(0, len(data), _BLOCK):
                    exchange.raw(data[start : start + _BLOCK])
            if scenario.hold:
                exchange.wait(3600)
            line["ended"] = time.time()  # before the end is sent: a client that has it can ask for the log at once
            exchange.raw(_end(model, scenario.count))
        except (Gone, OSError):
            line["ended"], line["closed"] = None, time.time()
            raise

    return script


def _paced(exchange: Exchange, scenario: Scenario, model: str, sent: list[float]) -> None:
    begun = time.perf_counter()
    for number, text in enumerate(tokens(scenario.kind, scenario.count)):
        event = _event(model, text)
        exchange.wait(max(begun + number / scenario.rate - time.perf_counter(), 0))
        sent.append(time.time())
        exchange.raw(event)


class Feed:
    """The server, from outside.

    Attributes
    ----------
    url : str
        Its base URL.
    """

    def __enter__(self):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.server"],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url = self._process.stdout.readline().strip()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()

    def log(self) -> list[dict[str, Any]]:
        """The answers that have ended since this was last called, in the order in which they began: ``model``, and times
        since the epoch: when it ``arrived``, when each token was ``sent``, and when it ``ended`` or, if it did not, the
        client ``closed``.
        """
        with urllib.request.urlopen(f"{self.url}/log", timeout=60) as reply:
            return json.load(reply)

    def next_log(self, seconds: float) -> dict[str, Any] | None:
        """The one answer that has ended, or ends within so many seconds."""
        deadline = time.monotonic() + seconds
        while not (lines := self.log()) and time.monotonic() < deadline:
            time.sleep(0.01)
        return next(iter(lines), None)


def main() -> None:
    with ScriptedServer(_script(_Log())) as server:
        print(server.base_url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
