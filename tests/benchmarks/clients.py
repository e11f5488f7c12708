"""The ways to have an answer's text token by token, ours and those of others.

Each is a function of the server's address and the model. ``python -m tests.benchmarks.clients NAME URL`` is a process
that measures one of them: for each model that is written to it, it writes a line of JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ROOT = Path(__file__).parents[2]
KEY = "no-key-is-needed"
_made = threading.local()


def together_nb(url: str, model: str) -> Iterator[str]:
    """Ours, to its `Chunk`s."""
    from together_nb import stream

    for chunk in stream("Tell", base_url=url, model=model, api="chat"):
        yield chunk.text


def _of_this_thread(kind: Callable[..., Any], **options: Any) -> Any:
    """A client that is made once, as its users do."""
    made, name = _made.__dict__, f"{kind} {options}"
    if name not in made:
        made[name] = kind(**options)
    return made[name]


def _body(model: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Tell"}], "stream": True}


def bare(url: str, model: str) -> Iterator[str]:
    """The loop of the tutorial."""
    import requests
    from sseclient import SSEClient

    post = _of_this_thread(requests.Session).post
    with post(f"{url}/v1/chat/completions", json=_body(model), stream=True, timeout=60) as reply:
        for event in SSEClient(reply).events():
            if event.data == "[DONE]":
                break
            for choice in json.loads(event.data)["choices"]:
                yield choice["delta"]["content"]


def httpx_sse(url: str, model: str) -> Iterator[str]:
    import httpx
    from httpx_sse import connect_sse

    client = _of_this_thread(httpx.Client, timeout=60)
    with connect_sse(client, "POST", f"{url}/v1/chat/completions", json=_body(model)) as source:
        for event in source.iter_sse():
            if event.data == "[DONE]":
                break
            for choice in json.loads(event.data)["choices"]:
                yield choice["delta"]["content"]


def openai(url: str, model: str) -> Iterator[str]:
    from openai import OpenAI

    client = _of_this_thread(OpenAI, base_url=f"{url}/v1", api_key=KEY)
    for chunk in client.chat.completions.create(model=model, messages=_body(model)["messages"], stream=True):
        for choice in chunk.choices:
            yield choice.delta.content or ""


def together(url: str, model: str) -> Iterator[str]:
    from together import Together

    client = _of_this_thread(Together, base_url=f"{url}/v1", api_key=KEY)
    for chunk in client.chat.completions.create(model=model, messages=_body(model)["messages"], stream=True):
        for choice in chunk.choices:
            yield choice.delta.content or ""


def chatlas(url: str, model: str) -> None:
    """Draws in the cell by itself."""
    from chatlas import ChatOpenAICompletions

    ChatOpenAICompletions(base_url=f"{url}/v1", api_key=KEY, model=model).chat("Tell")


BARE = "requests + sseclient-py + json"
CLIENTS = {
    "together_nb": together_nb,
    BARE: bare,
    "httpx-sse": httpx_sse,
    "openai": openai,
    "together": together,
}


def installed(name: str) -> bool:
    """Whether a package, or a client of `CLIENTS`, is here."""
    if name == BARE:
        return True
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


class Worker:
    """A module of the benchmarks in a process of its own, which answers each line that is written to it with one of JSON."""

    def __init__(self, module: str, name: str, url: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, name, url],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, line: str) -> dict[str, float]:
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def stop(self) -> None:
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


class Client(Worker):
    """A client in a process of its own, warm after its first answer."""

    def __init__(self, name: str, url: str) -> None:
        super().__init__("tests.benchmarks.clients", name, url)

    def measure(self, model: str) -> dict[str, float]:
        """Seconds of ``cpu`` and ``wall`` for an answer of that many ``tokens``."""
        return self.ask(model)


def main() -> None:
    name, url = sys.argv[1:]
    for line in sys.stdin:
        cpu, wall = time.process_time(), time.perf_counter()
        count = sum(text != "" for text in CLIENTS[name](url, line.strip()))
        told = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall, "tokens": count}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
