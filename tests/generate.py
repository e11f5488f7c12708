"""What comes from declarations, written where it is read: ``python -m tests.generate``.

- the typed keywords of the sampling parameters, `together_nb/values/keywords.py`;
- in docstrings: the sampling parameters, what one function's parameters share with another's, properties, settings;
- the public names for type checkers, from `_HOME` in `together_nb/__init__.py`;
- the tables of the documentation, of which `tests.pages` knows.
"""

from __future__ import annotations

import ast
import inspect
import math
import re
import textwrap
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from traitlets import TraitType

import together_nb
from tests.pages import PAGES, ROOT, with_tables
from together_nb.config import settings
from together_nb.values.parameters import PARAMETERS, Parameter

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = ROOT / "together_nb"
KEYWORDS = PACKAGE / "values" / "keywords.py"
FRONT_DOOR = PACKAGE / "__init__.py"
SETTINGS = PACKAGE / "config" / "settings.py"
# Parameters that are described as those of `stream` are.
AS_STREAM = {
    "complete": "prompt model api system messages base_url api_key default_headers timeout schema extra_body",
    "compare": "prompt messages base_url api_key default_headers timeout extra_body",
    "map_prompts": "model api system base_url api_key default_headers timeout schema extra_body",
}
INPUTS = {
    int: ("int | None", "int | Sequence[int | None] | None"),
    float: ("float | None", "float | Sequence[float | None] | None"),
    bool: ("bool | None", "bool | Sequence[bool | None] | None"),
    str: ("str | None", "str | Sequence[str | None] | None"),
    list: ("str | Sequence[str] | None", "str | Sequence[str] | Sequence[Sequence[str] | None] | None"),
    dict: ("Mapping[str, float] | None", "Mapping[str, float] | None"),
}
ABSTRACT = frozenset({"Callable", "Iterable", "Iterator", "Mapping", "Sequence"})
ENTRY = re.compile(r"^(?P<name>[\w*]+)(?: : .+)?\n(?:(?:    .*)?\n)*?(?=\S|\Z)", re.MULTILINE)


# The typed keywords


def keywords() -> str:
    """The text of the module of typed keywords."""
    single, lists = (
        "".join(f"    {one.name}: {INPUTS[one.type][which]}\n" for one in PARAMETERS.values()) for which in (0, 1)
    )
    return f'''"""The keywords of the public functions that are sampling parameters, for type checkers.

``python -m tests.generate`` writes this module from `SamplingParams`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Sampling(TypedDict, total=False):
    """Sampling parameters; None unsets one."""

{single}

class SamplingLists(TypedDict, total=False):
    """Sampling parameters, each with one value or a list of values to compare."""

{lists}

class PanelDefaults(Sampling, total=False):
    """What a panel's controls are set to at first."""

    model: str | None
'''


# Docstrings


def entry(parameter: Parameter) -> str:
    """A sampling parameter as a docstring lists it: type, what it does, what it has to be."""
    kinds: dict[type, str] = {list: "list of str", dict: "dict of str to float"}
    kind = kinds.get(parameter.type, parameter.type.__name__)
    only = f" For the {' and the '.join(parameter.dialects)} API alone." if parameter.dialects else ""
    expected = f"{parameter.expected[0].upper()}{parameter.expected[1:]}"
    told = textwrap.fill(f"{parameter.help} {expected}.{only}", 104, initial_indent="    ", subsequent_indent="    ")
    return f"{parameter.name} : {kind} or None\n{told}\n"


SAMPLING = "".join(map(entry, PARAMETERS.values()))


def traits() -> Iterator[str]:
    """Of each setting what a docstring says of it."""
    kinds = {"Unicode": "str", "_NumberTrait": "float", "_WholeTrait": "int"}
    for name, trait in vars(settings.Settings).items():
        if isinstance(trait, TraitType):
            kind = kinds[type(trait).__name__] + " or None" * trait.allow_none
            value, bound = trait.default_value, getattr(trait, "max", None)
            most = "" if bound in (None, math.inf) else f", {bound} at most"
            first = "unset" if value is None else value
            yield f"{name} : {kind}\n    {trait.help}{most}. At first {first}.\n"


def properties(cls: Any) -> Iterator[str]:
    """Of each public property of a class what a docstring says of it."""
    for name, one in vars(cls).items():
        if isinstance(one, property) and not name.startswith("_"):
            told = textwrap.indent(inspect.cleandoc(one.__doc__ or ""), "    ")
            yield f"{name} : {in_words(one.fget.__annotations__['return'])}\n{told}\n"


def in_words(annotation: str) -> str:
    """A type as docstrings have it: ``list[Token] | None`` is "list of Token or None"."""
    return _words(ast.parse(annotation, mode="eval").body)


def _words(node: ast.expr) -> str:
    if isinstance(node, ast.BinOp):
        return f"{_words(node.left)} or {_words(node.right)}"
    if isinstance(node, ast.Subscript):
        within = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        return _container(_words(node.value), [_words(one) for one in within])
    name = ast.unparse(node).rpartition(".")[2] or "..."
    return "object" if name == "Any" else name.lower() if name in ABSTRACT else name


def _container(kind: str, parts: list[str]) -> str:
    if kind == "tuple":
        return f"tuple of {parts[0]}" if parts[-1] == "..." else f"tuple of ({', '.join(parts)})"
    if kind in ("dict", "mapping"):
        return kind if parts[-1] == "object" else f"{kind} of {' to '.join(parts)}"
    return kind if parts == ["object"] else f"{kind} of {', '.join(parts)}"


def section(doc: str, title: str) -> tuple[int, int]:
    """Where in a docstring the entries of a section stand."""
    found = re.search(rf"^{title}\n-+\n", doc, re.MULTILINE)
    if found is None:
        raise ValueError(f"no section {title}")
    end = re.compile(r"^\w[\w ]*\n-{3,}$", re.MULTILINE).search(doc, found.end())
    return found.end(), len(doc) if end is None else end.start()


def with_entries(doc: str, title: str, new: dict[str, str], *, last: bool = False) -> str:
    """`doc` with entries of a section replaced; those that are not there yet come last, with `last` all of them."""
    start, end = section(doc, title)
    old = {found["name"]: found[0].rstrip("\n") + "\n" for found in ENTRY.finditer(doc[start:end].rstrip("\n") + "\n")}
    kept = {name: text for name, text in old.items() if not (last and name in new)}
    entries = kept | new if last else {name: new.get(name, text) for name, text in kept.items()} | new
    text = doc[:start] + "".join(entries.values())
    return f"{text}\n{doc[end:]}" if end < len(doc) else text.rstrip("\n")


def with_sampling(doc: str, name: str) -> str:
    """`doc` with the list of sampling parameters below the entry of ``**name``."""
    (found,) = [one for one in ENTRY.finditer(doc) if one["name"] == f"**{name}"]
    own = re.split(r"\n\n(?=    \w+ : )", found[0].rstrip("\n"))[0]
    listed = entry_of_model + SAMPLING if name == "defaults" else SAMPLING
    rest = found[0][len(found[0].rstrip("\n")) :]
    return doc.replace(found[0], f"{own}\n\n{textwrap.indent(listed, '    ').rstrip()}{rest}")


entry_of_model = "model : str or None\n    Model id.\n"


def as_it_should_be(thing: Any) -> str:
    """The docstring of a public function or class with what comes from declarations."""
    doc = inspect.cleandoc(thing.__doc__ or "")
    if thing is settings.Settings:
        declared = [*traits(), *map(entry, PARAMETERS.values())]
        mine = {text.split(" : ")[0]: text for text in declared}
        others = dict(_entries(doc, "Attributes"))
        return with_entries(
            doc, "Attributes", mine | {name: others[name] for name in others if name not in mine}, last=True
        )
    if thing is together_nb.SamplingParams:
        start, end = section(doc, "Parameters")
        sources = " and ".join(dict.fromkeys(one.source for one in PARAMETERS.values()))
        doc = f"{doc[:start]}{SAMPLING}\n{doc[end:]}"
        return re.sub(r"(?<=^Names and types are those of ).*(?=\.$)", lambda _: sources, doc, flags=re.MULTILINE)
    name = next((one for one in ("sampling", "defaults") if f"\n**{one}\n" in doc), None)
    if thing.__name__ in AS_STREAM:
        stream = dict(_entries(inspect.cleandoc(together_nb.stream.__doc__ or ""), "Parameters"))
        mine = dict(_entries(doc, "Parameters"))
        shared = {
            one: f"{mine[one].partition(chr(10))[0]}\n{stream[one].partition(chr(10))[2]}"
            for one in AS_STREAM[thing.__name__].split()
        }
        doc = with_entries(doc, "Parameters", shared)
    if name is not None:
        doc = with_sampling(doc, name)
    if inspect.isclass(thing) and (told := {text.split(" : ")[0]: text for text in properties(thing)}):
        doc = with_entries(doc, "Attributes", told, last=True)
    return doc


def _entries(doc: str, title: str) -> Iterator[tuple[str, str]]:
    start, end = section(doc, title)
    for found in ENTRY.finditer(doc[start:end].rstrip("\n") + "\n"):
        yield found["name"], found[0].rstrip("\n") + "\n"


def things() -> list[Any]:
    """The public functions and classes with something declared in their docstring."""
    public = [getattr(together_nb, name) for name in together_nb.__all__]
    classes = [import_module("together_nb.run.ledger").Spent, import_module("together_nb.run.ledger").Ledger]
    classes += [import_module("together_nb.local.server").LocalServer, settings.Settings]
    both = [*public, *classes]
    return [one for one in both if _is_described(one)]


def _is_described(thing: Any) -> bool:
    doc = inspect.getdoc(thing) or ""
    if inspect.isclass(thing):
        return thing is not together_nb.TogetherError and (
            thing is together_nb.SamplingParams or "\nAttributes\n---" in doc or "\n**defaults\n" in doc
        )
    return inspect.isroutine(thing) and "\n**sampling\n" in doc


def with_docstrings(path: Path, text: str) -> str:
    """The text of a module with the docstrings of its public things."""
    for thing in things():
        if Path(inspect.getsourcefile(thing) or "") != path:
            continue
        doc = as_it_should_be(thing)
        body = ast.parse(text).body
        if inspect.ismethod(thing):
            body = next(one for one in body if getattr(one, "name", "") == type(thing.__self__).__name__).body
        node = next(one for one in body if getattr(one, "name", "") == thing.__name__).body[0]
        lines = text.split("\n")
        indent = " " * node.col_offset
        indented = textwrap.indent(doc, indent).lstrip()
        quoted = f'{indent}{"r" * (chr(92) in doc)}"""{indented}\n{indent}"""'
        lines[node.lineno - 1 : node.end_lineno] = quoted.split("\n")
        text = "\n".join(lines)
    return text


def with_parameters(text: str) -> str:
    """The module of the settings with the types of those that are sampling parameters."""
    types = "".join(f"        {one.name}: {INPUTS[one.type][0]}\n" for one in PARAMETERS.values())
    head = "    if TYPE_CHECKING:  # written by `python -m tests.generate`: each is a trait of its own\n"
    return re.sub(
        r"^    if TYPE_CHECKING:  # written by .*\n(?:        .*\n)+", lambda _: head + types, text, flags=re.MULTILINE
    )


# The front door


def with_public_names(text: str) -> str:
    """The package's own module with what type checkers read, from `_HOME`."""
    homes: dict[str, list[str]] = {}
    for name, home in together_nb._HOME.items():
        homes.setdefault(home, []).append(name)
    imports = [f"    from together_nb.{home} import {', '.join(sorted(homes[home]))}" for home in sorted(homes)]
    imports.append("    from together_nb.session import default as _default")
    session = "".join(f"    {name} = _default.{name}\n" for name in together_nb._OF_THE_SESSION)
    own = ("__version__", "load_ipython_extension", "unload_ipython_extension")
    names = sorted([*together_nb._HOME, *together_nb._OF_THE_SESSION, *own])
    listed = "\n".join(f'    "{name}",' for name in names)
    head = "if TYPE_CHECKING:\n    from IPython.core.interactiveshell import InteractiveShell\n\n"
    text = re.sub(
        r"^if TYPE_CHECKING:\n(?:    .*\n|\n(?=    ))+",
        lambda _: head + "\n".join(sorted(imports)) + "\n\n" + session,
        text,
        flags=re.MULTILINE,
    )
    return re.sub(r"^__all__ = \[\n(?:    .*\n)+\]", lambda _: f"__all__ = [\n{listed}\n]", text, flags=re.MULTILINE)


def generated() -> dict[Path, str]:
    """Each file that is generated, or in part, as it should be."""
    files = {path: with_tables(path.read_text(encoding="utf-8")) for path in PAGES}
    files |= {
        path: with_docstrings(path, path.read_text(encoding="utf-8"))
        for path in {Path(inspect.getsourcefile(one) or "") for one in things()}
    }
    files[FRONT_DOOR] = with_public_names(FRONT_DOOR.read_text(encoding="utf-8"))
    files[KEYWORDS] = keywords()
    files[SETTINGS] = with_parameters(files[SETTINGS])
    return files


def stale() -> list[Path]:
    """The files that are not as they should be."""
    return [path for path, text in generated().items() if not path.exists() or path.read_text(encoding="utf-8") != text]


if __name__ == "__main__":
    for path, text in generated().items():
        path.write_text(text, encoding="utf-8")
