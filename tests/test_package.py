"""`together_nb` itself: its public names, and what loading it imports."""

from __future__ import annotations

import subprocess
import sys

import pytest

import together_nb

LOAD = """
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
before = set(sys.modules)
shell.run_line_magic("load_ext", "together_nb")
print(*sorted(set(sys.modules) - before))
"""


def test_loading_the_extension_imports_a_handful_of_modules_and_nothing_heavy(tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", LOAD], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert loaded & {"requests", "ipywidgets", "urllib3", "sseclient"} == set()
    ours = ("", ".config", ".environment", ".errors", ".magic", ".magic.magics", ".params", ".version")
    assert {name for name in loaded if name.startswith("together_nb")} == {f"together_nb{name}" for name in ours}


def test_the_public_names_are_listed_and_no_other_name_is_there():
    assert [name for name in together_nb.__all__ if name not in dir(together_nb)] == []
    assert [name for name in together_nb.__all__ if not hasattr(together_nb, name)] == []
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        together_nb.nothing  # noqa: B018
