"""Where a key goes: to the scheme, host and port that it was given for, and nowhere else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from IPython.core.completer import provisionalcompleter

from tests.servers import ScriptedServer, answers, replies
from tests.test_magic import ipython
from together_nb import (
    compare,
    complete,
    conversations,
    environment,
    map_prompts,
    models,
    record,
    recording,
    save,
    settings,
    stream,
)
from together_nb.completer import model_names
from together_nb.errors import AuthenticationError, MissingKeyError, TogetherError
from together_nb.panel import Panel

KEY = "sk-of-one-0123456789abcdef"
OTHER = "sk-of-two-0123456789abcdef"
ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def server():
    with ScriptedServer(answers(["Once"])) as one:
        yield one


@pytest.fixture
def another():
    with ScriptedServer(answers(["Twice"])) as one:
        yield one


def keys(server):
    """The `Authorization` of each request that has come, for the list too."""
    return [request.headers.get("authorization") for request in (*server.list_requests, *server.requests)]


ASKING = {
    "complete": lambda **options: complete("Tell", model="test/chat", **options),
    "stream": lambda **options: list(stream("Tell", model="test/chat", **options)),
    "compare": lambda **options: compare("Tell", model="test/chat", temperature=[0, 1], **options),
    "map_prompts": lambda **options: map_prompts(["a", "b"], model="test/chat", progress=False, **options),
    "models": models,
}


@pytest.mark.parametrize("ask", ASKING.values(), ids=ASKING)
@pytest.mark.parametrize("how", ["settings", "argument"])
@pytest.mark.parametrize("given", ["environment", "settings", "settings for another"])
def test_another_server_is_asked_without_the_key(environ, server, another, ask, how, given):
    if given == "environment":
        environ(TOGETHER_API_KEY=KEY)
    elif given == "settings":
        settings.api_key = KEY
    else:
        settings.base_url = another.base_url
        settings.api_key = KEY
    if how == "settings":
        settings.base_url = server.base_url
        ask()
    else:
        ask(base_url=server.base_url)
    assert keys(server)
    assert set(keys(server)) == {None}


@pytest.mark.parametrize("suffix", ["", "/v1", "/v1/"])
def test_the_server_of_the_environment_gets_the_key_of_the_environment(environ, server, another, suffix):
    environ(TOGETHER_API_KEY=KEY, TOGETHER_BASE_URL=server.base_url + suffix)
    ASKING["complete"]()
    settings.base_url = another.base_url
    ASKING["complete"]()
    assert set(keys(server)) == {f"Bearer {KEY}"}
    assert set(keys(another)) == {None}


def test_each_server_gets_the_key_that_was_given_for_it(server, another):
    for one, key in ((server, KEY), (another, OTHER)):
        settings.base_url = one.base_url
        settings.api_key = key
    for one in (server, another, server):
        settings.base_url = one.base_url + "/v1"
        ASKING["complete"]()
    assert set(keys(server)) == {f"Bearer {KEY}"}
    assert set(keys(another)) == {f"Bearer {OTHER}"}
    settings.api_key = None
    ASKING["complete"]()
    settings.base_url = another.base_url
    ASKING["complete"]()
    assert keys(server)[-1] is keys(another)[-1] is None


def test_a_key_of_a_call_goes_with_that_call(server, another):
    settings.base_url = another.base_url
    ASKING["complete"](base_url=server.base_url, api_key=KEY, api="chat")
    ASKING["complete"](base_url=server.base_url, api="chat")
    ASKING["complete"](api="chat")
    assert keys(server) == [f"Bearer {KEY}", None]
    assert keys(another) == [None]


@pytest.mark.parametrize(
    "url",
    [
        "https://api.together.xyz.evil.example",
        "https://api.together.xyz:8443",
        "https://evil.example/api.together.xyz",
        "https://together.xyz",
        "https://xapi.together.xyz",
        "https://api.together.xyz.",
        "http://127.0.0.1:1",
    ],
)
def test_the_key_of_the_environment_is_for_no_address_that_only_looks_like_togethers(environ, url):
    environ(TOGETHER_API_KEY=KEY)
    assert settings.key_for(url) is None


@pytest.mark.parametrize(
    "url", ["https://api.together.xyz", "https://API.together.ai:443/v1", "https://api.together.xyz/"]
)
def test_the_key_of_the_environment_is_for_together(environ, url):
    environ(TOGETHER_API_KEY=KEY)
    assert settings.key_for(url).reveal() == KEY


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("https://one.example", "https://one.example:8443"),
        ("https://one.example:8443", "https://one.example"),
        ("https://localhost", "http://localhost"),
        ("http://localhost:1", "http://127.0.0.1:1"),
        ("http://127.0.0.1:1", "http://127.0.0.1:2"),
        ("http://127.0.0.1:1", "http://[::1]:1"),
        ("https://api.together.xyz", "https://api.together.ai"),
    ],
)
def test_scheme_host_and_port_all_count(given, asked):
    settings.base_url = given
    settings.api_key = KEY
    assert settings.key_for(given).reveal() == KEY
    assert settings.key_for(asked) is None
    settings.base_url = asked
    assert settings.api_key is None


def test_the_environment_is_read_when_the_package_is_imported():
    code = """
import os, together_nb
os.environ["TOGETHER_API_KEY"] = "sk-late-0123456789abcdef"
os.environ["TOGETHER_BASE_URL"] = "https://evil.example/v1"
settings = together_nb.settings
print(settings.api_key, settings.chosen_base_url)
del os.environ["TOGETHER_BASE_URL"]
from together_nb import complete
from together_nb.errors import MissingKeyError
try:
    complete("Tell", model="a/model")
except MissingKeyError as error:
    print("TOGETHER_API_KEY" in error.hint)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["None None", "True"]


def test_a_401_tells_that_a_key_was_kept_back(environ):
    environ(TOGETHER_API_KEY=KEY)
    with ScriptedServer(replies(401, {"error": {"message": "no key"}})) as server:
        with pytest.raises(AuthenticationError) as told:
            complete("Tell", model="m", api="chat", base_url=server.base_url)
        assert "TOGETHER_API_KEY" in told.value.hint
        assert f"127.0.0.1:{server.port}" in told.value.hint
        assert KEY not in str(told.value)


def test_together_without_its_key_says_whose_key_there_is(server):
    settings.base_url = server.base_url
    settings.api_key = KEY
    settings.base_url = None
    with pytest.raises(MissingKeyError) as told:
        complete("Tell", model="a/model")
    assert f"127.0.0.1:{server.port}" in told.value.hint


@pytest.fixture
def shell():
    with ipython() as one:
        yield one


def test_the_panel_sends_no_key_to_a_server_that_a_cell_named(environ, server):
    environ(TOGETHER_API_KEY=KEY)
    settings.base_url = server.base_url
    panel = Panel(prompt="Tell")
    assert server.listed.wait(20)
    panel.close()
    assert set(keys(server)) == {None}


def test_tab_asks_no_server_that_a_cell_named_until_it_was_asked_before(environ, shell, server):
    environ(TOGETHER_API_KEY=KEY)
    settings.base_url = server.base_url
    with provisionalcompleter():
        list(shell.Completer.completions("%%together -m ", 14))
    assert server.connections == 0
    complete("Tell", model="test/chat", api="chat")
    assert "test/base" in model_names()
    assert set(keys(server)) == {None}


def test_tab_asks_the_server_of_the_environment(environ, server):
    environ(TOGETHER_API_KEY=KEY, TOGETHER_BASE_URL=server.base_url)
    assert "test/base" in model_names()
    assert keys(server) == [f"Bearer {KEY}"]


def test_tab_starts_nothing_where_there_is_no_key(monkeypatch):
    monkeypatch.setattr("together_nb.local.server.running_server", lambda: pytest.fail("the engine was started"))
    assert "local/ngram" in model_names()


def test_login_names_the_host_and_keeps_the_key_for_it(shell, server, another, monkeypatch, capsys):
    prompts = []
    monkeypatch.setattr("getpass.getpass", lambda prompt: prompts.append(prompt) or KEY)
    settings.base_url = server.base_url
    shell.run_line_magic("together", "login")
    assert f"127.0.0.1:{server.port}" in prompts[0]
    settings.base_url = another.base_url
    complete("Tell", model="test/chat", api="chat")
    assert set(keys(server)) == {f"Bearer {KEY}"}
    assert set(keys(another)) == {None}
    assert KEY not in capsys.readouterr().out


def test_a_refused_login_leaves_the_keys_of_other_servers(shell, server, monkeypatch):
    settings.base_url = server.base_url
    settings.api_key = KEY
    with ScriptedServer(answers(["x"]), models=replies(401, {"error": {"message": "bad key"}})) as strict:
        settings.base_url = strict.base_url
        monkeypatch.setattr("getpass.getpass", lambda _: OTHER)
        with pytest.raises(AuthenticationError):
            shell.run_line_magic("together", "login")
        assert settings.api_key is None
    settings.base_url = server.base_url
    assert settings.api_key.reveal() == KEY


def test_a_base_url_in_the_environment_that_is_none_costs_no_key(environ):
    environ(TOGETHER_API_KEY=KEY, TOGETHER_BASE_URL="no url")
    assert settings.key_for("https://api.together.xyz").reveal() == KEY
    with pytest.raises(TogetherError):
        complete("Tell")


def test_the_environment_shows_no_key(environ):
    environ(TOGETHER_API_KEY=KEY)
    assert KEY not in repr(environment.environment)


@pytest.mark.parametrize(
    "cell", ["%%together --dry-run", "%%together --dry-run --chat", "%%together --dry-run --compare temperature=0,1"]
)
@pytest.mark.parametrize("model", ["-m test/chat", "-m local/ngram", "", "--budget"])
def test_a_dry_run_sends_nothing_and_starts_nothing(environ, shell, server, monkeypatch, capsys, cell, model):
    monkeypatch.setattr("together_nb.local.server.running_server", lambda: pytest.fail("the engine was started"))
    environ(TOGETHER_API_KEY=KEY)
    settings.base_url = server.base_url
    if model == "--budget":
        settings.budget, model = 1.0, ""
    first, _, rest = cell.partition(" ")
    shell.run_cell_magic(first[2:], f"{model} {rest}", "Tell")
    assert server.connections == 0
    assert ("unknown" in capsys.readouterr().out.lower()) == (model != "-m test/chat" or "--chat" not in cell)


def test_a_dry_run_of_many_sends_nothing(shell, server, capsys):
    settings.base_url = server.base_url
    shell.user_ns["letters"] = ["a", "b"]
    shell.run_cell_magic("together", "--dry-run --for letters", "Tell of {item}")
    assert server.connections == 0
    assert "Tell of b" in capsys.readouterr().out


def test_a_dry_run_with_no_key_starts_no_engine(shell, monkeypatch, capsys):
    monkeypatch.setattr("together_nb.local.server.running_server", lambda: pytest.fail("the engine was started"))
    shell.run_cell_magic("together", "--dry-run", "Tell")
    assert "embedded engine: /v1/completions" in capsys.readouterr().out


def test_a_dry_run_knows_what_the_session_knows(shell, server, capsys):
    settings.base_url = server.base_url
    models()
    shell.run_cell_magic("together", "--dry-run -m test/base", "Tell")
    out = capsys.readouterr().out
    assert "/v1/completions" in out
    assert "unknown" not in out.lower()


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example\\[api.together.xyz]",
        "https://evil.example\\[::1]",
        "http://127.0.0.1:9\\[::1]:8000",
        "https://[api.together.xyz]",
        "https://evil.example[api.together.xyz]",
        "https://api.together.xyz[x]",
        "https://[::1]evil.example",
        "https://[::1%25lo]:1",
        "https://evil.example\\@api.together.xyz",
        "https://api.together.xyz\\.evil.example",
        "https://evil%2eexample",
    ],
)
def test_an_address_in_which_two_readers_might_find_two_hosts_is_none(url):
    with pytest.raises(TogetherError):
        settings.base_url = url
    with pytest.raises(TogetherError):
        complete("Tell", base_url=url, model="m", api="chat")


@pytest.mark.parametrize("url", ["http://[::1]:8000/v1", "https://llm.example.edu:8443/v1", "https://bücher.example"])
def test_ordinary_addresses_are_taken(url):
    settings.base_url = url
    assert settings.base_url == url


def test_the_key_of_another_server_is_in_no_file_and_no_error(environ, tmp_path, server):
    environ(TOGETHER_API_KEY=KEY)
    script = replies(400, {"error": {"message": f"cannot do {KEY} nor {OTHER}"}})
    with ScriptedServer(script) as echoing:
        settings.base_url = "https://elsewhere.example"
        settings.api_key = OTHER
        settings.base_url = echoing.base_url
        with pytest.raises(TogetherError) as told:
            complete("Tell", model="m", api="chat")
        results = map_prompts(["Tell"], model="m", api="chat", progress=False)
        shown = f"{told.value} {results!r} {results[0]}"
    settings.base_url = server.base_url
    record(tmp_path / "a.jsonl")
    complete(f"What are {KEY} and {OTHER}?", model="test/chat", api="chat")
    recording.stop()
    save(tmp_path / "b.jsonl")
    written = (tmp_path / "a.jsonl").read_text() + (tmp_path / "b.jsonl").read_text()
    assert "What are" in written
    for key in (KEY, OTHER):
        assert key not in shown + written


def test_a_late_base_url_is_refused_rather_than_ignored(monkeypatch, server):
    monkeypatch.setenv("TOGETHER_BASE_URL", server.base_url)
    settings.api_key = KEY
    with pytest.raises(TogetherError, match="TOGETHER_BASE_URL"):
        complete("Tell", model="m", api="chat")
    settings.base_url = server.base_url
    assert complete("Tell", model="m", api="chat").text == "Once"


def test_a_late_key_is_told_of(monkeypatch, shell, capsys):
    monkeypatch.setenv("TOGETHER_API_KEY", KEY)
    with pytest.raises(MissingKeyError) as told:
        complete("Tell", model="a/model")
    assert "imported" in told.value.hint
    assert "not sent to" not in told.value.hint
    shell.run_line_magic("together", "")
    assert "imported" in capsys.readouterr().out
    assert "imported" in complete("Tell", max_tokens=2).note


def test_what_cannot_be_a_key_stands_in_the_way_of_no_other_server(environ, shell, server, monkeypatch):
    environ(TOGETHER_API_KEY="my keyé with blank")
    assert complete("Tell", model="m", api="chat", base_url=server.base_url).text == "Once"
    assert complete("Tell", model="local/ngram", max_tokens=2).text
    settings.base_url = server.base_url
    monkeypatch.setattr("getpass.getpass", lambda _: KEY)
    shell.run_line_magic("together", "login")
    assert settings.api_key.reveal() == KEY


def test_a_key_typed_for_one_server_is_kept_for_it_whatever_changes_meanwhile(shell, server, another, monkeypatch):
    def typed(_):
        settings.base_url = another.base_url
        return KEY

    monkeypatch.setattr("getpass.getpass", typed)
    settings.base_url = server.base_url
    shell.run_line_magic("together", "login")
    assert keys(server) == [f"Bearer {KEY}"]
    assert keys(another) == []
    assert settings.key_for(another.base_url) is None


def test_a_dry_run_begins_no_conversation(shell, server):
    settings.base_url = server.base_url
    shell.run_cell_magic("together", "--dry-run --chat lesson", "Tell")
    assert "lesson" not in conversations


@pytest.mark.parametrize("how", ["argument", "replaced", "forgotten"])
def test_a_key_that_was_in_use_earlier_is_in_no_file(tmp_path, server, how):
    settings.base_url = server.base_url
    settings.api_key = None if how == "argument" else KEY
    complete(f"My key is {KEY}", model="test/chat", api="chat", **({"api_key": KEY} if how == "argument" else {}))
    settings.api_key = OTHER if how == "replaced" else None
    save(tmp_path / "a.jsonl")
    assert "My key is" in (tmp_path / "a.jsonl").read_text()
    assert KEY not in (tmp_path / "a.jsonl").read_text()
