"""Where a key goes: to the scheme, host and port that it was given for, and nowhere else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest
from IPython.core.completer import provisionalcompleter

import together_nb
from tests.magic.test_magics import ipython
from tests.panel.test_panel import ask, opened
from tests.servers import ScriptedServer, answers, replies
from tests.whole.test_key import authorizations as keys
from together_nb.config.environment import Environment
from together_nb.errors import AuthenticationError, MissingKeyError, TogetherError
from together_nb.magic.completer import model_names
from together_nb.run.resolve import DEFAULT_MODEL, defaults, open_stream

KEY, OTHER, LATE = (f"sk-of-{name}-0123456789abcdef" for name in ("one", "two", "late"))
TOGETHER = "https://api.together.xyz"
ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def server():
    with ScriptedServer(answers(["Once"])) as one:
        yield one


@pytest.fixture
def another():
    with ScriptedServer(answers(["Twice"])) as one:
        yield one


@pytest.fixture
def shell():
    with ipython() as one:
        yield one


@pytest.fixture
def no_engine(monkeypatch):
    monkeypatch.setattr("together_nb.local.server.running_server", lambda: pytest.fail("the engine was started"))


@pytest.fixture
def question(monkeypatch):
    """Where somebody is asked for a key, `KEY` is typed."""
    asker = Mock(return_value=KEY)
    monkeypatch.setattr("getpass.getpass", asker)
    return asker


def chat(**options):
    return together_nb.complete("Tell", **{"model": "test/chat", "api": "chat", **options})


CALLS = {
    "complete": lambda **options: together_nb.complete("Tell", model="test/chat", **options),
    "stream": lambda **options: list(together_nb.stream("Tell", model="test/chat", **options)),
    "compare": lambda **options: together_nb.compare("Tell", model="test/chat", temperature=[0, 1], **options),
    "map_prompts": lambda **options: together_nb.map_prompts(["a", "b"], model="test/chat", progress=False, **options),
    "models": lambda **options: together_nb.models("", **options),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("way", ["settings", "argument"])
@pytest.mark.parametrize("place", ["environment", "settings", "settings for another"])
def test_another_server_is_asked_without_the_key(environ, server, another, call, way, place):
    if place == "environment":
        environ(TOGETHER_API_KEY=KEY)
    else:
        together_nb.settings.base_url = another.base_url if place == "settings for another" else None
        together_nb.settings.api_key = KEY
    if way == "settings":
        together_nb.settings.base_url = server.base_url
    call(**({} if way == "settings" else {"base_url": server.base_url}))
    assert set(keys(server)) == {None}


@pytest.mark.parametrize("suffix", ["", "/v1", "/v1/"])
def test_the_server_of_the_environment_gets_the_key_of_the_environment(environ, server, another, suffix):
    environ(TOGETHER_API_KEY=KEY, TOGETHER_BASE_URL=server.base_url + suffix)
    assert "test/base" in model_names(together_nb.session.default)  # Tab asks it
    CALLS["complete"]()
    together_nb.settings.base_url = another.base_url
    CALLS["complete"]()
    assert set(keys(server)) == {f"Bearer {KEY}"}
    assert set(keys(another)) == {None}


def test_each_server_gets_the_key_that_was_given_for_it_and_a_key_of_a_call_goes_with_that_call(server, another):
    for one, key in ((server, KEY), (another, OTHER)):
        together_nb.settings.base_url = one.base_url
        together_nb.settings.api_key = key
    for one in (server, another, server):
        together_nb.settings.base_url = one.base_url + "/v1"
        chat()
    together_nb.settings.api_key = None
    for one in (server, another):
        together_nb.settings.base_url = one.base_url
        chat()
        chat(api_key=LATE)
        chat()
    assert keys(server) == [f"Bearer {KEY}"] * 2 + [None, f"Bearer {LATE}", None]
    assert keys(another) == [f"Bearer {OTHER}", None, f"Bearer {LATE}", None]


ONLY_ALIKE = """
https://api.together.xyz.evil.example https://api.together.xyz:8443 https://evil.example/api.together.xyz
https://together.xyz https://xapi.together.xyz https://api.together.xyz. http://127.0.0.1:1
"""


def test_the_key_of_the_environment_is_for_together_and_for_no_address_that_only_looks_like_it(environ):
    environ(TOGETHER_API_KEY=KEY)
    for url in (TOGETHER, "https://API.together.ai:443/v1", f"{TOGETHER}/"):
        assert together_nb.settings.key_for(url).reveal() == KEY
    assert [url for url in ONLY_ALIKE.split() if together_nb.settings.key_for(url) is not None] == []
    assert KEY not in repr(Environment.read())


@pytest.mark.parametrize(
    ("url", "other"),
    [
        ("https://one.example", "https://one.example:8443"),
        ("https://one.example:8443", "https://one.example"),
        ("https://localhost", "http://localhost"),
        ("http://localhost:1", "http://127.0.0.1:1"),
        ("http://127.0.0.1:1", "http://127.0.0.1:2"),
        ("http://127.0.0.1:1", "http://[::1]:1"),
        ("http://[::1]:8000/v1", "https://bücher.example"),
        (TOGETHER, "https://api.together.ai"),
    ],
)
def test_scheme_host_and_port_all_count(url, other):
    together_nb.settings.base_url = url
    together_nb.settings.api_key = KEY
    assert together_nb.settings.key_for(url).reveal() == KEY
    assert together_nb.settings.key_for(other) is None
    together_nb.settings.base_url = other
    assert (together_nb.settings.base_url, together_nb.settings.api_key) == (other, None)


AMBIGUOUS = r"""
https://evil.example\[api.together.xyz] https://evil.example\[::1] http://127.0.0.1:9\[::1]:8000
https://[api.together.xyz] https://evil.example[api.together.xyz] https://api.together.xyz[x] https://[::1]evil.example
https://[::1%25lo]:1 https://evil.example\@api.together.xyz https://api.together.xyz\.evil.example https://evil%2eexample
"""


@pytest.mark.parametrize("url", AMBIGUOUS.split())
def test_an_address_in_which_two_readers_might_find_two_hosts_is_none(url):
    with pytest.raises(TogetherError):
        together_nb.settings.base_url = url
    with pytest.raises(TogetherError):
        chat(base_url=url)


# The environment


def test_the_environment_is_read_when_the_package_is_imported():
    code = f"""
import os, together_nb
os.environ.update(TOGETHER_API_KEY="{LATE}", TOGETHER_BASE_URL="https://evil.example/v1")
settings = together_nb.settings
print(settings.api_key, settings.chosen_base_url)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["None None"]


def test_a_late_base_url_is_refused_rather_than_ignored(monkeypatch, server):
    monkeypatch.setenv("TOGETHER_BASE_URL", server.base_url)
    together_nb.settings.api_key = KEY
    with pytest.raises(TogetherError, match="TOGETHER_BASE_URL"):
        chat()
    together_nb.settings.base_url = server.base_url
    assert chat().text == "Once"


def test_a_late_key_is_named_wherever_one_is_missing(monkeypatch, shell, capsys):
    monkeypatch.setenv("TOGETHER_API_KEY", LATE)
    with pytest.raises(MissingKeyError) as caught:
        chat()
    assert "TOGETHER_API_KEY changed after together_nb was imported" in caught.value.hint
    assert "not sent to" not in caught.value.hint
    shell.run_line_magic("together", "")
    assert "imported" in capsys.readouterr().out
    assert "imported" in together_nb.complete("Tell", max_tokens=2).note


def test_a_base_url_in_the_environment_that_is_none_costs_no_key(environ):
    environ(TOGETHER_API_KEY=KEY, TOGETHER_BASE_URL="no url")
    assert together_nb.settings.key_for(TOGETHER).reveal() == KEY
    with pytest.raises(TogetherError):
        together_nb.complete("Tell")


def test_what_cannot_be_a_key_stands_in_the_way_of_no_other_server(environ, shell, server, question):
    environ(TOGETHER_API_KEY="my keyé with blank")
    assert chat(base_url=server.base_url).text == "Once"
    assert together_nb.complete("Tell", model="local/ngram", max_tokens=2).text
    together_nb.settings.base_url = server.base_url
    shell.run_line_magic("together", "login")
    assert together_nb.settings.api_key.reveal() == KEY


def test_the_hint_names_the_key_that_is_for_another_server(environ):
    environ(TOGETHER_API_KEY=KEY)
    with ScriptedServer(replies(401, {"error": {"message": "no key"}})) as server:
        with pytest.raises(AuthenticationError) as caught:
            chat(base_url=server.base_url)
        assert "TOGETHER_API_KEY" in caught.value.hint
        assert f"127.0.0.1:{server.port}" in caught.value.hint
        environ(TOGETHER_API_KEY="")
        together_nb.settings.base_url = server.base_url
        together_nb.settings.api_key = KEY
        together_nb.settings.base_url = None
        with pytest.raises(MissingKeyError) as caught:
            chat()
        assert f"127.0.0.1:{server.port}" in caught.value.hint


# What nobody has asked for: the panel's list, Tab, a dry run


def test_the_panel_and_tab_send_no_key_to_a_server_that_a_cell_named(environ, shell, server, another):
    environ(TOGETHER_API_KEY=KEY)
    together_nb.settings.base_url = another.base_url
    with provisionalcompleter():
        list(shell.Completer.completions("%%together -m ", 14))
    assert another.connections == 0  # until it was asked before
    chat()
    assert "test/base" in model_names(together_nb.session.default)
    with opened(server):
        assert server.listed.wait(20)
    assert set(keys(server)) == set(keys(another)) == {None}


@pytest.mark.parametrize("line", ["", "--chat lesson", "--compare temperature=0,1", "--for letters"])
@pytest.mark.parametrize("model", ["-m test/chat", "-m local/ngram", "", "--budget"])
def test_a_dry_run_sends_nothing_and_starts_nothing(environ, shell, server, no_engine, capsys, line, model):
    environ(TOGETHER_API_KEY=KEY)
    together_nb.settings.base_url = server.base_url
    together_nb.settings.budget = 1.0 if model == "--budget" else None
    shell.user_ns["letters"] = ["a", "b"]
    shell.run_cell_magic("together", f"{model.replace('--budget', '')} --dry-run {line}", "Tell of {letters[1]}")
    out = capsys.readouterr().out
    assert server.connections == 0
    assert "lesson" not in together_nb.conversations
    assert ("unknown" in out.lower()) == (model != "-m test/chat" or not line.startswith("--chat"))
    assert "Tell of b" in out


def test_tab_and_a_dry_run_show_what_is_known_without_asking(shell, server, no_engine, capsys):
    assert "local/ngram" in model_names(together_nb.session.default)
    shell.run_cell_magic("together", "--dry-run", "Tell")
    assert "embedded engine: /v1/completions" in capsys.readouterr().out
    together_nb.settings.base_url = server.base_url
    together_nb.models()
    shell.run_cell_magic("together", "--dry-run -m test/base", "Tell")
    out = capsys.readouterr().out
    assert "/v1/completions" in out
    assert "unknown" not in out.lower()


# Logging in


def test_login_names_the_host_and_keeps_the_key_for_it_whatever_changes_meanwhile(
    shell, server, another, question, capsys
):
    together_nb.settings.base_url = server.base_url
    question.side_effect = lambda _: setattr(together_nb.settings, "base_url", another.base_url) or KEY
    shell.run_line_magic("together", "login")
    assert f"127.0.0.1:{server.port}" in question.call_args.args[0]
    chat()
    assert keys(server) == [f"Bearer {KEY}"]
    assert keys(another) == [None]
    assert KEY not in capsys.readouterr().out


def test_a_refused_login_leaves_the_keys_of_other_servers(shell, server, question):
    together_nb.settings.base_url = server.base_url
    together_nb.settings.api_key = OTHER
    with ScriptedServer(answers(["x"]), models=replies(401, {"error": {"message": "bad key"}})) as strict:
        together_nb.settings.base_url = strict.base_url
        with pytest.raises(AuthenticationError):
            shell.run_line_magic("together", "login")
        assert together_nb.settings.api_key is None
    together_nb.settings.base_url = server.base_url
    assert together_nb.settings.api_key.reveal() == OTHER


# default_headers, which go where the key goes

GATEWAY = {"X-Portkey-Provider": "openai", "api-key": KEY}


def sent(server, *names):
    """Those headers of each request."""
    return [tuple(map(one.headers.get, names)) for one in (*server.requests, *server.list_requests)]


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("way", ["settings", "argument", "session"])
def test_headers_go_with_each_request_to_their_server_and_with_none_to_another(server, another, call, way):
    if way == "settings":
        together_nb.settings.base_url = server.base_url
        together_nb.settings.default_headers = GATEWAY
        call()
        call(base_url=another.base_url)
        together_nb.settings.base_url = another.base_url
        call()
    elif way == "argument":
        call(base_url=server.base_url, default_headers=GATEWAY)
        call(base_url=another.base_url)
    else:
        one = together_nb.Session(base_url=server.base_url, model="test/chat", default_headers=GATEWAY)
        one.complete("Tell")
        one.complete("Tell", base_url=another.base_url)
    for one in (server, another):
        assert one.list_requests
    assert set(sent(server, "x-portkey-provider", "api-key", "authorization")) == {("openai", KEY, None)}
    assert set(sent(another, "x-portkey-provider", "api-key")) == {(None, None)}


def test_the_headers_of_a_cell_and_of_the_panel_are_those_of_the_settings(shell, server):
    together_nb.settings.base_url, together_nb.settings.model = server.base_url, "test/chat"
    together_nb.settings.default_headers = GATEWAY
    shell.run_cell_magic("together", "--show text", "Tell")
    shell.run_cell_magic("together", "--compare temperature=0,1", "Tell")
    together_nb.complete("Tell", chat="talk")
    with opened(server) as panel:
        ask(panel)
    assert len(server.requests) == 5
    assert set(sent(server, "api-key")) == {(KEY,)}


def test_the_argument_is_added_to_the_settings_and_replaces_what_is_of_the_same_name(server, another):
    together_nb.settings.base_url = server.base_url
    together_nb.settings.default_headers = {"X-One": "1", "x-two": "1", "User-Agent": "lesson"}
    chat(default_headers={"x-ONE": "2", "x-three": "2"})
    chat()
    chat(base_url=another.base_url, default_headers={"x-three": "2"})
    names = "x-one", "x-two", "x-three", "user-agent"
    assert sent(server, *names) == [("2", "1", "2", "lesson"), ("1", "1", None, "lesson")]
    assert sent(another, *names[:3]) == [(None, None, "2")]


def test_authorization_replaces_the_key_unless_a_key_is_given_for_the_request(server, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("default\nlogin somebody\npassword else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    together_nb.settings.base_url = server.base_url
    together_nb.settings.api_key = KEY
    together_nb.settings.default_headers = {"AUTHORIZATION": f"Basic {OTHER}"}
    chat()
    chat(api_key=LATE)
    chat(api_key=LATE, default_headers={"authorization": f"Token {OTHER}"})
    assert keys(server) == [f"Basic {OTHER}", f"Bearer {LATE}", f"Token {OTHER}"]


def test_authorization_stands_in_for_the_key_of_together_and_other_headers_do_not():
    together_nb.settings.default_headers = {"api-key": KEY}
    with pytest.raises(MissingKeyError):
        chat()
    assert together_nb.stream("Tell").endpoint.embedded
    together_nb.settings.default_headers = {"Authorization": f"Bearer {KEY}"}
    stream = open_stream(together_nb.session.default, "Tell", offline=True)
    assert (stream.endpoint.root, stream.endpoint.lacks_key, stream.request.model) == (TOGETHER, False, DEFAULT_MODEL)


def test_the_embedded_engine_gets_no_headers(shell, monkeypatch):
    together_nb.settings.default_headers = GATEWAY
    stream = together_nb.stream("Tell", model="local/ngram", max_tokens=2, default_headers={"X-Other": OTHER})
    assert "".join(chunk.text for chunk in stream)
    sent_to_it = stream._reader.exchange._response.request.headers
    assert stream.endpoint.embedded
    assert not {"api-key", "x-portkey-provider", "x-other"} & set(map(str.lower, sent_to_it))
    assert not open_stream(together_nb.session.default, "Tell", model="local/ngram", offline=True).endpoint.headers
    assert not defaults(together_nb.session.default)[1].headers


def test_an_answer_is_continued_with_the_headers_that_were_sent_for_it(server, another, shell):
    server.script = answers(["Once"], finish="length")
    together_nb.settings.base_url, together_nb.settings.model = another.base_url, "test/chat"
    together_nb.settings.default_headers = {"x-elsewhere": OTHER}
    part = chat(base_url=server.base_url, default_headers=GATEWAY)
    (mapped,) = together_nb.map_prompts(
        ["Tell"], base_url=server.base_url, api="chat", progress=False, default_headers=GATEWAY
    )
    server.requests.clear()
    whole = together_nb.continue_from(part)
    together_nb.continue_from(whole)
    together_nb.continue_from(mapped)
    together_nb.continue_from(part, default_headers={"api-key": LATE})
    names = "x-portkey-provider", "api-key", "x-elsewhere"
    assert sent(server, *names)[:4] == [("openai", KEY, None)] * 3 + [("openai", LATE, None)]
    together_nb.continue_from(part, base_url=another.base_url)
    assert sent(another, *names)[:1] == [(None, None, OTHER)]
    server.requests.clear()
    shell.run_line_magic("together", "logout")
    together_nb.continue_from(part)
    assert sent(server, *names)[:1] == [(None, None, None)]
    assert "api-key" not in f"{part.to_dict()} {whole!r}"


def test_a_key_given_to_continue_with_is_sent_in_the_place_of_authorization(server):
    server.script = answers(["Once"], finish="length")
    part = chat(base_url=server.base_url, default_headers={"Authorization": f"Basic {KEY}", "x-one": "1"})
    together_nb.continue_from(part)
    together_nb.continue_from(part, api_key=OTHER)
    assert [sent(server, "authorization", "x-one")[number] for number in (1, 2)] == [
        (f"Basic {KEY}", "1"),
        (f"Bearer {OTHER}", "1"),
    ]


def test_an_item_that_failed_is_sent_again_with_its_headers(server):
    server.script = replies(500, b"")
    given = dict(GATEWAY)
    results = together_nb.map_prompts(
        ["Tell"], base_url=server.base_url, model="test/chat", api="chat", progress=False, default_headers=given
    )
    given.clear()
    results.retry_failed(progress=False)
    assert sent(server, "api-key") == [(KEY,)] * 2


def test_each_account_has_a_list_of_models_of_its_own(server):
    for headers in ({"api-key": KEY}, {"api-key": OTHER}, {"api-key": KEY}, None):
        together_nb.models(base_url=server.base_url, default_headers=headers)
    assert sent(server, "api-key") == [(KEY,), (OTHER,), (None,)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"default_headers": GATEWAY}, ["no valid key in default_headers", "x-portkey-provider, api-key", "login"]),
        ({"default_headers": {"authorization": KEY}}, ["default_headers (authorization)"]),
        ({"default_headers": GATEWAY, "api_key": OTHER}, ["The server did not accept the key", "api_key", "api-key"]),
        ({}, ["The server wants a key", "gateway.example"]),
    ],
)
def test_a_refusal_says_which_headers_were_sent_and_shows_no_value(options, words):
    together_nb.settings.base_url = "https://gateway.example"
    together_nb.settings.default_headers = {"x-elsewhere": LATE}
    refusing = ScriptedServer(replies(401, {"error": {"message": f"what is {KEY}?"}}))
    with refusing as server, pytest.raises(AuthenticationError) as caught:
        chat(base_url=server.base_url, **options)
    assert [word for word in words if word not in str(caught.value)] == []
    assert KEY not in str(caught.value)


def test_the_status_names_the_headers_or_the_server_that_they_are_for(shell, server, capsys):
    shell.run_line_magic("together", "")
    assert "headers" not in capsys.readouterr().out
    together_nb.settings.base_url = "https://gateway.example"
    together_nb.settings.default_headers = GATEWAY
    shell.run_line_magic("together", "")
    assert "x-portkey-provider, api-key" in capsys.readouterr().out
    together_nb.settings.base_url = server.base_url
    shell.run_line_magic("together", "")
    out = capsys.readouterr().out
    assert f"gateway.example and are not sent to 127.0.0.1:{server.port}" in out
    assert KEY not in out


# Files


@pytest.mark.parametrize("place", ["environment", "another server", "argument", "header", "replaced", "forgotten"])
def test_a_key_that_is_or_was_in_use_is_in_no_file_and_no_error(environ, tmp_path, server, place):
    secret = {"environment": KEY, "another server": OTHER}.get(place, LATE)
    if place == "environment":
        environ(TOGETHER_API_KEY=secret)
    together_nb.settings.base_url = "https://elsewhere.example" if place == "another server" else server.base_url
    together_nb.settings.api_key = None if place in ("environment", "argument", "header") else secret
    given = {"argument": {"api_key": secret}, "header": {"default_headers": {"x-gateway": secret}}}
    chat(base_url=server.base_url, **given.get(place, {}))
    if place in ("replaced", "forgotten"):
        together_nb.settings.api_key = "sk-of-new-0123456789abcdef" if place == "replaced" else None
    with ScriptedServer(replies(400, {"error": {"message": f"cannot do {secret}"}})) as echoing:
        together_nb.settings.base_url = echoing.base_url
        with pytest.raises(TogetherError) as caught:
            chat()
        results = together_nb.map_prompts(["Tell"], model="m", api="chat", progress=False)
    together_nb.settings.base_url = server.base_url
    together_nb.record(tmp_path / "a.jsonl")
    together_nb.complete(f"What is {secret}?", model="test/chat", api="chat")
    together_nb.stop()
    together_nb.save(tmp_path / "b.jsonl")
    files = [(tmp_path / name).read_text() for name in ("a.jsonl", "b.jsonl")]
    assert all("What is" in text for text in files)
    assert secret not in f"{caught.value} {results!r} {results[0]} {files}"
