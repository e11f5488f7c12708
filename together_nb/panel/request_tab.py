"""The Request tab: what Generate would send, and the same call as a cell, as Python and as curl."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ipywidgets import HTML

from together_nb.errors import TogetherError
from together_nb.panel import call_as_code
from together_nb.panel.elements import Page
from together_nb.views.parts import DrawnValue, box, escaped

if TYPE_CHECKING:
    from collections.abc import Callable

    from together_nb.panel.latest_job import LatestJob
    from together_nb.session import Session
    from together_nb.values.parameters import SamplingParams
    from together_nb.wire.stream import CompletionStream

_TITLES = {"cell": "As a cell", "python": "As Python", "curl": "With curl"}


class RequestTab(Page):
    """The current request; drawn while the tab is visible.

    Parameters
    ----------
    session
        The session, whose defaults hold where a recipe is pasted.
    worker
        Builds the request, which may need the server's models first.
    open_stream
        Opens the stream that Generate would start.
    """

    title = "Request"

    def __init__(self, session: Session, worker: LatestJob, open_stream: Callable[[], CompletionStream]) -> None:
        self._session = session
        self._worker = worker
        self._open_stream = open_stream
        self._shown = DrawnValue(HTML())
        self.box = box("page", self._shown.widget)

    def changed(self) -> None:
        """React to a changed request."""
        if self.seen:
            self.catch_up()

    def catch_up(self) -> None:
        """Build the request, in the worker's thread."""
        self._worker.do(self._draw)

    def _draw(self) -> None:
        try:
            self._shown.set(_html(self._open_stream(), self._session.settings.sampling))
        except TogetherError as error:
            self._shown.set(f'<div class="tnb-empty">{escaped(error.message)} {escaped(error.hint)}</div>')


def _html(stream: CompletionStream, standing: SamplingParams) -> str:
    url = f"POST {stream.url}"
    payload = json.dumps(stream.payload, indent=2, ensure_ascii=False)
    texts = {url: payload}
    texts |= {_TITLES[name]: text for name, text in call_as_code.all_forms(stream, standing).items()}
    # Ctrl+A in a focused text would select the whole page: a click selects the whole text.
    return "".join(
        f"<section><h4>{escaped(title)}</h4>"
        f'<pre tabindex="0" role="group" aria-label="{escaped(title)}">{escaped(stream.endpoint.without_key(text))}</pre></section>'
        for title, text in texts.items()
    )
