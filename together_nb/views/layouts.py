"""Shared layouts and styles, and closing widgets: each one opened or closed is a message."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from ipywidgets import HTML, Button, Layout

from together_nb.base.fork import after_fork
from together_nb.base.threads import start_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ipywidgets import Widget


_AT_ONCE = 2
_CLOSING_SECONDS = 0.1

_kept: dict[str, Any] = {}
_closing: deque[Widget] = deque()  # no longer shown, still to be closed
_closing_lock = threading.Lock()


def _forget_closing() -> None:
    global _closing_lock  # noqa: PLW0603  (one of a process)
    _closing_lock = threading.Lock()
    _closing.clear()


after_fork(_forget_closing)  # the closing thread exists only in the parent


def _shared(name: str, make: Callable[[], Any]) -> Any:
    """Return the shared widget of that name, remade if a cell closed it (``Widget.close_all()``)."""
    if name not in _kept or _kept[name].comm is None:
        _kept[name] = make()
    return _kept[name]


def plain_layout() -> Layout:
    """An empty layout: a style sheet sets all."""
    return _shared("plain layout", Layout)


def snug_layout() -> Layout:
    """A layout for growing output: no margin, full width."""
    return _shared("snug layout", lambda: Layout(margin="0", width="auto"))


def html_style() -> Any:
    """The default style of `HTML`."""
    return _shared("style of HTML", lambda: _style_of(HTML(layout=plain_layout())))


def button_style() -> Any:
    """The default style of `Button`."""
    return _shared("style of Button", lambda: _style_of(Button(layout=plain_layout())))


def _style_of(widget: Any) -> Any:
    style = widget.style
    widget.close()
    return style


def close_all(widgets: Iterable[Widget]) -> None:
    """Close widgets with the style and layout of their own that ipywidgets 8 makes, but not the shared ones."""
    for widget in widgets:
        for name in ("style", "layout"):
            own = getattr(widget, name, None)
            if own is not None and own not in _kept.values():
                own.close()
        widget.close()


def close_in_time(widgets: Sequence[Widget]) -> None:
    """Close widgets that are no longer shown: a few at once, many one per tenth of a second in a thread.

    A long answer has hundreds of widgets. Servers drop output when so many messages come at once.
    """
    if len(widgets) <= _AT_ONCE:
        close_all(widgets)
        return
    with _closing_lock:
        idle = not _closing
        _closing.extend(widgets)
    if idle:
        context = copy_context()
        if start_thread("closing", context.run, _close_one_by_one) is None:
            _close_one_by_one(0)


def _close_one_by_one(seconds: float = _CLOSING_SECONDS) -> None:
    pause = threading.Event()
    left = True
    while left and not pause.wait(seconds):
        with _closing_lock:
            widget = _closing.popleft()
            left = bool(_closing)
        with contextlib.suppress(Exception):  # it is not shown, and the others must still close
            close_all((widget,))
