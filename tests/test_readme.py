"""The README: what it generates is current, and everything that it shows works."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import urllib.request
from importlib.metadata import metadata
from pathlib import Path

import pytest
from traitlets.config import Config

import together_nb
from tests.kernels import Kernel
from tests.lab import TOKEN, Server, free_port
from tests.readme import README, command, fences, file, with_tables
from together_nb.background import BackgroundRun
from together_nb.batch import BatchResults
from together_nb.local.server import LocalServer
from together_nb.magic.commands import COMMANDS
from together_nb.options import spellings

TEXT = README.read_text(encoding="utf-8")
FENCES = fences()
CELLS = [fence for fence in FENCES if fence.language == ""]
SCRIPTS = [fence for fence in FENCES if fence.language == "python" and not fence.kind]
COMMANDS_TOLD = {"lab", "test", "local", "other-server"}
FILES_TOLD = {"jupyterhub_config.py", "ipython_config.py"}
OTHER_SERVER = "http://localhost:11434/v1"
KEY = "a-student-s-own-key"


def test_the_tables_are_those_of_the_declarations():
    assert with_tables(TEXT) == TEXT


def test_every_option_and_every_command_is_told():
    assert [option for option in spellings() if f"`{option}" not in TEXT and option != "--help"] == []
    assert [name for name in COMMANDS if f"%together {name}".strip() not in TEXT] == []


def test_every_snippet_is_run_by_a_test():
    rest = [fence for fence in FENCES if fence not in CELLS and fence not in SCRIPTS]
    assert {(fence.kind, fence.name) for fence in rest} == {
        *(("command", name) for name in COMMANDS_TOLD),
        *(("file", name) for name in FILES_TOLD),
    }
    assert TEXT.count("```") == 2 * len(FENCES)


def test_these_tests_see_every_kind_of_fence():
    text = "## A\n```\none\n```\n## B\n<!-- file: b.py -->\n```python\ntwo\n\nthree\n```\n"
    assert [(one.section, one.language, one.kind, one.name, one.text) for one in fences(text)] == [
        ("A", "", "", "", "one"),
        ("B", "python", "file", "b.py", "two\n\nthree"),
    ]


def test_each_cell_runs_as_it_stands(tmp_path):
    with LocalServer(any_model=True) as server:
        kernel = Kernel(tmp_path)
        try:
            kernel.run("%config TogetherMagics.local_tokens_per_second = 0").wait()
            for cell in [cell for fence in CELLS for cell in fence.cells]:
                if cell.startswith("%together explain"):
                    kernel.run("1 / 0").wait()
                if cell == "%together record off":  # what is between, a lesson would ask
                    kernel.run("%%together --max-tokens 3\nOnce").wait()
                if "base_url" in cell:
                    kernel.run("%together replay off").wait()
                run = kernel.run(cell.replace(OTHER_SERVER, server.base_url + "/v1")).wait()
                assert run.status == "ok", (cell, run.error)
            for name in ("story", "answer", "both", "told", "person"):
                kernel.value(name)
            assert kernel.value("story.request.prompt") == "'Tell me a story about a robot.'"
            kernel.run("%%together --max-tokens 3\nOnce").wait()
            assert kernel.value("_together.request.model") == "'llama3.2'"
        finally:
            kernel.stop()
    assert {one.name for one in tmp_path.glob("*.jsonl")} == {"lesson.jsonl", "as-it-went.jsonl"}


def test_each_way_of_working_with_the_answers_takes_three_lines_or_fewer():
    shown = [cell for fence in CELLS if fence.section == "Work with the answers" for cell in fence.cells]
    assert len(shown) > 10
    assert [cell for cell in shown if cell.count("\n") >= 3] == []


def test_ten_lines_show_the_magic_the_panel_and_python():
    shown = [fence.text for fence in FENCES if fence.section == "Ten lines"]
    assert len([line for text in shown for line in text.splitlines() if line]) <= 10
    for part in ("%%together", "%together panel", "from together_nb import"):
        assert any(part in text for text in shown)


@pytest.mark.parametrize("script", [fence.text for fence in SCRIPTS])
def test_each_python_snippet_runs(script):
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_ci_runs_the_very_test_command():
    script = (README.parent / ".ci" / "run").read_text(encoding="utf-8")
    found = re.search(r"test_command=\$\((.*)\)\n", script).group(1)
    done = subprocess.run(["bash", "-c", found], cwd=README.parent, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == command("test")
    assert 'bash -c "$test_command"' in script


def test_the_first_command_installs_as_the_one_that_ci_runs():
    *installs, _ = command("lab").split(" && ")
    assert installs == [one.replace('-e ".[test]"', '".[lab]"') for one in command("test").split(" && ")[:2]]
    assert "lab" in metadata("together_nb").get_all("Provides-Extra")


def test_the_first_command_opens_the_quickstart_in_jupyterlab(tmp_path):
    program, application, notebook = shlex.split(command("lab").split(" && ")[-1])
    assert program == ".venv/bin/jupyter"
    options = ("--allow-root", "--ip=127.0.0.1", f"--IdentityProvider.token={TOKEN}")
    server = Server(tmp_path, "-m", "jupyter", application, str(README.parent / notebook), *options)
    try:
        # It opens that file, in that file's own folder.
        address = f"{server.url}/api/contents/quickstart.ipynb?token={TOKEN}"
        with urllib.request.urlopen(address, timeout=60) as reply:
            assert b"Watch a language model write" in reply.read()
    finally:
        server.stop()


def test_the_model_of_its_own_is_served_by_the_command_that_it_gives():
    program, *arguments = shlex.split(command("local"))
    assert program == "python"
    port = free_port()
    arguments[arguments.index("--port") + 1] = str(port)
    with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True) as served:
        try:
            assert f"http://127.0.0.1:{port}" in served.stdout.readline()
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=60) as reply:
                assert b"local/ngram" in reply.read()
        finally:
            served.terminate()


def test_another_server_is_asked_where_the_environment_names_one(tmp_path):
    *assigned, program, page = shlex.split(command("other-server"))
    assert [program, page] == ["jupyter", "lab"]
    with LocalServer(any_model=True) as server:
        environment = dict(one.split("=", 1) for one in assigned)
        assert environment["TOGETHER_BASE_URL"] == OTHER_SERVER
        kernel = Kernel(tmp_path, **{**environment, "TOGETHER_BASE_URL": server.base_url + "/v1"})
        try:
            assert kernel.run("%%together --max-tokens 3\nOnce").wait().status == "ok"
            assert kernel.value("_together.request.model") == "'llama3.2'"
        finally:
            kernel.stop()


def test_a_class_finds_its_proxy_its_extension_and_its_limits(tmp_path):
    hub = Config()
    exec(compile(file("jupyterhub_config.py"), "jupyterhub_config.py", "exec"), {"c": hub})  # as JupyterHub reads it
    environment = hub.Spawner.environment
    assert all(isinstance(one, str) for one in environment.values())
    profile = tmp_path / "profile_default"
    profile.mkdir()
    (profile / "ipython_config.py").write_text(f"c = get_config()\n{file('ipython_config.py')}\n", encoding="utf-8")
    with LocalServer(any_model=True, api_key=KEY) as server:
        kernel = Kernel(tmp_path, loaded=False, **{**environment, "TOGETHER_BASE_URL": server.base_url + "/v1"})
        try:
            login = kernel.run("%together login")
            assert kernel.answer_stdin(KEY)["password"] is True
            assert login.wait().status == "ok"
            assert kernel.run("%%together\nOnce").wait().status == "ok"
            assert kernel.value("_together.request.model") == repr(environment["TOGETHER_MODEL"])
            assert kernel.value("_together.request.sampling.max_tokens") == "300"
            assert kernel.value("__import__('together_nb').settings.budget") == "0.5"
        finally:
            kernel.stop()


# What it points to


def test_its_pictures_and_links_within_the_repository_are_there():
    linked = re.findall(r"\]\((?!https?://)([^)#]+)\)", TEXT)
    assert {"notebooks/pictures/panel.png", "notebooks/pictures/streaming.png", "CONTRIBUTING.md"} <= set(linked)
    assert [one for one in linked if not (README.parent / one).is_file()] == []


def test_every_notebook_is_told_and_every_heading_that_a_new_user_needs():
    for path in (README.parent / "notebooks").glob("*.ipynb"):
        assert f"(notebooks/{path.name})" in TEXT
    for heading in (
        "Two commands",
        "Keys, servers, defaults",
        "Other servers",
        "JupyterHub, for a class",
        "When something goes wrong",
    ):
        assert f"\n## {heading}\n" in TEXT


# What it says in passing


def test_what_it_calls_in_python_is_there():
    runs = {"run": BackgroundRun, "told": BatchResults}
    called = set(re.findall(r"`((?:\w+\.)?)(\w+)\(", TEXT)) - {("", "help")}
    assert len(called) > 8
    for owner, name in called:
        assert hasattr(runs[owner[:-1]] if owner else together_nb, name), f"{owner}{name}"


def test_what_an_error_is_told_to_say_is_said_in_the_code():
    (table,) = re.findall(r"\| it says \| what to do \|\n.*?\n\n", TEXT, re.DOTALL)
    sources = "".join(path.read_text(encoding="utf-8") for path in Path(together_nb.__file__).parent.rglob("*.py"))
    others = ("Cell magic `%%together` not found", "No module named 'together_nb'")  # IPython's and Python's
    told = re.findall(r"^\| \*(.+?)\* \|", table, re.MULTILINE)
    assert len(told) > 5
    for words in set(told) - set(others):
        for part in re.split(r"…|\d+ s\b|; trying again in", words):
            assert part.strip() in sources, part
