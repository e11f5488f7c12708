"""`map_prompts` on other executors: a pool of processes, a Dask cluster, ipyparallel's engines; and the key on its way."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import signal
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache
from types import SimpleNamespace

import pytest

import together_nb
from tests.batch import test_prompts
from tests.batch.test_prompts import prompt_of
from tests.servers import ScriptedServer, answers, replies
from tests.whole.test_key import CANARY, HEADER, KEY, clean, seen
from together_nb.batch.worker import Task, answer
from together_nb.config.keys import CarriedKey, Headers, Key
from together_nb.errors import APIStatusError, InputError, NotRunError, RateLimitError, TogetherError

# Dask's, where the disk is slow
pytestmark = pytest.mark.filterwarnings("ignore:Creating scratch directories")
PATIENCE = 120.0  # seconds; a process starts, imports the package and trains a model


def echo(exchange):
    """Refuse one prompt, and whoever has no key."""
    if exchange.request.headers.get("authorization") != f"Bearer {KEY}":
        exchange.reply(403, {"error": {"message": "no key"}})
    elif prompt_of(exchange.request) == "refused":
        exchange.reply(400, {"error": {"message": f"I do not take {KEY}"}})
    else:
        answers(["<", prompt_of(exchange.request), ">"])(exchange)


def batch(server, prompts, executor, **more):
    return test_prompts.batch(server, prompts, **{"executor": executor, "api": "auto", "api_key": KEY, **more})


def spawned():
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


@contextmanager
def processes(folder):
    with spawned() as pool:
        pool.submit(os.getpid).result(PATIENCE)  # they start with the first task
        yield pool, lambda: repr(pool)


@contextmanager
def dask(folder):
    from distributed import LocalCluster

    # Any free port: with `None` it still takes 8787, and warns where that is in use.
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0", "local_directory": str(folder)}
    with LocalCluster(processes=True, **options) as cluster, cluster.get_client() as client:

        def state():
            logs = (client.get_worker_logs(), client.get_scheduler_logs(), client.scheduler_info(), client.futures)
            return f"{logs} {client.run_on_scheduler(lambda dask_scheduler: repr(dask_scheduler.tasks))}"

        yield client.get_executor(), state


@contextmanager
def ipyparallel(folder):
    from ipyparallel import Cluster

    options = {"profile_dir": str(folder / "profile"), "cluster_id": "", "log_level": 40, "engine_timeout": 240}
    cluster = Cluster(n=2, send_engines_connection_env=True, **options)
    client = cluster.start_and_connect_sync(activate=False)
    yield client.load_balanced_view().executor, lambda: repr((client.metadata, client.results, client.history))
    client.close()
    cluster.stop_cluster_sync()


@pytest.fixture(scope="module")
def clusters(tmp_path_factory):
    """Each kind of cluster, started when it is first used."""
    with ExitStack() as stack:

        @cache
        def start(kind):
            folder = tmp_path_factory.mktemp(kind.__name__)
            # Whatever the processes print is kept in a file: they inherit both descriptors.
            kept = [os.dup(number) for number in (1, 2)]
            with (folder / "printed").open("wb") as printed:
                for number in (1, 2):
                    os.dup2(printed.fileno(), number)
            try:
                executor, state = stack.enter_context(kind(folder))
            finally:
                for number, descriptor in enumerate(kept, start=1):
                    os.dup2(descriptor, number)
                    os.close(descriptor)
            return SimpleNamespace(executor=executor, state=state, folder=folder)

        yield start


@pytest.fixture
def cluster(request, clusters):
    return clusters(request.param)


on_each = pytest.mark.parametrize("cluster", [processes, dask, ipyparallel], indirect=True)
on_processes = pytest.mark.parametrize(
    "cluster", [processes, *(pytest.param(kind, marks=pytest.mark.slow) for kind in (dask, ipyparallel))], indirect=True
)


@on_each
def test_other_processes_answer_in_order_and_an_error_is_its_items(cluster):
    together_nb.settings.max_retries = 1
    scripts = iter([replies(429, {"error": {"message": "slow down"}}, retry_after=0)])

    def script(exchange):
        next(scripts, echo)(exchange)

    with ScriptedServer(script) as server:
        results = batch(server, ["a", "refused", "b", "", "a"], cluster.executor, max_workers=2)
        assert len(server.requests) == 5  # the same prompt once for each item, and again for a retry
    assert results.texts == ["<a>", None, "<b>", None, "<a>"]
    assert type(results[1]) is APIStatusError
    assert results[1].status == 400
    assert sorted(one.text for one in together_nb.history) == ["<a>", "<a>", "<b>"]
    assert results.usage.completion_tokens == 9
    assert (together_nb.ledger.total().calls, together_nb.ledger.total().completion_tokens) == (3, 9)


@on_processes
def test_the_embedded_engine_of_the_other_process_answers(cluster):
    task = Task.of(together_nb.stream("Once upon", max_tokens=3, model="local/ngram"), None)
    assert task.root is None
    outcome = cluster.executor.submit(answer, task).result(PATIENCE)
    assert outcome.error is None
    results = together_nb.map_prompts(["Once upon", "The sea"], max_tokens=5, executor=cluster.executor, progress=False)
    assert results.failed == [], results[0]
    assert (results.usage.completion_tokens, results.cost) == (10, 0)


@on_processes
def test_a_schemas_own_class_need_not_be_there(cluster):
    pydantic = pytest.importorskip("pydantic")

    class Here(pydantic.BaseModel):  # which no other process can import
        a: int

    with ScriptedServer(answers(['{"a": 1}'])) as server:
        results = batch(server, ["x"], cluster.executor, schema=Here)
    assert results[0].parsed == Here(a=1)


@on_processes
def test_the_key_is_neither_printed_nor_written(cluster):
    with ScriptedServer(echo) as server:
        results = batch(server, [CANARY, "refused"], cluster.executor)
        repeating = batch(server, ["x"], cluster.executor, api_key="another-key-of-no-use")
    assert results[0].text == f"<{CANARY}>"
    assert type(results[1]) is APIStatusError
    assert repeating.failed == [0]
    shown = (results, str(results[1]), results.metadata(), results.bundle(), cluster.state())
    assert clean(f"{CANARY} {shown}")
    for number in (1, 2):  # what a worker prints is among what is searched
        cluster.executor.submit(os.write, number, f"{CANARY} {number}\n".encode()).result(PATIENCE)
    paths = [path for path in cluster.folder.rglob("*") if path.is_file()]
    written = b"\n".join(str(path).encode() + path.read_bytes() for path in paths)
    assert all(f"{CANARY} {number}".encode() in written for number in (1, 2))
    assert clean(written)


@on_processes
def test_ctrl_c_keeps_what_is_done_and_does_not_wait_for_other_processes(cluster):
    held = threading.Event()

    def script(exchange):
        if prompt_of(exchange.request) == "b" and not held.is_set():
            signal.raise_signal(signal.SIGINT)
            exchange.pause(held)
        answers([f"<{prompt_of(exchange.request)}>"])(exchange)

    with ScriptedServer(script) as server:
        with pytest.raises(KeyboardInterrupt) as raised:
            batch(server, ["a", "b", "c"], cluster.executor, max_workers=1)
        results = raised.value.results
        assert results.texts == ["<a>", None, None]
        assert [type(one) for one in results[1:]] == [NotRunError] * 2
        held.set()
        assert results.retry_failed(progress=False).texts == ["<a>", "<b>", "<c>"]


class Broken(ProcessPoolExecutor):
    """An executor that fails with its task's own words."""

    def submit(self, function, /, *arguments, **named):
        raise RuntimeError(f"cannot run {arguments} {KEY}")


def test_other_processes_take_no_part_in_a_recording_and_threads_do_whose_answers_are_counted_once(tmp_path):
    together_nb.record(tmp_path / "lesson.jsonl")
    with ScriptedServer(echo) as server, ThreadPoolExecutor(1) as threads:
        with pytest.raises(InputError, match="recording"):
            batch(server, ["a"], Broken(1))
        assert [batch(server, ["a"], executor).texts for executor in (None, threads)] == [["<a>"]] * 2
    together_nb.stop()
    assert together_nb.ledger.total().calls == 2


def test_an_executors_error_is_the_items_without_the_key():
    with ScriptedServer(echo) as server:
        (error,) = batch(server, ["a"], Broken(1))
    assert type(error) is TogetherError
    assert "RuntimeError: cannot run" in error.message
    assert "executor" in error.hint
    assert clean(f"{error} {CANARY}")


def test_a_pool_that_breaks_is_each_items_error():
    with ScriptedServer(echo) as server, spawned() as pool:
        pool.submit(os._exit, 1).exception(PATIENCE)
        results = batch(server, ["a", "b"], pool)
    assert all("BrokenProcessPool" in str(one) for one in results)


# The key on its way


def test_a_carried_key_is_masked_wherever_it_is_written():
    carried = CarriedKey(Key(KEY, f"the test {CANARY}"), Headers({"api-key": HEADER}))
    data = pickle.dumps(carried)
    assert clean(data)
    assert clean(f"{carried!r} {[carried]} {CANARY}")
    back, headers = pickle.loads(data).unwrapped()
    assert seen(back.reveal())
    assert (back.reveal(), headers.reveal()) == (KEY, {"api-key": HEADER})
    assert copy.deepcopy(carried).unwrapped()[0].source == f"the test {CANARY}"
    assert len({pickle.dumps(CarriedKey(Key(KEY, "the test"), Headers())) for _ in range(2)}) == 2
    assert CarriedKey(None, Headers()).unwrapped()[0] is None


def test_a_task_and_its_outcome_hold_no_key_that_can_be_read():
    with ScriptedServer(echo) as server:
        stream = together_nb.stream(
            CANARY, base_url=server.base_url, model="test/chat", api_key=KEY, default_headers={"x-gateway": HEADER}
        )
        task = Task.of(stream, None)
        assert clean(pickle.dumps(task))
        assert clean(repr(task))
        outcome = answer(pickle.loads(pickle.dumps(task)))
        assert server.requests[-1].headers["x-gateway"] == HEADER
    assert outcome.completion.text == f"<{CANARY}>"
    assert clean(pickle.dumps(outcome))
    assert task.again().ticket != task.ticket


def test_an_error_comes_back_whole():
    with ScriptedServer(replies(429, {"error": {"message": "slow"}}, retry_after=7)) as server:
        task = Task.of(together_nb.stream("a", base_url=server.base_url, model="test/chat"), None)
        outcome = pickle.loads(pickle.dumps(answer(task)))
    assert type(outcome.error) is RateLimitError
    assert (outcome.error.retry_after, bool(outcome.error.passing), outcome.begun) == (7, True, False)
    assert outcome.error.hint
