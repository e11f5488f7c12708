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
from tests.panel.test_panel import opened
from tests.servers import ScriptedServer, answers, replies
from tests.whole.test_key import authorizations as keys
from together_nb.config.environment import Environment
from together_nb.errors import AuthenticationError, MissingKeyError, TogetherError
from together_nb.magic.completer import model_names

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


# Files


@pytest.mark.parametrize("place", ["environment", "another server", "argument", "replaced", "forgotten"])
def test_a_key_that_is_or_was_in_use_is_in_no_file_and_no_error(environ, tmp_path, server, place):
    secret = {"environment": KEY, "another server": OTHER}.get(place, LATE)
    if place == "environment":
        environ(TOGETHER_API_KEY=secret)
    together_nb.settings.base_url = "https://elsewhere.example" if place == "another server" else server.base_url
    together_nb.settings.api_key = None if place in ("environment", "argument") else secret
    chat(base_url=server.base_url, **({"api_key": secret} if place == "argument" else {}))
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
