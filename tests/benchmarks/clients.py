"""The ways to have an answer's text token by token, ours and those of others.

Each is a function of the server's address and the model. ``python -m tests.benchmarks.clients NAME URL`` measures one
of them: it answers each model that is written to it with the seconds of ``cpu`` and ``wall`` for that many ``tokens``.
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

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


def request(model: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Tell"}], "stream": True}


def _texts(events: Iterable[Any]) -> Iterator[str]:
    for event in events:
        if event.data == "[DONE]":
            break
        for choice in json.loads(event.data)["choices"]:
            yield choice["delta"]["content"]


def posted(post: Callable[..., Any], url: str, body: dict[str, Any]) -> Iterator[str]:
    """The loop of the tutorial."""
    from sseclient import SSEClient

    with post(f"{url}/v1/chat/completions", json=body, stream=True, timeout=60) as reply:
        yield from _texts(SSEClient(reply).events())


def bare(url: str, model: str) -> Iterator[str]:
    import requests

    return posted(_of_this_thread(requests.Session).post, url, request(model))


def httpx_sse(url: str, model: str) -> Iterator[str]:
    import httpx
    from httpx_sse import connect_sse

    client = _of_this_thread(httpx.Client, timeout=60)
    with connect_sse(client, "POST", f"{url}/v1/chat/completions", json=request(model)) as source:
        yield from _texts(source.iter_sse())


def _created(kind: Callable[..., Any], url: str, model: str) -> Iterator[str]:
    client = _of_this_thread(kind, base_url=f"{url}/v1", api_key=KEY)
    for chunk in client.chat.completions.create(**request(model)):
        for choice in chunk.choices:
            yield choice.delta.content or ""


def openai(url: str, model: str) -> Iterator[str]:
    from openai import OpenAI

    return _created(OpenAI, url, model)


def together(url: str, model: str) -> Iterator[str]:
    from together import Together

    return _created(Together, url, model)


def chatlas_draws(url: str, model: str) -> None:
    """Draws in the cell by itself."""
    from chatlas import ChatOpenAICompletions

    ChatOpenAICompletions(base_url=f"{url}/v1", api_key=KEY, model=model).chat("Tell")


BARE = "requests + sseclient-py + json"
CLIENTS = {"together_nb": together_nb, BARE: bare, "httpx-sse": httpx_sse, "openai": openai, "together": together}


def installed(name: str) -> bool:
    """Whether a package, or a client of `CLIENTS`, is here."""
    try:
        version(name)
    except PackageNotFoundError:
        return name == BARE
    return True


if __name__ == "__main__":
    from tests.benchmarks.workers import answer_lines  # here: who imports this loads nothing that is heavy

    client, address = sys.argv[1:]

    def measured(model: str) -> dict[str, float]:
        cpu, wall = time.process_time(), time.perf_counter()
        tokens = sum(text != "" for text in CLIENTS[client](address, model))
        return {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall, "tokens": tokens}

    answer_lines(measured)
