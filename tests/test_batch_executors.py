"""`map_prompts` on executors of others: a pool of processes, a Dask cluster, ipyparallel's engines; and the key on its way."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import signal
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.servers import ScriptedServer, answers, replies
from tests.test_key import CANARY, KEY, clean, seen
from together_nb import history, recording
from together_nb.batch import map_prompts
from together_nb.batch_results import NotRunError
from together_nb.completion import Completion
from together_nb.config import CarriedKey, Key, settings
from together_nb.errors import APIStatusError, InputError, RateLimitError, TogetherError
from together_nb.resolve import open_stream
from together_nb.spending import ledger
from together_nb.tasks import Task, answer

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore:Creating scratch directories"),  # Dask's, where the disk is slow
]
PATIENCE = 120.0  # seconds; a process starts, imports the package and trains a model


def asked(exchange):
    return exchange.request.json()["messages"][-1]["content"]


def answering(exchange):
    """Echoes; refuses one prompt, and whoever has no key."""
    if exchange.request.headers.get("authorization") != f"Bearer {KEY}":
        exchange.reply(403, {"error": {"message": "no key"}})
    elif asked(exchange) == "refused":
        exchange.reply(400, {"error": {"message": f"I do not take {KEY}"}})
    else:
        answers(["<", asked(exchange), ">"])(exchange)


def asking(server, prompts, executor, **more):
    return map_prompts(
        prompts,
        **{"base_url": server.base_url, "model": "test/chat", "progress": False, "executor": executor, **more},
    )


def texts_in(*folders):
    """What all files below those folders hold, with their names."""
    found = [path for folder in folders for path in sorted(Path(folder).rglob("*")) if path.is_file()]
    return b"\n".join(str(path).encode() + b"\n" + path.read_bytes() for path in found)


class Pool:
    """Processes of Python's own, started anew."""

    def __init__(self, folder):
        self.folder = folder
        self.executor = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
        self.executor.submit(os.getpid).result(PATIENCE)  # they start with the first task

    def state(self):
        return repr(self.executor)

    def stop(self):
        self.executor.shutdown()


class Dask:
    """A Dask cluster of processes on this machine."""

    def __init__(self, folder):
        from distributed import LocalCluster

        self.folder = folder
        # Any free port: with `None` it still takes 8787, and warns where that is in use.
        self.cluster = LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", local_directory=str(folder)
        )
        self.client = self.cluster.get_client()
        self.executor = self.client.get_executor()

    def state(self):
        """What the scheduler and the workers say of themselves, and their logs."""
        client = self.client
        parts = (client.get_worker_logs(), client.get_scheduler_logs(), client.scheduler_info(), client.futures)
        return "\n".join(
            map(repr, (*parts, client.run_on_scheduler(lambda dask_scheduler: repr(dask_scheduler.tasks))))
        )

    def stop(self):
        self.client.close()
        self.cluster.close()


class Engines:
    """An ipyparallel cluster of engines on this machine."""

    def __init__(self, folder):
        import ipyparallel

        self.folder = folder
        self.cluster = ipyparallel.Cluster(
            n=2,
            profile_dir=str(folder / "profile"),
            log_level=40,
            cluster_id="",
            send_engines_connection_env=True,
            engine_timeout=240,
        )
        self.client = self.cluster.start_and_connect_sync(activate=False)
        self.executor = self.client.load_balanced_view().executor

    def state(self):
        return "\n".join(map(repr, (self.client.metadata, self.client.results, self.client.history)))

    def stop(self):
        self.client.close()
        self.cluster.stop_cluster_sync()


@pytest.fixture(scope="module", params=[Pool, Dask, Engines], ids=["processes", "dask", "ipyparallel"])
def cluster(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param.__name__.lower())
    # Whatever the processes print is kept in a file: they inherit both descriptors.
    kept = [os.dup(number) for number in (1, 2)]
    with (folder / "printed").open("wb") as printed:
        for number in (1, 2):
            os.dup2(printed.fileno(), number)
    try:
        one = request.param(folder)
    finally:
        for number, descriptor in enumerate(kept, start=1):
            os.dup2(descriptor, number)
            os.close(descriptor)
    yield one
    one.stop()


def test_other_processes_answer_in_order_and_an_error_is_its_items(cluster):
    ledger.clear()
    with ScriptedServer(answering) as server:
        results = asking(server, ["a", "refused", "b", ""], cluster.executor, api_key=KEY)
        assert len(server.requests) == 3
    assert results.texts == ["<a>", None, "<b>", None]
    assert type(results[1]) is APIStatusError
    assert results[1].status == 400
    assert [one.text for one in history] == ["<a>", "<b>"] or [one.text for one in history] == ["<b>", "<a>"]
    assert results.usage.completion_tokens == 6
    assert (ledger.total().calls, ledger.total().completion_tokens) == (2, 6)


def test_they_are_really_other_processes(cluster):
    outcome = cluster.executor.submit(answer, local_task("Once upon")).result(PATIENCE)
    assert outcome.process[1] != os.getpid()
    assert outcome.error is None


def local_task(prompt):
    return Task.of(open_stream(prompt, max_tokens=3, model="local/ngram"))


def test_the_embedded_engine_of_the_worker_answers(cluster):
    results = map_prompts(["Once upon", "The sea"], max_tokens=5, executor=cluster.executor, progress=False)
    assert results.failed == [], results[0]
    assert results.usage.completion_tokens == 10
    assert results.bundle()["text/markdown"]


def test_the_same_prompt_twice_is_asked_twice_and_a_retry_is_asked_again(cluster):
    settings.max_retries = 1
    tries, lock = [], threading.Lock()

    def script(exchange):
        with lock:
            tries.append(asked(exchange))
            number = len(tries)
        if number == 1:
            exchange.reply(429, {"error": {"message": "slow down"}}, retry_after=0)
        else:
            answers([str(number)])(exchange)

    with ScriptedServer(script) as server:
        results = asking(server, ["same", "same"], cluster.executor)
    assert results.failed == []
    assert sorted(results.texts) == ["2", "3"]


def test_a_schemas_own_class_need_not_be_there(cluster):
    pydantic = pytest.importorskip("pydantic")

    class Here(pydantic.BaseModel):  # which no other process can import
        a: int

    with ScriptedServer(answers(['{"a": 1}'])) as server:
        results = asking(server, ["x"], cluster.executor, schema=Here)
    assert results[0].parsed == Here(a=1)


def test_the_key_is_neither_printed_nor_written(cluster):
    canaries = [CANARY, "refused"]
    with ScriptedServer(answering) as server:
        results = asking(server, canaries, cluster.executor, api_key=KEY)
        repeating = asking(server, ["x"], cluster.executor, api_key="another-key-of-no-use")
    assert results[0].text == f"<{CANARY}>"
    assert type(results[1]) is APIStatusError
    assert repeating.failed == [0]
    shown = "\n".join(
        (CANARY, repr(results), str(results[1]), repr(results.metadata()), str(results.bundle()), cluster.state())
    )
    assert clean(shown)
    for number in (1, 2):  # what a worker prints is among what is searched
        cluster.executor.submit(os.write, number, f"{CANARY} {number}\n".encode()).result(PATIENCE)
    written = texts_in(cluster.folder)
    assert [f"{CANARY} {number}".encode() in written for number in (1, 2)] == [True, True]
    assert clean(written)


def test_ctrl_c_keeps_what_is_done_and_does_not_wait_for_other_processes(cluster):
    held = threading.Event()

    def script(exchange):
        if asked(exchange) == "b" and not held.is_set():
            signal.raise_signal(signal.SIGINT)
            exchange.pause(held)
        answers([f"<{asked(exchange)}>"])(exchange)

    with ScriptedServer(script) as server:
        with pytest.raises(KeyboardInterrupt) as raised:
            asking(server, ["a", "b", "c"], cluster.executor, max_workers=1)
        results = raised.value.results
        assert results.texts == ["<a>", None, None]
        assert [type(one) for one in results[1:]] == [NotRunError] * 2
        held.set()
        assert results.retry_failed(progress=False).texts == ["<a>", "<b>", "<c>"]


def test_other_processes_take_no_part_in_a_recording(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    with ScriptedServer(answering) as server, ProcessPoolExecutor(1, mp_context=spawn) as pool:
        recording.record(tmp_path / "lesson.jsonl")
        try:
            with pytest.raises(InputError, match="takes no part in a recording"):
                asking(server, ["a"], pool, api_key=KEY)
            assert asking(server, ["a"], None, api_key=KEY).texts == ["<a>"]
        finally:
            recording.stop()


class Broken(ThreadPoolExecutor):
    """An executor that answers with its task's own words."""

    def submit(self, function, /, *arguments, **named):
        raise RuntimeError(f"cannot run {arguments} {KEY}")


def test_an_executors_error_is_the_items_without_the_key():
    with ScriptedServer(answering) as server, Broken() as broken:
        results = asking(server, ["a"], broken, api_key=KEY)
    assert isinstance(results[0], TogetherError)
    assert "RuntimeError" in str(results[0])
    assert clean(f"{results[0]} {CANARY}")


def test_a_pool_that_breaks_is_each_items_error():
    spawn = multiprocessing.get_context("spawn")
    with ScriptedServer(answering) as server, ProcessPoolExecutor(1, mp_context=spawn) as pool:
        pool.submit(os._exit, 1).exception(PATIENCE)
        results = asking(server, ["a", "b"], pool, api_key=KEY)
    assert ["BrokenProcessPool" in str(one) for one in results] == [True, True]


def test_an_executor_of_threads_is_counted_once():
    ledger.clear()
    with ScriptedServer(answering) as server, ThreadPoolExecutor(2) as pool:
        results = asking(server, ["a", "b"], pool, api_key=KEY)
    assert results.failed == []
    assert ledger.total().calls == 2


# The key on its way


def test_a_carried_key_is_masked_wherever_it_is_written():
    carried = CarriedKey(Key(KEY, f"the test {CANARY}"))
    data = pickle.dumps(carried)
    assert clean(data)
    assert clean(repr(carried) + str([carried]))
    assert seen(pickle.loads(data).unwrapped().reveal())
    assert pickle.loads(data).unwrapped().reveal() == KEY
    assert copy.deepcopy(carried).unwrapped().source == f"the test {CANARY}"
    assert pickle.dumps(CarriedKey(Key(KEY, "the test"))) != pickle.dumps(CarriedKey(Key(KEY, "the test")))


def test_a_task_and_its_outcome_hold_no_key_that_can_be_read():
    with ScriptedServer(answering) as server:
        opened = open_stream(CANARY, base_url=server.base_url, model="test/chat", api_key=KEY)
        task = Task.of(opened)
        assert clean(pickle.dumps(task))
        assert clean(repr(task))
        outcome = answer(pickle.loads(pickle.dumps(task)))
        assert isinstance(outcome.completion, Completion)
        assert outcome.completion.text == f"<{CANARY}>"
        assert clean(pickle.dumps(outcome))
        assert task.again().ticket != task.ticket


def test_an_error_comes_back_whole():
    with ScriptedServer(replies(429, {"error": {"message": "slow"}}, retry_after=7)) as server:
        task = Task.of(open_stream("a", base_url=server.base_url, model="test/chat"))
        outcome = pickle.loads(pickle.dumps(answer(task)))
    assert type(outcome.error) is RateLimitError
    assert (outcome.error.retry_after, bool(outcome.error.passing), outcome.begun) == (7, True, False)
    assert outcome.error.hint
