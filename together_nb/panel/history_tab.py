"""The History tab: the session's answers, the newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipywidgets import HTML

from together_nb.base.wording import shorten
from together_nb.panel.elements import Page
from together_nb.views.parts import DrawnValue, box, escaped

if TYPE_CHECKING:
    from together_nb.session import Session
    from together_nb.values.completion import Completion
    from together_nb.values.request import CompletionRequest

_SHOWN = 30
_LONGEST = 4000  # characters of an answer; the whole is in `together_nb.history`
_EMPTY = '<div class="tnb-empty">The answers of this session are listed here.</div>'


class HistoryTab(Page):
    """The last answers of the panel and of cells; drawn while the tab is visible.

    Parameters
    ----------
    session
        The session, whose history is listed.
    """

    title = "History"

    def __init__(self, session: Session) -> None:
        self._session = session
        self._shown = DrawnValue(HTML(_EMPTY))
        self.box = box("page", self._shown.widget)

    def changed(self) -> None:
        """React to a new answer."""
        if self.seen:
            self.catch_up()

    def catch_up(self) -> None:
        """Redraw the list."""
        self._shown.set(_html(self._session.history))


def _html(history: list[Completion]) -> str:
    if not history:
        return _EMPTY
    left = max(len(history) - _SHOWN, 0)
    last = list(enumerate(history[left:], left))
    more = f'<div class="tnb-help">{left} earlier in together_nb.history</div>' if left else ""
    return "".join(_row(number, completion) for number, completion in reversed(last)) + more


def _row(number: int, completion: Completion) -> str:
    prompt = _prompt(completion.request)
    return (
        f'<details class="tnb-past"><summary><b>history[{number}]</b> {escaped(shorten(prompt, 90))}'
        f"<small>{escaped(completion.footer())}</small></summary>"
        f"<h4>Prompt</h4><pre>{escaped(shorten(prompt, _LONGEST, one_line=False))}</pre>"
        f"<h4>Answer</h4><pre>{escaped(shorten(completion.text or completion.refusal, _LONGEST, one_line=False))}</pre></details>"
    )


def _prompt(request: CompletionRequest) -> str:
    if request.messages is None:
        return request.prompt
    return "\n".join(f"{turn.get('role')}: {turn.get('content')}" for turn in request.messages)
