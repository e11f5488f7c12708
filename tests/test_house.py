"""Which module may import which; what loading the package imports, and its public names."""

import ast
import subprocess
import sys

import pytest

import together_nb
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


PATHS = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
MODULES = [name for name in PATHS if name != "together_nb"]


def run(node, *, at_once=False):
    """What is run below a node: what is there for types alone is not, nor is at once what is in functions."""
    for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    for child in node.orelse if for_types else ast.iter_child_nodes(node):
        if not (at_once and isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))):
            yield child
            yield from run(child, at_once=at_once)


def imports(path, **options):
    """The modules that a module imports."""
    package = ".".join(path.relative_to(ROOT).with_suffix("").parts[:-1])
    for node in run(ast.parse(path.read_text(encoding="utf-8")), **options):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            names = (f"{module}.{alias.name}" for alias in node.names)
            yield from (name if name in PATHS else module for name in names)


IMPORTS = {name: set(imports(path)) for name, path in PATHS.items()}
AT_ONCE = {name: set(imports(path, at_once=True)) for name, path in PATHS.items()}


def ours(names):
    return {name for name in names if name.split(".")[0] == "together_nb"}


def floor(name):
    return FLOOR[name.split(".")[1]]


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_from_its_floor_and_those_below(name):
    above = {other for other in ours(IMPORTS[name]) if other == "together_nb" or floor(other) > floor(name)}
    assert above == set()
    door = name.split(".")[1]
    if door in DOORS:
        others = {other.split(".")[1] for other in ours(IMPORTS[name])} & set(DOORS)
        assert others <= {door}


def test_the_package_itself_imports_nothing_heavy_at_once():
    assert ours(AT_ONCE["together_nb"]) == {"together_nb.environment", "together_nb.version"}


def test_no_modules_import_each_other_in_a_circle():
    graph = {name: ours(AT_ONCE[name]) & set(PATHS) - {name} for name in PATHS}
    while leaves := {name for name, wants in graph.items() if not wants & set(graph)}:
        graph = {name: wants for name, wants in graph.items() if name not in leaves}
    assert graph == {}


@pytest.mark.parametrize("name", [name for name in MODULES if floor(name) < 2])
def test_the_lower_floors_import_the_standard_library_alone(name):
    outside = {other.split(".")[0] for other in IMPORTS[name]} - sys.stdlib_module_names - {"together_nb"}
    assert outside == {"together_nb.sse": {"sseclient"}, "together_nb.schema": {"jsonschema"}}.get(name, set())


@pytest.mark.parametrize("package", OUTSIDE)
def test_each_package_of_the_wire_has_one_importer(package):
    importers = {name for name, names in IMPORTS.items() if package in {other.split(".")[0] for other in names}}
    assert importers == {OUTSIDE[package]}


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
