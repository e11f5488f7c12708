"""Views, which draw an answer: live widgets, a terminal, one display at the end, nothing.

`view_for` chooses one by where the session runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from together_nb.render.formats import format_for
from together_nb.views.frontend import has_kernel, someone_watches

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from together_nb.run.driver import View
    from together_nb.run.parallel import ColumnsView


def view_for(shell: Any, show: str, *, chat: bool, stop: Callable[[], Any] | None = None) -> View:
    """Return the view that fits the front end behind `shell`.

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
        from together_nb.run.driver import SilentView

        return SilentView()
    if not has_kernel(shell):
        from together_nb.views.text import TerminalView

        return TerminalView(of_tokens=shown.of_tokens)
    if not someone_watches(shell):
        from together_nb.views.text import OnceView

        return OnceView(shown.name)
    from together_nb.views.live import BackgroundView, LiveView

    return LiveView(shown) if stop is None else BackgroundView(shown, stop)


def side_by_side_view_for(shell: Any, show: str, titles: Sequence[str], across: int) -> ColumnsView:
    """Return the side-by-side view that fits the front end behind `shell`.

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
    from together_nb.views import side_by_side

    kind: type[side_by_side.SilentColumns] = side_by_side.LiveColumns
    if format_for(show, chat=True).name == "none":
        kind = side_by_side.SilentColumns
    elif not has_kernel(shell):
        kind = side_by_side.TerminalColumns
    elif not someone_watches(shell):
        kind = side_by_side.OnceColumns
    return kind(titles, across, show)
