"""The README: what it generates is current, and what it shows works."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.readme import README, cells, command, with_tables
from tests.test_magic import ipython
from together_nb.magic.commands import COMMANDS
from together_nb.options import spellings

TEXT = README.read_text(encoding="utf-8")


def test_the_tables_are_those_of_the_declarations():
    assert with_tables(TEXT) == TEXT


def test_every_option_and_every_command_is_told():
    assert [option for option in spellings() if f"`{option}" not in TEXT and option != "--help"] == []
    assert [name for name in COMMANDS if f"%together {name}".strip() not in TEXT] == []


def test_each_way_of_working_with_the_answers_runs_as_it_stands_and_in_three_lines_or_fewer(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    shown = cells()
    assert len(shown) > 10
    assert all(cell.count("\n") < 3 for cell in shown)
    with ipython() as shell:
        for cell in shown:
            if cell.startswith("%together explain"):
                shell.run_cell("1 / 0")
            if cell == "%together record off":  # what is between, a lesson would ask
                shell.run_cell("%%together --max-tokens 3\nOnce").raise_error()
            shell.run_cell(cell).raise_error()
        for name in ("both", "told", "person"):
            assert name in shell.user_ns
    assert {one.name for one in tmp_path.iterdir()} == {"lesson.jsonl", "as-it-went.jsonl"}


@pytest.mark.parametrize("snippet", re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL))
def test_each_python_snippet_runs(snippet):
    done = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_ci_runs_the_very_test_command():
    script = (README.parent / ".ci" / "run").read_text(encoding="utf-8")
    found = re.search(r"test_command=\$\((.*)\)\n", script).group(1)
    done = subprocess.run(["bash", "-c", found], cwd=README.parent, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == command("test")
    assert 'bash -c "$test_command"' in script


def test_the_first_command_opens_the_quickstart():
    assert command("lab").endswith("jupyter lab notebooks/quickstart.ipynb")
    assert (README.parent / "notebooks" / "quickstart.ipynb").is_file()
