"""CONTRIBUTING.md: its recipes work as they stand, and so does its release."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tarfile
import textwrap
import threading
from dataclasses import replace

import pytest

import together_nb
from tests.kernels import PATIENCE, Kernel, environment_without
from tests.magic.test_magics import ipython
from tests.pages import CONTRIBUTING, ROOT
from tests.servers import ScriptedServer, answers, silent_after
from tests.test_binder import copy_of_the_repository
from together_nb.wire.dialects import DIALECTS

TEXT = CONTRIBUTING.read_text(encoding="utf-8")
ADDITION = re.compile(
    r"[Ii]n (?:`([^`\n]+)`, before\s`([^`\n]+)`|a new file, `([^`\n]+)`):\n\n```python\n(.*?)\n```$",
    re.DOTALL | re.MULTILINE,
)
RECIPE_TESTS = [
    "tests/values/test_parameters.py",
    "tests/run/test_options.py",
    "tests/panel/test_controls.py",
    "tests/wire/test_dialects.py",
    "tests/render/test_formats.py",
    "tests/magic/test_magics.py",
    "tests/local/test_server.py",
]


def run_in(copy, *command):
    places = {"PYTHONPATH": str(copy), "IPYTHONDIR": str(copy / "home")}
    environment = environment_without("TOGETHER_", "PYTEST_") | places
    return subprocess.run(
        [sys.executable, *command], cwd=copy, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the repository to which every example of CONTRIBUTING.md was added."""
    root = tmp_path_factory.mktemp("copy")
    copy_of_the_repository(root)
    additions = ADDITION.findall(TEXT)
    assert len(additions) == TEXT.count("```python")
    for file, before, new, code in additions:
        path = root / (file or new)
        if new:
            path.write_text(f"{code}\n", encoding="utf-8")
            continue
        lines = path.read_text(encoding="utf-8").split("\n")
        (number,) = [number for number, line in enumerate(lines) if line.strip().startswith(before)]
        indent = lines[number].removesuffix(lines[number].lstrip())
        lines[number:number] = [*textwrap.indent(code, indent).split("\n"), *([] if indent else ["", ""])]
        path.write_text("\n".join(lines), encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def kernel(copy):
    kernel = Kernel(copy / "notebooks", PYTHONPATH=str(copy))
    kernel.run("import together_nb; from together_nb import settings; settings.model = 'test/base'").wait()
    assert str(copy) in kernel.value("together_nb.__file__")
    yield kernel
    kernel.stop()


@pytest.fixture
def ask(kernel):
    """Point the kernel at a scripted server and start a cell."""

    def start(server, code):
        kernel.run(f"settings.base_url = {server.base_url!r}").wait()
        return kernel.run(code)

    return start


# The recipes


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_tests_stay_green_over_the_copy(copy):
    done = run_in(copy, "-m", "pytest", "-q", *RECIPE_TESTS)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr


@pytest.mark.slow
def test_ruff_and_mypy_accept_the_examples(copy):
    for command in (["check"], ["format", "--check"]):
        done = run_in(copy, "-m", "ruff", *command, "--no-cache", "together_nb")
        assert done.returncode == 0, done.stdout
    # With the lowest versions of our dependencies mypy may complain elsewhere.
    done = run_in(copy, "-m", "mypy", "--no-incremental")
    files = tuple({file or new for file, _, new, _ in ADDITION.findall(TEXT)})
    assert re.search(r"\b(checked|in) \d+ source files", done.stdout), done.stdout + done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith(files)] == []


def test_the_guide_gets_a_row_of_each_example(copy):
    reference = copy / "notebooks" / "guide" / "reference.md"
    before = reference.read_text(encoding="utf-8").splitlines()
    assert run_in(copy, "-m", "tests.generate").returncode == 0
    rows = [line for line in reference.read_text(encoding="utf-8").splitlines() if line not in before]
    assert {row.split("`")[1] for row in rows} == {
        "--typical-p",
        "llama",
        "quote",
        "sentences",
        "%together clear [--conversations]",
    }


def llama_event(text, **more):
    return {"index": 0, "content": text, "tokens": [7], "stop": False, **more}


def likely(token):
    other = {"id": 8, "token": " nice", "bytes": [], "logprob": -2.5}
    row = {"id": 7, "token": token, "bytes": [], "logprob": -0.5, "top_logprobs": [{**other, "token": token}, other]}
    return {"completion_probabilities": [row]}


def llama(exchange):
    """llama.cpp's server, as its documentation has it: no terminator, and counts on the last event."""
    exchange.chunked()
    for text in ("Once", " upon"):
        exchange.event(llama_event(text, **likely(text)))
    exchange.event(llama_event("", stop=True, stop_type="limit", tokens_predicted=2, tokens_evaluated=5))


def test_the_parameter_is_sent_from_a_cell_and_refused_out_of_bounds(ask):
    with ScriptedServer(answers(["Yes"])) as server:
        assert ask(server, "%%together --typical-p 0.9 --api chat\nHi").wait().status == "ok"
        error = ask(server, "%%together --typical-p 2 --api chat\nHi").wait().error
    assert server.requests[0].json()["typical_p"] == 0.9
    assert error["evalue"].startswith("typical_p must be a number from 0 to 1, not 2.")


def test_the_dialect_translates_both_ways_continues_and_is_not_requested_again_when_it_had_begun(ask, kernel):
    def begin(exchange):
        exchange.chunked().event(llama_event("Once"))
        exchange.cut()

    with ScriptedServer(llama) as server:
        options = "--api llama --max-tokens 2 --logprobs 2 --repetition-penalty 1.1 -o answer"
        assert ask(server, f"%%together {options}\nTell").wait().status == "ok"
        assert kernel.value("answer.usage.completion_tokens, answer.finish_reason") == "(2, 'length')"
        assert kernel.value("answer.choices[0].tokens[1].top") == "((' upon', -2.5), (' nice', -2.5))"
        assert ask(server, "%together continue").wait().status == "ok"
        assert ask(server, "%%together --api llama --system Short\nTell").wait().error["ename"] == "InputError"
        server.script = begin
        assert ask(server, "%%together --api llama\nTell").wait().error["ename"] == "ConnectionLostError"
        assert kernel.value("_together.text") == "'Once'"
    first, second, _ = server.requests
    assert first.path == "/completion"
    assert first.json() == {
        "model": "test/base", "prompt": "Tell", "n_predict": 2, "n_probs": 2, "repeat_penalty": 1.1, "stream": True,
    }  # fmt: skip
    assert second.json()["prompt"] == "TellOnce upon"


def test_the_dialect_is_compared_asked_for_each_item_recorded_replayed_and_shown_as_a_call(ask, kernel, tmp_path):
    tape = tmp_path / "tape.jsonl"
    with ScriptedServer(llama) as server:
        ask(server, f"%together record {tape}").wait()
        for options, prompt in (("--compare temperature=0,1", "Tell"), ('--for "[1, 2]"', "Tell {item}")):
            assert ask(server, f"%%together --api llama {options} -o both\n{prompt}").wait().status == "ok"
            assert kernel.value("[one.text for one in both]") == "['Once upon', 'Once upon']"
        ask(server, f"%together record off\n%together replay {tape}").wait()
        run = ask(server, "%%together --api llama --temperature 1 -o answer\nTell").wait()
        kernel.run("%together replay off").wait()
        assert run.status == "ok"
        assert kernel.value("answer.text") == "'Once upon'"
        assert len(server.requests) == 4  # the replay sends nothing
        code = (
            "from together_nb.panel.call_as_code import all_forms; call = together_nb.stream('Tell', api='llama', n=2)"
        )
        ask(server, code).wait()
        calls = ast.literal_eval(kernel.value("all_forms(call, settings.sampling)"))
        assert calls["cell"] == "%%together -m test/base --api llama --n 2\nTell"
        assert "api='llama'" in calls["python"]
        assert f"{server.base_url}/completion" in calls["curl"]
        assert '"n_cmpl": 2' in calls["curl"]


PANEL = """
import threading
panel = together_nb.Panel(prompt="Tell", api="llama", max_tokens=2, shared=False)
panel.generate()
for thread in threading.enumerate():
    if thread.name.startswith("together_nb "):
        thread.join()
text = panel.completion.text
panel.close()
"""


def test_the_dialect_is_in_the_panels_box_and_answers_there(ask, kernel):
    with ScriptedServer(llama) as server:
        assert ask(server, PANEL).wait().status == "ok"
    assert kernel.value("text") == "'Once upon'"
    assert server.requests[0].path == "/completion"


def test_another_dialect_of_chat_can_be_asked_for_a_form_too(monkeypatch, capsys):
    monkeypatch.setitem(DIALECTS, "other", replace(DIALECTS["chat"], name="other", path="/other"))
    with ScriptedServer(answers([])) as server, ipython() as shell:
        shell.user_ns["form"] = {"type": "object"}
        together_nb.settings.base_url, together_nb.settings.model = server.base_url, "test/chat"
        for options, sent in (("--show json", "json_object"), ("--schema form", "json_schema")):
            shell.run_cell(f"%%together --api other --dry-run {options}\nHi").raise_error()
            shown = capsys.readouterr().out
            assert "/other" in shown
            assert sent in shown


def test_the_format_shows_an_answer_live_and_saved(ask):
    quoted = "> A &#42;line&#42;  \n> &#60;b&#62;"
    with ScriptedServer(answers(["A *line*\n", "<b>"])) as server:
        run = ask(server, "%%together --api chat --show quote\nTell").wait()
    assert run.repaints()[-1][1] == quoted
    assert run.display["data"]["text/markdown"].startswith(f"{quoted}\n\n<sub>test/base")


def test_the_view_writes_each_sentence_when_it_is_complete(ask):
    seen = threading.Event()

    def script(exchange):
        exchange.chunked().text_events(["Once up", "on a time. Th"])
        exchange.pause(seen)
        answers(["ere was <b>a</b> \x1b]52;c;eA==\x07cat!\n\nIt", " slept"])(exchange)

    with ScriptedServer(script) as server:
        run = ask(server, "%%together --show sentences\nTell")
        run.until(lambda message: "time" in str(message["content"].get("text")))
        assert run.stdout == "Once upon a time.\n"
        seen.set()
        assert run.wait().status == "ok"
    assert re.match(r"Once upon a time\.\nThere was <b>a</b> .*cat!\nIt slept\n.*\[test/base", run.stdout, re.DOTALL)
    assert "\x1b" not in run.stdout.partition("[test/base")[0]


def test_the_view_keeps_what_came_after_ctrl_c(ask, kernel):
    with ScriptedServer(silent_after(["One. Two"])) as server:
        run = ask(server, "%%together --show sentences\nTell")
        run.until(lambda message: "One" in str(message["content"].get("text")))
        kernel.interrupt()
        assert run.wait().error["ename"] == "KeyboardInterrupt"
        assert server.closed.wait(PATIENCE)
    assert run.stdout.startswith("One.\nTwo\n[test/base")


def test_the_command_runs_and_refuses_what_it_does_not_take(ask, kernel):
    with ScriptedServer(answers(["Yes"])) as server:
        ask(server, "%together clear --conversations").wait()  # of other tests
        assert ask(server, "%%together --api chat --chat\nTell").wait().status == "ok"
        assert ask(server, "%together clear all").wait().error["ename"] == "InputError"
        assert ask(server, "%together clear").wait().stdout == "Forgotten: 1 answer.\n"
        assert kernel.value("len(together_nb.history), len(together_nb.conversations)") == "(0, 1)"
        assert ask(server, "%together clear --conversations").wait().status == "ok"
    assert kernel.value("len(together_nb.conversations)") == "0"


def test_each_example_is_offered_by_tab_and_explained(kernel):
    def offered(line):
        kernel.client.complete(line, len(line))
        reply = kernel.client.get_shell_msg(timeout=PATIENCE)["content"]
        return [line[: reply["cursor_start"]] + match for match in reply["matches"]]

    kernel.client.inspect("%%together", 10)
    words = kernel.client.get_shell_msg(timeout=PATIENCE)["content"]["data"]["text/plain"]
    for line in ("--typical-p", "--api llama", "--show quote", "--show sentences"):
        assert f"%%together {line}" in offered(f"%%together {line[:-2]}")
        assert line.split()[-1] in words
    assert "%together clear --conversations" in offered("%together clear --c")
    assert "clear [--conversations]" in words


# How to release


def test_the_version_has_its_section_in_the_changelog_or_is_yet_to_be_released():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d{2}-\d{2}$", changelog, re.MULTILINE)
    if together_nb.__version__ not in released:
        coming = changelog.partition("## [Unreleased]")[2].partition("\n## ")[0]
        assert re.search(r"^- \S", coming, re.MULTILINE)


# What was built, used from an empty folder.
USED = """
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "together_nb")
shell.run_cell("%%together --max-tokens 8 -o answer\\nOnce upon a time").raise_error()
assert shell.user_ns["answer"].usage.completion_tokens == 8
"""


@pytest.mark.install
@pytest.mark.timeout(900)
def test_the_release_is_built_checked_and_used_as_it_stands(tmp_path):
    root, temporary = tmp_path / "repository", tmp_path / "temporary"
    temporary.mkdir()
    copy_of_the_repository(root)
    tracked = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    subprocess.run([sys.executable, "-m", "venv", root / ".venv"], check=True)
    (block,) = re.findall(r"^ +```sh\n(.*?)^ +```$", TEXT, re.DOTALL | re.MULTILINE)
    environment = {**environment_without("TOGETHER_", "PYTHON"), "TMPDIR": str(temporary)}
    done = subprocess.run(
        ["bash", "-euc", textwrap.dedent(block)], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith(together_nb.__version__)
    (source,) = (root / "dist").glob("*.tar.gz")
    with tarfile.open(source) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert tracked - held <= {".gitignore"}
    (python,) = temporary.glob("*/bin/python")
    subprocess.run([python, "-I", "-c", USED], cwd=temporary, env=environment, check=True)
    shutil.rmtree(tmp_path)
