"""Waits before there is an answer to draw: for the server's list of models."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from together_nb.base.escape import literal, visible
from together_nb.views.frontend import has_kernel, someone_watches
from together_nb.wire.retry import ignore_wait, listen_to_waits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from together_nb.wire.retry import Wait


@contextmanager
def show_waits(shell: Any) -> Iterator[None]:
    """Show the waits that begin within the block as cell output, and clear it after the block.

    This clears all output of the cell, so use it before any other output.

    Parameters
    ----------
    shell
        The running IPython shell.
    """
    if not has_kernel(shell):
        with print_waits(shell):
            yield
        return
    if not someone_watches(shell):
        with listen_to_waits(ignore_wait):
            yield
        return
    line = _Notice()
    try:
        with listen_to_waits(line.show):
            yield
    finally:
        line.clear()


@contextmanager
def print_waits(shell: Any) -> Iterator[None]:
    """Print a line for each wait that begins within the block; it stays."""
    from together_nb.views.text import wait_line

    way_out = "■" if has_kernel(shell) else "Ctrl-C"
    with listen_to_waits(lambda wait: print(wait_line(wait, way_out), end="", flush=True)):  # noqa: T201
        yield


class _Notice:
    """A line of output, replaced by the next one."""

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, wait: Wait) -> None:
        from IPython.display import display

        words = visible(f"{wait} · ■ stops")
        bundle = {"text/markdown": f"<sub>{literal(words)}</sub>", "text/plain": words}
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=uuid.uuid4().hex)
        else:
            self._handle.update(bundle, raw=True)

    def clear(self) -> None:
        if self._handle is not None:
            from IPython.display import clear_output

            clear_output()
