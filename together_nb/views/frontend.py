"""What is known of the front end: who watches, what it draws, which cell runs."""

from __future__ import annotations

import os
import sys
from typing import Any


def someone_watches(shell: Any) -> bool:
    """Whether a person sees the cell run: nbclient, nbconvert and papermill send ``allow_stdin`` false."""
    return bool((_parent(shell).get("content") or {}).get("allow_stdin", True))


def has_kernel(shell: Any) -> bool:
    """Whether it is a notebook or a console of Jupyter's, and no terminal."""
    return getattr(shell, "kernel", None) is not None


def draws_from_threads() -> bool:
    """Whether it shows what widgets are told by a thread. Colab does not."""
    return "google.colab" not in sys.modules


def is_voila() -> bool:
    """Whether the notebook is shown as an app, which takes no display updates once it has loaded."""
    return os.environ.get("SERVER_SOFTWARE", "").startswith("voila/")


def code_as_sent(shell: Any) -> str:
    """The running cell as the front end sent it; "" in a terminal."""
    return str((_parent(shell).get("content") or {}).get("code", ""))


def cell(shell: Any) -> str:
    """What tells the running cell from others: its id where the front end sends one, else its code."""
    return cell_id(shell) or code_as_sent(shell)


def cell_id(shell: Any) -> str:
    """The running cell's id, which no other cell has; "" where the front end sends none."""
    return str((_parent(shell).get("metadata") or {}).get("cellId") or "")


def execution(shell: Any) -> str:
    """What tells this run of a cell from its other runs; "" in a terminal."""
    return str((_parent(shell).get("header") or {}).get("msg_id", ""))


def _parent(shell: Any) -> dict[str, Any]:
    """The message that asked for the cell to be run."""
    parent = shell.get_parent() if hasattr(shell, "get_parent") else getattr(shell, "parent_header", None)
    return parent or {}
