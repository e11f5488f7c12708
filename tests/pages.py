"""The pages of the documentation, whose tables `tests.generate` writes.

A table stands between ``<!-- table: NAME -->`` and ``<!-- end of table -->``. A command or a file that a page shows is
named by a comment above its fence, ``<!-- command: NAME -->`` or ``<!-- file: NAME -->``.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import together_nb
from tests import faults
from tests.benchmarks.figures import RESULTS, table
from together_nb.magic.commands import COMMANDS
from together_nb.render.formats import FORMATS
from together_nb.run.options import parser
from together_nb.values.families import FAMILIES
from together_nb.values.parameters import PARAMETERS
from together_nb.wire.dialects import DIALECTS

if TYPE_CHECKING:
    from argparse import Action
    from collections.abc import Iterable, Iterator

    from together_nb.values.families import Family

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
GUIDE = ROOT / "notebooks" / "guide"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(GUIDE.glob("*.md"))]
PAGES += [ROOT / "tests" / "FAULTS.md", ROOT / "tests" / "benchmarks" / "README.md"]

_FENCE = re.compile(
    r"^(?:<!-- (?P<kind>\w+): (?P<name>[\w.-]+) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)\n```$",
    re.DOTALL | re.MULTILINE,
)
_TABLE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def _rows(*rows: tuple[str, ...]) -> list[str]:
    """Rows of a Markdown table, the first of them its head."""
    head, *rest = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return [head, "|" + ":--|" * len(rows[0]), *rest]


def _options() -> list[str]:
    """The options of a cell that are no sampling parameters."""

    def spelled(action: Action) -> str:
        names = ", ".join(f"`{name}`" for name in action.option_strings)
        if action.metavar is None:
            return names
        return f"{names} `[{action.metavar}]`" if action.nargs == "?" else f"{names} `{action.metavar}`"

    actions = [action for action in parser()._actions if action.dest not in PARAMETERS]
    below = {"api": "which API to use; the names are below", "show": "how to show the answer; the names are below"}
    rows = [(spelled(action), _sentence(below.get(action.dest, action.help))) for action in actions]
    return _rows(("option", "what it does"), *rows)


def _dialects() -> list[str]:
    rows = [(f"`{one.name}`", f"`{one.path}`", _sentence(one.help)) for one in DIALECTS.values()]
    return _rows(("`--api`", "path", "what it asks for"), ("`auto`", "", "Chosen by the model's type."), *rows)


def _formats() -> list[str]:
    rows = [(f"`{one.name}`", _sentence(one.help)) for one in FORMATS.values()]
    return _rows(("`--show`", "how it shows an answer"), ("`auto`", "Markdown for a chat, else text."), *rows)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].removesuffix('.')}."


def _parameters() -> list[str]:
    rows = [(f"`{one.option}`", one.expected, one.help) for one in PARAMETERS.values()]
    return _rows(("option", "value", "what it does"), *rows)


def _commands() -> list[str]:
    rows = [(f"`{f'%together {one.typed}'.strip()}`", _sentence(one.help)) for one in COMMANDS.values()]
    return _rows(("command", "what it does"), *rows)


def _settings() -> list[str]:
    """The settings that are no sampling parameters, with their defaults."""
    rows = [
        (f"`{name}`", "unset" if trait.default() is None else f"`{trait.default()!r}`", _sentence(trait.help))
        for name, trait in together_nb.settings.traits().items()
        if name not in PARAMETERS
    ]
    return _rows(("setting", "default", "what it is"), *rows)


def _speed() -> list[str]:
    """The figures that were kept."""
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    versions = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    about = "{date}, Python {python}, {processors} processors, {machine}".format(**results)
    later = {row["name"]: row["date"] for row in results["rows"] if row.get("date", results["date"]) != results["date"]}
    about += "".join(f"; {name} on {date}" for name, date in later.items())
    return [*table([row["cells"] for row in shown(results["rows"])]), "", f"{about}; {versions}."]


def shown(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The figures without the details that meet their targets."""
    return [row for row in rows if not row["detail"] or any(check["verdict"] != "met" for check in row["checks"])]


def _families() -> list[str]:
    """How each family is recognised, and what it does with a parameter that not all have."""
    rows = [
        (
            f"`{one.name}`{f', `{model}`' if model else ''}",
            "the model's name" if model else _recognised(one),
            "begins a new turn" if one.continues is None else "yes",
            ", ".join(f"`{name}` as `{theirs}`" for name, theirs in one.names.items()),
            _named(one.ignores),
            _named(one.refuses),
        )
        for family in FAMILIES.values()
        for model, one in (("", family), *family.models.items())
    ]
    return _rows(("family", "recognised by", "continues an answer in a chat", "sent as", "ignores", "refuses"), *rows)


def _recognised(family: Family) -> str:
    words = [f"its address, `{host}`" for host in sorted(family.hosts)]
    words += [f"its header `{': '.join(filter(None, header))}`" for header in family.headers]
    words += [f"`owned_by: {owner}` in its list of models" for owner in sorted(family.owners)]
    words += ["what it refuses"] if family.refusals else []
    return "; ".join(words) or "nothing: it is the family of all others"


def _named(names: Iterable[str]) -> str:
    parts = [(name.rpartition(".")[2], name.rpartition(".")[0]) for name in sorted(names)]
    return ", ".join(f"`{name}`{f' ({api})' if api else ''}" for name, api in sorted(parts))


_TABLES = {
    "options": _options,
    "dialects": _dialects,
    "formats": _formats,
    "parameters": _parameters,
    "commands": _commands,
    "settings": _settings,
    "families": _families,
    "speed": _speed,
    "faults": lambda: [faults.table().rstrip("\n")],
}


def with_tables(text: str) -> str:
    """A page's text with its tables as they are to be today."""
    return _TABLE.sub(lambda match: match[1] + "\n".join(_TABLES[match[2]]()) + "\n" + match[3], text)


@dataclass(frozen=True)
class Fence:
    """A fenced block of a page."""

    page: Path
    kind: str  # from the comment above it, a ``command`` or a ``file``; "" without one
    name: str
    language: str  # "" for cells of a notebook, ``python`` or ``sh``
    text: str

    @property
    def cells(self) -> list[str]:
        """The cells in it. A line of a command is a cell of its own."""
        return self.text.split("\n") if self.text.startswith("%together") else [self.text]


def fences(*pages: Path) -> Iterator[Fence]:
    """Everything that is fenced in these pages, in order."""
    for page in pages:
        for match in _FENCE.finditer(page.read_text(encoding="utf-8")):
            yield Fence(page, match["kind"] or "", match["name"] or "", match["language"], match["text"])


def named(kind: str, name: str) -> str:
    """The text of the command or the file that a page shows under this name."""
    (fence,) = [one for one in fences(README, *GUIDE.glob("*.md")) if (one.kind, one.name) == (kind, name)]
    return fence.text
