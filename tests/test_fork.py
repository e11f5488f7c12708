"""What the child of a fork shares with its parent: nothing that one of them could spoil for the other."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.servers import ScriptedServer
from together_nb.local.server import LocalServer

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system"),
]
ROOT = Path(__file__).parents[1]
START = """
import gc, multiprocessing, os, sys, threading
from concurrent.futures import ProcessPoolExecutor
from together_nb import complete, history, ledger, map_prompts, record, recording, settings, stream
url, folder = sys.argv[1:]
settings.local_tokens_per_second = 0
options = {"base_url": url, "model": "test/chat", "api": "chat"}

def in_child(work):
    '''Run it in the child of a fork, which then ends as any program does; its exit status is returned.'''
    number = os.fork()
    if number == 0:
        try:
            work()
        except BaseException as error:
            print(type(error).__name__)
            sys.stdout.flush()
            os._exit(1)
        sys.exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
"""


def echo(exchange):
    """Answers with the prompt, in chunks, over a connection that stays open."""
    exchange.chunked().text_events([exchange.request.json()["messages"][-1]["content"]])
    exchange.event(exchange.payload("", finish="stop"))
    exchange.done()


def run(script, server, folder):
    """What a process of its own prints."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", START + script, server.base_url, str(folder)],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_each_item_of_a_pool_of_forks_gets_its_own_answer(tmp_path):
    script = """
prompts = [f"item {number}" for number in range(40)]
complete("before the fork", **options)
with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("fork")) as pool:
    results = map_prompts(prompts, template="{item}", executor=pool, progress=False, max_workers=4, **options)
print([text for text in results.texts] == prompts, len(results.failed), ledger.rows[0].calls)
"""
    with ScriptedServer(echo) as server:
        assert run(script, server, tmp_path) == ["True 0 41"]


def test_a_child_takes_no_connection_of_its_parents(tmp_path):
    script = """
complete("parent", **options)
def work():
    assert complete("child", **options).text == "child"
print(in_child(work), complete("parent again", **options).text)
"""
    with ScriptedServer(echo) as server:
        assert run(script, server, tmp_path) == ["0 parent again"]
        assert [request.connection for request in server.requests] == [0, 1, 0]


@pytest.mark.parametrize(
    "work",
    [
        "lambda: None",
        "lambda: answer.cancel()",
        "lambda: answer.__exit__(None, None, None)",
        "lambda: gc.collect()",
        "lambda: globals().pop('answer')",
        "lambda: recording.stop()",
    ],
)
def test_a_childs_end_leaves_the_parents_stream_alone(tmp_path, work):
    forked = threading.Event()

    def script(exchange):
        exchange.chunked().text_events(["one"])
        exchange.pause(forked)
        exchange.text_events([" two"])
        exchange.event(exchange.payload("", finish="stop"))
        exchange.done()

    def models(exchange):  # asked for once the child has ended
        forked.set()
        exchange.reply(200, [])

    code = f"""
record(folder + "/lesson.jsonl")
answer = stream("Tell", **options)
text = next(answer).text
print(in_child({work}))
import urllib.request
urllib.request.urlopen(url + "/v1/models").read()
print(text + "".join(chunk.text for chunk in answer), answer.completion.finish_reason)
recording.stop()
print(sum('"POST"' in line for line in open(folder + "/lesson.jsonl")))
"""
    with ScriptedServer(script, models=models) as server:
        assert run(code, server, tmp_path) == ["0", "one two stop", "1"]


def test_a_child_cannot_read_on_in_its_parents_stream(tmp_path):
    asked = threading.Event()

    def script(exchange):
        exchange.chunked().text_events(["one"])
        exchange.pause(asked)
        exchange.text_events([" two"])
        exchange.event(exchange.payload("", finish="stop"))
        exchange.done()

    def models(exchange):
        asked.set()
        exchange.reply(200, [])

    code = """
answer = stream("Tell", **options)
text = next(answer).text
print(in_child(lambda: list(answer)))
import urllib.request
urllib.request.urlopen(url + "/v1/models").read()
print(text + "".join(chunk.text for chunk in answer))
"""
    with ScriptedServer(script, models=models) as server:
        told, status, text = run(code, server, tmp_path)
    assert told == "ConnectionLostError"
    assert (status, text) == ("1", "one two")


def test_a_child_can_use_what_another_thread_of_its_parent_had_locked(tmp_path):
    code = """
from together_nb import spending
from together_nb.local import server as local
complete("Once", model="local/ngram", max_tokens=2)
held, release = threading.Event(), threading.Event()
def hold():
    with ledger._lock, local._starting, recording._lock:
        held.set()
        release.wait(60)
threading.Thread(target=hold).start()
held.wait(60)
def work():
    record(folder + "/child.jsonl")
    assert complete("Once", model="local/ngram", max_tokens=2).text
    assert ledger.rows[0].calls == 2
    recording.stop()
print(in_child(work))
release.set()
"""
    with LocalServer() as server:
        assert run(code, server, tmp_path) == ["0"]
