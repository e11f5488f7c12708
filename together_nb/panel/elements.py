"""Building blocks of the panel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ipywidgets import Button, ToggleButton

from together_nb.views.layouts import button_style, close_all
from together_nb.views.parts import box, styled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ipywidgets import Widget


def explained(widget: Any, help: str) -> Any:  # noqa: A002  (the parameter's own word)
    """`widget` with `help` as its tooltip, a trait with another name in ipywidgets 7."""
    setattr(widget, "tooltip" if widget.has_trait("tooltip") else "description_tooltip", help)
    return widget


def close_tree(root: Widget) -> None:
    """Close a widget and all its descendants."""
    close_all(list(within(root)))


def within(widget: Widget) -> Iterator[Widget]:
    """Yield the descendants of a widget, then itself."""
    children: Iterable[Widget] = getattr(widget, "children", ())
    for child in children:
        yield from within(child)
    yield widget


def icon_button(kind: str, name: str, help: str = "") -> Button:  # noqa: A002
    """A button whose icon the style sheet draws, and which screen readers call `name`.

    They would read out an icon of the front end instead of the name.
    """
    return Button(description=name, tooltip=help or name, style=button_style(), **styled("icon", kind))


class Fold:
    """Foldable content below a button. Unlike ipywidgets' Accordion, it opens by keyboard too.

    Parameters
    ----------
    name
        Label of the button.
    inner
        The content.
    unfolded
        Whether it is open at first.
    """

    def __init__(self, name: str, inner: Widget, *, unfolded: bool = False) -> None:
        self._inner = inner
        self.button = ToggleButton(unfolded, description=name, tooltip=f"Show or hide: {name}")
        self.button.add_class("tnb-fold-button")
        self.button.observe(lambda _: self._draw(), names="value")
        self.box = box("fold", self.button, inner)
        self._draw()

    def _draw(self) -> None:
        hide(self._inner, hidden=not self.button.value)
        hide(self.button, hidden=not self.button.value, by="tnb-closed")


def hide(widget: Widget, *, hidden: bool, by: str = "tnb-hidden") -> None:
    """Add or remove a class that hides a widget or its content."""
    (widget.add_class if hidden else widget.remove_class)(by)


class Page:
    """The content of one tab. It is not drawn while hidden, and catches up when shown.

    Attributes
    ----------
    title : str
        Label of the tab.
    box : Widget
        The content.
    seen : bool
        Whether its tab is the one in front.
    """

    title = ""
    box: Widget
    seen = False

    def show(self, *, seen: bool) -> None:
        """React to the tab coming to the front or leaving it."""
        self.seen = seen
        if seen:
            self.catch_up()

    def catch_up(self) -> None:
        """Draw what changed while it was hidden."""

    def close(self) -> None:
        """Release what outlives the widgets."""
