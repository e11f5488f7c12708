"""Small parts that the panel is made of."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from ipywidgets import HTML, Box, VBox

from together_nb.escape import visible
from together_nb.views.growing import close_all

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ipywidgets import Widget


def box(name: str, *children: Widget) -> VBox:
    """A box that the style sheet knows by `name`."""
    made = VBox(children)
    made.add_class(f"tnb-{name}")
    return made


def row(name: str, *children: Widget) -> Box:
    """As `box`, its children side by side."""
    made = Box(children)
    made.add_class(f"tnb-{name}")
    return made


def note(name: str, text: str = "") -> HTML:
    """A line of text that the style sheet knows by `name`."""
    made = HTML(said(text))
    made.add_class(f"tnb-{name}")
    return made


def said(text: str) -> str:
    """`text` as HTML that shows it to the letter."""
    return html.escape(visible(text))


def explained(widget: Any, help: str) -> Any:  # noqa: A002  (the parameter's own word)
    """`widget` with `help` as its tooltip, which ipywidgets 7 calls otherwise."""
    setattr(widget, "tooltip" if widget.has_trait("tooltip") else "description_tooltip", help)
    return widget


def close_tree(root: Widget) -> None:
    """Close a widget and all that it holds."""
    close_all(list(_within(root)))


def _within(widget: Widget) -> Iterator[Widget]:
    children: Iterable[Widget] = getattr(widget, "children", ())
    for child in children:
        yield from _within(child)
    yield widget


class Shown:
    """A value that is drawn only when it differs from what is drawn: each drawing is a message."""

    def __init__(self, widget: Any) -> None:
        self.widget = widget

    def set(self, value: str) -> None:
        """Draw `value`."""
        if self.widget.value != value:
            self.widget.value = value
