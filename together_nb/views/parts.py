"""Building blocks of the views and the panel; the style sheet knows them by name."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from ipywidgets import HTML, Box, VBox

from together_nb.base.escape import visible
from together_nb.config.keys import without_keys
from together_nb.errors import TogetherError
from together_nb.views.layouts import html_style, plain_layout

if TYPE_CHECKING:
    from ipywidgets import Widget


def styled(*names: str) -> dict[str, Any]:
    """Widget keywords that make a part known to the style sheet by `names`."""
    # `add_class` would send one more message each.
    return {"layout": plain_layout(), "_dom_classes": tuple(f"tnb-{name}" for name in names)}


def box(name: str, *children: Widget) -> VBox:
    """A box that the style sheet knows by `name`."""
    return VBox(children, **styled(name))


def row(name: str, *children: Widget) -> Box:
    """Like `box`, with its children side by side."""
    return Box(children, **styled(name))


def note(name: str, text: str = "") -> HTML:
    """A line of text that the style sheet knows by `name`."""
    return HTML(escaped(text), style=html_style(), **styled(name))


def escaped(text: str) -> str:
    """`text` as HTML that shows it literally, without the API key: what is drawn may be saved."""
    return html.escape(visible(without_keys(text)))


def sentences(error: BaseException) -> tuple[str, str]:
    """The message and the hint of an error."""
    return (error.message, error.hint) if isinstance(error, TogetherError) else (repr(error), "")


class DrawnValue:
    """A value that is drawn only when it changes: each drawing is a message."""

    def __init__(self, widget: Any) -> None:
        self.widget = widget

    def set(self, value: str) -> None:
        """Draw `value`."""
        if self.widget.value != value:
            self.widget.value = value
