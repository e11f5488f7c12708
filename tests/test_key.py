"""The key stays in memory: what sessions leave behind is searched for it, and nothing replaces it or carries it off."""

from __future__ import annotations

import base64
import builtins
import copy
import json
import pickle
import select
import socket
import socketserver
import threading
import traceback
import types
from contextlib import contextmanager, suppress
from functools import cache, partial
from urllib.parse import quote

import pytest
import requests
from traitlets.config import Config

from tests import test_panel
from tests.kernels import Kernel
from tests.servers import HOST, MODELS, ScriptedServer, answers, authority, replies, silent
from tests.test_magic import ipython
from tests.test_panel_browser import PanelPage
from together_nb import Panel, complete, errors, history, models, settings, stream
from together_nb.background import BackgroundRun
from together_nb.config import Key, server_root
from together_nb.errors import APIConnectionError, APIStatusError, InputError, TogetherError
from together_nb.panel.guard import TOLD
from together_nb.panel.status import State
from together_nb.views.text import SilentView

pytestmark = pytest.mark.timeout(120)

# With letters that a URL writes otherwise; no eight of them stand anywhere else.
KEY = "Zq7xWd9vKf3/Lm5tRt8+Yb2nNc6=Hj4kUv0pXe1s"
CANARY = "canary-0123456789"  # told and written on purpose: a search that does not find it proves nothing
PIECE = 8  # letters; the last four alone may be shown
ELSEWHERE = "somewhere.example"


# How it is searched for


@cache
def forms(secret):
    """All pieces of a secret that nobody may see: as it is, in a URL, in base64 wherever it begins."""
    whole = [secret, quote(secret, safe="")]
    for before in range(3):
        coded = base64.b64encode(b"_" * before + secret.encode()).decode()[4 if before else 0 : -4]
        whole += [coded, coded.replace("+", "-").replace("/", "_")]
    return frozenset(one[start : start + PIECE] for one in whole for start in range(len(one) - PIECE + 1))


def seen(where, secret=KEY):
    """The pieces of the secret that stand somewhere."""
    if isinstance(where, bytes):
        return sorted(piece for piece in forms(secret) if piece.encode() in where)
    return sorted(piece for piece in forms(secret) if piece in where)


def clean(where):
    """Whether the search finds what was planted there, and nothing of the key."""
    assert seen(where, CANARY), "nothing was searched"
    return seen(where) == []


@pytest.mark.parametrize(
    "shown",
    [
        KEY,
        f"Bearer {KEY}.",
        KEY[5:13],
        repr({"a": [KEY]}),
        quote(KEY, safe=""),
        quote(KEY, safe="")[8:20],
        *(base64.b64encode(f"{name}:{KEY}".encode()).decode() for name in ("a", "ab", "abc", "a-user")),
        base64.urlsafe_b64encode(KEY.encode()).decode(),
        json.dumps(KEY).encode(),
    ],
)
def test_the_search_finds_the_key_in_any_form(shown):
    assert seen(shown)
    assert not clean((CANARY.encode() if isinstance(shown, bytes) else CANARY) + shown)


def test_the_last_four_letters_may_be_shown():
    assert clean(f"{CANARY}, ending in …{KEY[-4:]}")


def test_a_search_of_nothing_is_no_proof():
    with pytest.raises(AssertionError, match="nothing was searched"):
        clean("")


# What a server may do


def says(words):
    """An event with an error, after some of the answer had come."""

    def script(exchange):
        exchange.chunked().text_events(["The part"])
        exchange.event({"error": {"message": words, "type": "server_error"}})
        exchange.done()

    return script


def sends(data):
    """Bytes in the place of a reply."""

    def script(exchange):
        exchange.raw(data.encode("latin-1"))
        exchange.cut()

    return script


def breaks_off(exchange):
    exchange.chunked().text_events(["The part"])
    exchange.cut(reset=True)


REFUSED = {"error": {"message": f"Incorrect API key provided: {KEY}, that is {KEY[3:15]} and {quote(KEY, safe='')}."}}
REPLY = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
SCRIPTS = {
    "401": replies(401, REFUSED),
    "429": replies(429, REFUSED, retry_after="0"),
    "500": replies(500, f"Bearer {KEY}".encode()),
    "redirect": replies(307, b"", location=f"https://{ELSEWHERE}/?key={KEY}&again={quote(KEY, safe='')}"),
    "error event": says(REFUSED["error"]["message"]),
    "no event": sends(f'{REPLY}\r\ndata: "{KEY}"\n\n'),
    "odd event": sends(f'{REPLY}\r\ndata: {{"choices": [{{"index": "{KEY}", "text": "a"}}]}}\n\n'),
    "web page": replies(200, f"<html>{KEY}".encode(), content_type=f"text/{KEY}"),
    "no status": sends(f"HTTP/1.1 {KEY}\r\n\r\n"),
    "no chunk": sends(f"{REPLY}Transfer-Encoding: chunked\r\n\r\n{KEY}\r\n"),
    "lost": breaks_off,
    "lost at once": lambda exchange: exchange.cut(reset=True),
}


def by_prompt(exchange):
    """Does what the prompt says; answers any other."""
    asked = exchange.request.json()
    prompt = asked["messages"][-1]["content"] if "messages" in asked else asked["prompt"]
    script = silent() if prompt.strip() == "silence" else SCRIPTS.get(prompt.strip())
    (script or answers(["The", " answer", f" {CANARY}."]))(exchange)


# A session in a kernel

SETUP = """
import logging, pickle, threading
from unittest.mock import patch
from together_nb import Panel, complete, endpoint, history, models, recipes, settings, stream

logging.basicConfig(filename="debug.log", level=logging.DEBUG, force=True)
for name in ("requests", "urllib3", "together_nb", "asyncio", "traitlets", "IPKernelApp", "concurrent.futures"):
    logging.getLogger(name).setLevel(logging.DEBUG)
logging.getLogger("IPKernelApp").addHandler(logging.getLogger().handlers[0])
logging.debug("{canary}")
settings.base_url, settings.model, settings.max_retries = "{base_url}", "test/chat", 0

def rest():
    for thread in [one for one in threading.enumerate() if one.name.startswith("together_nb ")]:
        thread.join()

def bug(*_, **__):
    raise ZeroDivisionError("{canary}")

def fails(key, endpoint, exchange, request, headers, header, chunks, chunk, settings):
    raise ZeroDivisionError("{canary}")

def lesson():
    with stream("Tell") as chunks:
        for chunk in chunks:
            exchange, request = chunks._reader.exchange, chunks._reader.exchange._response.request
            fails(settings.api_key, chunks.endpoint, exchange, request, request.headers,
                  request.headers["authorization"], chunks, chunk, settings)
"""
PANEL = """
panel = Panel(prompt={prompt!r}, api="chat")
display(panel)
panel._generate.click()
rest()
for number in range(len(panel._tabs)):
    panel._tab.selected_index = number
    rest()
panel.compare.go.click()
rest()
panel._go_on.click()
rest()
"""
LOOKS = """
%together
%together models
%config TogetherMagics
%whos
settings, settings.api_key, stream("Tell"), stream("Tell").endpoint, history, told, vars(told)
settings.api_key?
vars(settings), vars(stream("Tell")), vars(stream("Tell")._reader.exchange), settings.trait_values()
recipes.recipes(stream("Tell"), settings.sampling)
kept = settings.api_key
print(settings, settings.api_key, str(settings.api_key), f"{settings.api_key}")
print([(one, one.to_dict(), one.metadata(), pickle.dumps(one)) for one in history])
""".strip().splitlines()
REFUSED_LOOKS = """
%store kept
pickle.dumps(settings.api_key)
pickle.dumps(settings)
settings.api_key.blanked(None)
settings.api_key + 1
""".strip().splitlines()
# What may go wrong within what we call, and under it; and who calls.
BUGS = {
    "together_nb.catalog.Catalog.from_json": ("models(fresh=True, api_key={key})", "complete('Tell', api_key={key})"),
    "together_nb.reader.Reader._received": ("complete('Tell', api_key={key})",),
    "together_nb.transport._Bearer.__call__": ("complete('Tell', api_key={key})",),
    "urllib3.connection.HTTPConnection.getresponse": ("complete('Tell', api_key={key})", "{magic}"),
    "urllib3.response.HTTPResponse.read1": ("complete('Tell', api_key={key})", "{magic}"),
    "http.client.HTTPConnection.putheader": ("complete('Tell', api_key={key})", "{magic}"),
    "http.client.HTTPConnection.send": ("complete('Tell', api_key={key})", "models(fresh=True)", "{magic}"),
}
CALLED = {"key": "settings.api_key.reveal()", "magic": "get_ipython().run_cell_magic('together', '', 'Tell')"}


class Session:
    """A kernel, all that it says, and the folder in which it writes."""

    def __init__(self, folder):
        self.folder = folder
        profile = folder / "profile_default"
        profile.mkdir()
        # Loaded before any cell runs, as by someone who always wants it.
        (profile / "ipython_kernel_config.py").write_text(
            "get_config().InteractiveShellApp.extensions = ['together_nb']"
        )
        self.kernel = Kernel(folder)
        self.iopub = []  # whatever cell it belongs to
        self.replies = []
        self.stdin = []
        self.lessons = {}  # the traceback that shows our objects, by its mode
        hear = self.kernel.client.get_iopub_msg

        def heard(**options):
            self.iopub.append(hear(**options))
            return self.iopub[-1]

        self.kernel.client.get_iopub_msg = heard
        # A cell that follows one that fails must not be passed over.
        self.kernel.client.execute = partial(self.kernel.client.execute, stop_on_error=False)

    def run(self, code, fails=None, **options):
        """Run a cell that ends well, or fails with an exception of that kind."""
        return self.ended(self.kernel.run(code, **options), fails)

    def ended(self, run, fails=None):
        self.replies.append(run.wait().reply)
        assert run.status == ("ok" if fails is None else "error"), run.reply["content"]
        if fails is not None:
            name = run.error["ename"]
            assert issubclass(getattr(errors, name, getattr(builtins, name, Exception)), fails), run.error
        return run

    def login(self, code="%together login", fails=None):
        run = self.kernel.run(code)
        self.stdin.append(self.kernel.answer_stdin(KEY))
        return self.ended(run, fails)

    def hear_reply(self):
        self.replies.append(self.kernel.client.get_shell_msg(timeout=60))


def drive(session, server, stranger):
    """What a person may do and meet: log in, stream, fail, look, open the panel, meet bugs."""
    run = session.run
    run(SETUP.format(canary=CANARY, base_url=server.base_url))
    run("%logstart -o -r -t session.log")
    server.models = SCRIPTS["401"]
    session.login(fails=TogetherError)
    server.models = MODELS
    session.login()
    for line in ("-o told", "--show text --temperature 0", "--dry-run", "-b -o told", "--api completions"):
        run(f"%%together {line}\nTell")
        run("rest()")
    run("%%together\nTell it unwatched", watched=False)
    for prompt in SCRIPTS:
        run(f"%%together\n{prompt}", TogetherError)
    run("%%together -b -o failed\n401")
    run("failed.exception(), failed")
    run("settings.max_retries = 1")
    run("%%together\n429", TogetherError)
    run("settings.max_retries = 0")
    run(f"settings.base_url = {stranger.base_url!r}")
    run("%%together --api chat\nTell a stranger", TogetherError)
    run(f"settings.base_url = {server.base_url!r}")
    for look in LOOKS:
        run(look)
    for prompt in ("Tell", "401", "error event", "redirect"):
        run(PANEL.format(prompt=prompt))
    for mode in ("Context", "Plain", "Minimal", "Verbose"):
        run(f"%xmode {mode}")
        session.lessons[mode] = "\n".join(run("lesson()", ZeroDivisionError).error["traceback"])
        run("complete('error event')", TogetherError)
    for look in REFUSED_LOOKS:
        run(look, Exception)
    meet_bugs(session)
    interrupt(session, server, f"complete('silence', api_key={CALLED['key']})")
    session.kernel.client.inspect("settings.api_key", detail_level=1)
    session.hear_reply()
    session.kernel.client.execute(f"'{CANARY}'", user_expressions={"key": "settings.api_key", "all": "vars(settings)"})
    session.hear_reply()
    run("get_ipython().history_manager.writeout_cache()")


def meet_bugs(session):
    for bug, calls in BUGS.items():
        for call in calls:
            code = f"endpoint._catalogs.clear()\nwith patch({bug!r}, bug):\n    {call.format(**CALLED)}"
            session.run(code, ZeroDivisionError)
    bug = "together_nb.catalog.Catalog.from_json"
    session.login(
        f"with patch({bug!r}, bug):\n    get_ipython().run_line_magic('together', 'login')", ZeroDivisionError
    )


def interrupt(session, server, code):
    server.arrived.clear()
    run = session.kernel.run(code)
    assert server.arrived.wait(20)
    session.kernel.interrupt()
    session.ended(run, KeyboardInterrupt)


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """A session in which all this has been done."""
    with ScriptedServer(by_prompt) as server, ScriptedServer(silent(), tls=authority()) as stranger:
        one = Session(tmp_path_factory.mktemp("session"))
        try:
            drive(one, server, stranger)
            one.sent = {request.headers.get("authorization") for request in server.requests}
            yield one
        finally:
            one.kernel.stop()


def test_the_session_used_the_key_and_asked_for_it_unseen(session):
    assert session.sent == {f"Bearer {KEY}"}
    assert [asked["password"] for asked in session.stdin] == [True] * 3


def test_no_message_of_a_session_on_iopub_holds_the_key(session):
    kinds = {message["msg_type"] for message in session.iopub}
    assert {
        "stream",
        "display_data",
        "update_display_data",
        "error",
        "execute_result",
        "comm_open",
        "comm_msg",
    } <= kinds
    assert "Bearer $TOGETHER_API_KEY" in repr(session.iopub)
    assert clean(repr(session.iopub))


def test_no_reply_and_no_question_of_a_session_holds_the_key(session):
    assert clean(repr(session.replies))
    assert seen(repr(session.stdin)) == []


def test_a_traceback_shows_our_objects_and_the_key_in_none_of_them(session):
    assert "key=<API key from" in session.lessons["Verbose"]
    assert "header=<hidden>" in session.lessons["Verbose"]
    for traceback_ in session.lessons.values():
        assert clean(traceback_)


@pytest.mark.parametrize(
    ("name", "holds"),
    [
        ("history.sqlite", "%%together"),
        ("debug.log", '"POST /v1/chat/completions HTTP/1.1" 401'),
        ("session.log", "#[Out]#"),
    ],
    ids=["the history", "the log", "the log of the session"],
)
def test_no_file_that_a_session_writes_holds_the_key(session, name, holds):
    (path,) = session.folder.rglob(name)
    written = path.read_bytes()
    assert holds.encode() in written
    assert clean(written)


def test_nothing_at_all_that_a_session_leaves_behind_holds_the_key(session):
    assert clean(b"\n".join(path.read_bytes() for path in session.folder.rglob("*") if path.is_file()))


# What objects show


@pytest.fixture
def server():
    settings.model, settings.max_retries = "test/chat", 0
    with ScriptedServer(by_prompt) as one:
        settings.base_url = one.base_url
        settings.api_key = KEY
        yield one
        assert set(sent(one)) <= {f"Bearer {KEY}"}


def failure(prompt):
    with pytest.raises(TogetherError) as caught:
        complete(prompt, api="chat")
    return caught.value


@contextmanager
def objects():
    """One of each that a person may hold, while it is in use and after."""
    with ipython(Config()) as shell, stream("Tell") as begun, stream("Tell") as ended:
        next(begun)
        ended.__dict__["chunks_that_came"] = list(ended)
        good, bad = (BackgroundRun(lambda prompt=prompt: stream(prompt), SilentView()) for prompt in ("Tell", "401"))
        good.run()
        bad.run()
        panel = Panel(prompt="Tell")
        test_panel.click(panel, "Generate")
        test_panel.rest()
        yield {
            "settings": settings,
            "key": settings.api_key,
            "endpoint": begun.endpoint,
            "stream": stream("Tell"),
            "stream under way": begun,
            "stream that ended": ended,
            "exchange": begun._reader.exchange,
            "request": begun._reader.exchange._response.request,
            "completion": ended.completion,
            "models": models(),
            "run": good,
            "run that failed": bad,
            "panel": panel,
            "magics": shell.magics_manager.registry["TogetherMagics"],
            "history": history,
            **{f"error: {prompt}": failure(prompt) for prompt in SCRIPTS},
        }
        panel.close()
        test_panel.rest()


APART = (types.ModuleType, type, types.BuiltinFunctionType, threading.Thread, int, float, type(None))


def parts(root):
    """An object and all that it holds, to any depth, but for what is IPython's or pytest's."""
    found, left = {}, [root]
    while left:
        one = left.pop()
        if id(one) in found or isinstance(one, APART) or type(one).__module__.startswith(("IPython.", "_pytest.")):
            continue
        found[id(one)] = one
        if isinstance(one, dict):
            left += [*one.keys(), *one.values()]
        elif isinstance(one, (list, tuple, set, frozenset)):
            left += one
        elif isinstance(one, types.FunctionType):
            left += [cell.cell_contents for cell in one.__closure__ or ()]
        elif isinstance(one, types.GeneratorType) and one.gi_frame is not None:
            left.append(one.gi_frame.f_locals)
        elif isinstance(one, BaseException):
            left += [one.args, one.__cause__, one.__context__]
        if hasattr(one, "__dict__"):
            left.append(vars(one))
        for name in (name for kind in type(one).__mro__ for name in getattr(kind, "__slots__", ())):
            with suppress(AttributeError):
                left.append(getattr(one, name))
    return list(found.values())


def told(root):
    """All that is shown of an object and of what it holds."""
    containers = (dict, list, tuple, set, frozenset)  # their parts are told
    words = (
        repr(one) if isinstance(one, (str, bytes)) else f"{one!r} {one}"
        for one in parts(root)
        if type(one) not in containers
    )
    return "\n".join(words)


class Plain:
    def __init__(self, held):
        self.held = [{"headers": requests.Request("GET", "http://x", headers={"Authorization": held}).prepare()}]


def test_what_is_held_deep_within_an_object_is_found():
    assert seen(told(Plain(f"Bearer {KEY}")))
    assert not seen(told(Plain(CANARY)))


def test_no_object_shows_the_key_nor_does_anything_that_it_holds(server):
    with objects() as held:
        assert all(clean(told((one, CANARY))) for one in held.values())
        holding = {name for name, one in held.items() if any(isinstance(part, Key) for part in parts(one))}
        assert holding >= {"settings", "endpoint", "stream under way", "exchange", "run that failed", "panel"}


def test_what_can_be_pickled_and_copied_takes_no_key_along(server):
    with objects() as held:
        found = {}
        for name, one in held.items():
            with suppress(TypeError, pickle.PicklingError, AttributeError, NotImplementedError):
                found[name] = seen(pickle.dumps(one) + told(copy.deepcopy(one)).encode())
    assert {"completion", "history", "models", "error: 401"} <= set(found)
    assert not {"settings", "key", "endpoint", "stream", "exchange", "request", "run", "panel"} & set(found)
    assert not any(found.values())


def tracebacks(error):
    """All that can be told of an error and of those behind it, the variables of all frames too."""
    words, left = [], [error]
    while left:
        one = left.pop()
        if one is not None:
            words += [*traceback.format_exception(one), repr(one), str(one)]
            words += traceback.TracebackException.from_exception(one, capture_locals=True).format()
            left += [one.__cause__, one.__context__]
    return "".join(words)


def test_the_variables_in_a_traceback_are_searched():
    def fails(held):
        raise ZeroDivisionError

    for held, found in ((KEY, True), (CANARY, False)):
        with pytest.raises(ZeroDivisionError) as caught:
            fails(held)
        assert bool(seen(tracebacks(caught.value))) is found


@pytest.mark.parametrize("prompt", SCRIPTS)
def test_no_traceback_of_ours_shows_the_key_not_even_with_all_variables(server, prompt):
    planted = CANARY
    with pytest.raises(TogetherError) as caught:
        complete(prompt, api="chat", api_key=KEY)
    assert clean(tracebacks(caught.value)), planted


def test_no_traceback_of_a_refused_list_shows_the_key(server):
    planted = CANARY
    server.models = SCRIPTS["401"]
    with pytest.raises(TogetherError) as caught:
        models(api_key=KEY)
    assert clean(tracebacks(caught.value)), planted


@pytest.mark.parametrize("bug", BUGS)
@pytest.mark.parametrize("kind", [ZeroDivisionError, KeyboardInterrupt])
def test_no_traceback_of_a_bug_or_an_interrupt_shows_the_key_not_even_with_all_variables(
    server, monkeypatch, bug, kind
):
    def fails(*_, **__):
        raise kind

    planted = CANARY
    monkeypatch.setattr(bug, fails)
    with pytest.raises(kind) as caught:
        complete("Tell", api_key=KEY)
    assert clean(tracebacks(caught.value)), planted


def test_no_traceback_of_a_bug_while_one_logs_in_shows_the_key(server, monkeypatch):
    def fails(*_):
        raise ZeroDivisionError

    monkeypatch.setattr("getpass.getpass", lambda _: KEY)
    monkeypatch.setattr("together_nb.catalog.Catalog.from_json", fails)
    with ipython(Config()) as shell:
        result = shell.run_cell("%together login")
    assert isinstance(result.error_in_exec, ZeroDivisionError)
    assert "account.py" in tracebacks(result.error_in_exec)
    assert seen(tracebacks(result.error_in_exec)) == []


# What could replace it or carry it off


def sent(server):
    """The Authorization of each request that came."""
    return [request.headers.get("authorization") for request in (*server.requests, *server.list_requests)]


@pytest.fixture(params=["HOME", "NETRC"])
def netrc(request, monkeypatch, tmp_path):
    """Credentials for every host, as requests takes them."""
    path = tmp_path / ".netrc"
    path.write_text(f"machine {HOST}\nlogin somebody\npassword else\ndefault\nlogin somebody\npassword else\n")
    path.chmod(0o600)
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.setenv(request.param, str(tmp_path if request.param == "HOME" else path))


@pytest.mark.parametrize("key", [KEY, None])
def test_netrc_does_not_replace_the_key_nor_stand_in_for_it(netrc, key):
    with ScriptedServer(answers(["The answer"])) as server:
        settings.base_url, settings.model = server.base_url, "test/chat"
        assert complete("Tell", api_key=key).text == "The answer"
        models(api_key=key, fresh=True)
        assert set(sent(server)) == {None if key is None else f"Bearer {key}"}
        requests.get(f"{server.base_url}/v1/models", timeout=20)
        assert sent(server)[-1].startswith("Basic ")  # or it was not read by anybody


ASKS = {"answer": lambda: complete("Tell", api="chat"), "models": models}


@pytest.mark.parametrize("ask", ASKS)
@pytest.mark.parametrize("where", ["the same host", "another host", "plain http"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_carries_nothing_off(certificates, status, where, ask):
    settings.model = "test/chat"
    tls = None if where == "plain http" else certificates
    with ScriptedServer(answers(["a"]), tls=tls) as other, ScriptedServer(silent(), tls=certificates) as server:
        target = server if where == "the same host" else other
        server.script = server.models = replies(status, b"", location=f"{target.base_url}/elsewhere")
        settings.base_url = server.base_url
        settings.api_key = KEY
        with pytest.raises(APIStatusError) as caught:
            ASKS[ask]()
        assert caught.value.message.endswith(
            f"sends on to {target.base_url}/elsewhere, and a key is not carried there."
        )
        assert sent(server) == [f"Bearer {KEY}"]
        assert other.connections == 0
        if target is other:
            requests.get(f"{server.base_url}/v1/models", timeout=20)
            assert other.connections == 1  # or it was no redirect


@pytest.fixture
def tried(monkeypatch):
    """The hosts to which a connection was tried; none is reached."""
    hosts = []

    def nobody(host, *_, **__):
        hosts.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "nobody")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    settings.api_key, settings.model = KEY, "test/chat"
    return hosts


PLAIN = f"http://{ELSEWHERE}/v1"
REFUSED_WORDS = f"{PLAIN} is plain http to another host: anyone on the way could read what is sent."
DOORS = {
    "answer": lambda url: complete("Tell", base_url=url),
    "stream": lambda url: stream("Tell", api="chat", base_url=url),
    "models": lambda url: models(base_url=url),
    "settings": lambda url: setattr(settings, "base_url", url),
}


@pytest.mark.parametrize("door", DOORS)
def test_plain_http_to_another_host_is_refused_before_a_connection_is_made(tried, door):
    with pytest.raises(InputError) as caught:
        DOORS[door](PLAIN)
    assert caught.value.message == REFUSED_WORDS
    assert caught.value.hint == f"Use https://{ELSEWHERE}/v1, or a tunnel to a port on localhost."
    assert (tried, settings.base_url) == ([], None)


@pytest.mark.parametrize("ask", ASKS)
def test_plain_http_to_another_host_is_refused_when_the_environment_names_it(tried, environ, ask):
    environ(TOGETHER_BASE_URL=PLAIN)
    with pytest.raises(InputError) as caught:
        ASKS[ask]()
    assert (caught.value.message, tried) == (REFUSED_WORDS, [])
    environ(TOGETHER_BASE_URL=PLAIN.replace("http:", "https:"))
    with pytest.raises(APIConnectionError):
        ASKS[ask]()
    assert set(tried) == {ELSEWHERE}  # or nothing would ever be seen here


@pytest.mark.parametrize(
    "cell", [f"%config TogetherMagics.base_url = {PLAIN!r}", "%%together\nTell", "%together models"]
)
def test_plain_http_to_another_host_is_refused_in_cells(tried, environ, capsys, caplog, cell):
    if "%config" not in cell:
        environ(TOGETHER_BASE_URL=PLAIN)
    with ipython(Config()) as shell:
        shell.run_cell(cell)
        assert REFUSED_WORDS in capsys.readouterr().out + caplog.text
    assert (tried, settings.base_url) == ([], None)


def test_plain_http_to_another_host_is_refused_in_the_panel(tried, environ):
    environ(TOGETHER_BASE_URL=PLAIN)
    with test_panel.watched():
        panel = Panel(prompt="Tell")
        test_panel.click(panel, "Generate")
        test_panel.rest()
        assert panel.state is State.FAILED
        assert REFUSED_WORDS in test_panel.words(test_panel.page(panel, "Answer"))
        panel.close()
    assert tried == []


class OnVersion6(ScriptedServer):
    """A server on ``[::1]``."""

    def __init__(self, script):
        super().__init__(script)
        self._listener.close()
        self._listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
        self.port = self._listener.getsockname()[1]


def has_version_6():
    with suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


LOOPBACK = ["127.0.0.1", "localhost", *(["[::1]"] if has_version_6() else [])]
PROXIES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


@pytest.mark.parametrize("host", LOOPBACK)
def test_this_machine_is_spoken_to_past_all_proxies(monkeypatch, host):
    kind = OnVersion6 if host == "[::1]" else ScriptedServer
    with ScriptedServer(replies(200, b"")) as proxy, kind(answers(["The answer"])) as server:
        for name in PROXIES:
            monkeypatch.setenv(name, proxy.base_url)
        settings.base_url, settings.model = f"http://{host}:{server.port}", "test/chat"
        settings.api_key = KEY
        assert complete("Tell").text == "The answer"
        assert sent(server) == [f"Bearer {KEY}"] * 2
        assert proxy.connections == 0
        requests.get(settings.base_url, timeout=20)
        assert proxy.connections == 1  # or it was none


def test_the_embedded_engine_is_spoken_to_past_all_proxies_and_without_the_key(monkeypatch):
    settings.api_key = KEY
    with ScriptedServer(silent()) as proxy:
        for name in PROXIES:
            monkeypatch.setenv(name, proxy.base_url)
        with stream("Tell", model="local/ngram", max_tokens=3) as chunks:
            assert list(chunks)
            assert chunks.endpoint.key.reveal() != KEY
        assert proxy.connections == 0


@contextmanager
def tunnel(port):
    """A proxy that lets every connection through to one port of this machine; its address, and all bytes that it saw."""
    passed = bytearray()

    class Through(socketserver.BaseRequestHandler):
        def handle(self):
            passed.extend(self.request.recv(65536))
            with socket.create_connection((HOST, port)) as far:
                self.request.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                other = {self.request: far, far: self.request}
                while True:
                    for one in select.select(list(other), [], [])[0]:
                        piece = one.recv(65536)
                        if not piece:
                            return
                        passed.extend(piece)
                        other[one].sendall(piece)

    with socketserver.ThreadingTCPServer((HOST, 0), Through) as proxy:
        proxy.daemon_threads = True
        serving = threading.Thread(target=proxy.serve_forever, args=[0.01], daemon=True)
        serving.start()
        yield f"http://{HOST}:{proxy.server_address[1]}", passed
        proxy.shutdown()
        serving.join()


@pytest.fixture
def far():
    """A server that shows a certificate for another host's name."""
    settings.base_url, settings.model = f"https://{ELSEWHERE}/v1", "test/chat"
    settings.api_key = KEY
    with ScriptedServer(answers(["The", " answer"]), tls=authority()) as server:
        authority().issue_cert(ELSEWHERE).configure_cert(server._tls)
        yield server


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
def test_a_real_host_is_reached_through_a_proxy_that_sees_nothing_of_the_key(certificates, monkeypatch, far, variable):
    with tunnel(far.port) as (address, passed):
        monkeypatch.setenv(variable, address)
        assert complete("Tell").text == "The answer"
        assert sent(far) == [f"Bearer {KEY}"] * 2
        assert far.requests[0].headers["host"] == ELSEWHERE
        assert passed.startswith(f"CONNECT {ELSEWHERE}:443 HTTP/1.".encode())
        assert b"authorization" not in passed.lower()
        assert seen(bytes(passed)) == []


def test_a_proxy_that_opens_the_connection_itself_is_not_told_the_key(monkeypatch, far):
    """Its certificate is of an authority that is not known: as without ``REQUESTS_CA_BUNDLE``."""
    with tunnel(far.port) as (address, passed):
        monkeypatch.setenv("HTTPS_PROXY", address)
        with pytest.raises(APIConnectionError) as caught:
            complete("Tell", api="chat")
        assert caught.value.message.startswith(f"The secure connection to https://{ELSEWHERE} failed: ")
        assert "REQUESTS_CA_BUNDLE" in caught.value.hint
        assert ELSEWHERE.encode() in passed
    assert far.requests == []


def test_a_host_that_needs_no_proxy_is_spoken_to_without(tried, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    for exempt, expected in (("", "proxy.example"), (ELSEWHERE, ELSEWHERE)):
        monkeypatch.setenv("NO_PROXY", exempt)
        with pytest.raises(APIConnectionError):
            complete("Tell", api="chat", base_url=f"https://{ELSEWHERE}")
        assert set(tried) == {expected}
        tried.clear()


@pytest.mark.parametrize(
    "url",
    [
        f"https://:{KEY}@{ELSEWHERE}/v1",
        f"ftp://me:{KEY}@{ELSEWHERE}",
        f"https://me:{KEY}@[::1",
        f"https://{ELSEWHERE}#{KEY}",
        f"https://{ELSEWHERE}?key={KEY}",
        f"https://me:{KEY}@{ELSEWHERE}?a",
    ],
)
def test_a_base_url_that_holds_a_key_is_refused_and_the_key_not_shown(url):
    with pytest.raises(InputError) as caught:
        server_root(url)
    assert seen(str(caught.value)) == []


# A session in a browser

LOGIN = ".jp-Stdin-input"
STORED = "localStorage.setItem('planted', {!r}); console.log({!r}); JSON.stringify(localStorage)"


@pytest.mark.browser
def test_a_notebook_that_was_saved_with_its_widgets_and_all_around_it_hold_no_key(open_notebook, tmp_path):
    config = tmp_path / ".jupyter"
    config.mkdir()
    (config / "jupyter_server_config.json").write_text('{"ServerApp": {"log_level": "DEBUG"}}')
    cells = (
        "%together login",
        "%%together\nTell",
        "%xmode Verbose",
        "%%together\n401",
        "from together_nb import complete, settings, stream\nkey = settings.api_key\nkey, stream('Tell'), settings + 1",
        "from together_nb import Panel\nPanel(prompt='Tell', api='chat')",
        f"%together\nprint({CANARY!r})",
    )
    with ScriptedServer(by_prompt) as server:
        notebook = open_notebook(*cells, server=server, widget_state=True)
        page, console = notebook.page, []
        page.on("console", lambda message: console.append(message.text))
        notebook.run(0)
        notebook.wait_run(0)
        notebook.run(1)
        page.locator(LOGIN).fill(KEY)
        page.locator(LOGIN).press("Enter")
        for number in range(1, len(cells) + 1):
            if number > 1:
                notebook.run(number)
            notebook.wait_run(number)
        panel = PanelPage(page)
        panel.click("More parameters")
        panel.click("System prompt")
        for box in ("prompt", "system", "model", "seed", "stop", "temperature"):
            panel.type(box, KEY)
            page.wait_for_function(
                "key => ![...document.querySelectorAll('input, textarea')].some(e => e.value.includes(key))", arg=KEY
            )
        panel.shows(TOLD)
        for prompt, state in (("Tell", "Done"), ("401", "Failed"), ("error event", "Failed")):
            panel.type("prompt", prompt)
            panel.click("Generate")
            panel.wait(state)
        for tab in ("Tokens", "Compare", "Events", "History", "Request"):
            panel.tab(tab)
        panel.shows("With curl")
        stored = page.evaluate(STORED.format(CANARY, CANARY))
        shown = page.content() + page.evaluate(
            "[...document.querySelectorAll('input, textarea')].map(e => e.value).join()"
        )
        notebook.save()
        assert set(sent(server)) == {f"Bearer {KEY}"}
    saved = notebook.path.read_text()
    assert "widgets" in json.loads(saved)["metadata"]
    assert "Incorrect API key provided: …" in saved
    for where in (saved, shown, "".join(console), stored):
        assert clean(where)
    assert b"[D " in (tmp_path / ".server.log").read_bytes()
    files = [path for folder in (tmp_path, notebook.lab.runtime) for path in folder.rglob("*") if path.is_file()]
    assert {"history.sqlite", "lesson-checkpoint.ipynb"} <= {path.name for path in files}
    assert clean(b"\n".join(path.read_bytes() for path in files))
