"""The house: floors, and what lies at the top of the folder."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import together_nb

PACKAGE = Path(together_nb.__file__).parent
ROOT = PACKAGE.parent
FLOORS = [
    [
        "version",
        "environment",
        "fork",
        "errors",
        "redaction",
        "values",
        "escape",
        "harmless",
        "formats",
        "schema",
        "params",
        "documented",
        "request",
        "chunk",
        "completion",
        "accumulate",
        "probabilities",
        "shaded",
        "catalog",
        "code",
        "fill",
        "items",
        "variations",
        "pace",
        "thinning",
        "tape",
    ],
    ["chunked", "sse", "wiretap", "dialects", "continuation", "nearest"],
    [
        "config",
        "transport",
        "keyless",
        "storage",
        "conversation",
        "recorder",
        "replaying",
        "recording",
        "endpoint",
        "spending",
        "reader",
        "client",
        "retry",
        "refusals",
        "advice",
        "pump",
        "interrupts",
        "scope",
        "frontend",
        "local",
        "views",
    ],
    [
        "resolve",
        "session",
        "background",
        "chats",
        "continuing",
        "comparison",
        "tasks",
        "batch_run",
        "batch_results",
        "batch",
        "store",
        "explain",
        "recipes",
        "options",
        "tables",
        "completer",
    ],
    ["magic", "panel"],
]
FLOOR = {module: number for number, floor in enumerate(FLOORS) for module in floor}


class _Imports(ast.NodeVisitor):
    """Absolute names of the modules that a source imports, and on which lines of it within a function."""

    def __init__(self, package):
        self.package = package
        self.at_once = set()
        self.later = set()
        self._within_function = 0

    def visit_If(self, node):
        test = ast.unparse(node.test)
        for child in node.orelse if test in ("TYPE_CHECKING", "typing.TYPE_CHECKING") else ast.iter_child_nodes(node):
            self.visit(child)

    def visit_FunctionDef(self, node):
        self._within_function += 1
        self.generic_visit(node)
        self._within_function -= 1

    visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef  # noqa: N815

    def visit_Import(self, node):
        self._note(alias.name for alias in node.names)

    def visit_ImportFrom(self, node):
        parts = self.package.split(".")
        above = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
        module = ".".join(filter(None, (above, node.module)))
        names = (f"{module}.{alias.name}" for alias in node.names)
        self._note([name if name in MODULES else module for name in names])

    def _note(self, names):
        (self.later if self._within_function else self.at_once).update(names)


def name_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(name, source=None):
    path = MODULES[name]
    visitor = _Imports(name if path.name == "__init__.py" else name.rpartition(".")[0])
    visitor.visit(ast.parse(path.read_text(encoding="utf-8") if source is None else source))
    return visitor


def floor(name):
    return FLOOR.get(name.split(".")[1], 0)  # a module that the picture lacks fails a test of its own


def ours(names):
    return {name for name in names if name.split(".")[0] == "together_nb"}


INNER = [name for name in MODULES if name != "together_nb"]


def test_every_module_has_its_floor():
    assert {name.split(".")[1] for name in INNER} == set(FLOOR)


@pytest.mark.parametrize("name", INNER)
def test_a_module_imports_only_from_its_floor_and_those_below(name):
    found = imports(name)
    above = {
        other for other in ours(found.at_once | found.later) if other == "together_nb" or floor(other) > floor(name)
    }
    assert above == set()


@pytest.mark.parametrize("name", [name for name in INNER if floor(name) == len(FLOORS) - 1])
def test_doors_do_not_import_each_other(name):
    found = imports(name)
    doors = {other for other in ours(found.at_once | found.later) if floor(other) == len(FLOORS) - 1}
    assert {other for other in doors if other.split(".")[1] != name.split(".")[1]} == set()


def test_the_package_itself_imports_nothing_heavy_at_once():
    assert ours(imports("together_nb").at_once) == {"together_nb.environment", "together_nb.version"}


def test_no_modules_import_each_other_in_a_circle():
    graph = {name: ours(imports(name).at_once) & set(MODULES) - {name} for name in MODULES}
    while leaves := {name for name, wants in graph.items() if not wants & set(graph)}:
        graph = {name: wants for name, wants in graph.items() if name not in leaves}
    assert graph == {}


@pytest.mark.parametrize("name", [name for name in INNER if floor(name) < 2])
def test_the_lower_floors_import_the_standard_library_alone(name):
    found = imports(name)
    outside = {other.split(".")[0] for other in found.at_once | found.later} - sys.stdlib_module_names - {"together_nb"}
    assert outside == {"together_nb.sse": {"sseclient"}, "together_nb.schema": {"jsonschema"}}.get(name, set())


@pytest.mark.parametrize(
    ("package", "importer"),
    [("sseclient", "together_nb.sse"), ("requests", "together_nb.transport"), ("urllib3", "together_nb.transport")],
)
def test_each_package_of_the_wire_has_one_importer(package, importer):
    found = {name: imports(name) for name in MODULES}
    importers = {
        name for name, one in found.items() if package in {other.split(".")[0] for other in one.at_once | one.later}
    }
    assert importers == {importer}


def test_these_tests_see_every_kind_of_import():
    source = """
from __future__ import annotations
from typing import TYPE_CHECKING
import together_nb.errors as e, json
from . import params
from .local import ngram
from together_nb import session
if TYPE_CHECKING:
    from together_nb import magic
else:
    import os.path
try:
    import requests
except ImportError:
    pass
class C:
    from together_nb.catalog import Model
    def f(self):
        from together_nb import options
        import sseclient
"""
    found = imports("together_nb.fill", source)
    assert found.at_once == {
        "__future__", "typing", "json", "os.path", "requests", "together_nb.errors", "together_nb.params", "together_nb.local.ngram",
        "together_nb.session", "together_nb.catalog",
    }  # fmt: skip
    assert found.later == {"together_nb.options", "sseclient"}


# The folder

ALLOWED = {
    ".ci", ".gitignore", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md", "SECURITY.md", "binder", "notebooks", "pyproject.toml",
    "tests", "together_nb",
}  # fmt: skip


def test_the_top_of_the_folder_holds_only_what_the_design_allows():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    top = {path.split("/")[0] for path in listed.split("\0") if path}
    assert top - ALLOWED == set()
    assert {"pyproject.toml", "README.md", "LICENSE", "together_nb", "tests"} <= top
