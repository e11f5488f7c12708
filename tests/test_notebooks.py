"""The lessons: each runs from top to bottom, with no key and with one, and is saved as it should be.

What a real model answers may depend on the processor, so it is not compared with what is saved.
"""

import contextlib
import json
import re
import sys
import tempfile
from pathlib import Path

import jsonschema
import nbformat
import pytest
from nbformat import v4

from tests.kernels import WIDGET
from tests.llama import LlamaServer
from tests.notebooks import MODEL_LINE, asks_a_real_model, cleaned, lessons, ran, read, text_of, with_a_key
from together_nb.config.addresses import DEFAULT_BASE_URL
from together_nb.config.settings import DEFAULT_MODEL
from together_nb.local.server import LocalServer
from together_nb.values.local_models import NGRAM, SMOLLM

PATHS = {path.stem: path for path in lessons()}
LESSONS = ["quickstart", "streaming", "sampling", "probabilities", "conversations", "many-prompts"]
REAL = [name for name, path in PATHS.items() if asks_a_real_model(read(path))]
KEY = "tok-canary-6b1f0e7d9c"
MODELS_ASKED = "import together_nb\nprint('models:', *{one.request.model for one in together_nb.history})"
SCHEMA_AND_ANSWER = "import json\nprint(json.dumps([city, paris.text]))"
MOST_CHARACTERS = 105  # of a line: as many as JupyterLab shows at 1,280 px, its list of files open
NOTES = {NGRAM: "a toy n-gram model", SMOLLM: "SmolLM2"}
SECRET = re.compile(
    r"TOGETHER_API_KEY=|\b[0-9a-f]{64}\b|Bearer \w|\b(tok|tgp|sk)[-_]\w|/home/|/root|/tmp/|/usr/|/Users/|[A-Z]:\\\\"
)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]


@pytest.fixture(params=LESSONS)
def lesson(request):
    return read(PATHS[request.param])


def silent_cells(notebook):
    """Those that say nothing, what widgets say of themselves left out, or show no picture where they draw one."""
    for cell in code(cleaned(notebook)):
        said = "".join(map(text_of, cell.outputs)).strip()
        drawn = any("image/png" in one.get("data", {}) for one in cell.outputs)
        if not said or ("plt.show()" in cell.source and "interactive(" not in cell.source and not drawn):
            yield cell.id


def asking(notebook):
    """The cells that send a prompt, each with its answer."""
    for cell in code(notebook):
        if cell.source.startswith("%%together") and "--dry-run" not in cell.source:
            yield cell, cell.outputs[-1]


def answer_of(output):
    """What was answered, without footers."""
    return re.sub(r"^\[.*\]$", "", text_of(output), flags=re.MULTILINE)


def answers_of(notebook):
    """What was answered in each cell whose answer is always the same."""
    for cell, output in asking(notebook):
        if re.search(r"--(seed\b|temperature 0(?![.\d]))", cell.source):
            yield cell.id, answer_of(output)


def check_answers(notebook, model):
    """Each was given by this model, which its footer names, and has a text."""
    for _, output in asking(notebook):
        assert {"text/markdown", "text/plain"} <= set(output.data)
        assert WIDGET not in output.data
        metadata = output.metadata["together_nb"]
        assert {one["model"] for one in metadata.get("compared", [metadata])} == {model}
        assert answer_of(output).strip()
        if "items" not in metadata:  # a table has no footer for each answer
            assert NOTES[model] in text_of(output)


def test_these_lessons_ask_the_real_model():
    assert set(REAL) == {"quickstart", "conversations", "many-prompts"}


# Run


def some_slow(names, *default):
    return [name if name in default else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", some_slow(PATHS, "playground"))
def test_it_runs_from_top_to_bottom_with_no_key(name):
    saved = read(PATHS[name])
    notebook = nbformat.from_dict(saved)
    if name == "conversations":
        notebook.cells.append(v4.new_code_cell(SCHEMA_AND_ANSWER))
    notebook = ran(notebook)
    assert list(silent_cells(notebook)) == []
    assert [one for cell in code(notebook) for one in cell.outputs if one.get("name") == "stderr"] == []
    check_answers(notebook, SMOLLM if name in REAL else NGRAM)
    if name not in REAL:
        assert dict(answers_of(notebook)) == dict(answers_of(saved))
    if name == "conversations":
        schema, answer = json.loads(text_of(code(notebook)[-1].outputs[0]))
        jsonschema.validate(json.loads(answer), schema)


@contextlib.contextmanager
def server_for(notebook):
    """A server that answers whatever model is asked for: with the n-gram model, but for schemas, which it refuses."""
    if "schema=" not in "".join(cell.source for cell in code(notebook)):
        with LocalServer(any_model=True, api_key=KEY) as server:
            yield server
        return
    server = LlamaServer()
    try:
        yield server
    finally:
        server.kill()


@pytest.mark.parametrize("name", some_slow(LESSONS, "quickstart"))
def test_it_runs_with_a_key_on_another_model_once_its_one_line_is_changed(name):
    notebook = with_a_key(read(PATHS[name]))
    notebook.cells.append(v4.new_code_cell(MODELS_ASKED))
    with server_for(notebook) as server:
        for cell in code(notebook):
            cell.source = cell.source.replace(DEFAULT_BASE_URL.removesuffix("/v1"), server.base_url)
        notebook = ran(notebook, TOGETHER_API_KEY=KEY, TOGETHER_BASE_URL=server.base_url)
    assert list(silent_cells(notebook)) == []
    said = "".join(text_of(one) for cell in code(notebook) for one in cell.outputs)
    assert DEFAULT_MODEL in said
    assert set(text_of(code(notebook)[-1].outputs[0]).split()) <= {"models:", DEFAULT_MODEL}
    assert [note for note in NOTES.values() if note in said] == []
    assert KEY not in nbformat.writes(notebook)


# Saved


@pytest.mark.parametrize("name", PATHS)
def test_it_is_saved_as_it_was_run_and_clean_every_cell_says_something_and_none_has_a_widget_a_key_or_a_path(name):
    saved = read(PATHS[name])
    assert [cell.execution_count for cell in code(saved)] == list(range(1, len(code(saved)) + 1))
    assert list(silent_cells(saved)) == []
    assert [one for cell in code(saved) for one in cell.outputs if one.output_type == "error"] == []
    text = nbformat.writes(saved)
    assert nbformat.writes(cleaned(saved)) == text
    check_answers(saved, SMOLLM if name in REAL else NGRAM)
    nbformat.validate(saved)
    assert "application/vnd.jupyter.widget" not in text
    for path in (PATHS["quickstart"].parents[1], Path.home(), sys.prefix, tempfile.gettempdir()):
        assert f"{path}/" not in text
    assert SECRET.search(text) is None


# Taught


def test_one_line_chooses_the_model_and_names_the_default_for_a_key(lesson):
    (found,) = [match for cell in code(lesson) for match in MODEL_LINE.finditer(cell.source)]
    assert found["keyless"].endswith((f'"{NGRAM}"', f'"{SMOLLM}"'))
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


def test_its_code_fits_a_projector_and_its_links_lead_to_notebooks(lesson):
    assert [line for cell in code(lesson) for line in cell.source.splitlines() if len(line) > MOST_CHARACTERS] == []
    linked = re.findall(r"\]\(([^)]+)\)", "\n".join(prose(lesson)))
    assert linked
    assert [one for one in linked if not (PATHS["quickstart"].parent / one).is_file()] == []
