"""What the README takes from the code: ``python -m tests.readme`` writes its tables anew."""

from __future__ import annotations

import re
from pathlib import Path

from together_nb.magic.commands import COMMANDS
from together_nb.params import PARAMETERS

README = Path(__file__).parents[1] / "README.md"
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


_TABLES = {"parameters": _parameters, "commands": _commands}


def with_tables(text: str) -> str:
    """The README's text with the tables of today."""
    return _TABLE.sub(lambda match: match[1] + "\n".join(_TABLES[match[2]]()) + "\n" + match[3], text)


def cells() -> list[str]:
    """The cells that the README shows under "Work with the answers", in order."""
    part = README.read_text(encoding="utf-8").partition("## Work with the answers\n")[2].partition("\n## ")[0]
    found = re.findall(r"^```\n(.*?)\n```$", part, re.DOTALL | re.MULTILINE)
    # Lines of commands are cells of their own, as far as it matters.
    return [cell for block in found for cell in (block.split("\n") if block.startswith("%together") else [block])]


def command(name: str) -> str:
    """The shell command that the README gives under this name."""
    found = re.search(rf"<!-- command: {name} -->\n```sh\n(.*?)\n```", README.read_text(encoding="utf-8"), re.DOTALL)
    if found is None:
        raise LookupError(f"the README has no command called {name}")
    return found.group(1)


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")
