"""The engine that runs model files: its process, from the first request to the end, and what may go wrong."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import ClassVar

import openai
import pytest
import requests
import together

import together_nb
from tests.llama import ALPHABET, SAME_WAY, STORY, model_file
from tests.servers import eventually
from together_nb.errors import APIStatusError, StreamError
from together_nb.local import llama
from together_nb.local.request_body import RequestError
from together_nb.local.server import LocalServer, running_server
from together_nb.values.local_models import NGRAM, SMOLLM

MESSAGES = [{"role": "user", "content": STORY}]
LOADING = """
import os, sys, threading, time
from pathlib import Path
from together_nb.local.llama import LlamaProcess
from together_nb.local.models import model_files
process = LlamaProcess("local/smollm2-135m", model_files()["local/smollm2-135m"])
threading.Thread(target=process.wait_until_ready, daemon=True).start()
print(process._process.pid, 0, flush=True)
time.sleep(60)
"""
# Its output is closed before the model is loaded, as when its parent dies meanwhile.
UNHEARD = """
import subprocess, sys
from together_nb.local import llama
class Unheard(subprocess.Popen):
    def __init__(self, *given, **options):
        super().__init__(*given, **options)
        self.stdout.close()
llama.subprocess.Popen = Unheard
try:
    process = llama.LlamaProcess("local/smollm2-135m", llama.Path(sys.argv[1]))
    process._input.write(process._options())
finally:
    print(process._process.wait(30))
"""
PARENT = """
import os, sys, time, together_nb
from together_nb.local.server import running_server
together_nb.complete("Hi", max_tokens=1)
child = os.fork() if "fork" in sys.argv else None
if child == 0:
    time.sleep(60)
print(running_server().llama._process._process.pid, child or 0, flush=True)
time.sleep(60)
"""
slow = pytest.mark.slow


# Without a process


class FakeProcess:
    """In place of `LlamaProcess`."""

    started: ClassVar[list[str]] = []

    def __init__(self, model, file):
        del file
        self.model = model
        self.runs = False
        self.started.append(model)

    def wait_until_ready(self):
        if self.model == "broken":
            raise RequestError(424, "It is broken.")
        self.runs = True

    def kill(self):
        self.runs = False


@pytest.fixture
def engine(monkeypatch):
    monkeypatch.setattr(llama, "LlamaProcess", FakeProcess)
    monkeypatch.setattr(FakeProcess, "started", [])
    return llama.LlamaEngine()


class AtWork:
    """A request for a model in a thread of its own, which has the process from `begun` until `end`."""

    def __init__(self, engine, model):
        self.begun, self._done = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._answer, args=(engine, model))
        self._thread.start()

    def _answer(self, engine, model):
        with engine.lease(model, Path(), lambda: None) as process:
            assert process.model == model
            self.begun.set()
            assert self._done.wait(60)

    def end(self):
        assert self.begun.wait(60)
        self._done.set()
        self._thread.join()


def test_a_model_is_started_once_and_another_one_takes_its_place(engine):
    for model in ("a", "a", "b", "a"):
        with engine.lease(model, Path(), lambda: None):
            assert engine.is_loaded(model)
    assert FakeProcess.started == ["a", "b", "a"]


def test_answers_of_one_model_are_at_work_together_and_another_model_waits_for_them(engine):
    answers = [AtWork(engine, "a"), AtWork(engine, "a")]
    assert all(one.begun.wait(60) for one in answers)
    with pytest.raises(InterruptedError), engine.lease("b", Path(), leave):
        pass
    assert FakeProcess.started == ["a"]
    for one in answers:
        one.end()
    with engine.lease("b", Path(), lambda: None):
        pass
    assert FakeProcess.started == ["a", "b"]


def leave():
    raise InterruptedError


def test_requests_are_served_in_their_order_so_that_none_waits_for_ever(engine):
    first = AtWork(engine, "a")
    assert first.begun.wait(60)
    waiting = []
    for number, model in enumerate("ba"):
        waiting.append(AtWork(engine, model))
        eventually(lambda most=number + 1: len(engine._queue) == most)
    assert not any(one.begun.is_set() for one in waiting)
    for one in (first, *waiting):
        one.end()
    assert FakeProcess.started == ["a", "b", "a"]


def test_a_model_that_cannot_be_started_blocks_no_other(engine):
    for _ in range(2):
        with pytest.raises(RequestError), engine.lease("broken", Path(), lambda: None):
            pass
    with engine.lease("a", Path(), lambda: None):
        assert engine.is_loaded("a")


def test_a_process_ends_once_nothing_was_asked_for_a_while(engine, monkeypatch):
    monkeypatch.setattr(llama, "IDLE_SECONDS", 0)
    with engine.lease("a", Path(), lambda: None):
        assert engine.is_loaded("a")
    eventually(lambda: not engine.is_loaded("a"))


def test_the_cores_are_those_that_a_container_may_use(monkeypatch, tmp_path):
    monkeypatch.setattr(llama.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(llama, "_CPU_QUOTA", tmp_path / "cpu.max")
    for text, cores in (("max 100000", 8), ("250000 100000", 2), ("50000 100000", 1)):
        (tmp_path / "cpu.max").write_text(text)
        assert llama.usable_cores() == cores


# With llama.cpp and SmolLM2


@pytest.fixture
def models(monkeypatch):
    """The folder with the model's file."""
    folder = model_file().parent
    monkeypatch.setenv("TOGETHER_NB_MODELS", str(folder))
    return folder


@pytest.fixture
def server(models):
    with LocalServer() as one:
        yield one


def running(server):
    """The process that answers."""
    return server.llama._process._process


def ask(server, path="/v1/chat/completions", **values):
    body = {"model": SMOLLM, "messages": MESSAGES, "max_tokens": 8, **values}
    if "prompt" in body:
        del body["messages"]
    return requests.post(server.base_url + path, json=body, stream=bool(body.get("stream")), timeout=60)


def events(reply):
    assert reply.status_code == 200, reply.text
    lines = [line.removeprefix(b"data: ") for line in reply.iter_lines() if line]
    assert lines.pop() == b"[DONE]"
    return list(map(json.loads, lines))


def is_alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@slow
def test_it_is_the_default_and_says_that_it_is_loaded(models, session):
    running_server().llama.unload()
    first = together_nb.stream("What is the capital of France?", temperature=0)
    assert (first.request.model, first.request.api) == (SMOLLM, "chat")
    assert first.notes == ("loading SmolLM2-135M, about 1 s",)
    assert "Paris" in "".join(chunk.text for chunk in first)
    assert first.notes == together_nb.stream("Hello").notes == ()
    assert "SmolLM2-135M" in first.completion.footer()
    assert [row.id for row in together_nb.models()] == [SMOLLM, NGRAM]


@slow
def test_a_process_that_nobody_hears_ends(models):
    file = next(models.glob("*.gguf"))
    done = subprocess.run([sys.executable, "-c", UNHEARD, file], capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"


@slow
@pytest.mark.parametrize("moment", ["answering", "fork", "loading"])
def test_the_process_ends_when_its_parent_is_killed(models, moment):
    code = LOADING if moment == "loading" else PARENT
    parent = subprocess.Popen([sys.executable, "-c", code, moment], stdout=subprocess.PIPE, text=True)
    pid, child = map(int, parent.stdout.readline().split())
    try:
        assert is_alive(pid)
        parent.kill()
        parent.wait()
        eventually(lambda: not is_alive(pid))
    finally:
        parent.stdout.close()
        if child:
            os.kill(child, signal.SIGKILL)


@slow
def test_its_key_is_not_on_the_command_line_and_no_page_is_served(server):
    assert ask(server).status_code == 200
    process = server.llama._process
    command = Path(f"/proc/{process._process.pid}/cmdline").read_bytes()
    assert process._key.encode() not in command
    root = process._address.geturl()
    assert process._address.hostname == "127.0.0.1"
    page = requests.get(root, headers={"Origin": "https://example.com"}, timeout=60)
    assert page.status_code in {401, 404}
    reply = requests.post(f"{root}/v1/chat/completions", json={"messages": MESSAGES}, timeout=60)
    assert reply.status_code == 401
    assert not reply.headers.get("Access-Control-Allow-Origin")
    assert not page.headers.get("Access-Control-Allow-Origin")


@slow
def test_a_crash_is_the_error_of_that_answer_and_the_next_one_starts_it_again(models, session):
    session.settings.max_retries = 4
    answer = together_nb.stream("Tell me a long story.", max_tokens=400, extra_body={"ignore_eos": True})
    assert any(chunk.text for chunk in answer)  # it has begun
    running(running_server()).kill()
    with pytest.raises(StreamError) as caught:
        list(answer)
    assert "signal 9" in caught.value.message
    assert caught.value.completion.text
    assert together_nb.complete("Hello", max_tokens=4).text


@slow
def test_a_file_that_is_no_model_is_named_and_not_tried_again(models, session, monkeypatch, tmp_path):
    session.settings.max_retries = 4
    (tmp_path / "torn.gguf").write_bytes(next(models.glob("*.gguf")).read_bytes()[:100_000])
    (tmp_path / "ngram.gguf").write_bytes(b"GGUF")  # a reserved name
    monkeypatch.setenv("TOGETHER_NB_MODELS", str(tmp_path))
    assert [row.id for row in together_nb.models()] == ["local/torn", NGRAM]
    with pytest.raises(APIStatusError, match=r"torn\.gguf") as caught:
        together_nb.complete("Hello", model="local/torn")
    assert "Tried" not in caught.value.message
    assert together_nb.complete("Once", model=NGRAM, max_tokens=2).text


@slow
def test_another_file_in_the_folder_is_another_model(models, monkeypatch, tmp_path):
    (tmp_path / "my own.gguf").symlink_to(next(models.glob("*.gguf")))
    monkeypatch.setenv("TOGETHER_NB_MODELS", str(tmp_path))
    with LocalServer() as server:
        reply = ask(server, model="local/my own").json()
        assert reply["model"] == "local/my own"
        assert reply["choices"][0]["message"]["content"]
        assert ask(server).status_code == 404  # SmolLM2 is not there under its name


@slow
def test_the_end_of_the_server_is_the_end_of_the_process_in_mid_answer(models):
    with LocalServer() as server:
        reply = ask(server, stream=True, max_tokens=2000, ignore_eos=True)
        next(reply.iter_lines())
        process = running(server)
    assert process.poll() is not None
    reply.close()


@slow
def test_an_answer_whose_client_leaves_is_ended(server):
    reply = ask(server, stream=True, max_tokens=3000, ignore_eos=True)
    next(reply.iter_lines())
    assert server.llama._running == 1
    reply.close()
    eventually(lambda: not server.llama._running)


@slow
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_whose_client_leaves_while_its_prompt_is_read_is_ended(server, stream):
    assert ask(server).status_code == 200
    body = {"model": SMOLLM, "messages": [{"role": "user", "content": "word " * 3000}], "stream": stream}
    host, port = server.base_url.removeprefix("http://").split(":")
    text = json.dumps(body).encode()
    with socket.create_connection((host, int(port))) as client:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(text)}\r\n\r\n"
        client.sendall(head.encode() + text)
        eventually(lambda: server.llama._running == 1)
    eventually(lambda: not server.llama._running)
    pid = running(server).pid
    begun = processor_seconds(pid)
    eventually(lambda: is_at_rest(pid))
    assert processor_seconds(pid) - begun < 15  # the whole prompt takes more


def processor_seconds(pid):
    values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")


def is_at_rest(pid):
    """Whether it does nothing for a moment. To ask the server would put off what it does to come to rest."""
    begun = processor_seconds(pid)
    threading.Event().wait(0.3)
    return processor_seconds(pid) - begun < 0.05


@slow
def test_ctrl_c_in_the_terminal_leaves_it_running(server):
    assert ask(server).status_code == 200
    assert os.getsid(running(server).pid) != os.getsid(0)  # Ctrl-C reaches the processes of the terminal's session
    running(server).send_signal(signal.SIGINT)
    assert ask(server).status_code == 200


@slow
def test_answers_that_fill_the_shared_context_are_told_so(server, monkeypatch):
    monkeypatch.setattr(llama, "CONTEXT", 1024)
    long = [{"role": "user", "content": "word " * 180}]
    replies = [ask(server, stream=True, messages=long, max_tokens=100, ignore_eos=True) for _ in range(4)]
    ends = [json.loads(list(filter(None, reply.iter_lines()))[-2].removeprefix(b"data: ")) for reply in replies]
    full = [end["error"]["message"] for end in ends if "error" in end]
    assert full
    assert all(f"{llama.CONTEXT:,}" in words for words in full)
    assert ask(server).status_code == 200


@slow
def test_four_answers_at_work_take_bounded_memory(server):
    replies = [ask(server, stream=True, max_tokens=100, logprobs=20, ignore_eos=True) for _ in range(4)]
    assert [events(reply)[-1]["usage"]["completion_tokens"] for reply in replies] == [100] * 4
    status = Path(f"/proc/{running(server).pid}/status").read_text()
    (kilobytes,) = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")]
    assert kilobytes < 350_000


@slow
def test_a_fork_starts_its_own_process_and_leaves_the_parents_alone(models):
    assert together_nb.complete("Hello", max_tokens=2).text
    parents = running(running_server()).pid
    child = os.fork()
    if child == 0:  # in the child nothing may be raised into pytest
        code = 1
        try:
            answered = bool(together_nb.complete("Hello", max_tokens=2).text)
            own = running(running_server()).pid
            running_server().stop()
            code = 0 if answered and own != parents else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert is_alive(parents)
    assert together_nb.complete("Hello", max_tokens=2).text
    assert running(running_server()).pid == parents


# What the server translates


@slow
def test_the_first_api_streams_as_in_the_tutorial(server):
    reply = ask(server, "/inference", prompt="Once upon a time", stream_tokens=True, repetition_penalty=1.1, logprobs=0)
    *pieces, last = events(reply)
    assert all(set(piece) == {"choices", "result_type", "id"} for piece in pieces)
    text = "".join(piece["choices"][0]["text"] for piece in (*pieces, last))
    assert len(text) > 8
    assert last["usage"]["completion_tokens"] == 8
    assert pieces[0]["choices"][0]["logprobs"]["top_logprobs"] == [[]]
    whole = ask(server, "/inference", prompt="Once upon a time", repetition_penalty=1.1).json()
    assert whole["output"]["choices"][0]["text"]


@slow
@pytest.mark.parametrize("stream", [False, True])
def test_more_answers_than_streams_are_numbered_seeded_and_counted(server, stream):
    values = {"n": 6, "seed": 3, "temperature": 1.0, "stream": stream, "max_tokens": 4, "ignore_eos": True}
    reply = ask(server, **values)
    texts = [""] * 6
    for body in events(reply) if stream else [reply.json()]:
        usage = body.get("usage")
        for choice in body["choices"]:
            texts[choice["index"]] += (choice.get("delta") or choice.get("message") or {}).get("content") or ""
    assert len(set(texts)) > 3
    assert usage["completion_tokens"] == 24
    again = sorted(ask(server, **values | {"stream": False}).json()["choices"], key=lambda choice: choice["index"])
    # two may differ: what is evaluated in one batch changes the log-probabilities a little
    assert sum(choice["message"]["content"] == text for choice, text in zip(again, texts, strict=True)) > 3
    assert ask(server, n=129).status_code == 422


@slow
def test_log_probabilities_come_in_both_forms_and_with_none_of_the_alternatives(server):
    ours = ask(server, logprobs=0, temperature=0).json()["choices"][0]["logprobs"]
    assert "".join(ours["tokens"]) == "".join(row["token"] for row in ours["content"])
    assert ours["top_logprobs"] == [[]] * len(ours["tokens"])
    openais = ask(server, logprobs=True, top_logprobs=20).json()["choices"][0]["logprobs"]
    assert len(openais["content"][0]["top_logprobs"]) == 20


@slow
def test_the_official_clients_are_served(server):
    client = openai.OpenAI(base_url=f"{server.base_url}/v1", api_key="none", max_retries=0)
    messages = [{"role": "user", "content": ALPHABET}]
    options = {"model": SMOLLM, "messages": messages, "max_tokens": 8, "temperature": 0}
    whole = client.chat.completions.create(**options)
    chunks = list(client.chat.completions.create(**options, stream=True))
    assert (
        "".join(chunk.choices[0].delta.content for chunk in chunks)  # the usual loop: each has a choice and a text
        == whole.choices[0].message.content
    )
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens == 8
    texts = list(client.completions.create(model=SMOLLM, prompt="Once upon a time", max_tokens=8, stream=True))
    assert "".join(chunk.choices[0].text for chunk in texts)
    assert not any("delta" in chunk.choices[0].model_dump() for chunk in texts)
    messages += [whole.choices[0].message.model_dump(), messages[0]]  # with what is null in it
    assert client.chat.completions.create(**options).choices[0].message.content
    messages[1:] = []
    theirs = together.Together(base_url=server.base_url, api_key="none")
    streamed = theirs.chat.completions.create(**options, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed if chunk.choices)
    assert theirs.chat.completions.create(**options).choices[0].message.content == whole.choices[0].message.content


@slow
@pytest.mark.parametrize("n", [1, 5])  # at most four are asked for at once
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_the_count_comes_with_the_end_unless_it_is_asked_for_apart(server, path, n):
    values = {"stream": True, "n": n, "max_tokens": 4, "ignore_eos": True}
    if path == "/v1/completions":
        values["prompt"] = ["Once upon a time"]
    for options, apart in ((None, False), ({"include_usage": False}, False), ({"include_usage": True}, True)):
        *before, last = chunks = events(ask(server, path, stream_options=options, **values))
        assert last["usage"]["completion_tokens"] == 4 * n
        assert not any(chunk.get("usage") for chunk in before)
        assert all(chunk["choices"] for chunk in before)
        assert bool(last["choices"]) != apart
        assert {(chunk["id"], chunk["model"]) for chunk in chunks} == {(chunks[0]["id"], SMOLLM)}
    texts = ask(server, prompt=["a", "b"], path="/v1/completions").json()
    assert "2 texts" in texts["error"]["message"]


SCHEMA = {"type": "object", "properties": {"age": {"enum": [36]}}, "required": ["age"], "additionalProperties": False}
FORMS = [  # https://github.com/ggml-org/llama.cpp/issues/10732, https://github.com/abetlen/llama-cpp-python/issues/1478
    {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
    {"type": "json_schema", "schema": SCHEMA},
    {"type": "json_object", "schema": SCHEMA},
]


@slow
@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/inference"])
def test_a_schema_holds_wherever_it_stands(server, path, form):
    values = {"response_format": form, "max_tokens": 100, "temperature": 0}
    if path != "/v1/chat/completions":
        values["prompt"] = 'Her age as JSON: {"age": '
    reply = ask(server, path, **values).json()
    (choice,) = reply.get("output", reply)["choices"]
    assert json.loads(choice["message"]["content"] if "message" in choice else choice["text"]) == {"age": 36}


@slow
def test_json_without_a_schema_is_an_object(server):
    for form in ({"type": "json_object"}, {"type": "json_schema", "json_schema": {"schema": {}}}):
        text = ask(server, "/v1/completions", prompt="Once", response_format=form).json()["choices"][0]["text"]
        assert text.startswith("{")


@slow
def test_what_it_refuses_keeps_its_status_and_its_words(server):
    long = ask(server, messages=[{"role": "user", "content": "word " * 6000}])
    assert (long.status_code, long.json()["error"]["code"]) == (400, "exceed_context_size_error")
    assert "word" not in long.text
    assert f"{llama.CONTEXT:,}" in long.json()["error"]["message"]
    assert ask(server, messages=[]).status_code == 400
    assert ask(server, messages=[{"content": "no role"}]).status_code == 400
    assert ask(server, prompt=["a", "b"], path="/v1/completions").status_code == 400
    assert ask(server, response_format="json").status_code == 400
    assert ask(server, response_format={"type": "json_schema"}).status_code == 400
    for name, value in {"logprobs": 21, "max_tokens": 0, "stop": 3, "logit_bias": "x", "stream": "yes"}.items():
        assert ask(server, **{name: value}).status_code == 422, name
    assert ask(server, n="two").status_code == 422
    assert ask(server, temperature="hot").status_code in range(400, 500)
    assert (
        ask(
            server, response_format={"type": "json_schema", "json_schema": {"schema": {"type": "nonsense"}}}
        ).status_code
        == 400
    )


@slow
def test_a_seed_gives_the_same_answer_again(server):
    values = {"seed": 11, "temperature": 1.0, "max_tokens": 40, **SAME_WAY}
    ask(server, **values)  # caches the prompt
    texts = {ask(server, **values).json()["choices"][0]["message"]["content"] for _ in range(4)}
    assert len(texts) == 1
    other = ask(server, **values | {"seed": -12}).json()["choices"][0]["message"]["content"]
    assert other not in texts


@slow
def test_a_blank_line_below_the_question_is_no_part_of_it(server):
    questions = [[{"role": "user", "content": f"What is the capital of France?{end}"}] for end in ("", "\n", "\n\n")]
    counts = {ask(server, messages=question).json()["usage"]["prompt_tokens"] for question in questions}
    assert len(counts) == 1


@slow
def test_the_system_prompt_has_a_default_and_can_be_set(server):
    capital = [{"role": "user", "content": "What is the capital of France?"}]
    assert (
        "Paris"
        in ask(server, messages=capital, temperature=0, max_tokens=20).json()["choices"][0]["message"]["content"]
    )
    with_system = [{"role": "system", "content": "You are a pirate."}, *capital]
    reply = ask(server, messages=with_system, temperature=0, max_tokens=20).json()
    assert reply["usage"]["prompt_tokens"] < ask(server, messages=capital).json()["usage"]["prompt_tokens"]


@slow
def test_a_process_that_idled_has_ended_and_the_next_request_starts_one(server, monkeypatch):
    monkeypatch.setattr(llama, "IDLE_SECONDS", 0)
    assert ask(server).status_code == 200
    eventually(lambda: server.llama._process is None)
    assert ask(server).status_code == 200
