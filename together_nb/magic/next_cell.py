"""The code of an answer, offered as a new cell below."""

from __future__ import annotations

from typing import Any

from together_nb.base.fences import fenced_blocks
from together_nb.views import frontend

_MAGIC = {
    "bash": "%%bash",
    "sh": "%%bash",
    "shell": "%%bash",
    "html": "%%html",
    "javascript": "%%javascript",
    "js": "%%javascript",
}
_PYTHON = frozenset({"", "python", "py", "python3", "ipython"})


class NextCell:
    """Offers the code of answers, once each, in one shell.

    Parameters
    ----------
    shell
        The running IPython shell.
    """

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._offered: dict[str, str] = {}  # by cell

    def offer(self, answer: str) -> None:
        """Put the fenced code of `answer`, if any, into a new cell below the running one, without running it.

        The cell holds all blocks in the language of the first.
        """
        shell, code, cell = self._shell, cell_of(answer), frontend.cell(self._shell)
        if not code or not frontend.has_kernel(shell) or not frontend.someone_watches(shell):
            return
        if self._offered.get(cell) != code:
            self._offered[cell] = code
            shell.set_next_input(code, replace=False)


def cell_of(answer: str) -> str:
    """The text of the new cell; "" if there is no fenced code."""
    blocks = fenced_blocks(answer)
    if not blocks:
        return ""
    language = blocks[0][0].lower()
    alike = [code for other, code in blocks if _kind(other.lower()) == _kind(language)]
    code = "\n\n".join(part.strip("\n") for part in alike)
    kind = _kind(language)
    if kind == "python":
        return code
    magic = _MAGIC.get(language)
    return (
        f"{magic}\n{code}"
        if magic is not None
        else f"# {language}:\n" + "\n".join(f"# {line}" for line in code.split("\n"))
    )


def _kind(language: str) -> str:
    return "python" if language in _PYTHON else _MAGIC.get(language, language)
