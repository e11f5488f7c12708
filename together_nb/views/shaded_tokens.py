"""An answer's tokens as they come, shaded by their probability; at the end the same HTML takes their place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipywidgets import HTML, VBox

from together_nb.render.token_html import CELL_CSS, SHADE_CSS, new_group, text_html
from together_nb.views.layouts import html_style, plain_layout
from together_nb.views.parts import styled
from together_nb.views.pieces import Pieces

if TYPE_CHECKING:
    from ipywidgets import Widget

    from together_nb.values.chunk import Chunk

_PER = 25  # tokens to a widget: what a repaint sends again is at most so many
_PIECES = 400  # widgets; of a longer text the end is shown until all of it is

# The widgets stand one after the other as one text, where the text that is left at the end will
# stand: JupyterLab leaves 20 pixels beside it.
_LIVE_CSS = """
.tnb-growing { overflow: visible; padding-right: 20px; }
.tnb-growing, .tnb-growing .tnb-tokens { display: block; }
.tnb-growing .widget-html, .tnb-growing .widget-html-content { display: inline; overflow: visible; white-space: pre-wrap;
  font: inherit; line-height: inherit; color: inherit; margin: 0; padding: 0; }
.tnb-growing > .widget-html { display: none; }
.tnb-growing { color: var(--jp-content-font-color1, inherit); }
.tnb-growing .tnb-tokens * { position: static; }
.tnb-growing .widget-label { display: none; }
"""


class GrowingTokens:
    """Tokens that grow in a box of HTML widgets, none of which is sent again once it is full.

    Attributes
    ----------
    parts : list of Widget
        What shows them, from top to bottom.
    """

    def __init__(self) -> None:
        self._group = new_group()
        self._pieces = Pieces("tokens", _PER, _PIECES)
        self._style = HTML(f"<style>{SHADE_CSS}{CELL_CSS}{_LIVE_CSS}</style>", style=html_style(), **styled("style"))
        self._box = VBox(
            [self._style, self._pieces.box], layout=plain_layout(), _dom_classes=("tnb-shaded", "tnb-growing")
        )
        self.parts: list[Widget] = [self._box]

    def add(self, chunks: list[Chunk]) -> None:
        """Draw the text of `chunks` after what is drawn; what has no token of its own is not shaded."""
        pieces = [piece for chunk in chunks for piece in text_html(chunk.text, chunk.tokens, self._group)]
        if pieces:
            self._pieces.add(pieces)

    def widgets(self) -> list[Widget]:
        """All widgets of it."""
        return [self._box, self._style, self._pieces.box, *self._pieces.box.children]
