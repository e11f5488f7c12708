"""The key stays in memory: what sessions leave behind is searched for it, and nothing replaces it or carries it off."""

from __future__ import annotations

import base64
import builtins
import copy
import gc
import json
import pickle
import select
import socket
import threading
import traceback
import types
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from urllib.parse import quote

import pytest
import requests

import together_nb
from tests.kernels import Kernel
from tests.magic.test_magics import ipython
from tests.panel.test_browser import PanelPage
from tests.panel.test_panel import ask, opened
from tests.servers import HOST, MODELS, ScriptedServer, answers, replies, silent
from together_nb import errors
from together_nb.config.addresses import server_root
from together_nb.config.keys import Key
from together_nb.errors import APIConnectionError, APIStatusError, InputError, TogetherError
from together_nb.panel.key_filter import TOLD
from together_nb.run.background import BackgroundRun
from together_nb.views.text import SilentView
from together_nb.wire import http as transport

pytestmark = pytest.mark.timeout(120)

# With letters that a URL writes otherwise; no eight of them stand anywhere else.
KEY = "Zq7xWd9vKf3/Lm5tRt8+Yb2nNc6=Hj4kUv0pXe1s"
HEADER = "Rw5nPs8hGy2/Tb6jXm4+Qd9vLc3=Fk7zUa0eZi1o"  # the value of one of default_headers
CANARY = "canary-0123456789"  # planted on purpose: a search that does not find it proves nothing
PIECE = 8  # letters; the last four alone may be shown
ELSEWHERE = "somewhere.example"


# The search


@cache
def forms(secret):
    """All pieces of a secret that nobody may see: as it is, in a URL, in base64 wherever it begins."""
    whole = [secret, quote(secret, safe="")]
    for before in range(3):
        coded = base64.b64encode(b"_" * before + secret.encode()).decode()[4 if before else 0 : -4]
        whole += [coded, coded.replace("+", "-").replace("/", "_")]
    return frozenset(one[start : start + PIECE] for one in whole for start in range(len(one) - PIECE + 1))


def seen(where, *secrets):
    """The pieces of the secrets that stand somewhere; of the key and of the header if none are named."""
    text = where.decode(errors="replace") if isinstance(where, bytes) else where
    return sorted(piece for secret in secrets or (KEY, HEADER) for piece in forms(secret) if piece in text)


def clean(where):
    """Whether the search finds what was planted there, and nothing of the key or of the header."""
    assert seen(where, CANARY), "nothing was searched"
    return seen(where) == []


def files_below(*folders):
    return [path for folder in folders for path in folder.rglob("*") if path.is_file()]


def authorizations(server):
    """The Authorization of each request."""
    return [request.headers.get("authorization") for request in (*server.requests, *server.list_requests)]


# What a server may do


def raw(data, *, reset=False):
    """Bytes in the place of a reply."""

    def script(exchange):
        exchange.raw(data.encode("latin-1"))
        exchange.cut(reset=reset)

    return script


WORDS = [f"{one}, that is {one[3:15]} and {quote(one, safe='')}" for one in (KEY, HEADER)]
REFUSED = {"error": {"message": f"Incorrect API key provided: {WORDS[0]}. Nor was {WORDS[1]}."}}
REPLY = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
PART = f'{REPLY}\r\ndata: {{"choices": [{{"index": 0, "text": "a", "delta": {{"content": "a"}}}}]}}\n\n'
SCRIPTS = {
    "401": replies(401, REFUSED),
    "429": replies(429, REFUSED, retry_after="0"),
    "500": replies(500, f"Bearer {KEY} {HEADER}".encode()),
    "redirect": replies(307, b"", location=f"https://{ELSEWHERE}/?key={KEY}&again={quote(KEY, safe='')}&to={HEADER}"),
    "error event": raw(f"{PART}data: {json.dumps(REFUSED)}\n\n"),
    "no event": raw(f'{REPLY}\r\ndata: "{KEY} {HEADER}"\n\n'),
    "odd event": raw(f'{REPLY}\r\ndata: {{"choices": [{{"index": "{KEY} {HEADER}", "text": "a"}}]}}\n\n'),
    "web page": replies(200, f"<html>{KEY} {HEADER}".encode(), content_type=f"text/{HEADER}-{KEY}"),
    "no status": raw(f"HTTP/1.1 {KEY} {HEADER}\r\n\r\n"),
    "no chunk": raw(f"{REPLY}Transfer-Encoding: chunked\r\n\r\n{KEY} {HEADER}\r\n"),
    "lost": raw(PART, reset=True),
    "lost at once": raw("", reset=True),
}


def by_prompt(exchange):
    """Does what the prompt names; answers any other."""
    request = exchange.request.json()
    prompt = (request["messages"][-1]["content"] if "messages" in request else request["prompt"]).strip()
    script = silent() if prompt == "silence" else SCRIPTS.get(prompt)
    (script or answers(["The", " answer", f" {CANARY}."]))(exchange)


# A session in a kernel

SETUP = """
import logging, os, pickle, threading
from unittest.mock import patch
from together_nb import Panel, complete, history, models, settings, stream
from together_nb.panel import call_as_code

logging.basicConfig(filename="debug.log", level=logging.DEBUG, force=True)
for name in ("requests", "urllib3", "together_nb", "asyncio", "traitlets", "IPKernelApp", "concurrent.futures"):
    logging.getLogger(name).setLevel(logging.DEBUG)
logging.getLogger("IPKernelApp").addHandler(logging.getLogger().handlers[0])
logging.debug("{canary}")
settings.base_url, settings.model, settings.max_retries = "{base_url}", "test/chat", 0
settings.default_headers = {{"X-Gateway": os.environ["GATEWAY"]}}
magic = get_ipython().run_cell_magic

def rest():
    for thread in [one for one in threading.enumerate() if one.name.startswith("together_nb ")]:
        thread.join()

def bug(*_, **__):
    raise ZeroDivisionError("{canary}")

def fails(key, endpoint, exchange, request, headers, header, another, further, chunks, chunk, settings):
    raise ZeroDivisionError("{canary}")

def lesson():
    with stream("Tell") as chunks:
        for chunk in chunks:
            exchange, request = chunks._reader.exchange, chunks._reader.exchange._response.request
            fails(settings.api_key, chunks.endpoint, exchange, request, request.headers,
                  request.headers["authorization"], request.headers["x-gateway"], settings.default_headers,
                  chunks, chunk, settings)

def generate(prompt):
    panel = Panel(prompt=prompt, api="chat")
    display(panel)
    for button in (panel._generate, panel.compare.go, panel._go_on):
        button.click()
        rest()
        for number in range(len(panel._tabs)):
            panel._tab.selected_index = number
            rest()
"""
LOOKS = """
%logstart -o -r -t session.log
%together
%together models
%config TogetherMagics
%whos
settings, settings.api_key, settings.default_headers, stream("Tell"), stream("Tell").endpoint, history, answer, vars(answer)
settings.api_key?
vars(settings), vars(stream("Tell")), vars(stream("Tell")._reader.exchange), settings.trait_values()
call_as_code.all_forms(stream("Tell"), settings.sampling)
kept = settings.api_key
print(settings, settings.api_key, str(settings.api_key), f"{settings.api_key}")
print([(one, one.to_dict(), one.metadata(), pickle.dumps(one)) for one in history])
"""
REFUSED_LOOKS = """
%store kept
pickle.dumps(settings.api_key)
pickle.dumps(settings.default_headers)
settings.default_headers = settings.default_headers.reveal() | {"Host": "a"}
complete("Tell", default_headers=settings.default_headers.reveal() | {"b": 1})
pickle.dumps(settings)
settings.api_key.blanked(None)
settings.api_key + 1
"""
# What may go wrong within what we call, and under it.
BUGS = [
    "together_nb.values.model_list.ModelList.from_json", "together_nb.wire.attempts.Attempts._received", "together_nb.wire.http._Bearer.__call__",
    "urllib3.connection.HTTPConnection.getresponse", "urllib3.response.HTTPResponse.read1",
    "http.client.HTTPConnection.putheader", "http.client.HTTPConnection.send",
]  # fmt: skip
GIVEN = "api_key=settings.api_key.reveal(), default_headers=settings.default_headers.reveal()"
CALLS = (f"complete('Tell', {GIVEN})", "magic('together', '', 'Tell')")
# The cells of a session, and how each ends.
CELLS = [
    *((f"%%together {line}\nTell", None) for line in ("--show text --temperature 0", "--dry-run", "--api completions")),
    *(("%%together -b -o answer\nTell", None), ("rest()", None), ("%%together -o answer\nTell", None)),
    *((f"%%together\n{prompt}", TogetherError) for prompt in SCRIPTS),
    *(("%%together -b -o failed\n401", None), ("rest()", None), ("failed.exception(), failed", None)),
    *(("settings.max_retries = 1", None), ("%%together\n429", TogetherError), ("settings.max_retries = 0", None)),
    *((look, None) for look in LOOKS.strip().splitlines()),
    *((look, Exception) for look in REFUSED_LOOKS.strip().splitlines()),
    *((f"generate({prompt!r})", None) for prompt in ("Tell", "401", "error event", "redirect")),
    *(
        (
            f"import together_nb.session\ntogether_nb.session.default.client.model_lists.clear()\nwith patch({bug!r}, bug):\n    {call}",
            ZeroDivisionError,
        )
        for bug in BUGS
        for call in CALLS
    ),
]


def session(folder):
    """Run the cells, and more, in a kernel; its messages, its replies, its questions, and our objects in tracebacks."""
    (folder / "profile_default").mkdir()
    # Loaded before any cell runs, as by someone who always wants it.
    config = "get_config().InteractiveShellApp.extensions = ['together_nb']"
    (folder / "profile_default" / "ipython_kernel_config.py").write_text(config)
    kernel, iopub, shell, stdin, tracebacks = Kernel(folder, GATEWAY=HEADER), [], [], [], {}
    receive = kernel.client.get_iopub_msg

    def record(**options):  # whatever cell it belongs to
        iopub.append(receive(**options))
        return iopub[-1]

    kernel.client.get_iopub_msg = record

    def run(code, fails=None, during=lambda: None, **options):
        cell = kernel.run(code, **options)
        during()
        shell.append(cell.wait().reply)
        assert cell.status == ("ok" if fails is None else "error"), cell.reply["content"]
        if fails is not None:
            name = cell.error["ename"]
            assert issubclass(getattr(errors, name, getattr(builtins, name, Exception)), fails), cell.error
        return cell

    def login(fails=None):
        run("%together login", fails, during=lambda: stdin.append(kernel.answer_stdin(KEY)))

    def interrupt():
        assert server.arrived.wait(20)
        kernel.interrupt()

    with ScriptedServer(by_prompt, models=SCRIPTS["401"]) as server:
        try:
            run(SETUP.format(canary=CANARY, base_url=server.base_url))
            login(TogetherError)
            server.models = MODELS
            login()
            for code, fails in CELLS:
                run(code, fails)
            run("%%together\nTell it unwatched", watched=False)
            for mode in ("Context", "Plain", "Minimal", "Verbose"):
                run(f"%xmode {mode}")
                tracebacks[mode] = "\n".join(run("lesson()", ZeroDivisionError).error["traceback"])
                run("complete('error event')", TogetherError)
            server.arrived.clear()
            run(CALLS[0].replace("Tell", "silence"), KeyboardInterrupt, during=interrupt)
            kernel.client.inspect("settings.api_key", detail_level=1)
            looks = {"key": "settings.api_key", "all": "vars(settings)"}
            kernel.client.execute(f"'{CANARY}'", user_expressions=looks)
            shell += [kernel.client.get_shell_msg(timeout=60) for _ in range(2)]
            run("get_ipython().history_manager.writeout_cache()")
        finally:
            kernel.stop()
        assert {request.headers.get("authorization") for request in server.requests} == {f"Bearer {KEY}"}
        assert {request.headers.get("x-gateway") for request in server.requests} == {HEADER}
    return iopub, shell, stdin, tracebacks


@pytest.mark.slow
def test_no_message_and_no_file_of_a_session_in_a_kernel_holds_the_key(tmp_path):
    iopub, shell, stdin, tracebacks = session(tmp_path)
    assert [question["password"] for question in stdin] == [True] * 2
    kinds = {"stream", "display_data", "update_display_data", "error", "execute_result", "comm_open", "comm_msg"}
    assert kinds <= {message["msg_type"] for message in iopub}
    assert "Bearer $TOGETHER_API_KEY" in repr(iopub)
    assert "key=<API key from" in tracebacks["Verbose"]
    assert "header=<hidden>, another=<hidden>, further=<headers x-gateway, values hidden>" in tracebacks["Verbose"]
    for where in (repr(iopub), repr(shell), *tracebacks.values()):
        assert clean(where)
    assert seen(repr(stdin)) == []
    files = {path.name: path.read_bytes() for path in files_below(tmp_path)}
    assert b"%%together" in files["history.sqlite"]
    assert b'"POST /v1/chat/completions HTTP/1.1" 401' in files["debug.log"]
    assert b"#[Out]#" in files["session.log"]
    for where in (files["history.sqlite"], files["debug.log"], files["session.log"], b"\n".join(files.values())):
        assert clean(where)


# What objects and tracebacks show


@pytest.fixture
def server():
    transport._session.cache_clear()  # a connection keeps what another test's server said last
    together_nb.settings.model = "test/chat"
    with ScriptedServer(by_prompt) as one:
        together_nb.settings.base_url = one.base_url
        together_nb.settings.api_key = KEY
        together_nb.settings.default_headers = {"X-Gateway": HEADER}
        yield one
        assert set(authorizations(one)) <= {f"Bearer {KEY}"}


def failure(prompt):
    with pytest.raises(TogetherError) as caught:
        together_nb.complete(prompt, api="chat")
    return caught.value


@contextmanager
def objects(server):
    """One of each that a person may hold, while it is in use and after."""
    with (
        ipython() as shell,
        together_nb.stream("Tell") as begun,
        together_nb.stream("Tell") as ended,
        opened(server) as panel,
    ):
        ask(panel)
        next(begun)
        ended.__dict__["chunks"] = list(ended)
        good, bad = (
            BackgroundRun(lambda prompt=prompt: together_nb.stream(prompt), SilentView(), print)
            for prompt in ("Tell", "401")
        )
        good.run()
        bad.run()
        yield {
            "settings": together_nb.settings,
            "key": together_nb.settings.api_key,
            "headers": together_nb.settings.default_headers,
            "endpoint": begun.endpoint,
            "stream": together_nb.stream("Tell"),
            "stream under way": begun,
            "stream that ended": ended,
            "exchange": begun._reader.exchange,
            "request": begun._reader.exchange._response.request,
            "completion": ended.completion,
            "models": together_nb.models(),
            "run": good,
            "run that failed": bad,
            "panel": panel,
            "magics": shell.magics_manager.registry["TogetherMagics"],
            "history": together_nb.history,
            **{f"error: {prompt}": failure(prompt) for prompt in SCRIPTS},
        }


# Not looked into: what is Python's own, and what leads to the test itself.
APART = (types.ModuleType, type, types.FrameType, types.TracebackType, types.BuiltinFunctionType, threading.Thread)


def parts(root):
    """An object and all that it holds, to any depth, but for what is IPython's or pytest's."""
    found, left = {}, [root]
    while left:
        one = left.pop()
        if id(one) in found or isinstance(one, APART) or type(one).__module__.startswith(("IPython.", "_pytest.")):
            continue
        found[id(one)] = one
        left += one.__closure__ or () if isinstance(one, types.FunctionType) else gc.get_referents(one)
    return list(found.values())


def descriptions(root):
    """All that is shown of an object and of what it holds."""
    containers = (dict, list, tuple, set, frozenset)  # their parts are shown
    return "\n".join(
        repr(one) if isinstance(one, (str, bytes)) else f"{one!r} {one}"
        for one in parts(root)
        if type(one) not in containers
    )


def test_no_object_shows_the_key_nor_does_anything_that_it_holds_nor_a_copy(server):
    with objects(server) as held:
        assert all(clean(descriptions((one, CANARY))) for one in held.values())
        holding = {name for name, one in held.items() if any(isinstance(part, Key) for part in parts(one))}
        copies = {}
        for name, one in held.items():
            with suppress(TypeError, pickle.PicklingError, AttributeError, NotImplementedError):
                copies[name] = seen(pickle.dumps(one) + descriptions(copy.deepcopy(one)).encode())
    assert holding >= {"settings", "endpoint", "stream under way", "exchange", "run that failed", "panel"}
    assert {"completion", "history", "models", "error: 401"} <= set(copies)
    assert not {"settings", "key", "headers", "endpoint", "stream", "exchange", "request", "run", "panel"} & set(copies)
    assert not any(copies.values())


def variables(error):
    """All that can be shown of an error and of those behind it, the variables of all frames too."""
    words, left = [], [error]
    while left:
        one = left.pop()
        if one is not None:
            words += [*traceback.format_exception(one), repr(one), str(one)]
            words += traceback.TracebackException.from_exception(one, capture_locals=True).format()
            left += [one.__cause__, one.__context__]
    return "".join(words)


@pytest.mark.parametrize("prompt", [*SCRIPTS, "the list"])
def test_no_variable_in_a_traceback_of_ours_shows_the_key(server, prompt):
    planted = CANARY
    if prompt == "the list":
        server.models = SCRIPTS["401"]
    send = together_nb.models if prompt == "the list" else partial(together_nb.complete, prompt, api="chat")
    with pytest.raises(TogetherError) as caught:
        send(api_key=KEY, default_headers={"x-other": HEADER})
    assert clean(variables(caught.value)), planted


@pytest.mark.parametrize("bug", BUGS)
@pytest.mark.parametrize("kind", [ZeroDivisionError, KeyboardInterrupt])
def test_no_variable_in_a_traceback_of_a_bug_or_an_interrupt_shows_the_key(server, monkeypatch, bug, kind):
    def fails(*_, **__):
        raise kind

    planted = CANARY
    monkeypatch.setattr(bug, fails)
    with pytest.raises(kind) as caught:
        together_nb.complete("Tell", api_key=KEY, default_headers={"x-other": HEADER})
    assert clean(variables(caught.value)), planted


def test_no_variable_in_a_traceback_of_a_bug_while_one_logs_in_shows_the_key(server, monkeypatch):
    def fails(*_):
        raise ZeroDivisionError(CANARY)

    monkeypatch.setattr("getpass.getpass", lambda _: KEY)
    monkeypatch.setattr("together_nb.values.model_list.ModelList.from_json", fails)
    with ipython() as shell:
        error = shell.run_cell("%together login").error_in_exec
    assert isinstance(error, ZeroDivisionError)
    assert "account_commands.py" in variables(error)
    assert clean(variables(error))


# What could replace it or carry it off


@pytest.mark.parametrize("variable", ["HOME", "NETRC"])
@pytest.mark.parametrize("key", [KEY, None])
def test_netrc_does_not_replace_the_key_nor_stand_in_for_it(monkeypatch, tmp_path, variable, key):
    path = tmp_path / ".netrc"
    path.write_text(f"machine {HOST}\nlogin somebody\npassword else\ndefault\nlogin somebody\npassword else\n")
    path.chmod(0o600)
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.setenv(variable, str(tmp_path if variable == "HOME" else path))
    with ScriptedServer(answers(["The answer"])) as server:
        together_nb.settings.base_url, together_nb.settings.model = server.base_url, "test/chat"
        assert together_nb.complete("Tell", api_key=key).text == "The answer"
        together_nb.models(api_key=key, fresh=True)
        assert set(authorizations(server)) == {None if key is None else f"Bearer {key}"}
        requests.get(f"{server.base_url}/v1/models", timeout=20)
        assert authorizations(server)[-1].startswith("Basic ")  # or nobody would read it


REQUESTS = {
    "answer": lambda **options: together_nb.complete("Tell", api="chat", **options),
    "models": lambda **options: together_nb.models("", **options),
}
each_request = pytest.mark.parametrize("send", REQUESTS.values(), ids=REQUESTS)


@each_request
@pytest.mark.parametrize(
    ("status", "target"),
    [*((status, "another host") for status in (301, 302, 303, 307, 308)), (307, "the same host"), (308, "plain http")],
)
def test_a_redirect_carries_nothing_off(certificates, status, target, send):
    together_nb.settings.model = "test/chat"
    tls = None if target == "plain http" else certificates
    with ScriptedServer(answers(["a"]), tls=tls) as other, ScriptedServer(silent(), tls=certificates) as server:
        url = f"{(server if target == 'the same host' else other).base_url}/elsewhere"
        server.script = server.models = replies(status, b"", location=url)
        together_nb.settings.base_url = server.base_url
        together_nb.settings.api_key = KEY
        together_nb.settings.default_headers = {"X-Gateway": HEADER}
        with pytest.raises(APIStatusError) as caught:
            send()
        assert caught.value.message.endswith(f" {url}, and a key is not carried there.")
        assert authorizations(server) == [f"Bearer {KEY}"]
        assert other.connections == 0
        if target != "the same host":
            requests.get(f"{server.base_url}/v1/models", timeout=20)
            assert other.connections == 1  # or it was no redirect


@pytest.fixture
def hosts(monkeypatch):
    """The hosts to which a connection is tried; none is reached."""
    names = []

    def nobody(host, *_, **__):
        names.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "nobody")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    together_nb.settings.api_key, together_nb.settings.model = KEY, "test/chat"
    return names


PLAIN = f"http://{ELSEWHERE}/v1"


@pytest.mark.parametrize("variable", [None, PLAIN])
@each_request
def test_plain_http_to_another_host_is_refused_before_a_connection_is_made(hosts, environ, send, variable):
    if variable is not None:
        environ(TOGETHER_BASE_URL=variable)
    with pytest.raises(InputError, match=f"{PLAIN} is plain http to another host: ") as caught:
        send(base_url=None if variable else PLAIN)
    assert f"https://{ELSEWHERE}/v1," in caught.value.hint
    assert hosts == []
    with suppress(APIConnectionError):
        together_nb.complete("Tell", api="chat", base_url=PLAIN.replace("http:", "https:"))
    assert set(hosts) == {ELSEWHERE}  # or nothing would ever be seen here


def listening_on(host):
    """A server on ``127.0.0.1``, or on ``[::1]``."""
    server = ScriptedServer(answers(["The answer"]))
    if host == "[::1]":
        server._listener.close()
        server._listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
        server.port = server._listener.getsockname()[1]
    return server


VERSION_6 = Path("/proc/net/if_inet6")
LOOPBACK = ["127.0.0.1", "localhost"]
LOOPBACK += ["[::1]"] if VERSION_6.exists() and "0" * 31 + "1" in VERSION_6.read_text() else []
PROXIES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


@pytest.mark.parametrize("host", LOOPBACK)
def test_this_machine_is_spoken_to_past_all_proxies(monkeypatch, host):
    together_nb.settings.model = "test/chat"
    with ScriptedServer(replies(200, b"")) as proxy, listening_on(host) as server:
        for name in PROXIES:
            monkeypatch.setenv(name, proxy.base_url)
        together_nb.settings.base_url = f"http://{host}:{server.port}"
        together_nb.settings.api_key = KEY
        assert together_nb.complete("Tell").text == "The answer"
        assert authorizations(server) == [f"Bearer {KEY}"] * 2
        assert proxy.connections == 0
        requests.get(f"http://{HOST}:{server.port}", timeout=20)
        assert proxy.connections == 1  # or it was none


@contextmanager
def tunnel(port):
    """A proxy that passes every connection on to one port of this machine; and all bytes that it sees."""
    passed = bytearray()

    def script(exchange):
        near = exchange._connection.socket
        exchange.cut()
        with socket.create_connection((HOST, port)) as far:
            exchange.raw(b"HTTP/1.1 200 Connection established\r\n\r\n")
            other = {near: far, far: near}
            while True:
                for one in select.select(list(other), [], [])[0]:
                    piece = one.recv(65536)
                    if not piece:
                        return
                    passed.extend(piece)
                    other[one].sendall(piece)

    with ScriptedServer(script) as proxy:
        yield proxy, passed


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
def test_a_real_host_is_reached_through_a_proxy_that_sees_nothing_of_the_key(certificates, monkeypatch, variable):
    together_nb.settings.base_url, together_nb.settings.model = f"https://{ELSEWHERE}/v1", "test/chat"
    together_nb.settings.api_key = KEY
    together_nb.settings.default_headers = {"X-Gateway": HEADER}
    elsewhere = ScriptedServer(answers(["The", " answer"]), tls=certificates, names=(ELSEWHERE,))
    with elsewhere as far, tunnel(far.port) as (proxy, passed):
        monkeypatch.setenv(variable, proxy.base_url)
        assert together_nb.complete("Tell").text == "The answer"
        assert authorizations(far) == [f"Bearer {KEY}"] * 2
        assert far.requests[0].headers["host"] == ELSEWHERE
        assert [(request.method, request.path) for request in proxy.requests] == [("CONNECT", f"{ELSEWHERE}:443")]
        assert far.requests[0].headers["x-gateway"] == HEADER
        assert b"authorization" not in passed.lower()
        assert b"x-gateway" not in passed.lower()
        assert seen(repr(proxy.requests) + repr(bytes(passed))) == []


def test_a_host_that_needs_no_proxy_is_spoken_to_without(hosts, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    for exempt, expected in (("", "proxy.example"), (ELSEWHERE, ELSEWHERE)):
        monkeypatch.setenv("NO_PROXY", exempt)
        with pytest.raises(APIConnectionError):
            together_nb.complete("Tell", api="chat", base_url=f"https://{ELSEWHERE}")
        assert set(hosts) == {expected}
        hosts.clear()


@pytest.mark.parametrize(
    "url",
    ["https://:{}@{}/v1", "ftp://me:{}@{}", "https://me:{}@[::1", "https://{1}#{0}", "https://{1}?key={0}", "https://me:{}@{}?a"],
)  # fmt: skip
def test_a_base_url_that_holds_a_key_is_refused_and_the_key_not_shown(url):
    with pytest.raises(InputError) as caught:
        server_root(url.format(KEY, ELSEWHERE))
    assert seen(str(caught.value)) == []


# A session in a browser

LOGIN = ".jp-Stdin-input"
BOXES = "[...document.querySelectorAll('input, textarea')].map(e => e.value).join()"


@pytest.mark.slow
@pytest.mark.browser
def test_a_notebook_that_was_saved_with_its_widgets_and_all_around_it_hold_no_key(open_notebook, tmp_path):
    config = tmp_path / ".jupyter"
    config.mkdir()
    (config / "jupyter_server_config.json").write_text('{"ServerApp": {"log_level": "DEBUG"}}')
    cells = (
        "%together login",
        "%%together\nTell",
        "import os\nfrom together_nb import settings\nsettings.default_headers = {'X-Gateway': os.environ['GATEWAY']}",
        "%xmode Verbose",
        "%%together\n401",
        "from together_nb import complete, settings, stream\nkey = settings.api_key\nkey, stream('Tell'), settings + 1",
        "from together_nb import Panel\nPanel(prompt='Tell', api='chat')",
        f"%together\nprint({CANARY!r})",
    )
    with ScriptedServer(by_prompt) as server:
        notebook = open_notebook(
            *cells, server=server, own_lab=True, widget_state=True, environment={"GATEWAY": HEADER}
        )
        page = notebook.page
        for number in range(len(cells) + 1):
            notebook.run(number)
            if number == 1:
                page.locator(LOGIN).fill(KEY)
                page.locator(LOGIN).press("Enter")
            notebook.wait_run(number)
        panel = PanelPage(page)
        panel.click("More parameters")
        panel.click("System prompt")
        for box in ("prompt", "system", "model", "seed", "stop", "temperature"):
            panel.type(box, KEY)
            page.wait_for_function(f"key => !{BOXES}.includes(key)", arg=KEY)
        panel.shows(TOLD)
        for prompt, state in (("Tell", "Done"), ("401", "Failed"), ("error event", "Failed")):
            panel.type("prompt", prompt)
            panel.click("Generate")
            panel.wait(state)
        for tab in ("Tokens", "Compare", "Events", "History", "Request"):
            panel.tab(tab)
        panel.shows("With curl")
        shown = page.content() + page.evaluate(BOXES)
        notebook.save()
        assert set(authorizations(server)) == {f"Bearer {KEY}"}
    saved = notebook.path.read_text()
    assert "widgets" in json.loads(saved)["metadata"]
    assert "Incorrect API key provided: …" in saved
    assert clean(saved)
    assert clean(shown)
    files = files_below(tmp_path, notebook.lab.runtime)  # the server's log of each message too
    assert {".server.log", "history.sqlite", "lesson-checkpoint.ipynb"} <= {path.name for path in files}
    assert clean(b"\n".join(path.read_bytes() for path in files))
