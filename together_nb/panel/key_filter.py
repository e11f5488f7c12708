"""Keeps the API key out of the panel's boxes: a widget's content can be saved with the notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ipywidgets import Combobox, Text, Textarea

from together_nb.config import keys
from together_nb.panel.elements import within
from together_nb.storage.redact import without_keys

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipywidgets import Widget

    from together_nb.config.settings import Settings

TOLD = "That was your API key, and it was taken out again: what stands here may be saved with the notebook."


class KeyGuard:
    """Removes the key from a text box it is typed into, and from all widgets when it is set.

    Parameters
    ----------
    root
        The widget to search.
    settings
        The settings that hold the keys.
    tell
        Called with a sentence when a key is found.
    """

    def __init__(self, root: Widget, settings: Settings, tell: Callable[[str], Any]) -> None:
        self._root = root
        self._settings = settings
        self._tell = tell
        for box in within(root):
            if isinstance(box, (Text, Textarea)):
                box.observe(self._typed, names="value")
        settings.observe(self.sweep, names="api_key")

    def close(self) -> None:
        """Stop observing the settings."""
        self._settings.unobserve(self.sweep, names="api_key")

    def _typed(self, change: Any) -> None:
        if _clean(change["owner"]):
            self._tell(TOLD)

    def sweep(self, _: Any = None) -> None:
        """Remove the key from all that is saved of the widgets."""
        if sum(map(_clean, within(self._root))):
            self._tell(TOLD)


def _clean(widget: Any) -> bool:
    """Remove each key from all that is saved of `widget`; return whether there was one."""
    found = False
    for name in ("value", "description", "tooltip", "placeholder", "outputs"):
        shown = getattr(widget, name, None)
        if name == "outputs" and isinstance(shown, tuple):
            without: Any = tuple(without_keys(shown))
        elif isinstance(shown, str):
            without = keys.without_keys(shown)
        else:
            continue
        if without != shown:
            found = True
            # The rest of a number or of a model id makes no sense.
            setattr(widget, name, "" if name == "value" and type(widget) in (Text, Combobox) else without)
    return found
