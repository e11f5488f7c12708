"""Facts about the front end: who watches, what it draws, which cell runs."""

from __future__ import annotations

import os
import sys
from typing import Any


def running_shell() -> Any:
    """Return the running IPython shell, or None; does not import IPython."""
    module: Any = sys.modules.get("IPython")
    return None if module is None else module.get_ipython()


def someone_watches(shell: Any) -> bool:
    """Whether a person watches the cell: nbclient, nbconvert and papermill send ``allow_stdin`` false."""
    return bool((_parent(shell).get("content") or {}).get("allow_stdin", True))


def has_kernel(shell: Any) -> bool:
    """Whether the shell runs in a Jupyter kernel, not in a terminal."""
    return getattr(shell, "kernel", None) is not None


def draws_from_threads() -> bool:
    """Whether widget updates from a thread are shown. Colab does not show them."""
    return "google.colab" not in sys.modules


def is_voila() -> bool:
    """Whether the notebook is shown as an app, which takes no display updates once it has loaded."""
    return os.environ.get("SERVER_SOFTWARE", "").startswith("voila/")


def code_as_sent(shell: Any) -> str:
    """The running cell as the front end sent it; "" in a terminal."""
    return str((_parent(shell).get("content") or {}).get("code", ""))


def cell(shell: Any) -> str:
    """Identify the running cell: by its id if the front end sends one, else by its code."""
    return cell_id(shell) or code_as_sent(shell)


def cell_id(shell: Any) -> str:
    """The running cell's unique id; "" if the front end sends none."""
    return str((_parent(shell).get("metadata") or {}).get("cellId") or "")


def execution(shell: Any) -> str:
    """The id of this execution of the cell; "" in a terminal."""
    return str((_parent(shell).get("header") or {}).get("msg_id", ""))


def _parent(shell: Any) -> dict[str, Any]:
    """The message that requested the execution."""
    parent = shell.get_parent() if hasattr(shell, "get_parent") else getattr(shell, "parent_header", None)
    return parent or {}
