"""What draws an answer where: live widgets, a terminal, one display at the end, nothing.

Each view is a class in a module of its own; `view_for` chooses by where the session runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from together_nb.formats import format_for

if TYPE_CHECKING:
    from together_nb.session import View


def view_for(shell: Any, show: str, *, chat: bool) -> View:
    """The view that fits the front end behind `shell`.

    Parameters
    ----------
    shell
        The running IPython shell, or None.
    show
        Name of a format.
    chat
        Whether a chat is shown; decides what ``auto`` is.

    Raises
    ------
    InputError
        There is no such format.
    """
    shown = format_for(show, chat=chat)
    if shown.name == "none":
        from together_nb.views.text import SilentView

        return SilentView()
    if getattr(shell, "kernel", None) is None:
        from together_nb.views.text import TerminalView

        return TerminalView()
    if not _someone_watches(shell):
        from together_nb.views.text import OnceView

        return OnceView(shown.name)
    from together_nb.views.live import LiveView

    return LiveView(shown)


def _someone_watches(shell: Any) -> bool:
    """Whether a person sees the cell run: nbclient, nbconvert and papermill send ``allow_stdin`` false."""
    parent = shell.get_parent() if hasattr(shell, "get_parent") else getattr(shell, "parent_header", None)
    return bool(((parent or {}).get("content") or {}).get("allow_stdin", True))
