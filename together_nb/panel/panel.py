"""The panel itself: its layout, and what each button does."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from IPython.core.getipython import get_ipython
from IPython.display import display
from ipywidgets import HTML, Button, Dropdown, Tab, Textarea

from together_nb import session as sessions
from together_nb.base.suggest import suggestion
from together_nb.config.keys import without_keys
from together_nb.errors import InputError
from together_nb.panel.answer_tab import AnswerTab
from together_nb.panel.compare_tab import CompareTab
from together_nb.panel.controls import controls
from together_nb.panel.elements import Fold, Page, close_tree, explained
from together_nb.panel.events_tab import EventsTab
from together_nb.panel.history_tab import HistoryTab
from together_nb.panel.key_filter import KeyGuard
from together_nb.panel.latest_job import LatestJob
from together_nb.panel.model_box import ModelBox
from together_nb.panel.request_tab import RequestTab
from together_nb.panel.runs import Runs
from together_nb.panel.status_line import StatusLine
from together_nb.panel.style_sheet import LOST, PLACE, STYLE
from together_nb.panel.tokens_tab import TokensTab
from together_nb.run import resolve
from together_nb.run.continuation import can_continue, open_continuation
from together_nb.values.parameters import AUTO, PARAMETERS, SamplingParams
from together_nb.values.variations import MODEL
from together_nb.views import frontend
from together_nb.views.live import WIDGET
from together_nb.views.parts import box, row
from together_nb.wire.dialects import DIALECTS, dialect_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Unpack

    from together_nb.panel.status_line import State
    from together_nb.session import Session
    from together_nb.values.completion import Completion
    from together_nb.values.keywords import PanelDefaults
    from together_nb.wire.stream import CompletionStream

_NOTHING = {"text/markdown": "", "text/plain": ""}
_open: dict[str, tuple[str, list[Panel]]] = {}  # by cell: its execution, and the panels it made


class Panel:
    """A model, its sliders and its live answer, in widgets; the last line of a cell shows it.

    Parameters
    ----------
    prompt : str
        Initial text of the prompt box.
    system : str
        Initial text of the system prompt box.
    api : str
        ``chat``, ``completions``, ``inference``, or ``auto``, which depends on the model's type.
    shared : bool
        True: the controls set the session's settings, shared with the cells and ``%config TogetherMagics`` if it is
        theirs, and with its other panels. False: they set a copy of the settings of this panel's own.
    session : Session or None
        The session that its answers belong to; None takes that of the cells.
    **defaults
        Initial settings: `model`, and sampling parameters.

        model : str or None
            Model id.
        max_tokens : int or None
            The most tokens to generate. A whole number of at least 1.
        temperature : float or None
            How freely to choose: 0 always takes the likeliest token, 1 follows the model's odds, more is
            wilder. A number of at least 0.
        top_p : float or None
            Choose among the likeliest tokens that together have this probability. A number from 0 to 1.
        top_k : int or None
            Choose among this many likeliest tokens. A whole number.
        min_p : float or None
            Drop tokens less likely than this share of the likeliest one's probability. A number from 0 to 1.
        repetition_penalty : float or None
            Over 1 makes tokens that already occurred less likely. A number over 0.
        presence_penalty : float or None
            Over 0 makes tokens that the answer already used less likely, however often. A number.
        frequency_penalty : float or None
            Over 0 makes tokens less likely the more often the answer used them. A number.
        stop : list of str or None
            End the answer before this text; may be given several times. A text or a list of texts.
        seed : int or None
            The same seed and request give the same answer, as far as the server can. A whole number.
        logprobs : int or None
            Return each token's log-probability and this many alternatives. A whole number from 0 to 20.
        n : int or None
            How many answers to generate. A whole number from 1 to 128.
        echo : bool or None
            Return the prompt too, in front of the answer. True or False.
        logit_bias : dict of str to float or None
            Add to the logit of single tokens: a JSON object of token id to bias. A JSON object.
        reasoning_effort : str or None
            How long a reasoning model may think. One of low, medium, high. For the chat API alone.

    Attributes
    ----------
    settings : Settings
        The settings behind the controls.
    widget : VBox
        The whole panel, as one ipywidgets widget.
    state : State
        The current state; its `value` is in words (``Ready``, ``Answering``, ``Stopped``, …).
    completion : Completion or None
        The answer shown, as far as it has arrived; None if there is none.

    Raises
    ------
    InputError
        A default is unknown or invalid, or `api` is unknown.

    Examples
    --------
    >>> Panel(prompt="Once upon a time", temperature=0.7)  # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        prompt: str = "",
        system: str = "",
        api: str = AUTO,
        shared: bool = True,
        session: Session | None = None,
        **defaults: Unpack[PanelDefaults],
    ) -> None:
        values = _checked(dict(defaults))
        if api != AUTO:
            dialect_for(api)
        self.session = session or sessions.default
        self.settings = self.session.settings if shared else self.session.settings.copy()
        for name, value in values.items():
            setattr(self.settings, name, value)
        self._below: Any = None
        self._closed = False
        threaded = frontend.draws_from_threads()
        self._worker = LatestJob("request", threaded=threaded)
        self._lister = LatestJob("models", threaded=threaded)

        self.prompt = _text("prompt", prompt, "Write a prompt: a text to go on from, or a question")
        self.prompt.add_class("tnb-prompt")
        self.system = _text("system", system, "none; for a chat: how to answer")
        self.api = explained(
            Dropdown(options=[AUTO, *DIALECTS], value=api, description="api"),
            "How to ask; auto goes by the model's type",
        )
        self._generate = _button("Generate", "play", "Ask for an answer", self.generate, "primary")
        self._stop = _button("Stop", "stop", "End the answer; what came is kept", self.stop)
        self._go_on = _button("Continue", "step-forward", "Go on from where the answer ended", self.go_on)
        self._clear = _button("Clear", "eraser", "Take the answer away", self.clear)

        self._status = StatusLine()
        self._answer = AnswerTab()
        self._tokens = TokensTab(self.settings)
        self._events = EventsTab()
        self._runs = Runs(self.session, self._status, self._answer, self._tokens, self._events, self)
        self.compare = CompareTab(self._opener, self.session.keep, self.kept)
        self._request = RequestTab(self.session, self._worker, self._open_stream)
        self._history = HistoryTab(self.session)
        self._tabs: tuple[Page, ...] = (
            self._answer,
            self._tokens,
            self.compare,
            self._events,
            self._request,
            self._history,
        )
        self._tab = Tab([tab.box for tab in self._tabs])
        for number, tab in enumerate(self._tabs):
            self._tab.set_title(number, tab.title)
        self._tab.selected_index = 0

        self._controls = controls(self.settings)
        self._model = ModelBox(self.session, self.settings, self._lister, self._request_changed)
        self.widget = self._laid_out()
        self._listen()
        self._claim_cell()
        self._guard = KeyGuard(self.widget, self.session.settings, self._key_found)
        self.changed()

    def _laid_out(self) -> Any:
        common = [control.box for control in self._controls if not control.parameter.rare]
        rare = [control.box for control in self._controls if control.parameter.rare]
        more = Fold("More parameters", box("parameters", *rare))
        chat = Fold("System prompt", self.system, unfolded=bool(self.system.value))
        root = box(
            "panel",
            HTML(f"<style>{STYLE}</style>"),
            row(
                "columns",
                box(
                    "main",
                    row("top", self._model.box, self.api),
                    self.prompt,
                    chat.box,
                    row("buttons", self._generate, self._stop, self._go_on, self._clear),
                    self._status.box,
                    self._tab,
                ),
                box("side", box("parameters", *common), more.box),
            ),
        )
        root.add_class("together-nb-panel")
        return root

    def _listen(self) -> None:
        self._tab.observe(lambda _: self._shown(), names="selected_index")
        for typed in (self.prompt, self.system, self.api):
            typed.observe(self._request_changed, names="value")
        for observed in {id(one): one for one in (self.settings, self.session.settings)}.values():
            observed.observe(self._request_changed, names=["model", "base_url", *PARAMETERS])

    # What the buttons do

    def generate(self) -> None:
        """Request an answer, replacing the one shown or streaming."""
        if self._closed:
            return
        try:
            opener = self._opener()
        except InputError as error:
            self._runs.fail(error)
            self._tab.selected_index = 0
        else:
            self._runs.begin(opener)

    def go_on(self) -> None:
        """Continue the answer that is shown."""
        last = self._runs.last
        if not self._can_go_on() or last is None:
            return
        self._guard.sweep()
        chosen = self.settings.copy()
        # The sampling may have been changed on purpose, such as a higher limit for a truncated answer.
        sampling = {**dict.fromkeys(PARAMETERS), **chosen.sampling.to_dict(), "n": None, "echo": None}
        self._runs.begin(lambda: open_continuation(self.session, last, chosen=chosen, **sampling), last)

    def stop(self) -> None:
        """Stop the answer. What has arrived is kept."""
        self._runs.stop()

    def clear(self) -> None:
        """Stop all streams and remove the answers."""
        self._runs.clear()
        self.compare.clear()
        self._tell_below(_NOTHING, {})

    def close(self) -> None:
        """Stop all streams, and remove the panel from the page and the kernel."""
        if self._closed:
            return
        self._closed = True
        self._runs.close()
        self.compare.close()
        self._worker.drop()
        self._lister.drop()
        for observed in {id(one): one for one in (self.settings, self.session.settings)}.values():
            observed.unobserve(self._request_changed, names=["model", "base_url", *PARAMETERS])
        self._answer.clear()
        parts: tuple[Any, ...] = (*self._controls, self._model, *self._tabs, self._guard)
        for part in parts:
            part.close()
        for _, panels in _open.values():
            if self in panels:
                panels.remove(self)
        close_tree(self.widget)

    @property
    def state(self) -> State:
        """The current state; its `value` is in words (``Ready``, ``Answering``, ``Stopped``, …)."""
        return self._runs.state

    @property
    def completion(self) -> Completion | None:
        """The answer shown, as far as it has arrived; None if there is none."""
        return self._runs.completion

    # The request

    def _opener(self, values: dict[str, Any] | None = None) -> Callable[[], CompletionStream]:
        """Return what opens the stream of the current request, with some values changed.

        Raises
        ------
        InputError
            There is no prompt.
        """
        if not self.prompt.value.strip():
            raise InputError("There is no prompt yet.", "Write one in the box above.")
        given = {"api": self.api.value, "system": self.system.value or None, **(values or {})}
        self._guard.sweep()  # the environment may have a key by now, unannounced
        # Later changes apply to the next request.
        prompt, chosen = self.prompt.value, self.settings.copy()
        return lambda: resolve.open_stream(self.session, prompt, chosen=chosen, **given)

    def _open_stream(self) -> CompletionStream:
        return self._opener()()

    def _can_go_on(self) -> bool:
        last = self._runs.last
        return not self.state.running and last is not None and can_continue(last)

    # The display

    def _shown(self) -> None:
        with self._runs.lock:
            for number, tab in enumerate(self._tabs):
                tab.show(seen=number == self._tab.selected_index)

    def changed(self) -> None:
        """Enable and disable the buttons for a new state."""
        running = self.state.running
        possible = {self._generate: not running, self._stop: running, self._go_on: self._can_go_on()}
        for button, enabled in possible.items():
            if button.disabled == enabled:
                button.disabled = not enabled

    def kept(self) -> None:
        """React to an answer added to the history."""
        with self._runs.lock:
            self._history.changed()

    def ended(self, completion: Completion | None) -> None:
        """Put the finished answer below the panel, to be saved.

        Parameters
        ----------
        completion : Completion or None
            The answer; None removes what is there.
        """
        if completion is None:
            self._tell_below(_NOTHING, {})
        else:
            self._tell_below(completion.bundle(), {"together_nb": completion.metadata()})

    def _key_found(self, words: str) -> None:
        """Report a key removed from the widgets; redraw the answer below, which may repeat it."""
        self._runs.fail(InputError(words))
        if self._runs.last is not None:
            self.ended(self._runs.last)

    def _request_changed(self, _: Any = None) -> None:
        self._request.changed()

    def _claim_cell(self) -> None:
        """Close the panels that an earlier run of this cell made: their output is gone."""
        shell = get_ipython()
        cell, execution = frontend.cell(shell), frontend.execution(shell)
        if not cell or frontend.is_voila():  # in Voilà each cell runs once, and has no id
            return
        before, panels = _open.get(cell, (execution, []))
        if before != execution:
            for panel in list(panels):
                panel.close()
            panels = []
        panels.append(self)
        _open[cell] = (execution, panels)

    def _ipython_display_(self) -> None:
        saved = not frontend.is_voila()
        if saved:
            display({"text/html": PLACE, "text/plain": ""}, raw=True)
        view = {"version_major": 2, "version_minor": 0, "model_id": self.widget.model_id}
        display({WIDGET: view, "text/plain": LOST}, raw=True)
        if saved:
            self._below = display(_NOTHING, raw=True, display_id=uuid.uuid4().hex)

    def _tell_below(self, bundle: dict[str, str], metadata: dict[str, Any]) -> None:
        """Put the answer below the panel, where it is saved with the notebook."""
        if self._below is not None:
            bundle = {kind: without_keys(text) for kind, text in bundle.items()}
            self._below.update(bundle, raw=True, metadata=metadata)


def _text(name: str, value: str, empty: str) -> Textarea:
    return explained(Textarea(value, description=name, placeholder=empty, continuous_update=False), name)


def _button(name: str, icon: str, help: str, does: Callable[[], Any], style: str = "") -> Button:  # noqa: A002
    made = Button(description=name, icon=icon, tooltip=help, button_style=style)
    made.on_click(lambda _: does())
    return made


def _checked(defaults: dict[str, Any]) -> dict[str, Any]:
    """The defaults, with names and values checked."""
    sampling = {name: value for name, value in defaults.items() if name != MODEL}
    for name in sampling:
        if name not in PARAMETERS:
            known = ("prompt", "system", "api", "shared", "session", MODEL, *PARAMETERS)
            hint = suggestion(name, known) or f"There are: {', '.join(known)}."
            raise InputError(f"A panel has nothing called {name!r}.", hint)
    return defaults | SamplingParams(**sampling).to_dict()
