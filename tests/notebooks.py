"""The lessons: ``python -m tests.notebooks [NAME …]`` runs them, each in a kernel of its own, and saves what came.

What is saved holds no widget: a widget means nothing to whoever has not run it, and nothing on GitHub.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

from tests.kernels import WIDGET, environment_without
from tests.llama import model_file
from together_nb.local.models import FOLDER_VARIABLE
from together_nb.values.local_models import SMOLLM

if TYPE_CHECKING:
    from nbformat import NotebookNode

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
# The line that the owner of a key changes. The comment behind it, or below it where it is long, says to what.
MODEL_LINE = re.compile(r"^(?P<name>.+? = )(?P<keyless>.+?)(?:  |\n)# with a key: (?P<keyed>.+)$", re.MULTILINE)
_REPR_OF_A_WIDGET = re.compile(r"\w+\(")
_SECONDS = 120  # of a cell


def lessons() -> list[Path]:
    """The notebooks, by name."""
    return sorted(NOTEBOOKS.glob("*.ipynb"))


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def asks_a_real_model(notebook: NotebookNode) -> bool:
    """Whether it asks SmolLM2-135M, rather than the n-gram model or one that a key is for."""
    return any(SMOLLM in cell.source for cell in notebook.cells if cell.cell_type == "code")


def ran(notebook: NotebookNode, **environment: str) -> NotebookNode:
    """The notebook after a run from top to bottom, in an empty folder, with the default settings.

    Model files are there only for a notebook that asks one.
    """
    notebook = nbformat.from_dict(notebook)
    models = str(model_file().parent) if asks_a_real_model(notebook) else os.devnull
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    kept = environment_without("TOGETHER_")
    with tempfile.TemporaryDirectory() as folder:
        # Sockets with names, as in `Kernel`.
        config = Config({"KernelManager": {"transport": "ipc", "ip": f"{folder}/k"}})
        client = NotebookClient(notebook, timeout=_SECONDS, resources={"metadata": {"path": folder}}, config=config)
        own = {"IPYTHONDIR": folder, FOLDER_VARIABLE: models}
        asyncio.run(client.async_execute(env={**kept, **own, **environment}))
    return notebook


def with_a_key(notebook: NotebookNode) -> NotebookNode:
    """The notebook with its model line changed as the comment says."""
    notebook = nbformat.from_dict(notebook)
    changed = 0
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source, times = MODEL_LINE.subn(r"\g<name>\g<keyed>", cell.source)
            changed += times
    if changed != 1:
        raise ValueError(f"{changed} lines choose the model, where one should")
    return notebook


def text_of(output: NotebookNode) -> str:
    """An output as text; "" where it has none."""
    return str(output.get("text") or output.get("data", {}).get("text/plain", ""))


def cleaned(notebook: NotebookNode) -> NotebookNode:
    """The notebook without widgets, times and whatever else of the run means nothing afterwards."""
    notebook = nbformat.from_dict(notebook)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = nbformat.from_dict({"kernelspec": kernel, "language_info": {"name": "python"}})
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type != "code":
            continue
        cell.outputs = _joined([one for one in cell.outputs if _says_something(one)])
        for output in cell.outputs:
            output.get("data", {}).pop(WIDGET, None)
    return notebook


def _joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """The outputs, with what was printed piece by piece in one."""
    joined: list[NotebookNode] = []
    for output in outputs:
        if joined and "name" in output and output.name == joined[-1].get("name"):
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def _says_something(output: NotebookNode) -> bool:
    """Whether it is more than styles of a widget, the place of one, or which one it was."""
    data = output.get("data")
    if data is None:
        return True
    text = text_of(output).strip()
    return bool(text) and not (WIDGET in data and _REPR_OF_A_WIDGET.match(text))


if __name__ == "__main__":
    for lesson in [NOTEBOOKS / f"{name}.ipynb" for name in sys.argv[1:]] or lessons():
        print(lesson.name, flush=True)
        text = nbformat.writes(cleaned(ran(read(lesson))))
        lesson.write_text(text + "\n", encoding="utf-8")
