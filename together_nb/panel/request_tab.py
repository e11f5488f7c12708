"""The Request tab: what Generate would send, and the same call as a cell, as Python and as curl."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ipywidgets import HTML

from together_nb.config import settings
from together_nb.errors import TogetherError
from together_nb.panel import recipes
from together_nb.panel.elements import Page
from together_nb.views.parts import Shown, box, said

if TYPE_CHECKING:
    from collections.abc import Callable

    from together_nb.panel.latest import Latest
    from together_nb.run.stream import CompletionStream

_TITLES = {"cell": "As a cell", "python": "As Python", "curl": "With curl"}


class RequestTab(Page):
    """The request as it now stands; drawn while it is seen.

    Parameters
    ----------
    worker
        Works it out: the server may have to be asked for its models first.
    opened
        Gives the stream that Generate would begin.
    """

    title = "Request"

    def __init__(self, worker: Latest, opened: Callable[[], CompletionStream]) -> None:
        self._worker = worker
        self._opened = opened
        self._shown = Shown(HTML())
        self.box = box("page", self._shown.widget)

    def changed(self) -> None:
        """The request is another one now."""
        if self.seen:
            self.catch_up()

    def catch_up(self) -> None:
        """Work the request out, in the worker's thread."""
        self._worker.do(self._draw)

    def _draw(self) -> None:
        try:
            self._shown.set(_html(self._opened()))
        except TogetherError as error:
            self._shown.set(f'<div class="tnb-empty">{said(error.message)} {said(error.hint)}</div>')


def _html(opened: CompletionStream) -> str:
    url = f"POST {opened.endpoint.root}{opened.dialect.path}"
    payload = json.dumps(opened.payload, indent=2, ensure_ascii=False)
    texts = {url: payload}
    texts |= {_TITLES[name]: text for name, text in recipes.recipes(opened, settings.settings.sampling).items()}
    # Tabbing to a text and Ctrl+A would take the whole page: a click takes the text whole.
    return "".join(
        f"<section><h4>{said(title)}</h4>"
        f'<pre tabindex="0" role="group" aria-label="{said(title)}">{said(opened.endpoint.without_key(text))}</pre></section>'
        for title, text in texts.items()
    )
