"""Layouts and styles that widgets share: one of its own for each would double their number, and their messages."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from ipywidgets import HTML, Button, Layout

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipywidgets import Widget


@cache
def plain_layout() -> Layout:
    """A layout that says nothing: a style sheet does."""
    return Layout()


@cache
def snug_layout() -> Layout:
    """A layout for what grows in a cell: no margin, all the width."""
    return Layout(margin="0", width="auto")


@cache
def html_style() -> Any:
    """The style of `HTML`, as it comes."""
    return HTML(layout=plain_layout()).style


@cache
def button_style() -> Any:
    """The style of `Button`, as it comes."""
    return Button(layout=plain_layout()).style


def close_all(widgets: Iterable[Widget]) -> None:
    """Close widgets with what they bring along, a style and a layout of their own in ipywidgets 8; not what is shared."""
    kept = (plain_layout(), snug_layout(), html_style(), button_style())
    for widget in widgets:
        for name in ("style", "layout"):
            own = getattr(widget, name, None)
            if own is not None and own not in kept:
                own.close()
        widget.close()
