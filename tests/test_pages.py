"""The pages of the documentation: their tables are current, their links resolve, and everything that they show works."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from traitlets.config import Config

import together_nb
from tests.lab import TOKEN, Server
from tests.pages import CONTRIBUTING, GUIDE, PAGES, README, ROOT, fences, named, with_tables
from tests.servers import ScriptedServer, answers
from together_nb.local.server import LocalServer

USER_PAGES = [README, *sorted(GUIDE.glob("*.md"))]
OTHER_SERVER = "http://localhost:11434/v1"
KEY = "a-student-s-own-key"
PYTHON = [fence for fence in fences(*USER_PAGES) if fence.language == "python" and not fence.kind]


def text_of(page):
    return page.read_text(encoding="utf-8")


def anchors(page):
    return {
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE)
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_has_the_tables_of_today_and_its_links_lead_somewhere(page):
    assert with_tables(text_of(page)) == text_of(page), "run python -m tests.generate"
    for link in re.findall(r"\]\((?!https?://)([^)]+)\)", re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL)):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_first_pages_are_short_and_hold_no_placeholder():
    for page, most in ((README, 9_000), (CONTRIBUTING, 12_600)):
        assert len(page.read_bytes()) <= most
        assert not re.search(r"OWNER|mybinder", text_of(page))


def test_every_guide_page_and_every_notebook_is_linked():
    index = text_of(GUIDE / "README.md")
    assert [page.name for page in USER_PAGES[1:] if page.name != "README.md" and f"({page.name})" not in index] == []
    notebooks = [path.name for path in (ROOT / "notebooks").glob("*.ipynb")]
    assert [name for name in notebooks if f"(notebooks/{name})" not in text_of(README)] == []


@pytest.mark.parametrize("page", [page for page in USER_PAGES if any(not fence.language for fence in fences(page))])
def test_the_cells_of_a_page_run_as_they_stand(page, start_kernel):
    with LocalServer(any_model=True) as server, ScriptedServer(answers(['{"name": "Ada"}'])) as takes_schemas:
        kernel = start_kernel()
        kernel.run("import together_nb\n%config TogetherMagics.local_tokens_per_second = 0\nhero = 'Ada'").wait()
        cells = [cell for fence in fences(page) if not fence.language for cell in fence.cells]
        for cell in cells:
            if cell == "%together login":  # it has a test of its own
                continue
            if cell.startswith("%together explain"):
                kernel.run("1 / 0").wait()
            if cell == "%together record off":
                kernel.run("%%together --max-tokens 3\nOnce").wait()
            if "--schema" in cell:
                where = (takes_schemas.base_url, "test/chat")
                kernel.run(f"together_nb.settings.base_url, together_nb.settings.model = {where}").wait()
            run = kernel.run(cell.replace(OTHER_SERVER, server.base_url + "/v1")).wait()
            assert run.status == "ok", (cell, run.error)
            if "--schema" in cell:
                kernel.run("together_nb.settings.base_url = together_nb.settings.model = None").wait()
        for name in re.findall(r"-o (\w+)", "\n".join(cells)):
            kernel.value(name)
        if OTHER_SERVER in text_of(page):
            kernel.run("%%together --max-tokens 3\nOnce").wait()
            assert kernel.value("_together.request.model") == "'llama3.2'"


@pytest.mark.parametrize("fence", PYTHON, ids=lambda fence: fence.page.name)
def test_the_python_of_a_page_runs(fence, tmp_path):
    subprocess.run([sys.executable, "-c", fence.text], check=True, cwd=tmp_path)


def test_the_headers_of_the_guide_are_for_the_servers_that_it_names(monkeypatch):
    for name in ("PORTKEY_API_KEY", "AZURE_OPENAI_API_KEY"):
        monkeypatch.setenv(name, KEY)
    names = {}
    for server in ("portkey", "azure"):
        exec(named("setting", server), names)
        assert KEY in together_nb.settings.default_headers.reveal().values()
    assert together_nb.settings.default_headers.names == ("api-key",)


def test_every_function_that_the_pages_call_is_public_and_the_errors_that_they_explain_are_in_the_code():
    called = set(re.findall(r"`(\w+)\(", "".join(map(text_of, USER_PAGES)))) - {"help"}
    assert called
    assert [name for name in called if not hasattr(together_nb, name)] == []
    sources = "".join(text_of(path) for path in Path(together_nb.__file__).parent.rglob("*.py"))
    messages = re.findall(r"^\| \*(.+?)\* \|", text_of(GUIDE / "troubleshooting.md"), re.MULTILINE)
    others = {"Cell magic `%%together` not found", "No module named 'together_nb'"}  # IPython's and Python's
    assert len(messages) > len(others)
    for message in set(messages) - others:
        for part in re.split(r"…|\d+ s\b|; trying again in", message):
            assert part.strip() in sources, part


# The commands


def test_ci_runs_the_readmes_test_command():
    script = text_of(ROOT / ".ci" / "run")
    found = re.search(r"test_command=\$\((.*)\)\n", script).group(1)
    assert subprocess.check_output(["bash", "-c", found], cwd=ROOT, text=True).strip() == named("command", "test")


def test_the_first_command_opens_the_quickstart_in_jupyterlab(tmp_path):
    program, application, notebook = shlex.split(named("command", "lab").split(" && ")[-1])
    assert program == ".venv/bin/jupyter"
    options = ("--allow-root", "--ip=127.0.0.1", f"--IdentityProvider.token={TOKEN}")
    server = Server(tmp_path, "-m", "jupyter", application, str(ROOT / notebook), *options)
    try:
        address = f"{server.url}/api/contents/quickstart.ipynb?token={TOKEN}"
        with urllib.request.urlopen(address, timeout=60) as reply:
            assert b"Watch a language model write" in reply.read()
    finally:
        server.stop()


def test_the_command_for_the_built_in_model_serves_it():
    program, *arguments = shlex.split(named("command", "local"))
    assert program == ".venv/bin/python"
    arguments[arguments.index("--port") + 1] = "0"  # one that is free
    with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            address = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())[0]
            with urllib.request.urlopen(f"{address}/v1/models", timeout=60) as reply:
                assert b"local/ngram" in reply.read()
        finally:
            process.terminate()


def test_the_environment_names_another_server(start_kernel):
    *assignments, _, _ = shlex.split(named("command", "other-server"))
    environment = dict(one.split("=", 1) for one in assignments)
    assert environment["TOGETHER_BASE_URL"] == OTHER_SERVER
    with LocalServer(any_model=True) as server:
        kernel = start_kernel(**{**environment, "TOGETHER_BASE_URL": server.base_url + "/v1"})
        assert kernel.run("%%together --max-tokens 3\nOnce").wait().status == "ok"
        assert kernel.value("_together.request.model") == "'llama3.2'"


def test_a_class_gets_its_proxy_its_extension_and_its_limits(tmp_path, start_kernel):
    hub = Config()
    exec(compile(named("file", "jupyterhub_config.py"), "jupyterhub_config.py", "exec"), {"c": hub})
    environment = hub.Spawner.environment
    profile = tmp_path / "profile_default"
    profile.mkdir()
    (profile / "ipython_config.py").write_text(f"c = get_config()\n{named('file', 'ipython_config.py')}\n")
    with LocalServer(any_model=True, api_key=KEY) as server:
        kernel = start_kernel(loaded=False, **{**environment, "TOGETHER_BASE_URL": server.base_url + "/v1"})
        login = kernel.run("%together login")
        assert kernel.answer_stdin(KEY)["password"] is True
        assert login.wait().status == "ok"
        assert kernel.run("%%together\nOnce").wait().status == "ok"
        assert kernel.value("_together.request.model") == repr(environment["TOGETHER_MODEL"])
        assert kernel.value("_together.request.sampling.max_tokens") == "300"
        assert kernel.value("__import__('together_nb').settings.budget") == "0.5"
