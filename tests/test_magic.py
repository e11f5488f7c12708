"""`together_nb.magic` in a real IPython, against real HTTP."""

from __future__ import annotations

import json
from contextlib import contextmanager

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from tests.servers import ScriptedServer, answers, replies
from together_nb import history
from together_nb.config import LOCAL_MODEL, settings
from together_nb.params import PARAMETERS

VALUES = {
    "max_tokens": ("7", 7),
    "temperature": ("0", 0.0),
    "top_p": ("0.5", 0.5),
    "top_k": ("0", 0),
    "min_p": ("0.25", 0.25),
    "repetition_penalty": ("1.5", 1.5),
    "presence_penalty": ("-1", -1.0),
    "frequency_penalty": ("1e-1", 0.1),
    "stop": ("\\n", ["\n"]),
    "seed": ("12345678901234567890", 12345678901234567890),
    "logprobs": ("0", 0),
    "n": ("2", 2),
    "echo": ("true", True),
    "logit_bias": ("'{\"12\": -100}'", {"12": -100}),
    "reasoning_effort": ("low", "low"),
}


@contextmanager
def ipython(config=None):
    """A real IPython with the extension loaded; it keeps no history on disk."""
    config = Config() if config is None else config
    InteractiveShell.clear_instance()
    config.HistoryManager.enabled = False
    one = InteractiveShell.instance(config=config)
    one.run_line_magic("load_ext", "together_nb")
    yield one
    one.run_line_magic("unload_ext", "together_nb")
    InteractiveShell.clear_instance()


@pytest.fixture
def shell():
    with ipython() as one:
        yield one


@pytest.fixture
def server():
    with ScriptedServer(answers(["The", " answer", "."])) as one:
        settings.base_url = one.base_url
        settings.model = "test/chat"
        yield one


def sent(server):
    (request,) = server.requests
    return request.json()


def failure(shell, capsys, cell):
    """The lines that a failing cell shows."""
    result = shell.run_cell(cell)
    assert not result.success
    lines = capsys.readouterr().out.strip().splitlines()
    return lines[:-1] if lines[-1].startswith("[") else lines


def test_a_cell_streams_its_answer_and_binds_it(shell, server, capsys):
    result = shell.run_cell("%%together -o told\nWhat is it?")
    assert result.success
    assert result.result is None
    assert capsys.readouterr().out.startswith("The answer.\n[test/chat · 3 tokens · ")
    assert shell.user_ns["told"].text == "The answer."
    assert shell.user_ns["_together"] is shell.user_ns["told"]
    assert sent(server) == {
        "model": "test/chat",
        "messages": [{"role": "user", "content": "What is it?"}],
        "stream": True,
    }


def test_without_a_key_the_embedded_engine_answers_and_the_footer_says_so(shell, capsys):
    shell.run_cell("%%together --max-tokens 5\nAlan Turing was").raise_error()
    assert shell.user_ns["_together"].model == LOCAL_MODEL
    assert shell.user_ns["_together"].usage.completion_tokens == 5
    assert "%together login" in capsys.readouterr().out


@pytest.mark.parametrize("name", PARAMETERS)
def test_each_sampling_parameter_is_an_option_that_is_really_sent(shell, server, name):
    typed, meant = VALUES[name]
    shell.run_cell(f"%%together {PARAMETERS[name].option} {typed} --show none\nhello").raise_error()
    assert sent(server)[name] == meant


@pytest.mark.parametrize("name", PARAMETERS)
def test_each_sampling_parameter_has_its_config(shell, server, name):
    _, meant = VALUES[name]
    shell.run_cell(f"%config TogetherMagics.{name} = {meant!r}").raise_error()
    shell.run_cell("%%together --show none\nhello").raise_error()
    assert sent(server)[name] == meant


def test_what_is_not_set_is_not_sent(shell, server):
    shell.run_cell("%%together\nhello").raise_error()
    assert not set(sent(server)) & set(PARAMETERS)


def test_the_option_beats_config_and_unset_takes_it_back(shell, server):
    shell.run_cell("%config TogetherMagics.temperature = 0.5").raise_error()
    shell.run_cell("%config TogetherMagics.top_k = 5").raise_error()
    shell.run_cell("%%together --temperature 0.9 --top-k unset\nhello").raise_error()
    assert sent(server)["temperature"] == 0.9
    assert "top_k" not in sent(server)


def test_config_and_settings_are_the_same_both_ways(shell):
    shell.run_cell("%config TogetherMagics.temperature = 0.5").raise_error()
    assert settings.temperature == 0.5
    settings.temperature = 1.5
    assert shell.run_cell("%config TogetherMagics.temperature").result == 1.5


def test_config_refuses_a_value_out_of_bounds_and_keeps_the_old_one(shell):
    settings.temperature = 0.5
    shell.run_cell("%config TogetherMagics.temperature = -1")
    assert settings.temperature == 0.5


def test_config_files_of_ipython_count():
    config = Config()
    config.TogetherMagics.temperature = 0.25
    with ipython(config):
        assert settings.temperature == 0.25


def test_the_prompt_is_sent_as_it_stands_but_for_the_line_end_that_ipython_adds(shell, server):
    shell.run_cell('%%together --raw\n  {"a": 1}\n\n$HOME {x} ').raise_error()
    assert sent(server)["messages"][0]["content"] == '  {"a": 1}\n\n$HOME {x} '


def test_names_are_filled_in_and_named_in_the_footer(shell, server, capsys):
    shell.run_cell("hero = 'a {fox}'; d = {'k': 5}").raise_error()
    shell.run_cell("%%together --system 'Be {hero}'\nTell {hero} {d[k]} {nothing} {\"json\": {}}").raise_error()
    assert sent(server)["messages"] == [
        {"role": "system", "content": "Be a {fox}"},
        {"role": "user", "content": 'Tell a {fox} 5 {nothing} {"json": {}}'},
    ]
    assert "filled in: hero, d[k]" in capsys.readouterr().out


def test_raw_fills_nothing_in(shell, server):
    shell.run_cell("hero = 'x'").raise_error()
    shell.run_cell("%%together --raw\nTell {hero}").raise_error()
    assert sent(server)["messages"][0]["content"] == "Tell {hero}"


def test_pasted_code_sends_no_values(shell, server):
    shell.run_cell("import os; user, password, host = 'ada', 'hunter2', 'db'; code = 'x = 1'").raise_error()
    line = "connect(f\"postgresql://{user}:{password}@{host}\", {os.environ['PATH']})"
    prompt = f"Mend\n```python\n{line}\n```\nor {line}, `{{user}}`\n```\n{{code}}\n```"
    shell.run_cell(f"%%together\n{prompt}").raise_error()
    assert sent(server)["messages"][0]["content"] == prompt.replace("`{user}`", "`ada`").replace("{code}", "x = 1")
    assert shell.user_ns["_together"].filled == ("user", "code")


KEY = "tgp_v1_" + "0123456789abcdef" * 2


@pytest.mark.parametrize("whose", ["settings", "environment"])
def test_the_key_and_what_leads_to_it_are_not_filled_in(shell, server, environ, whose):
    if whose == "settings":
        settings.api_key = KEY
    else:
        environ(TOGETHER_API_KEY=KEY, TOGETHER_BASE_URL=server.base_url)
    shell.user_ns.update(key=KEY, held={"k": f"Bearer {KEY}"}, together=settings, own=settings.api_key, exit="x")
    shell.run_cell("from together_nb import settings as chosen").raise_error()
    names = "{key} {held} {held[k]} {together.api_key} {together.api_key.ending} {chosen.api_key} {own} {In} {_ih} {Out} {exit}"
    shell.run_cell(f"%%together --system '{names}'\n{names} {{In[0]}}").raise_error()
    assert [one["content"] for one in sent(server)["messages"]] == [names, f"{names} "]


def test_a_value_over_the_limit_is_an_error_and_nothing_is_sent(shell, server, capsys):
    shell.run_cell("big = 'x' * 100_001; some = 'x' * 1000").raise_error()
    for prompt in ("{big}", "{some}" * 101):
        first, second = failure(shell, capsys, f"%%together\nTell {prompt}")
        assert "long; at most 100,000 are filled in" in first
        assert "fill_limit" in second
    assert server.requests == []
    shell.run_cell("%config TogetherMagics.fill_limit = 200_000").raise_error()
    shell.run_cell("%%together\nTell {big}").raise_error()
    assert len(sent(server)["messages"][0]["content"]) == 100_006


@pytest.mark.parametrize("error", ["SystemExit", "GeneratorExit", "RecursionError"])
def test_a_value_that_cannot_be_had_leaves_its_name_and_the_cell_goes_on(shell, server, error):
    shell.run_cell(f"class A:\n  def __str__(self): raise {error}\n  x = property(__str__)\na = A()").raise_error()
    shell.run_cell("%%together -o told\nTell {a} {a.x}").raise_error()
    assert sent(server)["messages"][0]["content"] == "Tell {a} {a.x}"
    assert shell.user_ns["told"].text == "The answer."


@pytest.mark.parametrize(
    ("line", "listed"),
    [
        ("--system '{role}'", ["{hero} = Ada \\x1b[31m", "{long} = x", "{role} = a poet"]),
        ("--compare 'system={role},{other}'", ["{hero} = Ada \\x1b[31m", "{long} = x", "{role} = a poet", "{other} = (empty)"]),
        ("--compare 'system={role},{other},a,b,{fifth}'", ["{hero} = ", "{long} = ", "{role} = ", "{other} = ", "{fifth} = 5"]),
        ("--for \"['P', 'Q']\" --system '{item}'", ["{hero} = ", "{long} = ", "{item} = P", "{item} = Q"]),
    ],
)  # fmt: skip
def test_dry_run_shows_the_values_before_the_requests(shell, server, capsys, line, listed):
    shell.user_ns.update(hero="Ada\n\x1b[31m", long="x" * 500, role="a poet", other="", fifth=5)
    shell.run_cell(f"%%together --dry-run {line}\nTell {{hero}} {{long}} `f({{fifth}})`").raise_error()
    head, *lines = capsys.readouterr().out.partition("\nPOST ")[0].splitlines()
    assert head == "Filled in:"
    assert all(len(one) < 120 for one in lines)
    assert "(500 characters)" in lines[1]
    assert sorted(one for one in listed for shown in lines if shown.startswith(one)) == sorted(listed)
    assert len(lines) == len(listed)
    assert server.requests == []


def test_what_is_filled_in_in_a_column_is_told_with_its_answer(shell, server):
    shell.user_ns.update(role="a poet", base="b")
    shell.run_cell("%%together --compare 'system=Be {role},none' --system {base} -o both\nTell").raise_error()
    assert [one.filled for one in shell.user_ns["both"]] == [("role",), ()]


@pytest.mark.parametrize("huge", ["10**4000", "10**5000", "float('nan')", "{'1': 10**5000}", "{'1': 10**4000}"])
@pytest.mark.parametrize("name", ["max_tokens", "temperature", "seed", "logit_bias"])
def test_a_number_beyond_all_measure_is_refused_in_few_words_by_config(shell, capsys, caplog, name, huge):
    shell.run_cell(f"%config TogetherMagics.{name} = {huge}")
    told = capsys.readouterr().out + caplog.text  # IPython logs what a trait refuses
    assert f"{name} must be " in told
    assert len(told) < 400
    assert getattr(settings, name) is None


@pytest.mark.parametrize(
    "line",
    ["--max-tokens 1e400", f"--max-tokens {'1' * 4000}", f"--seed -{'1' * 5000}", f"--logit-bias '{{\"1\": {'1' * 4000}}}'",
     f"--compare seed=1,{'1' * 5000}"],
    ids=range(5),
)  # fmt: skip
def test_a_number_beyond_all_measure_is_refused_in_few_words_by_a_cell(shell, server, capsys, line):
    lines = failure(shell, capsys, f"%%together {line}\nhello")
    assert "must be" in lines[0]
    assert len("".join(lines)) < 300
    assert server.requests == []


def test_dry_run_shows_the_request_and_sends_nothing(shell, server, capsys):
    shell.run_cell("%%together --dry-run --stop \\n -o told\nhello").raise_error()
    assert server.requests == []
    assert "told" not in shell.user_ns
    out = capsys.readouterr().out
    assert out.startswith(f"POST {server.base_url}/v1/chat/completions\n")
    assert json.loads(out[out.index("{") : out.rindex("}") + 1]) == {
        "model": "test/chat",
        "messages": [{"role": "user", "content": "hello"}],
        "stop": ["\n"],
        "stream": True,
    }


def test_show_none_writes_nothing(shell, server, capsys):
    shell.run_cell("%%together --show none\nhello").raise_error()
    assert capsys.readouterr().out == ""
    assert shell.user_ns["_together"].text == "The answer."


def test_control_characters_do_not_reach_the_terminal(shell, capsys):
    with ScriptedServer(answers(["a\x1b]52;c;aGk=\x07b", "\u202e"])) as server:
        settings.base_url, settings.model = server.base_url, "test/chat"
        shell.run_cell("%%together\nhello").raise_error()
    out = capsys.readouterr().out
    assert out.startswith("a\\x1b]52;c;aGk=\\x07b\\u202e\n")


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("--temprature 0.5", "InputError: There is no option --temprature.", "Did you mean --temperature?"),
        ("--api chatt", "InputError: There is no API called 'chatt'.", "Did you mean chat?"),
        ("--show markdwn", "InputError: There is no way to show an answer called 'markdwn'.", "Did you mean markdown?"),
        ("--temperature -1", "InputError: temperature must be a number of at least 0, not -1.", "How freely"),
        ("--temperature hot", "InputError: temperature must be a number of at least 0, not 'hot'.", "How freely"),
        ("--top-p 1.5", "InputError: top_p must be a number from 0 to 1, not 1.5.", "Choose among"),
        ("--max-tokens 1.5", "InputError: max_tokens must be a whole number of at least 1, not 1.5.", "The most"),
        ("--logprobs 21", "InputError: logprobs must be a whole number from 0 to 20, not 21.", "Return each"),
        ("--reasoning-effort much", "InputError: reasoning_effort must be one of low, medium, high", "How long"),
        ("--api completions --reasoning-effort low", "InputError: reasoning_effort cannot be sent", "Use --api chat"),
        ("--api completions --system x", "InputError: The completions API takes one prompt", "Add --api chat."),
        ("--out 1x", "InputError: '1x' cannot be a variable's name here.", "Use letters"),
        ("--out class", "InputError: 'class' cannot be a variable's name here.", "Use letters"),
        ("--out In", "InputError: 'In' cannot be a variable's name here.", "Use letters"),
        ("--out get_ipython", "InputError: 'get_ipython' cannot be a variable's name here.", "Use letters"),
        ("--out __builtins__", "InputError: '__builtins__' cannot be a variable's name here.", "Use letters"),
        ("--out print", "InputError: 'print' cannot be a variable's name here.", "Use letters"),
        ("--model", "InputError: Argument -m/--model: expected one argument.", "`%%together?`"),
        ("stray words", "InputError: 'stray' stands on the line", "The prompt goes below the line"),
        ("--system 'open", "InputError: A quote on the line is not closed.", "The line was: --system 'open"),
    ],
)
def test_bad_input_is_told_in_two_lines_and_nothing_is_sent(shell, server, capsys, line, message, hint):
    first, second = failure(shell, capsys, f"%%together {line}\nhello")
    assert first.startswith(message)
    assert second.startswith(hint)
    assert server.requests == []


def test_an_empty_prompt_is_told_and_not_sent(shell, server, capsys):
    first, second = failure(shell, capsys, "%%together\n  \n")
    assert first == "InputError: The prompt is empty."
    assert second.startswith("Write it below the line")
    assert server.requests == []


def test_a_model_that_needs_a_key_is_not_stood_in_for(shell, capsys):
    first, second = failure(shell, capsys, "%%together -m openai/gpt-oss-20b\nhello")
    assert first == "MissingKeyError: openai/gpt-oss-20b needs an API key, and none is set."
    assert second == "Without a key there is -m local/ngram, on this machine. `%together login` takes a key."


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("not a url", "InputError: 'not a url' is not a base URL."),
        ("ftp://example.org", "InputError: 'ftp://example.org' is not a base URL."),
        ("http://example.org/v1", "InputError: http://example.org/v1 is plain http to another host"),
    ],
)
def test_a_base_url_that_cannot_be_used_is_told(shell, capsys, environ, url, message):
    environ(TOGETHER_BASE_URL=url)
    first, second = failure(shell, capsys, "%%together -m x\nhello")
    assert first.startswith(message)
    assert second


def test_a_server_that_is_not_there_is_told(shell, capsys):
    with ScriptedServer(answers([])) as gone:
        settings.base_url = gone.base_url
    first, second = failure(shell, capsys, "%%together -m x\nhello")
    assert first == f"APIConnectionError: Nothing answers at {gone.base_url}."
    assert second == "Check the base URL, and that the server is running."


@pytest.mark.parametrize(
    ("script", "message", "kept"),
    [
        (replies(200, b"<html>log in</html>", content_type="text/html"), "with text/html, not with a stream", ""),
        (replies(200, {"hello": 1}), "with application/json, not with a stream", ""),
        (
            replies(200, {"choices": [{"index": 0, "message": {"content": "all at once"}}]}),
            "sent its answer in one piece",
            "all at once",
        ),
    ],
)
def test_a_reply_that_is_no_stream_is_told_sent_once_and_nothing_is_lost(shell, capsys, script, message, kept):
    with ScriptedServer(script) as server:
        settings.base_url, settings.model = server.base_url, "test/chat"
        result = shell.run_cell("%%together\nhello")
    assert not result.success
    assert message in capsys.readouterr().out
    assert len(server.requests) == 1
    assert getattr(shell.user_ns.get("_together"), "text", "") == kept


def test_a_request_that_gets_nothing_leaves_the_earlier_answer_where_it_is(shell, server):
    shell.run_cell("%%together -o told\nhello").raise_error()
    server.script = replies(429, {"error": {"message": "slow down"}})
    assert not shell.run_cell("%%together -o told\nhello").success
    assert shell.user_ns["told"].text == shell.user_ns["_together"].text == "The answer."
    assert len(history) == 1


def test_a_name_is_bound_as_python_spells_it(shell, server):
    shell.run_cell("%%together -o \ufb01\nhello").raise_error()
    assert shell.run_cell("fi.text").result == "The answer."


def test_latex_is_sent_as_typed_though_its_letters_are_names(shell, server):
    shell.run_cell("x = b = 3").raise_error()
    shell.run_cell("%%together\n$\\frac{x}{b}^{x}$ {x}").raise_error()
    assert sent(server)["messages"][0]["content"] == "$\\frac{x}{b}^{x}$ 3"


def test_a_model_that_is_gone_gets_the_nearest_ones_named(shell, capsys):
    script = replies(404, {"error": {"message": "Unable to access model test/chta.", "code": "model_not_available"}})
    with ScriptedServer(script) as server:
        settings.base_url = server.base_url
        out = "\n".join(failure(shell, capsys, "%%together -m test/chta --api chat\nhello"))
    assert "NotFoundError: The server has no such model or address (HTTP 404). Unable to access model test/chta." in out
    assert out.endswith("Did you mean test/chat?")
    assert len(server.requests) == 1


def test_what_came_before_a_break_is_shown_kept_and_bound(shell, capsys):
    with ScriptedServer(answers(["half", " of"], finish=None, done=False)) as server:
        settings.base_url, settings.model = server.base_url, "test/chat"
        assert not shell.run_cell("%%together -o part\nhello").success
    out = capsys.readouterr().out
    assert out.startswith("half of\n[test/chat · 2 chunks · ")
    assert "connection lost" in out
    assert "ConnectionLostError: The connection was lost before the answer was whole" in out
    assert shell.user_ns["part"].text == "half of"
    assert shell.user_ns["part"].error == "connection lost"


def test_the_status_tells_where_it_stands(shell, capsys, environ):
    environ(TOGETHER_API_KEY="key-0123456789-abcd")
    settings.temperature = 0.5
    shell.run_cell("%together").raise_error()
    out = capsys.readouterr().out
    assert "https://api.together.xyz" in out
    assert "from TOGETHER_API_KEY, ending in …abcd" in out
    assert "temperature=0.5" in out
    assert "0123456789" not in out


def test_login_takes_the_key_and_logout_forgets_it(shell, server, capsys, monkeypatch):
    monkeypatch.setattr("getpass.getpass", lambda _: " key-0123456789-wxyz\n")
    shell.run_cell("%together login").raise_error()
    assert "The key works" in capsys.readouterr().out
    assert server.list_requests[-1].headers["authorization"] == "Bearer key-0123456789-wxyz"
    shell.run_cell("%%together\nhello").raise_error()
    assert server.requests[0].headers["authorization"] == "Bearer key-0123456789-wxyz"
    shell.run_cell("%together logout").raise_error()
    assert settings.api_key is None


def test_login_refuses_a_key_on_the_line(shell, capsys):
    first, second = failure(shell, capsys, "%together login key-0123456789-wxyz")
    assert first.startswith("InputError: The key does not go on the line")
    assert "withdraw it" in second
    assert settings.api_key is None


def test_login_forgets_a_key_that_the_server_refuses(shell, capsys, monkeypatch):
    monkeypatch.setattr("getpass.getpass", lambda _: "key-0123456789-wxyz")
    with ScriptedServer(
        answers([]), models=replies(401, {"error": {"message": "Invalid API key provided."}})
    ) as server:
        settings.base_url = server.base_url
        out = "\n".join(failure(shell, capsys, "%together login"))
    assert "AuthenticationError" in out
    assert "Invalid API key provided." in out
    assert "0123456789" not in out
    assert settings.api_key is None


def test_models_lists_ids_and_prices(shell, server, capsys):
    shell.run_cell("%together models").raise_error()
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["test/chat", "chat", "1.00", "2.00"]
    assert lines[2].split() == ["test/base", "completions", "0.50", "0.50"]


def test_models_can_be_searched(shell, server, capsys):
    shell.run_cell("%together models BASE").raise_error()
    out = capsys.readouterr().out
    assert "test/base" in out
    assert "test/chat" not in out


def test_a_mistyped_command_gets_the_nearest_one(shell, capsys):
    first, second = failure(shell, capsys, "%together modles")
    assert first == "InputError: There is no command `%together modles`."
    assert second == "Did you mean models?"


@pytest.mark.parametrize(
    ("line", "word", "offered"),
    [
        ("%%together --temp", "--temp", "--temperature"),
        ("%%together --system x --max", "--max", "--max-tokens"),
        ("%%together --api ch", "ch", "chat"),
        ("%%together --show mark", "mark", "markdown"),
        ("%%together --reasoning-effort m", "m", "medium"),
        ("%%together -m test/b", "test/b", "test/base"),
        ("%together mod", "mod", "models"),
    ],
)
def test_tab_completes_options_values_models_and_commands(shell, environ, server, line, word, offered):
    environ(TOGETHER_BASE_URL=server.base_url)
    with provisionalcompleter():
        found = list(shell.Completer.completions(line, len(line)))
    # Whatever part of the word the completer replaces, the line reads right afterwards.
    assert line.removesuffix(word) + offered in [line[: one.start] + one.text + line[one.end :] for one in found]


def test_the_help_names_every_parameter(shell):
    info = shell.object_inspect("%%together")
    for parameter in PARAMETERS.values():
        assert parameter.option in info["docstring"]


def test_a_reload_leaves_one_of_each(shell):
    shell.run_line_magic("reload_ext", "together_nb")
    names = [type(one).__name__ for one in shell.configurables]
    assert names.count("TogetherMagics") == 1
