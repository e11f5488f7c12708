"""How late a token comes, and how soon a stream stops: ``python -m tests.delays``.

The server stamps each token just before it sends it, and the client just after it has it: one
clock, one machine. Peers read the same replies beside us. Then `cancel` while the server is
silent: until the iterating thread has ended, and until the server has seen the connection close.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import requests
from sseclient import SSEClient

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.servers import ScriptedServer, authority, silent, silent_after
from together_nb import stream

TOKENS = 30
PAUSE = 0.1  # seconds between tokens, as in the facts
TRIES = 20
KINDS = {
    "chunked": lambda exchange: exchange.chunked(),
    "not chunked": lambda exchange: exchange,
    "gzip, chunked": lambda exchange: exchange.chunked().gzip(),
    "gzip, not chunked": lambda exchange: exchange.gzip(),
    "HTTP/1.0": lambda exchange: exchange.http10(),
}


def ours(url):
    for chunk in stream("Tell", base_url=url, model="any", api="chat"):
        if chunk.text:
            yield chunk.text


def asked(url):
    # Compression is accepted, as requests does by itself.
    body = {"model": "any", "messages": [{"role": "user", "content": "Tell"}], "stream": True}
    return requests.post(url + "/v1/chat/completions", json=body, stream=True, timeout=60)


def by_sseclient(url):
    with asked(url) as response:
        for event in SSEClient(response).events():
            if event.data != "[DONE]":
                yield json.loads(event.data)["choices"][0]["delta"]["content"]


def by_iter_content(url):
    with asked(url) as response:
        left = b""
        for piece in response.iter_content(None):
            *events, left = (left + piece).split(b"\n\n")
            for event in events:
                if event != b"data: [DONE]":
                    yield json.loads(event[6:])["choices"][0]["delta"]["content"]


def delays(kind, reader):
    """Milliseconds from the sending of each token to its arrival."""
    sent, got = [], []

    def script(exchange):
        kind(exchange).headers()
        for number in range(TOKENS):
            time.sleep(PAUSE)
            sent.append(time.perf_counter())
            exchange.text_events([f"token{number} "])
        exchange.done()

    with ScriptedServer(script) as server:
        got.extend(time.perf_counter() for _ in reader(server.base_url))
    assert len(got) == TOKENS, (len(got), TOKENS)
    return [(arrived - left) * 1000 for left, arrived in zip(sent, got, strict=True)]


def stops(script, *, tls, handshake=True, tokens=0):
    """Milliseconds from `cancel` to the end of the iteration, and to the close that the server sees."""
    returned, closed = [], []
    for _ in range(TRIES):
        with ScriptedServer(script, tls=tls, handshake=handshake) as server:
            answer = stream("Tell", base_url=server.base_url, model="any", api="chat")
            ended, has = [], threading.Event()

            def read(answer=answer, ended=ended, has=has):
                for count, _ in enumerate(answer, 1):
                    if count == tokens:
                        has.set()
                ended.append(time.perf_counter())

            reader = threading.Thread(target=read)
            reader.start()
            assert server.arrived.wait(20)
            if tokens:
                assert has.wait(20)
            time.sleep(0.1)  # it waits in a read by now
            begun = time.perf_counter()
            answer.cancel()
            reader.join()
            assert server.closed.wait(20)
            returned.append((ended[0] - begun) * 1000)
            closed.append((server.closed_at - begun) * 1000)
    return returned, closed


def line(numbers):
    return f"{statistics.median(numbers):6.1f} {statistics.quantiles(numbers, n=20)[-1]:7.1f}"


def main():
    readers = {"together_nb": ours, "SSEClient(response)": by_sseclient, "iter_content(None)": by_iter_content}
    print(f"Delay of a token, one each {PAUSE:g} s, {TOKENS} tokens: median and 95th percentile, ms\n")
    print(f"{'':20}" + "".join(f"{name:>22}" for name in readers))
    for name, kind in KINDS.items():
        print(f"{name:20}" + "".join(f"{line(delays(kind, reader)):>22}" for reader in readers.values()), flush=True)

    with tempfile.TemporaryDirectory() as folder:
        authority().cert_pem.write_to_path(f"{folder}/authority.pem")
        os.environ["REQUESTS_CA_BUNDLE"] = f"{folder}/authority.pem"
        states = {
            "in the handshake": {"script": silent(), "handshake": False},
            "before the headers": {"script": silent()},
            "before the first token": {"script": silent_after([])},
            "in mid-stream": {"script": silent_after(["Once", " upon"]), "tokens": 2},
        }
        print(f"\nFrom cancel(), {TRIES} tries: median and maximum, ms\n")
        print(f"{'':32}{'control returned':>20}{'server sees close':>20}")
        for name, options in states.items():
            for tls in (None, authority()):
                if tls is None and "handshake" in options:
                    continue
                both = stops(tls=tls, **options)
                row = "".join(f"{statistics.median(times):12.2f} {max(times):7.2f}" for times in both)
                print(f"{name + (', TLS' if tls else ', plain'):32}{row}", flush=True)


if __name__ == "__main__":
    main()
