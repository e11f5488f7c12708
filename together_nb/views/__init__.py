"""Views, which draw an answer: live widgets, a terminal, one display at the end, nothing.

`view_for` chooses one by where the session runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from together_nb.render.formats import format_for
from together_nb.views.frontend import has_kernel, someone_watches
from together_nb.views.text import OnceView, SilentColumns, SilentView, TerminalView

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def view_for(shell: Any, show: str, *, chat: bool, stop: Callable[[], Any] | None = None) -> SilentView | None:
    """Return the view that fits the front end behind `shell`; None draws nothing.

    Parameters
    ----------
    shell
        The running IPython shell, or None.
    show
        Name of a format.
    chat
        Whether a chat is shown; decides what ``auto`` means.
    stop
        Stops the stream, if it runs in the background.

    Raises
    ------
    InputError
        There is no such format.
    """
    shown = format_for(show, chat=chat)
    if shown.name == "none":
        return None
    if not has_kernel(shell):
        return TerminalView(of_tokens=shown.of_tokens)
    if not someone_watches(shell):
        return OnceView(shown.name)
    from together_nb.views.live import BackgroundView, LiveView

    return LiveView(shown) if stop is None else BackgroundView(shown, stop)


def side_by_side_view_for(shell: Any, show: str, titles: Sequence[str], across: int) -> SilentColumns | None:
    """Return the side-by-side view that fits the front end behind `shell`; None draws nothing.

    Parameters
    ----------
    shell
        The running IPython shell, or None.
    show
        Name of a format.
    titles
        What differs in each column.
    across
        How many columns belong in a row.

    Raises
    ------
    InputError
        There is no such format.
    """
    if format_for(show, chat=True).name == "none":
        return None
    from together_nb.views import side_by_side

    kind: type[SilentColumns] = side_by_side.TerminalColumns
    if has_kernel(shell):
        kind = side_by_side.LiveColumns if someone_watches(shell) else side_by_side.OnceColumns
    return kind(titles, across, show)
