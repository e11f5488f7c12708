"""How the package is laid out, what loading it imports, and its public names."""

import subprocess
import sys

import pytest

import together_nb
from tests.pages import ROOT

PACKAGE = ROOT / "together_nb"


def test_the_root_of_the_package_has_at_most_15_entries():
    entries = {path.name for path in PACKAGE.iterdir()} - {"__pycache__", "py.typed", "version.py"}
    assert len(entries) <= 15, sorted(entries)


def test_imports_go_one_way_as_the_contracts_in_pyproject_say():
    # In a process of its own: it configures logging.
    lint = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True, no_logo=True))"
    done = subprocess.run([sys.executable, "-c", lint], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_folders_of_the_tests_are_those_of_the_package():
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()} - {
        "__pycache__",
        "benchmarks",
        "whole",
    }
    assert folders <= {path.name for path in PACKAGE.iterdir()}


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
    ours = {name for name in loaded if name.startswith("together_nb")}
    folders = {"", ".config", ".errors", ".magic", ".values", ".version"}
    modules = {".config.environment", ".config.keys"}
    modules |= {".config.addresses", ".config.settings", ".magic.magics", ".values.hooks"}
    modules |= {".values.local_models", ".values.parameters"}
    assert ours == {f"together_nb{name}" for name in folders | modules}


def test_the_public_names_are_listed_and_no_other_name_is_there():
    assert [name for name in together_nb.__all__ if name not in dir(together_nb)] == []
    assert [name for name in together_nb.__all__ if not hasattr(together_nb, name)] == []
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        together_nb.nothing  # noqa: B018
