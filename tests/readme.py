"""What the README takes from the code: ``python -m tests.readme`` writes its tables anew."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.figures import RESULTS, table
from together_nb.magic.commands import COMMANDS
from together_nb.params import PARAMETERS

README = Path(__file__).parents[1] / "README.md"
_FENCE = re.compile(
    r"""^\#\#[ ](?P<section>[^\n]+)$
    | ^(?:<!--[ ](?P<kind>\w+):[ ](?P<name>[\w.-]+)[ ]-->\n)?```(?P<language>\w*)\n(?P<text>.*?)\n```$""",
    re.DOTALL | re.MULTILINE | re.VERBOSE,
)
_TABLE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def _parameters() -> list[str]:
    """Of sampling parameters, from their declarations."""
    rows = ["| option | value | what it does |", "|:--|:--|:--|"]
    return rows + [f"| `{row.option}` | {row.expected} | {row.help} |" for row in PARAMETERS.values()]


def _commands() -> list[str]:
    """Of the commands of `%together`."""
    rows = ["| command | what it does |", "|:--|:--|"]
    typed = [f"%together {command.typed}".strip().replace("|", "\\|") for command in COMMANDS.values()]
    return rows + [f"| `{name}` | {command.help} |" for name, command in zip(typed, COMMANDS.values(), strict=True)]


def _speed() -> list[str]:
    """Of the figures, as they were measured last for the README."""
    told = json.loads(RESULTS.read_text(encoding="utf-8"))
    versions = ", ".join(f"{name} {number}" for name, number in told["versions"].items())
    about = f"{told['date']}, Python {told['python']}, {told['processors']} processors, {told['machine']}; {versions}."
    return [*table([row["cells"] for row in shown(told["rows"])]), "", about]


def shown(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The figures, but for details that are as they are to be."""
    return [row for row in rows if not row["detail"] or any(check["verdict"] != "met" for check in row["checks"])]


_TABLES = {"parameters": _parameters, "commands": _commands, "speed": _speed}


def with_tables(text: str) -> str:
    """The README's text with the tables of today."""
    return _TABLE.sub(lambda match: match[1] + "\n".join(_TABLES[match[2]]()) + "\n" + match[3], text)


@dataclass(frozen=True)
class Fence:
    """A fenced block of the README.

    Parameters
    ----------
    section
        The heading of the second level that it stands under.
    language
        "" for cells of a notebook, ``python`` or ``sh``.
    kind, name
        As a comment above it says: a ``command`` to type or a ``file`` to write, and which; "" without one.
    text
        What stands in it.
    """

    section: str
    language: str
    kind: str
    name: str
    text: str

    @property
    def cells(self) -> list[str]:
        """The cells in it. Lines of commands are cells of their own, as far as it matters."""
        return self.text.split("\n") if self.text.startswith("%together") else [self.text]


def fences(text: str | None = None) -> list[Fence]:
    """All that is fenced in the README, or in a text, in order."""
    text = README.read_text(encoding="utf-8") if text is None else text
    found, section = [], ""
    for match in _FENCE.finditer(text):
        if match["section"]:
            section = match["section"]
        else:
            found.append(Fence(section, match["language"], match["kind"] or "", match["name"] or "", match["text"]))
    return found


def command(name: str) -> str:
    """The shell command that the README gives under this name."""
    return _named("command", name)


def file(name: str) -> str:
    """What the README wants written into this file."""
    return _named("file", name)


def _named(kind: str, name: str) -> str:
    for fence in fences():
        if (fence.kind, fence.name) == (kind, name):
            return fence.text
    raise LookupError(f"the README has no {kind} called {name}")


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")
