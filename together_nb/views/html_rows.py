"""Growing HTML: only the last parts are sent again, and the oldest are dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipywidgets import HTML

from together_nb.views.layouts import close_all, html_style, plain_layout
from together_nb.views.parts import box

if TYPE_CHECKING:
    from collections.abc import Sequence


class HtmlRows:
    """HTML made of many small parts, in widgets of `per` parts each.

    Parameters
    ----------
    name
        Name of the box in the style sheet.
    per
        Parts per widget: a repaint sends at most this many, plus the new ones.
    kept
        Maximum number of widgets.
    extended
        Whether to fill up the last widget. Redrawing a widget loses the keyboard focus inside it.
    """

    def __init__(self, name: str, per: int, kept: int, *, extended: bool = True) -> None:
        self._per = per
        self._kept = kept
        self._extended = extended
        self._sizes: list[int] = []
        self._last: list[str] = []
        self.box = box(name)

    def add(self, parts: Sequence[str]) -> None:
        """Append `parts`."""
        parts = parts[-self._kept * self._per :]
        room = self._per - len(self._last) if self._last and self._extended else 0
        if room and parts:
            self._last += parts[:room]
            self._sizes[-1] = len(self._last)
            self.box.children[-1].value = "".join(self._last)
        added = []
        for start in range(room, len(parts), self._per):
            self._last = list(parts[start : start + self._per])
            self._sizes.append(len(self._last))
            added.append(HTML("".join(self._last), layout=plain_layout(), style=html_style()))
        if added:
            left = [*self.box.children, *added]
            gone = left[: -self._kept]
            self.box.children = left[len(gone) :]
            del self._sizes[: len(gone)]
            close_all(gone)

    @property
    def count(self) -> int:
        """Number of parts shown."""
        return sum(self._sizes)

    def clear(self) -> None:
        """Remove all parts."""
        gone, self._last, self._sizes = self.box.children, [], []
        self.box.children = ()
        close_all(gone)
