"""`together_nb` itself: its public names, and what loading it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import together_nb

LOAD = """
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
{prepare}
before = set(sys.modules)
shell.run_line_magic("load_ext", "together_nb")
print(*sorted(set(sys.modules) - before))
"""


def loaded(prepare=""):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOAD.format(prepare=prepare)], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("heavy", ["requests", "ipywidgets", "urllib3", "sseclient", "together_nb.local"])
def test_loading_the_extension_imports_nothing_heavy(heavy):
    assert heavy not in loaded()


def test_loading_the_extension_imports_a_handful_of_modules_of_ours():
    ours = {name for name in loaded() if name.startswith("together_nb")}
    assert ours == {
        f"together_nb{name}"
        for name in ("", ".config", ".environment", ".errors", ".magic", ".magic.magics", ".params", ".version")
    }


@pytest.mark.parametrize("name", together_nb.__all__)
def test_each_public_name_is_there_and_says_what_it_is(name):
    value = getattr(together_nb, name)
    assert name in dir(together_nb)
    if callable(value):
        assert value.__doc__


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        together_nb.nothing  # noqa: B018
