"""Which module may import which."""

from __future__ import annotations

import ast
import sys

import pytest

from tests.pages import ROOT

PACKAGE = ROOT / "together_nb"
# From the bottom to the top: a module imports from its own floor and from those below.
FLOORS = [
    """version environment fork errors redaction values escape harmless formats schema params documented request chunk
    completion accumulate probabilities shaded catalog code fill items variations pace thinning tape""",
    "chunked sse wiretap dialects continuation nearest",
    """config transport keyless storage conversation recorder replaying recording endpoint spending reader client retry
    refusals advice pump interrupts scope frontend local views""",
    """resolve session background chats continuing comparison tasks batch_run batch_results batch store explain recipes
    options tables completer""",
    "magic panel",
]
FLOOR = {module: number for number, modules in enumerate(FLOORS) for module in modules.split()}
DOORS = FLOORS[-1].split()
OUTSIDE = {"sseclient": "together_nb.sse", "requests": "together_nb.transport", "urllib3": "together_nb.transport"}


class Imports(ast.NodeVisitor):
    """The modules that a module imports at once, and those that it imports within a function."""

    def __init__(self, path):
        self.package = ".".join(path.relative_to(ROOT).with_suffix("").parts[:-1])
        self.at_once, self.later, self._depth = set(), set(), 0
        self.visit(ast.parse(path.read_text(encoding="utf-8")))

    def visit_If(self, node):
        type_checking = ast.unparse(node.test) == "TYPE_CHECKING"
        for child in node.orelse if type_checking else ast.iter_child_nodes(node):
            self.visit(child)

    def visit_FunctionDef(self, node):
        self._depth += 1
        self.generic_visit(node)
        self._depth -= 1

    visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef  # noqa: N815

    def visit_Import(self, node):
        self._add(alias.name for alias in node.names)

    def visit_ImportFrom(self, node):
        base = self.package.rsplit(".", node.level - 1)[0] if node.level else ""
        module = ".".join(filter(None, (base, node.module)))
        names = [f"{module}.{alias.name}" for alias in node.names]
        self._add(name if name in PATHS else module for name in names)

    def _add(self, names):
        (self.later if self._depth else self.at_once).update(names)

    @property
    def all(self):
        return self.at_once | self.later


PATHS = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
IMPORTS = {name: Imports(path) for name, path in PATHS.items()}
MODULES = [name for name in PATHS if name != "together_nb"]


def ours(names):
    return {name for name in names if name.split(".")[0] == "together_nb"}


def floor(name):
    return FLOOR[name.split(".")[1]]


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_from_its_floor_and_those_below(name):
    above = {other for other in ours(IMPORTS[name].all) if other == "together_nb" or floor(other) > floor(name)}
    assert above == set()
    door = name.split(".")[1]
    if door in DOORS:
        others = {other.split(".")[1] for other in ours(IMPORTS[name].all)} & set(DOORS)
        assert others <= {door}


def test_the_package_itself_imports_nothing_heavy_at_once():
    assert ours(IMPORTS["together_nb"].at_once) == {"together_nb.environment", "together_nb.version"}


def test_no_modules_import_each_other_in_a_circle():
    graph = {name: ours(IMPORTS[name].at_once) & set(PATHS) - {name} for name in PATHS}
    while leaves := {name for name, wants in graph.items() if not wants & set(graph)}:
        graph = {name: wants for name, wants in graph.items() if name not in leaves}
    assert graph == {}


@pytest.mark.parametrize("name", [name for name in MODULES if floor(name) < 2])
def test_the_lower_floors_import_the_standard_library_alone(name):
    outside = {other.split(".")[0] for other in IMPORTS[name].all} - sys.stdlib_module_names - {"together_nb"}
    assert outside == {"together_nb.sse": {"sseclient"}, "together_nb.schema": {"jsonschema"}}.get(name, set())


@pytest.mark.parametrize("package", OUTSIDE)
def test_each_package_of_the_wire_has_one_importer(package):
    importers = {name for name, one in IMPORTS.items() if package in {other.split(".")[0] for other in one.all}}
    assert importers == {OUTSIDE[package]}
