"""The panel itself: what stands where, and what each button does."""

from __future__ import annotations

import threading
import uuid
from typing import TYPE_CHECKING, Any

from IPython.core.getipython import get_ipython
from IPython.display import display
from ipywidgets import HTML, Button, Dropdown, Tab, Textarea

from together_nb import config, frontend, resolve, session
from together_nb.background import BackgroundRun
from together_nb.continuation import can_go_on, continuation, joined
from together_nb.dialects import DIALECTS, dialect_for
from together_nb.errors import InputError, suggestion
from together_nb.formats import AUTO
from together_nb.panel.answer import AnswerTab
from together_nb.panel.compare_tab import MODEL, CompareTab
from together_nb.panel.controls import controls
from together_nb.panel.events_tab import EventsTab
from together_nb.panel.history_tab import HistoryTab
from together_nb.panel.latest import Latest
from together_nb.panel.model_box import ModelBox
from together_nb.panel.parts import Fold, box, close_tree, explained, row
from together_nb.panel.request_tab import RequestTab
from together_nb.panel.status import State, StatusLine
from together_nb.panel.style import LOST, PLACE, STYLE
from together_nb.panel.tokens_tab import TokensTab
from together_nb.params import PARAMETERS, SamplingParams
from together_nb.views.live import WIDGET

if TYPE_CHECKING:
    from collections.abc import Callable

    from together_nb.client import CompletionStream
    from together_nb.completion import Chunk, Completion

_STATUS_SECONDS = 0.25
_STOP_SECONDS = 2.0
_open: dict[str, Panel] = {}  # by the cell that shows it


class Panel:
    """A model, its sliders and its live answer, in widgets; the last line of a cell shows it.

    Parameters
    ----------
    prompt, system
        What stands in these boxes at first.
    api
        ``chat``, ``completions``, ``inference``, or ``auto``.
    shared
        True: the controls are `together_nb.settings`, which ``%config TogetherMagics``, the cells
        and the other panels share. False: they are this panel's own, and begin as the settings are.
    **defaults
        `model` and sampling parameters to set at first.

    Raises
    ------
    InputError
        A default is of no known parameter, or its value does not fit.

    Examples
    --------
    >>> Panel(prompt="Once upon a time", temperature=0.7)  # doctest: +SKIP
    """

    def __init__(
        self, *, prompt: str = "", system: str = "", api: str = AUTO, shared: bool = True, **defaults: Any
    ) -> None:
        values = _checked(defaults)
        if api != AUTO:
            dialect_for(api)
        self.settings = config.settings if shared else config.settings.copy()
        for name, value in values.items():
            setattr(self.settings, name, value)
        self._lock = threading.RLock()  # around what is drawn: by clicks, and by the thread of an answer
        self._view: _RunView | None = None
        self._run: BackgroundRun | None = None
        self._last: Completion | None = None
        self._below: Any = None
        threaded = frontend.draws_from_threads()
        self._worker = Latest("together_nb request", threaded=threaded)
        self._lister = Latest("together_nb models", threaded=threaded)
        self._closed = False

        self.prompt = explained(
            Textarea(prompt, description="prompt", continuous_update=False), "The text to go on from, or to answer"
        )
        self.prompt.placeholder = "Write a prompt: a text to go on from, or a question"
        self.prompt.add_class("tnb-prompt")
        self.system = explained(
            Textarea(system, description="system", continuous_update=False), "System prompt of a chat"
        )
        self.system.placeholder = "none; for a chat: how to answer"
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
        self.compare = CompareTab(self._opened, self._history_changed)
        self._events = EventsTab()
        self._request = RequestTab(self._worker, self._opened)
        self._history = HistoryTab()
        self._tabs = (self._answer, self._tokens, self.compare, self._events, self._request, self._history)
        self._tab = Tab([tab.box for tab in self._tabs])
        for number, tab in enumerate(self._tabs):
            self._tab.set_title(number, tab.title)
        self._tab.selected_index = 0

        self._controls = controls(self.settings)
        self._model = ModelBox(self.settings, self._lister, self._request_changed)
        self.widget = self._laid_out()
        self._listen()
        self._tell_buttons()

    def _laid_out(self) -> Any:
        common = [control.box for control in self._controls if not control.parameter.rare]
        rare = [control.box for control in self._controls if control.parameter.rare]
        more = Fold("More parameters", box("parameters", *rare))
        chat = Fold("System prompt", self.system, opened=bool(self.system.value))
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
        for typed in (self.prompt, self.system, self.compare.values):
            typed.observe(self._without_key, names="value")
        self.settings.observe(self._request_changed, names=["model", "base_url", *PARAMETERS])
        self.settings.observe(self._setting_without_key, names=["model", "stop"])

    # What the buttons do

    def generate(self) -> None:
        """Ask for an answer, in place of the one that is shown or streams."""
        if not self.prompt.value.strip():
            self._answer.forgive()
            self._answer.fail(InputError("There is no prompt yet.", "Write one in the box above."))
            self._tab.selected_index = 0
            return
        with self._lock:
            self._abandon()
            self._last = None
            self._answer.start()
            self._tokens.start()
        self._begin(self._opener(), None)

    def go_on(self) -> None:
        """Ask for what comes after the answer that is shown."""
        last = self._last
        if last is None or not can_go_on(last) or self.state.running:
            return
        request = continuation(last, dialect_for(last.api))
        base_url = self.settings.base_url
        with self._lock:
            self._answer.forgive()
        self._begin(lambda: resolve.open_request(request, base_url=base_url), last)

    def stop(self) -> None:
        """End the answer; what came is kept."""
        run = self._run
        if run is not None and run.cancel() and run.stream is None:
            # The server may be a while telling its models, and nothing has been asked of one yet.
            with self._lock:
                self._abandon()
                self._to(State.STOPPED)

    def clear(self) -> None:
        """End the answer and take it away."""
        with self._lock:
            self._abandon()
            self._last = None
            self._answer.clear()
            self._tokens.start()
            self._events.start()
            self.compare.clear()
            self._status.clear()
            self._to(State.READY)
            self._tell_below({"text/markdown": "", "text/plain": ""}, {})

    def close(self) -> None:
        """End all that streams, and take the panel from the page and the kernel."""
        if self._closed:
            return
        self._closed = True
        run = self._run
        with self._lock:
            self._abandon()
        if run is not None:
            run.join(_STOP_SECONDS)
        self.compare.clear()
        self._worker.drop()
        self._lister.drop()
        self.settings.unobserve(self._request_changed, names=["model", "base_url", *PARAMETERS])
        self.settings.unobserve(self._setting_without_key, names=["model", "stop"])
        for part in (*self._controls, self._model, self._tokens, self._events):
            part.close()
        self._answer.clear()
        for cell, panel in list(_open.items()):
            if panel is self:
                del _open[cell]
        close_tree(self.widget)

    @property
    def state(self) -> State:
        """What it does now."""
        return self._status.state

    @property
    def completion(self) -> Completion | None:
        """The answer that is shown, as far as it has come."""
        return self._last if self._run is None else self._run.completion

    # An answer's way

    def _opener(self, values: dict[str, Any] | None = None) -> Callable[[], CompletionStream]:
        """What gives the stream of the request as it stands now."""
        sampling = {name: getattr(self.settings, name) for name in PARAMETERS}
        given = {
            MODEL: self.settings.model, "api": self.api.value, "system": self.system.value or None,
            "base_url": self.settings.base_url, **sampling, **(values or {}),
        }  # fmt: skip
        prompt = self.prompt.value
        return lambda: resolve.open_stream(prompt, **given)

    def _opened(self, values: dict[str, Any] | None = None) -> CompletionStream:
        return self._opener(values)()

    def _begin(self, open_stream: Callable[[], CompletionStream], before: Completion | None) -> None:
        view = _RunView(self, before)
        run = BackgroundRun(open_stream, view, view.keep)
        with self._lock:
            self._view, self._run = view, run
            self._status.clear()
            self._to(State.WAITING)
        run.add_done_callback(lambda _: self._ended(view, run))
        if frontend.draws_from_threads():
            run.start()
        else:  # the click itself is the only place from where what is drawn is shown
            try:
                run.run()
            except KeyboardInterrupt:
                pass  # the notebook's Stop ended it, and the panel says so

    def _abandon(self) -> None:
        """Stop what streams, and let nothing more of it come here."""
        run, self._run, self._view = self._run, None, None
        if run is not None:
            run.cancel()

    def _ended(self, view: _RunView, run: BackgroundRun) -> None:
        error = run.exception()
        with self._lock:
            if self._view is not view:
                return
            self._run = self._view = None
            if view.completion is not None:
                self._last = view.completion if view.completion.text or view.before is None else view.before
                self._status.ended(self._last)
                self._to(State.after(view.completion))
            if error is not None:
                self._answer.fail(error)
                self._to(State.LOST if self.state is State.LOST else State.FAILED)
            self._tell_buttons()
            self._history.changed()
            if view.completion is not None and self._last is not None and self._last.chunks:
                self._tell_below(self._last.bundle(), {"together_nb": self._last.metadata()})

    def _to(self, state: State) -> None:
        self._status.to(state)
        self._tell_buttons()

    def _tell_buttons(self) -> None:
        running = self.state.running
        possible = {
            self._generate: not running,
            self._stop: running,
            self._go_on: not running and self._last is not None and can_go_on(self._last),
        }
        for button, enabled in possible.items():
            if button.disabled == enabled:
                button.disabled = not enabled

    def _history_changed(self) -> None:
        with self._lock:
            self._history.changed()

    # What is seen

    def _shown(self) -> None:
        with self._lock:
            for number, tab in enumerate(self._tabs):
                if number == self._tab.selected_index:
                    tab.show()
                else:
                    tab.hide()

    def _request_changed(self, _: Any = None) -> None:
        self._request.changed()

    def _without_key(self, change: Any) -> None:
        """A key that was pasted into a box would be saved with the widgets."""
        key = config.settings.api_key
        if key is not None and key.blanked(change["new"]) != change["new"]:
            change["owner"].value = key.blanked(change["new"])
            self._answer.fail(InputError("That was your API key; it was taken out of the text.", ""))

    def _setting_without_key(self, change: Any) -> None:
        key = config.settings.api_key
        if key is not None and key.blanked(str(change["new"])) != str(change["new"]):
            setattr(self.settings, change["name"], None)
            self._answer.fail(InputError("That was your API key; it was taken out.", ""))

    def _ipython_display_(self) -> None:
        cell = frontend.cell(get_ipython())
        old = _open.get(cell)
        if old is not None and old is not self:
            old.close()
        _open[cell] = self
        saved = not frontend.is_voila()
        if saved:
            display({"text/html": PLACE, "text/plain": ""}, raw=True)
        view = {"version_major": 2, "version_minor": 0, "model_id": self.widget.model_id}
        display({WIDGET: view, "text/plain": LOST}, raw=True)
        if saved:
            empty = {"text/markdown": "", "text/plain": ""}
            self._below = display(empty, raw=True, display_id=uuid.uuid4().hex)

    def _tell_below(self, bundle: dict[str, str], metadata: dict[str, Any]) -> None:
        """Put the answer under the panel, where it is saved with the notebook."""
        if self._below is not None:
            self._below.update(bundle, raw=True, metadata=metadata)


class _RunView:
    """Draws one run into the panel, as long as it is the panel's."""

    def __init__(self, panel: Panel, before: Completion | None) -> None:
        self.before = before
        self.completion: Completion | None = None
        self._panel = panel
        self._stream: CompletionStream | None = None
        self._told = 0.0

    def start(self, stream: CompletionStream) -> None:
        """The stream is open."""
        self._stream = stream
        with self._panel._lock:
            if self._is_shown():
                self._panel._answer.opened(stream)
                self._panel._events.opened(stream)

    def write(self, chunks: list[Chunk]) -> None:
        """Draw what has come."""
        panel, stream = self._panel, self._stream
        with panel._lock:
            if stream is None or not self._is_shown():
                return
            if chunks and panel.state is State.WAITING:
                panel._to(State.ANSWERING)
            panel._answer.write(chunks)
            panel._tokens.write(chunks)
            panel._events.write()
            if stream.seconds - self._told >= _STATUS_SECONDS:
                self._told = stream.seconds
                panel._status.streaming(stream, self.before)

    def keep(self, completion: Completion) -> None:
        """Keep what came in the history; what goes on from a part takes its place."""
        if not completion.chunks and (completion.error or completion.cancelled):
            return  # nothing came
        whole = completion if self.before is None else joined(self.before, completion)
        session.keep_in_place(whole, self.before)
        self.completion = whole
        shell = get_ipython()
        if shell is not None:
            shell.push({session.LAST: whole}, interactive=False)

    def finish(self, completion: Completion, error: BaseException | None) -> None:  # noqa: ARG002  (`_ended` tells it)
        """The stream has ended."""
        if self.completion is None:
            self.completion = completion
        with self._panel._lock:
            if self._is_shown():
                self._panel._events.write()

    def _is_shown(self) -> bool:
        return self._panel._view is self


def _button(name: str, icon: str, help: str, does: Callable[[], Any], style: str = "") -> Button:  # noqa: A002
    made = Button(description=name, icon=icon, tooltip=help, button_style=style)
    made.on_click(lambda _: does())
    return made


def _checked(defaults: dict[str, Any]) -> dict[str, Any]:
    """The defaults, each of a parameter that there is and fit for it."""
    sampling = {name: value for name, value in defaults.items() if name != MODEL}
    for name in sampling:
        if name not in PARAMETERS:
            known = ("prompt", "system", "api", "shared", MODEL, *PARAMETERS)
            hint = suggestion(name, known) or f"There are: {', '.join(known)}."
            raise InputError(f"A panel has nothing called {name!r}.", hint)
    return defaults | SamplingParams(**sampling).to_dict()
