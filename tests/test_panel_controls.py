"""The panel's controls: each from its declaration, one setting with ``%config``, and the key in none of them."""

from __future__ import annotations

import threading

import pytest
from ipywidgets import Combobox, Dropdown, FloatSlider, IntSlider, Text, Textarea

from tests.servers import MODELS, ScriptedServer, answers, replies
from tests.test_magic import VALUES, ipython
from tests.test_panel import (
    answer,
    button,
    click,
    enabled,
    held_until,
    living,
    one,
    opened,
    page,
    rest,
    show,
    state,
    titles,
    until,
    words,
)
from together_nb import Panel, complete, settings
from together_nb.config import LOCAL_MODEL
from together_nb.errors import InputError
from together_nb.panel.guard import TOLD
from together_nb.panel.parts import within
from together_nb.panel.status import State
from together_nb.params import PARAMETERS

pytestmark = pytest.mark.timeout(120)

KEY = "sk-secret-0123456789abcdef"
TYPED = {name: typed.strip("'") for name, (typed, _) in VALUES.items()} | {"echo": "True"}
FIELDS = (Text, Textarea, Dropdown)
WITH_SLIDER = [name for name, parameter in PARAMETERS.items() if parameter.slider]
WITHOUT_CHOICES = [
    name for name, parameter in PARAMETERS.items() if parameter.type is not bool and not parameter.choices
]


@pytest.fixture
def server():
    with ScriptedServer(answers(["Once"])) as one_server:
        yield one_server


@pytest.fixture
def panel(server):
    with opened(server) as one_panel:
        yield one_panel


@pytest.fixture
def shell():
    from traitlets.config import Config

    with ipython(Config()) as running:
        yield running


def field(panel, name):
    return one(panel.widget, FIELDS, name)


def model(panel):
    return one(panel.widget, Combobox, "model")


def about(panel):
    """What stands below the model's box."""
    (whole,) = [widget for widget in within(panel.widget) if "tnb-model" in widget._dom_classes]
    return words(whole)


def control(panel, name):
    """All that belongs to a parameter."""
    boxes = [widget for widget in within(panel.widget) if "tnb-parameter" in widget._dom_classes]
    (found,) = [box for box in boxes if field(panel, name) in within(box)]
    return found


def slider(panel, name):
    (found,) = [widget for widget in within(control(panel, name)) if isinstance(widget, (FloatSlider, IntSlider))]
    return found


def is_unset(panel, name):
    return "tnb-unset" in control(panel, name)._dom_classes


def sent(server):
    return server.requests[-1].json()


def ask(panel):
    click(panel, "Generate")
    rest()


# One for each parameter


def test_every_parameter_has_its_control_with_its_help_and_is_unset_at_first(panel):
    boxes = [widget for widget in within(panel.widget) if "tnb-parameter" in widget._dom_classes]
    assert len(boxes) == len(PARAMETERS)
    for name, parameter in PARAMETERS.items():
        assert is_unset(panel, name)
        assert parameter.help in words(control(panel, name))
        typed = field(panel, name)
        if isinstance(typed, Dropdown):
            assert typed.value == "unset"
        else:
            assert (typed.value, typed.placeholder.split(";")[0]) == ("", "unset")
        sliders = [widget for widget in within(control(panel, name)) if isinstance(widget, (FloatSlider, IntSlider))]
        # Its first place, one step below the lowest value, is "unset".
        ends = [(pytest.approx(widget.min + widget.step), widget.max, widget.step) for widget in sliders]
        assert ends == ([] if parameter.slider is None else [parameter.slider])
        assert all(widget.value == widget.min for widget in sliders)


@pytest.mark.parametrize("name", PARAMETERS)
def test_what_is_typed_is_set_and_sent_and_unset_is_not(panel, server, name):
    field(panel, name).value = TYPED[name]
    assert getattr(settings, name) == VALUES[name][1]
    assert not is_unset(panel, name)
    panel.api.value = "chat"
    ask(panel)
    assert sent(server)[name] == VALUES[name][1]
    click(panel, f"Unset {name}")
    assert getattr(settings, name) is None
    assert is_unset(panel, name)
    assert field(panel, name).value == ("unset" if isinstance(field(panel, name), Dropdown) else "")
    ask(panel)
    assert name not in sent(server)


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_field_that_is_emptied_is_unset(panel, name):
    field(panel, name).value = TYPED[name]
    field(panel, name).value = "unset" if isinstance(field(panel, name), Dropdown) else ""
    assert getattr(settings, name) is None
    assert is_unset(panel, name)


@pytest.mark.parametrize("name", WITH_SLIDER)
def test_a_slider_and_its_field_are_one_value(panel, name):
    parameter = PARAMETERS[name]
    low, high, step = parameter.slider
    slider(panel, name).value = high
    assert getattr(settings, name) == high
    assert parameter.parse(field(panel, name).value) == high
    assert not is_unset(panel, name)
    field(panel, name).value = str(low + step)
    assert getattr(settings, name) == pytest.approx(low + step)
    assert slider(panel, name).value == pytest.approx(low + step)


def test_a_slider_leaves_no_float_noise(panel, server):
    slider(panel, "temperature").value = 0.05 * 3
    assert field(panel, "temperature").value == "0.15"
    ask(panel)
    assert sent(server)["temperature"] == 0.15


def test_a_value_beyond_the_sliders_ends_is_kept(panel):
    field(panel, "max_tokens").value = "100000"
    assert settings.max_tokens == 100000
    assert field(panel, "max_tokens").value == "100000"
    assert slider(panel, "max_tokens").value == slider(panel, "max_tokens").max


def test_0_is_a_value_and_is_sent(panel, server):
    field(panel, "temperature").value = "0"
    assert not is_unset(panel, "temperature")
    ask(panel)
    assert sent(server)["temperature"] == 0


def test_each_line_of_stop_is_a_text_of_its_own(panel, server):
    field(panel, "stop").value = "\\n\\n\n###\n"
    assert settings.stop == ["\n\n", "###"]
    ask(panel)
    assert sent(server)["stop"] == ["\n\n", "###"]


@pytest.mark.parametrize(
    ("name", "typed", "told"),
    [
        ("temperature", "hot", "temperature must be a number of at least 0, not 'hot'."),
        ("temperature", "-1", "temperature must be a number of at least 0, not -1."),
        ("top_p", "2", "top_p must be a number from 0 to 1, not 2."),
        ("max_tokens", "1.5", "max_tokens must be a whole number of at least 1, not 1.5."),
        ("logit_bias", "[1]", "logit_bias must be a JSON object, not [1]."),
    ],
)
def test_what_does_not_fit_is_told_below_its_field_and_changes_nothing(panel, name, typed, told):
    field(panel, name).value = TYPED[name]
    field(panel, name).value = typed
    assert told in words(control(panel, name))
    assert getattr(settings, name) == VALUES[name][1]
    field(panel, name).value = TYPED[name]
    assert told not in words(control(panel, name))
    assert getattr(settings, name) == VALUES[name][1]


def test_the_panels_defaults_are_set_and_bad_ones_are_refused_by_name(server):
    with opened(server, temperature=0.5, stop="."):
        assert (settings.temperature, settings.stop, settings.model) == (0.5, ["."], "test/chat")
    with pytest.raises(InputError, match="A panel has nothing called 'temprature'") as caught:
        Panel(temprature=1)
    assert caught.value.hint == "Did you mean temperature?"
    with pytest.raises(InputError, match="temperature must be"):
        Panel(temperature=-1)
    with pytest.raises(InputError, match="There is no API called 'chad'"):
        Panel(api="chad")
    assert settings.temperature == 0.5


# The model


def test_the_model_box_offers_what_can_be_called_and_takes_any_text(server):
    server.models = [
        *MODELS,
        {"id": "test/image", "type": "image", "pricing": {"input": 1.0, "output": 1.0}},
        {"id": "test/unpriced", "type": "chat", "pricing": {"input": 0, "output": 0}},
    ]
    with opened(server) as panel:
        rest()
        assert list(model(panel).options) == ["test/base", "test/chat"]
        assert "$1.00 in, $2.00 out per million" in about(panel)
        model(panel).value = "test/chatt"
        assert settings.model == "test/chatt"
        assert "Not in the server's list of 2. Did you mean test/chat?" in about(panel)
        ask(panel)
        assert sent(server)["model"] == "test/chatt"
        click(panel, "Unset model")
        assert (settings.model, model(panel).value) == (None, "")


def test_without_a_model_the_box_says_which_it_will_be(monkeypatch, server):
    monkeypatch.setenv("TOGETHER_MODEL", "test/base")
    with opened(server, model=None) as panel:
        rest()
        assert (model(panel).value, model(panel).placeholder) == ("", "test/base")
        ask(panel)
        assert sent(server)["model"] == "test/base"


def test_without_a_key_it_is_the_embedded_engine():
    panel = Panel()
    try:
        rest()
        assert model(panel).placeholder == LOCAL_MODEL
        assert LOCAL_MODEL in model(panel).options
    finally:
        panel.close()


def test_the_panel_does_not_wait_for_the_list_of_models(server):
    told = threading.Event()
    server.models = held_until(told, replies(200, MODELS))
    with opened(server, api="chat") as panel:
        assert list(model(panel).options) == []
        assert "Reading the server's list of models" in about(panel)
        click(panel, "Generate")
        until(lambda: state(panel) is State.DONE)
        assert answer(page(panel, "Answer")) == "Once"
        told.set()
        rest()
        assert list(model(panel).options) == ["test/base", "test/chat"]


@pytest.mark.parametrize(
    ("models", "told"),
    [
        (None, "The server has no such model or address (HTTP 404)."),
        (replies(500, {"error": {"message": "<b>out</b> of order"}}), "<b>out</b> of order"),
        (replies(200, b"<html>", content_type="text/html"), "answered with text/html, not with a list of models."),
        (lambda exchange: exchange.cut(), ""),
    ],
)
def test_a_list_that_fails_is_a_line_of_text_and_any_model_can_be_typed(server, models, told):
    server.models = models
    with opened(server, api="chat") as panel:
        rest()
        assert list(model(panel).options) == []
        assert "No list of models:" in about(panel)
        assert told in about(panel)
        model(panel).value = "some/model"
        ask(panel)
        assert (state(panel), sent(server)["model"]) == (State.DONE, "some/model")


def test_another_server_has_another_list(panel):
    with ScriptedServer(answers(["other"]), models=[{"id": "only/one", "type": "chat"}]) as other:
        rest()
        settings.base_url = other.base_url
        rest()
        assert list(model(panel).options) == ["only/one"]


def test_another_key_has_another_list(panel, server):
    rest()
    settings.api_key = KEY
    rest()
    assert [request.headers.get("authorization") for request in server.list_requests] == [None, f"Bearer {KEY}"]


# One setting


@pytest.mark.parametrize("name", ["model", *PARAMETERS])
def test_the_panel_and_config_set_the_same_both_ways(shell, panel, name):
    typed, meant = ("some/model", "some/model") if name == "model" else (TYPED[name], VALUES[name][1])
    magics = next(one for one in shell.configurables if type(one).__name__ == "TogetherMagics")
    field(panel, name).value = typed
    assert getattr(magics, name) == meant
    click(panel, f"Unset {name}")
    assert getattr(magics, name) is None
    shell.run_cell(f"%config TogetherMagics.{name} = {meant!r}").raise_error()
    if name == "model":
        assert model(panel).value == meant
        return
    assert not is_unset(panel, name)
    shown = field(panel, name).value
    assert (PARAMETERS[name].parse(shown) if name != "stop" else [PARAMETERS[name].parse(shown)[0]]) == meant
    if name in WITH_SLIDER:
        low, high, step = PARAMETERS[name].slider
        assert slider(panel, name).value == min(max(meant, low - step), high)
    shell.run_cell(f"%config TogetherMagics.{name} = None").raise_error()
    assert is_unset(panel, name)


def test_a_slider_reaches_its_lowest_value_from_unset_and_unset_again(panel):
    for name in WITH_SLIDER:
        low, _, _ = PARAMETERS[name].slider
        slider(panel, name).value = low
        assert getattr(settings, name) == low
        slider(panel, name).value = slider(panel, name).min
        assert getattr(settings, name) is None
        assert is_unset(panel, name)


def test_a_cell_asks_with_what_the_sliders_say(shell, panel, server):
    slider(panel, "temperature").value = 0.5
    shell.run_cell("%%together --show none\nhello").raise_error()
    assert sent(server)["temperature"] == 0.5


def test_two_panels_stay_in_step(server):
    with opened(server) as first, opened(server) as second:
        field(first, "temperature").value = "0.25"
        assert (field(second, "temperature").value, slider(second, "temperature").value) == ("0.25", 0.25)
        slider(second, "top_k").value = 7
        assert (field(first, "top_k").value, is_unset(first, "top_k")) == ("7", False)
        click(first, "Unset temperature")
        assert is_unset(second, "temperature")
        model(second).value = "some/model"
        assert model(first).value == "some/model"
        first.close()
        field(second, "temperature").value = "1"
        assert settings.temperature == 1


def test_a_panel_that_is_not_shared_begins_as_the_settings_are_and_goes_its_own_way(server):
    settings.top_k = 3
    with opened(server, shared=False, temperature=0.5) as own, opened(server, model="test/base") as shared:
        assert (field(own, "top_k").value, field(own, "temperature").value) == ("3", "0.5")
        assert settings.temperature is None
        field(own, "top_k").value = "4"
        slider(shared, "top_p").value = 0.5
        field(shared, "temperature").value = "1"
        assert (settings.top_k, field(shared, "top_k").value) == (3, "3")
        assert (is_unset(own, "top_p"), field(own, "temperature").value) == (True, "0.5")
        assert (model(own).value, model(shared).value) == ("test/chat", "test/base")
        panel_asks = {"top_k": 4, "temperature": 0.5, "model": "test/chat"}
        ask(own)
        assert {name: sent(server).get(name) for name in ("top_k", "temperature", "top_p", "model")} == {
            **panel_asks,
            "top_p": None,
        }
        complete("hello")
        assert (sent(server)["top_k"], sent(server)["temperature"]) == (3, 1)


def test_the_model_that_a_panel_of_its_own_leaves_open_is_not_the_other_panels_choice(server):
    server.models = [MODELS[0]]
    with opened(server, shared=False, model=None) as own:
        rest()
        settings.model = "other/model"
        ask(own)
        assert sent(server)["model"] == "test/chat"


# The key


def states(panel):
    """All that is saved of a panel's widgets."""
    parts = list(within(panel.widget))
    return "".join(str(part.get_state()) for part in parts) + "".join(str(part.get_state()) for part in living())


def boxes(panel):
    return [widget for widget in within(panel.widget) if isinstance(widget, (Text, Textarea))]


NAMES = ["prompt", "system", "model", "over", *WITHOUT_CHOICES]


def test_these_are_all_the_boxes_that_take_text(panel):
    assert {box.description for box in boxes(panel)} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("order", ["known first", "typed first", "in the environment"])
def test_the_key_stays_in_no_box(environ, panel, name, order):
    for typed in (KEY, f"my key is {KEY}, ok?", f'{{"{KEY}": 1}}'):
        if order == "known first":
            settings.api_key = KEY
        elif order == "in the environment":
            environ(TOGETHER_API_KEY=KEY)
        field(panel, name).value = typed
        if order == "typed first":
            assert KEY in states(panel)
            settings.api_key = KEY
        rest()
        assert KEY not in states(panel)
        assert KEY not in repr(settings)
        assert TOLD in words(page(panel, "Answer"))
        settings.api_key = None
        settings._known.clear()


def test_the_rest_of_a_prompt_that_held_the_key_stays(panel):
    settings.api_key = KEY
    panel.prompt.value = f"Tell me of {KEY}, please"
    assert panel.prompt.value == "Tell me of …, please"


@pytest.mark.parametrize("name", ["prompt", "system", "model", "over", "temperature"])
def test_what_was_done_with_a_key_before_it_became_one_shows_it_no_more(panel, server, name):
    field(panel, name).value = KEY
    if name == "over":
        one(panel.widget, Dropdown, "vary").value = "model"
        field(panel, name).value = KEY
    for clicked in ("Generate", "Compare"):
        click(panel, clicked)
        rest()
        for title in titles(panel):
            show(panel, title)
            rest()
    settings.api_key = KEY
    rest()
    assert KEY not in states(panel)


def test_the_key_is_in_no_widget_while_it_is_used(panel, server):
    settings.api_key = KEY
    click(panel, "Generate")
    rest()
    click(panel, "Compare")
    for title in titles(panel):
        show(panel, title)
        rest()
        assert KEY not in states(panel)
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert enabled(panel) == {"Generate", "Clear"}
    assert not button(panel, "Generate").disabled
