"""The panel's controls: each from its declaration, one setting with ``%config``, and the key in none of them."""

from __future__ import annotations

import threading

import pytest
from ipywidgets import Combobox, Dropdown, FloatSlider, IntSlider, Text, Textarea

import together_nb
from tests.declared import EXAMPLES, bad, good
from tests.magic.test_magics import ipython
from tests.panel import test_panel as ui
from tests.servers import MODELS, ScriptedServer, answers, replies
from together_nb import Panel
from together_nb.config import keys
from together_nb.errors import InputError
from together_nb.panel.elements import within
from together_nb.panel.key_filter import TOLD
from together_nb.panel.status_line import State
from together_nb.values.local_models import NGRAM
from together_nb.values.parameters import PARAMETERS

pytestmark = pytest.mark.timeout(120)

KEY = "sk-secret-0123456789abcdef"


@pytest.fixture
def server():
    with ScriptedServer(answers(["Once"])) as one_server:
        yield one_server


@pytest.fixture
def panel(server):
    with ui.opened(server) as one_panel:
        yield one_panel


def field(panel, name):
    return ui.one(panel.widget, (Text, Textarea, Dropdown), name)


def model(panel):
    return ui.one(panel.widget, Combobox, "model")


def about(panel):
    """What stands below the model's box."""
    return ui.words(ui.of_class(panel.widget, "tnb-model")[0])


def control(panel, name):
    """All that belongs to a parameter."""
    (found,) = [box for box in ui.of_class(panel.widget, "tnb-parameter") if field(panel, name) in within(box)]
    return found


def sliders(panel, name):
    return [widget for widget in within(control(panel, name)) if isinstance(widget, (FloatSlider, IntSlider))]


def slider(panel, name):
    return sliders(panel, name)[0]


def is_unset(panel, name):
    """Whether a parameter is unset, and shown so."""
    shown = field(panel, name)
    unset = "tnb-unset" in control(panel, name)._dom_classes
    assert unset == (shown.value == ("unset" if isinstance(shown, Dropdown) else ""))
    assert unset <= all(widget.value == widget.min for widget in sliders(panel, name))
    return unset


def typed(parameter, value):
    """What is typed or chosen for a value."""
    return str(value) if parameter.type is bool else "\n".join(parameter.spell(value))


def sent(server):
    return server.requests[-1].json()


# One for each parameter


def test_every_parameter_has_its_control_with_its_help_and_is_unset_at_first(panel):
    assert len(ui.of_class(panel.widget, "tnb-parameter")) == len(PARAMETERS)
    for name, parameter in PARAMETERS.items():
        assert is_unset(panel, name)
        assert getattr(field(panel, name), "placeholder", "unset").startswith("unset")
        assert parameter.help in ui.words(control(panel, name))
        box = field(panel, name)
        assert parameter.help in (box.tooltip if box.has_trait("tooltip") else box.description_tooltip)
        # A slider's first place, one step below the lowest value, is "unset".
        ends = [(pytest.approx(one.min + one.step), one.max, one.step) for one in sliders(panel, name)]
        assert ends == ([] if parameter.slider is None else [parameter.slider])


@pytest.mark.parametrize("parameter", PARAMETERS.values(), ids=PARAMETERS)
def test_what_is_typed_is_set_and_sent_and_unset_is_not(panel, server, parameter):
    name = parameter.name
    panel.api.value = (*parameter.dialects, "chat")[0]
    for value in good(parameter):
        field(panel, name).value = typed(parameter, value)
        assert (getattr(together_nb.settings, name), is_unset(panel, name)) == (value, False)
        ui.ask(panel)
        assert sent(server)["top_logprobs" if name == "logprobs" else name] == value
        ui.click(panel, f"Unset {name}")
        assert (getattr(together_nb.settings, name), is_unset(panel, name)) == (None, True)
        field(panel, name).value = typed(parameter, value)
        field(panel, name).value = "unset" if isinstance(field(panel, name), Dropdown) else ""
        assert (getattr(together_nb.settings, name), is_unset(panel, name)) == (None, True)
    ui.ask(panel)
    assert name not in sent(server)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [one for one in EXAMPLES if one[0].type in (int, float, dict)],
    ids=lambda one: getattr(one, "name", ""),
)
def test_what_does_not_fit_is_refused_below_its_field_and_changes_nothing(panel, parameter, value):
    name, refusal = parameter.name, f"{parameter.name} must be {parameter.expected}, not"
    for wrong in [str(wrong) for wrong in bad(parameter) if isinstance(wrong, (str, int, float))]:
        field(panel, name).value = typed(parameter, value)
        assert refusal not in ui.words(control(panel, name))
        field(panel, name).value = wrong
        assert refusal in ui.words(control(panel, name))
        assert getattr(together_nb.settings, name) == value


def test_a_slider_and_its_field_are_one_value_without_float_noise_or_a_bound_of_the_sliders(panel):
    for parameter in (one for one in PARAMETERS.values() if one.slider):
        name, (low, high, step) = parameter.name, parameter.slider
        for value in (high, low, low + step):
            slider(panel, name).value = value
            assert getattr(together_nb.settings, name) == pytest.approx(value)
            assert parameter.parse(field(panel, name).value) == getattr(together_nb.settings, name)
            assert not is_unset(panel, name)
        field(panel, name).value = typed(parameter, high)
        assert slider(panel, name).value == high
        slider(panel, name).value = slider(panel, name).min
        assert (getattr(together_nb.settings, name), is_unset(panel, name)) == (None, True)
    slider(panel, "temperature").value = 0.05 * 3
    field(panel, "max_tokens").value = "100000"
    assert (field(panel, "temperature").value, field(panel, "max_tokens").value) == ("0.15", "100000")
    assert slider(panel, "max_tokens").value == slider(panel, "max_tokens").max
    assert (together_nb.settings.temperature, together_nb.settings.max_tokens) == (0.15, 100000)


def test_the_panels_defaults_are_set_and_bad_ones_are_refused_by_name(server):
    with ui.opened(server, temperature=0.5, stop="."):
        assert (together_nb.settings.temperature, together_nb.settings.stop, together_nb.settings.model) == (
            0.5,
            ["."],
            "test/chat",
        )
    for wrong in ({"temprature": 1}, {"temperature": -1}, {"api": "chad"}):
        with pytest.raises(InputError, match=f"temperature|{wrong.get('api')}"):
            Panel(**wrong)
    assert together_nb.settings.temperature == 0.5


# The model


def test_the_model_box_offers_what_can_be_called_and_takes_any_text(server):
    server.models = [
        *MODELS,
        {"id": "test/image", "type": "image", "pricing": {"input": 1.0, "output": 1.0}},
        {"id": "test/unpriced", "type": "chat", "pricing": {"input": 0, "output": 0}},
    ]
    with ui.opened(server) as panel:
        ui.rest()
        assert list(model(panel).options) == ["test/base", "test/chat"]
        assert "$1.00 in, $2.00 out per million" in about(panel)
        model(panel).value = "test/chatt"
        assert together_nb.settings.model == "test/chatt"
        assert "Not in the server's list of 2. Did you mean test/chat?" in about(panel)
        ui.ask(panel)
        assert sent(server)["model"] == "test/chatt"
        ui.click(panel, "Unset model")
        assert (together_nb.settings.model, model(panel).value) == (None, "")


@pytest.mark.parametrize("shared", [True, False])
def test_without_a_model_the_box_says_which_it_will_be_and_no_other_panels_choice_counts(environ, server, shared):
    environ(TOGETHER_MODEL="test/base")
    with ui.opened(server, shared=shared, model=None) as panel:
        ui.rest()
        assert (model(panel).value, model(panel).placeholder) == ("", "test/base")
        if not shared:
            together_nb.settings.model = "other/model"
        ui.ask(panel)
        assert sent(server)["model"] == "test/base"


def test_without_a_key_it_is_the_embedded_engine():
    panel = Panel()
    ui.rest()
    assert model(panel).placeholder == NGRAM
    assert NGRAM in model(panel).options
    panel.close()


def test_the_panel_does_not_wait_for_the_list_of_models(server):
    listed = threading.Event()
    server.models = ui.held_until(listed, replies(200, MODELS))
    with ui.opened(server, api="chat") as panel:
        assert list(model(panel).options) == []
        assert "Reading the server's list of models" in about(panel)
        ui.click(panel, "Generate")
        ui.until(lambda: ui.state(panel) is State.DONE)
        assert ui.answer_of(panel) == "Once"
        listed.set()
        ui.rest()
        assert list(model(panel).options) == ["test/base", "test/chat"]


@pytest.mark.parametrize(
    ("models", "reason"),
    [
        (replies(500, {"error": {"message": "<b>out</b> of order"}}), "<b>out</b> of order"),
        (lambda exchange: exchange.cut(), ""),
    ],
)
def test_a_list_that_fails_is_a_line_of_text_and_any_model_can_be_typed(server, models, reason):
    server.models = models
    with ui.opened(server, api="chat") as panel:
        ui.rest()
        assert list(model(panel).options) == []
        assert "No list of models:" in about(panel)
        assert reason in about(panel)
        model(panel).value = "some/model"
        ui.ask(panel)
        assert (ui.state(panel), sent(server)["model"]) == (State.DONE, "some/model")


def test_another_server_or_key_has_another_list(panel, server):
    ui.rest()
    together_nb.settings.api_key = KEY
    ui.rest()
    assert [request.headers.get("authorization") for request in server.list_requests] == [None, f"Bearer {KEY}"]
    with ScriptedServer(answers(["other"]), models=[{"id": "only/one", "type": "chat"}]) as other:
        together_nb.settings.base_url = other.base_url
        ui.rest()
        assert list(model(panel).options) == ["only/one"]


# One setting


def test_what_config_sets_is_shown(panel):
    with ipython() as shell:
        for parameter, value in EXAMPLES:
            name = parameter.name
            shell.run_cell(f"%config TogetherMagics.{name} = {value!r}").raise_error()
            assert (field(panel, name).value, is_unset(panel, name)) == (typed(parameter, value), False)
            assert all(widget.value == min(value, widget.max) for widget in sliders(panel, name))
            shell.run_cell(f"%config TogetherMagics.{name} = None").raise_error()
            assert is_unset(panel, name)
        shell.run_cell("%config TogetherMagics.model = 'some/model'").raise_error()
        assert model(panel).value == "some/model"


def test_two_panels_stay_in_step_and_one_goes_on_when_the_other_is_closed(server):
    with ui.opened(server) as first, ui.opened(server) as second:
        field(first, "temperature").value = "0.25"
        assert (field(second, "temperature").value, slider(second, "temperature").value) == ("0.25", 0.25)
        first.close()
        field(second, "temperature").value = "1"
        assert together_nb.settings.temperature == 1


def test_a_panel_that_is_not_shared_begins_as_the_settings_are_and_goes_its_own_way(server):
    together_nb.settings.top_k = 3
    with ui.opened(server, shared=False, temperature=0.5) as own, ui.opened(server, model="test/base") as shared:
        assert (field(own, "top_k").value, field(own, "temperature").value) == ("3", "0.5")
        assert together_nb.settings.temperature is None
        field(own, "top_k").value = "4"
        slider(shared, "top_p").value = 0.5
        field(shared, "temperature").value = "1"
        assert (together_nb.settings.top_k, field(shared, "top_k").value) == (3, "3")
        assert (is_unset(own, "top_p"), field(own, "temperature").value) == (True, "0.5")
        assert (model(own).value, model(shared).value) == ("test/chat", "test/base")
        ui.ask(own)
        asked = {name: sent(server).get(name) for name in ("top_k", "temperature", "top_p", "model")}
        assert asked == {"top_k": 4, "temperature": 0.5, "top_p": None, "model": "test/chat"}
        together_nb.complete("hello")
        assert (sent(server)["top_k"], sent(server)["temperature"]) == (3, 1)


# The key


def states():
    """All that is saved of widgets."""
    return "".join(str(widget.get_state()) for widget in ui.living())


@pytest.mark.parametrize("order", ["known first", "typed first", "in the environment"])
def test_the_key_stays_in_no_box_and_of_a_prompt_that_held_it_the_rest_stays(environ, panel, order):
    boxes = [widget for widget in within(panel.widget) if isinstance(widget, (Text, Textarea))]
    assert {"prompt", "system", "model", "over", "temperature", "stop"} <= {box.description for box in boxes}
    for box in boxes:
        for typed_text in (KEY, f"my key is {KEY}, ok?", f'{{"{KEY}": 1}}'):
            if order == "known first":
                together_nb.settings.api_key = KEY
            elif order == "in the environment":
                environ(TOGETHER_API_KEY=KEY)
            box.value = typed_text
            if order == "typed first":
                together_nb.settings.api_key = KEY
            ui.rest()
            assert KEY not in states()
            assert KEY not in repr(together_nb.settings)
            assert TOLD in ui.words(ui.page(panel, "Answer"))
            assert box.value == ("" if type(box) in (Text, Combobox) else typed_text.replace(KEY, "…"))
            panel.clear()
            together_nb.settings.api_key = None
            keys._known.clear()


def test_a_key_that_the_environment_has_since_is_taken_out_with_the_next_request(environ, panel):
    panel.system.value = KEY
    environ(TOGETHER_API_KEY=KEY)
    ui.ask(panel)
    assert KEY not in states()


@pytest.mark.parametrize("name", ["prompt", "system", "model", "over", "temperature", "none of them"])
def test_the_key_is_in_no_widget_whatever_was_done_with_it_before_it_became_one(panel, server, name):
    if name == "none of them":
        together_nb.settings.api_key = KEY
    else:
        if name == "over":
            ui.one(panel.widget, Dropdown, "vary").value = "model"
        field(panel, name).value = KEY
    for clicked in ("Generate", "Compare"):
        ui.ask(panel, clicked)
        for title in ui.titles(panel):
            ui.show(panel, title)
            ui.rest()
    if name == "none of them":
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    together_nb.settings.api_key = KEY
    ui.rest()
    assert KEY not in states()
