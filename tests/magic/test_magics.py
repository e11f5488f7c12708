"""`together_nb.magic` in a real IPython, against real HTTP."""

from __future__ import annotations

import json
from contextlib import contextmanager

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import together_nb
from tests.declared import bad, good
from tests.run.test_options import typed
from tests.servers import USAGE, ScriptedServer, answers, replies
from together_nb.magic.completer import words
from together_nb.magic.next_cell import cell_of
from together_nb.values.parameters import PARAMETERS

KEY = "tgp_v1_" + "0123456789abcdef" * 2


@contextmanager
def ipython(config=None):
    """A real IPython with the extension loaded; it keeps no history on disk."""
    config = Config() if config is None else config
    InteractiveShell.clear_instance()
    config.HistoryManager.enabled = False
    one = InteractiveShell.instance(config=config)
    try:
        one.run_line_magic("load_ext", "together_nb")
        yield one
        one.run_line_magic("unload_ext", "together_nb")
    finally:
        InteractiveShell.clear_instance()


@pytest.fixture
def shell():
    with ipython() as one:
        yield one


@pytest.fixture
def server():
    with ScriptedServer(answers(["The", " answer", "."])) as one:
        together_nb.settings.base_url = one.base_url
        together_nb.settings.model = "test/chat"
        yield one


def sent(server):
    return server.requests.pop().json()


# The answer


def test_a_cell_streams_its_answer_and_binds_it_and_show_none_writes_nothing(shell, server, capsys):
    result = shell.run_cell("%%together -o told\nWhat is it?")
    assert (result.success, result.result) == (True, None)
    assert capsys.readouterr().out.startswith("The answer.\n[test/chat · 3 tokens · ")
    assert shell.user_ns["told"].text == "The answer."
    assert shell.user_ns["_together"] is shell.user_ns["told"] is together_nb.history[-1]
    message = {"role": "user", "content": "What is it?"}
    assert sent(server) == {"model": "test/chat", "messages": [message], "stream": True, **USAGE}
    shell.run_cell("%%together --show none -o other\nhello").raise_error()
    assert (capsys.readouterr().out, shell.user_ns["other"].text) == ("", "The answer.")


def test_what_came_before_a_break_is_bound_and_a_request_that_gets_nothing_leaves_it_where_it_is(shell, server):
    for script in (answers(["half"], finish=None, done=False), replies(429, {"error": {"message": "slow down"}})):
        server.script = script
        assert not shell.run_cell("%%together -o told\nhello").success
    assert shell.user_ns["told"].text == shell.user_ns["_together"].text == "half"
    assert len(together_nb.history) == 1


@pytest.mark.parametrize(
    ("answer", "cell"),
    [
        ("no code", ""), ("`x = 1`", ""), ("```\nx = 1\n```", "x = 1"), ("~~~py\nx = 1\n~~~", "x = 1"),
        ("Do:\n```python\nx = 1\n```\nThen that.", "x = 1"), ("- a\n  ```python\n  x = 1\n  ```", "x = 1"),
        ("```python\nx = 1", "x = 1"), ("```python\nx = 1\n```\nand\n```python\ny = 2\n```", "x = 1\n\ny = 2"),
        ("```python\nx = 1\n```\nand\n```text\nout\n```", "x = 1"), ("```bash\nls\n```", "%%bash\nls"),
        ("```rust\nfn main() {}\n```", "# rust:\n# fn main() {}"), ("````python\ns = '''```'''\n````", "s = '''```'''"),
    ],
)  # fmt: skip
def test_the_new_cell_holds_the_code_of_the_first_blocks_language(answer, cell):
    assert cell_of(answer) == cell


# Sampling parameters


@pytest.mark.parametrize("parameter", PARAMETERS.values(), ids=PARAMETERS)
def test_a_parameter_is_sent_as_config_says_unless_the_line_says_otherwise(shell, server, parameter):
    (first, *_, last), name = good(parameter), parameter.name
    api = f"--api {parameter.dialects[0]}" if parameter.dialects else ""
    shell.run_cell(f"%config TogetherMagics.{name} = {first!r}").raise_error()
    assert getattr(together_nb.settings, name) == first
    for line, value in (("", first), (typed(parameter, last), last), (f"{parameter.option} unset", None)):
        shell.run_cell(f"%%together --show none {api} {line}\nhello").raise_error()
        body = sent(server)
        assert body.get("top_logprobs" if name == "logprobs" else name) == value
    setattr(together_nb.settings, name, last)
    assert shell.run_cell(f"%config TogetherMagics.{name}").result == last


@pytest.mark.parametrize("parameter", PARAMETERS.values(), ids=PARAMETERS)
def test_config_refuses_what_does_not_fit_in_few_words_and_keeps_what_there_is(shell, capsys, caplog, parameter):
    before = good(parameter)[0]
    setattr(together_nb.settings, parameter.name, before)
    huge = [10**4000, 10**5000, {"1": 10**4000}, {"1": 10**5000}]
    for value in bad(parameter) + huge:
        shell.user_ns["value"] = value
        shell.run_cell(f"%config TogetherMagics.{parameter.name} = value")
        words = capsys.readouterr().out + caplog.text  # IPython logs what a trait refuses
        caplog.clear()
        assert f"{parameter.name} must be " in words
        assert len(words) < 400
    assert getattr(together_nb.settings, parameter.name) == before


def test_config_files_of_ipython_count():
    config = Config()
    config.TogetherMagics.temperature = 0.25
    with ipython(config):
        assert together_nb.settings.temperature == 0.25


# What cannot be sent


@pytest.mark.parametrize(
    ("cell", "first", "second"),
    [
        ("%%together --temprature 0.5\nhello", "There is no option --temprature.", "Did you mean --temperature?"),
        ("%%together --api completions --reasoning-effort low\nhello", "reasoning_effort", "Use --api chat"),
        ("%%together --api completions --system x\nhello", "The completions API", "Add --api chat."),
        ("%%together --model\nhello", "Argument -m/--model", "`%%together?`"),
        ("%%together \n  \n", "The prompt is empty.", "Write it below the line"),
        ("%%together --schema nothing\nhello", "There is no variable called nothing.", "Run the cell"),
        ("%together modles", "", "Did you mean models?"),
        (f"%together login {KEY}", "The key does not go on the line", ""),
        *(
            (f"%%together {line}\nhello", "", "")
            for line in ("--max-tokens 1e400", f"--max-tokens {'1' * 4000}", f"--seed -{'1' * 5000}",
                         f"--logit-bias '{{\"1\": {'1' * 4000}}}'", f"--compare seed=1,{'1' * 5000}")
        ),
    ],
    ids=range(13),
)  # fmt: skip
def test_it_is_refused_in_two_short_lines_without_a_key_and_nothing_is_sent(shell, server, capsys, cell, first, second):
    assert not shell.run_cell(cell).success
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"InputError: {first}")
    assert lines[1].startswith(second)
    assert len("".join(lines)) < 300
    assert KEY not in "".join(lines)
    assert (server.requests, together_nb.settings.api_key) == ([], None)


# What is filled in


def test_names_are_filled_in_and_told_in_the_footer_and_of_each_answer_of_several(shell, server, capsys):
    shell.run_cell("hero = 'a {fox}'; d = {'k': 5}").raise_error()
    shell.run_cell("%%together --system 'Be {hero}'\nTell {hero} {d[k]} {nothing} {\"json\": {}}").raise_error()
    assert sent(server)["messages"] == [
        {"role": "system", "content": "Be a {fox}"},
        {"role": "user", "content": 'Tell a {fox} 5 {nothing} {"json": {}}'},
    ]
    assert "filled in: hero, d[k]" in capsys.readouterr().out
    assert shell.user_ns["_together"].filled == ("hero", "d[k]")
    shell.run_cell("%%together --compare 'system=Be {hero},none' --system {d} -o both\nTell").raise_error()
    assert [one.filled for one in shell.user_ns["both"]] == [("hero",), ()]


def test_a_raw_prompt_is_sent_as_it_stands_but_for_the_line_end_that_ipython_adds(shell, server):
    shell.user_ns["hero"] = "x"
    shell.run_cell('%%together --raw\n  {"a": 1}\n\n$HOME {hero} ').raise_error()
    assert sent(server)["messages"][0]["content"] == '  {"a": 1}\n\n$HOME {hero} '


@pytest.mark.parametrize("whose", ["settings", "environment"])
def test_the_key_and_what_leads_to_it_are_not_filled_in(shell, server, environ, whose):
    if whose == "settings":
        together_nb.settings.api_key = KEY
    else:
        environ(TOGETHER_API_KEY=KEY, TOGETHER_BASE_URL=server.base_url)
    shell.user_ns.update(
        key=KEY, held={"k": f"Bearer {KEY}"}, together=together_nb.settings, own=together_nb.settings.api_key, exit="x"
    )
    shell.run_cell("from together_nb import settings as chosen").raise_error()
    names = "{key} {held} {held[k]} {together.api_key} {together.api_key.ending} {chosen.api_key} {own} "
    names += "{In} {_ih} {Out} {exit}"
    shell.run_cell(f"%%together --system '{names}'\n{names} {{In[0]}}").raise_error()
    assert [one["content"] for one in sent(server)["messages"]] == [names, f"{names} "]


HERO, LONG, ROLE = "{hero} = Ada \\x1b[31m", "{long} = x", "{role} = a poet"


@pytest.mark.parametrize(
    ("line", "listed"),
    [
        ("--system '{role}'", [HERO, LONG, ROLE]),
        ("--compare 'system={role},{other}'", [HERO, LONG, ROLE, "{other} = (empty)"]),
        ("--compare 'system={role},{other},a,b,{fifth}'", [HERO, LONG, ROLE, "{other} = ", "{fifth} = 5"]),
        ("--for \"['P', 'Q']\" --system '{item}'", [HERO, LONG, "{item} = P", "{item} = Q"]),
    ],
)
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


def test_dry_run_shows_the_request_and_sends_nothing(shell, server, capsys):
    shell.run_cell("%%together --dry-run --stop \\n -o told\nhello").raise_error()
    assert server.requests == []
    assert "told" not in shell.user_ns
    out = capsys.readouterr().out
    assert out.startswith(f"POST {server.base_url}/v1/chat/completions\n")
    message = {"role": "user", "content": "hello"}
    shown = json.loads(out[out.index("{") : out.rindex("}") + 1])
    assert shown == {"model": "test/chat", "messages": [message], "stop": ["\n"], "stream": True, **USAGE}


# Commands, Tab and help


def test_the_status_tells_where_it_stands(shell, capsys, environ):
    environ(TOGETHER_API_KEY="key-0123456789-abcd")
    together_nb.settings.temperature = 0.5
    shell.run_cell("%together").raise_error()
    out = capsys.readouterr().out
    assert "https://api.together.xyz" in out
    assert "from TOGETHER_API_KEY, ending in …abcd" in out
    assert "temperature=0.5" in out
    assert "0123456789" not in out


def test_models_lists_ids_and_prices(shell, server, capsys):
    shell.run_cell("%together models").raise_error()
    _, *lines = capsys.readouterr().out.splitlines()
    rows = ["test/chat", "chat", "1.00", "2.00"], ["test/base", "completions", "0.50", "0.50"]
    assert tuple(line.split() for line in lines[:2]) == rows


@pytest.mark.parametrize(
    "line", ["save ", "save les", "replay ", "login -m ", "save x --show ", "history --api ", "nothing --f"]
)
def test_tab_offers_nothing_where_a_file_or_nothing_belongs(shell, line):
    assert words(f"%together {line}", line.rpartition(" ")[2], lambda: None) == []


@pytest.mark.parametrize(
    ("line", "word", "offered"),
    [
        ("%%together --temp", "--temp", "--temperature"), ("%%together --system x --max", "--max", "--max-tokens"),
        ("%%together --api ch", "ch", "chat"), ("%%together --show mark", "mark", "markdown"),
        ("%%together --reasoning-effort m", "m", "medium"), ("%%together -m test/b", "test/b", "test/base"),
        ("%together mod", "mod", "models"), ("%together save --f", "--f", "--force"),
        ("%together replay x --s", "--s", "--speed"), ("%together continue --show c", "c", "code"),
        ("%together continue --s", "--s", "--show"),
    ],
)  # fmt: skip
def test_tab_completes_options_values_models_and_commands(shell, environ, server, line, word, offered):
    environ(TOGETHER_BASE_URL=server.base_url)
    shell.Completer.use_jedi = False  # which takes a second, and is not the claim
    with provisionalcompleter():
        found = list(shell.Completer.completions(line, len(line)))
    # Whatever part of the word the completer replaces, the line reads right afterwards.
    assert line.removesuffix(word) + offered in [line[: one.start] + one.text + line[one.end :] for one in found]
