"""Layouts and styles that widgets share: one of its own for each would double their number, and their messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ipywidgets import HTML, Button, Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ipywidgets import Widget


_kept: dict[str, Any] = {}


def _shared(name: str, make: Callable[[], Any]) -> Any:
    """The one widget of that name; a new one where a cell has closed it (``Widget.close_all()``)."""
    if name not in _kept or _kept[name].comm is None:
        _kept[name] = make()
    return _kept[name]


def plain_layout() -> Layout:
    """A layout that says nothing: a style sheet does."""
    return _shared("plain layout", Layout)


def snug_layout() -> Layout:
    """A layout for what grows in a cell: no margin, all the width."""
    return _shared("snug layout", lambda: Layout(margin="0", width="auto"))


def html_style() -> Any:
    """The style of `HTML`, as it comes."""
    return _shared("style of HTML", lambda: _style_of(HTML(layout=plain_layout())))


def button_style() -> Any:
    """The style of `Button`, as it comes."""
    return _shared("style of Button", lambda: _style_of(Button(layout=plain_layout())))


def _style_of(widget: Any) -> Any:
    style = widget.style
    widget.close()
    return style


def close_all(widgets: Iterable[Widget]) -> None:
    """Close widgets with what they bring along, a style and a layout of their own in ipywidgets 8; not what is shared."""
    for widget in widgets:
        for name in ("style", "layout"):
            own = getattr(widget, name, None)
            if own is not None and own not in _kept.values():
                own.close()
        widget.close()
