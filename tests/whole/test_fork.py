"""What the child of a fork shares with its parent: nothing that one of them could spoil for the other."""

import os
import subprocess
import sys
import threading

import pytest

from tests.pages import ROOT
from tests.servers import ScriptedServer

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
START = """
import gc, multiprocessing, os, sys, threading, urllib.request
from concurrent.futures import ProcessPoolExecutor
from together_nb import complete, history, ledger, map_prompts, record, settings, stop, stream
url, folder = sys.argv[1:]
settings.local_tokens_per_second = 0
options = {"base_url": url, "model": "test/chat", "api": "chat"}

def in_child(work):
    '''Run it in the child of a fork, which then ends as any program does: 0, or the name of what it raised.'''
    number = os.fork()
    if number == 0:
        try:
            work()
        except BaseException as error:
            print(type(error).__name__, flush=True)
            os._exit(1)
        sys.exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
"""


def echo(exchange):
    """Answers with the prompt, in chunks, over a connection that stays open."""
    exchange.chunked().text_events([exchange.request.json()["messages"][-1]["content"]])
    exchange.event(exchange.payload("", finish="stop"))
    exchange.done()


def run(code, folder, script=echo, **options):
    """What a process of its own prints; and its requests."""
    with ScriptedServer(script, **options) as server:
        command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", START + code, server.base_url, folder]
        done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.splitlines(), server.requests


def test_each_child_gets_its_own_answers_and_takes_no_connection_of_its_parents(tmp_path):
    code = """
complete("parent", **options)
def work():
    assert complete("child", **options).text == "child"
print(in_child(work), complete("parent again", **options).text)
prompts = [f"item {number}" for number in range(40)]
with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("fork")) as pool:
    results = map_prompts(prompts, template="{item}", executor=pool, progress=False, max_workers=4, **options)
print(list(results.texts) == prompts, len(results.failed), ledger.rows[0].calls)
"""
    lines, requests = run(code, tmp_path)
    assert lines == ["0 parent again", "True 0 42"]
    assert [request.connection for request in requests[:3]] == [0, 1, 0]


def test_a_child_cannot_read_on_in_its_parents_stream_and_its_end_leaves_it_alone(tmp_path):
    forked = threading.Event()

    def script(exchange):
        exchange.chunked().text_events(["one"])
        exchange.pause(forked, 100)
        exchange.text_events([" two"])
        exchange.event(exchange.payload("", finish="stop"))
        exchange.done()

    def models(exchange):  # asked for once the last child has ended
        forked.set()
        exchange.reply(200, [])

    code = """
record(folder + "/lesson.jsonl")
answer = stream("Tell", **options)
text = next(answer).text
for work in (
    lambda: None,
    lambda: answer.cancel(),
    lambda: answer.__exit__(None, None, None),
    gc.collect,
    lambda: globals().pop("answer"),
    stop,
    lambda: list(answer),
):
    print(in_child(work))
urllib.request.urlopen(url + "/v1/models").read()
print(text + "".join(chunk.text for chunk in answer), answer.completion.finish_reason)
stop()
print(sum('"POST"' in line for line in open(folder + "/lesson.jsonl")))
"""
    lines, _ = run(code, tmp_path, script, models=models)
    assert lines == [*"000000", "ConnectionLostError", "1", "one two stop", "1"]


def test_a_child_can_use_what_another_thread_of_its_parent_had_locked(tmp_path):
    code = """
from together_nb.local import server as local
recorder = record(folder + "/lesson.jsonl")
complete("Once", model="local/ngram", max_tokens=2)
held, release = threading.Event(), threading.Event()
def hold():
    with ledger._lock, local._starting, recorder._lock:
        held.set()
        release.wait(60)
threading.Thread(target=hold).start()
assert held.wait(60)
def work():
    assert complete("Once", model="local/ngram", max_tokens=2).text
    assert ledger.rows[0].calls == 2
    stop()
print(in_child(work))
release.set()
stop()
print(sum('"POST"' in line for line in open(folder + "/lesson.jsonl")))
"""
    assert run(code, tmp_path)[0] == ["0", "2"]
