"""The README: what it generates is current, and what it shows works."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.readme import README, command, with_table

TEXT = README.read_text(encoding="utf-8")


def test_the_table_of_parameters_is_that_of_the_declarations():
    assert with_table(TEXT) == TEXT


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
