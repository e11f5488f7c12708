"""The server, in a process of its own: what it is to send stands in the model's name.

``prose-10000-500`` is 10,000 tokens of prose, 500 a second; ``-0`` is as fast as they are taken. ``-hold`` after it: silence
follows, until the client goes. ``GET /log`` tells when what was sent, and when a client left; what it told is forgotten.
"""

import json
import time
import urllib.request
from functools import lru_cache
from typing import Any

from tests.benchmarks.texts import tokens
from tests.benchmarks.workers import Worker, answer_lines
from tests.servers import Exchange, Gone, ScriptedServer

_BLOCK = 64 * 1024  # bytes handed to the system at once, where nothing is paced


def _chunk(data: str) -> bytes:
    """An event, as a chunk of HTTP."""
    event = f"data: {data}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(event), event)


def _payload(model: str, choices: list[dict[str, Any]], usage: dict[str, int] | None = None) -> bytes:
    """An event as Together sends it (recorded replies)."""
    payload = {"id": "o498rYv-62bZhn-9636267e2e23a2db", "object": "chat.completion.chunk", "created": 1753220991,
               "choices": choices, "model": model, "usage": usage}  # fmt: skip
    return _chunk(json.dumps(payload, separators=(",", ":")))


def _event(model: str, text: str, finish: str | None = None) -> bytes:
    """It has the text twice, and names for what is null."""
    delta = {"token_id": None, "role": "assistant", "content": text}
    return _payload(model, [{"index": 0, "text": text, "logprobs": None, "finish_reason": finish, "delta": delta}])


def _end(model: str, count: int) -> bytes:
    usage = {"prompt_tokens": 5, "completion_tokens": count, "total_tokens": 5 + count}
    return _event(model, "", "stop") + _payload(model, [], usage) + _chunk("[DONE]")


@lru_cache(4)
def _whole(model: str, kind: str, count: int) -> bytes:
    """All of an answer, a chunk of HTTP for each token."""
    return b"".join(_event(model, text) for text in tokens(kind, count))


def _script(exchange: Exchange, log: list[dict[str, Any]]) -> None:
    if exchange.request.path == "/log":
        over = [line for line in log if line["ended"] or line["closed"]]
        for line in over:
            log.remove(line)
        exchange.reply(200, over)
        return
    model = exchange.request.json()["model"]
    kind, length, rate, *hold = model.split("-")
    count = int(length)
    line: dict[str, Any] = {"model": model, "arrived": time.time(), "sent": [], "ended": None, "closed": None}
    log.append(line)
    try:
        exchange.chunked().headers()
        if float(rate):
            _paced(exchange, model, tokens(kind, count), float(rate), line["sent"])
        else:
            data = _whole(model, kind, count)
            line["sent"].append(time.time())
            for start in range(0, len(data), _BLOCK):
                exchange.raw(data[start : start + _BLOCK])
        if hold:
            exchange.wait(3600)
        line["ended"] = time.time()  # before the end is sent: a client that has it can ask for the log at once
        exchange.raw(_end(model, count))
    except (Gone, OSError):
        line["ended"], line["closed"] = None, time.time()
        raise


def _paced(exchange: Exchange, model: str, texts: tuple[str, ...], rate: float, sent: list[float]) -> None:
    begun = time.perf_counter()
    for number, text in enumerate(texts):
        event = _event(model, text)
        exchange.wait(max(begun + number / rate - time.perf_counter(), 0))
        sent.append(time.time())
        exchange.raw(event)


class Feed(Worker):
    """The server, from outside; `url` is its base URL."""

    def __init__(self) -> None:
        super().__init__("server")
        self.url = self.ask()

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


if __name__ == "__main__":
    lines: list[dict[str, Any]] = []
    with ScriptedServer(lambda exchange: _script(exchange, lines)) as server:
        answer_lines(lambda _: server.base_url)
