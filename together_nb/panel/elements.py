"""Small parts that the panel is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ipywidgets import Button, ToggleButton

from together_nb.views.layouts import button_style, close_all
from together_nb.views.parts import box, styled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ipywidgets import Widget


def explained(widget: Any, help: str) -> Any:  # noqa: A002  (the parameter's own word)
    """`widget` with `help` as its tooltip, which ipywidgets 7 calls otherwise."""
    setattr(widget, "tooltip" if widget.has_trait("tooltip") else "description_tooltip", help)
    return widget


def close_tree(root: Widget) -> None:
    """Close a widget and all that it holds."""
    close_all(list(within(root)))


def within(widget: Widget) -> Iterator[Widget]:
    """What a widget holds, and the widget itself after it."""
    children: Iterable[Widget] = getattr(widget, "children", ())
    for child in children:
        yield from within(child)
    yield widget


def icon_button(kind: str, name: str, help: str = "") -> Button:  # noqa: A002
    """A button that shows a sign, drawn by the style sheet, and is called `name` by who reads it out.

    An icon of the front end's would be read out in the place of the name.
    """
    return Button(description=name, tooltip=help or name, style=button_style(), **styled("icon", kind))


class Fold:
    """What is folded away below a button. Unlike ipywidgets' Accordion it is opened by keyboard too.

    Parameters
    ----------
    name
        What stands on the button.
    inner
        What is folded.
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
    """Give a widget a class that hides it, or what it holds, or take the class away."""
    (widget.add_class if hidden else widget.remove_class)(by)


class Page:
    """What one tab holds. What is not seen need not be drawn: it is caught up with when it is.

    Attributes
    ----------
    title : str
        What stands on the tab.
    box : Widget
        What it holds.
    seen : bool
        Whether its tab is the one in front.
    """

    title = ""
    box: Widget
    seen = False

    def show(self, *, seen: bool) -> None:
        """Its tab has come to the front, or has left it."""
        self.seen = seen
        if seen:
            self.catch_up()

    def catch_up(self) -> None:
        """Draw what has changed while it was not seen."""

    def close(self) -> None:
        """Let go of what outlives the widgets."""
