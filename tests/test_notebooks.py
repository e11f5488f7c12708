"""The notebooks: each runs from top to bottom with no key, and is saved as it should be."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def shown(cell):
    for output in cell.outputs:
        yield output.get("text") or output.get("data", {}).get("text/plain", "")


def test_it_runs_from_top_to_bottom(notebook, tmp_path):
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    answers = [cell for cell in notebook.cells if cell.source.startswith("%%together")]
    assert answers
    for cell in answers:
        (output,) = cell.outputs
        assert set(output.data) == {"text/markdown", "text/plain"}
        assert output.metadata["together_nb"]["model"] == "local/ngram"


def test_it_is_saved_with_its_outputs_and_with_no_widget_key_or_path(notebook):
    text = nbformat.writes(notebook)
    assert "application/vnd.jupyter.widget" not in text
    assert "widgets" not in notebook.metadata
    assert re.search(r"TOGETHER_API_KEY=|Bearer|/home/|/root/|/tmp/|C:\\\\", text) is None
    for cell in notebook.cells:
        if cell.source.startswith("%%together"):
            assert "".join(shown(cell)).strip()
