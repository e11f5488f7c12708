"""Rows of HTML that grow: only the last few are sent again, and the oldest go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipywidgets import HTML

from together_nb.panel.parts import box, close_tree
from together_nb.views.shared import close_all, html_style, plain_layout

if TYPE_CHECKING:
    from collections.abc import Sequence


class Pieces:
    """HTML made of many small parts, set in widgets of `per` parts each.

    Parameters
    ----------
    name
        What the style sheet calls the box.
    per
        Parts to a widget: what a repaint sends is at most so many, and the new ones.
    kept
        The most widgets that are kept; None keeps all.
    """

    def __init__(self, name: str, per: int, kept: int | None = None) -> None:
        self._per = per
        self._kept = kept
        self._last: list[str] = []
        self.box = box(name)

    def add(self, parts: Sequence[str]) -> None:
        """Draw `parts` after what is drawn."""
        if self._kept is not None:
            parts = parts[-self._kept * self._per :]
        room = self._per - len(self._last) if self._last else 0
        if room and parts:
            self._last += parts[:room]
            self.box.children[-1].value = "".join(self._last)
        added = []
        for start in range(room, len(parts), self._per):
            self._last = list(parts[start : start + self._per])
            added.append(HTML("".join(self._last), layout=plain_layout(), style=html_style()))
        if added:
            left = [*self.box.children, *added]
            gone = [] if self._kept is None else left[: -self._kept]
            self.box.children = left[len(gone) :]
            close_all(gone)

    @property
    def count(self) -> int:
        """How many parts are shown."""
        return max(len(self.box.children) - 1, 0) * self._per + len(self._last)

    def clear(self) -> None:
        """Take all away."""
        gone, self._last = self.box.children, []
        self.box.children = ()
        close_all(gone)

    def close(self) -> None:
        """Take it from the kernel."""
        self.clear()
        close_tree(self.box)
