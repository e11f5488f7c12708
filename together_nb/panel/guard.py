"""Keeps the API key out of the panel's boxes: what stands in a widget can be saved with the notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ipywidgets import Text, Textarea

from together_nb import config
from together_nb.panel.parts import within

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipywidgets import Widget

TOLD = "That was your API key, and it was taken out again: what stands here may be saved with the notebook."


class KeyGuard:
    """Takes the key out of every box of text in which it is typed, or stands when it becomes the key.

    Parameters
    ----------
    root
        The widget in which to look.
    tell
        Called with a sentence where a key was found.
    """

    def __init__(self, root: Widget, tell: Callable[[str], Any]) -> None:
        self._tell = tell
        self._boxes = [box for box in within(root) if isinstance(box, (Text, Textarea))]
        for box in self._boxes:
            box.observe(self._look, names="value")
        config.settings.observe(self._look, names="api_key")

    def close(self) -> None:
        """Let go of the settings."""
        config.settings.unobserve(self._look, names="api_key")

    def _look(self, _: Any) -> None:
        key = config.settings.api_key
        if key is None:
            return
        for box in self._boxes:
            without = key.blanked(box.value)
            if without != box.value:
                # Of a number or a model's name nothing is left that makes sense.
                box.value = without if isinstance(box, Textarea) else ""
                self._tell(TOLD)
