"""Docstrings that are filled in from the declarations, so that `help` of one thing alone is enough.

What stands in a docstring becomes, before anybody reads it:

- ``{sampling}``: the sampling parameters with types, meanings and bounds, from `SamplingParams`;
- ``{properties}``: the properties of the class with their types;
- a parameter that is "As for `other`.": what stands of it there, with its type where none is given here.

`python -OO` leaves docstrings out, and then nothing is filled in.
"""

from __future__ import annotations

import ast
import re
from inspect import cleandoc
from typing import TYPE_CHECKING, Any, TypeVar

from together_nb.values.parameters import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_T = TypeVar("_T")
_ABSTRACT = frozenset({"Callable", "Iterable", "Iterator", "Mapping", "Sequence"})
_PLACEHOLDER = re.compile(r"^( *)\{(sampling|properties)\}$", re.MULTILINE)
_BORROWED = re.compile(r"^(?P<names>[\w*, ]+?)(?: : (?P<type>.+))?\n    As for `(?P<other>\w+)`\.$", re.MULTILINE)
_ENTRY = re.compile(r"^(?P<name>[\w*]+)(?: : (?P<type>.+))?\n(?P<told>(?:    .*\n|\n(?=    ))+)", re.MULTILINE)


def documented(*others: Any) -> Callable[[_T], _T]:
    """Fill in the docstring of what is decorated.

    Parameters
    ----------
    *others
        Functions, filled in already, from which it takes what is as for them.
    """

    def fill(thing: _T) -> _T:
        if thing.__doc__:
            by_name = {other.__name__: _entries(other.__doc__) for other in others}
            text = _BORROWED.sub(lambda found: "\n".join(_borrowed(found, by_name)), cleandoc(thing.__doc__))
            thing.__doc__ = _PLACEHOLDER.sub(lambda found: found[1] + _declared(found[2], thing, found[1]), text)
        return thing

    return fill


def _declared(what: str, thing: Any, indent: str) -> str:
    if what == "sampling":
        return listed(indent)
    return _indented("\n".join(_properties(thing)), indent)


def _indented(text: str, indent: str) -> str:
    """`text` with each line but the first, and but for blank ones, indented."""
    return re.sub(r"\n(?!\n)", f"\n{indent}", text)


def _properties(cls: type) -> Iterator[str]:
    """The entries of a class's public properties, in the order in which they stand."""
    for name, one in vars(cls).items():
        if isinstance(one, property) and not name.startswith("_"):
            told = _indented(cleandoc(one.__doc__ or ""), "    ")
            yield f"{name} : {in_words(one.fget.__annotations__['return'])}\n    {told}"


def _entries(doc: str) -> dict[str, tuple[str, str]]:
    """Type and description, indented, of each parameter that a docstring lists alone."""
    return {
        found["name"]: (found["type"] or "", found["told"].rstrip()) for found in _ENTRY.finditer(f"{cleandoc(doc)}\n")
    }


def _borrowed(found: re.Match[str], by_name: dict[str, dict[str, tuple[str, str]]]) -> Iterator[str]:
    for name in found["names"].split(", "):
        kind, told = by_name[found["other"]][name]
        kind = found["type"] or kind
        yield f"{name} : {kind}\n{told}" if kind else f"{name}\n{told}"


def in_words(annotation: str) -> str:
    """A type as docstrings have it: ``list[Token] | None`` is "list of Token or None"."""
    return _words(ast.parse(annotation, mode="eval").body)


def _words(node: ast.expr) -> str:
    if isinstance(node, ast.BinOp):
        return f"{_words(node.left)} or {_words(node.right)}"
    if isinstance(node, ast.Subscript):
        return _held(_words(node.value), node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice])
    name = ast.unparse(node).rpartition(".")[2] or "..."
    return "object" if name == "Any" else name.lower() if name in _ABSTRACT else name


def _held(kind: str, within: list[ast.expr]) -> str:
    parts = [_words(node) for node in within]
    if kind == "tuple":
        return f"tuple of {parts[0]}" if parts[-1] == "..." else f"tuple of ({', '.join(parts)})"
    if kind in ("dict", "mapping"):
        return kind if parts[-1] == "object" else f"{kind} of {' to '.join(parts)}"
    return kind if parts == ["object"] else f"{kind} of {', '.join(parts)}"
