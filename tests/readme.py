"""What the README takes from the code: ``python tests/readme.py`` writes the table of parameters anew."""

from __future__ import annotations

import re
from pathlib import Path

from together_nb.params import PARAMETERS

README = Path(__file__).parents[1] / "README.md"
_TABLE = re.compile(r"(<!-- table: parameters -->\n).*?(<!-- end of table -->)", re.DOTALL)


def table() -> str:
    """The table of sampling parameters, from their declarations."""
    rows = ["| option | value | what it does |", "|:--|:--|:--|"]
    rows += [f"| `{row.option}` | {row.expected} | {row.help} |" for row in PARAMETERS.values()]
    return "\n".join(rows) + "\n"


def with_table(text: str) -> str:
    """The README's text with the table of today."""
    return _TABLE.sub(lambda match: match.group(1) + table() + match.group(2), text)


def command(name: str) -> str:
    """The shell command that the README gives under this name."""
    found = re.search(rf"<!-- command: {name} -->\n```sh\n(.*?)\n```", README.read_text(encoding="utf-8"), re.DOTALL)
    if found is None:
        raise LookupError(f"the README has no command called {name}")
    return found.group(1)


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
