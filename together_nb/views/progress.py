"""Progress of a batch: a bar with an estimate while it runs, and in a notebook a plain line at the end."""

from __future__ import annotations

import threading
import uuid
from time import monotonic
from typing import TYPE_CHECKING, Any

from together_nb.base.escape import literal, visible
from together_nb.views.frontend import has_kernel, someone_watches

if TYPE_CHECKING:
    from collections.abc import Callable

_REPAINT_SECONDS = 0.25


class NoProgress:
    """Shows nothing.

    Parameters
    ----------
    total
        Number of items.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._began = monotonic()

    def show(self, done: int, failed: int, waiting: str) -> None:
        """Show how many are done, how many of those failed, and what all wait for, if anything."""

    def finish(self, done: int, failed: int) -> None:
        """Leave the output to be saved."""

    def _line(self, done: int, failed: int) -> str:
        seconds = monotonic() - self._began
        parts = [f"{done:,} of {self._total:,}", f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"]  # noqa: PLR2004
        if done and seconds:
            parts.append(f"{done / seconds:.1f}/s")
        return " · ".join((*parts, f"{failed:,} failed") if failed else parts)


class LineAtEnd(NoProgress):
    """Shows a line at the end, when nobody watches."""

    def finish(self, done: int, failed: int) -> None:
        """Display the line."""
        _show_bundle(_as_bundle(self._line(done, failed)))


class TextBar(NoProgress):
    """The usual terminal bar, on stderr.

    Parameters
    ----------
    total
        Number of items.
    bar
        Makes the bar from its keywords.
    """

    def __init__(self, total: int, bar: Callable[..., Any]) -> None:
        super().__init__(total)
        self._bar = self._made(bar)
        self._told = ("", 0.0)

    def _made(self, bar: Callable[..., Any], **more: Any) -> Any:
        # The rate is that of the whole batch, not of the last items: little smoothing.
        return bar(total=self._total, unit=" answers", mininterval=_REPAINT_SECONDS, miniters=1, smoothing=0.05, **more)

    def show(self, done: int, failed: int, waiting: str) -> None:
        """Draw the bar, at intervals."""
        words, now = ", ".join(filter(None, (f"{failed:,} failed" if failed else "", visible(waiting)))), monotonic()
        before, at = self._told
        if done > self._bar.n:
            self._bar.set_postfix_str(words, refresh=False)
            self._bar.update(done - self._bar.n)
        # The estimated time left changes even when nothing ends.
        if words != before or now - at >= 4 * _REPAINT_SECONDS:
            self._told = (words, now)
            self._bar.set_postfix_str(words, refresh=True)

    def finish(self, done: int, failed: int) -> None:
        """Leave the bar as it is."""
        self.show(done, failed, "")
        self._bar.close()


class WidgetBar(TextBar):
    """A notebook's bar, replaced by the line at the end: a widget would not outlive the kernel."""

    def _made(self, bar: Callable[..., Any], **more: Any) -> Any:
        from together_nb.views.live import WIDGET

        made = super()._made(bar, display=False, **more)
        view = {"version_major": 2, "version_minor": 0, "model_id": made.container.model_id}
        self._handle = _show_bundle({WIDGET: view, "text/plain": "(a batch that is still running)"})
        return made

    def finish(self, done: int, failed: int) -> None:
        """Replace the bar by the line, and close its widgets."""
        from together_nb.views.layouts import close_all

        self._handle.update(_as_bundle(self._line(done, failed)), raw=True)
        self._bar.disp = lambda *_, **__: None  # close() would redraw it, in red if items are missing
        self._bar.close()
        close_all((*self._bar.container.children, self._bar.container))


def progress_for(shell: Any, total: int, *, wanted: bool = True) -> NoProgress:
    """Return the progress display that fits the front end behind `shell`.

    Parameters
    ----------
    shell
        The running IPython shell, or None.
    total
        Number of items.
    wanted
        False shows nothing.
    """
    if not wanted or not total:
        return NoProgress(total)
    if has_kernel(shell) and not someone_watches(shell):
        return LineAtEnd(total)
    from tqdm.auto import tqdm

    # Without tqdm's monitor thread, which would draw too, and without its multiprocess lock.
    bar = type("Bar", (tqdm,), {"monitor_interval": 0, "_lock": threading.RLock()})
    draws_widgets = any(kind.__module__ == "tqdm.notebook" for kind in bar.__mro__)  # as tqdm.auto has chosen
    return WidgetBar(total, bar) if draws_widgets else TextBar(total, bar)


def _as_bundle(line: str) -> dict[str, str]:
    return {"text/markdown": f"<sub>{literal(line)}</sub>", "text/plain": f"[{line}]"}


def _show_bundle(bundle: dict[str, Any]) -> Any:
    from IPython.display import display

    # Not display(widget): in ipywidgets 7 it returns no handle.
    return display(bundle, raw=True, display_id=uuid.uuid4().hex)
