"""The model: free text, the server's callable models, and facts about the chosen one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ipywidgets import Combobox

from together_nb.errors import TogetherError
from together_nb.local.models import is_here
from together_nb.panel.elements import explained, icon_button
from together_nb.run import resolve
from together_nb.values.model_list import Model, ModelList
from together_nb.views.parts import DrawnValue, box, escaped, note, row, sentences
from together_nb.wire.retry import ignore_wait, listen_to_waits

if TYPE_CHECKING:
    from collections.abc import Callable

    from together_nb.config.settings import Settings
    from together_nb.panel.latest_job import LatestJob
    from together_nb.session import Session


class ModelBox:
    """A box for the model's id, with the list of callable models.

    Parameters
    ----------
    session
        The session whose server is asked.
    settings
        Their `model` is shown and set.
    worker
        Loads the list in the background.
    listed
        Called in the worker's thread when the list has loaded or failed.
    """

    def __init__(self, session: Session, settings: Settings, worker: LatestJob, listed: Callable[[], Any]) -> None:
        self._session = session
        self._settings = settings
        self._worker = worker
        self._listed = listed
        self._catalog: ModelList | None = None
        self._box = explained(
            Combobox(description="model", ensure_option=False, continuous_update=False),
            "Type any model's id, or a part of it to choose from the list",
        )
        self._clear = icon_button("unset-button", "Unset model", "Take the default model, and show the whole list")
        self._about = DrawnValue(note("help"))
        self.box = box("model", row("parameter-head", self._box, self._clear), self._about.widget)
        self._box.observe(self._typed, names="value")
        self._clear.on_click(lambda _: setattr(settings, "model", None))
        settings.observe(self._draw, names="model")
        settings.observe(self.load, names="base_url")
        session.settings.observe(self.load, names="api_key")
        self._draw()
        self.load()

    def close(self) -> None:
        """Stop observing the settings."""
        self._settings.unobserve(self._draw, names="model")
        self._settings.unobserve(self.load, names="base_url")
        self._session.settings.unobserve(self.load, names="api_key")

    def load(self, _: Any = None) -> None:
        """Load the server's list, in the worker's thread."""
        self._about.set("Reading the server's list of models …")
        self._worker.do(self._load)

    def _load(self) -> None:
        try:
            with listen_to_waits(ignore_wait):  # the line below the box says that it loads
                self._catalog = ModelList(tuple(resolve.models(self._session, chosen=self._settings)))
        except Exception as error:  # noqa: BLE001  (whatever a server makes of its list, an id can be typed)
            self._catalog = None
            self._box.options = ()
            self._about.set(escaped(f"No list of models: {sentences(error)[0]} Any id can be typed."))
        else:
            self._box.options = tuple(sorted((row.id for row in self._catalog.callable()), key=str.lower))
            self._draw()
        self._listed()

    def _typed(self, change: dict[str, Any]) -> None:
        typed = change["new"].strip() or None
        if typed != self._settings.model:
            self._settings.model = typed

    def _draw(self, _: Any = None) -> None:
        chosen = self._settings.model or ""
        if self._box.value != chosen:
            self._box.value = chosen
        try:
            standing, server = resolve.described_defaults(self._session, self._settings)
        except TogetherError as error:  # the environment names an invalid server
            self._about.set(escaped(str(error)))
            return
        placeholder = standing if chosen == "" else ""
        if self._box.placeholder != placeholder:
            self._box.placeholder = placeholder
        if self._catalog is not None:
            self._about.set(escaped(self._words(standing, server, self._catalog)))

    def _words(self, model: str, server: str, catalog: ModelList) -> str:
        """Facts about a model, in one line."""
        known = catalog.get(model)
        offered = len(catalog.callable())
        if known is not None:
            return " · ".join((*_facts(known), f"{offered} to choose from" if offered > 1 else server))
        if is_here(model):
            return server
        return f"Not in the server's list of {offered}. {catalog.nearest(model)}".strip()


def _facts(model: Model) -> list[str]:
    facts = [model.type or "of no stated type"]
    if model.context_length:
        facts.append(f"{model.context_length:,} tokens of context")
    if model.price:
        facts.append(f"${model.price[0]:.2f} in, ${model.price[1]:.2f} out per million")
    return facts
