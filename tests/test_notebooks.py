"""The lessons: each runs from top to bottom, with no key and with one, and is saved as it should be."""

from __future__ import annotations

import re
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest
from nbformat import v4

from tests.kernels import WIDGET
from tests.notebooks import MODEL_LINE, cleaned, lessons, ran, read, text_of, with_a_key
from together_nb.config import DEFAULT_BASE_URL, DEFAULT_MODEL, LOCAL_MODEL
from together_nb.local.server import LocalServer

PATHS = {path.stem: path for path in lessons()}
APPS = ["playground"]
LESSONS = ["quickstart", "streaming", "sampling", "probabilities", "conversations", "many-prompts"]
KEY = "tok-canary-6b1f0e7d9c"
# Which models all of the answers were asked of.
ASKED = "import together_nb\nprint('asked:', *{one.request.model for one in together_nb.history})"
MOST_CHARACTERS = 105  # of a line: as many as JupyterLab shows at 1,280 px, its list of files open
AT_ONCE = 3  # they mostly wait for tokens
TOY_NOTE = "a toy n-gram model"


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]


@pytest.fixture(scope="module")
def keyed_server():
    with LocalServer(any_model=True, api_key=KEY) as server:
        yield server


@pytest.fixture(scope="module")
def runs(keyed_server):
    """Every notebook run as it stands, and with its one line changed, several at once: the futures, by name."""

    def with_key(path):
        notebook = with_a_key(read(path))
        notebook.cells.append(v4.new_code_cell(ASKED))
        for cell in code(notebook):
            cell.source = cell.source.replace(DEFAULT_BASE_URL.removesuffix("/v1"), keyed_server.base_url)
        return ran(notebook, TOGETHER_API_KEY=KEY, TOGETHER_BASE_URL=keyed_server.base_url)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = {(name, "keyless"): pool.submit(lambda path=path: ran(read(path))) for name, path in PATHS.items()}
        futures |= {(name, "keyed"): pool.submit(with_key, PATHS[name]) for name in LESSONS}
        yield futures


@pytest.fixture(params=PATHS)
def saved(request):
    return read(PATHS[request.param])


@pytest.fixture(params=LESSONS)
def lesson(request):
    return read(PATHS[request.param])


def test_these_are_all_the_notebooks():
    assert sorted(LESSONS + APPS) == sorted(PATHS)


def silent_cells(notebook):
    """Those that say nothing, what widgets say of themselves left out, or show no picture where they draw one."""
    for cell in code(cleaned(notebook)):
        said = "".join(map(text_of, cell.outputs)).strip()
        drawn = any("image/png" in one.get("data", {}) for one in cell.outputs)
        if not said or ("plt.show()" in cell.source and "interactive(" not in cell.source and not drawn):
            yield cell.id


def answers_of(notebook):
    """What was answered in each cell whose answer is always the same, without its footers."""
    for cell in code(notebook):
        if cell.source.startswith("%%together") and re.search(r"--(seed\b|temperature 0(?![.\d]))", cell.source):
            yield cell.id, re.sub(r"^\[.*\]$", "", text_of(cell.outputs[-1]), flags=re.MULTILINE)


# Run


@pytest.mark.parametrize("name", PATHS)
def test_it_runs_from_top_to_bottom_and_every_cell_says_something(runs, name):
    notebook = runs[name, "keyless"].result()
    assert list(silent_cells(notebook)) == []
    assert [one for cell in code(notebook) for one in cell.outputs if one.get("name") == "stderr"] == []
    for cell in code(notebook):
        if cell.source.startswith("%%together") and "--dry-run" not in cell.source:
            *_, output = cell.outputs
            assert {"text/markdown", "text/plain"} <= set(output.data)
            assert WIDGET not in output.data
            asked = output.metadata["together_nb"]
            assert {one["model"] for one in asked.get("compared", [asked])} == {LOCAL_MODEL}


@pytest.mark.parametrize("name", LESSONS)
def test_it_runs_with_a_key_on_another_model_once_its_one_line_is_changed(runs, name):
    notebook = runs[name, "keyed"].result()
    assert list(silent_cells(notebook)) == []
    text = nbformat.writes(notebook)
    assert DEFAULT_MODEL in "".join(text_of(one) for cell in code(notebook) for one in cell.outputs)
    assert set(text_of(code(notebook)[-1].outputs[0]).split()) <= {"asked:", DEFAULT_MODEL}
    assert TOY_NOTE not in text
    assert KEY not in text


@pytest.mark.parametrize("name", LESSONS)
def test_what_is_saved_is_what_its_cells_answer(runs, name):
    fresh, kept = runs[name, "keyless"].result(), read(PATHS[name])
    assert dict(answers_of(kept)) == dict(answers_of(fresh))


def test_the_toy_says_that_it_is_one(runs):
    assert TOY_NOTE in nbformat.writes(runs["quickstart", "keyless"].result())


# Saved


def test_it_is_saved_as_it_was_run_and_every_cell_says_something(saved):
    assert [cell.execution_count for cell in code(saved)] == list(range(1, len(code(saved)) + 1))
    assert list(silent_cells(saved)) == []
    assert [one for cell in code(saved) for one in cell.outputs if one.output_type == "error"] == []


def test_what_is_saved_is_clean(saved):
    assert nbformat.writes(cleaned(saved)) == nbformat.writes(saved)
    nbformat.validate(saved)


def test_it_is_saved_with_no_widget_key_or_path(saved):
    text = nbformat.writes(saved)
    assert "application/vnd.jupyter.widget" not in text
    assert "widgets" not in saved.metadata
    for path in (PATHS["quickstart"].parents[1], Path.home(), sys.prefix, tempfile.gettempdir()):
        assert f"{path}/" not in text
    assert (
        re.search(
            r"TOGETHER_API_KEY=|\b[0-9a-f]{64}\b|Bearer \w|\b(tok|tgp|sk)[-_]\w|/home/|/root|/tmp/|/usr/|/Users/|[A-Z]:\\\\",
            text,
        )
        is None
    )


def test_these_tests_see_a_widget_a_path_and_a_cell_that_says_nothing():
    view = v4.new_output("display_data", {WIDGET: {"model_id": "1"}, "text/plain": "IntSlider(value=0)"})
    place = v4.new_output("display_data", {WIDGET: {"model_id": "2"}, "text/plain": "A panel stood here."})
    printed = [v4.new_output("stream", name="stdout", text=text) for text in ("Once", " upon")]
    notebook = v4.new_notebook(
        cells=[v4.new_code_cell("1", outputs=[view]), v4.new_code_cell("2", outputs=[place, *printed])]
    )
    notebook.metadata["widgets"] = {"state": {}}
    first, second = cleaned(notebook).cells
    assert first.outputs == []
    assert [text_of(one) for one in second.outputs] == ["A panel stood here.", "Once upon"]
    assert list(silent_cells(notebook)) == [notebook.cells[0].id]
    assert "widget" not in nbformat.writes(cleaned(notebook))


# Taught


def test_one_line_chooses_the_model_and_names_the_default_for_a_key(lesson):
    (found,) = [match for cell in code(lesson) for match in MODEL_LINE.finditer(cell.source)]
    assert f'"{LOCAL_MODEL}"' in found["keyless"]
    assert f'"{DEFAULT_MODEL}"' in found["keyed"]
    assert with_a_key(lesson) != lesson


def test_it_says_what_will_be_seen_asks_and_ends_with_something_to_try(lesson):
    first, *middle, last = prose(lesson)
    assert first.startswith("# ")
    assert "**You will see**" in first
    questions = [one for one in middle if one.startswith("**Question ")]
    assert len(questions) >= 3
    assert [one.split(".")[0] for one in questions] == [f"**Question {n + 1}" for n in range(len(questions))]
    for one in questions:
        assert re.search(r"\?.*\n\n<details><summary>Answer</summary>\n\n\S.*\n\n</details>$", one, re.DOTALL)
    assert last.startswith("## Try\n")
    assert last.count("\n- ") >= 3


def test_its_code_fits_a_projector(lesson):
    assert [line for cell in code(lesson) for line in cell.source.splitlines() if len(line) > MOST_CHARACTERS] == []


def test_its_links_lead_to_notebooks(lesson):
    linked = re.findall(r"\]\(([^)]+)\)", "\n".join(prose(lesson)))
    assert linked
    assert [one for one in linked if not (PATHS["quickstart"].parent / one).is_file()] == []


def test_the_quickstart_has_five_cells():
    assert len(code(read(PATHS["quickstart"]))) == 5
