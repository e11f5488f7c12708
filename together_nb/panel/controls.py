"""A control for each sampling parameter, made from its declaration and tied to the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ipywidgets import Dropdown, FloatSlider, IntSlider, Text, Textarea

from together_nb.errors import InputError
from together_nb.panel.elements import explained, hide, icon_button
from together_nb.values.parameters import PARAMETERS, UNSET, Parameter
from together_nb.views.parts import box, escaped, note, row

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipywidgets import Widget

    from together_nb.config.settings import Settings


class ParameterControl:
    """One parameter: its name, its value or "unset", a slider where one helps, and its help.

    Parameters
    ----------
    parameter
        The declaration.
    settings
        Their trait of that name is shown and set.
    """

    def __init__(self, parameter: Parameter, settings: Settings) -> None:
        self.parameter = parameter
        self._settings = settings
        self._drawing = False
        self._field = explained(_field(parameter), f"{parameter.help} ({parameter.expected})")
        self._unset = icon_button("unset-button", f"Unset {parameter.name}")
        self._slider = _slider(parameter)
        self._wrong = note("wrong")
        sliders: list[Widget] = [] if self._slider is None else [self._slider]
        self.box = box(
            "parameter",
            row("parameter-head", self._field, self._unset),
            *sliders,
            note("help", parameter.help),
            self._wrong,
        )
        if parameter.type in (list, dict):
            self.box.add_class("tnb-tall")
        self._draw()
        self._field.observe(self._typed, names="value")
        self._unset.on_click(lambda _: self._set(None))
        if self._slider is not None:
            self._slider.observe(self._moved, names="value")
        settings.observe(self._draw, names=parameter.name)

    def close(self) -> None:
        """Stop observing the settings."""
        self._settings.unobserve(self._draw, names=self.parameter.name)

    def _typed(self, change: dict[str, Any]) -> None:
        if not self._drawing:
            self._try(lambda: _value(self.parameter, change["new"]))

    def _moved(self, change: dict[str, Any]) -> None:
        if not self._drawing:
            low = self.parameter.slider[0] if self.parameter.slider else 0
            # Steps of 0.05 add up to 0.15000000000000002 in the browser.
            moved = round(change["new"], 10)
            self._try(lambda: None if moved < low else self.parameter.validate(moved))

    def _try(self, value: Callable[[], Any]) -> None:
        try:
            self._set(value())
        except InputError as error:
            self._wrong.value = escaped(error.message)

    def _set(self, value: Any) -> None:
        setattr(self._settings, self.parameter.name, value)
        self._draw()  # "0.70" is 0.7: the setting does not change, the field does

    def _draw(self, _: Any = None) -> None:
        """Show the setting."""
        value = getattr(self._settings, self.parameter.name)
        self._drawing = True
        try:
            self._field.value = _typed_form(self.parameter, value)
            if self._slider is not None:
                # The first position is unset; a value beyond an end is shown at that end.
                self._slider.value = self._slider.min if value is None else value
        finally:
            self._drawing = False
        if self._wrong.value:
            self._wrong.value = ""
        hide(self.box, hidden=value is None, by="tnb-unset")


def controls(settings: Settings) -> list[ParameterControl]:
    """A control for each parameter."""
    return [ParameterControl(parameter, settings) for parameter in PARAMETERS.values()]


def _field(parameter: Parameter) -> Any:
    name = {"description": parameter.name}
    if parameter.choices:
        return Dropdown(options=[UNSET, *parameter.choices], **name)
    if parameter.type is bool:
        return Dropdown(options=[UNSET, *map(str, (True, False))], **name)
    if parameter.type is list:
        return Textarea(placeholder="unset; one on each line, \\n is a line break", continuous_update=False, **name)
    if parameter.type is dict:
        return Textarea(placeholder='unset; as in {"42": -1.5}', continuous_update=False, **name)
    return Text(placeholder=UNSET, continuous_update=False, **name)


def _slider(parameter: Parameter) -> Any:
    if parameter.slider is None:
        return None
    low, high, step = parameter.slider
    # An extra position below the lowest value is unset, so choosing any value is a change.
    kind = IntSlider if parameter.type is int else FloatSlider
    return explained(kind(value=low - step, min=low - step, max=high, step=step, readout=False), parameter.name)


def _value(parameter: Parameter, typed: str) -> Any:
    """The value typed or chosen; an empty text is unset."""
    if not typed.strip():
        return None
    if parameter.type is list:
        return [text for line in typed.splitlines() if line for text in parameter.parse(line)]
    return parameter.parse(typed.strip())


def _typed_form(parameter: Parameter, value: Any) -> str:
    """The value as it would be typed or chosen."""
    if parameter.choices or parameter.type is bool:
        return UNSET if value is None else str(value)
    return "" if value is None else "\n".join(parameter.spell(value))
