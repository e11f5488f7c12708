"""Binder: what repo2docker reads, the same steps in an empty virtual environment, and both links of what they built."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from importlib.metadata import metadata
from pathlib import Path

import nbformat
import pytest
from nbformat import v4
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tests.kernels import environment_without
from tests.lab import START_SECONDS, TOKEN, Notebook, Server, Voila, picture
from tests.panel.test_browser import PanelPage, run
from tests.servers import ScriptedServer, answers
from tests.whole.test_key import KEY

# An installation counts to the first test that needs it.
pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).parents[1]
BINDER = ROOT / "binder"
# What follows `urlpath=` in the links.
QUICKSTART = "lab/tree/notebooks/quickstart.ipynb"
PLAYGROUND = "voila/render/notebooks/playground.ipynb"
BASE = "/user/somebody"  # there a hub has each visitor's server
NEWS = "@jupyterlab/apputils-extension:announcements"


# What repo2docker reads


def requirements():
    """By name; ``.[lab]`` is the repository itself."""
    lines = (line.partition("#")[0].strip() for line in (BINDER / "requirements.txt").read_text().splitlines())
    found = [Requirement(f"together_nb{line[1:]}" if line.startswith(".") else line) for line in lines if line]
    return {one.name: one for one in found}


def test_repo2docker_finds_what_its_python_build_reads_and_nothing_that_comes_before():
    assert {path.name for path in BINDER.iterdir()} == {"requirements.txt", "runtime.txt", "postBuild"}


def test_the_package_is_installed_with_jupyterlab_voila_and_an_ipykernel_that_takes_widget_updates_from_threads():
    assert requirements()["together_nb"].extras == {"lab"}
    assert "voila" in requirements()
    ipykernel = requirements()["ipykernel"].specifier
    assert [ipykernel.contains(version) for version in ("6.31.0", "7.0.1", "7.1.0")] == [False, False, True]


def test_the_runtime_is_a_python_that_the_package_allows():
    name, version = (BINDER / "runtime.txt").read_text().strip().split("-")
    assert name == "python"
    assert len(version.split(".")) == 2  # repo2docker takes no other
    assert version in SpecifierSet(metadata("together_nb")["Requires-Python"])


ENGINE, FILE, MODEL = "python -m pip", "python -I -m", "python -I -"
STEPS = ["jupyter labextension disable", ENGINE, FILE, MODEL]


@pytest.mark.parametrize(
    ("failing", "steps", "fails"),
    [
        ("no step", STEPS, False),
        ("jupyter labextension disable", STEPS[:1], True),
        (ENGINE, STEPS, False),  # the n-gram model answers
        (FILE, STEPS, False),
        (MODEL, STEPS, True),
    ],
)
def test_a_step_that_fails_fails_the_build_unless_the_toy_can_stand_in(tmp_path, failing, steps, fails):
    for name in ("jupyter", "python"):
        step = tmp_path / name
        step.write_text(
            f'#!/bin/sh\ncommand="{name} $1 $2"\necho "step: $command"\n[ "${{command% }}" != "{failing}" ]\n'
        )
        step.chmod(0o755)
    environment = {**os.environ, "PATH": os.pathsep.join((str(tmp_path), os.environ["PATH"]))}
    done = subprocess.run(
        [BINDER / "postBuild"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert re.findall(r"step: (.+?) ?$", done.stdout, re.MULTILINE) == steps
    assert bool(done.returncode) == fails


def test_the_guide_gives_the_addresses_of_what_is_opened_below():
    guide = (ROOT / "notebooks" / "guide" / "binder.md").read_text()
    assert re.findall(r"mybinder\.org/v2/gh/[^)?\s]+\?urlpath=([^`\s]+)", guide) == [QUICKSTART, PLAYGROUND]


# What the steps build


@dataclass
class Build:
    """The repository as it was copied, and the environment into which the steps installed it."""

    root: Path
    venv: Path
    environment: dict[str, str]

    def run(self, *command):
        done = subprocess.run(command, cwd=self.root, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def files(self):
        return {path.relative_to(self.root): path.read_bytes() for path in self.root.rglob("*") if path.is_file()}


def copy_of_the_repository(to):
    """All that git knows of, or would if it were committed now."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():  # and not deleted since the last commit
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, to / name)


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """The steps, as repo2docker takes them: from the root, with that environment's programs first."""
    folder = tmp_path_factory.mktemp("binder")
    root, venv = folder / "repository", folder / "venv"
    copy_of_the_repository(root)
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    environment = {
        **environment_without("TOGETHER_", "PYTHON"),
        "PATH": os.pathsep.join((str(venv / "bin"), os.environ["PATH"])),
        "PYTHONPATH": "",
        "JUPYTER_PREFER_ENV_PATH": "1",
        "TOGETHER_NB_MODELS": str(folder / "models"),
        **{name: str(folder / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")},
    }
    made = Build(root, venv, environment)
    before = made.files()
    # Not compiled: most of it is never imported here.
    quick = ("--quiet", "--disable-pip-version-check", "--no-compile")
    made.run("pip", "install", *quick, "-r", "binder/requirements.txt")
    made.run("chmod", "+x", "binder/postBuild")
    made.said = made.run("./binder/postBuild")
    made.changed = [str(path) for path, content in made.files().items() if before.get(path) != content]
    yield made
    shutil.rmtree(folder)


@pytest.mark.install
def test_the_steps_leave_the_repository_as_it_was_and_ask_the_model(build):
    assert build.changed == []
    assert re.search(r"^local/smollm2-135m: .*\S", build.said, re.MULTILINE)


def without_outputs(path):
    """The notebook as it was before it ran, so that what is seen was not there before."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.update({"outputs": [], "execution_count": None} if cell.cell_type == "code" else {})
    return notebook


@pytest.mark.install
def test_the_quickstart_runs_with_what_the_steps_installed(build):
    notebook = without_outputs(build.root / "notebooks" / "quickstart.ipynb")
    notebook.cells.append(v4.new_code_cell("import together_nb\nprint(together_nb.__file__)"))
    path = build.root / "notebooks" / "run.ipynb"
    nbformat.write(notebook, path)
    build.run("jupyter", "nbconvert", "--log-level=WARN", "--execute", "--to=notebook", "--inplace", str(path))
    *cells, where = nbformat.read(path, as_version=4).cells
    path.unlink()
    assert build.venv in Path(where.outputs[0].text).parents
    assert [one for cell in cells for one in cell.get("outputs", ()) if one.output_type == "error"] == []
    asked = [cell for cell in cells if cell.source.startswith("%%together")]
    assert asked
    for cell in asked:
        (output,) = cell.outputs
        assert output.metadata["together_nb"]["model"] == "local/smollm2-135m"
        assert output.data["text/plain"].partition("[local/smollm2-135m")[0].strip()


# What a visitor sees


class Visited(Server):
    """The server of a visitor: JupyterLab over the repository, below a path of its own, with nobody's settings."""

    page = "lab/tree"

    def __init__(self, build):
        at = (f"--IdentityProvider.token={TOKEN}", f"--ServerApp.base_url={BASE}")
        command = ("-m", "jupyterlab", "--allow-root", "--ip=127.0.0.1", *at)
        super().__init__(build.root, *command, environment=build.environment, python=build.venv / "bin" / "python")
        self.url += BASE

    def _ask(self):
        urllib.request.urlopen(f"{self.url}{BASE}/api/status?token={TOKEN}", timeout=START_SECONDS).close()


@pytest.fixture
def visited(build):
    server = Visited(build)
    yield server
    server.stop()


@pytest.fixture
def page(browser):
    opened = browser.new_page(viewport={"width": 1400, "height": 1000})
    yield opened
    opened.context.close()


def pictures(page, name, of=None):
    """One as on a small screen, and one as on a large one."""
    for width in (600, 1400):
        page.set_viewport_size({"width": width, "height": 1000})
        if of is not None:
            of.scroll_into_view_if_needed()
        picture(page, f"{name}-{width}")


@pytest.mark.browser
@pytest.mark.install
def test_the_first_link_opens_the_quickstart_in_jupyterlab_and_it_streams(visited, page):
    path = visited.folder / "notebooks" / "quickstart.ipynb"
    lesson = without_outputs(path)
    nbformat.write(lesson, path)
    assert QUICKSTART.startswith(visited.page)
    notebook = Notebook(page, visited, QUICKSTART.removeprefix(f"{visited.page}/"))
    pictures(page, "binder-quickstart-opened")
    asks = next(number for number, cell in enumerate(lesson.cells) if cell.source.startswith("%%together"))
    run(notebook, *(number for number in range(asks + 1) if lesson.cells[number].cell_type == "code"))
    notebook.output(asks).get_by_text("local/smollm2-135m · ").wait_for()
    pictures(page, "binder-quickstart-run", of=notebook.output(asks))
    config = json.loads(page.locator("#jupyter-config-data").text_content())
    assert NEWS in config["disabledExtensions"]
    assert page.get_by_text("Jupyter news").count() == 0


# Keeps every text of the answer that the page has shown.
WATCH = """() => {
    const panel = document.querySelector('.together-nb-panel');
    window.shown = [];
    new MutationObserver(() => {
        const text = panel.querySelector('.tnb-end')?.innerText.trim();
        if (text && text !== window.shown.at(-1)) window.shown.push(text);
    }).observe(panel, {subtree: true, childList: true, characterData: true});
}"""


@pytest.mark.browser
@pytest.mark.install
def test_the_second_link_shows_the_playground_and_generate_streams(visited, page):
    page.goto(f"{visited.url}/{PLAYGROUND}?token={TOKEN}")
    panel = PanelPage(page)
    panel.wait("Ready")
    assert page.get_by_role("heading", name="The playground").is_visible()
    assert not page.get_by_text("%load_ext").is_visible()
    pictures(page, "binder-playground-opened")
    page.evaluate(WATCH)
    panel.click("Generate")
    panel.until("arg.includes(root.querySelector('[role=status]').innerText)", ["Done", "Cut at its limit"])
    first, *_, last = page.evaluate("window.shown")
    assert last.startswith(first)
    assert len(first) < len(last)
    pictures(page, "binder-playground-answer")
    panel.tab("Tokens")
    panel.root.locator(".tnb-token").nth(5).wait_for()
    pictures(page, "binder-playground-tokens")


@pytest.mark.browser
@pytest.mark.slow
def test_the_playground_asks_with_the_key_of_the_servers_environment_and_never_shows_it(page, tmp_path):
    shutil.copy(ROOT / "notebooks" / "playground.ipynb", tmp_path)
    with ScriptedServer(answers(["The", " answer."])) as server:
        environment = {"TOGETHER_BASE_URL": server.base_url, "TOGETHER_MODEL": "test/chat", "TOGETHER_API_KEY": KEY}
        voila = Voila(tmp_path, "playground.ipynb", environment=environment)
        try:
            page.goto(voila.url, timeout=120_000)  # it starts a kernel first
            panel = PanelPage(page)
            panel.wait("Ready")
            panel.click("Generate")
            panel.wait("Done")
            panel.shows("The answer.")  # the page draws Markdown in its own time
            typed = page.evaluate("[...document.querySelectorAll('input, textarea')].map(e => e.value).join()")
            assert "Once upon a time" in typed
            assert KEY not in page.content() + typed
        finally:
            voila.stop()
        (request,) = server.requests
        assert request.headers["authorization"] == f"Bearer {KEY}"
