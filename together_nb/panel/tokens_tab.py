"""The Tokens tab: each token shaded by its probability, with its alternatives."""

from __future__ import annotations

from itertools import takewhile
from time import monotonic
from typing import TYPE_CHECKING

from ipywidgets import Button

from together_nb.panel.elements import Page, hide
from together_nb.render.token_html import new_group, tokens_html
from together_nb.render.token_text import ALTERNATIVES, summary_of
from together_nb.values.likelihood import whole_characters
from together_nb.views.html_rows import HtmlRows
from together_nb.views.parts import DrawnValue, box, escaped, note, row

if TYPE_CHECKING:
    from together_nb.config.settings import Settings
    from together_nb.values.chunk import Chunk, Token

_PER = 100  # tokens per widget
_PIECES = 300  # widgets; with more radio buttons the page is slow, and nobody points at the first
_SECONDS = 0.3  # between drawings, each of which adds a widget
_LEGEND = 'likely <span class="tnb-scale"></span> unlikely · point at a token, or Tab to the text and go on with the arrow keys'


class TokensTab(Page):
    """The tokens of the answer; drawn while the tab is visible.

    Parameters
    ----------
    settings
        The settings that request log-probabilities.
    """

    title = "Tokens"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tokens: list[Token] = []
        self._drawn = 0
        self._known, self._sum = 0, 0.0  # log-probabilities drawn: count and sum
        self._held: list[Token] = []
        self._count = 0  # of what is drawn
        self._group = ""
        self._drawn_at = 0.0
        # Never redrawn, or the arrow keys would lose their token while others arrive.
        self._pieces = HtmlRows("tokens-text", _PER, _PIECES, extended=False)
        self._head = DrawnValue(note("help"))
        self._ask = Button(description=f"Ask for {ALTERNATIVES} alternatives", icon="check")
        self._ask.on_click(lambda _: setattr(settings, "logprobs", ALTERNATIVES))
        self._empty = DrawnValue(note("empty"))
        self._none = box("none", self._empty.widget, self._ask)
        self._strip = box("tokens", row("tokens-scroll", self._pieces.box))
        self.box = box("page", self._none, self._head.widget, self._strip)
        settings.observe(self._draw_empty, names="logprobs")
        self.start()

    def close(self) -> None:
        """Stop observing the settings."""
        self._settings.unobserve(self._draw_empty, names="logprobs")

    def start(self) -> None:
        """Start a new text."""
        self._tokens, self._drawn = [], 0
        self._known, self._sum = 0, 0.0
        self._held, self._count = [], 0
        self._group = new_group()
        self._pieces.clear()
        self._draw()

    def write(self, chunks: list[Chunk]) -> None:
        """Add the first answer's tokens."""
        self._tokens += [token for chunk in chunks if not chunk.index for token in chunk.tokens]
        if monotonic() - self._drawn_at >= _SECONDS:
            self.catch_up()

    def catch_up(self) -> None:
        """Draw what is not drawn yet."""
        if self.seen and self._drawn < len(self._tokens):
            self._drawn_at = monotonic()
            self._draw()

    def _draw(self) -> None:
        new, self._drawn = self._tokens[self._drawn :], len(self._tokens)
        known = [token.logprob for token in new if token.logprob is not None]
        self._known, self._sum = self._known + len(known), self._sum + sum(known)
        whole = whole_characters(self._held + new)
        # The first tokens of a character come before its text.
        self._held = list(takewhile(lambda token: not token.text, reversed(whole)))[::-1]
        whole = whole[: len(whole) - len(self._held)]
        self._count += len(whole)
        self._pieces.add([tokens_html([token], self._group) for token in whole[-_PER * _PIECES :]])
        shown = self._pieces.count
        left_out = f" · the last {shown:,} are shown" if self._count > shown else ""
        self._head.set(f"{escaped(summary_of(self._known, self._sum))}{left_out}<br>{_LEGEND}" if self._tokens else "")
        self._draw_empty()

    def _draw_empty(self, _: object = None) -> None:
        """Say how to get tokens here."""
        wanted = self._settings.sampling.logprobs is not None
        words = (
            "The next answer's tokens appear here, where the server tells their probabilities."
            if wanted
            else "With logprobs set, the server tells how likely each token was, and what else it might have been."
        )
        self._empty.set(escaped(words))
        for widget, hidden in ((self._none, bool(self._tokens)), (self._ask, wanted), (self._strip, not self._tokens)):
            hide(widget, hidden=hidden)
