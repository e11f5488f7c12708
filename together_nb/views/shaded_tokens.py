"""An answer's tokens as they arrive, shaded by probability; the same HTML replaces them at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipywidgets import HTML, VBox

from together_nb.render.token_html import CELL_CSS, SHADE_CSS, new_group, text_html
from together_nb.views.html_rows import HtmlRows
from together_nb.views.layouts import html_style, plain_layout
from together_nb.views.parts import styled

if TYPE_CHECKING:
    from ipywidgets import Widget

    from together_nb.values.chunk import Chunk, Token

_PER = 25  # tokens per widget: a repaint resends at most this many
_PIECES = 400  # widgets; a longer text shows only its end while it streams

# The widgets flow as one text, in the same place as the final text: JupyterLab leaves 20 pixels
# beside that.
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
    """Growing tokens in a box of HTML widgets; a full widget is never sent again.

    Attributes
    ----------
    parts : list of Widget
        Its widgets, from top to bottom.
    """

    def __init__(self) -> None:
        self._group = new_group()
        self._held: list[Token] = []  # the first tokens of a character, which come before its text
        self._pieces = HtmlRows("tokens", _PER, _PIECES)
        self._style = HTML(f"<style>{SHADE_CSS}{CELL_CSS}{_LIVE_CSS}</style>", style=html_style(), **styled("style"))
        self._box = VBox(
            [self._style, self._pieces.box], layout=plain_layout(), _dom_classes=("tnb-shaded", "tnb-growing")
        )
        self.parts: list[Widget] = [self._box]

    def add(self, chunks: list[Chunk]) -> None:
        """Append the text of `chunks`; text that has no token is not shaded."""
        pieces: list[str] = []
        for chunk in chunks:
            self._held += chunk.tokens
            if chunk.text or chunk.refusal:
                pieces += text_html(chunk.text + chunk.refusal, self._held, self._group)
                self._held = []
        if pieces:
            self._pieces.add(pieces)

    def widgets(self) -> list[Widget]:
        """All its widgets."""
        return [self._box, self._style, self._pieces.box, *self._pieces.box.children]
